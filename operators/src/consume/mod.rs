//! Documents topic → records at ticks, and the bindings of ticks to offsets.
//!
//! ```text
//!   Reader ──poll──▶ Consume(documents) ──▶ (Origin, ReadRecord) at tick t
//!                        ▲        ├───────▶ Binding at tick t: partition, next offset
//!                        │        └───────▶ cuts: a message at each tick at which the shards are cut
//!                        └── applied: probe on the indexes, releases the budget
//! ```
//! Time rule: every poll that yields records has a tick of its own, closed at once; at most one poll per `tick` unless
//! a poll came back full. An idle source follows the ticks that others use, so that these can close; and now and then the
//! clock, from which shards tell that they are quiet. Nothing else moves while nothing comes: an idle pipeline costs little.
//! Limit: no poll while the records or bytes of open ticks reach the budget.

mod budget;
mod queries;
mod trace;

pub use budget::{Budget, BudgetGauge};
pub use queries::{QueryConsumer, consume_queries};
pub use trace::DocumentTraces;

use std::sync::Arc;
use std::time::{Duration, Instant};

use freshet_schemas::{Partition, Record};
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{ProbeHandle, Scope, StreamVec};

use crate::clock::Clock;
use crate::control::Control;
use crate::index::Time;
use crate::message::{Binding, Origin};
use crate::registry::{ReadRecord, Reader};
use crate::snapshot::Snapshots;

/// How far an idle source lets the clock run ahead, in milliseconds.
const IDLE_MS: Time = 500;

/// What the operator needs to read documents.
pub struct DocumentConsumer {
    /// The partitions of this worker, which may get more.
    pub source: Reader,
    /// Next offsets of partitions that go on: bound to time 0, which no record has. The others are bound once their first
    /// offset is known: a cut before that says nothing of them, and they are read from there.
    pub start: Vec<Binding>,
    /// Names ticks.
    pub clock: Arc<Clock>,
    /// Least time between two polls.
    pub tick: Duration,
    /// Most records of one tick.
    pub tick_records_max: usize,
    /// What may be between source and index.
    pub budget: Budget,
    /// Of the worker that begins cuts: whether one is to begin.
    pub cuts: Option<Arc<Snapshots>>,
    /// Spans of documents, if there are traces.
    pub traces: Option<DocumentTraces>,
    /// Stop signal and failures.
    pub control: Arc<Control>,
}

/// What is read: records and bindings at ticks, and the ticks at which the shards are to be cut.
pub struct Consumed<'scope> {
    /// Records.
    pub records: StreamVec<'scope, Time, (Origin, ReadRecord)>,
    /// Next offsets.
    pub bindings: StreamVec<'scope, Time, Binding>,
    /// A message at each tick at which a cut is made.
    pub cuts: StreamVec<'scope, Time, ()>,
}

