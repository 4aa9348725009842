//! Stores of snapshots: what a folder does, a bucket does; and several pipelines on one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use freshet::ask::{Question, ask_snapshot};
use freshet::run::{self, Progress, RunError, Until};
use freshet::setup::Setup;
use freshet_config::{Config, Snapshots, StoreOptions};
use freshet_operators::connect::{Connector, Memory};
use freshet_operators::control::Control;
use freshet_operators::snapshot::{self, Request, SnapshotError, Store, inspect, list};
use freshet_tests::drive::{LIMIT, Pipeline, answers, config, embedded, feed, query_record, topics};
use freshet_tests::oracle::Oracle;
use freshet_tests::s3::S3;
use freshet_tests::script;
use serde_json::json;

use crate::oracle::{by_id, check};

/// The test configuration, cutting snapshots into a store all the time.
fn snapping(workers: usize, store: &str, options: &StoreOptions) -> Config {
    let mut config = config(workers);
    let (store, options) = (store.to_owned(), options.clone());
    let interval = Duration::from_millis(3);
    config.snapshots = Some(Snapshots { store, options, interval, ..Snapshots::default() });
    config
}

fn load(config: Config) -> Setup {
    Setup::load(config).expect("the hashing model needs nothing")
}

fn run_once(config: Config, memory: &Memory) -> Result<Setup, RunError> {
    let setup = load(config);
    let connector: Arc<dyn Connector> = Arc::new(memory.clone());
    let (control, progress) = (Arc::new(Control::default()), Arc::new(Progress::default()));
    run::run(setup.clone(), connector, Until::CaughtUp, &control, &progress)?;
    Ok(setup)
}

/// What every store does.
fn contract(store: &Store) {
    let is_missing = |error: SnapshotError| matches!(error, SnapshotError::Broken { .. });
    assert_eq!(store.files("a").unwrap(), Vec::<String>::new(), "a folder that is not there is empty");
    let put = store.put("a/one", b"first".to_vec()).unwrap();
    assert_eq!((put.bytes, put.checksum.len()), (5, 32));
    assert_eq!(store.get("a/one").unwrap(), b"first");
    store.put("a/one", b"second".to_vec()).unwrap();
    assert_eq!(store.get("a/one").unwrap(), b"second", "put writes over what is there");
    assert_eq!(store.put_new("a/two", b"mine".to_vec()).unwrap().map(|put| put.bytes), Some(4));
    assert_eq!(store.put_new("a/two", b"other".to_vec()).unwrap(), None, "somebody else's stays");
    assert!(store.put_new("a/two", b"mine".to_vec()).unwrap().is_some(), "a reply that was lost");
    assert_eq!(store.get("a/two").unwrap(), b"mine");
    // Three parts, the last one short.
    let bytes: Vec<u8> = (0..20u32 << 20).map(|n| (n ^ (n >> 7)) as u8).collect();
    let write = |upload: &mut snapshot::Upload<'_>| {
        let broken = |error| SnapshotError::Broken { path: String::new(), what: format!("{error}") };
        bytes.chunks(1_234_567).try_for_each(|some| std::io::Write::write_all(upload, some)).map_err(broken)
    };
    let put = store.stream("a/b/large", write).unwrap();
    assert_eq!(put, store.put("a/b/same", bytes.clone()).unwrap());
    assert_eq!(store.size("a/b/large").unwrap(), bytes.len() as u64);
    assert_eq!(store.get("a/b/large").unwrap(), bytes);
    let middle = 7_000_000..17_000_001;
    let part = store.get_range("a/b/large", middle.start as u64..middle.end as u64, Vec::new()).unwrap();
    assert_eq!(part, bytes[middle]);
    let beyond = store.get_range("a/one", 2..100, Vec::new());
    assert!(beyond.is_err(), "there is nothing beyond the end");
    let given_up = store.stream("a/b/never", |upload| {
        std::io::Write::write_all(upload, &bytes).expect("it takes them");
        Err(SnapshotError::Broken { path: String::new(), what: "given up".into() })
    });
    assert_eq!(given_up.unwrap_err().to_string(), "\"\" given up");
    assert!(is_missing(store.get("a/b/never").unwrap_err()), "what was given up is not there");
    assert_eq!(store.folders("a").unwrap(), ["b"]);
    assert_eq!(store.files("a").unwrap(), ["a/one", "a/two"]);
    assert_eq!(store.files("a/b").unwrap(), ["a/b/large", "a/b/same"]);
    for file in ["a/one", "a/one", "a/two", "a/b/large", "a/b/same"] {
        store.delete(file).unwrap();
    }
    assert!(is_missing(store.get("a/one").unwrap_err()));
    assert!(is_missing(store.size("a/one").unwrap_err()));
    assert_eq!(store.files("a").unwrap(), Vec::<String>::new());
}

