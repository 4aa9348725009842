//! Queries from within the process, such as those of the HTTP server: into the dataflow and back, beside the topics.
//!
//! ```text
//! any thread ── ask ──▶ desk of a worker: waiting ── take ──▶ Consume(queries) ─▶ … the same operators … ─▶ Produce
//!      ◀── reply, called once ───────── open ◀────────────────────── answer ─────────────────────────────────┘
//! ```
//! A query of the gateway takes the same way as one of the topic: same operators, same times, same `as_of`. It has no
//! offset, so nothing of it is committed, and no transaction speaks of it: who asked is still there, or is not.
//! Limit: each desk holds a bounded number of waiting queries; those that are open count as queries in flight.

mod desk;

pub use desk::{Desk, Taken};

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use freshet_schemas::{Answer, Partition, Record};

/// In place of a partition, of queries that came through the gateway; topics count theirs from 0.
pub const GATEWAY: Partition = -1;

/// Takes the answer. Called once, on a worker's thread: it must neither block nor take long. Dropped without
/// a call when the run ends before there is an answer.
pub type Reply = Box<dyn FnOnce(Answer) + Send>;

/// Why a query is not taken; the reply comes back uncalled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// As many queries wait as may.
    #[error("as many queries wait as may: try again in a moment")]
    Full,
    /// The run ends.
    #[error("the pipeline ends and takes no more queries")]
    Closed,
}

/// The desks of all workers of a run.
pub struct Gateway {
    desks: Vec<Arc<Desk>>,
    next: AtomicUsize,
}

impl Gateway {
    /// One desk per worker, each with room for so many waiting queries.
    pub fn new(workers: usize, waiting_max: usize) -> Arc<Self> {
        let desks = (0..workers).map(|_| Arc::new(Desk::new(waiting_max))).collect();
        Arc::new(Self { desks, next: AtomicUsize::new(0) })
    }

    /// Hands a query record to the next worker that has room; never blocks. The answer's id is that of the record; a
    /// record without any gets a name.
    ///
    /// # Errors
    /// When every worker's desk is full, or the run ends.
    pub fn ask(&self, record: Record, reply: Reply) -> Result<(), Refused> {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let mut question = (record, reply);
        let mut full = false;
        for step in 0..self.desks.len() {
            let desk = &self.desks[first.wrapping_add(step) % self.desks.len()];
            match desk.put(question) {
                Ok(()) => return Ok(()),
                Err((refused, back)) => {
                    full |= refused == Refused::Full;
                    question = back;
                }
            }
        }
        Err(if full { Refused::Full } else { Refused::Closed })
    }

    /// The desk of a worker.
    pub fn desk(&self, worker: usize) -> Option<&Arc<Desk>> {
        self.desks.get(worker)
    }

    /// Queries that no worker has taken yet.
    pub fn waiting(&self) -> usize {
        self.desks.iter().map(|desk| desk.waiting()).sum()
    }

    /// Queries taken and not answered.
    pub fn open(&self) -> usize {
        self.desks.iter().map(|desk| desk.open()).sum()
    }

    /// The end of the run: no more queries, and no answers to those that are left.
    pub fn close(&self) {
        self.desks.iter().for_each(|desk| desk.abandon());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use freshet_schemas::{Fault, FaultCode};

    use super::*;

    fn answer(id: &str) -> Answer {
        Answer::refusal(id, Fault::whole(FaultCode::EmptyText, "no text"), 0.0)
    }

    fn question(id: &str) -> (Record, Reply, Receiver<Answer>) {
        let (sender, receiver) = channel();
        let record = Record { key: Some(id.as_bytes().to_vec()), ..Record::default() };
        (record, Box::new(move |answer| sender.send(answer).unwrap()), receiver)
    }

    #[test]
    fn workers_take_turns_and_a_full_desk_passes_on() {
        let gateway = Gateway::new(2, 2);
        let mut replies = Vec::new();
        for number in 0..4 {
            let (record, reply, receiver) = question(&number.to_string());
            gateway.ask(record, reply).unwrap();
            replies.push(receiver);
        }
        assert_eq!(gateway.waiting(), 4);
        let (record, reply, refused) = question("one too many");
        assert_eq!(gateway.ask(record, reply), Err(Refused::Full));
        assert!(refused.recv().is_err(), "the reply was dropped");
        // Room at one desk is enough, whoever's turn it is.
        let taken = gateway.desk(1).unwrap().take(1);
        assert_eq!((taken.len(), gateway.open()), (1, 1));
        let (record, reply, _fits) = question("fits");
        assert_eq!(gateway.ask(record, reply), Ok(()));
        gateway.desk(1).unwrap().answer(taken[0].number, answer("1"));
        assert_eq!((gateway.open(), gateway.waiting()), (0, 4));
        assert_eq!(replies[1].recv(), Ok(answer("1")));
    }

    #[test]
    fn an_end_drops_what_waits_and_answers_what_is_open() {
        let gateway = Gateway::new(1, 8);
        let desk = gateway.desk(0).unwrap();
        let (record, reply, open) = question("open");
        gateway.ask(record, reply).unwrap();
        let taken = desk.take(9);
        let (record, reply, waiting) = question("waiting");
        gateway.ask(record, reply).unwrap();
        desk.close();
        assert!(waiting.recv().is_err());
        let (record, reply, _late) = question("late");
        assert_eq!(gateway.ask(record, reply), Err(Refused::Closed));
        desk.answer(taken[0].number, answer("open"));
        assert_eq!(open.recv(), Ok(answer("open")));
        assert_eq!((gateway.open(), gateway.waiting()), (0, 0));
    }

    #[test]
    fn queries_that_cannot_be_answered_any_more_are_let_go() {
        let gateway = Gateway::new(1, 8);
        let (record, reply, open) = question("open");
        gateway.ask(record, reply).unwrap();
        let taken = gateway.desk(0).unwrap().take(1);
        gateway.close();
        assert!(open.recv().is_err());
        // What comes late finds nobody.
        gateway.desk(0).unwrap().answer(taken[0].number, answer("late"));
    }
}
