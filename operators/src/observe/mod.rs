//! What each operator does: timely's own log of every worker, summed up.
//!
//! ```text
//! worker ─ events, in batches ─▶ WorkerLog ─┐
//! worker ─ events, in batches ─▶ WorkerLog ─┴─ summary ─▶ metrics, the picture of the dataflow
//! ```
//! A worker takes its own lock once per batch of events; who looks takes them one after the other.

mod frontiers;
mod log;
mod metrics;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use timely::logging::{TimelyEventBuilder, TimelySummaryEventBuilder};
use timely::progress::reachability::logging::TrackerEventBuilder;
use timely::worker::Worker;

use self::frontiers::Frontiers;
use self::log::WorkerLog;
pub use self::metrics::OperatorMetrics;
use crate::index::Time;

/// Place of an operator: the numbers of the scopes around it, and its own.
pub type Address = Vec<usize>;

/// The logs of all workers of a run.
#[derive(Debug, Default)]
pub struct DataflowLog {
    workers: Mutex<Vec<Arc<Mutex<WorkerLog>>>>,
    /// As one worker sees them: each knows of the times that all of them hold.
    frontiers: Arc<Mutex<Frontiers>>,
}

/// What an operator has done on all workers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OperatorSummary {
    /// Its name.
    pub name: String,
    /// Time it has run, summed over workers.
    pub busy: Duration,
    /// Times it was run.
    pub activations: u64,
    /// Records it has taken.
    pub records_in: u64,
    /// Records it has given, once per operator that takes them.
    pub records_out: u64,
    /// Records given to it that it has not taken.
    pub queued: u64,
    /// The first time that it may still give, or take if it gives nothing; `None` where it has given all.
    pub frontier: Option<Time>,
}

/// A way between two operators.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelSummary {
    /// Records sent.
    pub sent: u64,
    /// Records received. Workers tell at different times: more may have arrived than are known to be sent.
    pub received: u64,
}

impl ChannelSummary {
    /// Records on their way, as far as is known.
    pub fn queued(&self) -> u64 {
        self.sent.saturating_sub(self.received)
    }
}

/// What all operators have done since the run began.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DataflowSummary {
    /// Operators that hold no others.
    pub operators: BTreeMap<Address, OperatorSummary>,
    /// Ways between them.
    pub channels: BTreeMap<(Address, Address), ChannelSummary>,
    /// Workers.
    pub workers: usize,
    /// Time that workers have had nothing to do, summed.
    pub parked: Duration,
}

impl DataflowSummary {
    /// How far an operator is behind the one that is furthest; zero when it has given all.
    pub fn lag(&self, operator: &OperatorSummary) -> Duration {
        let newest = self.operators.values().filter_map(|operator| operator.frontier).max();
        let behind = operator.frontier.zip(newest).map_or(0, |(own, newest)| newest.saturating_sub(own));
        Duration::from_millis(behind)
    }
}

impl DataflowLog {
    /// Watches a worker, which must not have built its dataflow yet.
    pub fn watch(&self, worker: &Worker) {
        let log = Arc::new(Mutex::new(WorkerLog::default()));
        lock(&self.workers).push(Arc::clone(&log));
        // There is one unless the worker was made to have none.
        let Some(mut register) = worker.log_register() else { return };
        register.insert::<TimelyEventBuilder, _>("timely", move |_, events| {
            if let Some(events) = events {
                let mut log = lock(&log);
                events.drain(..).for_each(|(time, event)| log.take(time, event));
            }
        });
        if worker.index() > 0 {
            return;
        }
        let of_times = |what: &str| format!("timely/{what}/{}", std::any::type_name::<Time>());
        let (connected, held) = (Arc::clone(&self.frontiers), Arc::clone(&self.frontiers));
        register.insert::<TimelySummaryEventBuilder<Time>, _>(&of_times("summary"), move |_, events| {
            if let Some(events) = events {
                let mut frontiers = lock(&connected);
                events.drain(..).for_each(|(_, event)| frontiers.connects(event.id, &event.summary));
            }
        });
        register.insert::<TrackerEventBuilder<Time>, _>(&of_times("reachability"), move |_, events| {
            if let Some(events) = events {
                let mut frontiers = lock(&held);
                events.drain(..).for_each(|(_, event)| frontiers.take(event));
            }
        });
    }

    /// What has been done so far, as far as workers have told: they do when they pause.
    pub fn summary(&self) -> DataflowSummary {
        let workers = lock(&self.workers);
        let mut summary = DataflowSummary { workers: workers.len(), ..DataflowSummary::default() };
        workers.iter().for_each(|worker| lock(worker).add_to(&mut summary));
        if let Some(worker) = workers.first() {
            let frontiers = lock(&self.frontiers).of(&lock(worker).graph());
            for (place, frontier) in frontiers {
                if let Some(operator) = summary.operators.get_mut(&place) {
                    operator.frontier = frontier;
                }
            }
        }
        // What holds others is busy while they are.
        let inner: Vec<Address> = summary.operators.keys().cloned().collect();
        summary.operators.retain(|address, _| {
            let holds = |other: &Address| other.len() > address.len() && other.starts_with(address);
            !inner.iter().any(holds)
        });
        let known = &summary.operators;
        summary.channels.retain(|(from, to), _| known.contains_key(from) && known.contains_key(to));
        for ((from, to), channel) in &summary.channels {
            if let Some(operator) = summary.operators.get_mut(from) {
                operator.records_out += channel.sent;
            }
            if let Some(operator) = summary.operators.get_mut(to) {
                operator.records_in += channel.received;
                operator.queued += channel.queued();
            }
        }
        summary
    }
}

