//! When cuts are made, and what becomes of them.
//!
//! One thread writes one cut after the other, and looks for requests and writes answers between them. A cut that fails is
//! made anew, with what is there then, after a while that grows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use freshet_schemas::{Offset, Partition};

use super::answers::{Answers, Keeper, Target};
use super::request;
use super::{Cut, Manifest, SnapshotError, SnapshotMetrics, Writer};
use crate::background;
use crate::index::Time;
use crate::index::shard::PartCut;

/// What became of a cut that was asked for: its manifest, or why there is none.
pub type Outcome = Result<Arc<Manifest>, String>;

/// Time to the next cut after one that failed; doubled each time.
const RETRY: Duration = Duration::from_secs(1);
/// Longest time to the next cut after one that failed.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// How often the last cut of a run is tried.
const LAST_TRIES: u32 = 3;
/// Time between two looks for requests, in a folder and elsewhere.
const LOOK_LOCAL: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_secs(10);

/// What the workers have delivered of a cut.
struct Gathering {
    workers: usize,
    cut: Cut,
}

/// Who waits for a cut.
enum Asker {
    /// Somebody in this process.
    Here(Sender<Outcome>),
    /// Somebody who put a request into the store: its path.
    Store(String),
}

struct State {
    /// From the beginning of a cut until it is written.
    busy: bool,
    gathering: Option<Gathering>,
    /// Workers that have nothing left to do but this.
    ready: BTreeSet<usize>,
    /// The last one, cut when all of them are ready.
    last: Last,
    /// Whom the next cut serves.
    asking: Vec<Asker>,
    /// Whom the cut serves that is being made: those who asked before it began.
    served: Vec<Asker>,
    /// When the next one is due.
    next: Instant,
    /// No cut begins before, whoever asks.
    not_before: Instant,
    /// Cuts that failed since one was written.
    failed: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Last {
    #[default]
    Early,
    Wanted,
    Begun,
    Done,
}

/// What the thread does.
enum Job {
    /// Write a cut.
    Cut(Cut),
    /// Write the answers that wait.
    Answers,
    /// Write what is left, and end. Not the end of the channel: who brings answers has a sender of its own.
    End,
}

/// Brings the workers' parts of a cut together, and has them written by a thread of its own: one cut after the other.
pub struct Snapshots {
    state: Arc<Mutex<State>>,
    workers: usize,
    interval: Duration,
    jobs: Sender<Job>,
    answers: Option<Arc<Answers>>,
    thread: Option<JoinHandle<()>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What stands behind these locks is whole between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Snapshots {
    /// Snapshots of so many workers, one every `interval`, and with them the table `answers` if it is wanted.
    ///
    /// # Errors
    /// The system refusing a thread.
    pub fn start(
        writer: Writer,
        workers: usize,
        interval: Duration,
        with_answers: bool,
        metrics: SnapshotMetrics,
    ) -> std::io::Result<Self> {
        let (jobs, inbox) = channel::<Job>();
        let wakes = jobs.clone();
        // A thread that has ended has told why.
        let answers = with_answers.then(|| Arc::new(Answers::new(move || drop(wakes.send(Job::Answers)))));
        let now = Instant::now();
        let state = State {
            busy: false,
            gathering: None,
            ready: BTreeSet::new(),
            last: Last::default(),
            asking: Vec::new(),
            served: Vec::new(),
            next: now + interval,
            not_before: now,
            failed: 0,
        };
        let state = Arc::new(Mutex::new(state));
        let keeper = answers.clone().map(Keeper::new);
        let scribe = Scribe { writer, keeper, interval, state: Arc::clone(&state), metrics };
        let thread = background::spawn("snapshots".into(), move || scribe.run(&inbox))?;
        Ok(Self { state, workers, interval, jobs, answers, thread: Some(thread) })
    }

    /// Where answers go, if they are kept.
    pub fn answers(&self) -> Option<&Arc<Answers>> {
        self.answers.as_ref()
    }

    /// Asks for a cut that begins from now on. What comes back says what became of it; nothing, if the run ends before.
    pub fn cut_now(&self) -> Receiver<Outcome> {
        let (sender, outcome) = channel();
        self.ask(sender);
        outcome
    }

    /// As [`Snapshots::cut_now`], for who has made the channel.
    pub fn ask(&self, asker: Sender<Outcome>) {
        lock(&self.state).asking.push(Asker::Here(asker));
    }

    /// A worker has nothing left to do but to wait for a last one, which is cut when all have; whether it is written, or
    /// has failed. Asked again and again.
    pub fn finished(&self, worker: usize) -> bool {
        let mut state = lock(&self.state);
        state.ready.insert(worker);
        if state.last == Last::Early && state.ready.len() == self.workers {
            state.last = Last::Wanted;
        }
        state.last == Last::Done
    }

    /// Whether a cut is to begin now. The caller then sees to it that every worker delivers.
    pub fn begin(&self) -> bool {
        let mut state = lock(&self.state);
        let now = Instant::now();
        let wanted = state.last == Last::Wanted || !state.asking.is_empty() || now >= state.next;
        if state.busy || !wanted || now < state.not_before {
            return false;
        }
        state.busy = true;
        if state.last == Last::Wanted {
            state.last = Last::Begun;
        }
        state.served = std::mem::take(&mut state.asking);
        state.next = now + self.interval;
        true
    }

    /// Takes a worker's part of the cut at a tick: its shards, and the next offsets of its partitions.
    pub fn deliver(
        &self,
        tick: Time,
        offsets: BTreeMap<Partition, Offset>,
        shards: Vec<(u32, Vec<PartCut>)>,
    ) {
        let mut state = lock(&self.state);
        let empty =
            || Gathering { workers: 0, cut: Cut { tick, offsets: BTreeMap::new(), shards: BTreeMap::new() } };
        let mut gathering = state.gathering.take().unwrap_or_else(empty);
        debug_assert_eq!(gathering.cut.tick, tick, "one cut at a time");
        gathering.workers += 1;
        gathering.cut.offsets.extend(offsets);
        gathering.cut.shards.extend(shards);
        if gathering.workers < self.workers {
            state.gathering = Some(gathering);
        } else {
            // The thread lives until it is told to end.
            let _ = self.jobs.send(Job::Cut(gathering.cut));
        }
    }
}

impl Drop for Snapshots {
    /// Waits for the one being written, and for the answers.
    fn drop(&mut self) {
        let _ = self.jobs.send(Job::End);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been reported by its own hook.
            let _ = thread.join();
        }
    }
}

/// The thread that writes.
struct Scribe {
    writer: Writer,
    keeper: Option<Keeper>,
    interval: Duration,
    state: Arc<Mutex<State>>,
    metrics: SnapshotMetrics,
}

impl Scribe {
    fn run(mut self, inbox: &Receiver<Job>) {
        let every = if self.writer.store().is_local() { LOOK_LOCAL } else { LOOK };
        let mut look = Instant::now();
        loop {
            match inbox.recv_timeout(look.saturating_duration_since(Instant::now())) {
                Ok(Job::Cut(cut)) => {
                    let begun = Instant::now();
                    let written = self.writer.write(cut).map(Arc::new);
                    self.metrics.cut(written.as_deref().ok(), begun.elapsed().as_secs_f64());
                    self.done(written);
                    self.keep_answers();
                }
                Ok(Job::Answers) => self.keep_answers(),
                Err(RecvTimeoutError::Timeout) => {
                    look = Instant::now() + every;
                    self.look();
                    if self.keeper.as_ref().is_some_and(Keeper::is_behind) {
                        self.keep_answers();
                    }
                }
                Ok(Job::End) | Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        if let Some(keeper) = &mut self.keeper {
            let to = Target { store: self.writer.store(), claim: self.writer.claim() };
            // Nobody sends anything any more: the time passes.
            keeper.finish(&to, LAST_TRIES, |pause| drop(inbox.recv_timeout(pause)));
        }
    }

    fn keep_answers(&mut self) {
        if let Some(keeper) = &mut self.keeper {
            keeper.write(&Target { store: self.writer.store(), claim: self.writer.claim() });
        }
    }

    /// Looks for requests in the store.
    fn look(&self) {
        // A store that refuses shows when a cut is written, and is told then.
        let Ok(waiting) = request::waiting(self.writer.store()) else { return };
        let mut state = lock(&self.state);
        state.asking.retain(|asker| matches!(asker, Asker::Here(_)));
        let State { asking, served, .. } = &mut *state;
        let is_served =
            |path: &String| served.iter().any(|s| matches!(s, Asker::Store(other) if other == path));
        asking.extend(waiting.into_iter().filter(|path| !is_served(path)).map(Asker::Store));
    }

    /// A cut is written, or has failed.
    fn done(&self, written: Result<Arc<Manifest>, SnapshotError>) {
        let (served, failed) = {
            let mut state = lock(&self.state);
            (std::mem::take(&mut state.served), state.failed)
        };
        match &written {
            Ok(manifest) => {
                tracing::info!(
                    snapshot = manifest.id,
                    documents = manifest.documents,
                    segments = manifest.segments.len(),
                    "snapshot written"
                );
                if failed > 0 {
                    tracing::warn!(snapshot = manifest.id, failed, "snapshots are written again");
                }
            }
            Err(error) if failed == 0 => tracing::error!(
                %error,
                "snapshot not written; the one before stays the newest, and more are tried until one is written"
            ),
            Err(error) => tracing::debug!(%error, failed, "snapshot not written"),
        }
        let outcome = written.as_ref().map(Arc::clone).map_err(ToString::to_string);
        for asker in served {
            match asker {
                // Who asked may have gone.
                Asker::Here(asker) => drop(asker.send(outcome.clone())),
                // One that cannot be removed is found, and served, again.
                Asker::Store(path) if written.is_ok() => drop(self.writer.store().delete(&path)),
                Asker::Store(_) => {}
            }
        }
        let now = Instant::now();
        let mut state = lock(&self.state);
        state.busy = false;
        state.failed = if written.is_ok() { 0 } else { failed.saturating_add(1) };
        if written.is_err() {
            let pause = RETRY.saturating_mul(1 << failed.min(10)).min(RETRY_MAX).min(self.interval);
            state.not_before = now + pause;
            state.next = state.next.min(state.not_before);
        }
        if state.last == Last::Begun {
            let again = written.is_err() && state.failed < LAST_TRIES;
            state.last = if again { Last::Wanted } else { Last::Done };
        }
    }
}
