//! The pipeline on a real Kafka broker, and the same records through every connector.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use freshet::run::{Progress, Until, run};
use freshet_config::{Connector as ConnectorConfig, Kafka};
use freshet_operators::connect::{self, Connector, Sink};
use freshet_operators::control::Control;
use freshet_schemas::{Answer, Record};
use freshet_tests::drive::{self, LIMIT, query_record, timeless};
use freshet_tests::script;

/// The broker of the test run. Without one a test is skipped by name; on CI it fails.
pub(crate) fn broker(test: &str) -> Option<String> {
    let address = std::env::var("KAFKA_BOOTSTRAP_SERVERS").ok();
    if address.is_none() {
        assert!(std::env::var_os("CI").is_none(), "{test}: KAFKA_BOOTSTRAP_SERVERS is not set");
        eprintln!("SKIPPED {test}: KAFKA_BOOTSTRAP_SERVERS is not set");
    }
    address
}

pub(crate) fn kafka(bootstrap_servers: &str, create_topics: bool) -> ConnectorConfig {
    ConnectorConfig::Kafka(Kafka {
        create_topics,
        partitions: 3.try_into().unwrap(),
        ..Kafka::at(bootstrap_servers)
    })
}

/// A name that no other test or run uses.
pub(crate) fn unique(name: &str) -> String {
    format!("{name}-{}-{}", std::process::id(), freshet_operators::clock::now_us())
}

/// The test configuration with topics of its own.
fn config(workers: usize) -> freshet_config::Config {
    let mut config = drive::config(workers);
    let prefix = unique("t");
    config.pipeline.name = prefix.clone();
    config.topics.documents = format!("{prefix}.documents").into();
    config.topics.queries = format!("{prefix}.queries");
    config.topics.answers = format!("{prefix}.answers");
    config
}

/// Writes records and waits until all are settled.
fn write(connector: &dyn Connector, topic: &str, records: Vec<Record>) {
    write_to(&mut *connector.sink(Arc::new(|| {})).unwrap(), topic, records);
}

/// Writes records and waits until all are settled.
pub(crate) fn write_to(sink: &mut dyn Sink, topic: &str, records: Vec<Record>) {
    let (deadline, count) = (Instant::now() + LIMIT, records.len());
    let mut settled = 0;
    let mut queue: std::collections::VecDeque<Record> = records.into();
    while settled < count {
        while let Some(record) = queue.pop_front() {
            if let Err(record) = sink.send(topic, record, 0) {
                queue.push_front(record);
                break;
            }
        }
        for (_, fate) in sink.settled() {
            fate.unwrap();
            settled += 1;
        }
        assert!(Instant::now() < deadline, "{settled} of {count} records written to {topic}");
        std::thread::yield_now();
    }
}

/// Reads everything a topic holds now.
fn read(connector: &dyn Connector, topic: &str) -> Vec<Record> {
    let ends = connector.end_offsets(topic).unwrap();
    let partitions: Vec<i32> = ends.keys().copied().collect();
    let mut source = connector.source(topic, &partitions, &BTreeMap::new(), Arc::new(|| {})).unwrap();
    let (deadline, mut records) = (Instant::now() + LIMIT, Vec::new());
    loop {
        let polled = source.poll(1000, 1 << 20).unwrap();
        records.extend(polled.records);
        if ends.iter().all(|(p, end)| polled.positions.get(p).is_some_and(|next| next >= end)) {
            return records;
        }
        assert!(Instant::now() < deadline, "{} records read from {topic}", records.len());
        std::thread::yield_now();
    }
}

/// Reads a topic until it holds so many records: a transaction is committed a moment before readers see it.
pub(crate) fn read_all(connector: &dyn Connector, topic: &str, count: usize) -> Vec<Record> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let records = read(connector, topic);
        if records.len() >= count || Instant::now() >= deadline {
            return records;
        }
    }
}

/// Documents of a random script (refused ones and deletes among them), then queries that want all of them.
fn records() -> (Vec<Record>, Vec<Record>) {
    let script = script::random(7, 20);
    let documents =
        script.iter().flat_map(|step| step.documents.iter().map(|(_, record)| record.clone())).collect();
    let queries = script.iter().flat_map(|step| &step.queries).map(|query| {
        let mut query = query.clone();
        query["consistency"] = "strong".into();
        let headers = vec![("traceparent".to_owned(), Some(b"00-1".to_vec())), ("empty".to_owned(), None)];
        Record { headers, ..query_record(&query) }
    });
    (documents, queries.collect())
}

