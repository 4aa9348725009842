//! Every metric of the reference, on running pipelines: it is there, is of its kind, and moves where it should.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use freshet::setup::Setup;
use freshet_config::{Config, Http, Snapshots};
use freshet_operators::connect::{self, Connector};
use freshet_schemas::Record;
use freshet_tests::collector::Collector;
use freshet_tests::drive::{self, LIMIT, query_record, topics};
use freshet_tests::http::request;
use freshet_tests::registry::Registry;
use freshet_tests::site::Site;
use serde_json::{Value, json};

use crate::kafka::{broker, kafka, unique};

/// What a metric is to do while documents and queries come; sums over all labels, and of histograms their counts.
#[derive(Clone, Copy, Debug)]
enum Moves {
    /// It rises.
    Up,
    /// It is more than zero in the end.
    Positive,
    /// It is this in the end.
    Is(f64),
}
use Moves::{Is, Positive, Up};

/// Documents in the topic before the watched run, and those that come while it is watched.
const BEFORE: usize = 20;
const DURING: usize = 20;

/// Every metric but those of Kafka.
const METRICS: [(&str, Moves); 53] = [
    ("freshet_applied_lag_seconds", Is(0.0)),
    ("freshet_documents_applied_total", Up),
    ("freshet_documents_in_flight_bytes", Is(0.0)),
    ("freshet_documents_in_flight_records", Is(0.0)),
    ("freshet_embedding_batch_padding_ratio", Up),
    ("freshet_embedding_batch_texts", Up),
    ("freshet_embedding_batch_tokens", Up),
    ("freshet_embedding_batches_total", Up),
    ("freshet_embedding_busy_seconds_total", Up),
    ("freshet_embedding_failures_total", Is(0.0)),
    ("freshet_embedding_padding_tokens_total", Is(0.0)),
    ("freshet_embedding_queue_seconds", Up),
    ("freshet_embedding_queue_texts", Is(0.0)),
    ("freshet_embedding_run_seconds", Up),
    ("freshet_embedding_texts_total", Up),
    ("freshet_embedding_tokens_total", Up),
    ("freshet_gateway_queue_queries", Is(0.0)),
    ("freshet_http_bodies_bytes", Is(0.0)),
    ("freshet_http_connections", Positive),
    ("freshet_http_request_seconds", Up),
    // The one that asks for the metrics.
    ("freshet_http_requests_in_flight", Is(1.0)),
    ("freshet_http_requests_total", Up),
    ("freshet_index_builds_total", Up),
    ("freshet_index_bytes", Up),
    ("freshet_index_documents", Is((BEFORE + DURING) as f64 - 1.0)),
    ("freshet_index_removed_versions", Positive),
    ("freshet_index_segments", Positive),
    ("freshet_operator_activations_total", Up),
    ("freshet_operator_busy_seconds_total", Up),
    ("freshet_operator_frontier_lag_seconds", Positive),
    ("freshet_operator_frontier_timestamp_seconds", Up),
    ("freshet_operator_queue_records", Is(0.0)),
    ("freshet_operator_records_in_total", Up),
    ("freshet_operator_records_out_total", Up),
    ("freshet_queries_answered_total", Up),
    ("freshet_queries_in_flight", Is(0.0)),
    ("freshet_query_seconds", Up),
    ("freshet_query_stage_seconds", Up),
    ("freshet_rerank_circuit_open", Is(1.0)),
    ("freshet_rerank_fallbacks_total", Up),
    ("freshet_rerank_request_seconds", Up),
    ("freshet_rerank_requests_total", Up),
    ("freshet_restore_seconds", Positive),
    ("freshet_restored_documents", Is(BEFORE as f64)),
    ("freshet_snapshot_bytes", Positive),
    ("freshet_snapshot_documents", Positive),
    ("freshet_snapshot_last_timestamp_seconds", Positive),
    ("freshet_snapshot_seconds", Up),
    ("freshet_snapshots_failed_total", Up),
    ("freshet_snapshots_written_total", Up),
    ("freshet_trace_spans_dropped_total", Is(0.0)),
    ("freshet_trace_spans_exported_total", Up),
    ("freshet_workers_parked_seconds_total", Up),
];

