//! How documents are read, as configurations say it: what is accepted, what is refused, what is never shown.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]

use std::collections::BTreeMap;

use freshet_config::{Config, Registry};
use freshet_schemas::{DocumentSpec, Envelope, Format};
use serde_json::json;

fn parse(text: &str) -> Config {
    Config::parse(text, &|name| Some(format!("value-of-{name}"))).unwrap_or_else(|errors| panic!("{errors}"))
}

fn specs(text: &str) -> Vec<DocumentSpec> {
    parse(text).document_specs(&BTreeMap::new())
}

fn check(text: &str, expected: &[&str]) {
    let errors = Config::parse(text, &|_| None).expect_err(text);
    assert_eq!(errors.to_string().lines().collect::<Vec<_>>(), expected, "{text}");
}

fn pair(from: &str, to: &str) -> (String, String) {
    (from.to_owned(), to.to_owned())
}

#[test]
fn what_is_not_said_is_json_under_the_text_of_its_key() {
    let spec = &specs("")[0];
    assert!(spec.source.is_plain() && !spec.source.needs_schemas() && spec.source.id_prefix.is_empty());
    assert_eq!(spec.source.topic, "documents");
}

#[test]
fn the_comments_of_the_default_file_are_right() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/default.toml")).unwrap();
    let (before, rest) = text.split_once("# format = \"json\"").unwrap();
    let (comments, after) = rest.split_once("[payload]").unwrap();
    let comments: Vec<&str> = comments.lines().map(|line| line.strip_prefix("# ").unwrap_or(line)).collect();
    let text = format!("{before}format = \"json\"{}\n[payload]{after}", comments.join("\n"));
    let text = text.replace("token = ", "# token = ");
    // It is needed for Avro alone, and only there.
    let text = text.replace("format = \"json\" ", "format = \"avro\" ");
    let text = text.replace("documents = \"documents\"", "documents = [\"tickets\", \"news\"]");
    let config = parse(&text);
    let registry = Registry {
        url: "http://localhost:8081".to_owned(),
        user: Some(("freshet".to_owned().into(), "value-of-REGISTRY_PASSWORD".to_owned().into())),
        token: None,
        timeout: std::time::Duration::from_secs(5),
    };
    assert_eq!(config.documents.registry, Some(registry));
    let specs = config.document_specs(&BTreeMap::new());
    let source = &specs[0].source;
    assert_eq!(
        (source.format, source.key_format, source.envelope),
        (Format::Avro, Format::Text, Envelope::None)
    );
    assert_eq!(source.mapping.headers, [pair("source", "meta.source")]);
    assert_eq!(source.mapping.rename, [pair("after_sales.city", "city")]);
    assert_eq!(source.mapping.defaults, [("city".to_owned(), json!("nowhere"))]);
    assert_eq!(specs[1].text, ["headline", "body"]);
}

#[test]
fn each_topic_may_be_read_in_its_own_way() {
    let specs = specs(
        r#"
        [topics]
        documents = ["a", "pg.b", "c"]
        [documents]
        envelope = "debezium"
        rename = { x = "y" }
        defaults = { n = 1 }
        [documents.topics."pg.b"]
        id_prefix = "b-"
        format = "json_schema"
        [documents.topics.c]
        envelope = "none"
        id = "number"
        rename = {}
        "#,
    );
    let sources: Vec<_> = specs.iter().map(|spec| &spec.source).collect();
    assert_eq!((sources[0].format, sources[0].key_format), (Format::Json, Format::Json));
    assert_eq!((sources[1].format, sources[1].key_format), (Format::JsonSchema, Format::JsonSchema));
    assert_eq!((sources[2].format, sources[2].key_format), (Format::Json, Format::Text));
    let prefixes: Vec<&str> = sources.iter().map(|source| source.id_prefix.as_str()).collect();
    assert_eq!(prefixes, ["a/", "b-", "c/"]);
    assert_eq!((specs[1].id.as_str(), specs[2].id.as_str()), ("id", "number"));
    assert_eq!(sources[1].mapping.rename, [pair("x", "y")]);
    assert!(sources[2].mapping.rename.is_empty());
    assert_eq!(sources[2].mapping.defaults, [("n".to_owned(), json!(1))]);
}

