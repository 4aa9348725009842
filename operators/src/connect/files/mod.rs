//! JSON Lines files in a directory: the embedded default, for which nothing is installed.
//!
//! ```text
//! DIRECTORY/documents.jsonl     a topic; one line, one record (see `line`); offset = line number, partition 0
//! DIRECTORY/queries.jsonl       followed as they grow
//! DIRECTORY/answers.jsonl       appended to; readable at once, durable before it counts as written
//! DIRECTORY/.offsets/NAME.json  next offsets of the pipeline NAME, and which queries it has answered
//! DIRECTORY/.freshet.lock       held by a running pipeline
//! ```
//!
//! - Blank lines count as lines and are no records. A line counts once its newline is there; the last line of a file
//!   also without one, if it is a whole JSON object.
//! - Missing files, and the directory, are created by [`Connector::prepare`], inputs too: an empty topic is a topic.
//! - A file may only grow. One that is cut, replaced or removed while it is read, or that has fewer lines than were read
//!   before, is an error.
//! - A line of more than 64 MiB is handed on as a record that every decoder refuses, with its beginning and its length.
//! - Sources look at their file every 20 ms; memory is bounded whatever the size of file and lines.

mod line;
mod offsets;
mod reader;
mod sink;
mod source;
mod transactions;

#[cfg(test)]
mod line_tests;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use freshet_schemas::{Offset, Partition};

use self::offsets::Offsets;
use self::reader::{LINE_BYTES_MAX, LineReader};
use self::sink::FilesSink;
use self::source::FilesSource;
use self::transactions::FilesWriter;
use super::{ConnectError, Connector, Progress, Share, Sink, Source, TransactionWriter, Wake, lock};
use crate::metrics::Shelf;

/// The record that a line of a topic in a file is, without its `\n`; none if it is blank.
pub fn record_of_line(line: &[u8]) -> Option<freshet_schemas::Record> {
    line::decode(line)
}

/// The one partition of a file.
const PARTITION: Partition = 0;
/// Longest name of a topic, as in Kafka.
const TOPIC_LENGTH_MAX: usize = 249;

/// Topics in the JSON Lines files of a directory.
pub struct Files {
    directory: PathBuf,
    offsets: Arc<Offsets>,
    /// How far each topic's lines have been counted, so that counting again reads only what is new.
    counted: Mutex<BTreeMap<String, LineReader>>,
}

/// Held while a pipeline runs on a directory; others see it taken until it is dropped or its process ends.
#[derive(Debug)]
#[must_use = "the directory is free again once this is dropped"]
pub struct FilesLock {
    _file: File,
}

impl Files {
    /// Topics of a directory, with the offsets of a group. Touches nothing yet.
    pub fn new(directory: impl Into<PathBuf>, group: &str) -> Self {
        let directory = directory.into();
        let offsets = Arc::new(Offsets::new(&directory, group));
        Self { directory, offsets, counted: Mutex::default() }
    }

    /// Takes the directory's lock, which is for the one pipeline that runs on it; `None` if another holds it.
    /// Creates the directory.
    pub fn try_lock(&self) -> Result<Option<FilesLock>, ConnectError> {
        let path = self.directory.join(".freshet.lock");
        let fail = |error| io_error("cannot lock", &path, error);
        std::fs::create_dir_all(&self.directory).map_err(fail)?;
        let file = OpenOptions::new().create(true).append(true).open(&path).map_err(fail)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(FilesLock { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(fail(error)),
        }
    }

    fn create(&self, topic: &str) -> Result<(), ConnectError> {
        let path = topic_path(&self.directory, topic)?;
        let fail = |error| io_error("cannot create", &path, error);
        if path.exists() {
            return Ok(());
        }
        std::fs::create_dir_all(&self.directory).map_err(fail)?;
        OpenOptions::new().create(true).append(true).open(&path).map_err(fail)?;
        tracing::info!(path = %path.display(), "created an empty topic");
        sync_directory(&self.directory).map_err(fail)
    }
}

impl Connector for Files {
    fn prepare(
        &self,
        inputs: &[&str],
        outputs: &[&str],
    ) -> Result<BTreeMap<String, Vec<Partition>>, ConnectError> {
        let topics = inputs.iter().chain(outputs);
        topics.map(|topic| self.create(topic).map(|()| ((*topic).to_owned(), vec![PARTITION]))).collect()
    }

    fn prepare_table(&self, topic: &str) -> Result<(), ConnectError> {
        self.create(topic)
    }

