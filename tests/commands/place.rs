//! A pipeline in a folder of its own, and the binary as a process.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use freshet_config::StoreOptions;
use freshet_operators::snapshot::{Store, list};
use freshet_tests::drive;
use serde_json::Value;

/// Longest wait for something that comes soon; only a failing test waits this long.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// A pipeline on files, in a folder of its own.
pub(crate) struct Place {
    pub(crate) folder: tempfile::TempDir,
}

impl Place {
    /// `snapshots`: the rest of the section.
    pub(crate) fn new(snapshots: &str) -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        let topics = place.folder.path().join("topics");
        std::fs::create_dir_all(&topics).unwrap();
        let (before, rest) = drive::CONFIG.split_once("[connector]").unwrap();
        let after = &rest[rest.find('[').unwrap()..];
        let text = format!(
            "{before}[connector]\nkind = \"files\"\ndirectory = \"{}\"\n{after}\n[snapshots]\nstore = \"file://{}\"\n{snapshots}\n",
            topics.display(),
            place.store().display()
        );
        std::fs::write(place.config(), text).unwrap();
        place
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("freshet.toml")
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.folder.path().join("snapshots")
    }

    pub(crate) fn snapshots(&self) -> Vec<String> {
        list(&self.open()).unwrap()
    }

    pub(crate) fn open(&self) -> Store {
        Store::open(&format!("file://{}", self.store().display()), &StoreOptions::default()).unwrap()
    }

    pub(crate) fn append(&self, topic: &str, record: &Value) {
        let path = self.folder.path().join(format!("topics/{topic}.jsonl"));
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        std::io::Write::write_all(&mut file, format!("{record}\n").as_bytes()).unwrap();
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_freshet"));
        command
            .args(arguments)
            .arg("--config")
            .arg(self.config())
            .env_remove("FRESHET_LOG")
            .env("NO_COLOR", "1");
        command.stdin(Stdio::null());
        command
    }

    pub(crate) fn done(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the binary runs")
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `freshet run`, and what it says.
pub(crate) struct Run {
    child: Child,
    lines: Receiver<String>,
    told: Vec<String>,
}

impl Run {
    /// Starts it, and waits until it owns the store: it listens to signals then.
    pub(crate) fn start(place: &Place, log: &str) -> Self {
        let owners = place.store().join("owners");
        let claims = |folder: &Path| -> BTreeSet<OsString> {
            let entries = std::fs::read_dir(folder).into_iter().flatten();
            entries.filter_map(|entry| Some(entry.ok()?.file_name())).collect()
        };
        let before = claims(&owners);
        let mut child = place
            .command(&["run", "--log", log])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let errors = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        // Ends with the process.
        std::thread::spawn(move || errors.into_iter().try_for_each(|line| sender.send(line)));
        let run = Self { child, lines, told: Vec::new() };
        let until = Instant::now() + LIMIT;
        while claims(&owners).is_subset(&before) {
            assert!(Instant::now() < until, "the run begins: {:?}", run.lines.try_iter().collect::<Vec<_>>());
            std::thread::park_timeout(Duration::from_millis(5));
        }
        run
    }

    /// The next line that holds a text.
    pub(crate) fn says(&mut self, part: &str) -> String {
        let until = Instant::now() + LIMIT;
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.told.push(line.clone());
                    if line.contains(part) {
                        return line;
                    }
                }
                Err(error) => panic!("{part:?} is not said ({error}): {:#?}", self.told),
            }
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(sent.unwrap().success(), "{name} is sent");
    }

    /// Ends it as Ctrl-C does; all that it has said.
    pub(crate) fn finish(mut self) -> Vec<String> {
        self.signal("INT");
        loop {
            match self.lines.recv_timeout(LIMIT) {
                Ok(line) => self.told.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("the run ends: {:#?}", self.told),
            }
        }
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {:#?}", self.told);
        std::mem::take(&mut self.told)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // A test that failed leaves nothing behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
