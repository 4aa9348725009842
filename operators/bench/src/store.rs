//! Whole pipelines and their snapshots: what cutting costs, how soon a restored pipeline answers, what exactly-once costs.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use freshet::run::{self, Progress, RunError, Until};
use freshet::setup::Setup;
use freshet_config::Config;
use freshet_operators::connect::{self, Connector, Memory};
use freshet_operators::control::Control;
use freshet_schemas::Record;
use parquet::file::reader::{FileReader, SerializedFileReader};

use crate::data::Random;
use crate::report::{self, Report, Row, per_second};

/// Time between two cuts of a pipeline that cuts often.
const INTERVAL: Duration = Duration::from_secs(2);
/// Runs with and without cuts, in turns: their medians count, for one alone says little where a machine is shared.
const ROUNDS: usize = 5;
/// Queries asked one after the other.
const QUERIES: usize = 300;
/// Longest wait for an answer.
const LIMIT: Duration = Duration::from_secs(60);

/// Measures.
pub(crate) fn run(report: &mut Report) {
    let folder = std::env::temp_dir().join(format!("freshet-bench-store-{}", std::process::id()));
    let count = report.scaled(100_000);
    let topics = documents(count);
    ingest(report, &topics, count, &folder);
    size(report, &folder.join("snapshots"), count);
    first_answer(report, &topics, count, &folder);
    std::fs::remove_dir_all(&folder).expect("the bench's own folder");
    delivery(report, "files", &|| files(&folder));
    if let Ok(servers) = std::env::var("KAFKA_BOOTSTRAP_SERVERS") {
        delivery(report, "Kafka", &|| kafka(&servers));
    }
}

/// A pipeline of 384 dimensions and BM25 whose model costs nothing, so that what is measured is not the model.
fn config(more: &str) -> Config {
    let text = format!(
        "[pipeline]\nname = \"bench\"\nshards = 4\n[documents]\ntext = [\"text\"]\n\
         [vectors.dense]\nkind = \"dense\"\nmodel = \"hashing-384\"\n\
         [vectors.bm25]\nkind = \"sparse\"\nmodel = \"bm25\"\n{more}"
    );
    Config::parse(&text, &|_| None).unwrap_or_else(|errors| panic!("{errors}"))
}

fn document(number: usize, random: &mut Random) -> Record {
    let words: Vec<String> = (0..60).map(|_| format!("word{}", random.zipf(200_000))).collect();
    let value = serde_json::json!({
        "id": format!("document-{number:07}"), "text": words.join(" "), "city": random.below(200),
    });
    let key = Some(format!("document-{number:07}").into_bytes());
    Record { key, value: Some(value.to_string().into_bytes()), ..Record::default() }
}

fn documents(count: usize) -> Memory {
    let (topics, mut random) = (Memory::new(), Random::new(17));
    topics.create("documents", 2);
    for number in 0..count {
        topics.produce("documents", i32::from(number % 2 == 1), document(number, &mut random));
    }
    topics
}

/// A run that ends with the last document.
struct Caught {
    /// Time until all documents are in the indexes.
    applied: Duration,
    /// CPU time of all threads until then.
    busy: Duration,
    /// Time until the run has ended.
    ended: Duration,
}

fn caught_up(setup: Setup, topics: &Memory, count: usize) -> Caught {
    let connector: Arc<dyn Connector> = Arc::new(topics.clone());
    let (control, progress) = (Arc::new(Control::default()), Arc::new(Progress::default()));
    let applied =
        || i64::try_from(count).is_ok_and(|count| progress.documents.load(Ordering::Relaxed) >= count);
    std::thread::scope(|scope| {
        let (begun, before) = (Instant::now(), report::busy_process());
        let run = scope.spawn(|| run::run(setup, connector, Until::CaughtUp, &control, &progress));
        while !applied() && !run.is_finished() {
            // Nobody tells when: a look a millisecond is as exact as it need be.
            std::thread::sleep(Duration::from_millis(1));
        }
        let (all_applied, busy) = (begun.elapsed(), report::busy_process().saturating_sub(before));
        run.join().expect("no panic").unwrap_or_else(|error| panic!("{error}"));
        assert!(applied(), "all documents are applied");
        Caught { applied: all_applied, busy, ended: begun.elapsed() }
    })
}

fn snapshots(folder: &Path, interval: Duration) -> String {
    let folder = folder.join("snapshots");
    format!(
        "[snapshots]\nstore = \"file://{}\"\ninterval = \"{}ms\"\n",
        folder.display(),
        interval.as_millis()
    )
}