#[test]
fn a_folder_keeps_the_contract_of_stores() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file://{}/deep/er", folder.path().display());
    assert!(Store::open(&url, &StoreOptions::default()).is_err(), "it is not there yet");
    contract(&Store::create(&url, &StoreOptions::default()).unwrap());
}

#[test]
fn a_bucket_keeps_the_contract_of_stores() {
    let Some(s3) = S3::start("a_bucket_keeps_the_contract_of_stores") else { return };
    contract(&Store::create(&s3.url("deep/er"), &s3.options()).unwrap());
    contract(&Store::create("s3://bucket", &s3.options()).unwrap());
    let other = Store::create("s3://no-such-bucket/x", &s3.options()).unwrap();
    let told = other.files("a").unwrap_err().to_string();
    assert!(told.contains("check that the bucket is there"), "{told}");
}

#[test]
fn lives_on_a_bucket_answer_as_one() {
    let Some(s3) = S3::start("lives_on_a_bucket_answer_as_one") else { return };
    let (url, options) = (s3.url("lives"), s3.options());
    let script = script::random(310, 12);
    let queries = by_id(&script);
    let memory = topics();
    let connector: Arc<dyn Connector> = Arc::new(memory.clone());
    let mut asked = 0;
    for (life, steps) in script.chunks(4).enumerate() {
        let mut config = snapping([1, 3, 2][life % 3], &url, &options);
        let snapshots = config.snapshots.as_mut().unwrap();
        (snapshots.keep, snapshots.keep_for) = (2.try_into().unwrap(), Duration::ZERO);
        let pipeline = Pipeline::start(&load(config), &connector);
        feed(&memory, steps, &mut asked);
        pipeline.finish();
    }
    let setup = load(snapping(2, &url, &options));
    let pipeline = Pipeline::start(&setup, &connector);
    let last = json!({"id": "last", "text": "refund invoice", "consistency": "strong"});
    memory.produce("queries", 0, query_record(&last));
    memory.wait_for("answers", asked + 1, LIMIT);
    pipeline.finish();
    assert_eq!(embedded(&setup), 0, "a restart embeds nothing that a snapshot holds");
    let oracle = Oracle::new(&setup, memory.records("documents"));
    let answers = answers(&memory);
    assert_eq!(answers.len(), queries.len() + 1, "every query is answered once");
    for answer in &answers {
        let query = queries.get(&answer.id).unwrap_or(&last);
        check(&oracle, &setup, query, answer, &answer.id);
    }
    let store = Store::open(&url, &options).unwrap();
    let newest = list(&store).unwrap().pop().unwrap();
    let manifest = inspect(&store, &newest).unwrap();
    let view = snapshot::view(store.url(), &manifest);
    // DuckDB would need its extension httpfs, which is not a part of it: the text alone is looked at.
    assert!(view.contains("'s3://bucket/lives/segments/shard="), "{view}");
    // What was true, from the bucket alone.
    let question = Question::text("refund", None, 5);
    let setup = load(snapping(1, &url, &options));
    let answer = ask_snapshot(setup, &newest, &question, &Arc::new(Progress::default())).unwrap();
    assert!(answer.error.is_none() && !answer.points.is_empty(), "{answer:?}");
    // The newest one broken: the one before is used, and what came since is read again.
    let file = &manifest.segments[0].table.path;
    let mut bytes = store.get(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x20;
    store.put(file, bytes).unwrap();
    run_once(snapping(2, &url, &options), &memory).unwrap();
    let whole = list(&store).unwrap().pop().unwrap();
    assert_eq!(inspect(&store, &whole).unwrap().documents, manifest.documents);
}

#[test]
fn a_run_does_not_begin_without_its_store() {
    let memory = topics();
    let gone = StoreOptions(BTreeMap::from(
        // Nobody listens on the discard port of the loopback.
        [("aws_endpoint", "http://127.0.0.1:9"), ("aws_allow_http", "true"), ("aws_skip_signature", "true")]
            .map(|(key, value)| (key.to_owned(), value.to_owned())),
    ));
    let told =
        run_once(snapping(1, "s3://bucket/x", &gone), &memory).map(drop).expect_err("refused").to_string();
    assert!(told.contains("s3://bucket/x") && told.contains("to begin without snapshots"), "{told}");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "in the way").unwrap();
    let url = format!("file://{}/file", folder.path().display());
    let told = run_once(snapping(1, &url, &StoreOptions::default()), &memory).map(drop).expect_err("refused");
    assert!(told.to_string().contains("to begin without snapshots"), "{told}");
}

