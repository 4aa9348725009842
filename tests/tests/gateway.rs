//! Queries through the gateway: the same answers as through the topic, and nothing of them in the topics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use freshet::run::{Progress, Until, run};
use freshet::setup::Setup;
use freshet_operators::connect::Connector;
use freshet_operators::control::Control;
use freshet_operators::gateway::{Gateway, Refused};
use freshet_schemas::{Answer, FaultCode, Record};
use freshet_tests::drive::{LIMIT, Pipeline, answers, query_record, setup, timeless, topics, until};
use freshet_tests::oracle::Oracle;
use freshet_tests::script;
use serde_json::{Value, json};

use crate::oracle::{by_id, check};

fn gateway(setup: &Setup) -> &Gateway {
    setup.gateway.as_ref().unwrap()
}

fn ask(setup: &Setup, record: Record) -> Receiver<Answer> {
    let (sender, answer) = channel();
    gateway(setup).ask(record, Box::new(move |answer| drop(sender.send(answer)))).unwrap();
    answer
}

fn wait(answer: &Receiver<Answer>) -> Answer {
    answer.recv_timeout(LIMIT).unwrap()
}

/// The same query under another id, so that both can be told apart.
fn renamed(query: &Value, prefix: &str) -> Value {
    let mut query = query.clone();
    query["id"] = format!("{prefix}{}", query["id"].as_str().unwrap()).into();
    query
}

#[test]
fn both_ways_give_the_same_bytes_at_the_same_time() {
    for seed in 200..204 {
        let script = script::random(seed, 10);
        for workers in [1, 2, 4] {
            let setup = setup(workers).with_gateway();
            let memory = topics();
            let connector: Arc<dyn Connector> = Arc::new(memory.clone());
            let pipeline = Pipeline::start(&setup, &connector);
            let mut asked = 0;
            let mut of_gateway = BTreeMap::new();
            for step in &script {
                for (partition, record) in &step.documents {
                    memory.produce("documents", *partition, record.clone());
                }
                let strong = step.queries.iter().map(|query| {
                    let mut query = query.clone();
                    query["consistency"] = "strong".into();
                    query
                });
                let strong: Vec<Value> = strong.collect();
                let pending: Vec<_> = strong.iter().map(|query| ask(&setup, query_record(query))).collect();
                for query in &strong {
                    memory.produce("queries", 0, query_record(query));
                }
                asked += strong.len();
                memory.wait_for("answers", asked, LIMIT);
                of_gateway
                    .extend(pending.iter().map(wait).map(|answer| (answer.id.clone(), timeless(answer))));
            }
            pipeline.finish();
            let of_topic = answers(&memory);
            assert_eq!(of_topic.len(), asked, "answers of the gateway are not in the topic");
            for answer in of_topic {
                let id = answer.id.clone();
                assert_eq!(of_gateway[&id], timeless(answer), "seed {seed}, {workers} workers, query {id}");
            }
        }
    }
}

#[test]
fn answers_while_documents_arrive_are_those_of_their_as_of() {
    for seed in 300..304 {
        let script = script::random(seed, 30);
        let queries = by_id(&script);
        for workers in [1, 2, 4] {
            let setup = setup(workers).with_gateway();
            let memory = topics();
            let connector: Arc<dyn Connector> = Arc::new(memory.clone());
            let pipeline = Pipeline::start(&setup, &connector);
            let mut pending = Vec::new();
            for step in &script {
                for (partition, record) in &step.documents {
                    memory.produce("documents", *partition, record.clone());
                }
                for query in &step.queries {
                    pending.push((query.clone(), ask(&setup, query_record(query))));
                    memory.produce("queries", 0, query_record(&renamed(query, "topic-")));
                }
            }
            memory.wait_for("answers", queries.len(), LIMIT);
            let found: Vec<(Value, Answer)> =
                pending.into_iter().map(|(query, answer)| (query, wait(&answer))).collect();
            pipeline.finish();
            let oracle = Oracle::new(&setup, memory.records("documents"));
            for (query, answer) in &found {
                let context = format!("seed {seed}, {workers} workers, query {}", answer.id);
                check(&oracle, &setup, query, answer, &context);
            }
            for answer in answers(&memory) {
                let context = format!("seed {seed}, {workers} workers, query {}", answer.id);
                let query = &queries[answer.id.strip_prefix("topic-").unwrap()];
                check(&oracle, &setup, query, &answer, &context);
            }
        }
    }
}

