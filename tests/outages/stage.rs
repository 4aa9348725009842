//! Topics, a pipeline in a process of its own, and the check of what it answered.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use freshet::setup::Setup;
use freshet_config::{Config, Connector as Configured, Kafka};
use freshet_operators::clock;
use freshet_operators::connect::{self, Connector, Sink};
use freshet_schemas::{Answer, Query, Record};
use freshet_tests::drive::{self, query_record};
use freshet_tests::oracle::{Oracle, agree};
use rdkafka::ClientConfig;
use rdkafka::admin::AdminClient;
use rdkafka::client::DefaultClientContext;
use serde_json::{Value, json};

/// Longest wait for what comes soon; only a failing test waits this long.
pub(crate) const LIMIT: Duration = Duration::from_secs(240);

/// A stage for one test.
pub(crate) struct Stage {
    folder: tempfile::TempDir,
    pub(crate) config: Config,
    /// Reaches the topics on a way of its own.
    pub(crate) direct: Arc<dyn Connector>,
    servers: String,
    sink: Box<dyn Sink>,
    asked: BTreeMap<String, Value>,
    pub(crate) documents: usize,
}

/// How a stage is set.
pub(crate) struct Plan<'a> {
    /// Where the pipeline finds Kafka, and where the test does.
    pub(crate) servers: (&'a str, &'a str),
    pub(crate) partitions: u32,
    pub(crate) replication: u32,
    /// More of `[connector]`.
    pub(crate) connector: &'a str,
    pub(crate) snapshots: bool,
}

impl Stage {
    pub(crate) fn set(plan: &Plan<'_>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let name = format!("o-{}-{}", std::process::id(), clock::now_us());
        let (before, rest) = drive::CONFIG.split_once("[connector]").unwrap();
        let after = &rest[rest.find('[').unwrap()..];
        let (pipeline, direct) = plan.servers;
        let store = folder.path().join("snapshots");
        let snapshots = format!("[snapshots]\nstore = \"file://{}\"\ninterval = \"50ms\"\n", store.display());
        let text = format!(
            "{}[topics]\ndocuments = \"{name}.documents\"\nqueries = \"{name}.queries\"\nanswers = \"{name}.answers\"\n\
             {after}\n{}[connector]\nkind = \"kafka\"\nbootstrap_servers = \"{pipeline}\"\ncreate_topics = true\n\
             replication = {}\n{}\n",
            before.replace("name = \"test\"", &format!("name = \"{name}\"")),
            if plan.snapshots { &snapshots } else { "" },
            plan.replication,
            plan.connector,
        );
        std::fs::write(folder.path().join("freshet.toml"), text).unwrap();
        let config = Config::load(folder.path().join("freshet.toml")).unwrap_or_else(|e| panic!("{e}"));
        let settings = Kafka {
            create_topics: true,
            partitions: plan.partitions.try_into().unwrap(),
            replication: plan.replication.try_into().unwrap(),
            ..Kafka::at(direct)
        };
        let direct_connector = connect::open(&Configured::Kafka(settings), &format!("{name}-test")).unwrap();
        let topics = &config.topics;
        direct_connector.prepare(&[topics.documents.first(), &topics.queries], &[&topics.answers]).unwrap();
        let sink = direct_connector.sink(Arc::new(|| {})).unwrap();
        let servers = direct.to_owned();
        Self { folder, config, direct: direct_connector, servers, sink, asked: BTreeMap::new(), documents: 0 }
    }

    pub(crate) fn admin(&self) -> AdminClient<DefaultClientContext> {
        ClientConfig::new().set("bootstrap.servers", &self.servers).create().unwrap()
    }

    /// Puts other text into the configuration file.
    pub(crate) fn reconfigure(&self, from: &str, to: &str) {
        let file = self.file();
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{text} has no {from}");
        std::fs::write(file, text.replacen(from, to, 1)).unwrap();
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("freshet.toml")
    }

    /// Starts the pipeline.
    pub(crate) fn run(&self, workers: usize) -> Run {
        let log = self.folder.path().join(format!("{}.log", clock::now_us()));
        let child = Command::new(env!("CARGO_BIN_EXE_freshet"))
            .args(["--log", "info", "run", "--workers", &workers.to_string(), "--config"])
            .arg(self.file())
            .env("NO_COLOR", "1")
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Run { child, log }
    }

    fn write(&mut self, topic: &str, records: Vec<Record>) {
        let (end, count) = (Instant::now() + LIMIT, records.len());
        let mut queue: std::collections::VecDeque<Record> = records.into();
        let mut settled = 0;
        while settled < count {
            while let Some(record) = queue.pop_front() {
                if let Err(record) = self.sink.send(topic, record, 0) {
                    queue.push_front(record);
                    break;
                }
            }
            for (_, fate) in self.sink.settled() {
                fate.unwrap();
                settled += 1;
            }
            assert!(Instant::now() < end, "{settled} of {count} records written to {topic}");
            std::thread::yield_now();
        }
    }

    /// Another producer, which knows of the partitions there are now.
    pub(crate) fn renew_sink(&mut self) {
        self.sink = self.direct.sink(Arc::new(|| {})).unwrap();
    }

    /// Writes new documents and questions about them.
    pub(crate) fn write_and_ask(&mut self, documents: usize, queries: usize) {
        self.write_sized(documents, 0, queries);
    }

