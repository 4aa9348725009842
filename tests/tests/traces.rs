//! Traces of queries and documents: over a topic in memory, over Kafka and over HTTP, into a collector.

use std::sync::Arc;

use freshet::setup::Setup;
use freshet_config::Http;
use freshet_operators::connect::{self, Connector, Memory};
use freshet_operators::trace::TraceContext;
use freshet_schemas::{Headers, Record};
use freshet_tests::collector::{Collector, Span};
use freshet_tests::drive::{self, query_record, topics};
use freshet_tests::http::request;
use freshet_tests::site::Site;
use serde_json::{Value, json};

use crate::kafka::{broker, kafka, read_all, unique, write_to};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
/// OTLP's numbers.
const SERVER: u64 = 2;
const PRODUCER: u64 = 4;
const CONSUMER: u64 = 5;

fn http() -> Http {
    Http { listen: "127.0.0.1:0".to_owned(), ..Http::default() }
}

fn setup(collector: &Collector, change: impl FnOnce(&mut freshet_config::Config)) -> Setup {
    let mut config = drive::config(2);
    config.telemetry.otlp_endpoint = Some(collector.endpoint());
    change(&mut config);
    Setup::load(config).unwrap().with_traces().unwrap()
}

fn headers(headers: &[(&str, &str)]) -> Headers {
    headers.iter().map(|(name, value)| ((*name).to_owned(), Some(value.as_bytes().to_vec()))).collect()
}

fn document() -> Record {
    let value = json!({"id": "a", "text": "the harbour has a berth"}).to_string().into_bytes();
    let headers = headers(&[("traceparent", CALLER)]);
    Record { key: Some(b"a".to_vec()), value: Some(value), headers, ..Record::default() }
}

fn query(id: &str, carried: &[(&str, &str)]) -> Record {
    let query = json!({"id": id, "text": "berth", "consistency": "strong"});
    Record { headers: headers(carried), ..query_record(&query) }
}

fn header(record: &Record, name: &str) -> Vec<String> {
    let values = record.headers.iter().filter(|(own, _)| own == name);
    values.map(|(_, value)| String::from_utf8(value.clone().unwrap()).unwrap()).collect()
}

fn names(trace: &[Span]) -> Vec<&str> {
    trace.iter().map(|span| span.name.as_str()).collect()
}

const STAGES: [&str; 5] =
    ["freshet.admit", "freshet.embed", "freshet.search", "freshet.rerank", "freshet.fetch"];

/// The trace of a query that came through a topic, and its answer.
fn check_query(trace: &[Span], answer: &Record, system: &str, topics: [&str; 2]) {
    assert_eq!(names(trace), [&STAGES[..], &["freshet.produce", "freshet.query"]].concat());
    let whole = trace.last().unwrap();
    assert_eq!(
        (whole.trace.as_str(), whole.parent.as_str(), whole.kind),
        (TRACE, "b7ad6b7169203331", CONSUMER)
    );
    assert_eq!(whole.json["traceState"], "x=1");
    let mut at = whole.times.0;
    for part in &trace[..6] {
        assert_eq!((&part.parent, &part.json["traceState"]), (&whole.id, &json!("x=1")));
        assert_eq!(part.times.0, at, "one begins where the one before ends");
        at = part.times.1;
    }
    assert!(at > whole.times.0 && at <= whole.times.1, "{trace:#?}");
    let attributes = |span: &Span, expected: &[(&str, &str)]| {
        for (name, value) in expected {
            assert_eq!(span.attributes.get(*name).map(String::as_str), Some(*value), "{name}");
        }
    };
    let expected = [
        ("messaging.system", system),
        ("messaging.operation.type", "process"),
        ("messaging.destination.name", topics[0]),
        ("messaging.kafka.offset", "0"),
        ("db.system.name", "freshet"),
        ("db.operation.name", "query"),
        ("db.response.returned_rows", "1"),
        ("freshet.query.id", "q"),
    ];
    attributes(whole, &expected);
    let produce = &trace[5];
    assert_eq!(produce.kind, PRODUCER);
    attributes(produce, &[("messaging.operation.type", "send"), ("messaging.destination.name", topics[1])]);
    // Who reads the answer goes on from the span of the query.
    let [parent] = <[String; 1]>::try_from(header(answer, "traceparent")).unwrap();
    let parent = TraceContext::parse(&parent).unwrap();
    let ids = (format!("{:032x}", parent.trace), format!("{:016x}", parent.span));
    assert_eq!((&ids.0, &ids.1, parent.sampled), (&whole.trace, &whole.id, true));
    assert_eq!(
        (header(answer, "tracestate"), header(answer, "other")),
        (vec!["x=1".into()], vec!["kept".into()])
    );
}

