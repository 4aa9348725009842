//! The HTTP server beside a running pipeline, over real connections.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use freshet::http::Server;
use freshet::setup::Setup;
use freshet::status::Phase;
use freshet_config::Http;
use freshet_operators::connect::Connector;
use freshet_operators::control::Control;
use freshet_operators::wake::block_on;
use freshet_schemas::Answer;
use freshet_tests::drive::{self, LIMIT, Pipeline, timeless, topics, until};
use freshet_tests::http::{Response, connect, read, request};
use freshet_tests::site::Site;
use serde_json::{Value, json};

fn berths() -> Value {
    json!([
        {"id": "a", "text": "the harbour has a berth", "stars": 3, "tags": ["quay"], "note": "4"},
        {"id": "b", "text": "invoice and refund", "stars": 1, "tags": ["desk"], "note": 4},
        {"id": "c", "text": "a berth of the ship", "stars": 2, "tags": ["quay", "desk"]},
    ])
}

fn ids(answer: &Response) -> Vec<String> {
    let answer = answer.json();
    let points = answer["points"].as_array().unwrap_or_else(|| panic!("{answer}"));
    points.iter().map(|point| point["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_query_is_answered_as_in_the_topic() {
    let site = Site::start(|_| {});
    site.documents(&berths());
    let query = json!({"id": "q", "text": "berth", "limit": 2});
    let answer = site.post("/api/query", &query);
    assert_eq!((answer.status, answer.headers["content-type"].as_str()), (200, "application/json"));
    site.memory.produce("queries", 0, drive::query_record(&query));
    site.memory.wait_for("answers", 1, LIMIT);
    let of_topic = drive::answers(&site.memory).remove(0);
    assert_eq!(timeless(Answer::from_json(answer.body.as_bytes()).unwrap()), timeless(of_topic));
    // Without an id it gets one, each another.
    let names: BTreeSet<String> = (0..3)
        .map(|_| site.post("/api/query", &json!({"text": "berth"})).json()["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names.len(), 3);
    site.finish();
}

#[test]
fn many_queries_are_answered_in_their_order() {
    let site = Site::start(|_| {});
    site.documents(&berths());
    let queries: Vec<Value> = (0..50)
        .map(|n| json!({"id": n, "text": if n % 2 == 0 { "berth" } else { "" }, "plan": "bm25"}))
        .collect();
    let answer = site.post("/api/query", &json!({"queries": queries}));
    assert_eq!(answer.status, 200);
    let answers = answer.json()["answers"].as_array().unwrap().clone();
    assert_eq!(answers.len(), 50);
    for (number, answer) in answers.iter().enumerate() {
        assert_eq!(answer["id"], json!(number.to_string()));
        let empty = answer["error"]["code"] == "empty_text";
        assert_eq!(empty, number % 2 == 1, "{answer}");
    }
    let too_many = vec![json!({"text": "x"}); 1001];
    assert_eq!(site.post("/api/query", &json!({"queries": too_many})).status, 413);
    site.finish();
}

#[test]
fn a_question_in_the_address_finds_and_filters() {
    let site = Site::start(|_| {});
    site.documents(&berths());
    assert_eq!(ids(&site.get("/api/search?q=berth&plan=bm25")), ["c", "a"]);
    assert_eq!(ids(&site.get("/api/search?q=berth&plan=bm25&limit=1")), ["c"]);
    assert_eq!(ids(&site.get("/api/search?q=berth&plan=bm25&stars=2,7")), ["c"]);
    assert_eq!(ids(&site.get("/api/search?q=berth&plan=bm25&stars.gte=3")), ["a"]);
    assert_eq!(ids(&site.get("/api/search?q=berth&plan=bm25&tags=desk")), ["c"]);
    assert_eq!(ids(&site.get("/api/search?q=berth&plan=bm25&offset=1")), ["a"]);
    let scores = site.get("/api/search?q=berth&plan=bm25").json();
    let second = scores["points"][1]["score"].as_f64().unwrap();
    assert_eq!(ids(&site.get(&format!("/api/search?q=berth&plan=bm25&score_threshold={second}"))), ["c"]);
    // Of a field that is not configured both spellings are meant.
    let mut either = ids(&site.get("/api/search?q=the+berth+or+invoice&plan=bm25&note=4"));
    either.sort();
    assert_eq!(either, ["a", "b"]);
    let refused = site.get("/api/search?q=berth&stars=many");
    assert_eq!((refused.status, refused.json()["error"]["field"].clone()), (400, json!("stars")));
    site.finish();
}

#[test]
fn what_is_wrong_with_a_query_is_said_with_a_status() {
    let site = Site::start(|_| {});
    let deep = format!("{{\"text\": \"x\", \"filter\": {}1{}}}", "[".repeat(5000), "]".repeat(5000));
    let long = json!({"text": "x".repeat(65 << 10)}).to_string();
    for (body, status, code) in [
        (&b"{\"text\": "[..], 400, "not_json"),
        (b"\xff\xfe{}", 400, "not_utf8"),
        (b"", 400, "not_json"),
        (b"[1]", 400, "not_json"),
        (b"{\"text\": \"x\", \"limit\": 1e999}", 400, "not_finite"),
        (b"{\"text\": \"x\", \"limit\": 123456789012345678901234567890}", 400, "invalid_value"),
        (b"{\"text\": \"x\", \"nonsense\": 1}", 400, "unknown_field"),
        (b"{\"text\": \"x\", \"plan\": \"none\"}", 400, "unknown_plan"),
        (b"{\"id\": \"\", \"text\": \"x\"}", 400, "invalid_value"),
        (b"{\"id\": {}, \"text\": \"x\"}", 400, "invalid_value"),
        (deep.as_bytes(), 400, "too_deep"),
        (long.as_bytes(), 413, "too_large"),
    ] {
        let answer = request(site.address(), "POST", "/api/query", &[], body);
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        let error = answer.json()["error"].clone();
        assert_eq!((answer.status, error["code"].as_str()), (status, Some(code)), "{shown}: {error}");
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()));
    }
    let missing = site.get("/api/nothing");
    assert_eq!((missing.status, missing.json()["error"]["code"].clone()), (404, json!("not_found")));
    let method = request(site.address(), "PATCH", "/api/query", &[], b"");
    assert_eq!((method.status, method.json()["error"]["code"].clone()), (405, json!("method_not_allowed")));
    site.finish();
}

#[test]
fn documents_are_written_found_changed_and_deleted() {
    let site = Site::start(|_| {});
    site.documents(&berths());
    let find = || ids(&site.get("/api/search?q=berth&plan=bm25"));
    assert_eq!(find(), ["c", "a"]);
    // They are records of the topic, under their ids.
    let keys: Vec<_> = site.memory.records("documents").into_iter().filter_map(|record| record.key).collect();
    assert_eq!(keys.len(), 3);
    assert!(keys.contains(&b"a".to_vec()));
    let changed = request(
        site.address(),
        "PUT",
        "/api/documents?wait=true",
        &[],
        br#"{"id": "a", "text": "nothing of the kind"}"#,
    );
    assert_eq!((changed.status, find()), (200, vec!["c".to_owned()]), "{changed:?}");
    let deleted = request(site.address(), "DELETE", "/api/documents/c?wait=true", &[], b"");
    assert_eq!((deleted.status, find()), (200, vec![]));
    // What was waited for can be asked for again.
    let seen = json!({"text": "berth", "plan": "bm25", "consistency": deleted.json()["as_of"]});
    let answer = site.post("/api/query", &seen).json();
    assert!(answer["error"].is_null(), "{answer}");
    assert_eq!(site.post("/api/documents", &berths()).status, 202);
    site.finish();
}

#[test]
fn documents_that_do_not_fit_are_refused_one_by_one() {
    let site = Site::start(|_| {});
    let lines = b"{\"id\": \"a\", \"text\": \"one\"}\n{\"id\": \"b\"}\n{broken\n{\"text\": \"no id\"}\n{\"id\": \"c\", \"text\": \"two\"}\n";
    let kind = [("content-type", "application/x-ndjson")];
    let answer = request(site.address(), "POST", "/api/documents?wait=true", &kind, lines);
    let body = answer.json();
    assert_eq!(answer.status, 207, "{body}");
    let results: Vec<(Option<&str>, &str, Option<&str>)> = body["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| {
            (result["id"].as_str(), result["status"].as_str().unwrap(), result["error"]["code"].as_str())
        })
        .collect();
    let expected = [
        (Some("a"), "written", None),
        (None, "refused", Some("empty_text")),
        (None, "refused", Some("not_json")),
        (None, "refused", Some("missing_id")),
        (Some("c"), "written", None),
    ];
    assert_eq!(results, expected);
    assert_eq!(site.memory.len("documents"), 2, "what is refused is not written");
    assert_eq!(site.post("/api/documents", &json!([{"id": "x"}])).status, 400);
    assert_eq!(site.post("/api/documents", &json!([])).status, 202);
    let unknown = request(site.address(), "DELETE", "/api/documents/a?sync=true", &[], b"");
    assert_eq!(unknown.status, 400);
    site.finish();
}

#[test]
fn keys_are_asked_for_and_some_may_only_read() {
    let site = Site::start(|http| {
        http.api_key = Some("all".to_owned().into());
        http.read_only_api_key = Some("some".to_owned().into());
    });
    let document = br#"{"id": "a", "text": "berth"}"#;
    let query = br#"{"text": "berth"}"#;
    let status = |method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]| {
        request(site.address(), method, target, headers, body).status
    };
    for (headers, reads, writes) in [
        (&[][..], 401, 401),
        (&[("api-key", "al")], 401, 401),
        (&[("api-key", "alll")], 401, 401),
        (&[("authorization", "Basic all")], 401, 401),
        (&[("api-key", "some")], 200, 403),
        (&[("authorization", "Bearer some")], 200, 403),
        (&[("api-key", "all")], 200, 202),
        (&[("authorization", "bearer all")], 200, 202),
    ] {
        assert_eq!(status("POST", "/api/query", headers, query), reads, "{headers:?}");
        assert_eq!(status("GET", "/metrics", headers, b""), reads, "{headers:?}");
        assert_eq!(status("POST", "/api/documents", headers, document), writes, "{headers:?}");
        let deleted = status("DELETE", "/api/documents/a", headers, b"");
        assert_eq!(deleted, writes, "{headers:?}");
        for open in ["/healthz", "/readyz", "/", "/docs", "/openapi.json"] {
            assert_eq!(status("GET", open, headers, b""), 200, "{open}");
        }
    }
    site.finish();
}