/// Runs a pipeline over the records until it has caught up; answers by id, without offsets.
fn answers_of(connector: &Arc<dyn Connector>, config: freshet_config::Config) -> Vec<String> {
    let topics = config.topics.clone();
    let (documents, queries) = records();
    let outputs = [topics.answers.as_str()];
    connector.prepare(&[topics.documents.first(), &topics.queries], &outputs).unwrap();
    write(&**connector, topics.documents.first(), documents);
    let asked = queries.len();
    write(&**connector, &topics.queries, queries);
    let setup = freshet::setup::Setup::load(config).unwrap();
    run(
        setup,
        Arc::clone(connector),
        Until::CaughtUp,
        &Arc::new(Control::default()),
        &Arc::new(Progress::default()),
    )
    .unwrap();
    let records = read_all(&**connector, &topics.answers, asked);
    let mut answers: Vec<Answer> = records
        .iter()
        .map(|record| {
            let traceparent = ("traceparent".to_owned(), Some(b"00-1".to_vec()));
            assert_eq!(
                record.headers,
                [traceparent, ("empty".to_owned(), None)],
                "headers come back as they were"
            );
            let answer: Answer = serde_json::from_slice(record.value.as_deref().unwrap()).unwrap();
            assert_eq!(record.key.as_deref(), Some(answer.id.as_bytes()));
            answer
        })
        .collect();
    answers.sort_by(|a, b| a.id.cmp(&b.id));
    let without_offsets = answers.into_iter().map(|mut answer| {
        answer.as_of.clear();
        timeless(answer)
    });
    without_offsets.collect()
}

#[test]
fn kafka_files_and_memory_give_the_same_answers() {
    let memory: Arc<dyn Connector> = Arc::new(connect::Memory::new());
    let expected = answers_of(&memory, config(1));
    assert!(expected.len() > 20);
    let directory = tempfile::tempdir().unwrap();
    let files: Arc<dyn Connector> = Arc::new(connect::Files::new(directory.path(), "test"));
    assert_eq!(answers_of(&files, config(2)), expected, "files");
    let Some(broker) = broker("kafka_files_and_memory_give_the_same_answers") else { return };
    for workers in [1, 2] {
        let config = config(workers);
        let kafka = connect::open(&kafka(&broker, true), &config.pipeline.name).unwrap();
        let topics = config.topics.clone();
        assert_eq!(answers_of(&kafka, config), expected, "Kafka, {workers} workers");
        let refused = read_all(&*kafka, &format!("{}.dlq", topics.documents.first()), 1);
        assert!(
            refused.iter().all(|letter| letter.value.as_deref() == Some(b"{\"id\": ")) && !refused.is_empty()
        );
        let committed = kafka.committed(&topics.queries).unwrap();
        assert_eq!(committed, kafka.end_offsets(&topics.queries).unwrap(), "the group's lag is zero");
    }
}

#[test]
fn a_second_run_answers_only_what_is_new() {
    let Some(broker) = broker("a_second_run_answers_only_what_is_new") else { return };
    let config = config(2);
    let topics = config.topics.clone();
    let kafka = connect::open(&kafka(&broker, true), &config.pipeline.name).unwrap();
    let first = answers_of(&kafka, config.clone()).len();
    let again = serde_json::json!({"id": "again", "text": "harbour", "consistency": "strong"});
    write(&*kafka, &topics.queries, vec![query_record(&again)]);
    let letters = format!("{}.dlq", topics.documents.first());
    let refused = read(&*kafka, &letters).len();
    let setup = freshet::setup::Setup::load(config).unwrap();
    run(
        setup,
        Arc::clone(&kafka),
        Until::CaughtUp,
        &Arc::new(Control::default()),
        &Arc::new(Progress::default()),
    )
    .unwrap();
    assert_eq!(read_all(&*kafka, &topics.answers, first + 1).len(), first + 1);
    assert_eq!(read(&*kafka, &letters).len(), refused, "dead letters are not written again");
}

#[test]
fn missing_topics_are_named() {
    let Some(broker) = broker("missing_topics_are_named") else { return };
    let config = config(1);
    let kafka = connect::open(&kafka(&broker, false), &config.pipeline.name).unwrap();
    let topics = config.topics.clone();
    let setup = freshet::setup::Setup::load(config).unwrap();
    let error =
        run(setup, kafka, Until::CaughtUp, &Arc::new(Control::default()), &Arc::new(Progress::default()))
            .unwrap_err();
    let text = error.to_string();
    for topic in [topics.documents.first(), &topics.queries, &topics.answers] {
        assert!(text.contains(topic), "{text} does not name {topic}");
    }
    assert!(text.contains("create_topics"), "{text} says what to do");
}

#[test]
fn a_running_pipeline_answers_within_moments() {
    let Some(broker) = broker("a_running_pipeline_answers_within_moments") else { return };
    let config = config(2);
    let topics = config.topics.clone();
    let kafka = connect::open(&kafka(&broker, true), &config.pipeline.name).unwrap();
    let setup = freshet::setup::Setup::load(config).unwrap();
    kafka.prepare(&[topics.documents.first(), &topics.queries, &topics.answers], &[]).unwrap();
    let pipeline = drive::Pipeline::start(&setup, &kafka);
    let (documents, _) = records();
    write(&*kafka, topics.documents.first(), documents);
    let question = freshet::ask::Question::text("harbour berth", None, 5).with_consistency("strong");
    let answer = freshet::ask::ask(&kafka, &topics, &question, Duration::from_secs(60)).unwrap();
    assert!(answer.error.is_none() && !answer.points.is_empty());
    let ends = kafka.end_offsets(topics.documents.first()).unwrap();
    let expected: BTreeMap<i32, i64> =
        ends.into_iter().map(|(partition, end)| (partition, end - 1)).collect();
    assert_eq!(answer.as_of["documents"], expected);
    pipeline.finish();
}
