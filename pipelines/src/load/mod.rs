//! Files of documents → the documents topic.
//!
//! ```text
//! file ─ rows.rs ─▶ row ─▶ checked as the pipeline will ─▶ sink ─▶ written
//!                            └─ refused: told, counted        └─▶ mark.rs: how far the file is written
//! ```
//! A row that the pipeline would refuse is not written. Rows are written in the order of the file; the mark says before which
//! row all are written, so that a load that was interrupted goes on there. Writing a row twice does no harm: the last
//! record of an id counts.

mod mark;
mod rows;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use freshet_operators::connect::{ConnectError, Connector, Sink};
use freshet_schemas::{DocumentChange, DocumentSpec, Record};

pub use self::mark::Marks;
pub use self::rows::{Format, Place, Types};
use self::rows::{Row, Rows};

/// Longest wait for a sink that has something under way.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Time between two marks.
const MARK_INTERVAL: Duration = Duration::from_secs(1);
/// Time that the sink has to write what it was given once the load is stopped.
const END_WITHIN: Duration = Duration::from_secs(10);

/// Why a load ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A file that cannot be read as what it is taken for.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// The documents topic cannot be written.
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

/// What is to be loaded, and where to.
pub struct Loading<'a> {
    /// System of topics.
    pub connector: &'a Arc<dyn Connector>,
    /// The documents topic.
    pub topic: &'a str,
    /// What documents must look like.
    pub spec: DocumentSpec,
    /// What cells of CSV files are.
    pub types: Types,
    /// Marks of files that are not written whole; `None`: none are kept.
    pub marks: Option<Marks>,
    /// Whether to begin at the first row all the same.
    pub restart: bool,
    /// Most rows per second; `None`: as many as the topic takes.
    pub rate: Option<f64>,
    /// Set from another thread: no further row is read.
    pub stop: Arc<AtomicBool>,
}

/// How far a load is; read from any thread.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Units of the file that are written, see [`Place::done`].
    pub done: AtomicU64,
    /// Units of the whole file, 0 where nobody knows.
    pub total: AtomicU64,
    /// Rows written.
    pub written: AtomicU64,
    /// Rows refused.
    pub refused: AtomicU64,
}

/// What has come of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Rows before the first one of this load, written by an earlier one.
    pub skipped: u64,
    /// Whether the file is written to its end.
    pub whole: bool,
}

/// A row that is not written yet, or out of turn.
struct Open {
    place: Place,
    settled: bool,
}

impl Loading<'_> {
    /// Writes one file; `-` is the standard input, as JSON Lines. `tell` is called with each row that is refused: its number
    /// in the file, and why.
    ///
    /// # Errors
    /// A file that cannot be read, or a topic that cannot be written.
    pub fn file(
        &self,
        path: &Path,
        format: Option<Format>,
        loaded: &Loaded,
        tell: &mut dyn FnMut(u64, &str),
    ) -> Result<Outcome, LoadError> {
        let marks = self.marks.as_ref().filter(|_| !self.restart);
        let from = marks.and_then(|marks| marks.of(path, self.topic));
        let rows = Rows::open(path, format, &self.types, self.spec.value_bytes_max(), from)?;
        loaded.total.store(rows.total(), Ordering::Relaxed);
        let (wake, wakes) = channel();
        let sink = self.connector.sink(Arc::new(move || {
            // A load that has ended needs no telling.
            let _ = wake.send(());
        }))?;
        let begin = from.unwrap_or_default();
        loaded.done.store(begin.done, Ordering::Relaxed);
        let mut writing = Writing {
            loading: self,
            path,
            loaded,
            sink,
            wakes,
            open: VecDeque::new(),
            first: 0,
            mark: begin,
        };
        let whole = writing.run(rows, tell)?;
        if let Some(marks) = &self.marks {
            if whole { marks.remove(path, self.topic) } else { marks.put(path, self.topic, writing.mark) }
        }
        Ok(Outcome { skipped: begin.row, whole })
    }
}

struct Writing<'a> {
    loading: &'a Loading<'a>,
    path: &'a Path,
    loaded: &'a Loaded,
    sink: Box<dyn Sink>,
    wakes: Receiver<()>,
    /// Rows from the first that is not settled on, in their order: tokens are numbers of rows, each one more than the last.
    open: VecDeque<Open>,
    /// Token of the first of them.
    first: u64,
    /// Behind the last row before which all are settled.
    mark: Place,
}