/// Those of Kafka.
const KAFKA: [(&str, Moves); 4] = [
    ("freshet_kafka_end_offset", Up),
    ("freshet_kafka_lag_records", Is(0.0)),
    ("freshet_kafka_next_offset", Up),
    ("freshet_kafka_offsets_skipped_total", Is(0.0)),
];

/// Those of a schema registry.
const REGISTRY: [(&str, Moves); 1] = [("freshet_schema_requests_total", Up)];

/// A look at `/metrics`.
#[derive(Default)]
struct Look {
    kinds: BTreeMap<String, String>,
    sums: BTreeMap<String, f64>,
    labels: BTreeMap<String, Vec<String>>,
}

impl Look {
    fn at(site: &Site) -> Self {
        let mut look = Self::default();
        for line in site.get("/metrics").body.lines() {
            if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').unwrap();
                look.kinds.insert(name.to_owned(), kind.to_owned());
            } else if !line.starts_with('#') {
                let (series, value) = line.rsplit_once(' ').unwrap();
                let (name, labels) = series.split_once('{').unwrap_or((series, ""));
                *look.sums.entry(name.to_owned()).or_default() += value.parse::<f64>().unwrap();
                let names = labels.split("\",").filter_map(|label| label.split_once('='));
                look.labels.insert(name.to_owned(), names.map(|(name, _)| name.to_owned()).collect());
            }
        }
        look
    }

    fn sum(&self, name: &str) -> Option<f64> {
        self.sums.get(name).or_else(|| self.sums.get(&format!("{name}_count"))).copied()
    }

    /// Whether a metric does as it should; `before` is an earlier look.
    fn moves(&self, before: &Self, name: &str, moves: Moves) -> bool {
        self.sum(name).is_some_and(|now| match moves {
            Up => now > before.sum(name).unwrap_or(0.0),
            Positive => now > 0.0,
            Is(value) => now == value,
        })
    }
}

/// Looks until all metrics have moved as they should, doing something before each look; then each is of the kind and has the
/// labels that the reference says.
fn check(site: &Site, before: &Look, metrics: &[(&str, Moves)], mut act: impl FnMut()) {
    let deadline = Instant::now() + LIMIT;
    let mut open = metrics.to_vec();
    let look = loop {
        act();
        let look = Look::at(site);
        open.retain(|(name, moves)| !look.moves(before, name, *moves));
        if open.is_empty() {
            break look;
        }
        let now: Vec<_> = open.iter().map(|(name, _)| (before.sum(name), look.sum(name))).collect();
        assert!(Instant::now() < deadline, "{open:#?} before and now: {now:?}");
        std::thread::yield_now();
    };
    let described = freshet::reference::metrics().unwrap();
    for (name, _) in metrics {
        let metric = described.iter().find(|metric| metric.name == *name).unwrap_or_else(|| panic!("{name}"));
        assert_eq!(look.kinds[*name], metric.kind, "{name}");
        let series = match metric.kind {
            "histogram" => format!("{name}_count"),
            _ => (*name).to_owned(),
        };
        let mut labels = look.labels[&series].clone();
        let mut expected = metric.labels.clone();
        labels.sort();
        expected.sort();
        assert_eq!(labels, expected, "{name}");
    }
}

fn document(number: usize) -> Value {
    json!({"id": format!("d{number}"), "text": format!("the harbour has berth {number}"), "stars": number % 5})
}

fn documents(numbers: std::ops::Range<usize>) -> Value {
    numbers.map(document).collect()
}

fn http() -> Http {
    Http { listen: "127.0.0.1:0".to_owned(), ..Http::default() }
}

#[test]
fn every_metric_of_the_reference_is_watched() {
    let mut watched: Vec<&str> =
        METRICS.iter().chain(&KAFKA).chain(&REGISTRY).map(|(name, _)| *name).collect();
    watched.sort_unstable();
    let described = freshet::reference::metrics().unwrap();
    assert_eq!(watched, described.iter().map(|metric| metric.name.as_str()).collect::<Vec<_>>());
}

