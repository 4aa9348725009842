//! What the embedding service counts.

use prometheus::{Counter, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts};

use super::{EmbedError, Priority};
use crate::metrics::Shelf;

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

    pub(super) fn ran(&self, tokens: usize, padding: usize) {
        self.tokens.inc_by(tokens as u64);
        self.padding.inc_by(padding as u64);
        self.batches.inc();
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
