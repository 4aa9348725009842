//! What rerankers count, by their name in the configuration.

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts};

use crate::metrics::Shelf;

/// Bounds of the histogram of requests, in seconds.
const SECONDS: [f64; 10] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Counters of all rerankers: atomics, shared by clones.
#[derive(Clone, Debug)]
pub struct RerankMetrics {
    pub(super) requests: IntCounterVec,
    pub(super) seconds: HistogramVec,
    pub(super) open: IntGaugeVec,
    /// Queries answered in the order before.
    pub(super) fallbacks: IntCounterVec,
}

impl RerankMetrics {
    /// New counters at zero, not registered.
    ///
    /// # Errors
    /// Names that Prometheus refuses: never.
    pub fn new() -> Result<Self, prometheus::Error> {
        let name = |what: &str| format!("freshet_rerank_{what}");
        let seconds =
            HistogramOpts::new(name("request_seconds"), "time of HTTP requests").buckets(SECONDS.to_vec());
        Ok(Self {
            requests: IntCounterVec::new(
                Opts::new(name("requests_total"), "HTTP requests, by what came of them"),
                &["reranker", "outcome"],
            )?,
            seconds: HistogramVec::new(seconds, &["reranker"])?,
            open: IntGaugeVec::new(
                Opts::new(name("circuit_open"), "1 while a service is left alone after failures"),
                &["reranker"],
            )?,
            fallbacks: IntCounterVec::new(
                Opts::new(name("fallbacks_total"), "queries answered in the order before the rerank"),
                &["reranker"],
            )?,
        })
    }

    /// Shows the counters in a registry; once per registry.
    ///
    /// # Errors
    /// A registry that has them already.
    pub fn register(&self, registry: &dyn Shelf) -> Result<(), prometheus::Error> {
        registry.put(Box::new(self.requests.clone()))?;
        registry.put(Box::new(self.seconds.clone()))?;
        registry.put(Box::new(self.open.clone()))?;
        registry.put(Box::new(self.fallbacks.clone()))
    }
}