    /// The same, with so many bytes more in each document, which nobody searches.
    pub(crate) fn write_sized(&mut self, documents: usize, bytes: usize, queries: usize) {
        const WORDS: [&str; 7] = ["harbour", "berth", "invoice", "refund", "token", "crane", "tide"];
        let word = |number: usize| WORDS[number % WORDS.len()];
        let numbers = self.documents..self.documents + documents;
        self.documents += documents;
        let records = numbers.map(|n| {
            let id = format!("d{n:05}");
            let text = format!("{} {} {}", word(n), word(n / 3), word(n / 5));
            let value =
                json!({"id": id, "text": text, "stars": n % 5, "more": "x".repeat(bytes)}).to_string();
            Record { key: Some(id.into_bytes()), value: Some(value.into_bytes()), ..Record::default() }
        });
        let topics = self.config.topics.clone();
        self.write(topics.documents.first(), records.collect());
        let asked = self.asked.len()..self.asked.len() + queries;
        let queries: Vec<Value> = asked
            .map(|n| {
                let mut query = json!({"id": format!("q{n:05}"), "text": format!("{} {}", word(n), word(n / 2)), "limit": 3});
                if n % 3 == 0 {
                    query["consistency"] = "strong".into();
                }
                query
            })
            .collect();
        self.write(&topics.queries, queries.iter().map(query_record).collect());
        self.asked.extend(queries.into_iter().map(|query| (query["id"].as_str().unwrap().to_owned(), query)));
    }

    /// Everything a topic holds.
    fn read(&self, topic: &str) -> Vec<Record> {
        let ends = self.direct.end_offsets(topic).unwrap();
        let partitions: Vec<i32> = ends.keys().copied().collect();
        let mut source = self.direct.source(topic, &partitions, &BTreeMap::new(), Arc::new(|| {})).unwrap();
        let (end, mut records) = (Instant::now() + LIMIT, Vec::new());
        loop {
            let polled = source.poll(1000, 1 << 20).unwrap();
            records.extend(polled.records);
            if ends.iter().all(|(partition, end)| polled.positions.get(partition) >= Some(end)) {
                return records;
            }
            assert!(Instant::now() < end, "{topic} can be read in time");
            std::thread::yield_now();
        }
    }

    fn answers(&self) -> Vec<Answer> {
        let records = self.read(&self.config.topics.answers);
        records.iter().map(|r| serde_json::from_slice(r.value.as_deref().unwrap()).unwrap()).collect()
    }

    /// Waits until all that was asked is answered, each once, and compares every answer with the one computed from the
    /// log; returns the partitions that the answers name.
    pub(crate) fn check(&self, run: &mut Run) -> BTreeSet<i32> {
        let end = Instant::now() + LIMIT;
        let answers = loop {
            let answers = self.answers();
            if answers.len() >= self.asked.len() {
                break answers;
            }
            run.check();
            assert!(
                Instant::now() < end,
                "{} of {} answered: {}",
                answers.len(),
                self.asked.len(),
                run.log()
            );
        };
        let ids: BTreeSet<&str> = answers.iter().map(|answer| answer.id.as_str()).collect();
        assert_eq!(ids.len(), answers.len(), "none is answered twice");
        assert!(ids.into_iter().eq(self.asked.keys().map(String::as_str)), "all are answered");
        let setup = Setup::load(self.config.clone()).unwrap();
        let oracle = Oracle::new(&setup, self.read(self.config.topics.documents.first()));
        let mut partitions = BTreeSet::new();
        for answer in &answers {
            assert!(answer.error.is_none(), "{}: {:?}", answer.id, answer.error);
            let query = Query::parse(&query_record(&self.asked[&answer.id]), &setup.config.queries.limits);
            let as_of = &answer.as_of["documents"];
            partitions.extend(as_of.keys().copied());
            let expected = oracle.answer(&query.unwrap_or_else(|refused| panic!("{}", refused.fault)), as_of);
            let found: Vec<(String, f64)> = answer.points.iter().map(|p| (p.id.clone(), p.score)).collect();
            assert!(
                agree(&found, &expected),
                "{}: {found:?}, expected {expected:?}, as of {as_of:?}",
                answer.id
            );
        }
        partitions
    }
}

/// A running pipeline; killed when dropped.
pub(crate) struct Run {
    child: Child,
    log: PathBuf,
}

impl Run {
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// How often the log says something.
    pub(crate) fn said(&self, text: &str) -> usize {
        self.log().matches(text).count()
    }

    fn check(&mut self) {
        let ended = self.child.try_wait().unwrap();
        assert!(ended.is_none(), "the pipeline ended by itself: {ended:?} {}", self.log());
    }

    /// Waits for the end; exit code and log.
    pub(crate) fn end(&mut self) -> (Option<i32>, String) {
        let end = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status.code(), self.log());
            }
            assert!(Instant::now() < end, "the pipeline does not end: {}", self.log());
            std::thread::yield_now();
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// Waits until the log says something.
    pub(crate) fn wait_for(&mut self, text: &str) {
        let end = Instant::now() + LIMIT;
        while self.said(text) == 0 {
            self.check();
            assert!(Instant::now() < end, "the log does not say \"{text}\": {}", self.log());
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// Most memory it has had so far, bytes.
    pub(crate) fn memory_peak(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    /// Lets it end by itself.
    pub(crate) fn stop(mut self) {
        let told = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().unwrap();
        assert!(told.success());
        let (code, log) = self.end();
        assert_eq!(code, Some(0), "{log}");
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
