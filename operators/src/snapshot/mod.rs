//! Snapshots: consistent cuts of all shards, written while the pipeline runs, and read when it starts.
//!
//! ```text
//! Consume, on one worker ── a cut begins at tick t ─▶ Index, on every worker: all that is ≤ t applied, nothing later
//!                                                        │ frozen parts, next offsets at t
//!                                                        ▼
//! Snapshots: when every worker has delivered ─▶ thread: segments not yet written ─▶ removed ─▶ manifest, last
//! start: newest whole snapshot ─▶ shards · states of the upsert · statistics · offsets to read from
//! ```
//! `segments/shard=N/` holds what is shared by snapshots, and never changes; `snapshots/ID/` what belongs to one. A
//! snapshot is there when its manifest is. Files that no manifest names are removed when the next snapshot is whole.

mod load;
mod manifest;
mod store;
#[cfg(test)]
mod tests;
mod write;

pub use load::{Loaded, Skipped, documents, inspect, list, load, manifest, newest};
pub use manifest::{FORMAT, FileEntry, Identity, IndexEntry, Manifest, SegmentEntry, name, view};
pub use store::{Put, Store, Upload};
pub use write::{Cut, Retention, Writer};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use freshet_schemas::{Offset, Partition};

use crate::index::segment::table::TableError;
use crate::index::shard::PartCut;
use crate::index::{IndexError, Time};

/// Why a snapshot cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The store refused or is not there.
    #[error("{what}: {cause}; check that the store is there, writable and not full")]
    Store {
        /// What was tried, on which file.
        what: String,
        /// The cause.
        cause: String,
    },
    /// A file that is not what its manifest says.
    #[error("\"{path}\" {what}")]
    Broken {
        /// Its path in the store.
        path: String,
        /// What is wrong.
        what: String,
    },
    /// A segment that cannot be written or is none.
    #[error("\"{path}\": {source}")]
    Table {
        /// Its path in the store.
        path: String,
        /// What is wrong.
        source: TableError,
    },
    /// A snapshot of another configuration.
    #[error(
        "snapshot {id} does not fit the configuration: {differences}; change that back, or name another \
         snapshots.store to begin anew"
    )]
    Unfit {
        /// Its name.
        id: String,
        /// Keys, what the snapshot has, what the configuration says.
        differences: String,
    },
    /// Parts that make no shard.
    #[error("shard {shard}: {source}")]
    Shard {
        /// Its number.
        shard: u32,
        /// What is wrong.
        source: IndexError,
    },
}

/// What the workers have delivered of a cut.
struct Gathering {
    workers: usize,
    cut: Cut,
}

#[derive(Default)]
struct State {
    /// From the beginning of a cut until it is written.
    busy: bool,
    gathering: Option<Gathering>,
    /// Workers that have nothing left to do but this.
    ready: BTreeSet<usize>,
    /// The last one, cut when all of them are ready.
    last: Last,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Last {
    #[default]
    Early,
    Wanted,
    Begun,
    Done,
}

/// Brings the workers' parts of a cut together, and has them written by a thread of its own: one cut after the other.
pub struct Snapshots {
    state: Arc<Mutex<State>>,
    workers: usize,
    interval: Duration,
    next: Mutex<Instant>,
    jobs: Option<Sender<Cut>>,
    thread: Option<JoinHandle<()>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What stands behind these locks is whole between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Snapshots {
    /// Snapshots of so many workers, one every `interval`.
    ///
    /// # Errors
    /// The system refusing a thread.
    pub fn start(writer: Writer, workers: usize, interval: Duration) -> std::io::Result<Self> {
        let (jobs, inbox) = channel::<Cut>();
        let state = Arc::new(Mutex::new(State::default()));
        let done = Arc::clone(&state);
        let mut writer = writer;
        let write = move || {
            for cut in inbox {
                let tick = cut.tick;
                match writer.write(cut) {
                    Ok(manifest) => tracing::info!(
                        snapshot = manifest.id,
                        documents = manifest.documents,
                        segments = manifest.segments.len(),
                        "snapshot written"
                    ),
                    Err(error) => tracing::error!(
                        %error,
                        tick,
                        "snapshot not written; the one before stays the newest, and the next is tried as usual"
                    ),
                }
                let mut state = lock(&done);
                state.busy = false;
                if state.last == Last::Begun {
                    state.last = Last::Done;
                }
            }
        };
        let thread = std::thread::Builder::new().name("snapshots".into()).spawn(write)?;
        let next = Mutex::new(Instant::now() + interval);
        Ok(Self { state, workers, interval, next, jobs: Some(jobs), thread: Some(thread) })
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
        let mut next = lock(&self.next);
        let now = Instant::now();
        if state.busy || !(state.last == Last::Wanted || now >= *next) {
            return false;
        }
        state.busy = true;
        if state.last == Last::Wanted {
            state.last = Last::Begun;
        }
        *next = now + self.interval;
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
        } else if let Some(jobs) = &self.jobs {
            // The thread lives as long as the sender.
            let _ = jobs.send(gathering.cut);
        }
    }
}

impl Drop for Snapshots {
    /// Waits for the one being written.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been reported by its own hook.
            let _ = thread.join();
        }
    }
}