const CARRIED: [(&str, &str); 3] = [("traceparent", CALLER), ("tracestate", "x=1"), ("other", "kept")];

fn check_document(collector: &Collector, topic: &str) {
    let span = collector.trace("freshet.document", |_| true).pop().unwrap();
    assert_eq!((span.trace.as_str(), span.parent.as_str(), span.kind), (TRACE, "b7ad6b7169203331", CONSUMER));
    assert!(span.times.0 < span.times.1, "it takes time to be searchable");
    assert_eq!(span.attributes["messaging.destination.name"], topic);
    assert_eq!(span.attributes["messaging.kafka.message.key"], "a");
}

#[test]
fn queries_and_documents_of_topics_are_traced() {
    for delivery in [freshet_config::Delivery::ExactlyOnce, freshet_config::Delivery::AtLeastOnce] {
        let collector = Collector::start();
        let setup = setup(&collector, |config| config.queries.delivery = delivery);
        let metrics = setup.trace_metrics.clone();
        let site = Site::with(setup, &http(), topics());
        site.memory.produce("documents", 0, document());
        check_document(&collector, "documents");
        site.memory.produce("queries", 0, query("q", &CARRIED));
        site.memory.wait_for("answers", 1, drive::LIMIT);
        let trace = collector.trace("freshet.query", |_| true);
        check_query(&trace, &site.memory.records("answers")[0], "files", ["queries", "answers"]);
        // A query that is wrong is traced with what is wrong.
        let wrong = json!({"id": "wrong", "text": ""});
        site.memory.produce("queries", 0, query_record(&wrong));
        let trace = collector.trace("freshet.query", |span| span.attributes["freshet.query.id"] == "wrong");
        let whole = trace.last().unwrap();
        assert_eq!((names(&trace), whole.parent.as_str()), (vec!["freshet.produce", "freshet.query"], ""));
        assert_eq!(whole.json["status"]["code"], 2);
        assert_eq!(whole.attributes["error.type"], "empty_text");
        // One of the document, seven of the query and two of the wrong one.
        drive::until(|| metrics.counts() == (10, 0));
        site.finish();
    }
}

#[test]
fn what_is_malformed_or_not_sampled_begins_no_part_of_a_trace() {
    let collector = Collector::start();
    let site = Site::with(setup(&collector, |_| {}), &http(), topics());
    site.memory.produce(
        "queries",
        0,
        query("unsampled", &[("traceparent", UNSAMPLED), ("tracestate", "x=1")]),
    );
    site.memory.wait_for("answers", 1, drive::LIMIT);
    site.memory.produce(
        "queries",
        0,
        query("malformed", &[("traceparent", "00-x-y-01"), ("tracestate", "x=1")]),
    );
    site.memory.wait_for("answers", 2, drive::LIMIT);
    // In order: the first would have come before.
    let trace = collector.trace("freshet.query", |_| true);
    let whole = trace.last().unwrap();
    assert_eq!((whole.attributes["freshet.query.id"].as_str(), whole.parent.as_str()), ("malformed", ""));
    assert_ne!(whole.trace, TRACE);
    let answers = site.memory.records("answers");
    let of = |id: &str| answers.iter().find(|answer| answer.key.as_deref() == Some(id.as_bytes())).unwrap();
    assert_eq!(header(of("unsampled"), "traceparent"), [UNSAMPLED]);
    assert_eq!(header(of("unsampled"), "tracestate"), ["x=1"]);
    let parents = header(of("malformed"), "traceparent");
    assert!(parents.len() == 1 && parents[0].contains(&whole.trace), "{parents:?}");
    assert_eq!(header(of("malformed"), "tracestate"), [""; 0]);
    site.finish();
    assert!(collector.others().is_empty());
}

