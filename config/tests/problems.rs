//! Every problem of a configuration, one by one and all at once.

use freshet_config::Config;

/// The problems of a text, one per line.
fn problems(text: &str) -> Vec<String> {
    let env = |name: &str| (name == "SHARDS").then(|| "0".to_owned());
    match Config::parse(text, &env) {
        Ok(config) => panic!("{text}\nhas no problem: {config:?}"),
        Err(errors) => errors.to_string().lines().map(str::to_owned).collect(),
    }
}

fn check(text: &str, expect: &[&str]) {
    assert_eq!(problems(text), expect, "\n{text}");
}

/// A dense field made from text, so that plans have something to use.
const DENSE: &str = "[vectors.dense]\nkind = 'dense'\nmodel = 'm'\n";

#[test]
fn all_problems_come_at_once_in_the_order_of_the_sections() {
    let text = "
        [plans.p]
        using = 'nope'
        [pipeline]
        shards = 0
        tick = '10'
        [connector]
        kind = 'kafak'
        [vectors.v]
        kind = 'dense'
        [queries]
        limit_max = 'many'
        [snapshot]
    ";
    check(
        text,
        &[
            "pipeline.shards: 0 is not at least 1",
            "pipeline.tick: \"10\" is not a duration with its unit, such as \"10ms\" or \"60s\"",
            "connector.kind: \"kafak\" is not one of \"files\", \"kafka\"; did you mean \"kafka\"?",
            "vectors.v.model: missing: give \"model\", or \"size\" if the documents bring the vectors",
            "queries.limit_max: \"many\" is not an integer",
            "plans.p.using: vector \"nope\" is not configured; known: \"v\"",
            "snapshot: unknown key; known: \"pipeline\", \"connector\", \"topics\", \"documents\", \
             \"payload\", \"vectors\", \"embedding\", \"indexing\", \"queries\", \"rerankers\", \"plans\", \"models\", \"collections\", \"telemetry\", \"snapshots\", \"http\"; \
             did you mean \"snapshots\"?",
        ],
    );
}

#[test]
fn text_that_is_not_toml_is_placed() {
    let found = problems("[pipeline]\nname = \"a\"\nshards = = 4\n");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("line 3, column 10: not TOML: "), "{found:?}");
    let found = problems("[pipeline]\nname = 1\nname = 2\n");
    assert!(found[0].starts_with("line 3, column 1: not TOML: duplicate key"), "{found:?}");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let errors = Config::load("/nowhere/freshet.toml").expect_err("it is not there");
    assert!(errors.to_string().starts_with("/nowhere/freshet.toml: cannot be read: "), "{errors}");
}

#[test]
fn unknown_keys_are_refused_with_the_known_ones() {
    let known = "known: \"name\", \"shards\", \"workers\", \"tick\", \"tick_records_max\", \
                 \"in_flight_records_max\", \"in_flight_bytes_max\", \"observe\"";
    check(
        "[pipeline]\nworker = 2\nreplicas = 2",
        &[
            &format!("pipeline.replicas: unknown key; {known}"),
            &format!("pipeline.worker: unknown key; {known}; did you mean \"workers\"?"),
        ],
    );
    check(
        "[connector]\nbootstrap_servers = 'a:1'",
        &["connector.bootstrap_servers: unknown key; known: \"kind\", \"directory\""],
    );
}

#[test]
fn variables_that_are_not_set_are_named_once() {
    check(
        "[pipeline]\nname = '${NAME}'\nshards = '${SHARDS}'\nworkers = '${W}'",
        &[
            "pipeline.name: variable NAME is not set and \"${NAME}\" has no default",
            "pipeline.workers: variable W is not set and \"${W}\" has no default",
            "pipeline.shards: 0 is not at least 1",
        ],
    );
    check(
        "[connector]\nkind = 'kafka'\nbootstrap_servers = 'a:1'\n\
         properties = { 'sasl.password' = '${P}' }\n[documents]\ntext = ['${T}']",
        &[
            "connector.properties.\"sasl.password\": variable P is not set and \"${P}\" has no default",
            "documents.text[0]: variable T is not set and \"${T}\" has no default",
        ],
    );
}

