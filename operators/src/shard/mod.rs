//! The shards of a worker: changes applied as ticks close, requests answered at their time.
//!
//! ```text
//!   changes, by shard ─▶ Index ─▶ ±statistics          (closed ticks only, in order)
//!   bindings, cuts ─────▶  │ ──▶ parts and offsets of a cut, to the snapshots
//!                          │ Shards (shared on the worker)
//!   requests, by shard ─▶ Lookup / Prefetch / Rerank n / Fetch ─▶ replies, to the query's worker
//! ```
//! A request at time t is answered at once: the indexes had passed t before the query was given that time.

mod living;
mod restored;
mod shards;
#[cfg(test)]
mod tests;

pub use living::Living;
pub use restored::{Restored, restored};
pub use shards::Shards;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::generic::operator::Operator;
use timely::dataflow::operators::vec::Broadcast;

use crate::admit::Ledger;
use crate::control::Control;
use crate::index::{ShardChange, Time};
use crate::message::{Binding, RoutedChange, ShardReply, ShardRequest, Statistic};
use crate::snapshot::Snapshots;

/// The shards of a worker, shared by its operators.
pub type SharedShards = Rc<RefCell<Shards>>;

/// What the operator needs beside the changes.
pub struct Indexing<'scope> {
    /// The shards of this worker.
    pub shards: SharedShards,
    /// Next offsets of the partitions of this worker.
    pub bindings: StreamVec<'scope, Time, Binding>,
    /// A message at each tick at which the shards are cut.
    pub cuts: StreamVec<'scope, Time, ()>,
    /// Where cuts go.
    pub snapshots: Option<Arc<Snapshots>>,
    /// Stop signal and failures.
    pub control: Arc<Control>,
}

/// Changes of a closed tick, and the right to say what they do.
type Open = (Capability<Time>, BTreeMap<u32, Vec<ShardChange>>);

/// Applies changes to the shards of this worker, tick by tick, and emits what they do to the statistics. A cut at a tick
/// is made when all changes up to it are applied and none behind it is.
pub fn index<'scope>(
    changes: StreamVec<'scope, Time, RoutedChange>,
    indexing: Indexing<'scope>,
) -> StreamVec<'scope, Time, (Statistic, Time, isize)> {
    let Indexing { shards, bindings, cuts, snapshots, control } = indexing;
    let by_shard = Exchange::new(|routed: &RoutedChange| u64::from(routed.shard));
    let mut builder = OperatorBuilder::new("Index".into(), changes.scope());
    let mut changes_in = builder.new_input(changes, by_shard);
    let (statistics_out, statistics) = builder.new_output();
    // These send nothing on.
    let mut bindings_in = builder.new_input_connection::<Vec<Binding>, _, _>(bindings, Pipeline, []);
    let mut cuts_in = builder.new_input_connection::<Vec<()>, _, _>(cuts.broadcast(), Pipeline, []);
    let mut statistics_out = OutputBuilder::from(statistics_out);
    builder.build(move |_| {
        let mut open: BTreeMap<Time, Open> = BTreeMap::new();
        let mut ledger = Ledger::default();
        let mut cuts: BTreeSet<Time> = BTreeSet::new();
        move |frontiers| {
            changes_in.for_each(|cap, data| {
                let (_, by_shard) =
                    open.entry(*cap.time()).or_insert_with(|| (cap.retain(0), BTreeMap::new()));
                for routed in data.drain(..) {
                    by_shard.entry(routed.shard).or_default().push(routed.change);
                }
            });
            bindings_in.for_each(|cap, data| data.drain(..).for_each(|b| ledger.bind(*cap.time(), b)));
            cuts_in.for_each(|cap, _| {
                cuts.insert(*cap.time());
            });
            let closed = |time: &Time| frontiers.iter().all(|frontier| !frontier.less_equal(time));
            loop {
                let change = open.first_key_value().map(|(time, _)| *time).filter(closed);
                let cut = cuts.first().copied().filter(closed);
                match (change, cut) {
                    (Some(time), cut) if cut.is_none_or(|cut| time <= cut) => {
                        let Some((cap, by_shard)) = open.remove(&time) else { break };
                        let mut output = statistics_out.activate();
                        let mut session = output.session(&cap);
                        for (shard, changes) in by_shard {
                            match shards.borrow_mut().apply(shard, time, changes) {
                                Ok(statistics) => {
                                    session.give_iterator(statistics.into_iter().map(|(s, d)| (s, time, d)))
                                }
                                // An index that missed a change is wrong for good: better none.
                                Err(error) => control.fail(&error),
                            }
                        }
                    }
                    (_, Some(cut)) => {
                        cuts.remove(&cut);
                        if let Some(snapshots) = &snapshots {
                            let offsets = ledger.as_of(cut).into_iter().map(|(p, last)| (p, last + 1));
                            match shards.borrow_mut().cut() {
                                Ok(parts) => snapshots.deliver(cut, offsets.collect(), parts),
                                Err(error) => control.fail(&error),
                            }
                        }
                    }
                    _ => break,
                }
            }
            // No cut comes at a tick that is closed.
            let first_open = frontiers.iter().filter_map(|f| f.frontier().first().copied()).min();
            if let Some(since) = first_open.and_then(|open| open.checked_sub(1)) {
                ledger.compact(cuts.first().copied().unwrap_or(Time::MAX).min(since));
            }
        }
    });
    statistics
}

/// Answers the requests of one round. The last round of a flow also says which times will not be asked for again.
pub fn serve<'scope>(
    requests: StreamVec<'scope, Time, ShardRequest>,
    shards: SharedShards,
    control: Arc<Control>,
    round: Round,
) -> StreamVec<'scope, Time, ShardReply> {
    let by_shard = Exchange::new(|request: &ShardRequest| u64::from(request.shard));
    let last = matches!(round, Round::Fetch);
    requests.unary_frontier(by_shard, &round.name(), move |_, _| {
        move |(input, frontier), output| {
            input.for_each(|cap, data| {
                let mut session = output.session(&cap);
                for request in data.drain(..) {
                    match shards.borrow().serve(*cap.time(), request) {
                        Ok(reply) => session.give(reply),
                        Err(error) => control.fail(&error),
                    }
                }
            });
            if last && let Some(&since) = frontier.frontier().first() {
                let compacted = shards.borrow_mut().compact(since);
                compacted.unwrap_or_else(|error| control.fail(&error));
            }
        }
    })
}

/// A trip to the shards.
#[derive(Clone, Copy, Debug)]
pub enum Round {
    /// The searches of a plan.
    Prefetch,
    /// The n-th rescoring, from 1.
    Rerank(usize),
    /// Payloads of the hits.
    Fetch,
    /// Vectors of the documents that a query names by their ids, before its searches.
    Lookup,
}

impl Round {
    fn name(self) -> String {
        match self {
            Self::Prefetch => "Prefetch".into(),
            Self::Rerank(n) => format!("Rerank({n})"),
            Self::Fetch => "Fetch".into(),
            Self::Lookup => "Lookup".into(),
        }
    }
}
