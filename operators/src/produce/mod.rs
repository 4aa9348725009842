//! Answers and dead letters → topics. Both go back to the worker that read the record, which settles and commits it.
//! Answers to queries of the gateway go to who asked, and touch neither topics nor offsets.
//!
//! Order: an answer is handed to the sink as it comes; a full sink keeps the rest here, bounded by the queries in
//! flight and the documents' budget. Exactly once: the progress of the queries is handed over with their answers, and
//! both are written in one transaction. At least once: offsets of queries are committed when the answers before them
//! are written.
//!
//! Where the table of answers is kept, an answer goes there once it is handed over.

mod journal;
mod offsets;
mod together;
mod trace;

pub use journal::{Journal, SharedJournal};
pub use offsets::Offsets;
pub use together::Together;
pub use trace::QueryTraces;

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::trace::QueryTrace;
use freshet_schemas::{Answer, AsOf, DocumentTopics, Fault, FaultCode, Headers, Record};
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use crate::clock;
use crate::connect::Sink;
use crate::control::Control;
use crate::gateway::Desk;
use crate::index::Time;
use crate::message::{AnswerRecord, DeadLetter, Origin};
use crate::metrics::RunMetrics;
use crate::plan::error_answer;
use crate::snapshot::answers::AnsweredQuery;
use crate::wake::LateWake;

/// What the operator needs to write.
pub struct Producer {
    /// How records are written.
    pub delivery: Delivery,
    /// Documents topics: what answers reflect goes by their names.
    pub topics: DocumentTopics,
    /// Answers topic.
    pub answers: String,
    /// Dead-letter topic of the queries: settles the query.
    pub query_letters: String,
    /// Who asked from within the process.
    pub desk: Option<Arc<Desk>>,
    /// What is counted of answers.
    pub metrics: RunMetrics,
    /// Queries read and not answered yet.
    pub offsets: Rc<RefCell<Offsets>>,
    /// Where answers are kept as a table, if they are.
    pub journal: Option<SharedJournal>,
    /// Spans of queries, if there are traces.
    pub traces: Option<QueryTraces>,
    /// Written, and not known to be written: for the end of a run.
    pub unsettled: Rc<RefCell<usize>>,
    /// Time after which a waiting operator looks again.
    pub tick: Duration,
    /// Bound to the operator: the sink wakes it.
    pub wake: LateWake,
    /// Stop signal and failures.
    pub control: Arc<Control>,
}

/// How records are written.
pub enum Delivery {
    /// At least once: each by itself; offsets are committed later.
    Each(Each),
    /// Exactly once: with the progress of the queries.
    Together(Together),
}

/// Writes records one by one.
pub struct Each {
    sink: Box<dyn Sink>,
    sent: BTreeMap<u64, Outgoing>,
    token: u64,
}

impl Each {
    /// Writes to a sink.
    pub fn new(sink: Box<dyn Sink>) -> Self {
        Self { sink, sent: BTreeMap::new(), token: 0 }
    }
}

impl Delivery {
    fn is_together(&self) -> bool {
        matches!(self, Self::Together(_))
    }
}

/// A record between this operator and its topic.
struct Outgoing {
    topic: String,
    record: Record,
    /// Query that is settled by it.
    settles: Option<Origin>,
    /// Id of the answered query; `None` for a dead letter or a second attempt.
    answers: Option<String>,
    /// What an answer reflects.
    as_of: AsOf,
    /// What is kept of it, once it is handed over.
    row: Option<Box<AnsweredQuery>>,
    /// What is told of it once it is written.
    trace: Option<Box<QueryTrace>>,
}

/// Writes answers and dead letters.
pub fn produce<'scope>(
    answers: StreamVec<'scope, Time, AnswerRecord>,
    letters: StreamVec<'scope, Time, DeadLetter>,
    mut producer: Producer,
) {
    let scope = answers.scope();
    let mut builder = OperatorBuilder::new("Produce".into(), scope);
    let info = builder.operator_info();
    let activator = scope.activator_for(info.address.clone());
    producer.wake.bind(scope.worker().sync_activator_for(info.address.to_vec()));
    let mut answers = builder.new_input(answers, Exchange::new(|a: &AnswerRecord| a.origin.worker as u64));
    let mut letters = builder.new_input(letters, Exchange::new(|l: &DeadLetter| l.origin.worker as u64));
    builder.build_reschedule(move |_| {
        let mut queue: VecDeque<Outgoing> = VecDeque::new();
        let mut next_look = Instant::now();
        move |_frontiers| {
            answers.for_each(|_, data| queue.extend(data.drain(..).filter_map(|a| producer.answer(a))));
            letters.for_each(|_, data| queue.extend(data.drain(..).map(|l| producer.letter(l))));
            let unsettled = producer.write(&mut queue);
            *producer.unsettled.borrow_mut() = queue.len() + unsettled;
            // Progress without records, such as over what is no query, is looked after too.
            let waiting = !queue.is_empty() || unsettled > 0 || producer.delivery.is_together();
            let now = Instant::now();
            if waiting && now >= next_look {
                next_look = now + producer.tick;
                activator.activate_after(producer.tick);
            }
            waiting && producer.control.running()
        }
    });
}