#[test]
fn limits_refuse_what_is_too_much() {
    let site = Site::start(|http| {
        http.body_bytes_max = 1000.try_into().unwrap();
        http.requests_max = 1.try_into().unwrap();
        http.request_timeout = Duration::from_secs(5);
    });
    let large = request(site.address(), "POST", "/api/query", &[], &vec![b' '; 200_000]);
    assert_eq!(large.status, 413);
    // One that waits holds the only place.
    let mut waiting = connect(site.address());
    let query = r#"{"text": "berth", "consistency": {"documents": {"0": 99}}}"#;
    let head = format!(
        "POST /api/query HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        query.len()
    );
    waiting.write_all(head.as_bytes()).unwrap();
    waiting.write_all(query.as_bytes()).unwrap();
    until(|| site.setup.gateway.as_ref().unwrap().open() == 1);
    let refused = site.get("/api/search?q=berth");
    assert_eq!((refused.status, refused.headers["retry-after"].as_str()), (503, "1"));
    assert_eq!(refused.json()["error"]["code"], "overloaded");
    assert_eq!(site.get("/metrics").status, 200, "who watches is let in");
    // It is given up when its time is over.
    let late = read(&mut waiting);
    assert_eq!((late.status, late.json()["error"]["code"].clone()), (504, json!("timeout")));
    assert_eq!(site.get("/api/search?q=berth").status, 200);
    site.stop();
}

