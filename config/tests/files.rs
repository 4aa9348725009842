//! Every configuration that people start from is loaded and checked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use freshet_config::{Config, Connector, DEFAULT_PLAN, Endpoint, Kafka, RerankerKind, VectorField, defaults};
use freshet_schemas::{Fusion, Node, NodeQuery, Params, VectorKind};

fn no_env(_: &str) -> Option<String> {
    None
}

fn parse(text: &str) -> Config {
    Config::parse(text, &no_env).unwrap_or_else(|errors| panic!("{errors}"))
}

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    std::fs::read_to_string(folder().join(name)).expect("the file is there")
}

fn leg(using: &str, prefetch: Vec<Node>) -> Node {
    let using = Some(using.to_owned());
    Node {
        prefetch,
        query: None,
        using,
        limit: 100,
        params: Params::default(),
        filter: None,
        score_threshold: None,
    }
}

/// The default plan of the design.
fn three_legs() -> Node {
    let (dense, bm25) = (leg("dense", vec![]), leg("bm25", vec![]));
    let colbert = leg("colbert", vec![dense.clone(), bm25.clone()]);
    Node {
        prefetch: vec![dense, bm25, colbert],
        query: Some(NodeQuery::Fusion(Fusion::Dbsf)),
        using: None,
        limit: 10,
        params: Params::default(),
        filter: None,
        score_threshold: None,
    }
}

#[test]
fn every_file_loads() {
    let entries = std::fs::read_dir(folder()).expect("the folder is there");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| {
        path.extension().is_some_and(|extension| extension == "toml") && !path.ends_with("Cargo.toml")
    });
    paths.sort();
    let names: Vec<_> = paths.iter().filter_map(|path| path.file_name()?.to_str()).collect();
    assert_eq!(
        names,
        [
            "debezium.toml",
            "default.toml",
            "demo.toml",
            "docker.toml",
            "eval.toml",
            "files.toml",
            "kafka.toml"
        ]
    );
    for path in paths {
        let config = Config::load(&path).unwrap_or_else(|errors| panic!("{path:?}:\n{errors}"));
        assert_eq!(config.plans[DEFAULT_PLAN], three_legs(), "{path:?}");
    }
}

#[test]
fn every_example_loads_and_has_all_its_files() {
    let entries = std::fs::read_dir(folder().join("examples")).expect("the folder is there");
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    folders.sort();
    assert_eq!(folders.len(), 5);
    for example in folders {
        let text = std::fs::read_to_string(example.join("freshet.toml")).expect("a configuration");
        let config = parse(&text);
        let name = example.file_name().and_then(|name| name.to_str()).expect("a name");
        assert_eq!(config.pipeline.name, name);
        let directory = PathBuf::from("config/examples").join(name);
        assert_eq!(config.connector, Connector::Files { directory });
        assert!(config.plans.contains_key(DEFAULT_PLAN));
        for file in ["README.md", "documents.jsonl", "queries.jsonl"] {
            assert!(example.join(file).is_file(), "{name}/{file}");
        }
    }
}

#[test]
fn a_title_is_a_field_of_its_own() {
    assert_eq!(parse("").documents.title, None);
    assert_eq!(parse("[documents]\ntitle = 'title'").documents.title.as_deref(), Some("title"));
    for (title, problem) in
        [("id", "\"id\" is the field of the id"), ("vectors", "holds the vectors"), (" ", "is empty")]
    {
        let text = format!("[documents]\ntitle = '{title}'");
        let errors = Config::parse(&text, &no_env).expect_err(title);
        assert_eq!(errors.problems[0].key, "documents.title");
        assert!(errors.problems[0].message.contains(problem), "{errors}");
    }
}

