//! What the embedding service counts.

use std::time::Duration;

use prometheus::{
    Counter, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
};

use super::{EmbedError, Priority};
use crate::metrics::Shelf;

/// Bounds of the time that texts wait and batches run, in seconds: a short query runs for two milliseconds, a document in a
/// backlog waits for minutes.
const SECONDS: [f64; 15] =
    [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 20.0, 60.0, 300.0];
/// Bounds of the texts of a batch.
const TEXTS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];
/// Bounds of the tokens of a batch.
const TOKENS: [f64; 10] = [8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0, 16384.0];
/// Bounds of the share of padding: batches are made so that it is at most a twentieth.
const SHARES: [f64; 7] = [0.0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.1];

/// Counters of one service: atomics, shared by clones.
#[derive(Clone, Debug)]
pub struct EmbedMetrics {
    texts: IntCounterVec,
    failures: IntCounter,
    tokens: IntCounter,
    padding: IntCounter,
    batches: IntCounter,
    busy_seconds: Counter,
    queued: IntGaugeVec,
    queue_seconds: HistogramVec,
    run_seconds: HistogramVec,
    batch_texts: HistogramVec,
    batch_tokens: HistogramVec,
    batch_padding: HistogramVec,
}

/// What a batch was.
pub(super) struct Ran {
    pub(super) texts: usize,
    /// Without padding.
    pub(super) tokens: usize,
    pub(super) padding: usize,
    pub(super) time: Duration,
}

/// The counters at one moment; each is exact, together they may be a batch apart.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct EmbedCounts {
    /// Texts of queries embedded.
    pub query_texts: u64,
    /// Texts of documents embedded.
    pub document_texts: u64,
    /// Texts that could not be embedded.
    pub failures: u64,
    /// Tokens run, special tokens counted, padding not.
    pub tokens: u64,
    /// Padding run.
    pub padding: u64,
    /// Batches run, failed ones included.
    pub batches: u64,
    /// Seconds that threads spent on tokenising and running, summed.
    pub busy_seconds: f64,
    /// Texts of queries that wait for a thread.
    pub query_texts_queued: i64,
    /// Texts of documents that wait for a thread.
    pub document_texts_queued: i64,
}

impl EmbedMetrics {
    /// New counters at zero, not registered.
    pub fn new() -> Result<Self, EmbedError> {
        let name = |what: &str| format!("freshet_embedding_{what}");
        let labels = ["priority"];
        let histogram = |what: &str, help: &str, bounds: &[f64]| {
            let opts = HistogramOpts::new(name(what), help).buckets(bounds.to_vec());
            HistogramVec::new(opts, &labels)
        };
        Ok(Self {
            texts: IntCounterVec::new(Opts::new(name("texts_total"), "texts embedded"), &labels)?,
            failures: IntCounter::new(name("failures_total"), "texts that could not be embedded")?,
            tokens: IntCounter::new(name("tokens_total"), "tokens run, without padding")?,
            padding: IntCounter::new(name("padding_tokens_total"), "padding run")?,
            batches: IntCounter::new(name("batches_total"), "batches run")?,
            busy_seconds: Counter::new(
                name("busy_seconds_total"),
                "time of threads spent tokenising and running",
            )?,
            queued: IntGaugeVec::new(Opts::new(name("queue_texts"), "texts waiting for a thread"), &labels)?,
            queue_seconds: histogram("queue_seconds", "time that a text waits for a thread", &SECONDS)?,
            run_seconds: histogram("run_seconds", "time that a model takes for a batch", &SECONDS)?,
            batch_texts: histogram("batch_texts", "texts of a batch", &TEXTS)?,
            batch_tokens: histogram("batch_tokens", "tokens of a batch, padding included", &TOKENS)?,
            batch_padding: histogram("batch_padding_ratio", "share of a batch that is padding", &SHARES)?,
        })
    }

    /// Shows the counters in a registry; once per registry.
    pub fn register(&self, registry: &dyn Shelf) -> Result<(), EmbedError> {
        registry.put(Box::new(self.texts.clone()))?;
        registry.put(Box::new(self.failures.clone()))?;
        registry.put(Box::new(self.tokens.clone()))?;
        registry.put(Box::new(self.padding.clone()))?;
        registry.put(Box::new(self.batches.clone()))?;
        registry.put(Box::new(self.busy_seconds.clone()))?;
        registry.put(Box::new(self.queued.clone()))?;
        for histogram in [
            &self.queue_seconds,
            &self.run_seconds,
            &self.batch_texts,
            &self.batch_tokens,
            &self.batch_padding,
        ] {
            registry.put(Box::new(histogram.clone()))?;
        }
        Ok(())
    }

    /// The counters now.
    pub fn snapshot(&self) -> EmbedCounts {
        EmbedCounts {
            query_texts: self.texts(Priority::Query).get(),
            document_texts: self.texts(Priority::Document).get(),
            failures: self.failures.get(),
            tokens: self.tokens.get(),
            padding: self.padding.get(),
            batches: self.batches.get(),
            busy_seconds: self.busy_seconds.get(),
            query_texts_queued: self.queued(Priority::Query).get(),
            document_texts_queued: self.queued(Priority::Document).get(),
        }
    }

    pub(super) fn settled(&self, priority: Priority, embedded: bool) {
        if embedded { self.texts(priority).inc() } else { self.failures.inc() }
    }

    /// A batch has run, or failed.
    pub(super) fn ran(&self, priority: Priority, batch: &Ran) {
        self.tokens.inc_by(batch.tokens as u64);
        self.padding.inc_by(batch.padding as u64);
        self.batches.inc();
        self.busy(batch.time.as_secs_f64());
        let cells = (batch.tokens + batch.padding) as f64;
        let values = [
            (&self.run_seconds, batch.time.as_secs_f64()),
            (&self.batch_texts, batch.texts as f64),
            (&self.batch_tokens, cells),
            (&self.batch_padding, batch.padding as f64 / cells.max(1.0)),
        ];
        for (histogram, value) in values {
            histogram.with_label_values(&[label(priority)]).observe(value);
        }
    }

    /// A thread takes a text that has waited.
    pub(super) fn waited(&self, priority: Priority, time: Duration) {
        self.queue_seconds.with_label_values(&[label(priority)]).observe(time.as_secs_f64());
    }

    pub(super) fn busy(&self, seconds: f64) {
        self.busy_seconds.inc_by(seconds);
    }

    pub(super) fn set_queued(&self, priority: Priority, texts: usize) {
        self.queued(priority).set(i64::try_from(texts).unwrap_or(i64::MAX));
    }

    fn texts(&self, priority: Priority) -> IntCounter {
        self.texts.with_label_values(&[label(priority)])
    }

    fn queued(&self, priority: Priority) -> IntGauge {
        self.queued.with_label_values(&[label(priority)])
    }
}

fn label(priority: Priority) -> &'static str {
    match priority {
        Priority::Query => "query",
        Priority::Document => "document",
    }
}