#[test]
fn slow_clients_hold_nothing_up() {
    let site = Site::start(|http| http.idle_timeout = Duration::from_millis(300));
    let begun = Instant::now();
    let mut silent = connect(site.address());
    let mut half = connect(site.address());
    half.write_all(b"GET /healthz HTTP/1.1\r\nhost: h\r\nx: ").unwrap();
    let mut slow = connect(site.address());
    slow.write_all(
        b"POST /api/query HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-length: 100\r\n\r\n{",
    )
    .unwrap();
    assert_eq!(site.get("/healthz").status, 200, "others are served meanwhile");
    let late = read(&mut slow);
    assert_eq!((late.status, late.json()["error"]["code"].clone()), (408, json!("timeout")));
    for stream in [&mut silent, &mut half] {
        let mut rest = Vec::new();
        std::io::Read::read_to_end(stream, &mut rest).unwrap();
        assert!(!rest.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&rest));
    }
    // One that is kept open and not used is closed, too.
    let mut kept = connect(site.address());
    kept.write_all(b"GET /healthz HTTP/1.1\r\nhost: h\r\n\r\n").unwrap();
    assert_eq!(read(&mut kept).status, 200);
    // One that asks and asks and never reads is closed once its answers have nowhere to go.
    let mut deaf = connect(site.address());
    let asks = "GET /openapi.json HTTP/1.1\r\nhost: h\r\n\r\n".repeat(2000);
    deaf.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    // The server does not read on while nobody reads its answers.
    let _ = deaf.write_all(asks.as_bytes());
    until(|| site.get("/metrics").body.lines().any(|line| line == "freshet_http_connections 1"));
    assert!(begun.elapsed() < LIMIT / 2, "closed by the server, not by the test");
    site.finish();
}

