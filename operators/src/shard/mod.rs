//! The shards of a worker: changes applied as ticks close, requests answered at their time.
//!
//! ```text
//!   changes, by shard ─▶ Index ─▶ ±statistics          (closed ticks only, in order)
//!                          │ Shards (shared on the worker)
//!   requests, by shard ─▶ Prefetch / Rerank n / Fetch ─▶ replies, to the query's worker
//! ```
//! A request at time t is answered at once: the indexes had passed t before the query was given that time.

mod shards;

pub use shards::Shards;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::operator::Operator;

use crate::control::Control;
use crate::index::{ShardChange, Time};
use crate::message::{RoutedChange, ShardReply, ShardRequest, Statistic};

/// The shards of a worker, shared by its operators.
pub type SharedShards = Rc<RefCell<Shards>>;

/// Applies changes to the shards of this worker, tick by tick, and emits what they do to the statistics.
pub fn index<'scope>(
    changes: StreamVec<'scope, Time, RoutedChange>,
    shards: SharedShards,
    control: Arc<Control>,
) -> StreamVec<'scope, Time, (Statistic, Time, isize)> {
    let by_shard = Exchange::new(|routed: &RoutedChange| u64::from(routed.shard));
    changes.unary_frontier(by_shard, "Index", move |_, _| {
        let mut open: BTreeMap<Time, (Capability<Time>, BTreeMap<u32, Vec<ShardChange>>)> = BTreeMap::new();
        move |(input, frontier), output| {
            input.for_each(|cap, data| {
                let (_, by_shard) =
                    open.entry(*cap.time()).or_insert_with(|| (cap.retain(0), BTreeMap::new()));
                for routed in data.drain(..) {
                    by_shard.entry(routed.shard).or_default().push(routed.change);
                }
            });
            while let Some(entry) = open.first_entry().filter(|e| !frontier.less_equal(e.key())) {
                let (cap, by_shard) = entry.remove();
                let time = *cap.time();
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
        }
    })
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
}

impl Round {
    fn name(self) -> String {
        match self {
            Self::Prefetch => "Prefetch".into(),
            Self::Rerank(n) => format!("Rerank({n})"),
            Self::Fetch => "Fetch".into(),
        }
    }
}
