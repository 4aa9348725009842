//! The contract, and what is particular to files: growth in pieces, ends without newline, damage, locks.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use freshet_schemas::Offset;
use tempfile::TempDir;

use super::super::contract::{Fixture, contract};
use super::super::testing::{Reader, Writer, read_all, record, write};
use super::*;

struct InFiles {
    directory: TempDir,
    topics: AtomicUsize,
}

impl InFiles {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), topics: AtomicUsize::new(0) }
    }
}

impl Fixture for InFiles {
    fn open(&self) -> Arc<dyn Connector> {
        Arc::new(Files::new(self.directory.path(), "group"))
    }

    fn topic(&self, _: usize) -> String {
        let name = format!("topic-{}", self.topics.fetch_add(1, Ordering::Relaxed));
        self.open().prepare(&[&name], &[]).unwrap();
        name
    }
}

contract!(Some(InFiles::new()));

fn here(text: &str) -> (TempDir, Files) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("t.jsonl"), text).unwrap();
    let files = Files::new(directory.path(), "group");
    (directory, files)
}

fn add(directory: &TempDir, text: &str) {
    let mut file = OpenOptions::new().append(true).open(directory.path().join("t.jsonl")).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn end(files: &Files) -> Offset {
    files.end_offsets("t").unwrap()[&0]
}

fn to(end: Offset) -> BTreeMap<Partition, Offset> {
    BTreeMap::from([(0, end)])
}

/// Offset and key of each record.
fn keys(records: &[freshet_schemas::Record]) -> Vec<(Offset, String)> {
    let key =
        |record: &freshet_schemas::Record| String::from_utf8(record.key.clone().unwrap_or_default()).unwrap();
    records.iter().map(|record| (record.offset, key(record))).collect()
}

fn open(files: &Files) -> Reader {
    Reader::open(files, "t", &BTreeMap::new())
}

fn why(error: &ConnectError) -> (String, bool) {
    match error {
        ConnectError::World { what, retry, .. } => (what.clone(), *retry),
        ConnectError::MissingTopics { .. } => panic!("{error}"),
    }
}

#[test]
fn offsets_are_line_numbers() {
    let (_directory, files) = here("{\"id\":\"a\"}\n\n  \r\n{\"id\":\"b\"}\r\nnonsense\n\n");
    assert_eq!(end(&files), 6);
    let read = read_all(&files, "t");
    assert_eq!(keys(&read), [(0, "a".into()), (3, "b".into()), (4, String::new())]);
    assert_eq!(read[2].value.as_deref(), Some(b"nonsense".as_slice()));
}

#[test]
fn a_byte_order_mark_is_not_part_of_the_first_line() {
    let (_directory, files) = here("\u{feff}{\"id\":\"a\"}\n\u{feff}{\"id\":\"b\"}\n");
    assert_eq!(keys(&read_all(&files, "t")), [(0, "a".into()), (1, String::new())]);
}

#[test]
fn a_line_counts_once_it_is_whole() {
    let (directory, files) = here("{\"id\":\"a\"}\n{\"id\":");
    let mut reader = open(&files);
    assert_eq!((end(&files), reader.read_to(&to(1)).len()), (1, 1));
    add(&directory, "\"b\"");
    assert_eq!(end(&files), 1);
    add(&directory, "} "); // whole, though without newline
    assert_eq!(end(&files), 2);
    assert_eq!(keys(&reader.read_to(&to(2))), [(1, "b".into())]);
    add(&directory, "\n");
    assert_eq!(end(&files), 2);
    add(&directory, "{\"id\":\"c\"}\n12"); // a number may go on
    assert_eq!(end(&files), 3);
    assert_eq!(keys(&reader.read_to(&to(3))), [(2, "c".into())]);
    add(&directory, "3\n");
    assert_eq!(reader.read_to(&to(4))[0].value.as_deref(), Some(b"123".as_slice()));
}

#[test]
fn starts_behind_a_last_line_without_newline() {
    let (directory, files) = here("{\"id\":\"a\"}\n{\"id\":\"b\"}");
    let mut reader = Reader::open(&files, "t", &to(2));
    add(&directory, "\n{\"id\":\"c\"}\n");
    assert_eq!(keys(&reader.read_to(&to(3))), [(2, "c".into())]);
}

#[test]
fn a_line_that_goes_on_after_it_was_read_is_an_error() {
    let (directory, files) = here("{\"id\":\"a\"}");
    let mut reader = open(&files);
    reader.read_to(&to(1));
    add(&directory, "{\"id\":\"b\"}\n");
    let (what, retry) = why(&reader.read_to_error());
    assert!(what.contains("line 0") && what.contains("newline") && retry, "{what}");
    assert_eq!(
        keys(&read_all(&files, "t")),
        [(0, String::new())],
        "read anew it is one line that is no JSON"
    );
}

#[test]
fn the_sink_ends_a_line_that_has_no_newline() {
    let (directory, files) = here("{\"id\":\"a\"}");
    let mut reader = open(&files);
    reader.read_to(&to(1));
    write(&files, "t", [record("b", "{\"id\":\"b\"}")]);
    assert_eq!(keys(&reader.read_to(&to(2))), [(1, "b".into())]);
    let text = std::fs::read_to_string(directory.path().join("t.jsonl")).unwrap();
    assert_eq!(text, "{\"id\":\"a\"}\n{\"id\":\"b\"}\n");
}

#[test]
fn cut_replaced_and_removed_files_are_errors() {
    let shorten = |path: &Path| OpenOptions::new().write(true).open(path).unwrap().set_len(5).unwrap();
    let replace = |path: &Path| {
        std::fs::write(path.with_extension("new"), "{\"id\":\"x\"}\n".repeat(10)).unwrap();
        std::fs::rename(path.with_extension("new"), path).unwrap();
    };
    let remove = |path: &Path| std::fs::remove_file(path).unwrap();
    let damages: [(&str, &dyn Fn(&Path)); 3] =
        [("was cut", &shorten), ("was replaced", &replace), ("was removed", &remove)];
    for (how, damage) in damages {
        let (directory, files) = here("{\"id\":\"a\"}\n{\"id\":\"b\"}\n");
        let mut reader = open(&files);
        reader.read_to(&to(2));
        damage(&directory.path().join("t.jsonl"));
        let (what, _) = why(&reader.read_to_error());
        assert!(what.contains(how) && what.contains("t.jsonl"), "{what}");
    }
}

#[test]
fn fewer_lines_than_committed_are_an_error() {
    let (_directory, files) = here("{\"id\":\"a\"}\n");
    files.commit("t", &to(5)).unwrap();
    let mut reader = Reader::open(&files, "t", &files.committed("t").unwrap());
    let (what, retry) = why(&reader.read_to_error());
    assert!(what.contains("has 1 lines, but 5 were read before") && !retry, "{what}");
}

#[test]
fn lines_that_are_too_long_are_cut_and_never_json() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("t.jsonl");
    let long = format!("{{\"id\":\"long\"}}{}", " ".repeat(LINE_BYTES_MAX));
    std::fs::write(&path, format!("{{\"id\":\"a\"}}\n{long}\n{{\"id\":\"b\"}}\n")).unwrap();
    let files = Files::new(directory.path(), "group");
    assert_eq!(end(&files), 3);
    let read = read_all(&files, "t");
    assert_eq!(keys(&read), [(0, "a".into()), (1, String::new()), (2, "b".into())]);
    let value = String::from_utf8(read[1].value.clone().unwrap()).unwrap();
    assert!(
        value.starts_with(&long[..1024]) && value.len() < 1200 && value.contains(&long.len().to_string())
    );
    assert!(serde_json::from_str::<serde_json::Value>(&value).is_err());
    assert_eq!(read[1].headers, [("freshet.truncated".into(), Some(long.len().to_string().into_bytes()))]);
}

