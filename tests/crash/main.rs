//! Kills the pipeline again and again, and proves that nobody can tell from the answers.
//!
//! A seeded producer writes upserts, deletes and queries; the pipeline is killed with SIGKILL at random moments and at
//! every labelled crash point, and started again with another number of workers. In the end every query has been answered
//! once; every answer equals the one computed from the log at its `as_of`; and the newest snapshot holds what the log says.
//!
//! `FRESHET_CRASH_KILLS` (24 unless set) and `FRESHET_CRASH_SEED` (printed) make it longer, and play it again.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use freshet::setup::Setup;
use freshet_config::{Config, StoreOptions};
use freshet_operators::connect::{self, Connector, Sink};
use freshet_operators::crash;
use freshet_operators::snapshot::{Store, answers as table, documents, inspect, list};
use freshet_operators::wake::block_on;
use freshet_schemas::{Answer, Query, Record};
use freshet_tests::drive::{self, query_record};
use freshet_tests::oracle::{Oracle, agree};
use freshet_tests::script::{self, Random};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use serde_json::Value;

/// Longest time the pipeline may take to catch up; only a failing test waits this long.
const LIMIT: Duration = Duration::from_secs(120);

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

/// The configuration of the killed pipeline: the test configuration on these topics, with snapshots all the time.
fn config(folder: &Path, connector: &str) -> String {
    let (before, rest) = drive::CONFIG.split_once("[connector]").unwrap();
    let after = &rest[rest.find('[').unwrap()..];
    let snapshots = folder.join("snapshots");
    format!(
        "{before}{connector}\n{after}\n[snapshots]\nstore = \"file://{}\"\ninterval = \"20ms\"\nkeep = 3\n\
         keep_for = \"1s\"\nanswers = true\n",
        snapshots.display()
    )
}

fn start(file: &Path, workers: u64, crash_at: Option<&str>, until_caught_up: bool) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_freshet"));
    command.arg("run").arg("--config").arg(file).args(["--workers", &workers.to_string()]);
    command.args(until_caught_up.then_some("--until-caught-up"));
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    match crash_at {
        Some(at) => command.env(crash::VARIABLE, at),
        None => command.env_remove(crash::VARIABLE),
    };
    command.spawn().expect("the binary starts")
}

/// Waits for the end of a process, which has so long; `false` if it still runs then.
fn ended(child: &mut Child, limit: Duration) -> bool {
    let end = Instant::now() + limit;
    while Instant::now() < end {
        if child.try_wait().expect("a status").is_some() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    false
}

/// Writes a record, and waits until it is there.
fn write(sink: &mut dyn Sink, topic: &str, record: Record) {
    let mut record = Some(record);
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(unsent) = record.take() {
            record = sink.send(topic, unsent, 0).err();
        }
        if let Some((_, fate)) = sink.settled().into_iter().next() {
            fate.expect("topics can be written");
            return;
        }
        assert!(Instant::now() < end, "topics can be written in time");
        std::thread::yield_now();
    }
}

/// A name for the pipeline of these topics.
fn name(connector: &str) -> String {
    let topic = connector.lines().find_map(|line| line.strip_prefix("answers = "));
    topic.map_or_else(|| "test".to_owned(), |topic| topic.trim_matches('"').to_owned())
}

/// What has been written.
#[derive(Default)]
struct Log {
    documents: Vec<Record>,
    queries: BTreeMap<String, Value>,
}

#[test]
fn on_files_killed_at_any_moment_each_query_is_answered_once() {
    let folder = tempfile::tempdir().unwrap();
    let topics = folder.path().join("topics");
    std::fs::create_dir_all(&topics).unwrap();
    for topic in ["documents", "queries", "answers"] {
        std::fs::write(topics.join(format!("{topic}.jsonl")), "").unwrap();
    }
    let connector = format!("[connector]\nkind = \"files\"\ndirectory = \"{}\"\n", topics.display());
    torture(folder.path(), &connector, number("FRESHET_CRASH_KILLS", 24));
}

