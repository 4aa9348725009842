//! What a run counts, over all of its workers.

use freshet_schemas::Answer;
use prometheus::{
    Gauge, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry, Result,
};

use crate::index::shard::ShardCounters;

/// Bounds of the histogram of queries, in seconds.
const SECONDS: [f64; 14] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0];

/// Counters of one run: atomics, shared by clones.
#[derive(Clone, Debug)]
pub struct RunMetrics {
    answered: IntCounterVec,
    seconds: HistogramVec,
    /// Queries read and not answered, those of the gateway included.
    pub in_flight: IntGauge,
    /// Queries of the gateway that no worker has taken yet.
    pub gateway_queue: IntGauge,
    /// Document records that are in the indexes, those of a snapshot not counted.
    pub documents_applied: IntCounter,
    /// How far the indexes are behind the clock.
    pub applied_lag_seconds: Gauge,
    index_documents: IntGauge,
    index_removed: IntGauge,
    index_segments: IntGauge,
    index_bytes: IntGauge,
    index_builds: IntCounter,
}

impl RunMetrics {
    /// New counters at zero, not registered.
    ///
    /// # Errors
    /// Names that Prometheus refuses: never.
    pub fn new() -> Result<Self> {
        let seconds = HistogramOpts::new("freshet_query_seconds", "time from reading a query to its answer")
            .buckets(SECONDS.to_vec());
        let gauge = |name: &str, help: &str| IntGauge::new(format!("freshet_{name}"), help);
        Ok(Self {
            answered: IntCounterVec::new(
                Opts::new(
                    "freshet_queries_answered_total",
                    "queries answered, by where they came from, and \"ok\" or the code of the error",
                ),
                &["source", "outcome"],
            )?,
            seconds: HistogramVec::new(seconds, &["source"])?,
            in_flight: gauge("queries_in_flight", "queries read and not answered")?,
            gateway_queue: gauge("gateway_queue_queries", "queries that wait to be read from the gateway")?,
            documents_applied: IntCounter::new(
                "freshet_documents_applied_total",
                "document records that are in the indexes, counted by their offsets",
            )?,
            applied_lag_seconds: Gauge::new(
                "freshet_applied_lag_seconds",
                "how far the newest time that is in the indexes is behind the clock",
            )?,
            index_documents: gauge("index_documents", "documents in the indexes")?,
            index_removed: gauge(
                "index_removed_versions",
                "versions of documents that were replaced or removed and are still held",
            )?,
            index_builds: IntCounter::new(
                "freshet_index_builds_total",
                "segments built, of full heads and by merging others",
            )?,
            index_segments: gauge("index_segments", "segments of all shards, heads included")?,
            index_bytes: gauge("index_bytes", "memory of vectors, payloads and texts, about")?,
        })
    }

    /// Shows the counters in a registry; once per registry.
    ///
    /// # Errors
    /// A registry that has them already.
    pub fn register(&self, registry: &Registry) -> Result<()> {
        registry.register(Box::new(self.answered.clone()))?;
        registry.register(Box::new(self.seconds.clone()))?;
        for gauge in [
            &self.in_flight,
            &self.gateway_queue,
            &self.index_documents,
            &self.index_removed,
            &self.index_segments,
            &self.index_bytes,
        ] {
            registry.register(Box::new(gauge.clone()))?;
        }
        registry.register(Box::new(self.documents_applied.clone()))?;
        registry.register(Box::new(self.index_builds.clone()))?;
        registry.register(Box::new(self.applied_lag_seconds.clone()))
    }

    /// An answer is made.
    pub(crate) fn answered(&self, gateway: bool, answer: &Answer) {
        let source = if gateway { "gateway" } else { "topic" };
        let outcome = answer.error.as_ref().map_or("ok", |fault| fault.code.as_str());
        self.answered.with_label_values(&[source, outcome]).inc();
        self.seconds.with_label_values(&[source]).observe(answer.took_seconds);
    }

    /// The indexes of a worker are no more as they were before.
    pub fn index_changed(&self, before: &ShardCounters, now: &ShardCounters) {
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        self.index_documents.add(count(now.documents) - count(before.documents));
        let removed = |counters: &ShardCounters| count(counters.versions) - count(counters.documents);
        self.index_removed.add(removed(now) - removed(before));
        self.index_builds.inc_by(u64::try_from(now.builds.saturating_sub(before.builds)).unwrap_or(0));
        self.index_segments.add(count(now.segments) - count(before.segments));
        self.index_bytes.add(count(now.bytes) - count(before.bytes));
    }

    /// Documents in the indexes, as last counted.
    pub fn documents(&self) -> i64 {
        self.index_documents.get()
    }
}
