//! The binary as its users have it: signals, commands beside a running pipeline, exit codes, and what the log says.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]

mod book;
mod dist;
mod formats;
mod load;
mod pipes;
mod place;
mod tools;

use freshet_operators::snapshot::inspect;
use serde_json::{Value, json};

use self::place::{Place, Run, text};

#[test]
fn a_signal_cuts_a_snapshot() {
    let place = Place::new("interval = \"1h\"");
    place.append("documents", &json!({"id": "a", "text": "refund"}));
    let mut run = Run::start(&place, "warn");
    assert_eq!(place.snapshots(), Vec::<String>::new(), "none is due");
    let mut names = Vec::new();
    for _ in 0..2 {
        run.signal("USR1");
        let line = run.says("snapshot ");
        let (name, rest) = line.strip_prefix("snapshot ").unwrap().split_once(' ').unwrap();
        assert!(rest.starts_with("written, "), "{line}");
        inspect(&place.open(), name).unwrap_or_else(|error| panic!("{name}: {error}"));
        names.push(name.to_owned());
        assert_eq!(place.snapshots(), names, "one for each signal");
    }
    run.finish();
    assert_eq!(place.snapshots().len(), 3, "and the last one");
}

#[test]
fn a_command_cuts_a_snapshot_of_a_running_pipeline_only() {
    let place = Place::new("interval = \"1h\"");
    let run = Run::start(&place, "warn");
    let cut = place.done(&["snapshots", "cut", "--wait", "100s"]);
    assert_eq!(cut.status.code(), Some(0), "{}", text(&cut.stderr));
    let [name] = place.snapshots().try_into().expect("one");
    assert!(
        text(&cut.stdout).contains(&name) && text(&cut.stdout).contains("cut at tick "),
        "{}",
        text(&cut.stdout)
    );
    run.finish();
    let before = place.snapshots();
    let nobody = place.done(&["snapshots", "cut", "--wait", "300ms"]);
    assert_eq!(nobody.status.code(), Some(1));
    let told = text(&nobody.stderr);
    assert!(told.contains("no snapshot came within 300ms: no pipeline seems to run"), "{told}");
    assert_eq!(place.snapshots(), before);
    assert_eq!(place.open().files("requests").unwrap(), Vec::<String>::new(), "the request is taken back");
}

#[test]
fn a_question_says_when_it_uses_no_snapshot() {
    let place = Place::new("interval = \"1h\"");
    place.append("documents", &json!({"id": "a", "text": "refund"}));
    for why in ["cannot open", "cannot list"] {
        if why == "cannot list" {
            // A file where the folder is to be; before, there is nothing.
            std::fs::write(place.store(), "in the way").unwrap();
        }
        let answer = place.done(&["query", "--standalone", "--json", "refund"]);
        let told = text(&answer.stderr);
        assert_eq!(answer.status.code(), Some(0), "{told}");
        assert!(told.contains("no snapshot is used: all documents are read from the topic"), "{told}");
        assert!(told.contains(why), "it says why, {why}: {told}");
        let answer: Value = serde_json::from_slice(&answer.stdout).unwrap();
        assert_eq!(answer["points"][0]["id"], "a");
    }
    // With a store that can be read nothing of the kind is said.
    std::fs::remove_file(place.store()).unwrap();
    assert!(place.done(&["run", "--until-caught-up"]).status.success());
    let answer = place.done(&["query", "--standalone", "--json", "refund"]);
    assert_eq!(
        (answer.status.code(), text(&answer.stderr).contains("no snapshot is used")),
        (Some(0), false)
    );
}

