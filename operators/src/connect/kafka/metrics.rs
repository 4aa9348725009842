//! What the connector counts.

use prometheus::{IntCounterVec, Opts, Registry};

/// Counters of one connector: atomics, shared by clones.
#[derive(Clone, Debug)]
pub struct KafkaMetrics {
    skipped: IntCounterVec,
}

impl KafkaMetrics {
    /// New counters at zero, not registered.
    ///
    /// # Errors
    /// Never, unless a name is wrong.
    pub fn new() -> prometheus::Result<Self> {
        let name = "freshet_kafka_offsets_skipped_total";
        let help = "offsets that were gone before they were read, and skipped";
        Ok(Self { skipped: IntCounterVec::new(Opts::new(name, help), &["topic"])? })
    }

    /// Shows the counters in a registry; once per registry.
    ///
    /// # Errors
    /// When they are shown there already.
    pub fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        registry.register(Box::new(self.skipped.clone()))
    }

    /// Offsets of a topic that were skipped so far.
    pub fn offsets_skipped(&self, topic: &str) -> u64 {
        self.skipped.with_label_values(&[topic]).get()
    }

    pub(super) fn skip(&self, topic: &str, offsets: u64) {
        self.skipped.with_label_values(&[topic]).inc_by(offsets);
    }
}