#[test]
fn without_a_collector_headers_are_carried_as_they_are() {
    let site = Site::with(Setup::load(drive::config(1)).unwrap().with_traces().unwrap(), &http(), topics());
    assert!(site.setup.tracer.is_none());
    let carried = [("traceparent", "malformed"), ("tracestate", "x=1"), ("other", "kept")];
    site.memory.produce("queries", 0, query("q", &carried));
    site.memory.wait_for("answers", 1, drive::LIMIT);
    assert_eq!(site.memory.records("answers")[0].headers, headers(&carried));
    let body = json!([{"id": "a", "text": "berth"}]).to_string();
    let asked =
        request(site.address(), "POST", "/api/documents", &[("traceparent", CALLER)], body.as_bytes());
    assert_eq!(asked.status, 202);
    assert_eq!(site.memory.records("documents")[0].headers, Headers::new());
    assert_eq!(site.setup.trace_metrics.counts(), (0, 0));
    site.finish();
}

#[test]
fn requests_over_http_are_traced() {
    let collector = Collector::start();
    let site = Site::with(setup(&collector, |_| {}), &http(), topics());
    let carried = [("traceparent", CALLER), ("tracestate", "x=1")];
    let body = document().value.unwrap();
    let asked = request(site.address(), "POST", "/api/documents?wait=true", &carried, &body);
    assert_eq!(asked.status, 200, "{asked:?}");
    assert_eq!(site.memory.records("documents")[0].headers, headers(&carried));
    check_document(&collector, "documents");
    let queries: [(&str, &str, Value); 2] = [
        ("GET", "/api/search?q=berth", Value::Null),
        ("POST", "/api/query", json!({"id": "q", "text": "berth"})),
    ];
    for (method, target, body) in queries {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = request(site.address(), method, target, &carried, body.as_bytes());
        assert_eq!(answer.status, 200, "{answer:?}");
        let trace = collector.trace("freshet.query", |_| true);
        assert_eq!(names(&trace), [&STAGES[..], &["freshet.query"]].concat());
        let whole = trace.last().unwrap();
        assert_eq!(
            (whole.trace.as_str(), whole.parent.as_str(), whole.kind),
            (TRACE, "b7ad6b7169203331", SERVER)
        );
        assert!(!whole.attributes.contains_key("messaging.system"));
    }
    // Several queries of one request are parts of the same.
    let both = json!({"queries": [{"text": "berth"}, {"text": "harbour"}]}).to_string();
    let answer = request(site.address(), "POST", "/api/query", &carried, both.as_bytes());
    assert_eq!(answer.json()["answers"].as_array().map(Vec::len), Some(2));
    let first = collector.trace("freshet.query", |_| true).pop().unwrap();
    let second = collector.trace("freshet.query", |_| true).pop().unwrap();
    assert!(first.trace == second.trace && first.parent == second.parent && first.id != second.id);
    site.finish();
}

#[test]
fn queries_over_kafka_are_traced() {
    let Some(address) = broker("queries_over_kafka_are_traced") else { return };
    let collector = Collector::start();
    let prefix = unique("traced");
    let connector_config = kafka(&address, true);
    let setup = setup(&collector, |config| {
        config.connector = connector_config.clone();
        config.pipeline.name = prefix.clone();
        let topics = &mut config.topics;
        topics.documents = format!("{prefix}.documents").into();
        topics.queries = format!("{prefix}.queries");
        topics.answers = format!("{prefix}.answers");
    });
    let connector: Arc<dyn Connector> = connect::open(&connector_config, &prefix).unwrap();
    let site = Site::on(setup, &http(), &connector, Memory::new());
    let topic = |name: &str| format!("{prefix}.{name}");
    write_to(&mut *connector.sink(Arc::new(|| {})).unwrap(), &topic("documents"), vec![document()]);
    check_document(&collector, &topic("documents"));
    let asked = vec![query("q", &CARRIED)];
    write_to(&mut *connector.sink(Arc::new(|| {})).unwrap(), &topic("queries"), asked);
    let trace = collector.trace("freshet.query", |_| true);
    let answers = read_all(&*connector, &topic("answers"), 1);
    check_query(&trace, &answers[0], "kafka", [&topic("queries"), &topic("answers")]);
    site.finish();
}
