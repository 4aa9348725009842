//! The OpenAPI document against the server: Schemathesis makes requests of it, right and wrong ones, and sequences of them.
//!
//! `FRESHET_SCHEMATHESIS` names its program. Short and always the same unless `FRESHET_SCHEMATHESIS_SECONDS` says how long
//! it may look; then it looks with a seed of its own, which it prints.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::{Server, files};

/// Cases per operation where nothing says how long to look.
const CASES: &str = "8";
const KEY: &str = "all";

/// The program, where there is one; needed on CI.
fn program() -> Option<String> {
    let program = std::env::var("FRESHET_SCHEMATHESIS").ok();
    assert!(program.is_some() || std::env::var_os("CI").is_none(), "FRESHET_SCHEMATHESIS names no program");
    program
}

/// Names stand for what is there, so that requests reach it: one collection is made and removed again and again, another
/// one is filled. What documents refuse one by one is 207. The document says little of values, so what it lets pass may
/// be wrong: that right requests work is shown by other tests. Qdrant's routes leave unknown fields be, as Qdrant does.
const SETTINGS: &str = r#"
[parameters]
"path.name" = "filled"
"path.field" = "a"

[checks]
positive_data_acceptance.enabled = false
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "503", "504"]
negative_data_rejection.expected-statuses = ["207", "4xx", "503"]

[[operations]]
include-path = "/collections/{name}"
parameters = { "path.name" = "made" }

[[operations]]
include-path-regex = "^/(collections|aliases|telemetry)"
checks = { negative_data_rejection.enabled = false }

# A query has so many places for a wrong value that a value in each takes more than minutes.
[[operations]]
include-path = "/api/query"
phases = { coverage.enabled = false }
"#;

/// The same filters stand in the bodies of many routes: a short look puts a value in each place of one of them, count's.
const SHORT: &str = r#"
[[operations]]
include-path-regex = "/points/(scroll|query|search|recommend|delete|payload|vectors)"
phases = { coverage.enabled = false }
"#;

fn fill(server: &Server) {
    let put = |path: &str, body: Value| {
        let answer = server.request("PUT", path, Some(KEY), body.to_string().as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.body);
    };
    put(
        "/collections/filled",
        json!({
            "vectors": {"d": {"size": 2, "distance": "Cosine"}},
            "sparse_vectors": {"s": {"modifier": "idf"}},
        }),
    );
    let point = |id: u32| {
        json!({
            "id": id,
            "vector": {"d": [id, 1], "s": {"indices": [id], "values": [0.5]}},
            "payload": {"a": id % 3, "tags": ["x", id.to_string()]},
        })
    };
    put("/collections/filled/points?wait=true", json!({"points": (1..=20).map(point).collect::<Vec<_>>()}));
}

/// Runs the program to its end; what it says where it found something.
fn look(program: &str, folder: &Path, server: &Server) -> Result<(), String> {
    let settings = folder.join("schemathesis.toml");
    let seconds = std::env::var("FRESHET_SCHEMATHESIS_SECONDS").ok();
    let text = if seconds.is_some() { SETTINGS.to_owned() } else { format!("{SETTINGS}{SHORT}") };
    std::fs::write(&settings, text).unwrap();
    let mut command = Command::new(program);
    command.args(["--config-file".as_ref(), settings.as_os_str()]);
    command.args(["run", &format!("{}/openapi.json", server.url), "--header", &format!("api-key: {KEY}")]);
    command.args(["--request-timeout", "60", "--warnings", "off", "--continue-on-failure", "--no-color"]);
    match &seconds {
        Some(seconds) => command.args(["--max-time", seconds, "--phases", "coverage,fuzzing,stateful"]),
        None => command.args(["--seed", "7", "--max-examples", CASES, "--no-shrink"]),
    };
    let output = command.current_dir(folder).env_remove("PYTHONPATH").output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    eprintln!(
        "{}",
        told.lines().rev().take(12).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
    );
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{told}\n{}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn the_server_does_what_its_document_says() {
    let Some(program) = program() else { return };
    let folder = tempfile::tempdir().unwrap();
    let keys = format!("api_key = \"{KEY}\"\nrequest_timeout = \"20s\"\n");
    let server = Server::with_keys(folder.path(), &files(folder.path()), &keys);
    fill(&server);
    if let Err(found) = look(&program, folder.path(), &server) {
        panic!("{found}");
    }
    // It is still there, and what nobody may change by these requests answers.
    assert_eq!(server.request("GET", "/readyz", None, b"").status, 200);
    let panics = server.request("GET", "/metrics", Some(KEY), b"").body;
    let broken =
        |line: &&str| line.starts_with("freshet_http_requests_total") && line.contains("status=\"500\"");
    assert_eq!(panics.lines().find(broken), None);
    server.finish();
}
