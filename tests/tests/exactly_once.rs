//! Killed at any moment, a pipeline answers every query once, and its answers never go back in time; queries of the
//! gateway beside them change nothing of that.
//!
//! The pipeline runs in a process of its own, which is this test binary again, and is killed while it answers. What it
//! left is read without Freshet's own readers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use freshet::run::{Progress, Until, run};
use freshet_config::{Config, Connector as ConnectorConfig};
use freshet_operators::clock;
use freshet_operators::connect::{self, Connector};
use freshet_operators::control::Control;
use freshet_operators::gateway::Gateway;
use freshet_schemas::{Answer, Record};
use freshet_tests::drive::{self, LIMIT, query_record};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use serde_json::json;

use crate::kafka::{broker, kafka, unique, write_to};

const KILLS: usize = 5;
/// What the process that is killed is told: how to reach the topics, and their prefix.
const CHILD: &str = "FRESHET_TEST_PIPELINE";

/// Where a pipeline's topics are: a broker, or a directory.
fn connector(place: &str) -> ConnectorConfig {
    match place.strip_prefix("kafka:") {
        Some(broker) => kafka(broker, true),
        None => ConnectorConfig::Files { directory: place.into() },
    }
}

fn config(place: &str, prefix: &str) -> Config {
    let mut config = drive::config(2);
    config.pipeline.name = prefix.to_owned();
    config.topics.documents = format!("{prefix}.documents").into();
    config.topics.queries = format!("{prefix}.queries");
    config.topics.answers = format!("{prefix}.answers");
    config.connector = connector(place);
    config
}

/// Does nothing in a run of all tests; it is the process that is killed.
#[test]
fn process_that_is_killed() {
    let Ok(told) = std::env::var(CHILD) else { return };
    let (prefix, place) = told.split_once('|').unwrap();
    let config = config(place, prefix);
    let connector = connect::open(&config.connector, prefix).unwrap();
    let setup = freshet::setup::Setup::load(config).unwrap().with_gateway();
    ask_beside(setup.gateway.as_ref().unwrap(), 8);
    run(setup, connector, Until::Stopped, &Arc::new(Control::default()), &Arc::new(Progress::default()))
        .unwrap();
}

/// Keeps so many queries of the gateway open, each asked again when it is answered: they are in nobody's way.
fn ask_beside(gateway: &Arc<Gateway>, open: usize) {
    fn ask(gateway: &Arc<Gateway>, id: usize) {
        let query = json!({"id": format!("g-{id}"), "text": "berth of the ship", "limit": 2});
        let again = Arc::clone(gateway);
        let reply = move |answer: Answer| {
            assert!(answer.error.is_none(), "{answer:?}");
            ask(&again, id);
        };
        // What is asked last is refused when the run ends.
        let _ = gateway.ask(query_record(&query), Box::new(reply));
    }
    (0..open).for_each(|id| ask(gateway, id));
}

/// A running pipeline; killed when dropped.
struct Victim(Child);

impl Victim {
    fn start(place: &str, prefix: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["exactly_once::process_that_is_killed", "--exact", "--nocapture"]);
        command.env(CHILD, format!("{prefix}|{place}")).stdout(Stdio::null());
        Self(command.spawn().unwrap())
    }

    fn check(&mut self) {
        let ended = self.0.try_wait().unwrap();
        assert!(ended.is_none(), "the pipeline ended by itself: {ended:?}");
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // SIGKILL.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Small steps that look random and are the same again for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

/// Writes documents and queries until told to end; returns the ids of the queries.
fn ask_on(connector: &dyn Connector, config: &Config, end: &AtomicBool) -> BTreeSet<String> {
    let mut asked = BTreeSet::new();
    let mut sink = connector.sink(Arc::new(|| {})).unwrap();
    for round in 0.. {
        let documents = (0..10).map(|number| {
            let id = format!("d-{}", (round * 10 + number) % 200);
            let text = format!("harbour berth {round} of the ship {number}");
            let value = json!({"id": id, "text": text, "stars": 3}).to_string();
            Record { key: Some(id.into_bytes()), value: Some(value.into_bytes()), ..Record::default() }
        });
        write_to(&mut *sink, config.topics.documents.first(), documents.collect());
        let queries = (0..40).map(|number| {
            let id = format!("q-{round}-{number}");
            let mut query = json!({"id": id, "text": "berth of the ship", "limit": 2});
            // Some wait and are overtaken; some are refused.
            match number % 8 {
                0 => query["consistency"] = "strong".into(),
                1 if round % 5 == 0 => query["nonsense"] = 1.into(),
                _ => {}
            }
            asked.insert(id);
            query_record(&query)
        });
        let queries: Vec<Record> = queries.collect();
        write_to(&mut *sink, &config.topics.queries, queries);
        if end.load(Ordering::Relaxed) {
            return asked;
        }
        // A burst, then a trickle: the check reads all answers again and again.
        std::thread::sleep(Duration::from_millis(if round < 100 { 10 } else { 100 }));
    }
    asked
}

/// The committed answers in order, by a consumer that knows nothing of Freshet.
fn committed_answers(place: &str, topic: &str) -> Vec<Answer> {
    let Some(broker) = place.strip_prefix("kafka:") else {
        let text = std::fs::read_to_string(Path::new(place).join(format!("{topic}.jsonl"))).unwrap();
        // An append may be under way.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        return whole.lines().map(|line| parse(line.as_bytes())).collect();
    };
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker).set("group.id", unique("independent"));
    config.set("isolation.level", "read_committed").set("enable.partition.eof", "true");
    config.set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create().unwrap();
    let mut all = TopicPartitionList::new();
    all.add_partition_offset(topic, 0, Offset::Beginning).unwrap();
    consumer.assign(&all).unwrap();
    let deadline = Instant::now() + LIMIT;
    let mut answers = Vec::new();
    // While answers keep coming there is no end.
    let (_, end) = consumer.fetch_watermarks(topic, 0, LIMIT).unwrap();
    loop {
        match consumer.poll(Duration::from_secs(1)) {
            Some(Ok(message)) if message.offset() >= end => return answers,
            Some(Ok(message)) => answers.push(parse(message.payload().unwrap())),
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) => return answers,
            Some(Err(error)) => panic!("{error}"),
            None => assert!(Instant::now() < deadline, "the answers have no end"),
        }
    }
}

