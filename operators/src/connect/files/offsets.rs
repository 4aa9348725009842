//! Committed offsets: `DIRECTORY/.offsets/GROUP.json`, replaced as a whole.
//!
//! ```text
//! {"TOPIC": {"0": NEXT}, "TOPIC": {"0": {"next": NEXT, "metadata": "…"}},
//!  ".intent": {"files": {"answers": [LENGTH BEFORE, LENGTH AFTER]}, "topic": "queries", "offsets": {"0": {…}}}}
//! ```
//!
//! The intent makes an append and the offsets that go with it one step: it is durable before the append begins, and its
//! offsets count once every file has the length that it names. The next start finishes or undoes it; the next
//! transaction, which begins when the one before it is durable, takes its offsets over.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use freshet_schemas::{Offset, Partition};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::progress::Progress;
use super::super::{ConnectError, lock};
use super::{io_error, sync_directory, topic_path};

/// Key of the intent; no topic has such a name.
const INTENT: &str = ".intent";

/// What is committed of a partition.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Place {
    Next(Offset),
    With { next: Offset, metadata: String },
}

impl Place {
    fn next(&self) -> Offset {
        match self {
            Self::Next(next) | Self::With { next, .. } => *next,
        }
    }
}

/// What an append will do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Intent {
    /// Length of each topic's file, before and after.
    pub(super) files: BTreeMap<String, (u64, u64)>,
    topic: String,
    offsets: BTreeMap<Partition, Place>,
}

impl Intent {
    /// Appends that change these files, with the progress of a topic.
    pub(super) fn new(
        files: BTreeMap<String, (u64, u64)>,
        topic: &str,
        progress: &BTreeMap<Partition, Progress>,
    ) -> Self {
        let place =
            |progress: &Progress| Place::With { next: progress.next(), metadata: progress.to_metadata() };
        let offsets = progress.iter().map(|(partition, progress)| (*partition, place(progress))).collect();
        Self { files, topic: topic.to_owned(), offsets }
    }
}

/// Next offsets of one group by topic and partition, and what is under way.
#[derive(Default)]
struct Committed {
    topics: BTreeMap<String, BTreeMap<Partition, Place>>,
    intent: Option<Intent>,
}

impl Committed {
    fn parse(text: &[u8]) -> serde_json::Result<Self> {
        let mut topics: BTreeMap<String, Value> = serde_json::from_slice(text)?;
        let intent = topics.remove(INTENT).map(serde_json::from_value).transpose()?;
        let places = topics.into_iter().map(|(topic, places)| Ok((topic, serde_json::from_value(places)?)));
        Ok(Self { topics: places.collect::<serde_json::Result<_>>()?, intent })
    }

    fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        let mut topics: BTreeMap<&str, Value> = BTreeMap::new();
        for (topic, places) in &self.topics {
            topics.insert(topic, serde_json::to_value(places)?);
        }
        if let Some(intent) = &self.intent {
            topics.insert(INTENT, serde_json::to_value(intent)?);
        }
        serde_json::to_vec(&topics)
    }

    /// Takes over what the append has done.
    fn fulfil(&mut self) {
        if let Some(Intent { topic, offsets, .. }) = self.intent.take() {
            self.topics.entry(topic).or_default().extend(offsets);
        }
    }
}

/// The file of one group.
pub(super) struct Offsets {
    directory: PathBuf,
    path: PathBuf,
    /// Held while the file is read and replaced.
    writing: Mutex<()>,
}