#[test]
fn types_and_ranges_are_checked() {
    let cases = [
        ("[pipeline]\nname = ' '", "pipeline.name: is empty"),
        ("[pipeline]\nname = 4", "pipeline.name: 4 is not a string"),
        ("[pipeline]\nworkers = -1", "pipeline.workers: -1 is not at least 1"),
        ("[pipeline]\nworkers = 1.5", "pipeline.workers: 1.5 is not an integer"),
        ("[pipeline]\nshards = 100000", "pipeline.shards: 100000 is not at most 4096"),
        ("[pipeline]\ntick = '0s'", "pipeline.tick: is not longer than zero"),
        (
            "[pipeline]\ntick = 10",
            "pipeline.tick: 10 is not a duration with its unit, such as \"10ms\" or \"60s\"",
        ),
        (
            "[pipeline]\nin_flight_bytes_max = '16 mb'",
            "pipeline.in_flight_bytes_max: \"16 mb\" is not a size in bytes, such as 1024 or \"16MiB\"",
        ),
        (
            "[pipeline]\nin_flight_bytes_max = '0KiB'",
            "pipeline.in_flight_bytes_max: \"0KiB\" is not at least 1",
        ),
        ("pipeline = 3", "pipeline: 3 is not a table"),
        ("[embedding]\nthreads = 0", "embedding.threads: 0 is not at least 1"),
        ("[queries]\ndepth_max = 0", "queries.depth_max: 0 is not at least 1"),
        ("[models]\n'm' = 3", "models.m: 3 is not the folder of a model"),
        (
            "[snapshots]\nstore = 'snapshots'",
            "snapshots.store: \"snapshots\" is not a URL such as \"file://snapshots\" or \
             \"s3://bucket/prefix\"",
        ),
        (
            "[http]\nread_only_api_key = 'r'",
            "http.read_only_api_key: needs api_key beside it: nobody could write otherwise",
        ),
        (
            "[http]\napi_key = 'k'\nread_only_api_key = 'k'",
            "http.read_only_api_key: is the same as api_key: who reads could write",
        ),
        (
            "[http]\ncors_origins = ['*', 'https://example.com/']",
            "http.cors_origins[1]: \"https://example.com/\" is not an origin such as \"https://example.com\", nor \"*\"",
        ),
        ("[http]\nidle_timeout = '0s'", "http.idle_timeout: is not longer than zero"),
        ("[http]\nlisten = '6333'", "http.listen: \"6333\" is not HOST:PORT, such as \"127.0.0.1:6333\""),
    ];
    for (text, expect) in cases {
        check(text, &[expect]);
    }
}

#[test]
fn topics_are_legal_and_distinct() {
    let legal = "at most 245 letters, digits, \".\", \"_\" or \"-\"";
    for name in ["a/b", "..", "tö"] {
        check(
            &format!("[topics]\ndocuments = '{name}'"),
            &[&format!("topics.documents: \"{name}\" is not a topic: {legal}")],
        );
    }
    check("[topics]\nanswers = 'queries'", &["topics.answers: \"queries\" is also the topic of queries"]);
    check(
        "[topics]\nanswers = 'documents.dlq'",
        &["topics.answers: \"documents.dlq\" is also the topic of the dead letters of documents"],
    );
}