#[test]
fn the_default_file_says_what_the_code_does() {
    let text = read("default.toml");
    assert_eq!(parse(&text), Config::default());
    assert_eq!(parse(""), Config::default());
    // What belongs to Kafka is there as a comment, too.
    let kafka = text.replace("kind = \"files\" ", "# ").replace("directory = \"data\" ", "# ");
    let mut uncommented = String::new();
    let keys =
        ["kind", "bootstrap_servers", "create_topics", "partitions", "replication", "auto_offset_reset"];
    let mut connector = true;
    for line in kafka.lines() {
        connector &= !line.starts_with("[topics]");
        let key = line
            .strip_prefix("# ")
            .filter(|rest| connector && keys.iter().any(|key| rest.starts_with(&format!("{key} = "))));
        uncommented.push_str(key.unwrap_or(line));
        uncommented.push('\n');
    }
    assert_eq!(parse(&uncommented).connector, Connector::Kafka(Kafka::at("localhost:9092")));
    // What has no default is there as a comment, and parses once it is one no longer.
    let uncommented = text.replace("# [snapshots]", "[snapshots]").replace("# store", "store");
    let uncommented = uncommented.replace("# keep", "keep").replace("# answers = false", "answers = false");
    let uncommented = uncommented.replace("# interval", "interval").replace("# [http]", "[http]");
    let mut uncommented = uncommented.replace("# threads", "threads");
    let keys =
        ["listen", "cors_origins", "body_bytes_max", "bodies_bytes_max", "requests_max", "connections_max"];
    for key in keys.into_iter().chain(["request_timeout", "idle_timeout"]) {
        assert!(uncommented.contains(&format!("\n# {key} = ")), "{key}");
        uncommented = uncommented.replace(&format!("\n# {key} = "), &format!("\n{key} = "));
    }
    let config = parse(&uncommented);
    assert_eq!(config.snapshots, Some(Default::default()));
    assert_eq!(config.http, Some(Default::default()));
    assert_eq!(config.embedding.threads.get(), 8);
}

#[test]
fn the_rerankers_of_the_default_file_parse_once_they_are_no_comment() {
    let text = read("default.toml");
    let lines = text.lines().skip_while(|line| !line.starts_with("# [rerankers"));
    let lines: Vec<&str> = lines.map_while(|line| line.strip_prefix("# ")).collect();
    let key = |name: &str| (name == "JINA_API_KEY").then(|| "secret".to_owned());
    let config = Config::parse(&lines.join("\n"), &key).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.rerankers.keys().collect::<Vec<_>>(), ["cross", "far", "judge"]);
    let RerankerKind::Remote(far) = &config.rerankers["far"].kind else { panic!("another kind") };
    assert_eq!(far.api_key.as_ref().map(|key| key.reveal()), Some("secret"));
    // What stands there is what holds without it.
    let bare = "[rerankers.far]\nkind = 'remote'\nurl = 'http://h'";
    let bare = Config::parse(bare, &no_env).unwrap_or_else(|errors| panic!("{errors}"));
    let RerankerKind::Remote(base) = &bare.rerankers["far"].kind else { panic!("another kind") };
    let same = Endpoint {
        url: far.url.clone(),
        model: far.model.clone(),
        api_key: far.api_key.clone(),
        ..base.clone()
    };
    assert_eq!(*far, same);
    assert_eq!(config.rerankers["cross"].budget, bare.rerankers["far"].budget);
    assert_eq!(config.rerankers["cross"].documents_max, bare.rerankers["far"].documents_max);
}

#[test]
fn the_default_file_names_every_key() {
    let text = read("default.toml");
    let probe = "[pipeline]\nx=1\n[connector]\nkind='kafka'\nbootstrap_servers='b:1'\nx=1\n\
                 [topics]\nx=1\n[documents]\nx=1\n[vectors.v]\nkind='dense'\nsize=3\nx=1\n\
                 [embedding]\nx=1\n[queries]\nx=1\n[snapshots]\nx=1\n[http]\nx=1\n[collections]\nx=1\n[x]\n";
    let errors = Config::parse(probe, &no_env).expect_err("x is not a key");
    assert_eq!(errors.problems.len(), 11, "{errors}");
    for problem in errors.problems {
        let known = problem.message.strip_prefix("unknown key; known: ").expect("of this form");
        for key in known.split(", ").map(|key| key.trim_matches('"')) {
            let stands = [format!("{key} = "), format!("[{key}]"), format!("[{key}."), format!(".{key}]")];
            assert!(stands.iter().any(|form| text.contains(form)), "{key}: {}", problem.key);
        }
    }
}

#[test]
fn the_example_of_the_design_parses_unchanged() {
    let config = parse(&read("tests/design.toml"));
    assert_eq!(config.pipeline.name, "support");
    assert_eq!(config.pipeline.workers.get(), 2);
    assert_eq!(config.connector, Connector::Files { directory: PathBuf::from("data") });
    let fields: Vec<_> = config.vectors.keys().map(String::as_str).collect();
    assert_eq!(fields, ["bm25", "colbert", "dense", "image"]);
    assert_eq!(config.vectors["image"].size.map(usize::from), Some(512));
    assert_eq!(config.plans[DEFAULT_PLAN], three_legs());
    let rerank = &config.plans["rerank"];
    assert_eq!(rerank.using.as_deref(), Some("colbert"));
    assert_eq!(rerank.prefetch.iter().map(|node| node.limit).collect::<Vec<_>>(), [20, 20]);
    let snapshots = config.snapshots.expect("configured");
    assert_eq!(snapshots.interval.as_secs(), 60);
    assert_eq!(config.http.expect("configured").listen, "127.0.0.1:6333");
}

