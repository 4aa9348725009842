//! Snapshots: a pipeline that ends and begins again goes on as if it had not.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use freshet::run::{self, Progress, RunError, Until};
use freshet::setup::Setup;
use freshet_config::{Config, Snapshots};
use freshet_operators::connect::{Connector, Memory};
use freshet_operators::control::Control;
use freshet_operators::snapshot::{Store, inspect, list};
use freshet_tests::drive::{LIMIT, Pipeline, answers, config, query_record, topics};
use freshet_tests::oracle::Oracle;
use freshet_tests::script::{self, Step};
use serde_json::json;

use crate::oracle::{by_id, check};

fn url(folder: &Path) -> String {
    format!("file://{}", folder.display())
}

/// The test configuration, cutting snapshots into a folder all the time.
fn snapping(workers: usize, folder: &Path) -> Config {
    let mut config = config(workers);
    let interval = std::time::Duration::from_millis(3);
    config.snapshots = Some(Snapshots { store: url(folder), interval, ..Snapshots::default() });
    config
}

fn load(config: Config) -> Setup {
    Setup::load(config).expect("the hashing model needs nothing")
}

/// Texts of documents that were embedded.
fn embedded(setup: &Setup) -> u64 {
    setup.service.as_ref().expect("a model").metrics().snapshot().document_texts
}

/// Sends the documents and the questions of some steps, each question about all so far, and waits for the answers.
fn feed(memory: &Memory, steps: &[Step], asked: &mut usize) {
    for step in steps {
        for (partition, record) in &step.documents {
            memory.produce("documents", *partition, record.clone());
        }
        for query in &step.queries {
            let mut query = query.clone();
            query["consistency"] = "strong".into();
            memory.produce("queries", 0, query_record(&query));
        }
        *asked += step.queries.len();
        memory.wait_for("answers", *asked, LIMIT);
    }
}

#[test]
fn lives_with_other_numbers_of_workers_answer_as_one() {
    for seed in 300..306 {
        let script = script::random(seed, 24);
        let queries = by_id(&script);
        let folder = tempfile::tempdir().expect("a folder");
        let memory = topics();
        let connector: Arc<dyn Connector> = Arc::new(memory.clone());
        let mut asked = 0;
        for (life, steps) in script.chunks(6).enumerate() {
            let setup = load(snapping([1, 4, 2, 3][life % 4], folder.path()));
            let pipeline = Pipeline::start(&setup, &connector);
            feed(&memory, steps, &mut asked);
            pipeline.finish();
        }
        // One more, with nothing new: nothing is embedded but the question.
        let setup = load(snapping(2, folder.path()));
        let pipeline = Pipeline::start(&setup, &connector);
        let last = json!({"id": "last", "text": "refund invoice", "consistency": "strong"});
        memory.produce("queries", 0, query_record(&last));
        memory.wait_for("answers", asked + 1, LIMIT);
        pipeline.finish();
        assert_eq!(embedded(&setup), 0, "seed {seed}: a restart embeds nothing that a snapshot holds");
        let oracle = Oracle::new(&setup, memory.records("documents"));
        let answers = answers(&memory);
        assert_eq!(answers.len(), queries.len() + 1, "seed {seed}: every query is answered once");
        for answer in &answers {
            let query = queries.get(&answer.id).unwrap_or(&last);
            check(&oracle, &setup, query, answer, &format!("seed {seed}, query {}", answer.id));
        }
    }
}

/// A folder of snapshots of a few documents, the topics they are made of, and their names.
fn some_snapshots(folder: &Path) -> (Memory, Vec<String>) {
    let memory = topics();
    let connector: Arc<dyn Connector> = Arc::new(memory.clone());
    let mut asked = 0;
    for steps in script::random(7, 8).chunks(4) {
        let pipeline = Pipeline::start(&load(snapping(2, folder)), &connector);
        feed(&memory, steps, &mut asked);
        pipeline.finish();
    }
    let store = Store::open(&url(folder)).expect("a store");
    (memory, list(&store).expect("a list"))
}

