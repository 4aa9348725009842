//! What the connector counts.

use std::collections::BTreeMap;

use freshet_schemas::{Offset, Partition};
use prometheus::{IntCounterVec, IntGaugeVec, Opts};

use crate::metrics::Shelf;

/// Counters of one connector: atomics, shared by clones.
#[derive(Clone, Debug)]
pub struct KafkaMetrics {
    skipped: IntCounterVec,
    next: IntGaugeVec,
    ends: IntGaugeVec,
    lag: IntGaugeVec,
}

impl KafkaMetrics {
    /// New counters at zero, not registered.
    ///
    /// # Errors
    /// Never, unless a name is wrong.
    pub fn new() -> prometheus::Result<Self> {
        let name = "freshet_kafka_offsets_skipped_total";
        let help = "offsets that were gone before they were read, and skipped";
        let gauge = |name: &str, help: &str| {
            IntGaugeVec::new(Opts::new(format!("freshet_kafka_{name}"), help), &["topic", "partition"])
        };
        Ok(Self {
            skipped: IntCounterVec::new(Opts::new(name, help), &["topic"])?,
            next: gauge("next_offset", "offset that is read next")?,
            ends: gauge("end_offset", "offset behind the last record of a partition, as last looked at")?,
            lag: gauge("lag_records", "offsets between what is read next and the end, as last looked at")?,
        })
    }

    /// Shows the counters in a registry; once per registry.
    ///
    /// # Errors
    /// When they are shown there already.
    pub fn register(&self, registry: &dyn Shelf) -> prometheus::Result<()> {
        registry.put(Box::new(self.skipped.clone()))?;
        [&self.next, &self.ends, &self.lag]
            .into_iter()
            .try_for_each(|gauge| registry.put(Box::new(gauge.clone())))
    }

    /// Offsets of a topic that were skipped so far.
    pub fn offsets_skipped(&self, topic: &str) -> u64 {
        self.skipped.with_label_values(&[topic]).get()
    }

    /// Where reading stands.
    pub(super) fn read(&self, topic: &str, next: &BTreeMap<Partition, Offset>) {
        // Shown as 0 from the beginning, so that a rise is seen.
        self.skip(topic, 0);
        for (partition, next) in next {
            self.next.with_label_values(&[topic, &partition.to_string()]).set(*next);
        }
    }

    /// Where partitions end that are read.
    pub(super) fn end(&self, topic: &str, ends: &BTreeMap<Partition, Offset>) {
        for (partition, end) in ends {
            let labels = [topic, &partition.to_string()];
            self.ends.with_label_values(&labels).set(*end);
            let next = self.next.with_label_values(&labels).get();
            self.lag.with_label_values(&labels).set((end - next).max(0));
        }
    }

    pub(super) fn skip(&self, topic: &str, offsets: u64) {
        self.skipped.with_label_values(&[topic]).inc_by(offsets);
    }
}
