//! What the server counts.

use axum::http::{Method, StatusCode};
use freshet_operators::metrics::Shelf;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Result};

/// Bounds of the histogram of requests, in seconds.
const SECONDS: [f64; 13] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 10.0, 60.0];

/// Counters of one server: atomics, shared by clones.
#[derive(Clone, Debug)]
pub(crate) struct HttpMetrics {
    requests: IntCounterVec,
    seconds: HistogramVec,
    /// Requests that are being served.
    pub(super) in_flight: IntGauge,
    /// Bytes of bodies that are held.
    pub(super) bodies: IntGauge,
    /// Open connections.
    pub(super) connections: IntGauge,
}

impl HttpMetrics {
    /// New counters, shown in the registry.
    pub(crate) fn register(registry: &dyn Shelf) -> Result<Self> {
        let requests = Opts::new("freshet_http_requests_total", "requests answered");
        let seconds = HistogramOpts::new("freshet_http_request_seconds", "time from a request to its answer")
            .buckets(SECONDS.to_vec());
        let metrics = Self {
            requests: IntCounterVec::new(requests, &["route", "method", "status"])?,
            seconds: HistogramVec::new(seconds, &["route"])?,
            in_flight: IntGauge::new("freshet_http_requests_in_flight", "requests being served")?,
            bodies: IntGauge::new(
                "freshet_http_bodies_bytes",
                "bytes of the bodies of requests being served",
            )?,
            connections: IntGauge::new("freshet_http_connections", "open connections")?,
        };
        registry.put(Box::new(metrics.requests.clone()))?;
        registry.put(Box::new(metrics.seconds.clone()))?;
        registry.put(Box::new(metrics.in_flight.clone()))?;
        registry.put(Box::new(metrics.bodies.clone()))?;
        registry.put(Box::new(metrics.connections.clone()))?;
        Ok(metrics)
    }

    /// A request is answered.
    pub(super) fn answered(&self, route: &str, method: &Method, status: StatusCode, seconds: f64) {
        // Methods come from outside; there are as many as somebody invents.
        let known = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS];
        let method = if known.contains(method) { method.as_str() } else { "other" };
        self.requests.with_label_values(&[route, method, status.as_str()]).inc();
        self.seconds.with_label_values(&[route]).observe(seconds);
    }
}
