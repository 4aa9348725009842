//! Reranking by what reads texts: candidates and their texts → scores, outside the worker thread.
//!
//! ```text
//!   Gather(n) ─▶ tasks ─▶ ReadTexts(n) ─▶ requests of the next round, or of the final fetch
//!                     jobs  ▼  │ scores, wake
//!                     rerankers: the embedding service, or others
//! ```
//! A query keeps its capability while its texts are read, and with it the versions it sees. It never waits longer than
//! the budget of its reranker: then it is answered in the order before, and the answer says so.

mod breaker;
mod cross_encoder;
mod http;
mod llm;
mod metrics;
mod remote;
#[cfg(test)]
mod tests;

pub use cross_encoder::CrossEncoder;
pub use http::HttpReranker;
pub use metrics::RerankMetrics;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use crate::connect::Wake;
use crate::gather::{Executions, RerankTask};
use crate::index::Time;
use crate::message::{ShardRequest, Ticket};

/// Takes the scores of a job, one per text in the order of its texts, or why there are none.
pub type ScoresReply = Box<dyn FnOnce(Result<Vec<f64>, String>) + Send>;

/// Texts to be scored for a query.
pub struct RerankJob {
    /// The query.
    pub query: Arc<str>,
    /// The texts, in the order that they have so far; at least one.
    pub texts: Vec<String>,
    /// When nobody waits for the scores any more.
    pub deadline: Instant,
    /// Called once, on any thread.
    pub reply: ScoresReply,
}

/// Scores texts for a query; higher is better.
///
/// # Contract
/// - `submit` never blocks, and gives the job back only when its queue is full and may be less so soon.
/// - What is taken is replied to, with as many finite scores as there are texts, or a reason. It may be dropped without
///   a reply once its deadline has passed, or when the reranker is dropped.
pub trait Reranker: Send + Sync {
    /// Hands a job over.
    ///
    /// # Errors
    /// The job, when the queue is full.
    fn submit(&self, job: RerankJob) -> Result<(), RerankJob>;
}

/// A reranker, and how long a query waits for it.
#[derive(Clone)]
pub struct Budgeted {
    /// The reranker.
    pub reranker: Arc<dyn Reranker>,
    /// Longest wait of a query.
    pub budget: Duration,
    /// Its name, for the metrics.
    pub name: String,
    /// Where fallbacks are counted.
    pub metrics: RerankMetrics,
}

/// Pause before a full reranker is asked again; the operator is also woken with every result.
const RETRY: Duration = Duration::from_millis(2);

/// Has the texts of tasks read. Requests of the next round on the first stream, of the final fetch on the second.
pub fn rerank<'scope>(
    tasks: StreamVec<'scope, Time, RerankTask>,
    executions: Executions,
    rerankers: Arc<[Budgeted]>,
    round: usize,
) -> (StreamVec<'scope, Time, ShardRequest>, StreamVec<'scope, Time, ShardRequest>) {
    let scope = tasks.scope();
    let mut builder = OperatorBuilder::new(format!("ReadTexts({round})"), scope);
    let info = builder.operator_info();
    let activator = scope.activator_for(info.address.clone());
    let sync = scope.worker().sync_activator_for(info.address.to_vec());
    // An operator that is gone needs no waking.
    let wake: Wake = Arc::new(move || {
        let _ = sync.activate();
    });
    let mut input = builder.new_input(tasks, Pipeline);
    let (next_out, next) = builder.new_output();
    let (done_out, done) = builder.new_output();
    let mut next_out = OutputBuilder::from(next_out);
    let mut done_out = OutputBuilder::from(done_out);
    builder.build(move |_| {
        let mut desk = Desk::new(rerankers, wake);
        move |_frontiers| {
            input.for_each(|cap, data| {
                for task in data.drain(..) {
                    desk.open((cap.retain(0), cap.retain(1)), task);
                }
            });
            if let Some(pause) = desk.submit() {
                activator.activate_after(pause);
            }
            for (ticket, stage, (next_cap, done_cap), scores) in desk.finished() {
                let mut executions = executions.borrow_mut();
                let Some(execution) = executions.get_mut(&ticket) else { continue };
                if !execution.reranked(stage, scores, round) {
                    continue;
                }
                if execution.rounds() > round + 1 {
                    let requests = execution.requests(round + 1).into_iter();
                    next_out.activate().session(&next_cap).give_iterator(requests);
                } else {
                    done_out.activate().session(&done_cap).give_iterator(execution.fetches().into_iter());
                }
            }
        }
    });
    (next, done)
}