#[test]
fn an_outage_of_the_store_is_told_once_and_so_is_its_end() {
    let place = Place::new("interval = \"20ms\"\nanswers = true");
    let log = "freshet_operators::snapshot=debug,warn";
    let mut run = Run::start(&place, log);
    run.says("snapshot written");
    let blocked = place.store().join("snapshots");
    for outage in 1..=2 {
        // A file where the folder is; the run may make that anew before the file is there.
        let mut tries = 0;
        loop {
            std::fs::rename(&blocked, place.folder.path().join(format!("aside-{outage}-{tries}"))).unwrap();
            if std::fs::write(&blocked, "in the way").is_ok() {
                break;
            }
            tries += 1;
        }
        run.says("ERROR");
        // Several attempts fail, which is only for those who look closely.
        run.says("failed=4");
        std::fs::remove_file(&blocked).unwrap();
        run.says("snapshots are written again");
        run.says("snapshot written");
    }
    // The same of answers alone.
    let answers = place.store().join("answers");
    std::fs::write(&answers, "in the way").unwrap();
    place.append("queries", &json!({"id": "q1", "text": "refund"}));
    run.says("answers not written to their table");
    run.says("answers not written error");
    std::fs::remove_file(&answers).unwrap();
    run.says("answers are written again");
    let told = run.finish();
    let count = |part: &str| told.iter().filter(|line| line.contains(part)).count();
    let all = format!("{told:#?}");
    assert_eq!(count(" ERROR ") - count("answers not written to their table"), 2, "once per outage: {all}");
    assert_eq!(count("snapshots are written again"), 2, "{all}");
    assert_eq!(count("answers not written to their table"), 1, "{all}");
    assert_eq!(count("answers are written again"), 1, "{all}");
}

#[test]
fn a_log_is_answered_again() {
    let place = Place::new("interval = \"1h\"\nanswers = true");
    place.append("documents", &json!({"id": "a", "text": "refund"}));
    place.append("documents", &json!({"id": "b", "text": "refund invoice"}));
    place.append("queries", &json!({"id": "q1", "text": "refund", "plan": "bm25", "consistency": "strong"}));
    place.append("queries", &json!({"id": "q2", "text": "invoice", "plan": "bm25", "consistency": "strong"}));
    let run = || {
        let run = place.done(&["run", "--until-caught-up"]);
        assert!(run.status.success(), "{}", text(&run.stderr));
        place.snapshots().pop().expect("a snapshot")
    };
    let first = run();
    place.append("documents", &json!({"key": "a", "value": null}));
    let second = run();
    let replay = |arguments: &[&str]| {
        let output = place.done(&[&["replay"][..], arguments].concat());
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, out, told) = replay(&["--from", "answers", "--at", &first, "--at", &second]);
    assert_eq!(code, Some(0), "{told}");
    assert!(
        out.contains("q1: refund") && out.contains("-   1       a") && out.contains("  2 →   1 b"),
        "{out}"
    );
    assert!(!out.contains("q2: invoice") && out.contains("50.0 %"), "{out}");
    let log = place.folder.path().join("topics/queries.jsonl");
    let log = log.to_str().unwrap();
    let (code, out, told) = replay(&[log, "--at", &first, "--at", &first, "--json"]);
    assert_eq!(code, Some(0), "{told}");
    let out: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&out["summary"]["queries"], &out["summary"]["changed"]), (&json!(2), &json!(0)));
    assert_eq!(
        out["queries"][0],
        json!({"id": "q1", "text": "refund", "entered": [], "left": [], "moved": [],
        "same_top_1": true, "same_top_10": true, "overlap_at_10": 1.0, "rbo": out["queries"][0]["rbo"]})
    );
    assert!(out["queries"][0]["rbo"].as_f64().is_some_and(|rbo| rbo > 0.999_999));
    // Two plans on the newest.
    let (code, out, told) = replay(&[log, "--plan", "bm25", "--plan", "default"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(out.starts_with(&format!("- {second} by plan bm25\n+ {second} by plan default")), "{out}");
    for (arguments, code, part) in [
        (vec![log, "--at", &first], 2, "two sides are compared"),
        (vec![log, "--at", &first, "--at", &second, "--plan", "bm25", "--plan", "default"], 2, "not both"),
        (vec![log, "--plan", "bm25", "--plan", "nothing"], 2, "no plan \"nothing\"; there are bm25, default"),
        (
            vec!["--from", "answers", "--since", "21.11.2026", "--at", &first, "--at", &second],
            2,
            "is no date",
        ),
        (vec!["no-such-file", "--at", &first, "--at", &second], 2, "no-such-file"),
        (vec![log, "--at", &first, "--at", "20200101T000000.000Z"], 1, "20200101T000000.000Z"),
        (vec!["--from", "answers", "--since", "2999-01-01", "--at", &first, "--at", &second], 1, "no query"),
    ] {
        let (found, _, told) = replay(&arguments);
        assert_eq!(found, Some(code), "{arguments:?}: {told}");
        assert!(told.contains(part), "{part:?} in {told}");
    }
}