fn run_once(config: Config, memory: &Memory) -> Result<Setup, RunError> {
    let setup = load(config);
    let connector: Arc<dyn Connector> = Arc::new(memory.clone());
    run::run(
        setup.clone(),
        connector,
        Until::CaughtUp,
        &Arc::new(Control::default()),
        &Arc::new(Progress::default()),
    )?;
    Ok(setup)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() { copy(&path, &target) } else { assert!(fs::copy(&path, &target).is_ok()) }
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

#[test]
fn broken_snapshots_are_left_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let (memory, ids) = some_snapshots(folder.path());
    assert!(ids.len() > 1, "several snapshots were cut: {ids:?}");
    let newest = ids.last().expect("one");
    let whole = run_once(snapping(1, &folder.path().join("none")), &memory).expect("a run");
    let all = embedded(&whole);
    let store = Store::open(&url(folder.path())).expect("a store");
    let manifest = inspect(&store, newest).expect("a whole snapshot");
    let named: Vec<PathBuf> = manifest
        .files()
        .map(|file| PathBuf::from(&file.path))
        .chain([PathBuf::from(format!("snapshots/{newest}/manifest.json"))])
        .collect();
    for file in named {
        for kind in ["missing", "short", "turned"] {
            let other = tempfile::tempdir().expect("a folder");
            copy(folder.path(), other.path());
            let path = other.path().join(&file);
            let mut bytes = fs::read(&path).expect("a file");
            let middle = bytes.len() / 2;
            match kind {
                "missing" => fs::remove_file(&path).expect("removed"),
                "short" => fs::write(&path, &bytes[..middle]).expect("written"),
                _ => {
                    bytes[middle] ^= 0x20;
                    fs::write(&path, &bytes).expect("written");
                }
            }
            let setup = run_once(snapping(2, other.path()), &memory);
            let context = format!("{kind} {}", file.display());
            let setup = setup.unwrap_or_else(|error| panic!("{context}: {error}"));
            assert!(embedded(&setup) <= all, "{context}: at worst all is read again");
            let store = Store::open(&url(other.path())).expect("a store");
            let last = list(&store).expect("a list").pop().expect("one");
            let again = inspect(&store, &last).unwrap_or_else(|error| panic!("{context}: {error}"));
            assert_eq!(again.documents, manifest.documents, "{context}: the same documents in the end");
        }
    }
}

#[test]
fn what_does_not_fit_is_refused_and_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let (memory, _) = some_snapshots(folder.path());
    let refused = |change: &dyn Fn(&mut Config)| {
        let mut config = snapping(1, folder.path());
        change(&mut config);
        run_once(config, &memory).map(drop).expect_err("refused").to_string()
    };
    let other_shards = refused(&|config| config.pipeline.shards = 4.try_into().expect("some"));
    assert!(other_shards.contains("pipeline.shards was 3 and is 4"), "{other_shards}");
    let other_text = refused(&|config| config.documents.text = vec!["text".into(), "title".into()]);
    assert!(other_text.contains("documents.text was text and is text, title"), "{other_text}");
    let fewer = refused(&|config| drop(config.vectors.remove("given")));
    assert!(fewer.contains("vectors.given was ") && fewer.contains("is nothing"), "{fewer}");
    // The topic was made anew.
    let empty = run_once(snapping(1, folder.path()), &topics()).map(drop).expect_err("refused").to_string();
    assert!(empty.contains("the topic was made anew"), "{empty}");
}

#[test]
fn old_snapshots_and_their_files_are_removed() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = topics();
    for number in 0..12 {
        let document = json!({"id": format!("d{}", number % 5), "text": format!("refund {number}")});
        let record = freshet_schemas::Record {
            key: Some(format!("d{}", number % 5).into_bytes()),
            value: Some(document.to_string().into_bytes()),
            ..Default::default()
        };
        memory.produce("documents", 0, record);
        let mut config = snapping(1, folder.path());
        let snapshots = config.snapshots.as_mut().expect("configured");
        snapshots.keep = 2.try_into().expect("some");
        snapshots.keep_for = std::time::Duration::ZERO;
        run_once(config, &memory).expect("a run");
    }
    let store = Store::open(&url(folder.path())).expect("a store");
    let ids = list(&store).expect("a list");
    let manifests: BTreeMap<String, _> =
        ids.iter().filter_map(|id| Some((id.clone(), inspect(&store, id).ok()?))).collect();
    assert_eq!(manifests.len(), 2, "two are kept: {ids:?}");
    let named: Vec<PathBuf> = manifests
        .iter()
        .flat_map(|(id, manifest)| {
            let own = format!("snapshots/{id}/manifest.json");
            manifest.files().map(|file| file.path.clone()).chain([own]).collect::<Vec<_>>()
        })
        .map(|path| folder.path().join(path))
        .collect();
    for file in files(folder.path()) {
        assert!(named.contains(&file), "{} belongs to no snapshot", file.display());
    }
    let newest = manifests.values().last().expect("two");
    assert_eq!(newest.documents, 5);
    assert_eq!(newest.offsets.get(&0), Some(&12));
}
