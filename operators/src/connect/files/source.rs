//! Follows one file on a thread of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use freshet_schemas::{Offset, Record};

use super::super::inbox::{Inbox, Item};
use super::super::{ConnectError, Polled, Source, Wake};
use super::reader::{LINE_BYTES_MAX, Line, LineReader};
use super::{PARTITION, io_error, line};

/// Time between two looks at a file that has been read to its end.
const LOOK: Duration = Duration::from_millis(20);
/// Header of a record whose line is too long: the length of the line in bytes. Its value is the beginning of the line
/// and a remark, which together are never JSON, so that the record is refused and not taken for a whole one.
const TRUNCATED: &str = "freshet.truncated";

/// Hands out what its thread has read.
pub(super) struct FilesSource {
    inbox: Arc<Inbox>,
    thread: Option<JoinHandle<()>>,
}

impl FilesSource {
    /// Starts to read at line `start`.
    pub(super) fn start(path: PathBuf, start: Offset, wake: Wake) -> Result<Self, ConnectError> {
        let inbox = Arc::new(Inbox::new(BTreeMap::from([(PARTITION, start)]), wake));
        let name = format!("read {}", path.file_stem().unwrap_or_default().to_string_lossy());
        let read = {
            let (inbox, path) = (Arc::clone(&inbox), path.clone());
            move || {
                if let Err(error) = follow(&path, start, LINE_BYTES_MAX, &inbox) {
                    inbox.fail(error);
                }
            }
        };
        let thread = std::thread::Builder::new().name(name).spawn(read);
        let thread = thread.map_err(|error| io_error("cannot start a thread to read", &path, error))?;
        Ok(Self { inbox, thread: Some(thread) })
    }

    /// A source without partitions: nothing ever comes.
    pub(super) fn of_nothing(wake: Wake) -> Self {
        Self { inbox: Arc::new(Inbox::new(BTreeMap::new(), wake)), thread: None }
    }
}

impl Source for FilesSource {
    fn poll(&mut self, records_max: usize, bytes_max: usize) -> Result<Polled, ConnectError> {
        self.inbox.poll(records_max, bytes_max)
    }
}

impl Drop for FilesSource {
    fn drop(&mut self) {
        self.inbox.close();
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!(?panic, "the thread that read a topic file panicked");
        }
    }
}

/// Reads until the inbox is closed.
fn follow(path: &Path, start: Offset, line_bytes_max: usize, inbox: &Inbox) -> Result<(), ConnectError> {
    let mut reader = LineReader::open(path, line_bytes_max)?;
    let mut items = Vec::new();
    loop {
        let more = reader.read_block(|line| take(start, &line, &mut items))?;
        if !more {
            reader.check()?;
            if let Some(line) = reader.take_tail() {
                take(start, &line, &mut items);
            }
            if reader.next() < start {
                return Err(too_short(path, reader.next(), start));
            }
        }
        let open = inbox.put(&mut items) && (more || inbox.pause(LOOK));
        if !open {
            return Ok(());
        }
    }
}

/// Appends what the line is; lines before `start` are skipped.
fn take(start: Offset, line: &Line<'_>, items: &mut Vec<Item>) {
    if line.number < start {
        return;
    }
    let record = if line.is_cut() { Some(cut(line)) } else { line::decode(line.bytes) };
    if let Some(record) = record {
        items.push(Item::Record(Record { partition: PARTITION, offset: line.number, ..record }));
        return;
    }
    if matches!(items.last(), Some(Item::Position(..))) {
        items.pop();
    }
    items.push(Item::Position(PARTITION, line.number + 1));
}

fn cut(line: &Line<'_>) -> Record {
    let remark =
        format!(" … (the beginning of a line of {} bytes; at most {LINE_BYTES_MAX} are read)", line.bytes_total);
    let value = [line.bytes, remark.as_bytes()].concat();
    let length = line.bytes_total.to_string().into_bytes();
    Record { value: Some(value), headers: vec![(TRUNCATED.to_owned(), Some(length))], ..Record::default() }
}

fn too_short(path: &Path, lines: Offset, start: Offset) -> ConnectError {
    let what = format!(
        "\"{}\" has {lines} lines, but {start} were read before: it was replaced or cut; put it back, or remove \
         this pipeline's file in .offsets beside it to read from the first line",
        path.display()
    );
    ConnectError::World { what, source: None, retry: false }
}
