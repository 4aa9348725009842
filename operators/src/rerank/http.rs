//! Rerankers behind HTTP: a few threads, a bounded queue, time-outs, retries, a circuit breaker.
//!
//! No wait is longer than the deadline of its job, and none outlives the reranker. Neither keys nor texts are logged.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use freshet_config::{Endpoint, RerankerKind};
use serde_json::Value;
use ureq::Agent;
use ureq::http::{HeaderMap, StatusCode};

use super::breaker::{Breaker, Change};
use super::llm::Llm;
use super::metrics::RerankMetrics;
use super::remote::Remote;
use super::{RerankJob, Reranker};
use crate::remote::{agent, backoff, host, unreachable};

/// Jobs that wait, per connection.
pub(super) const QUEUE_PER_CONNECTION: usize = 16;
/// Longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 4 << 20;
/// Longest pause before a retry.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// What is said to a service, and what its answers mean. Knows nothing of connections.
pub(super) trait Protocol: Send + Sync {
    /// The body of a request.
    fn request(&self, query: &str, texts: &[String]) -> Value;
    /// A score per text.
    ///
    /// # Errors
    /// What the answer lacks, as the end of a sentence.
    fn scores(&self, answer: &[u8], texts: usize) -> Result<Vec<f64>, String>;
}

/// A reranker behind HTTP. Dropping it ends its threads after their current request; jobs that wait are dropped.
pub struct HttpReranker {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    name: String,
    endpoint: Endpoint,
    /// Host and port, for messages: an address may hold secrets.
    host: String,
    protocol: Box<dyn Protocol>,
    agent: Agent,
    metrics: RerankMetrics,
    state: Mutex<State>,
    /// Signalled when a job comes or the reranker ends.
    wake: Condvar,
}

struct State {
    queue: VecDeque<RerankJob>,
    breaker: Breaker,
    ended: bool,
}

/// Why a request failed.
struct Failure {
    /// A word for the metric.
    class: &'static str,
    reason: String,
    /// Whether it may pass by itself; how long the service asks to wait.
    retry: Option<Option<Duration>>,
}

impl HttpReranker {
    /// Starts the threads of a reranker of kind `remote` or `llm`; `None` for the other kinds.
    ///
    /// # Errors
    /// A thread that cannot be started.
    pub fn start(name: &str, kind: &RerankerKind, metrics: RerankMetrics) -> std::io::Result<Option<Self>> {
        let (endpoint, protocol): (&Endpoint, Box<dyn Protocol>) = match kind {
            RerankerKind::CrossEncoder { .. } => return Ok(None),
            RerankerKind::Remote(endpoint) => (endpoint, Box::new(Remote { model: endpoint.model.clone() })),
            RerankerKind::Llm(endpoint) => {
                (endpoint, Box::new(Llm { model: endpoint.model.clone().unwrap_or_default() }))
            }
        };
        let agent = agent().max_idle_connections_per_host(endpoint.connections.get()).build().into();
        let breaker = Breaker::new(endpoint.failures_max.get(), endpoint.pause);
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            host: host(&endpoint.url).to_owned(),
            endpoint: endpoint.clone(),
            protocol,
            agent,
            metrics,
            state: Mutex::new(State { queue: VecDeque::new(), breaker, ended: false }),
            wake: Condvar::new(),
        });
        // Built first: if a thread cannot be started, dropping it ends those that could.
        let mut reranker = Self { shared: Arc::clone(&shared), threads: Vec::new() };
        for number in 0..shared.endpoint.connections.get() {
            let shared = Arc::clone(&shared);
            let thread = std::thread::Builder::new().name(format!("rerank-{number}"));
            reranker.threads.push(thread.spawn(move || shared.work())?);
        }
        Ok(Some(reranker))
    }
}

impl Reranker for HttpReranker {
    fn submit(&self, job: RerankJob) -> Result<(), RerankJob> {
        let mut state = self.shared.lock();
        if state.queue.len() >= QUEUE_PER_CONNECTION * self.shared.endpoint.connections.get() {
            return Err(job);
        }
        state.queue.push_back(job);
        drop(state);
        self.shared.wake.notify_one();
        Ok(())
    }
}

