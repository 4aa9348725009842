//! Threads that embed.
//!
//! A thread takes a portion of what waits, queries if there are any, tokenises it, makes batches of texts of like
//! length and runs them. Before each document and each batch of documents it serves the queries that have come
//! meanwhile, so that a query waits for at most one batch per thread.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use freshet_config::Embedding as EmbeddingConfig;

use super::batches::batches;
use super::metrics::Ran;
use super::model::{Backend, Head, Hidden, Runner, Tokens, load};
use super::queue::{Answered, Item, Portion, Queue, Share};
use super::{EmbedCounts, EmbedError, EmbedMetrics, Embedding, ModelInfo, Priority, Wants, pool};

/// Documents are sorted by length over so many batches: over one, texts of like length hardly meet, and batches of one or two
/// short texts take up to a tenth longer. Over many, the first document of a burst waits for all that are shorter. Queries that
/// come meanwhile wait for one batch at most.
const PORTION_BATCHES: usize = 4;

/// Takes the results of a job, one per text, in the order of its texts.
pub type Reply = Box<dyn FnOnce(Vec<Result<Embedding, String>>) + Send>;

/// Texts to be embedded by one model.
pub struct EmbedJob {
    /// Number of the model, in the order given at start.
    pub model: usize,
    /// Who waits.
    pub priority: Priority,
    /// What is wanted for each text.
    pub wants: Wants,
    /// What all texts are read together with: queries of cross-encoders.
    pub against: Option<Arc<str>>,
    /// The texts; may be none.
    pub texts: Vec<String>,
    /// Called once, on a thread of the service, when all texts are settled; must not block. A text that cannot be
    /// embedded has an `Err` with the reason. Never called if the service ends before.
    pub reply: Reply,
}

/// The embedding service. Dropping it ends its threads after their current batch; jobs not answered by then are
/// dropped with their replies uncalled.
pub struct EmbeddingService {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// What the threads share.
struct Shared {
    backends: Vec<Arc<dyn Backend>>,
    state: Mutex<State>,
    /// Signalled when a job comes or the service ends.
    wake: Condvar,
    metrics: EmbedMetrics,
    threads: usize,
    batch_tokens_max: usize,
    run_timeout: Duration,
}

struct State {
    queue: Queue,
    ended: bool,
}

/// A text with its tokens.
struct Input {
    item: Item,
    tokens: Tokens,
}

impl EmbeddingService {
    /// Loads models by name (see [`load`]; `folders` are the `[models]` of the configuration) and starts the threads.
    pub fn start(
        models: &[String],
        folders: &BTreeMap<String, PathBuf>,
        config: &EmbeddingConfig,
    ) -> Result<Arc<Self>, EmbedError> {
        let backends: Result<Vec<_>, _> = models.iter().map(|name| load(name, folders)).collect();
        Self::with_backends(backends?, config)
    }

    /// Starts the threads on models that are loaded already.
    pub fn with_backends(
        backends: Vec<Arc<dyn Backend>>,
        config: &EmbeddingConfig,
    ) -> Result<Arc<Self>, EmbedError> {
        let threads = config.threads.get();
        let shared = Arc::new(Shared {
            backends,
            state: Mutex::new(State { queue: Queue::new(config.queue_texts_max.get()), ended: false }),
            wake: Condvar::new(),
            metrics: EmbedMetrics::new()?,
            threads,
            batch_tokens_max: config.batch_tokens_max.get(),
            run_timeout: config.run_timeout,
        });
        // Built first: if a thread cannot be started, dropping it ends those that could.
        let mut service = Self { shared: Arc::clone(&shared), threads: Vec::with_capacity(threads) };
        for number in 0..threads {
            let runners: Result<Vec<_>, _> = shared.backends.iter().map(|backend| backend.runner()).collect();
            let mut thread = Thread { shared: Arc::clone(&shared), runners: runners? };
            let name = format!("embed-{number}");
            let started = std::thread::Builder::new().name(name.clone()).spawn(move || thread.work());
            service.threads.push(started.map_err(|source| EmbedError::Thread { name, source })?);
        }
        Ok(Arc::new(service))
    }

