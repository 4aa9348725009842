//! Appends records with the progress of the queries they settle: both or neither, also when the process is killed.
//!
//! A transaction is an intent in the file of committed offsets, then one `write` per topic file, then their `fdatasync`.
//! Readers see lines before that; those of an append that a crash cut short are cut off at the next start.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::super::{Batch, ConnectError, TransactionWriter};
use super::offsets::{Intent, Offsets};
use super::sink::{RETRY, is_full, lacks_newline, open};
use super::{io_error, line, topic_path};
use crate::crash;

/// Writes topic files and the offsets of a group.
pub(super) struct FilesWriter {
    directory: PathBuf,
    offsets: Arc<Offsets>,
    topic: String,
}

/// What is appended to one file, which stays locked until this is dropped.
struct Append {
    path: PathBuf,
    file: File,
    bytes: Vec<u8>,
}

impl FilesWriter {
    /// Writes with the progress of a topic.
    pub(super) fn new(directory: PathBuf, offsets: Arc<Offsets>, topic: &str) -> Self {
        Self { directory, offsets, topic: topic.to_owned() }
    }

    /// Opens and locks a file; returns its length too.
    fn begin(&self, topic: &str, lines: Vec<u8>) -> Result<(Append, u64), ConnectError> {
        let path = topic_path(&self.directory, topic)?;
        let begin = || {
            let mut file = open(&path)?;
            match file.lock() {
                Err(error) if error.kind() != ErrorKind::Unsupported => return Err(error),
                Ok(()) | Err(_) => {}
            }
            let length = file.metadata()?.len();
            let bytes = if lacks_newline(&mut file)? { [b"\n".as_slice(), &lines].concat() } else { lines };
            Ok((Append { path: path.clone(), file, bytes }, length))
        };
        begin().map_err(|error| io_error("cannot append to", &path, error))
    }
}

impl TransactionWriter for FilesWriter {
    fn write(&mut self, batch: &mut Batch, pause: &dyn Fn(Duration) -> bool) -> Result<(), ConnectError> {
        crash::point("transaction.begin");
        let mut lines: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
        for entry in &batch.entries {
            line::encode(&entry.record, lines.entry(&entry.topic).or_default());
        }
        let (mut appends, mut lengths) = (Vec::new(), BTreeMap::new());
        for (topic, lines) in lines {
            let (append, before) = self.begin(topic, lines)?;
            lengths.insert(topic.to_owned(), (before, before + append.bytes.len() as u64));
            appends.push(append);
        }
        let intent = Intent::new(lengths, &self.topic, &batch.progress);
        self.offsets.intend(intent.clone())?;
        crash::point("transaction.intended");
        let written = appends.iter_mut().try_for_each(|Append { path, file, bytes }| {
            let written = write_whole(file, path, bytes, pause).and_then(|()| file.sync_data());
            crash::point("transaction.written");
            written.map_err(|error| io_error("cannot append to", path, error))
        });
        crash::point("transaction.committed");
        written.inspect_err(|_| {
            if let Err(error) = self.offsets.undo(&intent) {
                tracing::error!(%error, "left for the next start");
            }
        })
    }
}

/// Writes all bytes: with one `write` unless the disk is full, then with more, once it is not.
pub(super) fn write_whole(
    file: &mut File,
    path: &Path,
    bytes: &[u8],
    pause: &dyn Fn(Duration) -> bool,
) -> io::Result<()> {
    let mut written = 0;
    let mut told = false;
    while written < bytes.len() {
        match file.write(&bytes[written..]) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(length) => written += length,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if is_full(&error) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::error!(path = %path.display(), %error, "cannot append; trying again until there is room");
                }
                if !pause(RETRY) {
                    return Err(error);
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
