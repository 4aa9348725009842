//! Gives each query its time: the newest closed tick that satisfies its consistency.
//!
//! ```text
//!   queries ──▶ Admit ──▶ queries at time t, with as_of(t)
//!   bindings ──▶  ▲ ledger: tick → offsets (broadcast: every worker knows all partitions)
//!   applied ──▶   └ its frontier: which ticks are in every shard and in the statistics
//! ```
//! `latest` never waits. `strong` asks a thread of its own for the ends of the documents topic, then waits like a query
//! that names offsets. Nobody waits longer than the configured timeout: then it is an error answer.
//!
//! After a restart every query waits until the indexes have reached the floor: what answers of earlier runs have
//! reflected. No answer goes back in time. The timeout counts from there, since the floor is reached for certain.

mod ledger;
mod strong;

pub use ledger::Ledger;
pub use strong::EndOffsets;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use freshet_schemas::{AsOf, Consistency, DocumentTopics, Fault, FaultCode, Offset, Partition};
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::vec::Broadcast;

use crate::clock;
use crate::index::Time;
use crate::message::{AdmittedQuery, AnswerRecord, Binding, PlannedQuery};
use crate::plan::error_answer;

/// A query that waits for its freshness.
struct Waiting {
    capabilities: (Capability<Time>, Capability<Time>),
    query: PlannedQuery,
    /// What it needs; `None` until the ends of the topic are known.
    needs: Option<BTreeMap<Partition, Offset>>,
    deadline: Instant,
}

/// Admits queries; those that wait too long are answered with an error.
pub fn admit<'scope>(
    queries: StreamVec<'scope, Time, PlannedQuery>,
    bindings: StreamVec<'scope, Time, Binding>,
    applied: StreamVec<'scope, Time, ()>,
    ends: EndOffsets,
    floor: AsOf,
    timeout: Duration,
) -> (StreamVec<'scope, Time, AdmittedQuery>, StreamVec<'scope, Time, AnswerRecord>) {
    let scope = queries.scope();
    let mut builder = OperatorBuilder::new("Admit".into(), scope);
    let info = builder.operator_info();
    let activator = scope.activator_for(info.address.clone());
    let topics = ends.topics.clone();
    let mut ends = ends.start(scope.worker().sync_activator_for(info.address.to_vec()));
    let mut queries_in = builder.new_input(queries, Pipeline);
    let (admitted_out, admitted) = builder.new_output();
    let (refused_out, refused) = builder.new_output();
    // Bindings and progress of the indexes send nothing on: they only tell which ticks are closed.
    let mut bindings_in =
        builder.new_input_connection::<Vec<Binding>, _, _>(bindings.broadcast(), Pipeline, []);
    let mut applied_in = builder.new_input_connection::<Vec<()>, _, _>(applied, Pipeline, []);
    let mut admitted_out = OutputBuilder::from(admitted_out);
    let mut refused_out = OutputBuilder::from(refused_out);

    builder.build(move |_| {
        let mut ledger = Ledger::default();
        let mut waiting: Vec<Waiting> = Vec::new();
        let mut below_floor = !floor.is_empty();
        move |frontiers| {
            bindings_in.for_each(|cap, data| data.drain(..).for_each(|b| ledger.bind(*cap.time(), b)));
            applied_in.for_each(|_, _| {});
            queries_in.for_each(|cap, data| {
                for query in data.drain(..) {
                    let needs = match needs(&query.query.consistency, &topics) {
                        Ok(needs) => needs,
                        Err(fault) => {
                            refused_out.activate().session(&cap.retain(1)).give(refusal(query, fault));
                            continue;
                        }
                    };
                    if needs.is_none() {
                        ends.ask(query.ticket);
                    }
                    let capabilities = (cap.retain(0), cap.retain(1));
                    waiting.push(Waiting { capabilities, query, needs, deadline: Instant::now() + timeout });
                }
            });
            for (ticket, needs) in ends.answered() {
                let asked = waiting.iter_mut().filter(|waiting| waiting.query.ticket == ticket);
                asked.for_each(|waiting| waiting.needs = Some(needs.clone()));
            }
            let open = |input: usize| frontiers[input].frontier().first().copied().unwrap_or(Time::MAX);
            let closed = ledger.newest_closed(open(1).min(open(2)));
            let as_of = ledger.as_of(closed);
            let now = Instant::now();
            if below_floor && Ledger::covers(&as_of, &floor) {
                below_floor = false;
                waiting.iter_mut().for_each(|query| query.deadline = now + timeout);
            }
            for query in std::mem::take(&mut waiting) {
                // Bindings may reach this worker after the progress of the indexes did.
                let known = closed >= *query.capabilities.0.time();
                if below_floor {
                    waiting.push(query);
                } else if known && query.needs.as_ref().is_some_and(|needs| Ledger::covers(&as_of, needs)) {
                    let cap = query.capabilities.0.delayed(&closed);
                    let admitted = AdmittedQuery {
                        planned: query.query,
                        time: closed,
                        as_of: as_of.clone(),
                        admitted_at_us: clock::now_us(),
                    };
                    admitted_out.activate().session(&cap).give(admitted);
                } else if now >= query.deadline {
                    let refused = timed_out(query.query, timeout, &as_of, &topics);
                    refused_out.activate().session(&query.capabilities.1).give(refused);
                } else {
                    waiting.push(query);
                }
            }
            ledger.compact(frontiers[0].frontier().first().copied().map_or(closed, |t| t.min(closed)));
            if below_floor {
                // Progress of the indexes wakes this operator.
            } else if let Some(next) = waiting.iter().map(|w| w.deadline).min() {
                activator.activate_after(next.saturating_duration_since(now));
            }
        }
    });
    (admitted, refused)
}

/// The offsets that a query waits for; `None`: those of the ends of the topics, which are to be asked for.
fn needs(consistency: &Consistency, topics: &DocumentTopics) -> Result<Option<AsOf>, Fault> {
    match consistency {
        Consistency::Latest => Ok(Some(AsOf::new())),
        Consistency::Strong => Ok(None),
        Consistency::Documents(named) => {
            topics.by_partition(named).map(Some).map_err(|unknown| unknown_topic(&unknown, topics))
        }
    }
}

fn unknown_topic(name: &str, topics: &DocumentTopics) -> Fault {
    let message = format!("unknown field {name:?}; known: {}", topics.known().join(", "));
    Fault::field(FaultCode::UnknownField, format!("consistency.{name}"), message)
}

fn timed_out(query: PlannedQuery, timeout: Duration, as_of: &AsOf, topics: &DocumentTopics) -> AnswerRecord {
    let so_far = match topics.are_several() {
        true => format!("{:?} (topic: partition: offset)", topics.by_name(as_of)),
        false => format!("{as_of:?} (partition: offset)"),
    };
    let message =
        format!("the documents asked for were not indexed within {timeout:?}; indexed so far: {so_far}");
    refusal(query, Fault::field(FaultCode::ConsistencyTimeout, "consistency", message))
}

fn refusal(query: PlannedQuery, fault: Fault) -> AnswerRecord {
    AnswerRecord {
        answer: error_answer(&query.query.id, fault),
        origin: query.origin,
        headers: query.headers,
        read_at_us: query.read_at_us,
        id: query.query.id,
    }
}
