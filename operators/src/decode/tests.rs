use timely::dataflow::operators::Capture;
use timely::dataflow::operators::capture::Extract;
use timely::dataflow::operators::vec::{Map, ToStream};

use super::*;
use crate::gateway::GATEWAY;

fn origin(partition: Partition, offset: Offset) -> Origin {
    Origin { worker: 0, partition, offset }
}

fn record(value: &str) -> Record {
    Record { value: Some(value.as_bytes().to_vec()), ..Record::default() }
}

/// What becomes of queries: ids, ascending, with whether they can be run, and dead letters with their offsets.
fn queries(records: Vec<(Origin, Record)>) -> (Vec<(String, bool)>, Vec<(String, Offset)>) {
    let (decoded, letters) = timely::execute_directly(move |worker| {
        worker.dataflow::<Time, _, _>(|scope| {
            let records: Vec<_> = records.into_iter().map(|(origin, record)| (origin, 0, record)).collect();
            let letters = DeadLetters::new("queries".into(), BTreeMap::new());
            let limits = freshet_config::Config::default().queries.limits;
            let (queries, refused) = decode_queries(records.to_stream(scope), limits, letters);
            let queries = queries.map(|query| (query.id, query.query.is_ok()));
            let refused = refused.map(|letter| (letter.topic, letter.origin.offset));
            (queries.capture(), refused.capture())
        })
    });
    let decoded = decoded.extract().into_iter().flat_map(|(_, queries)| queries);
    let letters = letters.extract().into_iter().flat_map(|(_, letters)| letters);
    (decoded.collect(), letters.collect())
}

#[test]
fn nothing_is_dropped() {
    let wrong = r#"{"id": "wrong", "text": "x", "limits": 3}"#;
    let (decoded, letters) = queries(vec![
        (origin(0, 1), record(r#"{"id": "q", "text": "x"}"#)),
        (origin(0, 2), record(wrong)),
        (origin(0, 3), record("no JSON")),
        (origin(GATEWAY, 4), record("no JSON")),
    ]);
    // A query with an id has an answer, and whoever asks from within the process has one in any case.
    let expected = [("q", true), ("unnamed-0-4", false), ("wrong", false)];
    assert_eq!(decoded, expected.map(|(id, runs)| (id.to_owned(), runs)));
    assert_eq!(letters, [("queries.dlq".to_owned(), 3)]);
}

#[test]
fn letters_that_an_earlier_run_has_written_are_not_written_again() {
    let letters = DeadLetters::new("documents".into(), BTreeMap::from([(0, 5)]));
    let fault = Fault::whole(freshet_schemas::FaultCode::NotJson, "broken");
    let letter =
        |partition, offset| letters.letter(origin(partition, offset), &record("x"), "decode", &fault);
    assert!(letter(0, 4).is_none());
    let written = letter(0, 5).expect("it is new");
    assert_eq!(written.topic, "documents.dlq");
    assert_eq!(written.record.value, record("x").value);
    assert!(letter(1, 0).is_some(), "partitions are apart");
}
