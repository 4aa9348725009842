//! The thread that sends spans to a collector: OTLP over HTTP.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use freshet_config::Telemetry;
use ureq::Agent;

use super::metrics::{Lost, TraceMetrics};
use super::{Span, otlp};
use crate::remote::{agent, host, unreachable};

/// Traces that wait for the thread; more are lost.
const QUEUE_TRACES_MAX: usize = 2048;
/// Spans of one request, unless a single trace has more.
const BATCH_SPANS_MAX: usize = 512;
/// How long a span waits for others at most.
const LINGER: Duration = Duration::from_millis(500);
/// Longest answer of a collector that is read.
const ANSWER_BYTES_MAX: u64 = 64 << 10;
/// What OTLP's paths end with, behind the endpoint.
const PATH: &str = "/v1/traces";

/// The end of the queue that spans are put into. Dropping it sends what is left, as far as the collector takes it.
#[derive(Debug)]
pub(super) struct Exporter {
    /// `None` once it ends.
    queue: Mutex<Option<SyncSender<Vec<Span>>>>,
    thread: Option<JoinHandle<()>>,
    ending: Arc<AtomicBool>,
    metrics: TraceMetrics,
}

impl Exporter {
    /// Starts the thread, if there is an endpoint.
    pub(super) fn start(config: &Telemetry, metrics: &TraceMetrics) -> std::io::Result<Option<Self>> {
        let Some(endpoint) = &config.otlp_endpoint else { return Ok(None) };
        let timeout = config.timeout;
        let agent = agent().timeout_global(Some(timeout)).build().into();
        let (queue, waiting) = sync_channel(QUEUE_TRACES_MAX);
        let ending = Arc::new(AtomicBool::new(false));
        let mut sender = Sender {
            agent,
            url: format!("{}{PATH}", endpoint.trim_end_matches('/')),
            timeout,
            service_name: config.service_name.clone(),
            metrics: metrics.clone(),
            ending: Arc::clone(&ending),
            away: false,
        };
        let work = move || while sender.portion(&waiting) {};
        let thread = std::thread::Builder::new().name("traces".into()).spawn(work)?;
        let queue = Mutex::new(Some(queue));
        Ok(Some(Self { queue, thread: Some(thread), ending, metrics: metrics.clone() }))
    }

    /// Hands the spans of a trace over; never blocks.
    pub(super) fn send(&self, spans: Vec<Span>) {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(queue) = queue.as_ref() else { return };
        match queue.try_send(spans) {
            Ok(()) => {}
            Err(TrySendError::Full(spans) | TrySendError::Disconnected(spans)) => {
                self.metrics.lost(Lost::Full, spans.len());
            }
        }
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        *self.queue.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the thread that exports traces has panicked");
        }
    }
}

/// What the thread has.
struct Sender {
    agent: Agent,
    /// May hold a secret: of it the host alone is told.
    url: String,
    timeout: Duration,
    service_name: String,
    metrics: TraceMetrics,
    ending: Arc<AtomicBool>,
    /// Whether the last request failed.
    away: bool,
}

impl Sender {
    /// Sends what comes within a moment; false when nothing will come any more.
    fn portion(&mut self, waiting: &Receiver<Vec<Span>>) -> bool {
        let Ok(mut spans) = waiting.recv() else { return false };
        let until = Instant::now() + LINGER;
        let mut more = true;
        while more && spans.len() < BATCH_SPANS_MAX {
            match waiting.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(others) => spans.extend(others),
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => more = false,
            }
        }
        // A collector that is away does not hold up the end of the process once for every portion.
        if self.away && self.ending.load(Ordering::Relaxed) {
            self.metrics.lost(Lost::Away, spans.len());
            return more;
        }
        match self.post(&spans) {
            Ok(rejected) => {
                let rejected = rejected.min(spans.len());
                self.metrics.lost(Lost::Rejected, rejected);
                self.metrics.exported(spans.len() - rejected);
                if std::mem::take(&mut self.away) {
                    tracing::info!("traces are exported again");
                }
            }
            Err(reason) => {
                self.metrics.lost(Lost::Away, spans.len());
                // Once for every outage.
                if !std::mem::replace(&mut self.away, true) {
                    tracing::warn!(
                        collector = host(&self.url),
                        reason,
                        "traces are not exported and lost until they are again; is a collector at telemetry.otlp_endpoint?"
                    );
                }
            }
        }
        more
    }

    /// One request; how many of its spans were rejected, or why it failed.
    fn post(&self, spans: &[Span]) -> Result<usize, String> {
        let body = otlp::request(&self.service_name, spans).to_string();
        let request = self.agent.post(&self.url).header("content-type", "application/json");
        let answer = request.send(body);
        let mut answer = answer.map_err(|error| unreachable(&error, host(&self.url), self.timeout))?;
        if !answer.status().is_success() {
            return Err(format!("the collector answers {}", answer.status()));
        }
        let answer = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
        Ok(answer.map_or(0, |answer| otlp::rejected(&answer)))
    }
}
