//! Queries → plans: names resolved, equal subtrees made one, and queries that cannot run turned into error answers.
//!
//! Limit: duplicate ids are recognised among the last [`RECENT_IDS_MAX`] queries of a worker; queries are exchanged by
//! id, so that two of one id always meet.

mod compile;
mod examples;
mod recent;
#[cfg(test)]
mod tests;

pub use compile::{InputValue, Plan, PlanInput, Plans, Stage, Work};
pub use recent::Recent;

use freshet_schemas::{Answer, Ask, Fault, FaultCode};
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use xxhash_rust::xxh3::xxh3_64;

use crate::decode::DeadLetters;
use crate::index::Time;
use crate::message::{AnswerRecord, DeadLetter, PageTurn, PlannedQuery, QueryRecord, Ticket};

/// Query ids remembered per worker.
pub const RECENT_IDS_MAX: usize = 65_536;

/// What becomes of a query: it runs, it asks for a page, it is answered with an error, or it is a dead letter.
pub struct Planned<'scope> {
    /// Queries that run.
    pub queries: StreamVec<'scope, Time, PlannedQuery>,
    /// Error answers.
    pub refused: StreamVec<'scope, Time, AnswerRecord>,
    /// Duplicates: their id is answered once, so they cannot be.
    pub letters: StreamVec<'scope, Time, DeadLetter>,
    /// Pages of earlier queries.
    pub turns: StreamVec<'scope, Time, PageTurn>,
}

/// Plans queries.
pub fn plan<'scope>(
    queries: StreamVec<'scope, Time, QueryRecord>,
    plans: Plans,
    letters: DeadLetters,
) -> Planned<'scope> {
    let mut builder = OperatorBuilder::new("Plan".into(), queries.scope());
    let worker = queries.scope().worker().index();
    let by_id = Exchange::new(|query: &QueryRecord| xxh3_64(query.id.as_bytes()));
    let mut input = builder.new_input(queries, by_id);
    let (queries_out, queries) = builder.new_output();
    let (refused_out, refused) = builder.new_output();
    let (letters_out, dead) = builder.new_output();
    let (turns_out, turns) = builder.new_output();
    let mut queries_out = OutputBuilder::from(queries_out);
    let mut refused_out = OutputBuilder::from(refused_out);
    let mut letters_out = OutputBuilder::from(letters_out);
    let mut turns_out = OutputBuilder::from(turns_out);
    builder.build(move |_| {
        let mut recent = Recent::new(RECENT_IDS_MAX);
        let mut number = 0;
        move |_frontiers| {
            input.for_each(|cap, records| {
                for record in records.drain(..) {
                    // An answer of the gateway goes to who asked, whatever else has this id.
                    if !record.origin.is_gateway() && !recent.insert(&record.id) {
                        let fault = duplicate(&record.id);
                        let letter = letters.letter(record.origin, &record.record, "plan", &fault);
                        letters_out.activate().session(&cap).give_iterator(letter.into_iter());
                        // The record is settled with its dead letter, or was by an earlier run.
                        continue;
                    }
                    let record = match page_turn(record) {
                        Ok(turn) => {
                            turns_out.activate().session(&cap).give(turn);
                            continue;
                        }
                        Err(record) => *record,
                    };
                    number += 1;
                    let ticket = Ticket { worker, number };
                    match planned(record, ticket, &plans) {
                        Ok(query) => queries_out.activate().session(&cap).give(query),
                        Err(answer) => refused_out.activate().session(&cap).give(answer),
                    }
                }
            });
        }
    });
    Planned { queries, refused, letters: dead, turns }
}

fn duplicate(id: &str) -> Fault {
    let message = format!("query id \"{id}\" has been used before; every query needs an id of its own");
    Fault::field(FaultCode::DuplicateId, "id", message)
}

/// The page that a query asks for; the query itself where it asks for something else.
fn page_turn(record: QueryRecord) -> Result<PageTurn, Box<QueryRecord>> {
    let cursor = match &record.query {
        Ok(query) => match query.ask {
            Ask::Page(cursor) => Some(cursor),
            Ask::Text { .. } | Ask::Plan(_) | Ask::Count => None,
        },
        Err(_) => None,
    };
    let Some(cursor) = cursor else { return Err(Box::new(record)) };
    let QueryRecord { origin, id, headers, read_at_us, .. } = record;
    Ok(PageTurn { origin, headers, read_at_us, id, cursor })
}

fn planned(record: QueryRecord, ticket: Ticket, plans: &Plans) -> Result<PlannedQuery, AnswerRecord> {
    let QueryRecord { origin, id, headers, read_at_us, query, .. } = record;
    let compiled = query.and_then(|query| Ok((plans.compile(&query)?, query)));
    match compiled {
        Ok((plan, query)) => Ok(PlannedQuery { ticket, origin, headers, read_at_us, query, plan }),
        Err(fault) => Err(AnswerRecord { origin, headers, read_at_us, answer: error_answer(&id, fault), id }),
    }
}

/// The answer to a query that cannot be answered, as JSON.
pub fn error_answer(id: &str, fault: Fault) -> Vec<u8> {
    Answer::refusal(id, fault, 0.0).to_json()
}
