//! What commands do when nobody reads what they write, or a program does.

use std::io::pipe;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use freshet_operators::snapshot::Store;
use serde_json::{Value, json};

use crate::place::{LIMIT, Place, text};

/// A pipe that nobody reads.
fn deaf() -> Stdio {
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    writer.into()
}

#[test]
fn a_reader_that_has_gone_is_no_error() {
    let place = Place::new("");
    for arguments in [&["models", "list"][..], &["completions", "bash"], &["check", "--config", "x"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_freshet"));
        let output =
            command.args(arguments).current_dir(place.folder.path()).stdout(deaf()).output().unwrap();
        let told = text(&output.stderr);
        assert!(!told.contains("panicked"), "{arguments:?}: {told}");
        assert_eq!(output.status.code(), Some(if arguments[0] == "check" { 2 } else { 0 }), "{told}");
    }
}

#[test]
fn a_run_that_nobody_listens_to_ends_when_it_is_asked_to() {
    let place = Place::new("");
    place.append("documents", &json!({"id": "a", "text": "berth"}));
    let mut child =
        place.command(&["run", "--log", "debug"]).stdout(Stdio::null()).stderr(deaf()).spawn().unwrap();
    let until = Instant::now() + LIMIT;
    let wait = |what: &str| {
        assert!(Instant::now() < until, "{what}");
        std::thread::park_timeout(Duration::from_millis(5));
    };
    // It listens to signals once it owns the store.
    while std::fs::read_dir(place.store().join("owners")).map_or(0, Iterator::count) == 0 {
        assert!(child.try_wait().unwrap().is_none(), "the run goes on");
        wait("the run begins");
    }
    let sent = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if Instant::now() < until => wait("the run ends"),
            None => {
                child.kill().unwrap();
                panic!("the run does not end");
            }
        }
    };
    assert!(status.success(), "{status}");
    let store: Store = place.open();
    let newest = place.snapshots().pop().expect("a snapshot when it ends");
    let manifest = freshet_operators::snapshot::inspect(&store, &newest).unwrap();
    assert_eq!(manifest.documents, 1, "it has ended in order");
}

#[test]
fn logs_are_for_people_or_for_programs() {
    let place = Place::new("");
    place.append("documents", &json!({"id": "a", "text": "berth"}));
    place.append("queries", &json!({"id": "q", "text": "berth"}));
    let logged = |format: &str| {
        let arguments = ["run", "--until-caught-up", "--log", "info", "--log-format", format];
        let output = place.done(&arguments);
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stderr)
    };
    let objects: Vec<Value> =
        logged("json").lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let written = objects.iter().find(|line| line["message"] == "snapshot written").expect("what is logged");
    assert_eq!((&written["level"], &written["documents"]), (&json!("INFO"), &json!(1)));
    let lines = logged("text");
    assert!(lines.contains(" INFO ") && !lines.contains('\u{1b}'), "no colours but on a terminal: {lines}");
}