#[test]
fn every_metric_has_its_name() {
    let site = Site::start(|_| {});
    site.documents(&berths());
    assert_eq!(site.get("/api/search?q=berth").status, 200);
    assert_eq!(site.get("/api/search?q=berth&plan=none").status, 400);
    let text = site.get("/metrics").body;
    for line in [
        "freshet_queries_answered_total{outcome=\"ok\",source=\"gateway\"} 1",
        "freshet_queries_answered_total{outcome=\"unknown_plan\",source=\"gateway\"} 1",
        "freshet_query_seconds_count{source=\"gateway\"} 2",
        "freshet_documents_applied_total 3",
        "freshet_http_requests_total{method=\"GET\",route=\"/api/search\",status=\"200\"} 1",
        "freshet_http_request_seconds_count{route=\"/api/search\"} 2",
        "freshet_http_requests_in_flight 1",
        "freshet_http_connections ",
        "freshet_queries_in_flight ",
        "freshet_gateway_queue_queries 0",
        "freshet_applied_lag_seconds ",
        "freshet_index_documents ",
        "freshet_index_segments ",
        "freshet_index_bytes ",
        "freshet_index_removed_versions ",
        "freshet_index_builds_total ",
        "freshet_snapshots_written_total 0",
        "freshet_snapshots_failed_total 0",
        "freshet_snapshot_seconds_count 0",
        "freshet_snapshot_last_timestamp_seconds 0",
        "freshet_snapshot_documents 0",
        "freshet_snapshot_bytes 0",
        "freshet_restored_documents 0",
        "freshet_restore_seconds 0",
        "freshet_embedding_texts_total{priority=\"document\"} ",
        "freshet_embedding_batches_total ",
        "freshet_operator_busy_seconds_total{operator=\"Index\"} ",
        "freshet_operator_activations_total{operator=\"Index\"} ",
        "freshet_operator_records_in_total{operator=\"Decode(documents)\"} ",
        "freshet_operator_records_out_total{operator=\"Decode(documents)\"} ",
        "freshet_operator_queue_records{operator=\"Prefetch\"} 0",
        "freshet_workers_parked_seconds_total ",
    ] {
        assert!(text.lines().any(|found| found.starts_with(line)), "{line} is not in:\n{text}");
    }
    // Every name begins alike, and what counts up says so.
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        assert!(name.starts_with("freshet_") || name.starts_with("process_"), "{name}");
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
    }
    let status = site.get("/api/status").json();
    assert_eq!((status["ready"].clone(), status["documents_applied"].clone()), (json!(true), json!(3)));
    assert_eq!(status["plans"], json!(["bm25", "default"]));
    site.finish();
}

