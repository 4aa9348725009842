//! What is counted of traces.

use prometheus::{IntCounter, IntCounterVec, Opts, Result};

use crate::metrics::Shelf;

/// Counters of the exporter: atomics, shared by clones.
#[derive(Clone, Debug)]
pub struct TraceMetrics {
    exported: IntCounter,
    dropped: IntCounterVec,
}

/// Why spans are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// They came faster than the collector takes them.
    Full,
    /// The collector was away, or failed.
    Away,
    /// The collector did not want them.
    Rejected,
}

impl Lost {
    fn name(self) -> &'static str {
        match self {
            Self::Full => "queue_full",
            Self::Away => "not_reached",
            Self::Rejected => "rejected",
        }
    }
}

impl TraceMetrics {
    /// New counters at zero, not registered.
    ///
    /// # Errors
    /// Names that Prometheus refuses: never.
    pub fn new() -> Result<Self> {
        let dropped = Opts::new("freshet_trace_spans_dropped_total", "spans that were lost, by why");
        let metrics = Self {
            exported: IntCounter::new("freshet_trace_spans_exported_total", "spans that a collector took")?,
            dropped: IntCounterVec::new(dropped, &["reason"])?,
        };
        // Shown as 0 from the beginning, so that a rise is seen.
        [Lost::Full, Lost::Away, Lost::Rejected].into_iter().for_each(|why| metrics.lost(why, 0));
        Ok(metrics)
    }

    /// Shows the counters in a registry; once per registry.
    ///
    /// # Errors
    /// A registry that has them already.
    pub fn register(&self, registry: &dyn Shelf) -> Result<()> {
        registry.put(Box::new(self.exported.clone()))?;
        registry.put(Box::new(self.dropped.clone()))
    }

    pub(super) fn exported(&self, spans: usize) {
        self.exported.inc_by(spans as u64);
    }

    pub(super) fn lost(&self, why: Lost, spans: usize) {
        self.dropped.with_label_values(&[why.name()]).inc_by(spans as u64);
    }

    /// Spans that were exported, and lost for any reason.
    pub fn counts(&self) -> (u64, u64) {
        let lost = [Lost::Full, Lost::Away, Lost::Rejected];
        let lost = lost.into_iter().map(|why| self.dropped.with_label_values(&[why.name()]).get());
        (self.exported.get(), lost.sum())
    }
}