#[test]
fn the_example_of_the_design_parses_for_kafka() {
    let text = read("tests/design.toml")
        .replace("kind = \"files\" ", "kind = \"kafka\" ")
        .replace("directory = \"data\" ", "# ")
        .replace("# bootstrap_servers", "bootstrap_servers")
        .replace("# properties", "properties");
    let expect = Kafka {
        properties: BTreeMap::from([("security.protocol".to_owned(), "SASL_SSL".to_owned())]),
        ..Kafka::at("localhost:9092")
    };
    assert_eq!(parse(&text).connector, Connector::Kafka(expect));
}

#[test]
fn docker_takes_its_brokers_from_the_environment() {
    let text = read("docker.toml");
    let brokers = |env: &dyn Fn(&str) -> Option<String>| {
        let config = Config::parse(&text, env).unwrap_or_else(|errors| panic!("{errors}"));
        let Connector::Kafka(kafka) = config.connector else { panic!("not kafka") };
        (kafka.bootstrap_servers, config.pipeline.workers.get())
    };
    assert_eq!(brokers(&no_env), ("kafka:9092".to_owned(), 2));
    let env = |name: &str| match name {
        "KAFKA_BOOTSTRAP_SERVERS" => Some("a:1,b:2".to_owned()),
        "FRESHET_WORKERS" => Some("8".to_owned()),
        _ => None,
    };
    assert_eq!(brokers(&env), ("a:1,b:2".to_owned(), 8));
}

#[test]
fn the_demo_has_three_plans() {
    let config = parse(&read("demo.toml"));
    assert_eq!(config.connector, Connector::Files { directory: PathBuf::from("data/demo") });
    assert_eq!(config.plans.keys().collect::<Vec<_>>(), ["default", "rerank", "rrf"]);
    let rrf = NodeQuery::Fusion(Fusion::Rrf { k: 60.0, weights: vec![] });
    assert_eq!(config.plans["rrf"].query, Some(rrf));
}

#[test]
fn the_default_plan_has_the_legs_that_are_there() {
    let plan = |vectors: &str| parse(vectors).plans.get(DEFAULT_PLAN).cloned();
    let dense = "[vectors.d]\nkind = 'dense'\nmodel = 'all-MiniLM-L6-v2'\n";
    let sparse = "[vectors.s]\nkind = 'sparse'\nmodel = 'bm25'\n";
    let image = "[vectors.a]\nkind = 'dense'\nsize = 3\n";
    assert_eq!(plan(dense), Some(Node { limit: 10, ..leg("d", vec![]) }));
    let both = plan(&format!("{dense}{sparse}{image}")).expect("two legs");
    assert_eq!(both.prefetch, [leg("d", vec![]), leg("s", vec![])]);
    assert_eq!(plan(image), None);
}

#[test]
fn a_pipeline_over_files_needs_only_its_directory() {
    let config = Config::default_files("here");
    assert_eq!(config.connector, Connector::Files { directory: PathBuf::from("here") });
    assert_eq!(config, parse("[connector]\ndirectory = 'here'"));
}

#[test]
fn chunks_overlap_by_a_fifth_at_most() {
    let chunks = |documents: &str| {
        let documents = parse(&format!("[documents]\n{documents}")).documents;
        (documents.chunk_tokens.map(usize::from), documents.chunk_overlap)
    };
    assert_eq!(chunks(""), (Some(defaults::CHUNK_TOKENS), defaults::CHUNK_OVERLAP));
    assert_eq!(chunks("chunk_tokens = 20"), (Some(20), 4));
    assert_eq!(chunks("chunk_tokens = 500"), (Some(500), 40));
    assert_eq!(chunks("chunk_tokens = 0"), (None, 0));
    assert_eq!(chunks("chunk_tokens = 8\nchunk_overlap = 7"), (Some(8), 7));
}

#[test]
fn documents_are_checked_against_sizes_that_models_tell() {
    let config = parse("[vectors.a]\nkind = 'dense'\nmodel = 'm'\n[vectors.b]\nkind = 'multi'\nsize = 8");
    let spec = config.document_specs(&BTreeMap::from([("a".to_owned(), 384)])).remove(0);
    assert_eq!((spec.vectors["a"].size, spec.vectors["a"].from_text), (Some(384), true));
    assert_eq!((spec.vectors["b"].size, spec.vectors["b"].from_text), (Some(8), false));
    assert_eq!((spec.id.as_str(), spec.text_bytes_max), ("id", 1 << 20));
    assert_eq!(config.vectors["b"], VectorField::of_size(VectorKind::Multi, config.vectors["b"].size));
}
