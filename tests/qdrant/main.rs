//! Qdrant's own Python client against `freshet run`: `FRESHET_QDRANT` names a Python that has it.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]

mod collections;
mod malformed;
mod schemathesis;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use freshet_tests::drive;
use freshet_tests::http::{Response, request};

/// Longest wait for something that comes soon; only a failing test waits this long.
const LIMIT: Duration = Duration::from_secs(120);

/// The Python, where there is one; needed on CI.
fn python() -> Option<String> {
    let python = std::env::var("FRESHET_QDRANT").ok();
    assert!(python.is_some() || std::env::var_os("CI").is_none(), "FRESHET_QDRANT names no Python");
    python
}

/// `freshet run`, with collections.
struct Server {
    child: Child,
    url: String,
    /// What it says; read on, so that it never waits for a reader.
    lines: Mutex<Receiver<String>>,
}

impl Server {
    fn start(folder: &Path, connector: &str) -> Self {
        Self::with_keys(folder, connector, "")
    }

    /// `keys`: more lines of `[http]`.
    fn with_keys(folder: &Path, connector: &str, keys: &str) -> Self {
        let (before, rest) = drive::CONFIG.split_once("[connector]").unwrap();
        let after = &rest[rest.find('[').unwrap()..];
        let store = folder.join("snapshots");
        let text = format!(
            "{before}[connector]\n{connector}\n{after}\n[snapshots]\nstore = \"file://{}\"\n\
             [http]\nlisten = \"127.0.0.1:0\"\n{keys}[collections]\nenabled = true\n",
            store.display()
        );
        Self::spawn(folder, &text)
    }

    fn spawn(folder: &Path, text: &str) -> Self {
        let config = folder.join("freshet.toml");
        std::fs::write(&config, text).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_freshet"))
            .args(["run", "--log", "warn", "--config"])
            .arg(&config)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let errors = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        // Ends with the process.
        std::thread::spawn(move || {
            for line in errors {
                eprintln!("freshet: {line}");
                // Nobody listens after the address.
                let _ = sender.send(line);
            }
        });
        let url = loop {
            let line = lines.recv_timeout(LIMIT).expect("the server says where it listens");
            if let Some((_, address)) = line.split_once("listening on ") {
                break address.to_owned();
            }
        };
        let server = Self { child, url, lines: Mutex::new(lines) };
        server.wait_until_ready();
        server
    }

    fn wait_until_ready(&self) {
        drive::until(|| self.request("GET", "/readyz", None, b"").status == 200);
    }

    fn request(&self, method: &str, path: &str, key: Option<&str>, body: &[u8]) -> Response {
        let address = self.url.strip_prefix("http://").unwrap().parse().unwrap();
        let headers: Vec<(&str, &str)> = key.iter().map(|key| ("api-key", *key)).collect();
        request(address, method, path, &headers, body)
    }

    /// Waits until it says something; returns that line.
    fn says(&self, what: &str) -> String {
        let lines = self.lines.lock().unwrap();
        let until = Instant::now() + LIMIT;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let line = lines.recv_timeout(left).unwrap_or_else(|_| panic!("it never says {what:?}"));
            if line.contains(what) {
                return line;
            }
        }
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Runs a script to its end.
    fn script(&self, python: &str, name: &str, arguments: &[&str]) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/qdrant").join(name);
        let mut command = Command::new(python);
        command.arg(script).arg(&self.url).args(arguments).env_remove("PYTHONPATH");
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{name}: {}\n{}", text(&output.stdout), text(&output.stderr));
        eprint!("{}", text(&output.stdout));
    }

    /// Ends it as an operator would.
    fn finish(mut self) {
        self.signal("-TERM");
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended where all went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn walk(connector: &str, folder: &Path) {
    let Some(python) = python() else { return };
    let server = Server::start(folder, connector);
    server.script(&python, "walk.py", &[]);
    server.finish();
    let server = Server::start(folder, connector);
    server.script(&python, "walk.py", &["again"]);
    server.finish();
}

fn files(folder: &Path) -> String {
    format!("kind = \"files\"\ndirectory = \"{}\"", folder.join("topics").display())
}

#[test]
fn a_program_of_the_client_works_and_a_restart_keeps_everything() {
    let folder = tempfile::tempdir().unwrap();
    walk(&files(folder.path()), folder.path());
    if python().is_none() {
        return;
    }
    // What was deleted is gone, with its snapshots.
    let left: Vec<String> = std::fs::read_dir(folder.path().join("topics"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("test.plain") || name.starts_with("test.hybrid"))
        .collect();
    assert_eq!(left, [""; 0]);
}

#[test]
fn answers_are_those_of_the_clients_local_mode() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &files(folder.path()));
    server.script(&python, "same.py", &[]);
    server.finish();
}

