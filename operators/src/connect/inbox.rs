//! The bounded queue between a thread that reads a topic and the worker that polls it.
//!
//! ```text
//! reading thread ── put (blocks while full) ──▶ items ── poll (never blocks) ──▶ worker
//!        └───────── fail ──▶ error                └──▶ positions
//! ```
//!
//! Positions travel in the queue with the records, so that a position is reported only once everything before it has
//! been handed over. An error is handed over after all records that were read before it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use freshet_schemas::{Offset, Partition, Record};

use super::budget::Budget;
use super::{ConnectError, Polled, Wake, lock};

/// The reading thread waits while this many items wait for the worker.
const ITEMS_MAX: usize = 4096;
/// The reading thread waits while records of this many bytes wait for the worker.
const BYTES_MAX: usize = 4 << 20;

/// What a reading thread has found.
pub(super) enum Item {
    /// A record; moves the position of its partition behind it.
    Record(Record),
    /// Everything before the offset is read; what was skipped is no record.
    Position(Partition, Offset),
}

/// Shared by the reading thread and the [`super::Source`] that the worker polls.
pub(super) struct Inbox {
    state: Mutex<State>,
    /// Notified when there is room again, and when the inbox is closed.
    changed: Condvar,
    wake: Wake,
}

/// Invariant: `bytes` is the sum of the sizes of the records in `items`.
struct State {
    items: VecDeque<Item>,
    bytes: usize,
    positions: BTreeMap<Partition, Offset>,
    failure: Failure,
    closed: bool,
}

enum Failure {
    None,
    /// Not yet handed over.
    Waiting(ConnectError),
    HandedOver,
}

impl Inbox {
    /// An empty inbox with the positions at which reading starts.
    pub(super) fn new(positions: BTreeMap<Partition, Offset>, wake: Wake) -> Self {
        let state = State { items: VecDeque::new(), bytes: 0, positions, failure: Failure::None, closed: false };
        Self { state: Mutex::new(state), changed: Condvar::new(), wake }
    }

    /// Hands items over in order and empties `items`; waits while the inbox is full. Returns whether to go on reading.
    /// The bounds may be passed by one call's items, which the caller bounds.
    pub(super) fn put(&self, items: &mut Vec<Item>) -> bool {
        if items.is_empty() {
            return !lock(&self.state).closed;
        }
        let state = lock(&self.state);
        let full = |state: &mut State| !state.closed && (state.items.len() >= ITEMS_MAX || state.bytes >= BYTES_MAX);
        let mut state = self.changed.wait_while(state, full).unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            return false;
        }
        for item in items.drain(..) {
            if let Item::Record(record) = &item {
                state.bytes += record.size_bytes();
            }
            state.items.push_back(item);
        }
        drop(state);
        (self.wake)();
        true
    }

    /// Ends reading with an error, which the next poll that finds no record returns.
    pub(super) fn fail(&self, error: ConnectError) {
        lock(&self.state).failure = Failure::Waiting(error);
        (self.wake)();
    }

    /// Waits until the time is over or the inbox is closed. Returns whether to go on reading.
    pub(super) fn pause(&self, time: Duration) -> bool {
        let state = lock(&self.state);
        let waited = self.changed.wait_timeout_while(state, time, |state| !state.closed);
        !waited.unwrap_or_else(PoisonError::into_inner).0.closed
    }

    /// Tells the reading thread to end.
    pub(super) fn close(&self) {
        lock(&self.state).closed = true;
        self.changed.notify_all();
    }

    /// As [`super::Source::poll`].
    pub(super) fn poll(&self, records_max: usize, bytes_max: usize) -> Result<Polled, ConnectError> {
        let mut state = lock(&self.state);
        let mut budget = Budget::new(records_max, bytes_max);
        let mut records = Vec::new();
        while let Some(item) = state.items.pop_front() {
            match item {
                Item::Record(record) if !budget.admit(&record) => {
                    state.items.push_front(Item::Record(record));
                    break;
                }
                Item::Record(record) => {
                    state.bytes -= record.size_bytes();
                    state.positions.insert(record.partition, record.offset + 1);
                    records.push(record);
                }
                Item::Position(partition, offset) => {
                    state.positions.insert(partition, offset);
                }
            }
        }
        if records.is_empty() && state.items.is_empty() {
            match std::mem::replace(&mut state.failure, Failure::HandedOver) {
                Failure::None => state.failure = Failure::None,
                Failure::Waiting(error) => return Err(error),
                Failure::HandedOver => return Err(ended()),
            }
        }
        self.changed.notify_all();
        Ok(Polled { records, positions: state.positions.clone() })
    }
}

fn ended() -> ConnectError {
    let what = "this source has ended with an error that was returned before; open it again".to_owned();
    ConnectError::World { what, source: None, retry: true }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::testing::{Signal, record};
    use super::*;

    fn world(what: &str) -> ConnectError {
        ConnectError::World { what: what.into(), source: None, retry: false }
    }

    #[test]
    fn errors_come_after_the_records_before_them() {
        let inbox = Inbox::new(BTreeMap::from([(0, 0)]), Signal::new().wake());
        inbox.put(&mut vec![Item::Record(record("a", "1")), Item::Position(0, 7)]);
        inbox.fail(world("broken"));
        let polled = inbox.poll(10, 1000).unwrap();
        assert_eq!((polled.records.len(), polled.positions), (1, BTreeMap::from([(0, 7)])));
        assert_eq!(inbox.poll(10, 1000).unwrap_err().to_string(), "broken");
        assert!(inbox.poll(10, 1000).unwrap_err().to_string().contains("returned before"));
    }

    #[test]
    fn a_position_waits_for_the_records_before_it() {
        let inbox = Inbox::new(BTreeMap::new(), Signal::new().wake());
        let second = Record { offset: 1, ..record("b", "2") };
        let items = [Item::Record(record("a", "1")), Item::Record(second), Item::Position(0, 9)];
        inbox.put(&mut Vec::from(items));
        assert_eq!(inbox.poll(1, 1000).unwrap().positions, BTreeMap::from([(0, 1)]));
        assert_eq!(inbox.poll(1, 1000).unwrap().positions, BTreeMap::from([(0, 9)]));
    }

    #[test]
    fn a_full_inbox_waits_for_the_worker_and_ends_when_closed() {
        let signal = Signal::new();
        let inbox = Arc::new(Inbox::new(BTreeMap::new(), signal.wake()));
        let writing = std::thread::spawn({
            let inbox = Arc::clone(&inbox);
            move || {
                let mut batches = 0;
                while inbox.put(&mut vec![Item::Record(record("k", &"v".repeat(BYTES_MAX / 4)))]) {
                    batches += 1;
                }
                batches
            }
        });
        let mut read = 0;
        while read < 20 {
            let seen = signal.count();
            match inbox.poll(3, usize::MAX).unwrap().records.len() {
                0 => signal.wait_beyond(seen),
                some => read += some,
            }
        }
        inbox.close();
        let written: usize = writing.join().unwrap();
        assert!((read..read + 6).contains(&written), "read {read}, written {written}");
        assert!(!inbox.put(&mut Vec::new()) && !inbox.pause(Duration::from_secs(1)));
    }
}