#[test]
fn the_picture_of_the_dataflow_knows_its_operators() {
    let site = Site::start(|_| {});
    site.documents(&berths());
    assert_eq!(site.get("/api/search?q=berth").status, 200);
    let look = || site.get("/api/dataflow").json();
    let of = |flow: &Value, name: &str| {
        let operators = flow["operators"].as_array().unwrap().iter();
        operators.into_iter().find(|operator| operator["name"] == name).cloned()
    };
    // Workers tell what they have done when they pause.
    until(|| {
        let flow = look();
        of(&flow, "Decode(documents)").is_some_and(|operator| operator["records_in"] == 3)
            && of(&flow, "Prefetch").is_some_and(|operator| operator["records_in"].as_u64() > Some(0))
    });
    let flow = look();
    let ids: Vec<&Value> =
        flow["operators"].as_array().unwrap().iter().map(|operator| &operator["id"]).collect();
    let channels = flow["channels"].as_array().unwrap();
    assert!(channels.len() >= ids.len() / 2, "operators hang together");
    for channel in channels {
        assert!(ids.contains(&&channel["from"]) && ids.contains(&&channel["to"]), "{channel}");
    }
    assert!(of(&flow, "Index").unwrap()["busy_seconds"].as_f64() > Some(0.0));
    // The source follows the clock, and everything that takes from it follows the source.
    let newest = of(&flow, "Consume(documents)").unwrap()["frontier"].as_u64().unwrap();
    for name in ["Decode(documents)", "Index", "Prefetch", "Produce"] {
        let operator = of(&flow, name).unwrap();
        assert!(operator["frontier"].as_u64().is_some_and(|tick| tick <= newest), "{operator}");
        assert!(operator["frontier_lag_seconds"].as_f64() >= Some(0.0), "{operator}");
    }
    until(|| {
        let before = newest;
        of(&look(), "Index").is_some_and(|operator| operator["frontier"].as_u64() > Some(before))
    });
    site.finish();
}

#[test]
fn operators_are_not_counted_where_nobody_wants_it() {
    let mut config = drive::config(1);
    config.pipeline.observe = false;
    let http = Http { listen: "127.0.0.1:0".to_owned(), ..Http::default() };
    let site = Site::with(Setup::load(config).unwrap(), &http, topics());
    site.documents(&berths());
    assert_eq!(site.get("/api/search?q=berth").status, 200);
    let flow = site.get("/api/dataflow").json();
    assert_eq!((&flow["observed"], &flow["operators"]), (&json!(false), &json!([])));
    let metrics = site.get("/metrics").body;
    assert!(metrics.contains("freshet_query_seconds") && !metrics.contains("freshet_operator_"), "{metrics}");
    site.finish();
}

