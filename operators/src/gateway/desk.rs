//! The queries of one worker: those that wait, and the replies of those that are open.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use freshet_schemas::{Answer, Offset, Record};

use super::{Refused, Reply};
use crate::clock;
use crate::wake::LateWake;

/// Shared by everybody who asks and the worker that answers.
pub struct Desk {
    state: Mutex<State>,
    waiting_max: usize,
    wake: LateWake,
}

/// Invariant: once closed, nothing waits.
#[derive(Default)]
struct State {
    waiting: VecDeque<Waiting>,
    open: BTreeMap<Offset, Reply>,
    /// Number of the next query taken.
    next: Offset,
    closed: bool,
}

struct Waiting {
    asked_at_us: u64,
    record: Record,
    reply: Reply,
}

/// A query that a worker has taken.
#[derive(Debug)]
pub struct Taken {
    /// In place of its offset.
    pub number: Offset,
    /// When it was asked, microseconds since the epoch.
    pub asked_at_us: u64,
    /// The query.
    pub record: Record,
}

impl Desk {
    pub(super) fn new(waiting_max: usize) -> Self {
        Self { state: Mutex::default(), waiting_max, wake: LateWake::default() }
    }

    /// What wakes the worker's operator once it is bound.
    pub fn wake(&self) -> &LateWake {
        &self.wake
    }

    /// Gives the question back where it is not taken.
    pub(super) fn put(&self, question: (Record, Reply)) -> Result<(), (Refused, (Record, Reply))> {
        let mut state = self.lock();
        if state.closed {
            return Err((Refused::Closed, question));
        }
        if state.waiting.len() >= self.waiting_max {
            return Err((Refused::Full, question));
        }
        let (record, reply) = question;
        state.waiting.push_back(Waiting { asked_at_us: clock::now_us(), record, reply });
        drop(state);
        self.wake.now();
        Ok(())
    }

    /// Takes at most so many queries, oldest first.
    pub fn take(&self, room: usize) -> Vec<Taken> {
        let mut state = self.lock();
        let count = room.min(state.waiting.len());
        let waiting: Vec<Waiting> = state.waiting.drain(..count).collect();
        let take = |Waiting { asked_at_us, record, reply }| {
            let number = state.next;
            state.next += 1;
            state.open.insert(number, reply);
            Taken { number, asked_at_us, record }
        };
        waiting.into_iter().map(take).collect()
    }

    /// Answers a query that was taken.
    pub fn answer(&self, number: Offset, answer: Answer) {
        let mut state = self.lock();
        let reply = state.open.remove(&number);
        let wake = !state.waiting.is_empty();
        drop(state);
        if let Some(reply) = reply {
            reply(answer);
        }
        // There is room for one more.
        if wake {
            self.wake.now();
        }
    }

    /// Queries that are not taken yet.
    pub fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    /// Queries taken and not answered.
    pub fn open(&self) -> usize {
        self.lock().open.len()
    }

    /// No more queries; those that wait are let go, those that are open will be answered.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        // Whoever hears of it is called without the lock.
        drop(waiting);
    }

    /// No more queries, and nobody answers those that are open.
    pub fn abandon(&self) {
        self.close();
        let open = std::mem::take(&mut self.lock().open);
        drop(open);
    }

    /// The state is whole between any two statements; no reply is called under the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