/// A stage of a query.
type Place = (Ticket, u16);
/// For either output.
type Capabilities = (Capability<Time>, Capability<Time>);
/// Scores, or why there are none.
type Scores = Result<Vec<f64>, String>;

/// A task that is under way.
struct Pending {
    capabilities: Capabilities,
    reranker: u16,
    deadline: Instant,
}

/// Tasks on their way to the rerankers and back.
struct Desk {
    rerankers: Arc<[Budgeted]>,
    wake: Wake,
    results: (Sender<(Place, Scores)>, Receiver<(Place, Scores)>),
    /// Jobs that their reranker has not taken, in the order they came.
    unsent: VecDeque<(Place, u16, RerankJob)>,
    pending: BTreeMap<Place, Pending>,
    /// Tasks that are not for any reranker there is.
    failed: Vec<(Place, Scores)>,
}

impl Desk {
    fn new(rerankers: Arc<[Budgeted]>, wake: Wake) -> Self {
        let (unsent, pending, failed) = (VecDeque::new(), BTreeMap::new(), Vec::new());
        Self { rerankers, wake, results: channel(), unsent, pending, failed }
    }

    fn open(&mut self, capabilities: Capabilities, task: RerankTask) {
        let RerankTask { ticket, stage, reranker, query, texts } = task;
        let place = (ticket, stage);
        let Some(budget) = self.rerankers.get(usize::from(reranker)).map(|found| found.budget) else {
            self.failed.push((place, Err("there is no such reranker".to_owned())));
            self.pending.insert(place, Pending { capabilities, reranker, deadline: Instant::now() });
            return;
        };
        let deadline = Instant::now() + budget;
        let (results, wake) = (self.results.0.clone(), Arc::clone(&self.wake));
        let reply = Box::new(move |scores| {
            // The operator may be gone: then nobody waits.
            let _ = results.send((place, scores));
            wake();
        });
        self.unsent.push_back((place, reranker, RerankJob { query: query.into(), texts, deadline, reply }));
        self.pending.insert(place, Pending { capabilities, reranker, deadline });
    }

    /// Hands jobs over. How long to wait before it is worth while again: for a queue, or for a deadline.
    fn submit(&mut self) -> Option<Duration> {
        let mut full: Vec<u16> = Vec::new();
        for (place, number, job) in std::mem::take(&mut self.unsent) {
            // Jobs for one reranker keep their order; those whose deadline has passed are done with.
            if !self.pending.contains_key(&place) {
                continue;
            }
            let refused = match full.contains(&number) {
                true => Err(job),
                false => self.rerankers[usize::from(number)].reranker.submit(job),
            };
            if let Err(job) = refused {
                full.push(number);
                self.unsent.push_back((place, number, job));
            }
        }
        let deadline = self.pending.values().map(|pending| pending.deadline).min();
        let wait = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if full.is_empty() { wait } else { wait.map(|wait| wait.min(RETRY)) }
    }

    /// Tasks that have come to an end: scored, failed, or out of time. Each once.
    fn finished(&mut self) -> Vec<(Ticket, u16, Capabilities, Scores)> {
        let mut ended: Vec<(Place, Scores)> =
            self.failed.drain(..).chain(self.results.1.try_iter()).collect();
        let now = Instant::now();
        let late = self.pending.iter().filter(|(_, pending)| pending.deadline <= now);
        ended.extend(late.map(|(place, _)| (*place, Err("its budget is used up".to_owned()))));
        let mut finished = Vec::with_capacity(ended.len());
        for ((ticket, stage), scores) in ended {
            if let Some(Pending { capabilities, reranker, .. }) = self.pending.remove(&(ticket, stage)) {
                if let (Err(_), Some(of)) = (&scores, self.rerankers.get(usize::from(reranker))) {
                    of.metrics.fallbacks.with_label_values(&[of.name.as_str()]).inc();
                }
                finished.push((ticket, stage, capabilities, scores));
            }
        }
        finished
    }
}