#[test]
fn what_cannot_be_read_is_told_with_its_key() {
    check(
        "[documents]\nformat = 'protobuf'",
        &["documents.format: \"protobuf\" is not one of \"json\", \"text\", \"avro\", \"json_schema\""],
    );
    check(
        "[documents]\nformat = 'avro'",
        &["documents.schema_registry: missing: Avro is read by the schemas of a registry; give its \"url\""],
    );
    check(
        "[documents.schema_registry]\nurl = 'localhost:8081'\nuser = 'me'\ntoken = 't'",
        &[
            "documents.schema_registry: nothing is read by it: no format or key_format is \"avro\"",
            "documents.schema_registry.url: \"localhost:8081\" is not an address such as \"http://localhost:8081\"",
            "documents.schema_registry.password: missing: user and password belong together",
            "documents.schema_registry.token: give either a token, or user and password",
        ],
    );
    check(
        "[documents]\nformat = 'text'\nenvelope = 'debezium'",
        &["documents.envelope: a text has none: choose another format, or envelope = \"none\""],
    );
    check(
        "[documents]\nformat = 'text'\ntitle = 'title'\ntext = ['title']",
        &[
            "documents.format: \"text\" becomes the first field of documents.text that is not the title: name one",
        ],
    );
    check(
        "[documents.rename]\na = 'a'\n'b' = 'x'\n'b.c' = 'x.y'\n'd.' = 'e'\nf = 3",
        &[
            "documents.rename.\"d.\": \"d.\" is not a path of fields, such as \"place.city\"",
            "documents.rename.f: 3 is not the path of a field",
            "documents.rename.a: is its own new name",
            "documents.rename.\"b.c\": lies in \"b\", which is renamed too, or holds it",
            "documents.rename.\"b.c\": \"x.y\" is also, or holds, or lies in, the new name of \"b\"",
        ],
    );
    check(
        "[documents.defaults]\n'vectors.a' = 1\nx = nan\n'' = 1",
        &[
            "documents.defaults.\"\": \"\" is not a path of fields, such as \"place.city\"",
            "documents.defaults.\"vectors.a\": \"vectors\" holds the vectors of a document",
            "documents.defaults.x: holds a number that is not finite",
        ],
    );
    check(
        "[documents.topics.news]\nid = 'x'",
        &["documents.topics.news: is not one of topics.documents: \"documents\""],
    );
    check(
        "[documents.topics.documents]\ntitle = 'x'\ntext = []\nenvelope = 'x'",
        &[
            "documents.topics.documents.text: is empty",
            "documents.topics.documents.envelope: \"x\" is not one of \"none\", \"debezium\"",
            "documents.topics.documents.title: unknown key; known: \"id\", \"text\", \"format\", \"headers\", \"rename\", \"key_format\", \
             \"envelope\", \"defaults\", \"id_prefix\"",
        ],
    );
}

#[test]
fn several_topics_have_names_of_their_own() {
    check("[topics]\ndocuments = []", &["topics.documents: is empty: name at least one topic"]);
    check("[topics]\ndocuments = ['a', 3]", &["topics.documents[1]: 3 is not a string"]);
    check(
        "[topics]\ndocuments = ['a', 'a', 'queries', 'a.dlq']",
        &[
            "topics.documents: \"a\" is also the topic of documents",
            "topics.documents: \"a.dlq\" is also the topic of the dead letters of documents",
            "topics.queries: \"queries\" is also the topic of documents",
        ],
    );
    let many: Vec<String> = (0..1025).map(|number| format!("'t{number}'")).collect();
    check(
        &format!("[topics]\ndocuments = [{}]", many.join(",")),
        &["topics.documents: 1025 topics, at most 1024"],
    );
}

#[test]
fn secrets_are_not_shown() {
    let config = parse(
        "[documents]\nformat = 'avro'\n[documents.schema_registry]\nurl = 'http://r:1'\nuser = '${U}'\npassword = '${P}'",
    );
    assert!(config.documents.registry.as_ref().unwrap().user.is_some());
    let shown = format!("{config:?}");
    assert!(!shown.contains("value-of-U") && !shown.contains("value-of-P"), "{shown}");
    let url = "[documents]\nformat = 'avro'\n[documents.schema_registry]\nurl = 'ftp://me:hunter2@r'";
    assert!(!Config::parse(url, &|_| None).unwrap_err().to_string().contains("hunter2"));
}
