//! What becomes of collections while they are used: payload indexes made and removed, runs that fail, snapshots on demand.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use freshet_tests::drive;
use serde_json::{Value, json};

use super::{Server, files};

impl Server {
    fn put(&self, path: &str, body: &Value) -> Value {
        self.ok("PUT", path, body)
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        self.ok("POST", path, body)
    }

    fn ok(&self, method: &str, path: &str, body: &Value) -> Value {
        let answer = self.request(method, path, None, body.to_string().as_bytes());
        assert_eq!(answer.status, 200, "{method} {path} {body}: {}", answer.body);
        answer.json()["result"].clone()
    }

    fn fill(&self, name: &str, points: usize) {
        self.put(&format!("/collections/{name}"), &json!({"vectors": {"size": 2, "distance": "Dot"}}));
        let point = |id| json!({"id": id, "vector": [id, 1], "payload": {"stars": id % 5, "city": format!("c{}", id % 3)}});
        let points: Vec<Value> = (0..points).map(point).collect();
        self.put(&format!("/collections/{name}/points?wait=true"), &json!({"points": points}));
    }

    fn count(&self, name: &str, key: &str, value: &Value) -> u64 {
        let filter = json!({"must": [{"key": key, "match": {"value": value}}]});
        let counted = self.post(&format!("/collections/{name}/points/count"), &json!({"filter": filter}));
        counted["count"].as_u64().unwrap()
    }

    /// Status of a collection, and what it says about the optimizer.
    fn state(&self, name: &str) -> (String, Value) {
        let answer = self.request("GET", &format!("/collections/{name}"), None, b"");
        let result = answer.json()["result"].clone();
        (result["status"].as_str().unwrap_or_default().to_owned(), result["optimizer_status"].clone())
    }
}

#[test]
fn filters_go_by_payload_indexes_that_were_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &files(folder.path()));
    server.fill("c", 60);
    server.put("/collections/c/index", &json!({"field_name": "stars", "field_schema": {"type": "integer"}}));
    let schema = server.ok("GET", "/collections/c", &Value::Null)["payload_schema"].clone();
    assert_eq!(schema["stars"]["data_type"], "integer");
    // The first filter by a field without an index is told of; both find the same as ever.
    assert_eq!(server.count("c", "stars", &json!(2)), 12);
    assert_eq!(server.count("c", "city", &json!("c1")), 20);
    let told = server.says("a filter reads payloads");
    assert!(told.contains("city") && !told.contains("stars"), "{told}");
    server.finish();
    // Another process has it, too: its first filter is by the field with an index.
    let server = Server::start(folder.path(), &files(folder.path()));
    assert_eq!(server.count("c", "stars", &json!(2)), 12);
    assert_eq!(server.count("c", "city", &json!("c1")), 20);
    assert!(server.says("a filter reads payloads").contains("city"));
    // What is removed is read from payloads again.
    server.ok("DELETE", "/collections/c/index/stars", &Value::Null);
    assert_eq!(server.count("c", "stars", &json!(2)), 12);
    assert!(server.says("a filter reads payloads").contains("stars"));
    server.finish();
}

#[test]
fn nobody_is_refused_while_an_index_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &files(folder.path()));
    server.fill("c", 60);
    let (made, asked, written) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !made.load(Ordering::SeqCst) {
                assert_eq!(server.count("c", "city", &json!("c1")), 20);
                asked.fetch_add(1, Ordering::SeqCst);
            }
        });
        scope.spawn(|| {
            while !made.load(Ordering::SeqCst) {
                let id = 100 + written.fetch_add(1, Ordering::SeqCst);
                let point = json!({"id": id, "vector": [1, 1], "payload": {"new": 1}});
                server.put("/collections/c/points?wait=true", &json!({"points": [point]}));
                // A change that reads before it writes.
                let payload = json!({"payload": {"seen": true}, "points": [id]});
                server.post("/collections/c/points/payload?wait=true", &payload);
            }
        });
        for field in ["stars", "city", "new"] {
            let (asked_before, written_before) =
                (asked.load(Ordering::SeqCst), written.load(Ordering::SeqCst));
            let kind = if field == "city" { "keyword" } else { "integer" };
            server.put("/collections/c/index", &json!({"field_name": field, "field_schema": kind}));
            drive::until(|| {
                asked.load(Ordering::SeqCst) > asked_before + 1
                    && written.load(Ordering::SeqCst) > written_before + 1
            });
        }
        made.store(true, Ordering::SeqCst);
    });
    let written = written.load(Ordering::SeqCst) as u64;
    assert_eq!(server.count("c", "new", &json!(1)), written);
    assert_eq!(server.count("c", "seen", &json!(true)), written);
    server.finish();
}

/// Runs `freshet snapshots cut`.
fn cut(folder: &Path) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_freshet"))
        .args(["snapshots", "cut", "--wait", "60s", "--config"])
        .arg(folder.join("freshet.toml"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_collection_that_failed_is_started_again_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &files(folder.path()));
    server.fill("c", 40);
    server.fill("other", 10);
    // Snapshots of all, by the signal and by the command.
    server.signal("-USR1");
    assert!(server.says("of collection c written").contains("40 documents"));
    assert!(server.says("of collection other written").contains("10 documents"));
    let told = cut(folder.path());
    assert!(told.contains("collection c\n") && told.contains("collection other\n"), "{told}");

    // Its topic is taken away, and an empty one lies there: a run fails, and so does each that follows.
    let topic = folder.path().join("topics/test.c.documents.jsonl");
    let aside = folder.path().join("aside.jsonl");
    std::fs::rename(&topic, &aside).unwrap();
    std::fs::write(&topic, "").unwrap();
    assert!(server.says("started again after a pause").contains('c'));
    drive::until(|| server.state("c").0 == "red");
    let why = server.state("c").1["error"].as_str().unwrap().to_owned();
    assert!(why.contains("the collection has failed"), "{why}");
    let refused = server.request("POST", "/collections/c/points/count", None, b"{}");
    assert_eq!((refused.status, refused.headers["retry-after"].as_str()), (503, "1"), "{}", refused.body);
    server.says("pause=2s");
    // Others go on.
    assert_eq!(server.count("other", "city", &json!("c1")), 3);
    assert_eq!(server.request("GET", "/readyz", None, b"").status, 200);

    std::fs::rename(&aside, &topic).unwrap();
    drive::until(|| server.state("c") == ("green".to_owned(), json!("ok")));
    assert_eq!(server.count("c", "city", &json!("c1")), 13);
    let point = json!({"id": 999, "vector": [1, 1], "payload": {"city": "c1"}});
    server.put("/collections/c/points?wait=true", &json!({"points": [point]}));
    assert_eq!(server.count("c", "city", &json!("c1")), 14);
    server.finish();
}
