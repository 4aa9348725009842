//! Runs a pipeline: workers, offsets, and the end.
//!
//! A run ends when the control says so. It *drains* first: no new queries, those in flight are answered and settled.
//! When every worker has voted that nothing is left, it *stops*: the dataflow is dropped; documents that were under way
//! are read again by the next run. A failure of the world stops it at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use freshet_operators::connect::{ConnectError, Connector, Share, Wake, topics};
use freshet_operators::control::Control;
use freshet_operators::decode::DEAD_LETTER_SUFFIX;
use freshet_operators::gateway::Desk;
use freshet_operators::message::Binding;
use freshet_operators::produce::{Delivery, Each};
use freshet_operators::registry::{Reader, Schemas};
use freshet_operators::snapshot::{SnapshotError, Snapshots};
use freshet_operators::wake::LateWake;
use freshet_schemas::{Offset, Partition};
use timely::worker::Worker;

use crate::dataflow::{self, Ends, Running};
use crate::delivery::ExactlyOnce;
use crate::gauges::Gauges;
use crate::restore::{self, Restored};
use crate::setup::Setup;
use crate::status::Phase;

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// Topics that are missing, a broker that is not there.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The world outside or an index failed while the pipeline ran.
    #[error("{0}")]
    Failed(String),
    /// A snapshot that does not fit, or that is not there.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// A store that cannot be read: the run does not begin from nothing behind somebody's back.
    #[error(
        "{0}; to begin without snapshots, take [snapshots] out of the configuration, or name another snapshots.store"
    )]
    Store(SnapshotError),
}

/// How long a run lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Until the control ends it.
    Stopped,
    /// Until all that was in the topics at the start is indexed and answered.
    CaughtUp,
}

/// How far a run is; counts of records, over all partitions.
#[derive(Debug, Default)]
pub struct Progress {
    /// Documents in the indexes.
    pub documents: AtomicI64,
    /// Documents in the topic at the start.
    pub documents_end: AtomicI64,
    /// Queries settled.
    pub queries: AtomicI64,
    /// Queries in the topic at the start.
    pub queries_end: AtomicI64,
}

type Offsets = BTreeMap<Partition, Offset>;

/// What the workers share, beside the setup.
struct Shared {
    setup: Setup,
    connector: Arc<dyn Connector>,
    control: Arc<Control>,
    progress: Arc<Progress>,
    until: Until,
    documents_end: Offsets,
    queries_end: Offsets,
    documents_committed: Offsets,
    queries_start: Offsets,
    /// Where the schemas of Avro are.
    schemas: Option<Arc<Schemas>>,
    /// Where answers are written together with the progress of their queries.
    exactly: Option<ExactlyOnce>,
    restored: Restored,
    snapshots: Option<Arc<Snapshots>>,
    votes: AtomicUsize,
}

/// Time between two commits of offsets.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);
/// Longest sleep of an idle worker.
const PARK_MAX: Duration = Duration::from_millis(20);

/// Runs a pipeline to its end.
///
/// # Errors
/// When topics are missing, or the world outside failed for good.
pub fn run(
    setup: Setup,
    connector: Arc<dyn Connector>,
    until: Until,
    control: &Arc<Control>,
    progress: &Arc<Progress>,
) -> Result<(), RunError> {
    let topics = setup.config.topics.clone();
    let dlq = |topic: &str| format!("{topic}{DEAD_LETTER_SUFFIX}");
    let inputs: Vec<&str> =
        topics.documents.names().iter().chain([&topics.queries]).map(String::as_str).collect();
    let outputs: Vec<String> =
        inputs.iter().map(|topic| dlq(topic)).chain([topics.answers.clone()]).collect();
    let outputs: Vec<&str> = outputs.iter().map(String::as_str).collect();
    connector.prepare(&inputs, &outputs)?;
    let workers = setup.config.pipeline.workers.get();
    // First of all: it makes an end of what another process of this name is doing.
    let exactly = ExactlyOnce::recover(&setup.config, &*connector)?;
    let queries_start = match &exactly {
        Some(exactly) => exactly.next(),
        None => connector.committed(&topics.queries)?,
    };
    let documents_end = topics::end_offsets(&*connector, &topics.documents)?;
    let (gateway, status) = (setup.gateway.clone(), Arc::clone(&setup.status));
    status.reached(Phase::Restoring);
    let (restored, snapshots) = restore::restore(&setup, workers, &documents_end)?;
    let shared = Arc::new(Shared {
        documents_end,
        restored,
        snapshots: snapshots.map(Arc::new),
        queries_end: connector.end_offsets(&topics.queries)?,
        documents_committed: topics::committed(&*connector, &topics.documents)?,
        queries_start,
        schemas: schemas(&setup)?,
        exactly,
        setup,
        connector,
        control: Arc::clone(control),
        progress: Arc::clone(progress),
        until,
        votes: AtomicUsize::new(0),
    });
    progress.documents_end.store(shared.documents_end.values().sum(), Ordering::Relaxed);
    let queries_before: i64 = shared.queries_start.values().sum();
    progress.queries_end.store(shared.queries_end.values().sum::<i64>() - queries_before, Ordering::Relaxed);
    status.reached(Phase::Applying);
    let on_worker = Arc::clone(&shared);
    let guards = timely::execute(timely::Config::process(workers), move |worker| work(worker, &on_worker))
        .map_err(RunError::Failed)?;
    let results: Result<Vec<()>, String> = guards.join().into_iter().collect();
    status.reached(Phase::Ending);
    // Who still waits hears that nothing comes.
    gateway.iter().for_each(|gateway| gateway.close());
    match (control.failure(), results) {
        (Some(failure), _) => Err(RunError::Failed(failure)),
        (None, Err(panic)) => Err(RunError::Failed(format!("a worker ended early: {panic}"))),
        (None, Ok(_)) => Ok(()),
    }
}