#[test]
fn prepare_creates_directory_and_topics() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("not/yet");
    let files = Files::new(&path, "group");
    let topics = files.prepare(&["in", "also-in"], &["out", "in.dlq"]).unwrap();
    assert_eq!(topics.keys().collect::<Vec<_>>(), ["also-in", "in", "in.dlq", "out"]);
    assert!(topics.values().all(|partitions| partitions == &[0]));
    assert!(path.join("in.dlq.jsonl").exists());
    write(&files, "in", [record("a", "{\"id\":\"a\"}")]);
    files.prepare(&["in"], &[]).unwrap();
    assert_eq!(read_all(&files, "in").len(), 1, "what is there stays");
}

#[test]
fn names_lead_nowhere_else() {
    let directory = tempfile::tempdir().unwrap();
    let files = Files::new(directory.path().join("d"), "../x/%");
    for name in ["", ".", "..", "a/b", "../a", ".hidden", "ü", &"n".repeat(250)] {
        let (what, _) = why(&files.prepare(&[name], &[]).unwrap_err());
        assert!(what.contains("no name of a topic"), "{what}");
        let fates = Writer::open(&files).try_write(name, [record("a", "1")]);
        assert!(fates[0].as_ref().is_err_and(|reason| reason.contains("no name of a topic")), "{fates:?}");
    }
    files.commit("t", &to(1)).unwrap();
    assert!(directory.path().join("d/.offsets/..%2Fx%2F%25.json").exists());
}

