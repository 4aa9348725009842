//! What is counted of snapshots.

use prometheus::{Gauge, Histogram, HistogramOpts, IntCounter, IntGauge, Result};

use super::Manifest;
use crate::clock;
use crate::metrics::Shelf;

/// Bounds of the time that a snapshot takes, in seconds.
const SECONDS: [f64; 10] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0];
const MICROS_PER_SECOND: f64 = 1e6;

/// Counters of the snapshots of a run: atomics, shared by clones.
#[derive(Clone, Debug)]
pub struct SnapshotMetrics {
    written: IntCounter,
    failed: IntCounter,
    seconds: Histogram,
    last: Gauge,
    documents: IntGauge,
    bytes: IntGauge,
    restored_documents: IntGauge,
    restore_seconds: Gauge,
}

impl SnapshotMetrics {
    /// New counters at zero, not registered.
    ///
    /// # Errors
    /// Names that Prometheus refuses: never.
    pub fn new() -> Result<Self> {
        let seconds = HistogramOpts::new("freshet_snapshot_seconds", "time to write a snapshot")
            .buckets(SECONDS.to_vec());
        Ok(Self {
            written: IntCounter::new("freshet_snapshots_written_total", "snapshots written")?,
            failed: IntCounter::new("freshet_snapshots_failed_total", "snapshots that could not be written")?,
            seconds: Histogram::with_opts(seconds)?,
            last: Gauge::new(
                "freshet_snapshot_last_timestamp_seconds",
                "when the newest snapshot was written, seconds since the epoch; 0 before the first one",
            )?,
            documents: IntGauge::new("freshet_snapshot_documents", "documents in the newest snapshot")?,
            bytes: IntGauge::new(
                "freshet_snapshot_bytes",
                "size of the newest snapshot, the files that it shares with others included",
            )?,
            restored_documents: IntGauge::new(
                "freshet_restored_documents",
                "documents that this run took from a snapshot when it began",
            )?,
            restore_seconds: Gauge::new(
                "freshet_restore_seconds",
                "time that this run took to read its snapshot",
            )?,
        })
    }

    /// Shows the counters in a registry; once per registry.
    ///
    /// # Errors
    /// A registry that has them already.
    pub fn register(&self, registry: &dyn Shelf) -> Result<()> {
        for counter in [&self.written, &self.failed] {
            registry.put(Box::new(counter.clone()))?;
        }
        for gauge in [&self.documents, &self.bytes, &self.restored_documents] {
            registry.put(Box::new(gauge.clone()))?;
        }
        for gauge in [&self.last, &self.restore_seconds] {
            registry.put(Box::new(gauge.clone()))?;
        }
        registry.put(Box::new(self.seconds.clone()))
    }

    /// A cut took so long; its manifest, if it was written.
    pub(super) fn cut(&self, written: Option<&Manifest>, seconds: f64) {
        let Some(manifest) = written else {
            self.failed.inc();
            return;
        };
        self.written.inc();
        self.seconds.observe(seconds);
        self.last.set(clock::now_us() as f64 / MICROS_PER_SECOND);
        self.documents.set(i64::try_from(manifest.documents).unwrap_or(i64::MAX));
        self.bytes
            .set(i64::try_from(manifest.files().map(|file| file.bytes).sum::<u64>()).unwrap_or(i64::MAX));
    }

    /// A run has begun with a snapshot.
    pub fn restored(&self, manifest: &Manifest, seconds: f64) {
        self.restored_documents.set(i64::try_from(manifest.documents).unwrap_or(i64::MAX));
        self.restore_seconds.set(seconds);
    }
}
