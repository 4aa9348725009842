//! Answers and dead letters → topics. Both go back to the worker that read the record, which settles and commits it.
//!
//! Order: an answer is handed to the sink as it comes; a full sink keeps the rest here, bounded by the queries in
//! flight and the documents' budget. Offsets of queries are committed when the answers before them are written.

mod offsets;

pub use offsets::Offsets;

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use freshet_schemas::{Answer, Fault, FaultCode, Headers, Record};
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use crate::clock;
use crate::connect::Sink;
use crate::control::Control;
use crate::index::Time;
use crate::message::{AnswerRecord, DeadLetter, Origin};
use crate::plan::error_answer;
use crate::wake::LateWake;

/// What the operator needs to write.
pub struct Producer {
    /// Where records go.
    pub sink: Box<dyn Sink>,
    /// Answers topic.
    pub answers: String,
    /// Dead-letter topic of the queries: settles the query.
    pub query_letters: String,
    /// Queries read and not answered yet.
    pub offsets: Rc<RefCell<Offsets>>,
    /// Written, and not known to be written: for the end of a run.
    pub unsettled: Rc<RefCell<usize>>,
    /// Time after which a waiting operator looks again.
    pub tick: Duration,
    /// Bound to the operator: the sink wakes it.
    pub wake: LateWake,
    /// Stop signal and failures.
    pub control: Arc<Control>,
}

/// A record between this operator and its topic.
struct Outgoing {
    topic: String,
    record: Record,
    /// Query that is settled by it.
    settles: Option<Origin>,
    /// Id of the answered query; `None` for a dead letter or a second attempt.
    answers: Option<String>,
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
        let mut sent: BTreeMap<u64, Outgoing> = BTreeMap::new();
        let mut token = 0;
        let mut next_look = Instant::now();
        move |_frontiers| {
            answers.for_each(|_, data| queue.extend(data.drain(..).map(|a| producer.answer(a))));
            letters.for_each(|_, data| queue.extend(data.drain(..).map(|l| producer.letter(l))));
            while let Some(outgoing) = queue.pop_front() {
                // The sink gives back what it cannot take; what is under way is remembered for a refusal.
                match producer.sink.send(&outgoing.topic, outgoing.record.clone(), token) {
                    Ok(()) => {
                        sent.insert(token, outgoing);
                        token += 1;
                    }
                    Err(_) => {
                        queue.push_front(outgoing);
                        break;
                    }
                }
            }
            for (token, fate) in producer.sink.settled() {
                let Some(outgoing) = sent.remove(&token) else { continue };
                queue.extend(producer.settle(outgoing, fate));
            }
            *producer.unsettled.borrow_mut() = queue.len() + sent.len();
            let waiting = !(queue.is_empty() && sent.is_empty());
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
    fn answer(&self, answer: AnswerRecord) -> Outgoing {
        let took_us = clock::now_us().saturating_sub(answer.read_at_us);
        let record = answer_record(&answer.id, &answer.answer, took_us, answer.headers);
        let topic = self.answers.clone();
        Outgoing { topic, record, settles: Some(answer.origin), answers: Some(answer.id) }
    }

    fn letter(&self, letter: DeadLetter) -> Outgoing {
        let settles = (letter.topic == self.query_letters).then_some(letter.origin);
        Outgoing { topic: letter.topic, record: letter.record, settles, answers: None }
    }

    /// A written record settles its query. A refused answer is followed by an error answer; a refused dead letter, or a
    /// refused error answer, ends the run: it would be lost.
    fn settle(&self, outgoing: Outgoing, fate: Result<(), String>) -> Option<Outgoing> {
        match (fate, outgoing.answers) {
            (Ok(()), _) => {
                if let Some(origin) = outgoing.settles {
                    self.offsets.borrow_mut().settle(origin.partition, origin.offset);
                }
                None
            }
            (Err(reason), Some(id)) => {
                let message = format!(
                    "the answer of {} bytes could not be written: {reason}",
                    outgoing.record.size_bytes()
                );
                let text = error_answer(&id, Fault::whole(FaultCode::NotWritten, message));
                let record = answer_record(&id, &text, 0, outgoing.record.headers);
                Some(Outgoing { topic: outgoing.topic, record, settles: outgoing.settles, answers: None })
            }
            (Err(reason), None) => {
                let what = format!("record for topic \"{}\" could not be written: {reason}", outgoing.topic);
                self.control.fail(&crate::connect::ConnectError::World { what, source: None, retry: false });
                None
            }
        }
    }
}

/// The record of an answer, with the time it took.
fn answer_record(id: &str, answer: &[u8], took_us: u64, headers: Headers) -> Record {
    let mut answer = Answer::from_json(answer).expect("answers are written by this program");
    answer.took_seconds = Duration::from_micros(took_us).as_secs_f64();
    Record {
        partition: 0,
        offset: 0,
        key: Some(id.as_bytes().to_vec()),
        value: Some(answer.to_json()),
        headers,
    }
}