    /// Hands a job over; never blocks. Gives it back when the queue of its priority is full: that queue then holds at
    /// least one text, and taking it up again after a reply can succeed.
    ///
    /// # Panics
    /// If there is no such model.
    pub fn submit(&self, job: EmbedJob) -> Result<(), EmbedJob> {
        let models = self.shared.backends.len();
        assert!(job.model < models, "model {} of {models}", job.model);
        let priority = job.priority;
        let mut state = self.shared.lock();
        state.queue.offer(job)?;
        self.shared.show_queued(&state, priority);
        drop(state);
        self.shared.wake.notify_all();
        Ok(())
    }

    /// A model, by its number.
    pub fn info(&self, model: usize) -> &ModelInfo {
        self.shared.backends[model].info()
    }

    /// How many models there are; their numbers begin at 0.
    pub fn models(&self) -> usize {
        self.shared.backends.len()
    }

    /// A model, by its number, for its tokenizer.
    pub fn backend(&self, model: usize) -> &dyn Backend {
        &*self.shared.backends[model]
    }

    /// The counters, to be registered by the caller.
    pub fn metrics(&self) -> &EmbedMetrics {
        &self.shared.metrics
    }

    /// The counters now.
    pub fn counts(&self) -> EmbedCounts {
        self.shared.metrics.snapshot()
    }
}

impl Drop for EmbeddingService {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.wake.notify_all();
        let own = std::thread::current().id();
        for thread in self.threads.drain(..) {
            // The last owner may be a reply, which runs on a thread of the service: that one ends by itself.
            if thread.thread().id() != own && thread.join().is_err() {
                tracing::error!("an embedding thread has panicked");
            }
        }
        self.shared.lock().queue.clear();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show_queued(&self, state: &State, priority: Priority) {
        self.metrics.set_queued(priority, state.queue.texts(priority));
    }

