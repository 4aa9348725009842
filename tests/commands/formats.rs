//! Snapshots of every format that there was: read, or refused by name.
//!
//! `UPDATE_FIXTURES=1` writes the fixture of the present format anew.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use freshet_operators::snapshot::FORMAT;
use serde_json::{Value, json};

use crate::place::text;

const CONFIG: &str = r#"
[pipeline]
name = "format"
shards = 1
[connector]
kind = "files"
directory = "topics"
[documents]
text = ["text"]
chunk_tokens = 8
chunk_overlap = 1
[payload]
stars = "integer"
[vectors.bm25]
kind = "sparse"
model = "bm25"
[vectors.colbert]
kind = "multi"
model = "hashing-8"
quantization = "residual"
[vectors.dense]
kind = "dense"
model = "hashing-8"
index = "HNSW4"
[indexing]
head_documents = 2100
[plans.default]
prefetch = [{ using = "bm25", limit = 6 }, { using = "colbert", limit = 6 }, { using = "dense", limit = 6 }]
query = { fusion = "dbsf" }
[snapshots]
store = "file://snapshots"
interval = "1h"
keep = 1
keep_for = "1ms"
"#;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/snapshots")
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn freshet(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_freshet"));
    let output = command.args(arguments).current_dir(folder).env("NO_COLOR", "1").output().unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// What the newest snapshot of a folder answers, without what depends on the clock.
fn answer(folder: &Path) -> Value {
    let names = std::fs::read_dir(folder.join("snapshots/snapshots")).unwrap();
    let newest = names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).max().unwrap();
    let (code, out, told) = freshet(folder, &["query", "--at", &newest, "--json", "refund of an invoice"]);
    assert_eq!(code, Some(0), "{told}");
    let answer: Value = serde_json::from_str(&out).unwrap();
    json!({"points": answer["points"], "as_of": answer["as_of"]})
}

/// A snapshot of documents that were added, changed and removed, so many that something is built of each field.
fn write(fixture: &Path) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("topics")).unwrap();
    std::fs::write(folder.path().join("freshet.toml"), CONFIG).unwrap();
    let all = ["refund", "harbour", "invoice", "token", "tide", "berth", "pier", "cancel", "plan"];
    let mut topic = String::new();
    for n in 0..2110 {
        let words: Vec<&str> = (0..8).map(|place| all[(n * 7 + place * (1 + n % 5)) % all.len()]).collect();
        let value = json!({"id": format!("d{n}"), "text": words.join(" "), "stars": n % 5});
        topic.push_str(&format!("{value}\n"));
    }
    let documents = folder.path().join("topics/documents.jsonl");
    std::fs::write(&documents, &topic).unwrap();
    std::fs::write(folder.path().join("topics/queries.jsonl"), "").unwrap();
    let run = Command::new(env!("CARGO_BIN_EXE_freshet")).arg("run").current_dir(folder.path()).spawn();
    let (mut run, cut) = (run.unwrap(), || freshet(folder.path(), &["snapshots", "cut", "--wait", "60s"]));
    // A head that was cut is sealed once nothing has come for a while.
    while cut().0 != Some(0) || built(folder.path()).len() < 3 {
        assert_eq!(run.try_wait().unwrap(), None, "it runs");
    }
    topic.push_str(&format!("{}\n", json!({"id": "d7", "text": "refund", "stars": 9})));
    topic.push_str(&format!("{}\n", json!({"key": "d9", "value": null})));
    std::fs::write(&documents, &topic).unwrap();
    Command::new("kill").arg(run.id().to_string()).status().unwrap();
    assert!(run.wait().unwrap().success());
    let expected = answer(folder.path());
    drop(std::fs::remove_dir_all(fixture));
    copy(&folder.path().join("snapshots"), &fixture.join("snapshots"));
    std::fs::write(fixture.join("freshet.toml"), CONFIG).unwrap();
    std::fs::write(fixture.join("answer.json"), format!("{expected:#}\n")).unwrap();
}

/// What is beside the tables of a store.
fn built(folder: &Path) -> BTreeSet<String> {
    let files = std::fs::read_dir(folder.join("snapshots/segments/shard=0")).unwrap();
    let kinds = files.map(|file| file.unwrap().path().extension().unwrap().to_str().unwrap().to_owned());
    kinds.filter(|kind| kind != "parquet").collect()
}

#[test]
fn snapshots_of_every_format_are_read() {
    let present = fixtures().join(format!("format-{FORMAT}"));
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        write(&present);
    }
    assert!(present.is_dir(), "format {FORMAT} has no fixture: run this test with UPDATE_FIXTURES=1");
    assert_eq!(Vec::from_iter(built(&present)), ["codes", "faiss", "postings"]);
    for entry in std::fs::read_dir(fixtures()).unwrap() {
        let fixture = entry.unwrap().path();
        let folder = tempfile::tempdir().unwrap();
        copy(&fixture, folder.path());
        let (code, out, told) = freshet(folder.path(), &["snapshots", "verify"]);
        assert_eq!(code, Some(0), "{}: {out} {told}", fixture.display());
        let expected: Value =
            serde_json::from_str(&std::fs::read_to_string(fixture.join("answer.json")).unwrap()).unwrap();
        assert_eq!(answer(folder.path()), expected, "{}", fixture.display());
    }
}

/// The fixture of the present format, whose snapshots say that they have another one.
fn with_format(format: u32) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    copy(&fixtures().join(format!("format-{FORMAT}")), folder.path());
    let mut changed = 0;
    for entry in std::fs::read_dir(folder.path().join("snapshots/snapshots")).unwrap() {
        let manifest = entry.unwrap().path().join("manifest.json");
        let text = std::fs::read_to_string(&manifest).unwrap();
        let mut value: Value = serde_json::from_str(&text).unwrap();
        value["format"] = json!(format);
        std::fs::write(&manifest, value.to_string()).unwrap();
        changed += 1;
    }
    assert!(changed > 0);
    folder
}

#[test]
fn formats_before_the_first_fixture_are_left_out_and_said_so() {
    // Format 1 was in no released version; documents are read from their topic again.
    for format in 1..FORMAT {
        if fixtures().join(format!("format-{format}")).is_dir() {
            continue;
        }
        let folder = with_format(format);
        std::fs::create_dir_all(folder.path().join("topics")).unwrap();
        std::fs::write(
            folder.path().join("topics/documents.jsonl"),
            "{\"id\": \"a\", \"text\": \"refund\"}\n",
        )
        .unwrap();
        let says = format!("has format {format}, this version of Freshet reads formats 2 to {FORMAT}");
        let (code, out, told) = freshet(folder.path(), &["snapshots", "verify"]);
        assert_eq!(code, Some(1), "{out} {told}");
        assert!(format!("{out}{told}").contains(&says), "{out} {told}");
        let (code, _, told) = freshet(folder.path(), &["run", "--until-caught-up"]);
        assert_eq!(code, Some(0), "{told}");
        assert!(told.contains(&says), "it is not passed over in silence: {told}");
        let (code, out, told) = freshet(folder.path(), &["query", "--json", "refund"]);
        assert_eq!((code, out.contains("\"id\":\"a\"")), (Some(0), true), "{told}");
    }
}

#[test]
fn a_snapshot_of_a_later_format_is_refused_by_name() {
    let folder = with_format(FORMAT + 1);
    let (code, _, told) = freshet(folder.path(), &["run", "--until-caught-up"]);
    assert_eq!(code, Some(1), "it begins from nothing only when asked: {told}");
    assert!(told.contains(&format!("format {}", FORMAT + 1)), "{told}");
}