/// Ingest while snapshots are cut again and again, against ingest without.
fn ingest(report: &mut Report, topics: &Memory, count: usize, folder: &Path) {
    let (mut plain, mut cutting) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        plain.push(caught_up(Setup::load(config("")).expect("a setup"), topics, count));
        // What an earlier round wrote would be restored.
        if folder.exists() {
            std::fs::remove_dir_all(folder).expect("the bench's own folder");
        }
        let setup = Setup::load(config(&snapshots(folder, INTERVAL))).expect("a setup");
        cutting.push(caught_up(setup, topics, count));
    }
    let cuts = std::fs::read_dir(folder.join("snapshots/snapshots")).map_or(0, Iterator::count);
    let of = |runs: &[Caught], time: fn(&Caught) -> Duration| median(runs.iter().map(time).collect());
    let ratio =
        |(plain, cutting): (&Caught, &Caught)| plain.applied.as_secs_f64() / cutting.applied.as_secs_f64();
    let ratios: Vec<String> = plain.iter().zip(&cutting).map(|pair| format!("{:.2}", ratio(pair))).collect();
    report.add(Row {
        group: "store",
        what: format!("documents applied while snapshots are cut every {INTERVAL:?}"),
        value: per_second(count, of(&cutting, |run| run.applied)),
        unit: "documents/s",
        reference: Some((per_second(count, of(&plain, |run| run.applied)), "without snapshots")),
        bar: Some(0.9),
        note: format!(
            "{count} documents of 60 words, 384 dimensions; medians of {ROUNDS} runs, one by one {}×; {cuts} snapshots, \
             the last one ready {:.1} s later; CPU time of all threads {:.0} s, without {:.0} s",
            ratios.join(", "),
            of(&cutting, |run| run.ended - run.applied).as_secs_f64(),
            of(&cutting, |run| run.busy).as_secs_f64(),
            of(&plain, |run| run.busy).as_secs_f64(),
        ),
    });
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// Bytes of a snapshot per document, and what they are.
fn size(report: &mut Report, store: &Path, count: usize) {
    let mut columns: BTreeMap<String, i64> = BTreeMap::new();
    let mut total = 0;
    for path in files_below(&store.join("segments")) {
        total += std::fs::metadata(&path).expect("a file").len();
        if path.extension().is_some_and(|extension| extension == "parquet") {
            let reader = SerializedFileReader::new(File::open(&path).expect("a table")).expect("a table");
            for group in reader.metadata().row_groups() {
                for column in group.columns() {
                    let name = column.column_path().parts()[0].clone();
                    *columns.entry(name).or_default() += column.compressed_size();
                }
            }
        }
    }
    let each = |bytes: i64| bytes as f64 / count as f64;
    let tables: i64 = columns.values().sum();
    let mut parts: Vec<String> =
        columns.iter().map(|(name, bytes)| format!("{name} {:.0}", each(*bytes))).collect();
    parts.push(format!("graphs and postings {:.0}", each(total as i64 - tables)));
    report.add(Row {
        group: "store",
        what: "bytes of all snapshots that are kept, per document".into(),
        value: each(total as i64),
        unit: "bytes",
        reference: None,
        bar: None,
        note: parts.join(", "),
    });
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files
}

/// From the start of a run on a snapshot to its first answer.
fn first_answer(report: &mut Report, topics: &Memory, count: usize, folder: &Path) {
    let setup = Setup::load(config(&snapshots(folder, Duration::from_secs(3600)))).expect("a setup");
    let query = serde_json::json!({"id": "first", "text": "word7 word70", "consistency": "strong"});
    topics.produce("queries", 0, keyed("first", &query));
    let (begun, running) = (Instant::now(), Running::start(&setup, Arc::new(topics.clone())));
    topics.wait_for("answers", 1, LIMIT);
    let seconds = begun.elapsed().as_secs_f64();
    running.finish();
    let embedded = setup.service.as_ref().map_or(0, |service| service.counts().document_texts);
    assert_eq!(embedded, 0, "nothing that the snapshot holds is embedded again");
    report.add(Row {
        group: "store",
        what: format!("start to first answer, {count} documents restored"),
        value: seconds,
        unit: "s",
        reference: None,
        bar: None,
        note: "0 texts embedded; the answer reflects all documents".into(),
    });
}

fn keyed(id: &str, value: &serde_json::Value) -> Record {
    let key = Some(id.as_bytes().to_vec());
    Record { key, value: Some(value.to_string().into_bytes()), ..Record::default() }
}

/// A pipeline on a thread.
struct Running {
    control: Arc<Control>,
    thread: JoinHandle<Result<(), RunError>>,
}

impl Running {
    fn start(setup: &Setup, connector: Arc<dyn Connector>) -> Self {
        let control = Arc::new(Control::default());
        let (setup, stop) = (setup.clone(), Arc::clone(&control));
        let work = move || run::run(setup, connector, Until::Stopped, &stop, &Arc::new(Progress::default()));
        Self { control, thread: std::thread::spawn(work) }
    }

