//! What a run counts, over all of its workers; and how metrics are shown, or only listed.

use std::cell::RefCell;

use freshet_schemas::{Answer, StageSeconds};
use prometheus::core::Collector;
use prometheus::proto::MetricType;
use prometheus::{
    Gauge, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry, Result,
};

use crate::index::shard::ShardCounters;

/// Where metrics are shown.
pub trait Shelf {
    /// Shows what a collector has.
    ///
    /// # Errors
    /// Metrics that are shown there already.
    fn put(&self, collector: Box<dyn Collector>) -> Result<()>;
}

impl Shelf for Registry {
    fn put(&self, collector: Box<dyn Collector>) -> Result<()> {
        self.register(collector)
    }
}

/// A metric, without its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// Its name.
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Names of its labels.
    pub labels: Vec<String>,
    /// What it says.
    pub help: String,
}

/// A shelf that lists what is put there, also what nothing has been counted of.
#[derive(Debug, Default)]
pub struct Listing(RefCell<Vec<Described>>);

impl Listing {
    /// What was put there, by name.
    pub fn sorted(self) -> Vec<Described> {
        let mut all = self.0.into_inner();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }
}

impl Shelf for Listing {
    fn put(&self, collector: Box<dyn Collector>) -> Result<()> {
        let families = collector.collect();
        for (desc, family) in collector.desc().into_iter().zip(families) {
            let kind = match family.get_field_type() {
                MetricType::COUNTER => "counter",
                MetricType::HISTOGRAM => "histogram",
                MetricType::SUMMARY => "summary",
                MetricType::GAUGE | MetricType::UNTYPED => "gauge",
            };
            self.0.borrow_mut().push(Described {
                name: desc.fq_name.clone(),
                kind,
                labels: desc.variable_labels.clone(),
                help: desc.help.clone(),
            });
        }
        Ok(())
    }
}

/// Bounds of the histogram of queries, in seconds.
const SECONDS: [f64; 14] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0];
/// Bounds of the histograms of stages, in seconds: some take microseconds.
const STAGE_SECONDS: [f64; 13] =
    [0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0, 10.0];

/// Counters of one run: atomics, shared by clones.
#[derive(Clone, Debug)]
pub struct RunMetrics {
    answered: IntCounterVec,
    seconds: HistogramVec,
    stage_seconds: HistogramVec,
    /// Queries read and not answered, those of the gateway included.
    pub in_flight: IntGauge,
    /// Queries of the gateway that no worker has taken yet.
    pub gateway_queue: IntGauge,
    /// Document records that are in the indexes, those of a snapshot not counted.
    pub documents_applied: IntCounter,
    /// Records between source and index.
    pub documents_in_flight: IntGauge,
    /// Their bytes.
    pub documents_in_flight_bytes: IntGauge,
    /// How far the indexes are behind the clock.
    pub applied_lag_seconds: Gauge,
    index_documents: IntGauge,
    index_removed: IntGauge,
    index_segments: IntGauge,
    index_bytes: IntGauge,
    index_builds: IntCounter,
    /// Requests for schemas, by outcome.
    pub(crate) schema_requests: IntCounterVec,
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
            stage_seconds: HistogramVec::new(
                HistogramOpts::new("freshet_query_stage_seconds", "time that a stage of a query took")
                    .buckets(STAGE_SECONDS.to_vec()),
                &["stage"],
            )?,
            in_flight: gauge("queries_in_flight", "queries read and not answered")?,
            gateway_queue: gauge("gateway_queue_queries", "queries that wait to be read from the gateway")?,
            documents_in_flight: gauge(
                "documents_in_flight_records",
                "records of documents that are read and not in the indexes yet",
            )?,
            documents_in_flight_bytes: gauge(
                "documents_in_flight_bytes",
                "bytes of documents that are read and not in the indexes yet",
            )?,
            documents_applied: IntCounter::new(
                "freshet_documents_applied_total",
                "document records that are in the indexes, counted by their offsets",
            )?,
            applied_lag_seconds: Gauge::new(
                "freshet_applied_lag_seconds",
                "how far the newest time that is in the indexes is behind the clock; 0 when all that was read is in them",
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
            schema_requests: IntCounterVec::new(
                Opts::new(
                    "freshet_schema_requests_total",
                    "schemas asked of the schema registry: \"ok\", \"refused\" or \"unreachable\"",
                ),
                &["outcome"],
            )?,
            index_segments: gauge("index_segments", "segments of all shards, heads included")?,
            index_bytes: gauge("index_bytes", "memory of vectors, payloads and texts, about")?,
        })
    }

    /// Shows the counters in a registry; once per registry.
    ///
    /// # Errors
    /// A registry that has them already.
    pub fn register(&self, registry: &dyn Shelf) -> Result<()> {
        registry.put(Box::new(self.answered.clone()))?;
        registry.put(Box::new(self.seconds.clone()))?;
        registry.put(Box::new(self.stage_seconds.clone()))?;
        registry.put(Box::new(self.schema_requests.clone()))?;
        for gauge in [
            &self.in_flight,
            &self.gateway_queue,
            &self.documents_in_flight,
            &self.documents_in_flight_bytes,
            &self.index_documents,
            &self.index_removed,
            &self.index_segments,
            &self.index_bytes,
        ] {
            registry.put(Box::new(gauge.clone()))?;
        }
        registry.put(Box::new(self.documents_applied.clone()))?;
        registry.put(Box::new(self.index_builds.clone()))?;
        registry.put(Box::new(self.applied_lag_seconds.clone()))
    }

    /// An answer is made.
    pub(crate) fn answered(&self, gateway: bool, answer: &Answer) {
        let source = if gateway { "gateway" } else { "topic" };
        let outcome = answer.error.as_ref().map_or("ok", |fault| fault.code.as_str());
        self.answered.with_label_values(&[source, outcome]).inc();
        self.seconds.with_label_values(&[source]).observe(answer.took_seconds);
        for (stage, seconds) in answer.stage_seconds.iter().flat_map(StageSeconds::by_name) {
            self.stage_seconds.with_label_values(&[stage]).observe(seconds);
        }
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