#[test]
fn groups_commit_apart_and_damage_is_told() {
    let (directory, files) = here("");
    files.commit("t", &to(3)).unwrap();
    files.commit("u", &to(4)).unwrap();
    assert_eq!(Files::new(directory.path(), "other").committed("t").unwrap(), BTreeMap::new());
    let path = directory.path().join(".offsets/group.json");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), r#"{"t":{"0":3},"u":{"0":4}}"#);
    std::fs::write(&path, "{").unwrap();
    let (what, retry) = why(&files.committed("t").unwrap_err());
    assert!(what.contains("group.json") && what.contains("remove it") && !retry, "{what}");
}

#[test]
fn a_directory_has_one_running_pipeline() {
    let (directory, files) = here("");
    let held = files.try_lock().unwrap();
    assert!(held.is_some());
    assert!(Files::new(directory.path(), "other").try_lock().unwrap().is_none());
    drop(held);
    assert!(files.try_lock().unwrap().is_some());
}

#[test]
fn writers_do_not_mix_lines() {
    let (_directory, files) = here("");
    let files = Arc::new(files);
    let value = |writer: usize| format!("{{\"id\":\"{writer}\",\"text\":\"{}\"}}", "x".repeat(5000));
    let writing: Vec<_> = (0..4)
        .map(|writer| {
            let files = Arc::clone(&files);
            let record = record(&writer.to_string(), &value(writer));
            std::thread::spawn(move || (0..20).for_each(|_| write(&*files, "t", vec![record.clone(); 10])))
        })
        .collect();
    writing.into_iter().for_each(|thread| thread.join().unwrap());
    let read = read_all(&*files, "t");
    assert_eq!(read.len(), 800);
    for record in read {
        let writer = String::from_utf8(record.key.unwrap()).unwrap().parse().unwrap();
        assert_eq!(record.value, Some(value(writer).into_bytes()));
    }
}

#[test]
fn writes_follow_the_name_of_a_file_that_was_moved_away() {
    let (directory, files) = here("");
    let mut writer = Writer::open(&files);
    writer.write("t", [record("a", "{\"id\":\"a\"}")]);
    std::fs::rename(directory.path().join("t.jsonl"), directory.path().join("old.jsonl")).unwrap();
    writer.write("t", [record("b", "{\"id\":\"b\"}")]);
    assert_eq!(keys(&read_all(&files, "t")), [(0, "b".into())]);
}