#[test]
fn what_cannot_be_answered_is_answered_with_an_error_and_leaves_no_dead_letter() {
    let setup = setup(2).with_gateway();
    let memory = topics();
    let connector: Arc<dyn Connector> = Arc::new(memory.clone());
    let pipeline = Pipeline::start(&setup, &connector);
    let value = |bytes: &[u8]| Record { value: Some(bytes.to_vec()), ..Record::default() };
    let named = |bytes: &[u8]| Record { key: Some(b"k".to_vec()), ..value(bytes) };
    for (record, code) in [
        (value(b"{\"id\": "), FaultCode::NotJson),
        (value(b"\xff\xfe"), FaultCode::NotUtf8),
        (value(b"{\"text\": \"x\"}"), FaultCode::MissingId),
        (Record::default(), FaultCode::NotJson),
        (named(b"[]"), FaultCode::NotJson),
        (named(b"{\"text\": \"x\", \"plan\": \"none\"}"), FaultCode::UnknownPlan),
        (named(b"{\"text\": \"x\", \"limit\": 1e300}"), FaultCode::InvalidValue),
    ] {
        let answer = wait(&ask(&setup, record.clone()));
        assert_eq!(answer.error.as_ref().map(|fault| fault.code), Some(code), "{record:?}: {answer:?}");
        assert!(!answer.id.is_empty());
    }
    // An id may be used again: the answer goes to who asked.
    for _ in 0..3 {
        let answer = wait(&ask(&setup, query_record(&json!({"id": "again", "text": "harbour"}))));
        assert_eq!((answer.id.as_str(), answer.error), ("again", None));
    }
    memory.produce("queries", 0, query_record(&json!({"id": "again", "text": "harbour"})));
    memory.wait_for("answers", 1, LIMIT);
    pipeline.finish();
    assert_eq!(memory.len("queries.dlq"), 0);
    assert_eq!(answers(&memory)[0].error, None, "the gateway's queries are no duplicates of the topic's");
}

#[test]
fn a_run_that_ends_answers_what_it_has_taken_and_refuses_the_rest() {
    let setup = setup(2).with_gateway();
    let memory = topics();
    let connector: Arc<dyn Connector> = Arc::new(memory.clone());
    memory.hold("documents", 0, 0);
    memory.produce("documents", 0, query_record(&json!({"id": "held", "text": "harbour"})));
    let pipeline = Pipeline::start(&setup, &connector);
    let strong = json!({"id": "waits", "text": "harbour", "consistency": "strong", "plan": "bm25"});
    let waits = ask(&setup, query_record(&strong));
    // Taken, and waiting for the document.
    let latest = json!({"id": "latest", "text": "harbour", "plan": "bm25"});
    assert!(wait(&ask(&setup, query_record(&latest))).error.is_none());
    until(|| gateway(&setup).open() == 1 && gateway(&setup).waiting() == 0);
    pipeline.control().drain();
    assert!(waits.recv_timeout(Duration::from_millis(50)).is_err(), "the document is not there yet");
    // The document comes; only then the run can end.
    memory.release("documents", 0);
    let answer = wait(&waits);
    assert_eq!((answer.error, answer.points.len()), (None, 1));
    pipeline.finish();
    let refused = gateway(&setup).ask(query_record(&latest), Box::new(|_| {}));
    assert_eq!(refused, Err(Refused::Closed));
}

#[test]
fn a_query_that_waits_too_long_is_told_so() {
    let mut config = freshet_tests::drive::config(1);
    config.queries.consistency_timeout = Duration::from_millis(50);
    let setup = Setup::load(config).unwrap().with_gateway();
    let connector: Arc<dyn Connector> = Arc::new(topics());
    let pipeline = Pipeline::start(&setup, &connector);
    let never = json!({"id": "never", "text": "harbour", "consistency": {"documents": {"0": 9}}});
    let answer = wait(&ask(&setup, query_record(&never)));
    assert_eq!(answer.error.map(|fault| fault.code), Some(FaultCode::ConsistencyTimeout));
    pipeline.finish();
}

#[test]
fn a_run_that_stops_at_once_lets_go_of_its_queries() {
    let setup = setup(1).with_gateway();
    let connector: Arc<dyn Connector> = Arc::new(topics());
    let control = Arc::new(Control::default());
    let running = std::thread::spawn({
        let (setup, control) = (setup.clone(), Arc::clone(&control));
        move || run(setup, connector, Until::Stopped, &control, &Arc::new(Progress::default()))
    });
    let never = json!({"id": "never", "text": "harbour", "consistency": {"documents": {"0": 9}}});
    let answer = ask(&setup, query_record(&never));
    until(|| gateway(&setup).open() == 1);
    control.stop();
    running.join().unwrap().unwrap();
    assert!(answer.recv_timeout(LIMIT).is_err(), "nobody answers, and nobody waits for nothing");
}