impl Offsets {
    /// The file of a group in a directory of topics; touches nothing.
    pub(super) fn new(directory: &Path, group: &str) -> Self {
        let path = directory.join(".offsets").join(format!("{}.json", file_name(group)));
        Self { directory: directory.to_owned(), path, writing: Mutex::new(()) }
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Next offsets of a topic.
    pub(super) fn committed(&self, topic: &str) -> Result<BTreeMap<Partition, Offset>, ConnectError> {
        let mut committed = self.read()?;
        if let Some(intent) = &committed.intent
            && self.is_done(intent)?
        {
            committed.fulfil();
        }
        let places = committed.topics.remove(topic).unwrap_or_default();
        Ok(places.into_iter().map(|(partition, place)| (partition, place.next())).collect())
    }

    /// Replaces next offsets of a topic; durable when it returns.
    pub(super) fn commit(&self, topic: &str, next: &BTreeMap<Partition, Offset>) -> Result<(), ConnectError> {
        let _writing = lock(&self.writing);
        let mut committed = self.read()?;
        if committed.intent.as_ref().is_some_and(|intent| intent.topic == topic) {
            committed.intent = None;
        }
        let places = next.iter().map(|(partition, next)| (*partition, Place::Next(*next)));
        committed.topics.entry(topic.to_owned()).or_default().extend(places);
        self.replace(&committed)
    }

    /// Notes durably what is to be appended next; what was appended last is durable.
    pub(super) fn intend(&self, intent: Intent) -> Result<(), ConnectError> {
        let _writing = lock(&self.writing);
        let mut committed = self.read()?;
        committed.fulfil();
        committed.intent = Some(intent);
        self.replace(&committed)
    }

    /// Finishes or undoes what was under way when a process ended; returns how far the queries of a topic are answered.
    pub(super) fn recover(&self, topic: &str) -> Result<BTreeMap<Partition, Progress>, ConnectError> {
        let _writing = lock(&self.writing);
        let mut committed = self.read()?;
        if let Some(intent) = committed.intent.clone() {
            if self.is_done(&intent)? {
                committed.fulfil();
            } else {
                self.undo(&intent)?;
                committed.intent = None;
            }
            self.replace(&committed)?;
        }
        let places = committed.topics.remove(topic).unwrap_or_default();
        let recover = |partition: Partition, place: Place| match place {
            Place::Next(next) => Progress::before(next),
            Place::With { next, metadata } => Progress::recover(topic, partition, next, &metadata),
        };
        Ok(places.into_iter().map(|(partition, place)| (partition, recover(partition, place))).collect())
    }

    /// Whether all that was to be appended is there.
    fn is_done(&self, intent: &Intent) -> Result<bool, ConnectError> {
        for (topic, (_, after)) in &intent.files {
            if self.length(topic)? < *after {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Cuts off what was appended.
    pub(super) fn undo(&self, intent: &Intent) -> Result<(), ConnectError> {
        for (topic, (before, _)) in &intent.files {
            if self.length(topic)? <= *before {
                continue;
            }
            let path = topic_path(&self.directory, topic)?;
            tracing::warn!(path = %path.display(), length = before, "cutting off answers that were not written whole");
            let cut = || {
                let file = OpenOptions::new().write(true).open(&path)?;
                file.set_len(*before)?;
                file.sync_all()
            };
            cut().map_err(|error| io_error("cannot cut off what was appended to", &path, error))?;
        }
        Ok(())
    }

    fn length(&self, topic: &str) -> Result<u64, ConnectError> {
        let path = topic_path(&self.directory, topic)?;
        match std::fs::metadata(&path) {
            Ok(metadata) => Ok(metadata.len()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
            Err(error) => Err(io_error("cannot look at", &path, error)),
        }
    }

    fn read(&self) -> Result<Committed, ConnectError> {
        let text = match std::fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Committed::default()),
            Err(error) => return Err(io_error("cannot read", &self.path, error)),
        };
        Committed::parse(&text).map_err(|error| {
            let path = self.path.display();
            let what = format!(
                "\"{path}\" does not hold committed offsets; remove it to read topics from their start"
            );
            ConnectError::World { what, source: Some(error.into()), retry: false }
        })
    }

    fn replace(&self, committed: &Committed) -> Result<(), ConnectError> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let replace = || {
            std::fs::create_dir_all(folder)?;
            let new = self.path.with_extension("json.new");
            let mut file = File::create(&new)?;
            file.write_all(&committed.to_json()?)?;
            file.sync_all()?;
            std::fs::rename(&new, &self.path)?;
            sync_directory(folder)
        };
        replace().map_err(|error: std::io::Error| io_error("cannot write", &self.path, error))
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
