//! Which queries are answered: what may be committed.

use std::collections::{BTreeMap, BTreeSet};

use freshet_schemas::{Offset, Partition};

/// Offsets of queries read and not settled. A query is settled when its answer, or its dead letter, is written.
#[derive(Debug, Default)]
pub struct Offsets {
    open: BTreeMap<Partition, BTreeSet<Offset>>,
    next: BTreeMap<Partition, Offset>,
}

impl Offsets {
    /// A query has been read.
    pub fn read(&mut self, partition: Partition, offset: Offset) {
        self.open.entry(partition).or_default().insert(offset);
    }

    /// Everything before these offsets has been read.
    pub fn advance(&mut self, positions: &BTreeMap<Partition, Offset>) {
        self.next.extend(positions);
    }

    /// The query's answer is written.
    pub fn settle(&mut self, partition: Partition, offset: Offset) {
        if let Some(open) = self.open.get_mut(&partition) {
            open.remove(&offset);
        }
    }

    /// Queries read and not settled.
    pub fn in_flight(&self) -> usize {
        self.open.values().map(BTreeSet::len).sum()
    }

    /// Next offsets such that every query before them is settled.
    pub fn committable(&self) -> BTreeMap<Partition, Offset> {
        let first_open =
            |partition: &Partition| self.open.get(partition).and_then(|open| open.first()).copied();
        self.next
            .iter()
            .map(|(&partition, &next)| (partition, first_open(&partition).unwrap_or(next)))
            .collect()
    }

    /// Whether every query before these offsets is settled.
    pub fn reached(&self, targets: &BTreeMap<Partition, Offset>) -> bool {
        let done = self.committable();
        targets
            .iter()
            .all(|(partition, target)| *target == 0 || done.get(partition).is_some_and(|next| next >= target))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_stop_before_the_first_open_query() {
        let mut offsets = Offsets::default();
        (3..6).for_each(|offset| offsets.read(0, offset));
        offsets.advance(&BTreeMap::from([(0, 6)]));
        offsets.settle(0, 4);
        assert_eq!(offsets.committable(), BTreeMap::from([(0, 3)]));
        offsets.settle(0, 3);
        assert_eq!(offsets.committable(), BTreeMap::from([(0, 5)]));
        assert!(!offsets.reached(&BTreeMap::from([(0, 6)])));
        offsets.settle(0, 5);
        assert!(offsets.reached(&BTreeMap::from([(0, 6)])));
        assert_eq!(offsets.in_flight(), 0);
    }
}