    /// Waits for work, queries first; `None` when the service has ended.
    fn next(&self) -> Option<Portion> {
        let mut state = self.lock();
        loop {
            if state.ended {
                return None;
            }
            let portion = self.take(&mut state, Priority::Query);
            if let Some(portion) = portion.or_else(|| self.take(&mut state, Priority::Document)) {
                return Some(portion);
            }
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn take(&self, state: &mut State, priority: Priority) -> Option<Portion> {
        // About four bytes a token in languages with spaces; only the size of a portion hangs on it.
        let tokens =
            |model: usize, text: &str| (text.len() / 4 + 2).min(self.backends[model].info().max_tokens);
        let tokens_max = match priority {
            Priority::Query => self.batch_tokens_max,
            Priority::Document => self.batch_tokens_max.saturating_mul(PORTION_BATCHES),
        };
        let share = Share { threads: self.threads, tokens_max, tokens: &tokens };
        let portion = state.queue.take(priority, &share);
        for item in portion.iter().flat_map(|portion| &portion.items) {
            self.metrics.waited(priority, item.since.elapsed());
        }
        self.show_queued(state, priority);
        portion
    }
}

/// One thread: a runner per model.
struct Thread {
    shared: Arc<Shared>,
    runners: Vec<Box<dyn Runner>>,
}

impl Thread {
    fn work(&mut self) {
        while let Some(portion) = self.shared.next() {
            self.serve(portion);
        }
    }

    /// Embeds a portion. Stops between batches when the service has ended.
    fn serve(&mut self, portion: Portion) {
        for job in portion.empty {
            reply(job.finish_empty());
        }
        let (model, priority) = (portion.model, portion.priority);
        let backend = Arc::clone(&self.shared.backends[model]);
        let mut inputs = Vec::with_capacity(portion.items.len());
        for item in portion.items {
            if self.interrupted(priority) {
                return;
            }
            let started = Instant::now();
            let encoded = contained(|| match &item.against {
                Some(query) => backend.encode_pair(query, &item.text),
                None => backend.encode(&item.text, priority),
            });
            self.shared.metrics.busy(started.elapsed().as_secs_f64());
            match encoded {
                Ok(tokens) => inputs.push(Some(Input { item, tokens })),
                Err(reason) => self.settle(&item, priority, Err(reason)),
            }
        }
        let lengths: Vec<usize> = inputs.iter().flatten().map(|input| input.tokens.len()).collect();
        for batch in batches(&lengths, self.shared.batch_tokens_max) {
            if self.interrupted(priority) {
                return;
            }
            let batch: Vec<Input> = batch.into_iter().filter_map(|place| inputs[place].take()).collect();
            self.run(model, priority, &batch);
        }
    }

    /// Serves the queries that have come, if documents are being served; true when the service has ended.
    fn interrupted(&mut self, priority: Priority) -> bool {
        loop {
            let mut state = self.shared.lock();
            if state.ended {
                return true;
            }
            let queries = match priority {
                Priority::Query => None,
                Priority::Document => self.shared.take(&mut state, Priority::Query),
            };
            drop(state);
            match queries {
                Some(portion) => self.serve(portion),
                None => return false,
            }
        }
    }

    /// Runs a batch and settles its texts. A batch that fails, or takes too long, is halved until the text that makes it
    /// do so is alone: at most twice as many runs as texts.
    fn run(&mut self, model: usize, priority: Priority, batch: &[Input]) {
        let texts: Vec<&Tokens> = batch.iter().map(|input| &input.tokens).collect();
        let longest = texts.iter().map(|text| text.len()).max().unwrap_or(0);
        let tokens: usize = texts.iter().map(|text| text.len()).sum();
        let backend = Arc::clone(&self.shared.backends[model]);
        let runner = &mut self.runners[model];
        let started = Instant::now();
        let limit = self.shared.run_timeout;
        let hidden = contained(|| check(runner.run(&texts, limit)?, batch.len(), longest, backend.info()));
        let padding = batch.len() * longest - tokens;
        let ran = Ran { texts: batch.len(), tokens, padding, time: started.elapsed() };
        self.shared.metrics.ran(priority, &ran);
        match hidden {
            Ok(hidden) => {
                for (place, input) in batch.iter().enumerate() {
                    let Input { item, tokens } = input;
                    let rows = hidden.text(place, tokens.len());
                    let result = contained(|| pool::embedding(rows, tokens, backend.info(), item.wants));
                    self.settle(&input.item, priority, result);
                }
            }
            Err(reason) => match batch {
                [only] => self.settle(&only.item, priority, Err(reason)),
                several => {
                    tracing::warn!(texts = several.len(), reason, "batch failed, running its halves");
                    let (left, right) = several.split_at(several.len() / 2);
                    self.run(model, priority, left);
                    self.run(model, priority, right);
                }
            },
        }
    }

    fn settle(&self, item: &Item, priority: Priority, result: Result<Embedding, String>) {
        self.shared.metrics.settled(priority, result.is_ok());
        reply(item.answers.settle(item.place, result));
    }
}

/// Hands results over. A reply that panics has had its results and is the caller's mistake: it must not take the
/// thread, and with it all other jobs, along.
fn reply(answered: Option<Answered>) {
    let Some(Answered { results, reply }) = answered else { return };
    if catch_unwind(AssertUnwindSafe(|| reply(results))).is_err() {
        tracing::error!("the reply of an embedding job has panicked");
    }
}

/// Turns a panic into an error.
fn contained<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Err(format!("the model panicked: {}", text.as_deref().unwrap_or("no message")))
    })
}

/// Holds a runner to its contract.
fn check(hidden: Hidden, texts: usize, longest: usize, model: &ModelInfo) -> Result<Hidden, String> {
    let (rows, dim) = match model.head {
        Head::Dense { .. } | Head::LateInteraction(_) | Head::Sparse => (longest, model.dim),
        Head::CrossEncoder { .. } => (1, 1),
    };
    let found = (hidden.values.len(), hidden.rows, hidden.dim);
    if found != (texts * rows * dim, rows, dim) {
        return Err(format!(
            "the model gave {} values for {} rows of {} dimensions, expected {texts} · {rows} · {dim}",
            found.0, found.1, found.2
        ));
    }
    Ok(hidden)
}