#[test]
fn a_store_belongs_to_one_pipeline() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file://{}", folder.path().display());
    let none = StoreOptions::default();
    let memory = topics();
    run_once(snapping(1, &url, &none), &memory).unwrap();
    let mut other = snapping(1, &url, &none);
    other.pipeline.name = "another".into();
    let told = run_once(other.clone(), &memory).map(drop).expect_err("refused").to_string();
    for part in [&url, "pipeline \"test\"", "this pipeline is \"another\"", "remove \"owners/"] {
        assert!(told.contains(part), "{part} in {told}");
    }
    // What was said helps: a folder below is a store of its own.
    other.snapshots.as_mut().unwrap().store = format!("{url}/another");
    run_once(other, &memory).unwrap();
    run_once(snapping(1, &url, &none), &memory).unwrap();
}

#[test]
fn a_cut_is_made_at_once_when_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file://{}", folder.path().display());
    let none = StoreOptions::default();
    let mut config = snapping(2, &url, &none);
    config.snapshots.as_mut().unwrap().interval = Duration::from_secs(3600);
    let memory = topics();
    let connector: Arc<dyn Connector> = Arc::new(memory.clone());
    let pipeline = Pipeline::start(&load(config), &connector);
    feed(&memory, &script::random(5, 4), &mut 0);
    let store = Store::open(&url, &none).unwrap();
    assert_eq!(list(&store).unwrap(), Vec::<String>::new(), "none is due");
    // From within the process.
    let first = pipeline.control().cut_now().recv_timeout(LIMIT).expect("an outcome").expect("written");
    assert_eq!(inspect(&store, &first.id).unwrap(), *first);
    // Through the store: two at once are served by one cut.
    let requests = [Request::put(&store).unwrap(), Request::put(&store).unwrap()];
    let served = || requests.iter().all(|request| !request.waits(&store).unwrap());
    let until = std::time::Instant::now() + LIMIT;
    while !served() {
        assert!(std::time::Instant::now() < until, "nobody serves the requests");
        std::thread::park_timeout(Duration::from_millis(20));
    }
    let ids = list(&store).unwrap();
    assert!(
        ids.len() == 2 || ids.len() == 3,
        "one cut, or two if the second request came after the look: {ids:?}"
    );
    inspect(&store, ids.last().unwrap()).unwrap();
    pipeline.finish();
}
