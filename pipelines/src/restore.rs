//! What a run begins with: the newest snapshot, if there is one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use freshet_config::Snapshots as Configured;
use freshet_operators::clock;
use freshet_operators::index::shard::RestoredPart;
use freshet_operators::index::{IndexError, Time};
use freshet_operators::shard::Shards;
use freshet_operators::snapshot::{
    self, Loaded, Retention, Skipped, SnapshotError, Snapshots, Store, Writer,
};
use freshet_schemas::{Offset, Partition};

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
    let Some(Configured { store, interval, keep, keep_for }) = &setup.config.snapshots else {
        return Ok((Restored::default(), None));
    };
    let store = match setup.snapshots {
        SnapshotUse::Continue => Store::create(store)?,
        SnapshotUse::At(_) => Store::open(store)?,
        SnapshotUse::Newest => match Store::open(store) {
            Ok(store) => store,
            // Nobody has cut one yet.
            Err(_) => return Ok((Restored::default(), None)),
        },
        SnapshotUse::Nothing => return Ok((Restored::default(), None)),
    };
    let begun = Instant::now();
    let loaded = match &setup.snapshots {
        SnapshotUse::At(id) => Some(snapshot::load(&store, id, setup.segments(), setup.identity())?),
        SnapshotUse::Continue | SnapshotUse::Newest | SnapshotUse::Nothing => {
            let newest = snapshot::newest(&store, setup.segments(), setup.identity(), tell)?;
            if let Some(Loaded { manifest, .. }) = &newest {
                check_offsets(&manifest.id, &manifest.offsets, ends)?;
            }
            newest
        }
    };
    let (restored, unchanged) = match loaded {
        None => (Restored::default(), Vec::new()),
        Some(Loaded { manifest, unchanged, shards }) => {
            // Ticks to come are later, whatever the clock says.
            setup.clock.used(manifest.tick + 1);
            let seconds = begun.elapsed().as_secs_f64();
            tracing::info!(
                snapshot = manifest.id,
                documents = manifest.documents,
                seconds,
                "snapshot loaded"
            );
            let parts = Mutex::new(shards);
            (Restored { tick: manifest.tick, offsets: manifest.offsets, parts }, unchanged)
        }
    };
    if setup.snapshots != SnapshotUse::Continue {
        return Ok((restored, None));
    }
    let retention = Retention { keep: keep.get(), keep_for: *keep_for };
    let run = format!("{:x}", clock::now_us());
    let (spec, identity) = (Arc::clone(setup.segments()), setup.identity().clone());
    let writer = Writer::new(Arc::new(store), spec, identity, retention, run, unchanged);
    let snapshots = Snapshots::start(writer, workers, *interval);
    let snapshots = snapshots.map_err(|error| RunError::Failed(format!("cannot start a thread: {error}")))?;
    Ok((restored, Some(snapshots)))
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
    offsets: &BTreeMap<Partition, Offset>,
    ends: &BTreeMap<Partition, Offset>,
) -> Result<(), SnapshotError> {
    for (partition, next) in offsets {
        let end = ends.get(partition).copied().unwrap_or(0);
        if *next > end {
            return Err(SnapshotError::Unfit {
                id: id.to_owned(),
                differences: format!(
                    "it holds the documents topic up to offset {next} of partition {partition}, which ends at {end}: \
                     the topic was made anew"
                ),
            });
        }
    }
    Ok(())
}