    fn finish(self) {
        self.control.drain();
        let ended = self.thread.join().expect("no panic");
        ended.unwrap_or_else(|error| panic!("{error}"));
    }
}

/// A connector, and the lines of configuration that say so.
type Place = (Arc<dyn Connector>, String);

fn files(folder: &Path) -> Place {
    if folder.exists() {
        std::fs::remove_dir_all(folder).expect("the bench's own folder");
    }
    std::fs::create_dir_all(folder).expect("a temporary folder");
    let lines = format!("[connector]\nkind = \"files\"\ndirectory = \"{}\"\n", folder.display());
    (connect::open(&config(&lines).connector, "bench").expect("files"), lines)
}

fn kafka(servers: &str) -> Place {
    // Topics of their own: what an earlier round asked is not asked again.
    let run = freshet_operators::clock::now_us();
    let lines = format!(
        "[connector]\nkind = \"kafka\"\nbootstrap_servers = \"{servers}\"\ncreate_topics = true\n\
         [topics]\ndocuments = \"d-{run}\"\nqueries = \"q-{run}\"\nanswers = \"a-{run}\"\n"
    );
    (connect::open(&config(&lines).connector, "bench").expect("Kafka"), lines)
}

/// Time from a query to its answer, as a reader of committed answers sees it.
fn delivery(report: &mut Report, on: &str, place: &dyn Fn() -> Place) {
    let mut latencies = ["exactly_once", "at_least_once"].map(|delivery| {
        let (connector, lines) = place();
        let config = config(&format!("{lines}[queries]\ndelivery = \"{delivery}\"\n"));
        let setup = Setup::load(config).expect("a setup");
        latencies(&setup, connector)
    });
    latencies.iter_mut().for_each(|of| of.sort_unstable());
    let at = |of: &[Duration], share: f64| of[((of.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    let [exactly, at_least] = &latencies;
    for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
        report.add(Row {
            group: "store",
            what: format!("query to committed answer on {on}, exactly once, {name}"),
            value: at(exactly, share),
            unit: "ms",
            reference: Some((at(at_least, share), "at least once")),
            bar: None,
            note: format!("{} queries one after the other, 1,000 documents", exactly.len()),
        });
    }
}

fn latencies(setup: &Setup, connector: Arc<dyn Connector>) -> Vec<Duration> {
    let topics = &setup.config.topics;
    let running = Running::start(setup, Arc::clone(&connector));
    let (send, wakes) = channel();
    // The receiver is gone once all is measured.
    let wake: connect::Wake = Arc::new(move || {
        let _ = send.send(());
    });
    let partitions = loop {
        // The pipeline makes the topics.
        match connector.prepare(&[&topics.answers, topics.documents.first(), &topics.queries], &[]) {
            Ok(partitions) => break partitions,
            Err(_) => std::thread::yield_now(),
        }
    };
    let from = BTreeMap::new();
    let source = connector.source(&topics.answers, &partitions[&topics.answers], &from, Arc::clone(&wake));
    let (mut answers, mut sink) = (source.expect("answers"), connector.sink(wake).expect("a sink"));
    let mut token = 0;
    let mut write = |topic: &str, record: Record| {
        token += 1;
        let mut unsent = sink.send(topic, record, token).err();
        loop {
            if let Some(record) = unsent.take() {
                unsent = sink.send(topic, record, token).err();
            }
            if sink.settled().iter().any(|(settled, _)| *settled == token) {
                return;
            }
            let _ = wakes.recv_timeout(Duration::from_millis(1));
        }
    };
    let mut random = Random::new(3);
    (0..1000).for_each(|number| write(topics.documents.first(), document(number, &mut random)));
    let mut latencies = Vec::with_capacity(QUERIES);
    for number in 0..=QUERIES {
        let id = format!("query-{number}");
        // The first one waits for the documents, and is not counted.
        let consistency = if number == 0 { "strong" } else { "latest" };
        let query = serde_json::json!({"id": id, "text": "word7 word70", "consistency": consistency});
        let begun = Instant::now();
        write(&topics.queries, keyed(&id, &query));
        while !answers
            .poll(100, 1 << 20)
            .expect("answers")
            .records
            .iter()
            .any(|a| a.key.as_deref() == Some(id.as_bytes()))
        {
            assert!(begun.elapsed() < LIMIT, "no answer to {id}");
            let _ = wakes.recv_timeout(Duration::from_millis(1));
        }
        latencies.extend((number > 0).then(|| begun.elapsed()));
    }
    running.finish();
    latencies
}