#[test]
fn what_cannot_be_written_is_told() {
    let (directory, files) = here("");
    std::fs::create_dir(directory.path().join("folder.jsonl")).unwrap();
    let mut writer = Writer::open(&files);
    let fates = writer.try_write("folder", [record("a", "1"), record("b", "2")]);
    assert!(
        fates.iter().all(|fate| fate.as_ref().is_err_and(|reason| reason.contains("folder.jsonl"))),
        "{fates:?}"
    );
    writer.write("t", [record("a", "1")]);
}

#[test]
fn missing_files_are_told() {
    let directory = tempfile::tempdir().unwrap();
    let files = Files::new(directory.path(), "group");
    let (what, retry) = why(&files.end_offsets("t").unwrap_err());
    assert!(what.contains("t.jsonl") && !retry, "{what}");
    let signal = super::super::testing::Signal::new();
    let source = files.source("t", &[0], &BTreeMap::new(), signal.wake()).unwrap();
    let (what, _) = why(&Reader { source, signal }.read_to_error());
    assert!(what.contains("t.jsonl"), "{what}");
    assert!(files.source("t", &[1], &BTreeMap::new(), Arc::new(|| ())).is_err());
}

#[test]
fn a_large_file_is_read_in_order_from_anywhere() {
    let directory = tempfile::tempdir().unwrap();
    let mut file = File::create(directory.path().join("t.jsonl")).unwrap();
    let lines: String = (0..50_000).map(|n| format!("{{\"id\":{n}}}\n")).collect();
    file.write_all(lines.as_bytes()).unwrap();
    let files = Files::new(directory.path(), "group");
    let read = Reader::open(&files, "t", &to(33_333)).read_to(&to(50_000));
    let offsets: Vec<Offset> = read.iter().map(|record| record.offset).collect();
    assert_eq!(offsets, (33_333..50_000).collect::<Vec<_>>());
    assert!(read.iter().all(|record| record.key == Some(record.offset.to_string().into_bytes())));
}

/// `/dev/full` is a disk without room.
#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_holds_records_back_and_settles_none() {
    let directory = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/dev/full", directory.path().join("t.jsonl")).unwrap();
    let files = Files::new(directory.path(), "group");
    let mut sink = files.sink(Arc::new(|| ())).unwrap();
    let mut token = 0;
    while sink.send("t", record("a", "{\"id\":\"a\"}"), token).is_ok() {
        token += 1;
        assert!(token < 1_000_000);
    }
    assert_eq!(sink.settled(), []);
    drop(sink); // ends the thread, which is waiting for room
}

/// As a process leaves it that is killed while it appends: the intent is there, and a part of the lines.
#[test]
fn an_append_that_was_cut_short_is_undone_and_a_whole_one_is_finished() {
    use super::super::progress::Progress;
    use super::super::{Batch, Entry};

    let (directory, files) = here("");
    let path = directory.path().join("a.jsonl");
    let batch = |key: &str, upto| {
        let instead = None;
        let entries = vec![Entry { topic: "a".into(), record: record(key, "{\"n\":1}"), instead }];
        Batch { entries, progress: BTreeMap::from([(0, Progress::before(upto))]) }
    };
    let (_, mut writer) = files.transactions("t").unwrap();
    writer.write(&mut batch("one", 1), &|_| true).unwrap();
    let before = std::fs::read(&path).unwrap();
    writer.write(&mut batch("two", 2), &|_| true).unwrap();
    let after = std::fs::read(&path).unwrap();
    for length in before.len()..=after.len() {
        std::fs::write(&path, &after[..length]).unwrap();
        let saved = std::fs::read(directory.path().join(".offsets/group.json")).unwrap();
        let (recovered, _) = files.transactions("t").unwrap();
        let whole = length == after.len();
        let (lines, upto) = if whole { (&after, 2) } else { (&before, 1) };
        assert_eq!(recovered, BTreeMap::from([(0, Progress::before(upto))]), "{length} bytes");
        assert_eq!(std::fs::read(&path).unwrap(), *lines, "{length} bytes");
        std::fs::write(directory.path().join(".offsets/group.json"), saved).unwrap();
    }
}
