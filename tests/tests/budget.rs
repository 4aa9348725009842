//! Memory stays bounded however much is waiting: shown on the budget, with a model that does not run until it is let.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use freshet::setup::Setup;
use freshet_operators::embed::Backend;
use freshet_operators::embed::hashing::{Gate, HashingModel};
use freshet_schemas::Record;
use freshet_tests::drive::{Bench, config};
use serde_json::json;

const WAITING: usize = 100_000;

#[test]
fn a_hundred_thousand_waiting_documents_stay_in_their_topic() {
    let gate = Gate::closed();
    let model: Arc<dyn Backend> = Arc::new(HashingModel::gated(64, gate.clone()));
    let mut config = config(2);
    config.pipeline.in_flight_records_max = 64.try_into().unwrap();
    config.pipeline.tick_records_max = 16.try_into().unwrap();
    // Heads of three documents, as the other tests have, are not for a hundred thousand.
    config.indexing = freshet_config::Indexing::default();
    let setup = Setup::with_models(config, vec![("hashing-64".into(), model)]).unwrap();
    let bench = Bench::start(&setup);
    for number in 0..WAITING {
        let id = format!("d{number}");
        let value = json!({"id": id, "text": format!("harbour {}", number % 7)}).to_string().into_bytes();
        let record = Record { key: Some(id.into_bytes()), value: Some(value), ..Record::default() };
        bench.memory.produce("documents", i32::try_from(number % 3).unwrap(), record);
    }
    // Queries by vector need no model: they are answered while nothing can be embedded.
    let answer = bench.ask(&json!({"id": "by vector", "query": [1, 0, 0, 0], "using": "given"}));
    assert_eq!(answer["points"], json!([]));
    assert!(
        bench.setup.gauge.records_peak.load(Ordering::SeqCst) <= 64,
        "two workers, 64 records each, none more"
    );
    gate.allow(usize::MAX);
    let answer = bench.ask(&json!({"id": "all", "query": {"text": "harbour"}, "using": "bm25", "limit": 1,
        "consistency": "strong"}));
    let as_of = answer["as_of"]["documents"].as_object().unwrap();
    let read: i64 = as_of.values().map(|last| last.as_i64().unwrap() + 1).sum();
    assert_eq!(read, i64::try_from(WAITING).unwrap());
    assert!(bench.setup.gauge.records_peak.load(Ordering::SeqCst) <= 64);
    bench.finish();
}
