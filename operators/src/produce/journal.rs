//! What a worker knows of its queries until their answers are handed over: for the table of answers.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use freshet_schemas::{Answer, Offset, Partition, Record};

use crate::message::Origin;
use crate::snapshot::answers::{AnsweredQuery, Answers};

/// A journal, shared by the operators that read queries and write answers.
pub type SharedJournal = Rc<RefCell<Journal>>;

/// Queries that are being answered, as they were asked: as many as are in flight.
pub struct Journal {
    answers: Arc<Answers>,
    asked: BTreeMap<(Partition, Offset), Vec<u8>>,
}

impl Journal {
    /// An empty one.
    pub fn new(answers: Arc<Answers>) -> SharedJournal {
        Rc::new(RefCell::new(Self { answers, asked: BTreeMap::new() }))
    }

    /// A query has been read, and is to be answered.
    pub fn read(&mut self, origin: Origin, record: &Record) {
        let query = record.value.clone().unwrap_or_default();
        self.asked.insert((origin.partition, origin.offset), query);
    }

    /// The row of an answer; nothing if its query was not read here.
    pub(super) fn row(&mut self, origin: Origin, read_at_us: u64, answer: Answer) -> Option<AnsweredQuery> {
        let query = self.asked.remove(&(origin.partition, origin.offset))?;
        Some(AnsweredQuery::new(read_at_us, query, answer))
    }

    /// A query gets no answer.
    pub(super) fn forget(&mut self, origin: Origin) {
        self.asked.remove(&(origin.partition, origin.offset));
    }

    /// Its answer is handed over.
    pub(super) fn record(&self, row: AnsweredQuery) {
        self.answers.record(row);
    }
}