#[test]
fn on_kafka_killed_at_any_moment_each_query_is_answered_once() {
    let Ok(broker) = std::env::var("KAFKA_BOOTSTRAP_SERVERS") else {
        assert!(std::env::var_os("CI").is_none(), "KAFKA_BOOTSTRAP_SERVERS is not set");
        eprintln!("SKIPPED: KAFKA_BOOTSTRAP_SERVERS is not set");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let unique = format!("crash-{}-{}", std::process::id(), freshet_operators::clock::now_us());
    let connector = format!(
        "[connector]\nkind = \"kafka\"\nbootstrap_servers = \"{broker}\"\ncreate_topics = true\npartitions = 1\n\
         replication = 1\n[topics]\ndocuments = \"{unique}-documents\"\nqueries = \"{unique}-queries\"\n\
         answers = \"{unique}-answers\"\n"
    );
    torture(folder.path(), &connector, number("FRESHET_CRASH_KILLS", 24));
    remove_topics(&broker, &unique);
}

/// Removes the topics of a test, which has no more use for them: the cluster may be someone's.
fn remove_topics(broker: &str, prefix: &str) {
    let config = || {
        let mut config = rdkafka::ClientConfig::new();
        config.set("bootstrap.servers", broker);
        config
    };
    let asking: BaseConsumer = config().create().unwrap();
    let metadata = asking.fetch_metadata(None, LIMIT).unwrap();
    let own: Vec<&str> = metadata
        .topics()
        .iter()
        .map(|topic| topic.name())
        .filter(|topic| topic.starts_with(prefix))
        .collect();
    assert!(own.len() >= 3, "documents, queries, answers and perhaps dead letters: {own:?}");
    let admin: AdminClient<DefaultClientContext> = config().create().unwrap();
    for deleted in block_on(admin.delete_topics(&own, &AdminOptions::new())).unwrap() {
        deleted.unwrap_or_else(|(topic, code)| panic!("{topic}: {code}"));
    }
}

/// Kills the pipeline so many times, lets it catch up, and checks all.
fn torture(folder: &Path, connector: &str, kills: u64) {
    let seed =
        number("FRESHET_CRASH_SEED", u64::from(std::process::id()) ^ freshet_operators::clock::now_us());
    eprintln!("FRESHET_CRASH_SEED={seed} FRESHET_CRASH_KILLS={kills}");
    let file = folder.join("freshet.toml");
    let text =
        config(folder, connector).replace("name = \"test\"", &format!("name = \"{}\"", name(connector)));
    std::fs::write(&file, text).unwrap();
    let loaded = Config::load(&file).unwrap_or_else(|errors| panic!("{errors}"));
    let topics = loaded.topics.clone();
    let connector = connect::open(&loaded.connector, "producer").unwrap();
    connector.prepare(&[topics.documents.first(), &topics.queries], &[&topics.answers]).unwrap();
    let mut sink = connector.sink(std::sync::Arc::new(|| {})).unwrap();
    let mut random = Random::new(seed);
    let mut steps = script::random(seed, 4 * kills as usize).into_iter();
    let mut log = Log::default();
    let (mut at_points, mut at_random) = (0, 0);
    for life in 0..kills {
        // Every label in turn, at its first passes, and between them a kill at any moment.
        let label = crash::LABELS[(life / 2) as usize % crash::LABELS.len()];
        let crash_at = (life % 2 == 1).then(|| format!("{label}:{}", 1 + random.below(3)));
        let mut child = start(&file, 1 + random.below(4), crash_at.as_deref(), false);
        for step in steps.by_ref().take(4) {
            for (_, record) in step.documents {
                let record = Record { partition: 0, offset: log.documents.len() as i64, ..record };
                log.documents.push(record.clone());
                write(&mut *sink, topics.documents.first(), record);
            }
            for query in step.queries {
                let id = query["id"].as_str().unwrap().to_owned();
                write(&mut *sink, &topics.queries, query_record(&query));
                log.queries.insert(id, query);
            }
            std::thread::sleep(Duration::from_millis(random.below(80)));
        }
        let patience = if crash_at.is_some() { 1500 } else { random.below(120) };
        if ended(&mut child, Duration::from_millis(patience)) {
            at_points += 1;
        } else {
            at_random += 1;
            child.kill().expect("it is killed");
        }
        let output = child.wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code().is_none(), "life {life} ended by itself: {} {told}", output.status);
    }
    let mut last = start(&file, 2, None, true);
    assert!(ended(&mut last, LIMIT), "the last life catches up");
    let output = last.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the last life ends well: {} {told}", output.status);
    eprintln!("killed at labelled points: {at_points}, at random moments: {at_random}");
    check(folder, loaded, &connector, &log);
}