/// What asks the schema registry, where there is one.
fn schemas(setup: &Setup) -> Result<Option<Arc<Schemas>>, RunError> {
    let Some(registry) = &setup.config.documents.registry else { return Ok(None) };
    let started = Schemas::start(registry, setup.metrics.clone());
    let started = started.map_err(|error| RunError::Failed(format!("cannot start a thread: {error}")))?;
    Ok(Some(Arc::new(started)))
}

fn work(worker: &mut Worker, shared: &Arc<Shared>) {
    let ends = match open(worker, shared) {
        Ok(ends) => ends,
        Err(error) => {
            shared.control.fail(&*error);
            // Every worker builds the same dataflow; with the failure noted, all of them leave before they do.
            return;
        }
    };
    // Nobody can look where there is no server.
    if shared.setup.config.pipeline.observe && shared.setup.gateway.is_some() {
        shared.setup.dataflow.watch(worker);
    }
    let running = dataflow::build(worker, &shared.setup, ends, &shared.control);
    let commits = committer(shared);
    let mut keeper = Keeper::new(worker.index(), worker.peers(), shared);
    while !shared.control.stopping() && worker.has_dataflows() {
        worker.step_or_park(Some(PARK_MAX));
        keeper.look(&running, shared, &commits, worker.peers());
    }
    keeper.commit(&running, shared, &commits);
    keeper.gauges.end(&shared.setup);
    drop(commits);
    for dataflow in worker.installed_dataflows() {
        worker.drop_dataflow(dataflow);
    }
}

/// What belongs to a share of the partitions.
fn part(share: Share, all: &Offsets) -> Offsets {
    all.iter().filter(|(partition, _)| share.holds(**partition)).map(|(p, offset)| (*p, *offset)).collect()
}

fn open(worker: &Worker, shared: &Shared) -> Result<Ends, Box<dyn std::error::Error>> {
    let (index, peers) = (worker.index(), worker.peers());
    let topics = &shared.setup.config.topics;
    let connector = &shared.connector;
    let wakes = (LateWake::default(), LateWake::default());
    let share = Share { index, peers };
    let start = part(share, &shared.restored.offsets);
    Ok(Ends {
        shards: shared.restored.shards(&shared.setup, index, peers)?,
        snapshots: shared.snapshots.clone(),
        documents: Reader::new(
            topics::follow(&**connector, &topics.documents, share, &start, &(Arc::new(|| {}) as Wake))?,
            shared.schemas.clone(),
            &shared.setup.document_specs(),
        ),
        start,
        letters_written: shared.documents_committed.clone(),
        queries: connector.follow(&topics.queries, share, &shared.queries_start, wakes.0.wake())?,
        delivery: match &shared.exactly {
            Some(exactly) => exactly.delivery(share, wakes.1.wake()),
            None => Delivery::Each(Each::new(connector.sink(wakes.1.wake())?)),
        },
        offsets: shared.exactly.as_ref().map(|exactly| exactly.offsets(share)).unwrap_or_default(),
        floor: shared.exactly.as_ref().map(|exactly| exactly.floor.clone()).unwrap_or_default(),
        connector: Arc::clone(connector),
        wakes,
    })
}

/// Commits on a thread of its own; ends when the sender is dropped.
struct Commits {
    sender: Option<Sender<(String, Offsets)>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

fn committer(shared: &Arc<Shared>) -> Commits {
    let (sender, inbox) = channel::<(String, Offsets)>();
    let connector = Arc::clone(&shared.connector);
    let commit = move || {
        for (topic, next) in inbox {
            if let Err(error) = connector.commit(&topic, &next) {
                tracing::warn!(%error, topic, "offsets not committed; answers may be repeated after a restart");
            }
        }
    };
    let thread = std::thread::Builder::new().name("commit".into()).spawn(commit).ok();
    Commits { sender: Some(sender), thread }
}

impl Commits {
    /// Has offsets committed that have moved.
    fn send(&self, topic: &str, next: Offsets, before: &Offsets) {
        if next != *before
            && !next.is_empty()
            && let Some(sender) = &self.sender
        {
            // The thread lives as long as the sender.
            let _ = sender.send((topic.to_owned(), next));
        }
    }
}

impl Drop for Commits {
    fn drop(&mut self) {
        self.sender = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been reported by its own hook.
            let _ = thread.join();
        }
    }
}