    /// The group's offsets go as a whole: it has no other topics.
    fn remove(&self, topics: &[&str]) -> Result<(), ConnectError> {
        let mut paths = Vec::with_capacity(topics.len() + 1);
        for topic in topics {
            lock(&self.counted).remove(*topic);
            paths.push(topic_path(&self.directory, topic)?);
        }
        paths.push(self.offsets.path().to_owned());
        for path in paths {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(io_error("cannot remove", &path, error));
                }
                _ => {}
            }
        }
        if !self.directory.exists() {
            return Ok(());
        }
        sync_directory(&self.directory).map_err(|error| io_error("cannot sync", &self.directory, error))
    }

    fn end_offsets(&self, topic: &str) -> Result<BTreeMap<Partition, Offset>, ConnectError> {
        let path = topic_path(&self.directory, topic)?;
        let mut counted = lock(&self.counted);
        let mut reader = match counted.remove(topic) {
            Some(reader) if reader.check().is_ok() => reader,
            Some(_) | None => LineReader::open(&path, LINE_BYTES_MAX)?,
        };
        while reader.read_block(|_| ())? {}
        let end = reader.end();
        counted.insert(topic.to_owned(), reader);
        Ok(BTreeMap::from([(PARTITION, end)]))
    }

    fn committed(&self, topic: &str) -> Result<BTreeMap<Partition, Offset>, ConnectError> {
        self.offsets.committed(topic)
    }

    fn commit(&self, topic: &str, next: &BTreeMap<Partition, Offset>) -> Result<(), ConnectError> {
        self.offsets.commit(topic, next)
    }

    fn source(
        &self,
        topic: &str,
        partitions: &[Partition],
        start: &BTreeMap<Partition, Offset>,
        wake: Wake,
    ) -> Result<Box<dyn Source>, ConnectError> {
        let path = topic_path(&self.directory, topic)?;
        match partitions {
            [] => Ok(Box::new(FilesSource::of_nothing(wake))),
            [PARTITION] => {
                let start = start.get(&PARTITION).copied().unwrap_or(0);
                Ok(Box::new(FilesSource::start(path, start, wake)?))
            }
            others => {
                let what = format!("\"{}\" has partition 0 only, not {others:?}", path.display());
                Err(ConnectError::World { what, source: None, retry: false })
            }
        }
    }

    fn follow(
        &self,
        topic: &str,
        share: Share,
        start: &BTreeMap<Partition, Offset>,
        wake: Wake,
    ) -> Result<Box<dyn Source>, ConnectError> {
        let partitions: &[Partition] = if share.holds(PARTITION) { &[PARTITION] } else { &[] };
        self.source(topic, partitions, start, wake)
    }

    /// The directory's lock keeps others away, where it is taken.
    fn transactions(
        &self,
        topic: &str,
    ) -> Result<(BTreeMap<Partition, Progress>, Box<dyn TransactionWriter>), ConnectError> {
        let progress = self.offsets.recover(topic)?;
        let writer = FilesWriter::new(self.directory.clone(), Arc::clone(&self.offsets), topic);
        Ok((progress, Box::new(writer)))
    }

    fn sink(&self, wake: Wake) -> Result<Box<dyn Sink>, ConnectError> {
        Ok(Box::new(FilesSink::start(self.directory.clone(), wake)?))
    }

    fn register(&self, _registry: &dyn Shelf) -> prometheus::Result<()> {
        Ok(())
    }
}

/// File of a topic. Names are those that Kafka allows, so that none leads out of the directory.
fn topic_path(directory: &Path, topic: &str) -> Result<PathBuf, ConnectError> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if topic.is_empty()
        || topic.len() > TOPIC_LENGTH_MAX
        || topic.starts_with('.')
        || !topic.bytes().all(legal)
    {
        let what = format!(
            "\"{topic}\" is no name of a topic: use 1 to 249 letters, digits, \".\", \"_\" and \"-\""
        );
        return Err(ConnectError::World { what, source: None, retry: false });
    }
    Ok(directory.join(format!("{topic}.jsonl")))
}

/// Makes a new or renamed entry of a directory durable.
fn sync_directory(directory: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(directory)?.sync_all() } else { Ok(()) }
}

fn io_error(what: &str, path: &Path, error: io::Error) -> ConnectError {
    let retry = !matches!(
        error.kind(),
        ErrorKind::NotFound
            | ErrorKind::PermissionDenied
            | ErrorKind::IsADirectory
            | ErrorKind::NotADirectory
    );
    ConnectError::World { what: format!("{what} \"{}\"", path.display()), source: Some(error.into()), retry }
}
