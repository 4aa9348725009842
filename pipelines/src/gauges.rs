//! What one worker tells of itself to those who watch the run: metrics and status.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use freshet_operators::index::shard::ShardCounters;
use freshet_schemas::{Offset, Partition};

use crate::dataflow::Running;
use crate::setup::Setup;
use crate::status::{Offsets, Phase};

/// Time between two looks at the indexes.
const INTERVAL: Duration = Duration::from_secs(1);
const MILLIS_PER_SECOND: f64 = 1000.0;

/// What was told last.
pub(crate) struct Gauges {
    shards: ShardCounters,
    in_flight: i64,
    /// Offsets at which this run began to read, 0 where absent.
    start: Offsets,
    next_look: Instant,
}

impl Gauges {
    pub(crate) fn new(start: Offsets) -> Self {
        Self { shards: ShardCounters::default(), in_flight: 0, start, next_look: Instant::now() }
    }

    /// Everything of a partition before `next` is in the indexes; `before` is what was known until now.
    pub(crate) fn moved(&self, setup: &Setup, partition: Partition, before: Option<Offset>, next: Offset) {
        let before = before.or(self.start.get(&partition).copied()).unwrap_or(0);
        setup.metrics.documents_applied.inc_by(u64::try_from(next - before).unwrap_or(0));
    }

    /// Tells what has changed.
    pub(crate) fn look(&mut self, setup: &Setup, running: &Running, worker: usize) {
        if setup.status.phase() == Phase::Applying && !running.applied.less_equal(&0) {
            setup.status.reached(Phase::Ready);
        }
        let at_desk = setup.gateway.as_ref().and_then(|gateway| gateway.desk(worker));
        let in_flight = running.offsets.borrow().in_flight() + at_desk.map_or(0, |desk| desk.open());
        let in_flight = i64::try_from(in_flight).unwrap_or(i64::MAX);
        setup.metrics.in_flight.add(in_flight - std::mem::replace(&mut self.in_flight, in_flight));
        let now = Instant::now();
        if now < self.next_look {
            return;
        }
        self.next_look = now + INTERVAL;
        let shards = running.shards.borrow().counters();
        setup.metrics.index_changed(&self.shards, &shards);
        self.shards = shards;
        if worker == 0 {
            let count = |held: &AtomicUsize| i64::try_from(held.load(Ordering::Relaxed)).unwrap_or(i64::MAX);
            setup.metrics.documents_in_flight.set(count(&setup.gauge.records));
            setup.metrics.documents_in_flight_bytes.set(count(&setup.gauge.bytes));
        }
        if worker == 0
            && let Some(open) = running.applied.with_frontier(|frontier| frontier.first().copied())
            && open > 0
        {
            // Where all that was read is in the indexes, nothing is behind: the clock goes on by itself.
            let caught_up = open >= setup.clock.unused();
            let behind = if caught_up { 0 } else { setup.clock.now().saturating_sub(open) };
            setup.metrics.applied_lag_seconds.set(behind as f64 / MILLIS_PER_SECOND);
        }
    }

    /// Takes back what does not hold once the run has ended.
    pub(crate) fn end(&self, setup: &Setup) {
        setup.metrics.in_flight.sub(self.in_flight);
        setup.metrics.index_changed(&self.shards, &ShardCounters::default());
    }
}