/// Looks after offsets and the end of the run on one worker.
struct Keeper {
    worker: usize,
    documents_end: Offsets,
    queries_end: Offsets,
    /// Next offsets of documents that are in the indexes.
    indexed: Offsets,
    committed: (Offsets, Offsets),
    next_commit: Instant,
    reported: (i64, i64),
    queries_before: i64,
    /// Queries from within the process.
    desk: Option<Arc<Desk>>,
    gauges: Gauges,
    voted: bool,
}

impl Keeper {
    fn new(index: usize, peers: usize, shared: &Shared) -> Self {
        let share = Share { index, peers };
        let queries_before = part(share, &shared.queries_start).values().sum();
        Self {
            worker: index,
            documents_end: part(share, &shared.documents_end),
            queries_end: part(share, &shared.queries_end),
            indexed: Offsets::new(),
            desk: shared.setup.gateway.as_ref().and_then(|gateway| gateway.desk(index)).cloned(),
            gauges: Gauges::new(part(share, &shared.restored.offsets)),
            committed: (Offsets::new(), Offsets::new()),
            next_commit: Instant::now() + COMMIT_INTERVAL,
            reported: (0, 0),
            queries_before,
            voted: false,
        }
    }

    fn look(&mut self, running: &Running, shared: &Shared, commits: &Commits, peers: usize) {
        let mut bindings = running.bindings.borrow_mut();
        let closed = bindings.iter().take_while(|(tick, _)| !running.applied.less_equal(tick)).count();
        for (_, Binding { partition, next }) in bindings.drain(..closed) {
            let before = self.indexed.insert(partition, next);
            self.gauges.moved(&shared.setup, partition, before, next);
        }
        drop(bindings);
        if closed > 0 {
            shared.setup.status.indexed(&self.indexed);
        }
        self.gauges.look(&shared.setup, running, self.worker);
        self.report(running, shared);
        if self.worker == 0 {
            for asker in shared.control.cuts_asked() {
                match &shared.snapshots {
                    Some(snapshots) => snapshots.ask(asker),
                    // Who asked may have gone.
                    None => drop(asker.send(Err("the configuration has no [snapshots]".to_owned()))),
                }
            }
        }
        if Instant::now() >= self.next_commit {
            self.next_commit = Instant::now() + COMMIT_INTERVAL;
            self.commit(running, shared, commits);
        }
        if !self.voted && self.finished(running, shared) {
            self.voted = true;
            // What comes from now on might find no worker that answers it.
            self.desk.iter().for_each(|desk| desk.close());
            if shared.votes.fetch_add(1, Ordering::SeqCst) + 1 == peers {
                shared.control.stop();
            }
        }
    }

    /// Whether this worker has nothing left to do: the last thing is a snapshot.
    fn finished(&self, running: &Running, shared: &Shared) -> bool {
        self.answered(running, shared) && shared.snapshots.as_ref().is_none_or(|s| s.finished(self.worker))
    }

    /// Whether all that this run is to answer is answered.
    fn answered(&self, running: &Running, shared: &Shared) -> bool {
        let offsets = running.offsets.borrow();
        let written = *running.unsettled.borrow() == 0 && self.desk.as_ref().is_none_or(|d| d.open() == 0);
        if shared.control.draining() {
            return written && offsets.in_flight() == 0;
        }
        let indexed =
            |(p, end): (&Partition, &Offset)| *end == 0 || self.indexed.get(p).is_some_and(|n| n >= end);
        shared.until == Until::CaughtUp
            && written
            && self.documents_end.iter().all(indexed)
            && offsets.reached(&self.queries_end)
    }

    fn report(&mut self, running: &Running, shared: &Shared) {
        let documents: i64 = self.indexed.values().sum();
        let settled: i64 = running.offsets.borrow().committable().values().sum();
        let queries = (settled - self.queries_before).max(0);
        shared.progress.documents.fetch_add(documents - self.reported.0, Ordering::Relaxed);
        shared.progress.queries.fetch_add(queries - self.reported.1, Ordering::Relaxed);
        self.reported = (documents, queries);
    }

    /// Commits what has changed since the last time.
    fn commit(&mut self, running: &Running, shared: &Shared, commits: &Commits) {
        let topics = &shared.setup.config.topics;
        let queries = running.offsets.borrow().committable();
        let now = (self.indexed.clone(), queries);
        for (number, topic) in topics.documents.names().iter().enumerate() {
            let of_topic = |offsets| topics::of_topic(offsets, number);
            commits.send(topic, of_topic(&now.0), &of_topic(&self.committed.0));
        }
        // Exactly once: committed with the answers.
        if shared.exactly.is_none() {
            commits.send(&topics.queries, now.1.clone(), &self.committed.1);
        }
        self.committed = now;
    }
}