#[test]
fn collections_live_in_kafka() {
    let Ok(servers) = std::env::var("KAFKA_BOOTSTRAP_SERVERS") else {
        assert!(std::env::var_os("CI").is_none(), "no broker");
        return;
    };
    // A pipeline of its own: other tests share the brokers. The walk knows it by this name.
    let folder = tempfile::tempdir().unwrap();
    walk(
        &format!("kind = \"kafka\"\nbootstrap_servers = \"{servers}\"\ncreate_topics = true"),
        folder.path(),
    );
}

#[test]
fn keys_say_who_may_read_and_who_may_write() {
    let folder = tempfile::tempdir().unwrap();
    let keys = "api_key = \"all\"\nread_only_api_key = \"some\"\n";
    let server = Server::with_keys(folder.path(), &files(folder.path()), keys);
    let made = br#"{"vectors": {"size": 2, "distance": "Dot"}}"#;
    let query = br#"{"query": [1, 0]}"#;
    let points = br#"{"points": [{"id": 1, "vector": [1, 2]}]}"#;
    for (method, path, key, body, status) in [
        ("GET", "/collections", None, &b""[..], 401),
        ("GET", "/collections", Some("none"), b"", 401),
        ("PUT", "/collections/c", Some("some"), made, 403),
        ("PUT", "/collections/c", Some("all"), made, 200),
        ("PUT", "/collections/c/points?wait=true", Some("some"), points, 403),
        ("PUT", "/collections/c/points?wait=true", Some("all"), points, 200),
        ("POST", "/collections/c/points/query", Some("some"), query, 200),
        ("POST", "/collections/c/points/scroll", Some("some"), b"{}", 200),
        ("POST", "/collections/c/points/delete", Some("some"), br#"{"points": [1]}"#, 403),
        ("DELETE", "/collections/c", Some("some"), b"", 403),
        ("GET", "/collections/c/exists", Some("some"), b"", 200),
        ("POST", "/collections/c/points/query", Some("some"), b"{", 400),
    ] {
        let answer = server.request(method, path, key, body);
        assert_eq!(answer.status, status, "{method} {path} {key:?}: {}", answer.body);
        let told = &answer.json()["status"];
        assert_eq!(told == "ok", status == 200, "{}", answer.body);
        assert_eq!(told["error"].is_string(), status != 200, "{}", answer.body);
    }
    server.finish();
}

/// `cargo test --release --locked -p freshet --test qdrant -- --ignored figures --nocapture`
#[test]
#[ignore = "measures; takes a minute of a quiet machine"]
fn figures_beside_the_clients_local_mode() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let topics = folder.path().join("topics");
    std::fs::create_dir_all(&topics).unwrap();
    let text = format!(
        "[connector]\nkind = \"files\"\ndirectory = \"{}\"\n[vectors.bm25]\nkind = \"sparse\"\nmodel = \"bm25\"\n\
         [plans.default]\nusing = \"bm25\"\n[http]\nlisten = \"127.0.0.1:0\"\n[collections]\nenabled = true\n",
        topics.display()
    );
    let server = Server::spawn(folder.path(), &text);
    server.script(&python, "figures.py", &[]);
    server.finish();
}
