//! Kafka of a test's own, started by `scripts/kafka.sh`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use freshet_operators::clock;

/// Some brokers; they end when it is dropped.
pub(crate) struct Cluster {
    folder: tempfile::TempDir,
    /// Addresses of the brokers, and the first port.
    pub(crate) servers: String,
    pub(crate) port: u16,
    /// Clusters are up one after the other: several at once would make each other time out on a small machine.
    _turn: MutexGuard<'static, ()>,
}

static TURN: Mutex<()> = Mutex::new(());

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/kafka.sh")
}

impl Cluster {
    /// Starts so many brokers. `properties` is told the first port, of which those up to 100 beyond are the cluster's.
    pub(crate) fn start(brokers: usize, properties: impl Fn(u16) -> String) -> Self {
        // A test that has failed has ended its cluster all the same.
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("extra.properties");
        // Below the range that the system hands out; another run may take the same ports first.
        for attempt in 0..5 {
            let place = (clock::now_us() / 7 + u64::from(std::process::id()) * 31 + attempt * 13) % 90;
            let port = 20_000 + 100 * u16::try_from(place).unwrap();
            std::fs::write(&file, properties(port)).unwrap();
            let started = Command::new(script())
                .arg("start")
                .arg(folder.path())
                .args([port.to_string(), brokers.to_string()])
                .env("KAFKA_PROPERTIES", &file)
                .stderr(Stdio::inherit())
                .output()
                .unwrap();
            if started.status.success() {
                let servers = String::from_utf8(started.stdout).unwrap().trim().to_owned();
                return Self { folder, servers, port, _turn: turn };
            }
        }
        panic!("no Kafka starts");
    }

    /// Kills broker `number`, from 1, at once.
    pub(crate) fn kill(&self, number: i32) {
        let file = self.folder.path().join(number.to_string()).join("kafka.pid");
        let pid = std::fs::read_to_string(file).unwrap();
        let killed = Command::new("kill").args(["-KILL", pid.trim()]).status().unwrap();
        assert!(killed.success(), "broker {number} runs");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(Command::new(script()).arg("stop").arg(self.folder.path()).status());
    }
}
