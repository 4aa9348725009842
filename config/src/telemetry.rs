//! `[telemetry]`: traces of queries and documents.

use std::time::Duration;

use crate::section::Section;

/// `[telemetry]`
#[derive(Clone, Debug, PartialEq)]
pub struct Telemetry {
    /// `otlp_endpoint`: the collector that spans are sent to, as OTLP over HTTP in JSON; `/v1/traces` is put behind it. Without
    /// one there are no traces.
    pub otlp_endpoint: Option<String>,
    /// `service_name`: what the collector knows this process by. Default `freshet`.
    pub service_name: String,
    /// `sample_ratio`: share of the queries without a caller's trace that are traced, 0 to 1. Who calls decides for its own.
    /// Default 1.
    pub sample_ratio: f64,
    /// `timeout`: longest time of a request to the collector. Default 5 s.
    pub timeout: Duration,
}

pub(crate) fn read(mut section: Section<'_>) -> Telemetry {
    let base = Telemetry::default();
    let telemetry = Telemetry {
        otlp_endpoint: section.string("otlp_endpoint").or(base.otlp_endpoint),
        service_name: section.string("service_name").unwrap_or(base.service_name),
        sample_ratio: section.float("sample_ratio", 0.0..=1.0).unwrap_or(base.sample_ratio),
        timeout: section.duration("timeout").unwrap_or(base.timeout),
    };
    if let Some(endpoint) = &telemetry.otlp_endpoint {
        let host = endpoint.strip_prefix("http://").or_else(|| endpoint.strip_prefix("https://"));
        let is_host = |host: &str| !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic());
        if !host.is_some_and(is_host) {
            let message = format!(
                "\"{endpoint}\" is not the address of a collector, such as \"http://localhost:4318\""
            );
            section.report("otlp_endpoint", message);
        } else if endpoint.ends_with("/v1/traces") {
            section.report("otlp_endpoint", "ends with /v1/traces, which is put behind it: leave it out");
        }
    }
    section.finish();
    telemetry
}