/// Reads documents at ticks. Ends, dropping its capability, when the control says so.
pub fn consume_documents<'scope>(
    scope: Scope<'scope, Time>,
    applied: ProbeHandle<Time>,
    mut consumer: DocumentConsumer,
) -> Consumed<'scope> {
    let mut builder = OperatorBuilder::new("Consume(documents)".into(), scope);
    let info = builder.operator_info();
    let activator = scope.activator_for(info.address.clone());
    let (records_out, records) = builder.new_output();
    let (bindings_out, bindings) = builder.new_output();
    let (cuts_out, cuts) = builder.new_output();
    let mut cuts_out = OutputBuilder::from(cuts_out);
    let mut records_out = OutputBuilder::from(records_out);
    let mut bindings_out = OutputBuilder::from(bindings_out);
    let worker = scope.worker().index();

    builder.build(move |mut capabilities| {
        let cuts_cap = capabilities.pop();
        let bindings_cap = capabilities.pop();
        let records_cap = capabilities.pop();
        let mut held = records_cap.zip(bindings_cap).zip(cuts_cap);
        let mut next_poll = Instant::now();
        let mut begun = false;
        move |_frontiers| {
            if consumer.control.stopping() {
                held = None;
            }
            let Some(((records_cap, bindings_cap), cuts_cap)) = held.as_mut() else { return };
            consumer.budget.release(|tick| !applied.less_equal(tick));
            if let Some(traces) = &mut consumer.traces {
                traces.applied(|tick| !applied.less_equal(tick));
            }
            let now = Instant::now();
            // Before any tick has closed what was restored is bound, so that no cut falls behind the one it began with.
            // So is what the source knows already: an answer before the first tick says that it reflects nothing of it.
            let mut start = std::mem::take(&mut consumer.start);
            if !std::mem::replace(&mut begun, true) {
                match consumer.source.poll(0, 0) {
                    Ok(polled) => start.extend(consumer.changed(&polled.positions)),
                    Err(error) => consumer.control.fail(&error),
                }
            }
            bindings_out.activate().session(bindings_cap).give_iterator(start.into_iter());
            if now >= next_poll {
                let cut = consumer.cuts.as_ref().is_some_and(|cuts| cuts.begin());
                let (records, bindings, full) = consumer.poll();
                let some = cut || !(records.is_empty() && bindings.is_empty());
                let tick = next_tick(&consumer.clock, *records_cap.time(), some);
                if *records_cap.time() < tick {
                    records_cap.downgrade(&tick);
                    bindings_cap.downgrade(&tick);
                    cuts_cap.downgrade(&tick);
                }
                if cut {
                    cuts_out.activate().session(cuts_cap).give(());
                }
                let bytes = records.iter().map(|read| read.record.size_bytes()).sum();
                consumer.budget.take(tick, records.len(), bytes);
                if let Some(traces) = &mut consumer.traces {
                    traces.read(tick, &records);
                }
                let origin = |r: &Record| Origin { worker, partition: r.partition, offset: r.offset };
                records_out
                    .activate()
                    .session(records_cap)
                    .give_iterator(records.into_iter().map(|read| (origin(&read.record), read)));
                bindings_out.activate().session(bindings_cap).give_iterator(bindings.into_iter());
                if some {
                    records_cap.downgrade(&(tick + 1));
                    bindings_cap.downgrade(&(tick + 1));
                    cuts_cap.downgrade(&(tick + 1));
                    consumer.clock.used(tick + 1);
                }
                next_poll = if full { now } else { now + consumer.tick };
            }
            activator.activate_after(next_poll.saturating_duration_since(Instant::now()));
        }
    });
    Consumed { records, bindings, cuts }
}

/// The tick of what comes now, or of an idle source: not before `at`.
fn next_tick(clock: &Clock, at: Time, some: bool) -> Time {
    let now = clock.now().max(at);
    if some || now - at >= IDLE_MS { now } else { clock.unused().max(at) }
}

impl DocumentConsumer {
    /// Polls within the budget: records, changed bindings, and whether more is waiting.
    fn poll(&mut self) -> (Vec<ReadRecord>, Vec<Binding>, bool) {
        let (records_max, bytes_max) = self.budget.room();
        let records_max = records_max.min(self.tick_records_max);
        if records_max == 0 || bytes_max == 0 {
            return (Vec::new(), Vec::new(), false);
        }
        let polled = match self.source.poll(records_max, bytes_max) {
            Ok(polled) => polled,
            Err(error) => {
                self.control.fail(&error);
                return (Vec::new(), Vec::new(), false);
            }
        };
        let full = polled.records.len() == records_max;
        let bindings = self.changed(&polled.positions);
        (polled.records, bindings, full)
    }

    fn changed(&mut self, positions: &std::collections::BTreeMap<Partition, i64>) -> Vec<Binding> {
        let budget = &mut self.budget;
        positions
            .iter()
            .filter(|&(&partition, &next)| budget.moved(partition, next))
            .map(|(&partition, &next)| Binding { partition, next })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn an_idle_source_moves_when_others_need_it_and_seldom_else() {
        let hands = Arc::new(AtomicU64::new(1000));
        let under = Arc::clone(&hands);
        let clock = Clock::over(move || under.load(Ordering::SeqCst));
        // The first time is none at which anything comes.
        assert_eq!(next_tick(&clock, 0, false), 1000);
        hands.store(1000 + IDLE_MS - 1, Ordering::SeqCst);
        assert_eq!(next_tick(&clock, 1000, false), 1000, "nobody needs it");
        clock.used(1200);
        assert_eq!(next_tick(&clock, 1000, false), 1200, "another one's tick closes");
        assert_eq!(next_tick(&clock, 1200, true), 1000 + IDLE_MS - 1, "what comes has the time of the clock");
        hands.store(1200 + IDLE_MS, Ordering::SeqCst);
        assert_eq!(next_tick(&clock, 1200, false), 1200 + IDLE_MS);
        assert_eq!(next_tick(&clock, 5000, true), 5000, "never back");
    }
}
