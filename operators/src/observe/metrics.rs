//! What operators have done, as metrics.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prometheus::{CounterVec, GaugeVec, IntCounterVec, IntGaugeVec, Opts, Result};

use super::{DataflowSummary, OperatorSummary, lock};
use crate::metrics::Shelf;

/// Ticks are milliseconds.
const MILLIS_PER_SECOND: f64 = 1000.0;

/// Counters per name of an operator; operators of one name are summed up, and of their frontiers the last
/// one is shown.
#[derive(Clone, Debug)]
pub struct OperatorMetrics {
    busy: CounterVec,
    activations: IntCounterVec,
    records_in: IntCounterVec,
    records_out: IntCounterVec,
    queued: IntGaugeVec,
    frontier: GaugeVec,
    lag: GaugeVec,
    parked: prometheus::Counter,
    /// Held while counters are raised: two at once would raise them twice.
    showing: Arc<Mutex<()>>,
}

impl OperatorMetrics {
    /// New counters, shown in a registry.
    ///
    /// # Errors
    /// A registry that has them already.
    pub fn register(registry: &dyn Shelf) -> Result<Self> {
        let opts = |name: &str, help: &str| Opts::new(format!("freshet_operator_{name}"), help);
        let label = &["operator"];
        let metrics = Self {
            busy: CounterVec::new(
                opts("busy_seconds_total", "time that an operator has run, on all workers"),
                label,
            )?,
            activations: IntCounterVec::new(
                opts("activations_total", "times that an operator was run"),
                label,
            )?,
            records_in: IntCounterVec::new(
                opts("records_in_total", "records that an operator has taken"),
                label,
            )?,
            records_out: IntCounterVec::new(
                opts(
                    "records_out_total",
                    "records that an operator has given, once per operator that takes them",
                ),
                label,
            )?,
            queued: IntGaugeVec::new(
                opts("queue_records", "records given to an operator that it has not taken"),
                label,
            )?,
            frontier: GaugeVec::new(
                opts(
                    "frontier_timestamp_seconds",
                    "first time that an operator may still give, seconds since the epoch; absent when it has given all",
                ),
                label,
            )?,
            lag: GaugeVec::new(
                opts(
                    "frontier_lag_seconds",
                    "how far the frontier of an operator is behind that of the one furthest ahead",
                ),
                label,
            )?,
            parked: prometheus::Counter::new(
                "freshet_workers_parked_seconds_total",
                "time that workers had nothing to do, on all workers",
            )?,
            showing: Arc::default(),
        };
        registry.put(Box::new(metrics.busy.clone()))?;
        for counter in [&metrics.activations, &metrics.records_in, &metrics.records_out] {
            registry.put(Box::new(counter.clone()))?;
        }
        registry.put(Box::new(metrics.queued.clone()))?;
        registry.put(Box::new(metrics.frontier.clone()))?;
        registry.put(Box::new(metrics.lag.clone()))?;
        registry.put(Box::new(metrics.parked.clone()))?;
        Ok(metrics)
    }

    /// Takes what operators have done since the run began.
    pub fn show(&self, summary: &DataflowSummary) {
        let _showing = lock(&self.showing);
        let mut by_name: BTreeMap<&str, OperatorSummary> = BTreeMap::new();
        let mut lags: BTreeMap<&str, Duration> = BTreeMap::new();
        for operator in summary.operators.values() {
            let sum = by_name.entry(&operator.name).or_default();
            sum.busy += operator.busy;
            sum.activations += operator.activations;
            sum.records_in += operator.records_in;
            sum.records_out += operator.records_out;
            sum.queued += operator.queued;
            // The one that is furthest behind.
            sum.frontier = sum.frontier.into_iter().chain(operator.frontier).min();
            let lag = lags.entry(&operator.name).or_default();
            *lag = (*lag).max(summary.lag(operator));
        }
        for (name, sum) in by_name {
            let lag = lags.get(name).copied().unwrap_or_default();
            let name = &[name];
            let raise = |counter: &IntCounterVec, to: u64| {
                let counter = counter.with_label_values(name);
                counter.inc_by(to.saturating_sub(counter.get()));
            };
            raise(&self.activations, sum.activations);
            raise(&self.records_in, sum.records_in);
            raise(&self.records_out, sum.records_out);
            let busy = self.busy.with_label_values(name);
            busy.inc_by((sum.busy.as_secs_f64() - busy.get()).max(0.0));
            self.queued.with_label_values(name).set(i64::try_from(sum.queued).unwrap_or(i64::MAX));
            self.lag.with_label_values(name).set(lag.as_secs_f64());
            match sum.frontier {
                Some(tick) => self.frontier.with_label_values(name).set(tick as f64 / MILLIS_PER_SECOND),
                // It may not have been shown.
                None => drop(self.frontier.remove_label_values(name)),
            }
        }
        self.parked.inc_by((summary.parked.as_secs_f64() - self.parked.get()).max(0.0));
    }
}