/// The independent checker: reads the answers as anyone would, and computes each from the log.
fn check(folder: &Path, config: Config, connector: &std::sync::Arc<dyn Connector>, log: &Log) {
    let setup = Setup::load(config).expect("the hashing model needs nothing");
    let oracle = Oracle::new(&setup, log.documents.clone());
    let mut answers: BTreeMap<String, Answer> = BTreeMap::new();
    for record in all(&**connector, &setup.config.topics.answers) {
        let answer: Answer = serde_json::from_slice(record.value.as_deref().unwrap()).unwrap();
        assert!(log.queries.contains_key(&answer.id), "nobody asked {}", answer.id);
        let id = answer.id.clone();
        assert!(answers.insert(id.clone(), answer).is_none(), "{id} is answered twice");
    }
    for (id, query) in &log.queries {
        let answer = answers.get(id).unwrap_or_else(|| panic!("{id} is not answered"));
        assert!(answer.error.is_none(), "{id}: {:?}", answer.error);
        let query = Query::parse(&query_record(query), &setup.config.queries.limits);
        let query = query.unwrap_or_else(|refused| panic!("{}", refused.fault));
        let expected = oracle.answer(&query, &answer.as_of["documents"]);
        let found: Vec<(String, f64)> = answer.points.iter().map(|p| (p.id.clone(), p.score)).collect();
        assert!(
            agree(&found, &expected),
            "{id}: found {found:?}, expected {expected:?}, as of {:?}",
            answer.as_of
        );
    }
    let store =
        Store::open(&format!("file://{}", folder.join("snapshots").display()), &StoreOptions::default())
            .unwrap();
    let newest = list(&store).unwrap().pop().expect("a last snapshot");
    let manifest = inspect(&store, &newest).unwrap_or_else(|error| panic!("{newest}: {error}"));
    let held: Vec<String> = documents(&store, &manifest).unwrap().into_keys().collect();
    let end = BTreeMap::from([(0, log.documents.len() as i64 - 1)]);
    let expected: Vec<String> = oracle.documents(&end).into_keys().collect();
    assert_eq!(held, expected, "the newest snapshot holds what the log says");
    // The table of answers lacks what a kill took with it. All of it can be read, and is what was asked.
    let kept = table::queries(&store, None).unwrap();
    assert!(!kept.is_empty(), "some life has kept its answers");
    for asked in kept {
        let query = log.queries.get(&asked.id).map(Value::to_string);
        assert_eq!(Some(asked.query), query, "{}", asked.id);
    }
}

/// All records of a topic with one partition.
fn all(connector: &dyn Connector, topic: &str) -> Vec<Record> {
    let end = connector.end_offsets(topic).unwrap()[&0];
    let wake: connect::Wake = std::sync::Arc::new(|| {});
    let mut source = connector.source(topic, &[0], &BTreeMap::new(), wake).unwrap();
    let (mut records, limit) = (Vec::new(), Instant::now() + LIMIT);
    loop {
        let polled = source.poll(1000, 1 << 20).unwrap();
        records.extend(polled.records);
        if polled.positions.get(&0).is_some_and(|next| *next >= end) {
            return records;
        }
        assert!(Instant::now() < limit, "{topic} can be read in time");
    }
}