impl Drop for HttpReranker {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.wake.notify_all();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of reranker \"{}\" has panicked", self.shared.name);
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        while let Some(job) = self.next() {
            if let Some(scores) = self.rerank(&job) {
                (job.reply)(scores);
            }
        }
    }

    /// Waits for a job whose deadline has not passed; `None` at the end.
    fn next(&self) -> Option<RerankJob> {
        let mut state = self.lock();
        loop {
            if state.ended {
                return None;
            }
            match state.queue.pop_front() {
                Some(job) if job.deadline > Instant::now() => return Some(job),
                Some(_) => self.count("too_late"),
                None => state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// Asks until there are scores, or it is of no use; `None` when the reranker ends meanwhile.
    fn rerank(&self, job: &RerankJob) -> Option<Result<Vec<f64>, String>> {
        let body = self.protocol.request(&job.query, &job.texts).to_string();
        for attempt in 0.. {
            if let Err(left) = self.lock().breaker.admit(Instant::now()) {
                self.count("circuit_open");
                let host = &self.host;
                return Some(Err(format!("{host} failed too often and is asked again in {:.1?}", left)));
            }
            let failure = match self.ask(&body, job) {
                Ok(scores) => {
                    self.note(true);
                    return Some(Ok(scores));
                }
                Err(failure) => failure,
            };
            self.note(false);
            self.count(failure.class);
            let pause = match failure.retry.filter(|_| attempt < self.endpoint.retries) {
                Some(asked) => asked.unwrap_or_else(|| backoff(attempt, BACKOFF_MAX)),
                None => return Some(Err(failure.reason)),
            };
            if Instant::now() + pause >= job.deadline {
                return Some(Err(failure.reason));
            }
            if self.pause(pause) {
                return None;
            }
        }
        None
    }

    /// Waits; true when the reranker has ended.
    fn pause(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        let mut state = self.lock();
        while !state.ended {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            // Jobs that come wake it, too; another thread takes them.
            state = self.wake.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// One request.
    fn ask(&self, body: &str, job: &RerankJob) -> Result<Vec<f64>, Failure> {
        let left = job.deadline.saturating_duration_since(Instant::now());
        let timeout = self.endpoint.timeout.min(left).max(Duration::from_millis(1));
        let started = Instant::now();
        let result = self.send(body, timeout);
        let seconds = self.metrics.seconds.with_label_values(&[self.name.as_str()]);
        seconds.observe(started.elapsed().as_secs_f64());
        let (status, headers, answer) = result.map_err(|error| self.unreachable(&error, timeout))?;
        if !status.is_success() {
            return Err(self.refused(status, &headers));
        }
        let scores = self.protocol.scores(&answer, job.texts.len());
        let scores = scores.map_err(|what| Failure {
            class: "invalid_answer",
            reason: format!("{}: {what}", self.host),
            // A model may say something else the next time.
            retry: Some(None),
        })?;
        self.count("ok");
        Ok(scores)
    }

    fn send(&self, body: &str, timeout: Duration) -> Result<(StatusCode, HeaderMap, Vec<u8>), ureq::Error> {
        let mut request = self.agent.post(&self.endpoint.url).content_type("application/json");
        if let Some(key) = &self.endpoint.api_key {
            request = request.header("authorization", format!("Bearer {}", key.reveal()));
        }
        let mut response = request.config().timeout_global(Some(timeout)).build().send(body)?;
        let answer = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec()?;
        Ok((response.status(), response.headers().clone(), answer))
    }

    fn unreachable(&self, error: &ureq::Error, timeout: Duration) -> Failure {
        let (class, retry) = if matches!(error, ureq::Error::Timeout(_)) {
            ("timeout", Some(None))
        } else if matches!(error, ureq::Error::BodyExceedsLimit(_)) {
            ("invalid_answer", None)
        } else {
            ("unreachable", Some(None))
        };
        Failure { class, reason: unreachable(error, &self.host, timeout), retry }
    }

    fn refused(&self, status: StatusCode, headers: &HeaderMap) -> Failure {
        let passes = status.is_server_error()
            || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
        let seconds = headers.get("retry-after").and_then(|value| value.to_str().ok()?.trim().parse().ok());
        Failure {
            class: if status.is_server_error() { "server_error" } else { "refused" },
            reason: format!("{} answered {status}", self.host),
            retry: passes.then(|| seconds.map(Duration::from_secs)),
        }
    }

    /// Tells the breaker, and the log when something has changed.
    fn note(&self, succeeded: bool) {
        let mut state = self.lock();
        let now = Instant::now();
        let change = if succeeded { state.breaker.succeeded() } else { state.breaker.failed(now) };
        let open = self.metrics.open.with_label_values(&[self.name.as_str()]);
        open.set(i64::from(state.breaker.is_open()));
        drop(state);
        let (reranker, host) = (&self.name, &self.host);
        match change {
            Change::None => {}
            Change::Opened => {
                let pause = self.endpoint.pause;
                tracing::warn!(reranker, host, ?pause, "reranker keeps failing, is left alone for a while");
            }
            Change::Closed => tracing::info!(reranker, host, "reranker is back"),
        }
    }

    fn count(&self, outcome: &str) {
        self.metrics.requests.with_label_values(&[self.name.as_str(), outcome]).inc();
    }
}
