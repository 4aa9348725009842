//! Appends records to topic files on a thread of its own.
//!
//! What has gathered while a batch was written is the next batch. Of each batch, the lines of one topic are one
//! `write`, under an advisory lock on the file that all of Freshet's writers take, so that lines of several processes
//! do not mix; then the file is synced (`fdatasync`), then its tokens are settled: a settled record outlives the
//! machine. Readers see lines before that.
//!
//! When the disk is full the thread waits and tries again, saying so once; the queue fills and the caller's records
//! are given back. Other failures settle the batch's tokens with the reason.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use freshet_schemas::Record;

use super::super::{ConnectError, Sink, Wake, lock};
use super::reader::identity;
use super::transactions::write_whole;
use super::{io_error, line, sync_directory, topic_path};

/// Records are given back while so many have been sent and their tokens not been taken.
const UNSETTLED_MAX: usize = 4096;
/// Records are given back while so many bytes wait to be written.
const BYTES_MAX: usize = 16 << 20;
/// Time between two attempts to write to a full disk.
pub(super) const RETRY: Duration = Duration::from_millis(500);

/// Hands records to its thread.
pub(super) struct FilesSink {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
}

struct Queue {
    state: Mutex<State>,
    /// Notified when there is something to write, and when the queue is closed.
    changed: Condvar,
    wake: Wake,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Waiting>,
    /// Bytes of records waiting or being written.
    bytes: usize,
    /// Records whose token has not been taken.
    unsettled: usize,
    settled: Vec<(u64, Result<(), String>)>,
    closed: bool,
}

struct Waiting {
    topic: String,
    record: Record,
    token: u64,
}

impl FilesSink {
    /// Starts a writer for topics of this directory.
    pub(super) fn start(directory: PathBuf, wake: Wake) -> Result<Self, ConnectError> {
        let queue = Arc::new(Queue { state: Mutex::default(), changed: Condvar::new(), wake });
        let mut writer =
            Writer { directory: directory.clone(), files: BTreeMap::new(), queue: Arc::clone(&queue) };
        let thread = std::thread::Builder::new().name("write topics".to_owned()).spawn(move || writer.run());
        let thread =
            thread.map_err(|error| io_error("cannot start a thread to write to", &directory, error))?;
        Ok(Self { queue, thread: Some(thread) })
    }
}

impl Sink for FilesSink {
    fn send(&mut self, topic: &str, record: Record, token: u64) -> Result<(), Record> {
        let mut state = lock(&self.queue.state);
        if state.unsettled >= UNSETTLED_MAX || state.bytes >= BYTES_MAX {
            return Err(record);
        }
        state.unsettled += 1;
        state.bytes += record.size_bytes();
        state.waiting.push_back(Waiting { topic: topic.to_owned(), record, token });
        self.queue.changed.notify_all();
        Ok(())
    }

    fn settled(&mut self) -> Vec<(u64, Result<(), String>)> {
        let mut state = lock(&self.queue.state);
        state.unsettled -= state.settled.len();
        std::mem::take(&mut state.settled)
    }
}

impl Drop for FilesSink {
    /// Gives up what is not yet being written: nobody has been told that it would be.
    fn drop(&mut self) {
        lock(&self.queue.state).closed = true;
        self.queue.changed.notify_all();
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!(?panic, "the thread that wrote topic files panicked");
        }
    }
}

/// The lines of one batch for one topic.
#[derive(Default)]
struct Append {
    lines: Vec<u8>,
    bytes: usize,
    tokens: Vec<u64>,
}

struct Writer {
    directory: PathBuf,
    files: BTreeMap<String, File>,
    queue: Arc<Queue>,
}

impl Writer {
    fn run(&mut self) {
        while let Some(batch) = self.next_batch() {
            let mut appends: BTreeMap<String, Append> = BTreeMap::new();
            for Waiting { topic, record, token } in batch {
                let append = appends.entry(topic).or_default();
                line::encode(&record, &mut append.lines);
                append.bytes += record.size_bytes();
                append.tokens.push(token);
            }
            for (topic, append) in appends {
                let fate = self.append(&topic, &append.lines).map_err(|error| reason(&error));
                self.settle(&append, &fate);
            }
        }
    }

    /// Waits for records; `None` when the sink is gone.
    fn next_batch(&self) -> Option<VecDeque<Waiting>> {
        let state = lock(&self.queue.state);
        let idle = |state: &mut State| !state.closed && state.waiting.is_empty();
        let mut state = self.queue.changed.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner);
        (!state.closed).then(|| std::mem::take(&mut state.waiting))
    }

    fn settle(&self, append: &Append, fate: &Result<(), String>) {
        let mut state = lock(&self.queue.state);
        state.bytes -= append.bytes;
        state.settled.extend(append.tokens.iter().map(|token| (*token, fate.clone())));
        drop(state);
        (self.queue.wake)();
    }

    fn append(&mut self, topic: &str, lines: &[u8]) -> Result<(), ConnectError> {
        let path = topic_path(&self.directory, topic)?;
        let fail = |error| io_error("cannot append to", &path, error);
        let mut file = match self.files.remove(topic) {
            Some(file) if is_at(&file, &path) => file,
            Some(_) | None => open(&path).map_err(fail)?,
        };
        with_lock(&mut file, |file| {
            let mut batch = Vec::new();
            if lacks_newline(file)? {
                batch.push(b'\n');
            }
            batch.extend_from_slice(lines);
            write_whole(file, &path, &batch, &|time| {
                let state = lock(&self.queue.state);
                let waited = self.queue.changed.wait_timeout_while(state, time, |state| !state.closed);
                !waited.unwrap_or_else(PoisonError::into_inner).0.closed
            })?;
            file.sync_data()
        })
        .map_err(fail)?;
        self.files.insert(topic.to_owned(), file);
        Ok(())
    }
}

/// Whether there may be room later.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// Opens a topic file for appending; creates it.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let known = path.exists();
    let file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
    if !known && let Some(folder) = path.parent() {
        sync_directory(folder)?;
    }
    Ok(file)
}

/// Whether the open file is still the one at the path.
fn is_at(file: &File, path: &Path) -> bool {
    let identities =
        file.metadata().and_then(|open| Ok((identity(&open), identity(&std::fs::metadata(path)?))));
    identities.is_ok_and(|(open, there)| open == there)
}

/// Where file systems have no locks, goes on without.
fn with_lock<R>(file: &mut File, work: impl FnOnce(&mut File) -> io::Result<R>) -> io::Result<R> {
    match file.lock() {
        Err(error) if error.kind() == ErrorKind::Unsupported => work(file),
        Err(error) => Err(error),
        Ok(()) => {
            let result = work(file);
            file.unlock().and(result)
        }
    }
}

/// Whether the file's last line has no end: what is appended would become part of it.
pub(super) fn lacks_newline(file: &mut File) -> io::Result<bool> {
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

fn reason(error: &ConnectError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
