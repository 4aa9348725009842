//! Answers that are read page by page: the list of a query, kept with the capability of its time.
//!
//! ```text
//!   Gather, ReadTexts ─▶ requests of final fetches ─▶ Pages ─▶ Fetch ─▶ Answer
//!   Plan ── cursors, by their worker ──────────────────▶│ └──▶ error answers: the cursor is not known
//! ```
//! All pages are of one list at one time: while it is kept, the shards keep the versions that this time sees. That holds
//! back nothing else: other queries have capabilities of their own, and documents, statistics and snapshots lie upstream.
//! Limit: `queries.cursors_max` lists per worker, each until its last page is read or nobody has asked for
//! `queries.cursor_timeout`. A restart forgets them.

mod kept;

pub use kept::{CursorLimits, Kept};

use std::time::Instant;

use freshet_schemas::{Cursor, Fault, FaultCode};
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use crate::clock;
use crate::gather::{Execution, Executions};
use crate::index::Time;
use crate::message::{AnswerRecord, PageTurn, ShardRequest, Ticket};
use crate::plan::error_answer;

/// The first number of tickets of pages; those of queries count from 0.
const PAGE_TICKETS: u64 = 1 << 63;

/// Passes the requests of final fetches on, keeps the lists of those queries that have more pages, and reads pages of them.
pub fn pages<'scope>(
    requests: StreamVec<'scope, Time, ShardRequest>,
    turns: StreamVec<'scope, Time, PageTurn>,
    executions: Executions,
    limits: CursorLimits,
) -> (StreamVec<'scope, Time, ShardRequest>, StreamVec<'scope, Time, AnswerRecord>) {
    let scope = requests.scope();
    let worker = scope.worker().index();
    let mut builder = OperatorBuilder::new("Pages".into(), scope);
    let activator = scope.activator_for(builder.operator_info().address.clone());
    let mut requests_in = builder.new_input(requests, Pipeline);
    let mut turns_in = builder.new_input(turns, Exchange::new(|turn: &PageTurn| turn.cursor.worker as u64));
    let (requests_out, requests) = builder.new_output();
    let (refused_out, refused) = builder.new_output();
    let mut requests_out = OutputBuilder::from(requests_out);
    let mut refused_out = OutputBuilder::from(refused_out);
    builder.build(move |_| {
        let mut kept: Kept<(Capability<Time>, Execution)> = Kept::new(limits, clock::now_us(), worker);
        let mut number = PAGE_TICKETS;
        move |frontiers| {
            requests_in.for_each(|cap, data| {
                let mut executions = executions.borrow_mut();
                for request in data.iter() {
                    let execution = executions.get_mut(&request.ticket);
                    let Some(execution) = execution.filter(|execution| execution.opens_pages()) else {
                        continue;
                    };
                    if let Some(from) = execution.next_page() {
                        execution.name_next(kept.cursor(from));
                        kept.keep((cap.retain(0), execution.clone()), Instant::now());
                    }
                }
                requests_out.activate().session(&cap).give_container(data);
            });
            turns_in.for_each(|cap, data| {
                for turn in data.drain(..) {
                    let cursor = turn.cursor;
                    let ticket = Ticket { worker, number };
                    let page = kept
                        .get(&cursor, Instant::now())
                        .and_then(|(held, list)| Some((held.clone(), list.page(ticket, &turn)?)));
                    let Some((held, execution)) = page else {
                        refused_out.activate().session(&cap).give(unknown(turn));
                        continue;
                    };
                    number += 1;
                    if execution.next_page().is_none() {
                        kept.end(&cursor);
                    }
                    let fetches = execution.fetches().into_iter();
                    requests_out.activate().session(&held).give_iterator(fetches);
                    executions.borrow_mut().insert(ticket, execution);
                }
            });
            if frontiers.iter().all(|frontier| frontier.is_empty()) {
                // Nobody can ask any more, and the run is to end.
                kept.clear();
            } else if let Some(wait) = kept.expire(Instant::now()) {
                activator.activate_after(wait);
            }
        }
    });
    (requests, refused)
}

fn unknown(turn: PageTurn) -> AnswerRecord {
    let PageTurn { origin, headers, read_at_us, id, cursor } = turn;
    let fault = Fault::field(FaultCode::UnknownCursor, "cursor", unknown_message(&cursor));
    AnswerRecord { origin, headers, read_at_us, answer: error_answer(&id, fault), id }
}

fn unknown_message(cursor: &Cursor) -> String {
    format!(
        "cursor \"{cursor}\" is not known: all its pages were read, it was not used for queries.cursor_timeout, newer \
         ones took its place (queries.cursors_max), or the pipeline was started anew; ask the query again"
    )
}
