//! Records and the progress of queries, written together: both or neither.
//!
//! ```text
//! worker ── send ──▶ ┐
//! worker ── send ──▶ ├ waiting (bounded) ── all that waits ──▶ one thread: a transaction ──▶ settled, failure
//! worker ── send ──▶ ┘
//! ```
//!
//! What gathers while a transaction is written is the next one. Each worker's records are written in the order sent,
//! and its progress with the last of them, so a worker may count a query as answered when it sends the answer: the
//! progress that says so is not written before the answer is.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use freshet_schemas::{Partition, Record};

use super::progress::Progress;
use super::{ConnectError, Wake, lock};

/// A worker has no room while so many of its records are not settled.
const UNSETTLED_MAX: usize = 4096;
/// A worker has no room while its records that are not settled have so many bytes.
const BYTES_MAX: usize = 16 << 20;

/// A record to be written.
#[derive(Debug)]
pub struct Entry {
    /// Its topic.
    pub topic: String,
    /// The record; its key decides on the partition.
    pub record: Record,
    /// What is written instead when it is refused, given the reason; a refused record without it ends the run.
    pub instead: Option<fn(&Record, &str) -> Record>,
}

impl Entry {
    /// Puts what is to be written instead in the place of a refused record.
    pub(super) fn refuse(&mut self, reason: &str) -> Result<(), ConnectError> {
        let Some(instead) = self.instead.take() else {
            let what = format!("record for topic \"{}\" could not be written: {reason}", self.topic);
            return Err(ConnectError::World { what, source: None, retry: false });
        };
        tracing::warn!(topic = self.topic, reason, "a record is refused; an error is written in its place");
        self.record = instead(&self.record, reason);
        Ok(())
    }
}

/// What a transaction writes.
#[derive(Debug, Default)]
pub struct Batch {
    /// Records, in order.
    pub entries: Vec<Entry>,
    /// Progress by partition of the queries.
    pub progress: BTreeMap<Partition, Progress>,
}

/// Writes transactions; there is one per pipeline.
pub trait TransactionWriter: Send {
    /// Writes records and progress, both or neither; waits while the world is away. Records that are refused are
    /// replaced as [`Entry::instead`] says. `pause` waits that long and returns whether to go on.
    fn write(&mut self, batch: &mut Batch, pause: &dyn Fn(Duration) -> bool) -> Result<(), ConnectError>;
}

/// The thread that writes transactions. Dropped, it ends; what waits is given up.
pub struct Transactions {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    /// Notified when there is something to write, and when the queue is closed.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Batch,
    /// What of `waiting` each worker has sent.
    waiting_loads: BTreeMap<usize, Load>,
    workers: Vec<Worker>,
    failure: Option<Arc<ConnectError>>,
    closed: bool,
}

struct Worker {
    unsettled: Load,
    wake: Wake,
}

#[derive(Clone, Copy, Default)]
struct Load {
    sends: usize,
    records: usize,
    bytes: usize,
}

impl Transactions {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system has no thread.
    pub fn start(mut writer: Box<dyn TransactionWriter>) -> Result<Self, ConnectError> {
        let queue = Arc::<Queue>::default();
        let served = Arc::clone(&queue);
        let serve = move || served.serve(&mut *writer);
        let thread =
            std::thread::Builder::new().name("transactions".to_owned()).spawn(serve).map_err(|error| {
                let what = "cannot start a thread for transactions".to_owned();
                ConnectError::World { what, source: Some(error.into()), retry: true }
            })?;
        Ok(Self { queue, thread: Some(thread) })
    }

    /// A worker's end; `wake` is called when something is settled or has failed.
    pub fn sink(&self, wake: Wake) -> TransactionSink {
        let mut state = lock(&self.queue.state);
        state.workers.push(Worker { unsettled: Load::default(), wake });
        TransactionSink { queue: Arc::clone(&self.queue), worker: state.workers.len() - 1 }
    }
}

impl Drop for Transactions {
    fn drop(&mut self) {
        lock(&self.queue.state).closed = true;
        self.queue.changed.notify_all();
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!(?panic, "the thread that wrote transactions panicked");
        }
    }
}

/// A worker's end of the [`Transactions`].
pub struct TransactionSink {
    queue: Arc<Queue>,
    worker: usize,
}

impl TransactionSink {
    /// How many records may be sent now.
    pub fn room(&self) -> usize {
        let load = lock(&self.queue.state).workers[self.worker].unsettled;
        if load.bytes >= BYTES_MAX { 0 } else { UNSETTLED_MAX.saturating_sub(load.records) }
    }

    /// Hands over records and the progress once they are written. Never blocks.
    pub fn send(&mut self, batch: Batch) {
        let bytes = batch.entries.iter().map(|entry| entry.record.size_bytes()).sum();
        let load = Load { sends: 1, records: batch.entries.len(), bytes };
        let mut state = lock(&self.queue.state);
        state.waiting.entries.extend(batch.entries);
        state.waiting.progress.extend(batch.progress);
        state.waiting_loads.entry(self.worker).or_default().add(load);
        state.workers[self.worker].unsettled.add(load);
        drop(state);
        self.queue.changed.notify_all();
    }

    /// Records and progress that have been sent and are not known to be written.
    pub fn unsettled(&self) -> usize {
        let load = lock(&self.queue.state).workers[self.worker].unsettled;
        load.records.max(load.sends)
    }

    /// Why no more transactions are written.
    pub fn failure(&self) -> Option<Arc<ConnectError>> {
        lock(&self.queue.state).failure.clone()
    }
}

impl Load {
    fn add(&mut self, other: Self) {
        self.sends += other.sends;
        self.records += other.records;
        self.bytes += other.bytes;
    }

    fn subtract(&mut self, other: Self) {
        self.sends -= other.sends;
        self.records -= other.records;
        self.bytes -= other.bytes;
    }
}

impl Queue {
    fn serve(&self, writer: &mut dyn TransactionWriter) {
        while let Some((mut batch, loads)) = self.take() {
            let result = writer.write(&mut batch, &|time| self.pause(time));
            let mut state = lock(&self.state);
            let failed = match result {
                Ok(()) => false,
                Err(error) => {
                    state.failure = Some(Arc::new(error));
                    true
                }
            };
            if !failed {
                for (worker, load) in loads {
                    state.workers[worker].unsettled.subtract(load);
                }
            }
            let wakes: Vec<Wake> = state.workers.iter().map(|worker| Arc::clone(&worker.wake)).collect();
            drop(state);
            wakes.iter().for_each(|wake| wake());
            if failed {
                return;
            }
        }
    }

    /// Waits for something to write; `None` when the queue is closed.
    fn take(&self) -> Option<(Batch, BTreeMap<usize, Load>)> {
        let idle = |state: &mut State| !state.closed && state.waiting_loads.is_empty();
        let waited = self.changed.wait_while(lock(&self.state), idle);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        (!state.closed)
            .then(|| (std::mem::take(&mut state.waiting), std::mem::take(&mut state.waiting_loads)))
    }

    /// Waits; returns whether to go on.
    fn pause(&self, time: Duration) -> bool {
        let waited =
            self.changed.wait_timeout_while(lock(&self.state), time, |state: &mut State| !state.closed);
        !waited.unwrap_or_else(PoisonError::into_inner).0.closed
    }
}