impl Writing<'_> {
    /// Whether the file was written to its end.
    fn run(&mut self, rows: Rows, tell: &mut dyn FnMut(u64, &str)) -> Result<bool, LoadError> {
        let (begun, mut marked) = (Instant::now(), Instant::now());
        let mut whole = true;
        for (number, row) in (0u64..).zip(rows) {
            let Row { place, record } = row?;
            self.pace(begun, number);
            if self.stopped() {
                whole = false;
                break;
            }
            match record.and_then(|record| self.checked(record)) {
                Ok(record) => self.send(place, record, tell),
                Err(problem) => {
                    self.refuse(place.row, &problem, tell);
                    self.open.push_back(Open { place, settled: true });
                }
            }
            self.settle(tell);
            if marked.elapsed() >= MARK_INTERVAL {
                marked = Instant::now();
                if let Some(marks) = &self.loading.marks {
                    marks.put(self.path, self.loading.topic, self.mark);
                }
            }
        }
        let mut stopped = None;
        while !self.open.is_empty() {
            if self.stopped() && stopped.get_or_insert_with(Instant::now).elapsed() >= END_WITHIN {
                return Ok(false);
            }
            self.wait();
            self.settle(tell);
        }
        Ok(whole)
    }

    fn stopped(&self) -> bool {
        self.loading.stop.load(Ordering::SeqCst)
    }

    /// The record as it is written: with the id as its key, so that changes of one document keep their order.
    fn checked(&self, record: Record) -> Result<Record, String> {
        match DocumentChange::parse(&record, &self.loading.spec) {
            Ok(change) => match self.loading.spec.key(change.id()) {
                Ok(key) => Ok(Record { key: Some(key.as_bytes().to_vec()), ..record }),
                Err(fault) => Err(fault.to_string()),
            },
            Err(fault) => Err(fault.to_string()),
        }
    }

    fn refuse(&self, row: u64, problem: &str, tell: &mut dyn FnMut(u64, &str)) {
        self.loaded.refused.fetch_add(1, Ordering::Relaxed);
        tell(row, problem);
    }

    /// Hands a row over, waiting for room.
    fn send(&mut self, place: Place, mut record: Record, tell: &mut dyn FnMut(u64, &str)) {
        // Stays the same while rows before it are settled.
        let token = self.first + self.open.len() as u64;
        while let Err(back) = self.sink.send(self.loading.topic, record, token) {
            if self.stopped() {
                // Not written: the mark stays before it.
                self.open.push_back(Open { place, settled: false });
                return;
            }
            record = back;
            self.wait();
            self.settle(tell);
        }
        self.open.push_back(Open { place, settled: false });
    }

    fn settle(&mut self, tell: &mut dyn FnMut(u64, &str)) {
        for (token, fate) in self.sink.settled() {
            let at = usize::try_from(token.wrapping_sub(self.first)).unwrap_or(usize::MAX);
            let Some(row) = self.open.get_mut(at) else { continue };
            row.settled = true;
            let number = row.place.row;
            match fate {
                Ok(()) => _ = self.loaded.written.fetch_add(1, Ordering::Relaxed),
                Err(problem) => self.refuse(number, &problem, tell),
            }
        }
        while let Some(first) = self.open.front().filter(|open| open.settled) {
            self.mark = first.place;
            self.open.pop_front();
            self.first += 1;
        }
        self.loaded.done.store(self.mark.done, Ordering::Relaxed);
    }

    /// Until the sink has something to tell, or it is time to look.
    fn wait(&self) {
        if self.wakes.recv_timeout(LOOK_AGAIN).is_ok() {
            while self.wakes.try_recv().is_ok() {}
        }
    }

    /// Waits until it is the turn of a row, where there is a rate.
    fn pace(&self, begun: Instant, number: u64) {
        let Some(rate) = self.loading.rate else { return };
        let due = begun + Duration::from_secs_f64(number as f64 / rate);
        while let Some(left) = due.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            if self.stopped() {
                return;
            }
            std::thread::park_timeout(left.min(LOOK_AGAIN * 5));
        }
    }
}