#[test]
fn document_fields_make_sense() {
    check("[documents]\nid = 'vectors'", &["documents.id: \"vectors\" holds the vectors of a document"]);
    check("[documents]\ntext = ['a', 'a']", &["documents.text: \"a\" stands twice"]);
    check("[documents]\ntext = 'a'", &["documents.text: \"a\" is not an array of strings"]);
    check(
        "[documents]\ntext = ['a', 3, '']",
        &["documents.text[1]: 3 is not a string", "documents.text[2]: is empty"],
    );
    check("[documents]\ntext = []", &["documents.text: is empty, but vectors.bm25 is made from the text"]);
    check(
        "[documents]\nchunk_tokens = 10\nchunk_overlap = 10",
        &["documents.chunk_overlap: 10 is not less than chunk_tokens, 10"],
    );
}

#[test]
fn kafka_is_checked() {
    check(
        "[connector]\nkind = 'kafka'",
        &["connector.bootstrap_servers: missing: \"HOST:PORT\", several separated by commas"],
    );
    let kafka = "[connector]\nkind = 'kafka'\nbootstrap_servers = 'a:1'\n";
    check(
        &format!(
            "{kafka}partitions = 0\nreplication = 'x'\nauto_offset_reset = 'latest'\ncreate_topics = 1\n\
             directory = 'd'"
        ),
        &[
            "connector.create_topics: 1 is not true or false",
            "connector.partitions: 0 is not at least 1",
            "connector.replication: \"x\" is not an integer",
            "connector.auto_offset_reset: \"latest\" is not one of \"none\", \"earliest\"",
            "connector.directory: unknown key; known: \"kind\", \"bootstrap_servers\", \
             \"create_topics\", \"partitions\", \"replication\", \"auto_offset_reset\", \"properties\"",
        ],
    );
    let refused = [
        ("bootstrap.servers", "has a key of its own: connector.bootstrap_servers"),
        ("metadata.broker.list", "has a key of its own: connector.bootstrap_servers"),
        ("group.id", "is the name of the pipeline: pipeline.name"),
        ("auto.offset.reset", "has a key of its own: connector.auto_offset_reset"),
        ("enable.auto.commit", "is set by Freshet: offsets are committed with the answers"),
        ("enable.auto.offset.store", "is set by Freshet: offsets are committed with the answers"),
        ("transactional.id", "is set by Freshet: it must be the same after a restart"),
    ];
    for (name, reason) in refused {
        check(
            &format!("{kafka}properties = {{ '{name}' = 'x' }}"),
            &[&format!("connector.properties.\"{name}\": {reason}")],
        );
    }
    check(
        &format!("{kafka}[connector.properties]\nsecurity.protocol = 'SSL'"),
        &["connector.properties.security: is a table; a property's name stands in quotes: \
           \"security.protocol\""],
    );
}