/// Counts behind these locks are whole between any two statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use timely::dataflow::operators::vec::{Delay, Map};
    use timely::dataflow::operators::{Concat, Exchange, Input, Inspect, Probe};
    use timely::dataflow::{InputHandle, ProbeHandle};

    use super::*;

    #[test]
    fn frontiers_are_those_of_all_workers() {
        let log = Arc::new(DataflowLog::default());
        let watched = Arc::clone(&log);
        let (seen, summaries) = std::sync::mpsc::channel();
        let guards = timely::execute(timely::Config::process(2), move |worker| {
            watched.watch(worker);
            let mut input = InputHandle::new();
            let probe = ProbeHandle::new();
            worker.dataflow::<u64, _, _>(|scope| {
                let numbers = scope.input_from(&mut input).map(|number: u64| number + 1);
                let kept = numbers.exchange(|number| *number).delay(|_, time| time + 7);
                kept.inspect(|_| ()).probe_with(&probe);
            });
            // The slower worker holds all of them back.
            let to = 10 + 5 * worker.index() as u64;
            input.send(1);
            input.advance_to(to);
            while probe.less_than(&10) {
                worker.step();
            }
            if worker.index() == 0 {
                seen.send(watched.summary()).expect("the test waits");
            }
            input.close();
            while !probe.done() {
                worker.step();
            }
            if let Some(mut register) = worker.log_register() {
                register.flush();
            }
        });
        let summary = summaries.recv().expect("a summary");
        let of = |summary: &DataflowSummary, name: &str| {
            let found = summary.operators.values().find(|operator| operator.name == name);
            found.unwrap_or_else(|| panic!("{name} in {summary:#?}")).clone()
        };
        for name in ["Input", "FlatMap", "Exchange", "Delay", "InspectBatch", "Probe"] {
            let operator = of(&summary, name);
            assert_eq!(operator.frontier, Some(10), "{name}: {summary:#?}");
            assert_eq!(summary.lag(&operator), Duration::ZERO);
        }
        guards.expect("threads").join().into_iter().for_each(|result| result.expect("no panic"));
        let summary = log.summary();
        for operator in summary.operators.values() {
            assert_eq!((operator.frontier, summary.lag(operator)), (None, Duration::ZERO), "{operator:?}");
        }
    }

    #[test]
    fn what_is_held_back_holds_back_what_comes_after() {
        let log = DataflowLog::default();
        let summary = timely::execute_directly(move |worker| {
            log.watch(worker);
            let (mut fast, mut slow) = (InputHandle::new(), InputHandle::new());
            let probe = ProbeHandle::new();
            worker.dataflow::<u64, _, _>(|scope| {
                let fast = scope.input_from(&mut fast).map(|number: u64| number);
                let slow = scope.input_from(&mut slow).inspect(|_: &u64| ());
                fast.concat(slow).probe_with(&probe);
            });
            fast.advance_to(4_000);
            slow.advance_to(1_500);
            while probe.less_than(&1_500) {
                worker.step();
            }
            if let Some(mut register) = worker.log_register() {
                register.flush();
            }
            log.summary()
        });
        let of = |name: &str| {
            let operator =
                summary.operators.values().find(|operator| operator.name == name).expect("is there");
            (operator.frontier, summary.lag(operator))
        };
        let (ahead, behind) = ((Some(4_000), Duration::ZERO), (Some(1_500), Duration::from_millis(2_500)));
        assert_eq!((of("FlatMap"), of("InspectBatch")), (ahead, behind));
        assert_eq!((of("Concatenate"), of("Probe")), (behind, behind), "{summary:#?}");
    }

    #[test]
    fn records_are_counted_for_any_number_of_workers() {
        for workers in [1, 2, 4] {
            let log = Arc::new(DataflowLog::default());
            let watched = Arc::clone(&log);
            let guards = timely::execute(timely::Config::process(workers), move |worker| {
                watched.watch(worker);
                let mut input = InputHandle::new();
                let probe = ProbeHandle::new();
                worker.dataflow::<u64, _, _>(|scope| {
                    let numbers = scope.input_from(&mut input).map(|number: u64| number + 1);
                    numbers.exchange(|number| *number).inspect(|_| ()).probe_with(&probe);
                });
                for number in 0..100 {
                    input.send(number);
                    input.advance_to(number + 1);
                }
                input.close();
                while !probe.done() {
                    worker.step();
                }
                // What is left of the log.
                if let Some(mut register) = worker.log_register() {
                    register.flush();
                }
            });
            guards.expect("threads").join().into_iter().for_each(|result| result.expect("no panic"));
            let summary = log.summary();
            let named = |name: &str| {
                let mut found = summary.operators.values().filter(|operator| operator.name == name);
                let operator = found.next().unwrap_or_else(|| panic!("{name} in {summary:#?}"));
                assert_eq!(found.count(), 0, "one {name}");
                operator.clone()
            };
            let sent = 100 * workers as u64;
            for (name, taken, given) in
                [("FlatMap", sent, sent), ("Exchange", sent, sent), ("InspectBatch", sent, sent)]
            {
                let operator = named(name);
                assert_eq!(
                    (operator.records_in, operator.records_out, operator.queued),
                    (taken, given, 0),
                    "{name}"
                );
                assert!(operator.activations > 0 && operator.busy > Duration::ZERO, "{operator:?}");
            }
            assert_eq!(summary.workers, workers);
        }
    }
}
