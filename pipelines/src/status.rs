//! Where a run stands, for those who watch it from outside the dataflow.

use std::collections::BTreeMap;

use freshet_schemas::{Offset, Partition};
use tokio::sync::watch;

/// How far a run has come; phases only go forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Topics are looked at, and earlier runs ended.
    Starting,
    /// A snapshot is read.
    Restoring,
    /// What was restored goes into the statistics.
    Applying,
    /// Queries are answered.
    Ready,
    /// No more queries; those in flight are answered.
    Ending,
}

impl Phase {
    /// Why queries are not answered; `None` when they are.
    pub fn obstacle(self) -> Option<&'static str> {
        match self {
            Self::Starting => Some("starting: the topics are being opened"),
            Self::Restoring => Some("restoring: the newest snapshot is being read"),
            Self::Applying => Some("applying: the first cut of the documents is not in the indexes yet"),
            Self::Ready => None,
            Self::Ending => Some("ending: the pipeline takes no more queries"),
        }
    }
}

/// Next offsets by partition.
pub type Offsets = BTreeMap<Partition, Offset>;

/// Written by the run, watched by others.
#[derive(Debug)]
pub struct Status {
    phase: watch::Sender<Phase>,
    indexed: watch::Sender<Offsets>,
}

impl Default for Status {
    fn default() -> Self {
        Self { phase: watch::Sender::new(Phase::Starting), indexed: watch::Sender::default() }
    }
}

impl Status {
    /// The run has come so far.
    pub fn reached(&self, phase: Phase) {
        self.phase.send_if_modified(|now| {
            let further = phase > *now;
            *now = phase.max(*now);
            further
        });
    }

    /// Where the run stands.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Where the run stands, now and as it goes on.
    pub fn watch_phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Documents before these offsets are in the indexes of every worker.
    pub fn indexed(&self, next: &Offsets) {
        self.indexed.send_if_modified(|now| {
            let mut moved = false;
            for (partition, next) in next {
                moved |= now.insert(*partition, *next) != Some(*next);
            }
            moved
        });
    }

    /// Documents before these offsets are in the indexes, now and as they come.
    pub fn watch_indexed(&self) -> watch::Receiver<Offsets> {
        self.indexed.subscribe()
    }
}

/// Whether everything before `wanted` is in the indexes. Partitions without records need nothing.
pub fn covers(indexed: &Offsets, wanted: &Offsets) -> bool {
    wanted.iter().all(|(partition, next)| *next <= 0 || indexed.get(partition).is_some_and(|n| n >= next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_only_go_forward() {
        let status = Status::default();
        assert!(status.phase().obstacle().is_some_and(|why| why.contains("starting")));
        status.reached(Phase::Ready);
        status.reached(Phase::Applying);
        assert_eq!(status.phase().obstacle(), None);
        status.reached(Phase::Ending);
        status.reached(Phase::Ready);
        assert!(status.phase().obstacle().is_some());
    }

    #[test]
    fn offsets_are_covered_once_all_partitions_are() {
        let status = Status::default();
        let watch = status.watch_indexed();
        let wanted = Offsets::from([(0, 3), (1, 1), (2, 0)]);
        status.indexed(&Offsets::from([(0, 5)]));
        assert!(!covers(&watch.borrow(), &wanted));
        status.indexed(&Offsets::from([(1, 1)]));
        assert!(covers(&watch.borrow(), &wanted));
    }
}
