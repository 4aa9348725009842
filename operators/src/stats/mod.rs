//! Corpus statistics as differential counts, and queries weighed by them.
//!
//! ```text
//!   changes of shards ─▶ ±statistic ─▶ arrange "Statistics" ─▶ trace (by hash of the statistic) ─▶ applied
//!   queries ─┬─ asks, to the worker that owns the statistic ─▶ Lookup at the query's time ─▶ replies ─┐
//!            └──────────────────────────────────────────────────────────────────────────────▶ Weigh ─▶ queries
//! ```
//! N, document frequency and total length are the accumulated weight of their key at times ≤ t: exact under updates
//! and deletes, over the whole corpus, for every t from the oldest query in flight on.

mod weigh;

pub use weigh::{WeighedQuery, bm25_weight, weigh};

use differential_dataflow::AsCollection;
use differential_dataflow::hashable::Hashable;
use differential_dataflow::operators::arrange::{Arranged, TraceAgent};
use differential_dataflow::trace::TraceReader;
use differential_dataflow::trace::cursor::Cursor;
use differential_dataflow::trace::implementations::KeySpine;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Concat;
use timely::dataflow::operators::generic::operator::Operator;

use crate::index::Time;
use crate::message::{Statistic, StatisticAsk, StatisticReply};

/// The statistics of this worker.
pub type StatisticsTrace = TraceAgent<KeySpine<Statistic, Time, isize>>;

/// Arranges the statistics, which begin with those of `restored`. The stream's frontier is that of all indexes: what it has passed can be queried.
pub fn statistics<'scope>(
    changes: StreamVec<'scope, Time, (Statistic, Time, isize)>,
    restored: StreamVec<'scope, Time, (Statistic, Time, isize)>,
) -> (StatisticsTrace, StreamVec<'scope, Time, ()>) {
    let changes = changes.concat(restored);
    let Arranged { stream, trace } = changes.as_collection().arrange_by_self_named("Statistics");
    let applied = stream.unary(Pipeline, "Applied", |_, _| {
        move |input,
              _output: &mut timely::dataflow::operators::generic::OutputBuilderSession<
            '_,
            _,
            timely::container::CapacityContainerBuilder<Vec<()>>,
        >| {
            input.for_each(|_, _| {});
        }
    });
    (trace, applied)
}

/// Looks statistics up at the time of each message. Compacts the trace behind the frontier of the asks.
pub fn lookup<'scope>(
    asks: StreamVec<'scope, Time, StatisticAsk>,
    mut trace: StatisticsTrace,
) -> StreamVec<'scope, Time, StatisticReply> {
    let by_statistic = Exchange::new(|ask: &StatisticAsk| ask.statistic.hashed());
    asks.unary_frontier(by_statistic, "Lookup", move |_, _| {
        move |(input, frontier), output| {
            let mut batch: Vec<(_, Vec<StatisticAsk>)> = Vec::new();
            input.for_each(|cap, asks| batch.push((cap.retain(0), std::mem::take(asks))));
            if !batch.is_empty() {
                let (mut cursor, storage) = trace.cursor();
                for (cap, mut asks) in batch {
                    asks.sort_by_key(|ask| ask.statistic);
                    cursor.rewind_keys(&storage);
                    let mut session = output.session(&cap);
                    for StatisticAsk { ticket, statistic } in asks {
                        let mut value = 0;
                        cursor.seek_key(&storage, &statistic);
                        if cursor.get_key(&storage) == Some(&statistic) {
                            cursor.rewind_vals(&storage);
                            cursor.map_times(&storage, |time, diff| {
                                if time <= cap.time() {
                                    value += *diff as i64;
                                }
                            });
                        }
                        session.give(StatisticReply { ticket, statistic, value });
                    }
                }
            }
            trace.set_logical_compaction(frontier.frontier());
            trace.set_physical_compaction(frontier.frontier());
        }
    })
}