impl Producer {
    /// The record of an answer; none where who asked waits at the desk.
    fn answer(&self, record: AnswerRecord) -> Option<Outgoing> {
        let AnswerRecord { origin, mut headers, read_at_us, id, answer } = record;
        let now_us = clock::now_us();
        let answer = timed(&answer, now_us.saturating_sub(read_at_us));
        self.metrics.answered(origin.is_gateway(), &answer);
        let trace = self.traces.as_ref();
        let trace = trace.and_then(|t| t.begin(origin, (read_at_us, now_us), &answer, &mut headers));
        let journal = self.journal.as_ref();
        let row = |answer: &Answer| journal?.borrow_mut().row(origin, read_at_us, answer.clone());
        if origin.is_gateway() {
            if let (Some(row), Some(journal)) = (row(&answer), journal) {
                journal.borrow().record(row);
            }
            if let Some(desk) = &self.desk {
                desk.answer(origin.offset, answer);
            }
            if let Some(trace) = trace {
                trace.written(true, now_us);
            }
            return None;
        }
        Some(Outgoing {
            topic: self.answers.clone(),
            settles: Some(origin),
            as_of: self.topics.by_partition(&answer.as_of).unwrap_or_default(),
            row: row(&answer).map(Box::new),
            record: answer_record(&id, &answer, headers),
            answers: Some(id),
            trace,
        })
    }

    fn letter(&self, letter: DeadLetter) -> Outgoing {
        let settles = (letter.topic == self.query_letters).then_some(letter.origin);
        if let (Some(origin), Some(journal)) = (settles, &self.journal) {
            journal.borrow_mut().forget(origin);
        }
        let (topic, record) = (letter.topic, letter.record);
        Outgoing { topic, record, settles, answers: None, as_of: AsOf::new(), row: None, trace: None }
    }

    /// Hands over what there is room for; returns how much is handed over and not known to be written.
    fn write(&mut self, queue: &mut VecDeque<Outgoing>) -> usize {
        let journal = self.journal.as_ref();
        let keep = |row: Option<Box<AnsweredQuery>>| {
            if let (Some(row), Some(journal)) = (row, journal) {
                journal.borrow().record(*row);
            }
        };
        let each = match &mut self.delivery {
            Delivery::Together(together) => {
                return together.write(queue, keep, &self.offsets, &self.control);
            }
            Delivery::Each(each) => each,
        };
        while let Some(mut outgoing) = queue.pop_front() {
            // The sink gives back what it cannot take; what is under way is remembered for a refusal.
            match each.sink.send(&outgoing.topic, outgoing.record.clone(), each.token) {
                Ok(()) => {
                    keep(outgoing.row.take());
                    each.sent.insert(each.token, outgoing);
                    each.token += 1;
                }
                Err(_) => {
                    queue.push_front(outgoing);
                    break;
                }
            }
        }
        let settled = each.sink.settled().into_iter();
        let settled: Vec<_> =
            settled.filter_map(|(token, fate)| Some((each.sent.remove(&token)?, fate))).collect();
        let unsettled = each.sent.len();
        queue.extend(settled.into_iter().filter_map(|(outgoing, fate)| self.settle(outgoing, fate)));
        unsettled
    }

    /// A written record settles its query. A refused answer is followed by an error answer; a refused dead letter, or a
    /// refused error answer, ends the run: it would be lost.
    fn settle(&self, outgoing: Outgoing, fate: Result<(), String>) -> Option<Outgoing> {
        match (fate, outgoing.answers) {
            (Ok(()), _) => {
                if let Some(trace) = outgoing.trace {
                    trace.written(false, clock::now_us());
                }
                if let Some(origin) = outgoing.settles {
                    self.offsets.borrow_mut().settle(origin.partition, origin.offset);
                }
                None
            }
            (Err(reason), Some(_)) => {
                let record = not_written(&outgoing.record, &reason);
                Some(Outgoing { record, answers: None, ..outgoing })
            }
            (Err(reason), None) => {
                let what = format!("record for topic \"{}\" could not be written: {reason}", outgoing.topic);
                self.control.fail(&crate::connect::ConnectError::World { what, source: None, retry: false });
                None
            }
        }
    }
}

/// The error answer in the place of an answer that is refused.
fn not_written(answer: &Record, reason: &str) -> Record {
    let id = String::from_utf8_lossy(answer.key.as_deref().unwrap_or_default());
    let message = format!("the answer of {} bytes could not be written: {reason}", answer.size_bytes());
    let text = error_answer(&id, Fault::whole(FaultCode::NotWritten, message));
    answer_record(&id, &timed(&text, 0), answer.headers.clone())
}

/// The answer with the time it took.
fn timed(answer: &[u8], took_us: u64) -> Answer {
    let mut answer = Answer::from_json(answer).expect("answers are written by this program");
    answer.took_seconds = Duration::from_micros(took_us).as_secs_f64();
    answer
}

/// The record of an answer.
fn answer_record(id: &str, answer: &Answer, headers: Headers) -> Record {
    Record {
        partition: 0,
        offset: 0,
        key: Some(id.as_bytes().to_vec()),
        value: Some(answer.to_json()),
        headers,
    }
}