/// An answer, in a topic or in a file, where a line may hold key, value and headers.
fn parse(bytes: &[u8]) -> Answer {
    let value: serde_json::Value = serde_json::from_slice(bytes).unwrap();
    serde_json::from_value(value.get("value").cloned().unwrap_or(value)).unwrap()
}

fn answered_by(answers: &[Answer]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for answer in answers {
        *counts.entry(answer.id.as_str()).or_default() += 1;
    }
    counts
}

fn is_answered_once(place: &str, prefix: &str) {
    let seed = clock::now_us() | 1;
    eprintln!("seed {seed}");
    let mut dice = Dice(seed);
    let config = config(place, prefix);
    let topics = &config.topics;
    let connector = connect::open(&config.connector, "writer").unwrap();
    connector.prepare(&[topics.documents.first(), &topics.queries], &[]).unwrap();
    if let Some(broker) = place.strip_prefix("kafka:") {
        // One partition, so that its order is the order of commits.
        let ConnectorConfig::Kafka(settings) = kafka(broker, true) else { panic!("not Kafka") };
        let one = freshet_config::Kafka { partitions: 1.try_into().unwrap(), ..settings };
        connect::open(&ConnectorConfig::Kafka(one), "one").unwrap().prepare(&[], &[&topics.answers]).unwrap();
    } else {
        connector.prepare(&[], &[&topics.answers]).unwrap();
    }
    let end = AtomicBool::new(false);
    let (asked, starts) = std::thread::scope(|scope| {
        let asking = scope.spawn(|| ask_on(&*connector, &config, &end));
        let mut starts: Vec<u64> = Vec::new();
        for _ in 0..KILLS {
            let before = committed_answers(place, &topics.answers).len();
            starts.push(clock::now_us() / 1000);
            let mut victim = Victim::start(place, prefix);
            let deadline = Instant::now() + LIMIT;
            // Some are killed while they start.
            let patience = dice.roll(4);
            while patience > 0 && committed_answers(place, &topics.answers).len() == before {
                victim.check();
                assert!(Instant::now() < deadline, "no answers come");
            }
            std::thread::sleep(Duration::from_micros(dice.roll(500_000)));
            victim.check();
        }
        end.store(true, Ordering::Relaxed);
        (asking.join().unwrap(), starts)
    });
    let last = clock::now_us() / 1000;
    let mut victim = Victim::start(place, prefix);
    let deadline = Instant::now() + LIMIT;
    let mut answers = Vec::new();
    while answered_by(&answers).len() < asked.len() {
        victim.check();
        assert!(Instant::now() < deadline, "{} of {} answered", answers.len(), asked.len());
        answers = committed_answers(place, &topics.answers);
    }
    // What came twice might still come.
    std::thread::sleep(Duration::from_secs(1));
    drop(victim);
    let answers = committed_answers(place, &topics.answers);
    let counts = answered_by(&answers);
    let twice: Vec<_> = counts.iter().filter(|(_, count)| **count != 1).collect();
    assert!(twice.is_empty(), "answered more than once: {twice:?}");
    assert!(counts.keys().copied().eq(asked.iter().map(String::as_str)));

    // No answer of a run reflects less than any answer of the runs before it.
    let mut reflected: BTreeMap<i32, i64> = BTreeMap::new();
    let mut runs = 0;
    let bounds: Vec<u64> = starts.into_iter().chain([last, u64::MAX]).collect();
    for bound in bounds.windows(2) {
        let in_run = |answer: &&Answer| answer.time.is_some_and(|time| (bound[0]..bound[1]).contains(&time));
        let of_run: Vec<&Answer> = answers.iter().filter(in_run).collect();
        runs += usize::from(!of_run.is_empty());
        for answer in &of_run {
            let as_of = &answer.as_of["documents"];
            for (partition, last) in &reflected {
                let now = as_of.get(partition);
                assert!(now >= Some(last), "{}: {now:?} after {last} in partition {partition}", answer.id);
            }
        }
        for answer in of_run {
            connect::raise(&mut reflected, &answer.as_of["documents"]);
        }
    }
    eprintln!("{} queries, {runs} runs with answers", asked.len());
    assert!(runs >= 2 && asked.len() > 20);
}

#[test]
fn a_killed_pipeline_on_kafka_answers_every_query_once() {
    let Some(broker) = broker("a_killed_pipeline_on_kafka_answers_every_query_once") else { return };
    is_answered_once(&format!("kafka:{broker}"), &unique("exactly"));
}

#[test]
fn a_killed_pipeline_on_files_answers_every_query_once() {
    let directory = tempfile::tempdir().unwrap();
    is_answered_once(directory.path().to_str().unwrap(), "exactly");
}
