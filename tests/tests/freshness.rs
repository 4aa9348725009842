//! What a query sees: `latest`, `strong`, at least these offsets; headers; and an end to waiting.

use std::time::Duration;

use freshet_schemas::Record;
use freshet_tests::drive::{Bench, setup};
use serde_json::json;

#[test]
fn strong_reads_everything_the_topic_held() {
    let bench = Bench::start(&setup(2));
    for number in 0..50 {
        bench.document(&json!({"id": format!("d{number}"), "text": format!("harbour {number}")}));
        let id = format!("q{number}");
        let answer = bench.ask(&json!({"id": id, "text": "harbour", "limit": 100, "consistency": "strong",
            "plan": "bm25"}));
        assert_eq!(
            answer["points"].as_array().unwrap().len(),
            number + 1,
            "after {number} documents: {answer}"
        );
    }
    bench.finish();
}

#[test]
fn a_query_waits_for_the_offsets_it_names_and_latest_does_not() {
    let bench = Bench::start(&setup(2));
    bench.memory.hold("documents", 0, 1);
    for id in ["a", "b"] {
        let value = json!({"id": id, "text": "harbour"}).to_string().into_bytes();
        bench.memory.produce(
            "documents",
            0,
            Record { key: Some(id.into()), value: Some(value), ..Record::default() },
        );
    }
    let wanted = json!({"documents": {"0": 1}});
    bench.query(&json!({"id": "waits", "text": "harbour", "consistency": wanted, "plan": "bm25"}));
    let sees_a =
        json!({"id": "sees a", "text": "harbour", "consistency": {"documents": {"0": 0}}, "plan": "bm25"});
    let first = bench.ask(&sees_a);
    assert_eq!(first["as_of"], json!({"documents": {"0": 0, "1": -1, "2": -1}}));
    assert_eq!(first["points"].as_array().unwrap().len(), 1);
    let latest = bench.ask(&json!({"id": "latest", "text": "harbour", "plan": "bm25"}));
    assert_eq!(latest["as_of"], first["as_of"]);
    assert_eq!(bench.memory.len("answers"), 2, "the first query still waits");
    bench.memory.release("documents", 0);
    let last = bench.answer("waits");
    assert_eq!(last["as_of"], json!({"documents": {"0": 1, "1": -1, "2": -1}}));
    assert_eq!(last["points"].as_array().unwrap().len(), 2);
    bench.finish();
}

#[test]
fn nobody_waits_forever() {
    let mut setup = setup(1);
    let mut config = (*setup.config).clone();
    config.queries.consistency_timeout = Duration::from_millis(50);
    setup.config = config.into();
    let bench = Bench::start(&setup);
    let answer = bench.ask(&json!({"id": "q", "text": "x", "consistency": {"documents": {"2": 7}}}));
    assert_eq!(answer["error"]["code"], "consistency_timeout");
    bench.finish();
}

#[test]
fn headers_of_the_query_come_back_with_the_answer() {
    let bench = Bench::start(&setup(1));
    let headers = vec![("traceparent".to_owned(), Some(b"00-abc".to_vec())), ("x".to_owned(), None)];
    let value = json!({"id": "q", "text": "harbour"}).to_string().into_bytes();
    let record = Record {
        key: Some(b"q".to_vec()),
        value: Some(value),
        headers: headers.clone(),
        ..Record::default()
    };
    bench.memory.produce("queries", 0, record);
    bench.answer("q");
    assert_eq!(bench.memory.records("answers")[0].headers, headers);
    assert_eq!(bench.memory.records("answers")[0].key.as_deref(), Some(&b"q"[..]));
    bench.finish();
}
