//! Traces of queries and documents, as OpenTelemetry has them: spans that begin where the caller's end.
//!
//! ```text
//! record ─ traceparent ─▶ Tracer::begin ─▶ Open ─ stages ─▶ Span … ─▶ queue ─▶ Exporter ─▶ collector (OTLP over HTTP)
//!                                            └─ traceparent of the answer
//! ```
//! Times of stages are noted anyway; spans are made of them when all is done, so that a trace costs the dataflow next to nothing.
//! A full queue and a collector that is away lose spans, which are counted: no worker ever waits.

mod context;
mod export;
mod metrics;
mod otlp;
#[cfg(test)]
mod tests;

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use freshet_config::{Connector, Telemetry};
use freshet_schemas::Headers;
use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128_with_seed};

pub use self::context::{TRACEPARENT, TRACESTATE, TraceContext, carried};
use self::export::Exporter;
pub use self::metrics::TraceMetrics;

/// Who stands at the two ends of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// Work within the process.
    Internal,
    /// The answer to a request.
    Server,
    /// A record is written.
    Producer,
    /// A record is processed.
    Consumer,
}

/// Value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A whole number.
    Number(i64),
}

/// Name and value of an attribute; names are those of OpenTelemetry's semantic conventions where they have one.
pub type Attribute = (&'static str, Value);

/// A text as an attribute.
pub fn text(name: &'static str, value: impl Into<String>) -> Attribute {
    (name, Value::Text(value.into()))
}

/// A number as an attribute.
pub fn number(name: &'static str, value: i64) -> Attribute {
    (name, Value::Number(value))
}

/// What somebody did, and when.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// What was done.
    pub name: &'static str,
    /// Who stands at its ends.
    pub kind: SpanKind,
    /// Its trace and its own id.
    pub context: TraceContext,
    /// Id of the span it is a part of.
    pub parent: Option<u64>,
    /// `tracestate` of the caller, as it came.
    pub state: Option<String>,
    /// Begin, microseconds since the epoch.
    pub start_us: u64,
    /// End, microseconds since the epoch.
    pub end_us: u64,
    /// What is known of it.
    pub attributes: Vec<Attribute>,
    /// What went wrong.
    pub error: Option<String>,
}

/// A span that has begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// Its trace and its own id.
    pub context: TraceContext,
    parent: Option<u64>,
    state: Option<String>,
}

/// Makes spans and hands them to the exporter. Cheap to clone; the last one sends what is left before it goes.
#[derive(Clone, Debug)]
pub struct Tracer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    exporter: Exporter,
    system: &'static str,
    sample_ratio: f64,
    /// Seed of the ids of this process, and how many there are.
    seed: u64,
    ids: AtomicU64,
}

impl Tracer {
    /// Starts the exporter, if an endpoint is configured.
    ///
    /// # Errors
    /// A thread that cannot be started.
    pub fn start(
        config: &Telemetry,
        connector: &Connector,
        metrics: &TraceMetrics,
    ) -> std::io::Result<Option<Self>> {
        let Some(exporter) = Exporter::start(config, metrics)? else { return Ok(None) };
        let system = match connector {
            Connector::Kafka(_) => "kafka",
            Connector::Files { .. } => "files",
        };
        // Keys of the standard library's tables are random in every process: so are the ids made of them.
        let seed = RandomState::new().build_hasher().finish();
        let sample_ratio = config.sample_ratio;
        let shared = Shared { exporter, system, sample_ratio, seed, ids: AtomicU64::new(0) };
        Ok(Some(Self { shared: Arc::new(shared) }))
    }

    /// What topics are of: `messaging.system`.
    pub fn system(&self) -> &'static str {
        self.shared.system
    }

    /// Begins the span of a record: within its caller's trace if the caller samples that, or a trace of its own for the
    /// configured share of records without a caller.
    pub fn begin(&self, headers: &Headers) -> Option<Open> {
        match TraceContext::of(headers) {
            Some(caller) => self.within(caller, headers),
            None => {
                let trace = self.trace_id();
                // As in OpenTelemetry: whoever else samples this trace by its id decides alike.
                let sampled = (trace as u64 as f64) < self.shared.sample_ratio * u64::MAX as f64;
                let context = TraceContext { trace, span: self.span_id(), sampled };
                sampled.then_some(Open { context, parent: None, state: None })
            }
        }
    }

    /// Begins the span of a record whose caller samples its trace.
    pub fn follow(&self, headers: &Headers) -> Option<Open> {
        self.within(TraceContext::of(headers)?, headers)
    }

    fn within(&self, caller: TraceContext, headers: &Headers) -> Option<Open> {
        let context = TraceContext { span: self.span_id(), ..caller };
        let state = context::state(headers);
        caller.sampled.then_some(Open { context, parent: Some(caller.span), state })
    }

    /// Begins a part of a span.
    pub fn part_of(&self, whole: &Open) -> Open {
        let context = TraceContext { span: self.span_id(), ..whole.context };
        Open { context, parent: Some(whole.context.span), state: whole.state.clone() }
    }

    /// Hands spans over; never blocks. What finds no room is counted.
    pub fn send(&self, spans: Vec<Span>) {
        self.shared.exporter.send(spans);
    }

    fn trace_id(&self) -> u128 {
        let number = self.shared.ids.fetch_add(1, Ordering::Relaxed);
        xxh3_128_with_seed(&number.to_le_bytes(), self.shared.seed).max(1)
    }

    fn span_id(&self) -> u64 {
        let number = self.shared.ids.fetch_add(1, Ordering::Relaxed);
        xxh3_64_with_seed(&number.to_le_bytes(), self.shared.seed).max(1)
    }
}

impl Open {
    /// Ends it.
    pub fn end(self, name: &'static str, kind: SpanKind, (start_us, end_us): (u64, u64)) -> Span {
        let Self { context, parent, state } = self;
        // The clock of the wall may be set back.
        let end_us = end_us.max(start_us);
        Span { name, kind, context, parent, state, start_us, end_us, attributes: Vec::new(), error: None }
    }
}