#[test]
fn vector_fields_are_checked() {
    let only_dense = "only for dense vectors, this one is";
    let cases: [(&str, &[&str]); 15] = [
        ("model = 'm'", &["kind: missing: one of \"dense\", \"sparse\", \"multi\""]),
        (
            "kind = 'dens'\nmodel = 'm'",
            &["kind: \"dens\" is not one of \"dense\", \"sparse\", \"multi\"; did you mean \"dense\"?"],
        ),
        (
            "kind = 'dense'\nmodel = 'm'\nsize = 3",
            &["size: the model tells the size; give \"model\" or \"size\""],
        ),
        (
            "kind = 'multi'",
            &["model: missing: give \"model\", or \"size\" if the documents bring the vectors"],
        ),
        ("kind = 'dense'\nsize = 0", &["size: 0 is not at least 1"]),
        ("kind = 'dense'\nmodel = 'bm25'", &["model: \"bm25\" makes sparse vectors, not dense"]),
        ("kind = 'sparse'\nmodel = 'bm25'\nsize = 3", &["size: a sparse vector has no size"]),
        (
            "kind = 'multi'\nsize = 3\nindex = 'Flat'\ndistance = 'dot'",
            &[&format!("distance: {only_dense} multi"), &format!("index: {only_dense} multi")],
        ),
        (
            "kind = 'dense'\nsize = 3\nquantization = 'residual'",
            &["quantization: only for multi-vectors, this one is dense"],
        ),
        (
            "kind = 'multi'\nsize = 3\nquantization = 'pq'",
            &["quantization: \"pq\" is not one of \"int8\", \"residual\""],
        ),
        (
            "kind = 'dense'\nsize = 3\nindex = 'LSH'",
            &["index: \"LSH\": not one of \"Flat\", \"HNSW32\", \"HNSW32,SQ8\", \"IVF256,Flat\", \
               \"IVF256,PQ32\""],
        ),
        (
            "kind = 'dense'\nsize = 3\ndistance = 'cosin'",
            &["distance: \"cosin\" is not one of \"cosine\", \"dot\", \"euclid\"; did you mean \"cosine\"?"],
        ),
        (
            "kind = 'sparse'\nk1 = 1.0\nlanguage = 'english'",
            &["language: only for the model \"bm25\"", "k1: only for the model \"bm25\""],
        ),
        ("kind = 'sparse'\nmodel = 'bm25'\nb = 2", &["b: 2 is not from 0 to 1"]),
        (
            "kind = 'sparse'\nmodel = 'bm25'\ncase = true",
            &["case: unknown key; known: \"kind\", \"model\", \"size\", \"distance\", \"index\", \
               \"language\", \"k1\", \"b\", \"quantization\", \"modifier\""],
        ),
    ];
    for (field, expect) in cases {
        let expect: Vec<String> = expect.iter().map(|line| format!("vectors.v.{line}")).collect();
        assert_eq!(problems(&format!("[vectors.v]\n{field}")), expect, "\n{field}");
    }
    let found = problems("[vectors.v]\nkind = 'sparse'\nmodel = 'bm25'\nlanguage = 'germn'");
    assert!(found[0].ends_with("did you mean \"german\"?"), "{found:?}");
    check(
        "[vectors.'a.b']\nkind = 'dense'\nmodel = 'm'",
        &["vectors.\"a.b\": the name of a vector has 1 to 64 letters, digits, \"_\" or \"-\""],
    );
}

#[test]
fn plans_are_checked_like_queries() {
    let cases = [
        ("using = 'x'", "using: vector \"x\" is not configured; known: \"dense\", \"image\""),
        (
            "using = 'image'",
            "using: vector \"image\" has no model to make it from text; give a dense vector as \"query\"",
        ),
        (
            "using = 'dense'\nlimit = 3",
            "limit: the limit of a plan comes from the query; only its prefetches have one",
        ),
        (
            "prefetch = [{ using = 'dense', limit = 0 }]\nquery = { fusion = 'dbsf' }",
            "prefetch[0].limit: the number 0 is not an integer from 1 to 10000",
        ),
        (
            "prefetch = [{ using = 'dense', foo = 1 }]\nquery = { fusion = 'dbsf' }",
            "prefetch[0].foo: unknown field \"foo\"; known: \"prefetch\", \"query\", \"using\", \
             \"limit\", \"params\", \"filter\", \"score_threshold\"",
        ),
        (
            "using = 'dense'\nquery = [1.0]",
            "query: a configured plan cannot hold a vector: it searches the query's text",
        ),
        ("query = { fusion = 'dbsf' }", "query: a fusion needs \"prefetch\": the lists to fuse"),
    ];
    let image = "[vectors.image]\nkind = 'dense'\nsize = 3\n";
    for (plan, expect) in cases {
        check(&format!("{DENSE}{image}[plans.p]\n{plan}"), &[&format!("plans.p.{expect}")]);
    }
    check(
        &format!(
            "{DENSE}[plans.p]\nquery = {{ fusion = 'rrf' }}\nprefetch = [{{ using = 'a' }}, {{ using = 'b' }}]"
        ),
        &[
            "plans.p.prefetch[0].using: vector \"a\" is not configured; known: \"dense\"",
            "plans.p.prefetch[1].using: vector \"b\" is not configured; known: \"dense\"",
        ],
    );
    check(&format!("{DENSE}[plans]\np = 3"), &["plans.p: the number 3 is not an object"]);
}

