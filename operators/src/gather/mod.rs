//! Replies of all shards → global lists → the next round, or the answer.
//!
//! ```text
//!   weighed ─▶ Start ─▶ requests 0 ─▶ Prefetch ─▶ Gather(0) ─▶ requests 1 ─▶ Rerank(1) ─▶ Gather(1) ─▶ … ┐
//!                └─▶ Lookup ─▶ Resolve ─▲               └── done ──────────────────┴─ done ─▶ Fetch ─▶ Answer ◀┘
//! ```
//! Queries that name documents make a trip for their vectors first; others start at once.

//! A query's state stays on the worker of its ticket, in [`Executions`]; only requests and replies travel. A round is
//! complete when every shard has replied: counted, not timed, so a query never waits for a tick. Fusion runs here and
//! nowhere else: only on lists that all shards have contributed to.

mod answer;
mod beside;
mod diverse;
mod execution;
mod groups;
mod lookup;
mod page;
mod stopwatch;

pub use execution::{Absorbed, Corpus, Execution, Ranked, RerankTask};

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Operator as _;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use crate::index::Time;
use crate::message::{AnswerRecord, ShardReply, ShardRequest, Ticket};
use crate::stats::WeighedQuery;

/// The queries under way on a worker.
pub type Executions = Rc<RefCell<BTreeMap<Ticket, Execution>>>;

/// What queries begin with.
pub struct Started<'scope> {
    /// Requests of the first round.
    pub requests: StreamVec<'scope, Time, ShardRequest>,
    /// Requests for the vectors of the documents that queries name; the first round comes after these.
    pub lookups: StreamVec<'scope, Time, ShardRequest>,
    /// Queries that cannot be searched with.
    pub refused: StreamVec<'scope, Time, AnswerRecord>,
}

/// Starts queries.
pub fn start<'scope>(
    queries: StreamVec<'scope, Time, WeighedQuery>,
    executions: Executions,
    corpus: Corpus,
) -> Started<'scope> {
    let mut builder = OperatorBuilder::new("Start".into(), queries.scope());
    let mut input = builder.new_input(queries, Pipeline);
    let (requests_out, requests) = builder.new_output();
    let (lookups_out, lookups) = builder.new_output();
    let (refused_out, refused) = builder.new_output();
    let mut requests_out = OutputBuilder::from(requests_out);
    let mut lookups_out = OutputBuilder::from(lookups_out);
    let mut refused_out = OutputBuilder::from(refused_out);
    builder.build(move |_| {
        move |_frontiers| {
            input.for_each(|cap, data| {
                for query in data.drain(..) {
                    let ticket = query.admitted.planned.ticket;
                    let mut execution = Execution::new(query, corpus.clone());
                    let lookups = execution.lookups();
                    if !lookups.is_empty() {
                        lookups_out.activate().session(&cap).give_iterator(lookups.into_iter());
                    } else if let Err(answer) = execution.resolve() {
                        refused_out.activate().session(&cap).give(answer);
                        continue;
                    } else {
                        let requests = execution.requests(0);
                        requests_out.activate().session(&cap).give_iterator(requests.into_iter());
                    }
                    executions.borrow_mut().insert(ticket, execution);
                }
            });
        }
    });
    Started { requests, lookups, refused }
}

/// Starts the searches of queries whose documents have been looked up: requests of the first round, and answers of those
/// whose documents are not there.
pub fn resolve<'scope>(
    replies: StreamVec<'scope, Time, ShardReply>,
    executions: Executions,
) -> (StreamVec<'scope, Time, ShardRequest>, StreamVec<'scope, Time, AnswerRecord>) {
    let mut builder = OperatorBuilder::new("Resolve".into(), replies.scope());
    let to_owner = Exchange::new(|reply: &ShardReply| reply.ticket.worker as u64);
    let mut input = builder.new_input(replies, to_owner);
    let (requests_out, requests) = builder.new_output();
    let (refused_out, refused) = builder.new_output();
    let mut requests_out = OutputBuilder::from(requests_out);
    let mut refused_out = OutputBuilder::from(refused_out);
    builder.build(move |_| {
        move |_frontiers| {
            input.for_each(|cap, data| {
                for reply in data.drain(..) {
                    let mut executions = executions.borrow_mut();
                    let ticket = reply.ticket;
                    let Some(execution) = executions.get_mut(&ticket) else { continue };
                    if !execution.looked_up(reply) {
                        continue;
                    }
                    match execution.resolve() {
                        Ok(()) => {
                            let requests = execution.requests(0);
                            requests_out.activate().session(&cap).give_iterator(requests.into_iter());
                        }
                        Err(answer) => {
                            executions.remove(&ticket);
                            refused_out.activate().session(&cap).give(answer);
                        }
                    }
                }
            });
        }
    });
    (requests, refused)
}

/// What comes of a round.
pub struct Gathered<'scope> {
    /// Requests of the next round.
    pub next: StreamVec<'scope, Time, ShardRequest>,
    /// Requests of the final fetch.
    pub done: StreamVec<'scope, Time, ShardRequest>,
    /// Texts to be read before either.
    pub reading: StreamVec<'scope, Time, RerankTask>,
}

/// Gathers the replies of a round.
pub fn gather<'scope>(
    replies: StreamVec<'scope, Time, ShardReply>,
    executions: Executions,
    round: usize,
) -> Gathered<'scope> {
    let mut builder = OperatorBuilder::new(format!("Gather({round})"), replies.scope());
    let to_owner = Exchange::new(|reply: &ShardReply| reply.ticket.worker as u64);
    let mut input = builder.new_input(replies, to_owner);
    let (next_out, next) = builder.new_output();
    let (done_out, done) = builder.new_output();
    let (reading_out, reading) = builder.new_output();
    let mut next_out = OutputBuilder::from(next_out);
    let mut done_out = OutputBuilder::from(done_out);
    let mut reading_out = OutputBuilder::from(reading_out);
    builder.build(move |_| {
        move |_frontiers| {
            input.for_each(|cap, data| {
                for reply in data.drain(..) {
                    let mut executions = executions.borrow_mut();
                    let Some(execution) = executions.get_mut(&reply.ticket) else { continue };
                    match execution.absorb(reply, round) {
                        Absorbed::Waiting => continue,
                        Absorbed::Reranking(tasks) => {
                            reading_out.activate().session(&cap).give_iterator(tasks.into_iter());
                            continue;
                        }
                        Absorbed::Complete => {}
                    }
                    if execution.rounds() > round + 1 {
                        next_out
                            .activate()
                            .session(&cap)
                            .give_iterator(execution.requests(round + 1).into_iter());
                    } else {
                        done_out.activate().session(&cap).give_iterator(execution.fetches().into_iter());
                    }
                }
            });
        }
    });
    Gathered { next, done, reading }
}

/// Makes answers of fetched hits.
pub fn answer<'scope>(
    replies: StreamVec<'scope, Time, ShardReply>,
    executions: Executions,
) -> StreamVec<'scope, Time, AnswerRecord> {
    let to_owner = Exchange::new(|reply: &ShardReply| reply.ticket.worker as u64);
    replies.unary(to_owner, "Answer", move |_, _| {
        move |input, output| {
            input.for_each(|cap, data| {
                let mut session = output.session(&cap);
                for reply in data.drain(..) {
                    let mut executions = executions.borrow_mut();
                    let ticket = reply.ticket;
                    let complete =
                        executions.get_mut(&ticket).is_some_and(|execution| execution.fetched(reply));
                    if complete && let Some(execution) = executions.remove(&ticket) {
                        session.give(execution.into_answer());
                    }
                }
            });
        }
    })
}