#[test]
fn the_documented_routes_are_those_that_are_served() {
    let site = Site::start(|_| {});
    let document = site.get("/openapi.json").json();
    assert_eq!(document["openapi"], "3.1.0");
    let mut served = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys() {
            let target = path.replace("{id}", "x");
            let answer = request(site.address(), &method.to_uppercase(), &target, &[], b"");
            assert!(![404, 405].contains(&answer.status), "{method} {path}: {}", answer.status);
            let code = answer.status.to_string();
            let documented = document["paths"][path][method]["responses"].as_object().unwrap();
            assert!(documented.contains_key(&code), "{method} {path} answers {code}");
            served += 1;
        }
    }
    assert_eq!(served, 11);
    // What a query is answered with is what the document says.
    let mut schema = document["components"]["schemas"]["Answer"].clone();
    schema["components"] = document["components"].clone();
    let answer = site.post("/api/query", &json!({"text": "berth"})).json();
    let validator = jsonschema::validator_for(&schema).unwrap();
    assert!(validator.is_valid(&answer), "{answer}");
    for page in ["/", "/docs", "/dataflow"] {
        let page = site.get(page);
        assert!(page.headers["content-security-policy"].contains("default-src 'none'"));
        for asset in page.body.split('"').filter(|part| part.ends_with(".js") || part.ends_with(".css")) {
            assert_eq!(site.get(asset).status, 200, "{asset}");
        }
    }
    site.finish();
}

#[test]
fn readiness_follows_the_run() {
    let setup = drive::setup(1).with_gateway();
    let connector: Arc<dyn Connector> = Arc::new(topics());
    let control = Arc::new(Control::default());
    let http = Http { listen: "127.0.0.1:0".to_owned(), ..Http::default() };
    let server = Server::start(&http, &setup, &connector, &control).unwrap();
    let get = |target: &str| request(server.address(), "GET", target, &[], b"");
    assert_eq!(get("/healthz").status, 200);
    let before = get("/readyz");
    assert_eq!(before.status, 503);
    assert!(before.json()["reason"].as_str().unwrap().starts_with("starting"), "{before:?}");
    let refused = get("/api/search?q=berth");
    assert_eq!((refused.status, refused.json()["error"]["code"].clone()), (503, json!("not_ready")));
    let pipeline = Pipeline::start_with(&setup, &connector, &control);
    block_on(setup.status.watch_phase().wait_for(|phase| *phase == Phase::Ready)).unwrap();
    assert_eq!(get("/readyz").status, 200);
    assert_eq!(get("/api/search?q=berth").status, 200);
    control.drain();
    let after = get("/readyz");
    assert_eq!(after.status, 503);
    assert!(after.json()["reason"].as_str().unwrap().starts_with("ending"), "{after:?}");
    assert_eq!(get("/api/search?q=berth").status, 503);
    drop(server);
    pipeline.finish();
}

#[test]
fn other_sites_may_call_only_if_they_are_named() {
    let origin = [("origin", "https://example.com")];
    let closed = Site::start(|_| {});
    let answer = request(closed.address(), "GET", "/healthz", &origin, b"");
    assert!(!answer.headers.contains_key("access-control-allow-origin"));
    closed.finish();
    let open = Site::start(|http| {
        http.cors_origins = vec!["https://example.com".to_owned()];
        http.api_key = Some("all".to_owned().into());
    });
    let answer = request(open.address(), "GET", "/healthz", &origin, b"");
    assert_eq!(answer.headers["access-control-allow-origin"], "https://example.com");
    let other = request(open.address(), "GET", "/healthz", &[("origin", "https://example.org")], b"");
    assert_ne!(
        other.headers.get("access-control-allow-origin").map(String::as_str),
        Some("https://example.org")
    );
    // A browser asks first, without a key.
    let asks =
        [origin[0], ("access-control-request-method", "POST"), ("access-control-request-headers", "api-key")];
    let preflight = request(open.address(), "OPTIONS", "/api/query", &asks, b"");
    assert_eq!(preflight.status, 200);
    assert!(preflight.headers["access-control-allow-headers"].contains("api-key"));
    open.finish();
}

#[test]
fn an_address_that_is_taken_is_named() {
    let site = Site::start(|_| {});
    let setup = drive::setup(1).with_gateway();
    let connector: Arc<dyn Connector> = Arc::new(topics());
    let http = Http { listen: site.address().to_string(), ..Http::default() };
    let error = Server::start(&http, &setup, &connector, &Arc::new(Control::default())).err().unwrap();
    assert!(error.to_string().contains(&format!("cannot listen on \"{}\"", site.address())), "{error}");
    site.finish();
}
