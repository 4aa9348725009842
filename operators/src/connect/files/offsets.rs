//! Committed offsets: `DIRECTORY/.offsets/GROUP.json`, `{"TOPIC": {"0": NEXT}}`, replaced as a whole.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use freshet_schemas::{Offset, Partition};

use super::super::{ConnectError, lock};
use super::{io_error, sync_directory};

/// Next offsets of one group by topic and partition.
type Committed = BTreeMap<String, BTreeMap<Partition, Offset>>;

/// The file of one group.
pub(super) struct Offsets {
    path: PathBuf,
    /// Held while the file is read and replaced.
    writing: Mutex<()>,
}

impl Offsets {
    /// The file of a group in a directory of topics; touches nothing.
    pub(super) fn new(directory: &Path, group: &str) -> Self {
        let path = directory.join(".offsets").join(format!("{}.json", file_name(group)));
        Self { path, writing: Mutex::new(()) }
    }

    /// Next offsets of a topic.
    pub(super) fn committed(&self, topic: &str) -> Result<BTreeMap<Partition, Offset>, ConnectError> {
        Ok(self.read()?.remove(topic).unwrap_or_default())
    }

    /// Replaces next offsets of a topic; durable when it returns.
    pub(super) fn commit(&self, topic: &str, next: &BTreeMap<Partition, Offset>) -> Result<(), ConnectError> {
        let _writing = lock(&self.writing);
        let mut committed = self.read()?;
        committed.entry(topic.to_owned()).or_default().extend(next);
        self.replace(&committed).map_err(|error| io_error("cannot write", &self.path, error))
    }

    fn read(&self) -> Result<Committed, ConnectError> {
        let text = match std::fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Committed::new()),
            Err(error) => return Err(io_error("cannot read", &self.path, error)),
        };
        serde_json::from_slice(&text).map_err(|error| {
            let path = self.path.display();
            let what = format!("\"{path}\" does not hold committed offsets; remove it to read topics from their start");
            ConnectError::World { what, source: Some(error.into()), retry: false }
        })
    }

    fn replace(&self, committed: &Committed) -> std::io::Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        let new = self.path.with_extension("json.new");
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec(committed)?)?;
        file.sync_all()?;
        std::fs::rename(&new, &self.path)?;
        sync_directory(folder)
    }
}

/// The name of a group as that of a file: letters, digits, `-`, `_` and `.` stay, other bytes become `%XX`.
fn file_name(group: &str) -> String {
    let mut name = String::new();
    for byte in group.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => name.push(char::from(byte)),
            other => name.push_str(&format!("%{other:02X}")),
        }
    }
    name
}
