//! Jobs that wait, and jobs that are being answered.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::service::{EmbedJob, Reply};
use super::{Embedding, Priority, Wants};

/// Two bounded queues. Invariants: `texts` of a lane is the number of texts in its jobs; a lane holds at most
/// `texts_max` texts, or a single job that is larger.
pub(super) struct Queue {
    queries: Lane,
    documents: Lane,
    texts_max: usize,
}

#[derive(Default)]
struct Lane {
    jobs: VecDeque<Waiting>,
    texts: usize,
}

/// A job, or what is left of it.
struct Waiting {
    answers: Arc<Answers>,
    model: usize,
    wants: Wants,
    against: Option<Arc<str>>,
    /// When it was handed over.
    since: Instant,
    /// With their place in the job.
    texts: std::iter::Enumerate<std::vec::IntoIter<String>>,
}

/// A text on its way through a thread.
pub(super) struct Item {
    pub(super) answers: Arc<Answers>,
    pub(super) place: usize,
    pub(super) wants: Wants,
    pub(super) against: Option<Arc<str>>,
    /// When it was handed over.
    pub(super) since: Instant,
    pub(super) text: String,
}

/// What a thread takes at once: texts of one model and priority. Empty for a job without texts.
pub(super) struct Portion {
    pub(super) model: usize,
    pub(super) priority: Priority,
    pub(super) items: Vec<Item>,
    /// Jobs without texts, to be answered.
    pub(super) empty: Vec<Arc<Answers>>,
}

/// How much a thread takes at once.
pub(super) struct Share<'a> {
    /// Threads that share what waits.
    pub(super) threads: usize,
    /// Tokens of a portion, beyond its first text.
    pub(super) tokens_max: usize,
    /// Estimates the tokens of a text for a model.
    pub(super) tokens: &'a dyn Fn(usize, &str) -> usize,
}

impl Queue {
    pub(super) fn new(texts_max: usize) -> Self {
        Self { queries: Lane::default(), documents: Lane::default(), texts_max }
    }

    /// Puts a job at the end of its lane, or gives it back if the lane is full.
    pub(super) fn offer(&mut self, job: EmbedJob) -> Result<(), EmbedJob> {
        let texts_max = self.texts_max;
        let lane = self.lane(job.priority);
        // A job larger than the whole lane would otherwise never get in.
        if lane.texts > 0 && lane.texts + job.texts.len() > texts_max {
            return Err(job);
        }
        lane.texts += job.texts.len();
        lane.jobs.push_back(Waiting {
            answers: Arc::new(Answers::new(job.texts.len(), job.reply)),
            model: job.model,
            wants: job.wants,
            against: job.against,
            since: Instant::now(),
            texts: job.texts.into_iter().enumerate(),
        });
        Ok(())
    }

    /// Takes a thread's share from the front of a lane: texts of the first job's model, also from later jobs, each job
    /// in order. `None` if nothing waits.
    pub(super) fn take(&mut self, priority: Priority, share: &Share) -> Option<Portion> {
        let lane = self.lane(priority);
        let model = lane.jobs.front()?.model;
        let texts_max = lane.texts.div_ceil(share.threads).max(1);
        let mut portion = Portion { model, priority, items: Vec::new(), empty: Vec::new() };
        let mut tokens = 0;
        let mut next = 0;
        while let Some(job) = lane.jobs.get_mut(next) {
            if job.model != model {
                next += 1;
                continue;
            }
            if job.texts.len() == 0 {
                portion.empty.push(Arc::clone(&job.answers));
            }
            while portion.items.len() < texts_max
                && (portion.items.is_empty() || tokens < share.tokens_max)
                && let Some((place, text)) = job.texts.next()
            {
                tokens += (share.tokens)(model, &text);
                let (answers, against) = (Arc::clone(&job.answers), job.against.clone());
                let since = job.since;
                portion.items.push(Item { answers, place, wants: job.wants, against, since, text });
            }
            if job.texts.len() > 0 {
                break;
            }
            lane.jobs.remove(next);
        }
        lane.texts -= portion.items.len();
        Some(portion)
    }

    /// Texts that wait in a lane.
    pub(super) fn texts(&self, priority: Priority) -> usize {
        match priority {
            Priority::Query => self.queries.texts,
            Priority::Document => self.documents.texts,
        }
    }

    /// Takes all jobs out, unanswered.
    pub(super) fn clear(&mut self) {
        self.queries = Lane::default();
        self.documents = Lane::default();
    }

    fn lane(&mut self, priority: Priority) -> &mut Lane {
        match priority {
            Priority::Query => &mut self.queries,
            Priority::Document => &mut self.documents,
        }
    }
}

/// Results of a job, gathered from the threads that work on its texts.
pub(super) struct Answers {
    state: Mutex<Gathering>,
}

/// Invariant: `left` places of `results` are not settled yet; `reply` is there until it is called.
struct Gathering {
    results: Vec<Result<Embedding, String>>,
    left: usize,
    reply: Option<Reply>,
}

impl Answers {
    fn new(texts: usize, reply: Reply) -> Self {
        let results = (0..texts).map(|_| Err(String::new())).collect();
        Self { state: Mutex::new(Gathering { results, left: texts, reply: Some(reply) }) }
    }

    /// Settles one text; the last one gives the results to be handed to the reply. Each place once.
    #[must_use]
    pub(super) fn settle(&self, place: usize, result: Result<Embedding, String>) -> Option<Answered> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.results[place] = result;
        state.left -= 1;
        state.answered()
    }

    /// The answer of a job without texts.
    pub(super) fn finish_empty(&self) -> Option<Answered> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).answered()
    }
}

impl Gathering {
    fn answered(&mut self) -> Option<Answered> {
        if self.left > 0 {
            return None;
        }
        self.reply.take().map(|reply| Answered { results: std::mem::take(&mut self.results), reply })
    }
}

/// A job whose texts are all settled.
pub(super) struct Answered {
    pub(super) results: Vec<Result<Embedding, String>>,
    pub(super) reply: Reply,
}