#[test]
fn metrics_of_a_running_pipeline_move() {
    let folder = tempfile::tempdir().unwrap();
    // Nobody listens there.
    let far = "[rerankers.far]\nkind = \"remote\"\nurl = \"http://127.0.0.1:1/rerank\"\nmodel = \"m\"\nretries = 0\n";
    let mut config = Config::parse(&format!("{}{far}", drive::CONFIG), &|_| None).unwrap();
    config.snapshots = Some(Snapshots {
        store: format!("file://{}", folder.path().display()),
        interval: std::time::Duration::from_millis(10),
        ..Snapshots::default()
    });
    let collector = Collector::start();
    config.telemetry.otlp_endpoint = Some(collector.endpoint());
    let memory = topics();
    let first = Site::with(Setup::load(config.clone()).unwrap(), &http(), memory.clone());
    first.documents(&documents(0..BEFORE));
    first.finish();

    let site = Site::with(Setup::load(config).unwrap().with_traces().unwrap(), &http(), memory);
    assert_eq!(site.get("/api/search?q=berth").status, 200);
    let before = Look::at(&site);
    site.documents(&documents(BEFORE..BEFORE + DURING));
    assert_eq!(site.post("/api/query", &json!({"text": "berth"})).status, 200);
    site.memory.produce("queries", 0, query_record(&json!({"id": "q", "text": "berth"})));
    site.memory.wait_for("answers", 1, LIMIT);
    let removed = request(site.address(), "DELETE", "/api/documents/d1?wait=true", &[], b"");
    assert_eq!(removed.status, 200, "{removed:?}");
    let far = json!({"prefetch": {"query": "berth", "using": "bm25"}, "query": "berth", "using": "far"});
    drive::until(|| {
        let answer = site.post("/api/query", &far).json();
        assert_eq!(answer["degraded"][0]["stage"], "far", "{answer}");
        Look::at(&site).sum("freshet_rerank_circuit_open") == Some(1.0)
    });
    // A file where the folder is to be.
    let snapshots = folder.path().join("snapshots");
    let mut aside = 0;
    loop {
        std::fs::rename(&snapshots, folder.path().join(format!("aside-{aside}"))).unwrap();
        if std::fs::write(&snapshots, "in the way").is_ok() {
            break;
        }
        aside += 1;
    }
    // Versions that are replaced are held for a moment.
    check(&site, &before, &METRICS, || site.documents(&documents(2..4)));
    std::fs::remove_file(&snapshots).unwrap();
    site.finish();
}

#[test]
fn metrics_of_a_schema_registry_move() {
    let fields = r#"[{"name": "id", "type": "string"}, {"name": "text", "type": "string"}]"#;
    let schema = format!(r#"{{"type": "record", "name": "document", "fields": {fields}}}"#);
    let registry = Registry::start(&[(7, &schema)]);
    let mut config = drive::config(2);
    let section = format!(
        "[documents]\nformat = \"avro\"\nschema_registry = {{ url = \"http://{}\" }}\n[vectors.bm25]\nkind = \"sparse\"\nmodel = \"bm25\"\n",
        registry.address()
    );
    config.documents =
        Config::parse(&section, &|_| None).unwrap_or_else(|errors| panic!("{errors}")).documents;
    let topics = drive::topics();
    let site = Site::with(Setup::load(config).unwrap(), &http(), topics.clone());
    let before = Look::at(&site);
    // The number of the schema, and two strings behind their lengths.
    let value = Some(b"\0\0\0\0\x07\x02a\x0aberth".to_vec());
    topics.produce("documents", 0, Record { value, ..Record::default() });
    check(&site, &before, &REGISTRY, || ());
    site.finish();
}

#[test]
fn metrics_of_kafka_move() {
    let Some(address) = broker("metrics_of_kafka_move") else { return };
    let mut config = drive::config(2);
    config.pipeline.name = unique("watched");
    let topics = &mut config.topics;
    let group = &config.pipeline.name;
    topics.documents = format!("{group}.documents").into();
    topics.queries = format!("{group}.queries");
    topics.answers = format!("{group}.answers");
    let connector: Arc<dyn Connector> = connect::open(&kafka(&address, true), group).unwrap();
    let site = Site::on(Setup::load(config).unwrap(), &http(), &connector, connect::Memory::new());
    let before = Look::at(&site);
    site.documents(&documents(0..DURING));
    check(&site, &before, &KAFKA, || ());
    site.finish();
}