#[test]
fn a_plan_may_use_a_field_that_is_broken_itself() {
    check(
        "[vectors.v]\nkind = 'dense'\nmodel = 'm'\nsize = 3\n[plans.p]\nusing = 'v'",
        &["vectors.v.size: the model tells the size; give \"model\" or \"size\""],
    );
}

#[test]
fn payload_fields_are_paths_with_a_kind() {
    let known = "\"keyword\", \"integer\", \"float\", \"bool\", \"datetime\", \"text\"";
    check(
        "[payload]\ncity = 'keywrd'\nn = 3\n'a..b' = 'text'\na.b = 'int'\n'a.c' = 'text'\n[payload.a.d]\ne = []\n",
        &[
            &format!("payload.\"a.b\": \"int\" is not one of {known}"),
            &format!("payload.\"a.d.e\": an array is not one of {known}"),
            "payload.\"a..b\": is not a path such as \"city\", \"address.city\" or \"offers[].price\"",
            &format!("payload.city: \"keywrd\" is not one of {known}; did you mean \"keyword\"?"),
            &format!("payload.n: 3 is not one of {known}"),
        ],
    );
}

#[test]
fn payload_fields_stand_by_path() {
    use freshet_config::PayloadKind::{Datetime, Integer, Keyword};
    let text = format!("{DENSE}[payload]\ncity = 'keyword'\n'l[].n' = 'integer'\nauthor.born = 'datetime'\n");
    let config = Config::parse(&text, &|_| None).expect("no problem");
    let found: Vec<(&str, _)> = config.payload.iter().map(|(path, kind)| (path.as_str(), *kind)).collect();
    assert_eq!(found, [("author.born", Datetime), ("city", Keyword), ("l[].n", Integer)]);
}

#[test]
fn rerankers_say_what_they_need() {
    let of = |text: &str| problems(&format!("[rerankers.r]\n{text}"));
    let one =
        |text: &str, expected: &str| assert_eq!(of(text), [format!("rerankers.r.{expected}")], "{text}");
    one("model = 'm'", "kind: missing: one of \"cross_encoder\", \"remote\", \"llm\"");
    one("kind = 'cross_encoder'", "model: missing: name or folder of a cross-encoder");
    one(
        "kind = 'cross_encoder'\nmodel = 'm'\nurl = 'http://h'",
        "url: only for rerankers behind HTTP, kind \"remote\" or \"llm\"",
    );
    one("kind = 'remote'", "url: missing: address of the service");
    one(
        "kind = 'remote'\nurl = 'example.com'",
        "url: \"example.com\" is not an address such as \"https://api.example.com/v1/rerank\"",
    );
    one("kind = 'llm'\nurl = 'http://h'", "model: missing: what the endpoint calls the chat model");
    one("kind = 'remote'\nurl = 'http://h'\nretries = 11", "retries: 11 is not at most 10");
    let unknown = of("kind = 'remote'\nurl = 'http://h'\nretires = 1").concat();
    assert!(unknown.starts_with("rerankers.r.retires: unknown key; known: "), "{unknown}");
    assert!(unknown.ends_with("; did you mean \"retries\"?"), "{unknown}");
    let twice = problems(
        "[rerankers.dense]\nkind = 'remote'\nurl = 'http://h'\n[vectors.dense]\nkind = 'dense'\nsize = 2",
    );
    assert_eq!(
        twice,
        ["rerankers.dense: a vector field has this name, too: plans could not tell them apart"]
    );
    let plan = "[rerankers.r]\nkind = 'remote'\nurl = 'http://h'\n[plans.p]\nusing = 'r'";
    assert_eq!(
        problems(plan),
        ["plans.p.using: reranker \"r\" reads what others found: give it a \"prefetch\""]
    );
}
