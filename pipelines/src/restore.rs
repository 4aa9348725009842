//! What a run begins with: the newest snapshot, if there is one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use freshet_config::Snapshots as Configured;
use freshet_operators::index::shard::RestoredPart;
use freshet_operators::index::{IndexError, Time};
use freshet_operators::shard::Shards;
use freshet_operators::snapshot::{
    self, Claim, Loaded, Retention, SegmentEntry, Skipped, SnapshotError, Snapshots, Store, Writer,
};
use freshet_schemas::{DocumentTopics, Offset, Partition};

use crate::run::RunError;
use crate::setup::Setup;

/// What a run does with snapshots, where they are configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SnapshotUse {
    /// Begins with the newest one, and cuts others.
    #[default]
    Continue,
    /// Begins with the newest one, and leaves the store as it is.
    Newest,
    /// Begins with this one, whatever the topics hold, and leaves the store as it is.
    At(String),
    /// Nothing.
    Nothing,
}

/// A snapshot in memory, taken apart by the workers.
#[derive(Default)]
pub(crate) struct Restored {
    tick: Time,
    /// Next offsets of the documents topic.
    pub(crate) offsets: BTreeMap<Partition, Offset>,
    parts: Mutex<BTreeMap<u32, Vec<RestoredPart>>>,
}

impl Restored {
    /// The shards of a worker.
    pub(crate) fn shards(&self, setup: &Setup, index: usize, peers: usize) -> Result<Shards, IndexError> {
        let mut shards = setup.shards();
        let own: BTreeMap<u32, Vec<RestoredPart>> = {
            let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
            let numbers: Vec<u32> =
                parts.keys().copied().filter(|&shard| shard as usize % peers == index).collect();
            numbers.into_iter().filter_map(|number| Some((number, parts.remove(&number)?))).collect()
        };
        for (shard, parts) in own {
            shards.restore(shard, self.tick, parts)?;
        }
        Ok(shards)
    }
}

/// Reads the newest snapshot, and starts what writes the next ones; nothing if none are configured.
///
/// # Errors
/// A store that is not there, a snapshot of another configuration, or one that is ahead of the topic.
pub(crate) fn restore(
    setup: &Setup,
    workers: usize,
    ends: &BTreeMap<Partition, Offset>,
) -> Result<(Restored, Option<Snapshots>), RunError> {
    let Some(configured) = &setup.config.snapshots else {
        return Ok((Restored::default(), None));
    };
    match setup.snapshots {
        SnapshotUse::Nothing => Ok((Restored::default(), None)),
        SnapshotUse::Continue => begin(setup, configured, workers, ends).map_err(|error| match error {
            RunError::Snapshot(error @ SnapshotError::Store { .. }) => RunError::Store(error),
            error @ (RunError::Connect(_)
            | RunError::Failed(_)
            | RunError::Snapshot(_)
            | RunError::Store(_)) => error,
        }),
        SnapshotUse::At(_) => {
            let store = Store::open(&configured.store, &configured.options)?;
            Ok((load(setup, &store, ends)?.0, None))
        }
        SnapshotUse::Newest => {
            let store = Store::open(&configured.store, &configured.options);
            let loaded = store.map_err(RunError::from).and_then(|store| load(setup, &store, ends));
            match loaded {
                Ok((restored, _)) => Ok((restored, None)),
                // Nothing is lost by it but time, and nobody is surprised by what is told.
                Err(RunError::Snapshot(error @ SnapshotError::Store { .. })) => {
                    tracing::warn!(%error, "no snapshot is used: all documents are read from the topic");
                    Ok((Restored::default(), None))
                }
                Err(error) => Err(error),
            }
        }
    }
}

/// Begins with the newest snapshot, as the one run that writes to the store.
fn begin(
    setup: &Setup,
    Configured { store, options, interval, keep, keep_for, answers }: &Configured,
    workers: usize,
    ends: &BTreeMap<Partition, Offset>,
) -> Result<(Restored, Option<Snapshots>), RunError> {
    let store = Store::create(store, options)?;
    // A run that cannot go on here leaves the store to whom it belongs.
    snapshot::fits(&store, setup.identity())?;
    let claim = Claim::take(&store, &setup.config.pipeline.name)?;
    let (restored, written) = load(setup, &store, ends)?;
    let retention = Retention { keep: keep.get(), keep_for: *keep_for };
    let (spec, identity) = (Arc::clone(setup.segments()), setup.identity().clone());
    let writer = Writer::new(Arc::new(store), spec, identity, retention, claim, written);
    let snapshots = Snapshots::start(writer, workers, *interval, *answers, setup.snapshot_metrics.clone());
    let snapshots = snapshots.map_err(|error| RunError::Failed(format!("cannot start a thread: {error}")))?;
    Ok((restored, Some(snapshots)))
}

/// Reads the snapshot that is wanted; its segments, too, as the store has them.
fn load(
    setup: &Setup,
    store: &Store,
    ends: &BTreeMap<Partition, Offset>,
) -> Result<(Restored, Vec<SegmentEntry>), RunError> {
    let begun = Instant::now();
    let loaded = match &setup.snapshots {
        SnapshotUse::At(id) => Some(snapshot::load(store, id, setup.segments(), setup.identity())?),
        SnapshotUse::Continue | SnapshotUse::Newest | SnapshotUse::Nothing => {
            let newest = snapshot::newest(store, setup.segments(), setup.identity(), tell)?;
            if let Some(Loaded { manifest, .. }) = &newest {
                check_offsets(&manifest.id, &setup.config.topics.documents, &manifest.offsets, ends)?;
            }
            newest
        }
    };
    match loaded {
        None => Ok((Restored::default(), Vec::new())),
        Some(Loaded { manifest, shards }) => {
            // Ticks to come are later, whatever the clock says.
            setup.clock.used(manifest.tick + 1);
            let seconds = begun.elapsed().as_secs_f64();
            setup.snapshot_metrics.restored(&manifest, seconds);
            tracing::info!(
                snapshot = manifest.id,
                documents = manifest.documents,
                seconds,
                "snapshot loaded"
            );
            let parts = Mutex::new(shards);
            Ok((Restored { tick: manifest.tick, offsets: manifest.offsets, parts }, manifest.segments))
        }
    }
}
fn tell(skipped: Skipped) {
    tracing::warn!(
        snapshot = skipped.id,
        error = %skipped.error,
        "snapshot is not whole and is left out; trying the one before"
    );
}

/// A topic that ends before what a snapshot holds is not the one it was made of.
fn check_offsets(
    id: &str,
    topics: &DocumentTopics,
    offsets: &BTreeMap<Partition, Offset>,
    ends: &BTreeMap<Partition, Offset>,
) -> Result<(), SnapshotError> {
    for (partition, next) in offsets {
        let end = ends.get(partition).copied().unwrap_or(0);
        if *next > end {
            let (topic, partition) = topics.name(*partition);
            return Err(SnapshotError::Unfit {
                id: id.to_owned(),
                differences: format!(
                    "it holds the documents topic {topic} up to offset {next} of partition {partition}, which ends at \
                     {end}: the topic was made anew"
                ),
            });
        }
    }
    Ok(())
}
