//! Which queries are answered: what may be committed.

use std::collections::{BTreeMap, BTreeSet};

use freshet_schemas::{AsOf, Offset, Partition};

use crate::connect::{Progress, raise};

/// Kafka keeps 4,096 bytes beside an offset unless told otherwise.
const METADATA_BYTES_MAX: usize = 3500;
/// Most bytes of one more open query, barring gaps between offsets of more than 99,999.
const OPEN_BYTES: usize = 6;

/// Offsets of queries read and not settled. A query is settled when its answer, or its dead letter, is written, or is
/// handed over to be written in one transaction with the progress that says so.
#[derive(Debug, Default)]
pub struct Offsets {
    partitions: BTreeMap<Partition, Open>,
    /// What answers have reflected.
    as_of: AsOf,
    /// Whether the progress is kept beside the committed offsets, and must fit there.
    kept: bool,
    /// Whether it has been said that it does not.
    told: bool,
}

/// One partition.
#[derive(Debug, Default)]
struct Open {
    /// Read and not settled.
    read: BTreeSet<Offset>,
    /// Not settled by an earlier run, and not read yet by this one.
    left: BTreeSet<Offset>,
    /// Everything before it has been read, by this run or an earlier one.
    upto: Offset,
    /// Where this run's reading has come to.
    position: Offset,
}

impl Open {
    fn next(&self) -> Offset {
        let first = self.read.first().into_iter().chain(self.left.first()).min();
        first.copied().unwrap_or(self.upto)
    }
}

impl Offsets {
    /// Goes on where an earlier run ended.
    pub fn resume(progress: &BTreeMap<Partition, Progress>, as_of: &AsOf) -> Self {
        let open = |progress: &Progress| Open {
            left: progress.open.clone(),
            upto: progress.upto,
            position: progress.next(),
            read: BTreeSet::new(),
        };
        let partitions = progress.iter().map(|(partition, progress)| (*partition, open(progress)));
        Self { partitions: partitions.collect(), as_of: as_of.clone(), kept: true, told: false }
    }

    /// A query has been read. Returns whether it is to be answered: not if an earlier run has.
    #[must_use = "queries that are answered already must not be answered again"]
    pub fn read(&mut self, partition: Partition, offset: Offset) -> bool {
        let open = self.partitions.entry(partition).or_default();
        let answered = offset < open.upto && offset >= open.position && !open.left.remove(&offset);
        if !answered {
            open.read.insert(offset);
        }
        !answered
    }

    /// Everything before these offsets has been read.
    pub fn advance(&mut self, positions: &BTreeMap<Partition, Offset>) {
        for (partition, position) in positions {
            let open = self.partitions.entry(*partition).or_default();
            open.position = *position;
            open.upto = open.upto.max(*position);
            // What was left and has not come is gone from the topic.
            open.left = open.left.split_off(position);
        }
    }

    /// The query's answer is written.
    pub fn settle(&mut self, partition: Partition, offset: Offset) {
        if let Some(open) = self.partitions.get_mut(&partition) {
            open.read.remove(&offset);
        }
    }

    /// An answer reflects these documents.
    pub fn reflect(&mut self, as_of: &AsOf) {
        raise(&mut self.as_of, as_of);
    }

    /// Queries read and not settled.
    pub fn in_flight(&self) -> usize {
        self.partitions.values().map(|open| open.read.len()).sum()
    }

    /// Next offsets such that every query before them is settled.
    pub fn committable(&self) -> BTreeMap<Partition, Offset> {
        self.partitions.iter().map(|(partition, open)| (*partition, open.next())).collect()
    }

    /// How far each partition is answered.
    pub fn progress(&self) -> BTreeMap<Partition, Progress> {
        let of = |open: &Open| Progress {
            upto: open.upto,
            open: open.read.union(&open.left).copied().collect(),
            as_of: self.as_of.clone(),
        };
        self.partitions.iter().map(|(partition, open)| (*partition, of(open))).collect()
    }

    /// How many queries may be read such that the progress still fits beside an offset. Where it does not fit even though
    /// no query is open, they go one by one: brokers may keep more than they do by default, and say so if they do not.
    pub fn room(&mut self) -> usize {
        if !self.kept {
            return usize::MAX;
        }
        let lengths = self.progress().into_values().map(|progress| progress.to_metadata().len());
        let length = lengths.max().unwrap_or(0);
        let room = METADATA_BYTES_MAX.saturating_sub(length) / OPEN_BYTES;
        if room > 0 || self.in_flight() > 0 {
            return room;
        }
        if !std::mem::replace(&mut self.told, true) {
            tracing::warn!(
                bytes = length,
                partitions = self.as_of.len(),
                "the progress of queries fills the metadata of an offset, so they are answered one by one; use fewer \
                 partitions for documents, or queries.delivery = \"at_least_once\""
            );
        }
        1
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
        assert!((3..6).all(|offset| offsets.read(0, offset)));
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

    /// Runs that each answer some of the queries they read and end: every query is to be answered once.
    #[test]
    fn runs_that_go_on_answer_every_query_once() {
        let mut answered = Vec::new();
        let mut progress = BTreeMap::from([(0, Progress::before(10))]);
        let runs: [(i64, &[i64]); 4] =
            [(30, &[11, 12, 29]), (15, &[14, 10]), (30, &[13, 20]), (40, &[39, 15])];
        for (upto, answers) in runs {
            let mut offsets = Offsets::resume(&progress, &AsOf::new());
            assert_eq!(offsets.progress(), progress, "a run that does nothing leaves it as it is");
            let start = progress[&0].next();
            let read: Vec<i64> = (start..upto).filter(|offset| offsets.read(0, *offset)).collect();
            assert!(read.iter().all(|offset| !answered.contains(offset)), "{read:?} after {answered:?}");
            offsets.advance(&BTreeMap::from([(0, upto)]));
            for offset in answers {
                assert!(read.contains(offset), "{offset} is not read");
                offsets.settle(0, *offset);
                answered.push(*offset);
            }
            progress = offsets.progress();
            let metadata = progress[&0].to_metadata();
            assert_eq!(Progress::from_metadata(progress[&0].next(), &metadata).as_ref(), Ok(&progress[&0]));
        }
        assert!((10..40).all(|offset| progress[&0].is_answered(offset) == answered.contains(&offset)));
    }

    #[test]
    fn queries_that_left_the_topic_are_waited_for_no_more() {
        let progress = Progress { upto: 9, open: BTreeSet::from([3, 5, 8]), as_of: AsOf::new() };
        let mut offsets = Offsets::resume(&BTreeMap::from([(0, progress)]), &AsOf::new());
        assert!(offsets.read(0, 8));
        offsets.advance(&BTreeMap::from([(0, 9)]));
        offsets.settle(0, 8);
        assert_eq!(offsets.committable(), BTreeMap::from([(0, 9)]));
    }

    #[test]
    fn there_is_no_room_for_more_open_queries_than_fit_beside_an_offset() {
        let mut offsets = Offsets::resume(&BTreeMap::new(), &AsOf::new());
        let mut next = 0;
        while offsets.room() > 0 {
            for _ in 0..offsets.room() {
                next += 90_000;
                assert!(offsets.read(0, next));
            }
            offsets.advance(&BTreeMap::from([(0, next + 1)]));
        }
        let length = offsets.progress()[&0].to_metadata().len();
        assert!((METADATA_BYTES_MAX - OPEN_BYTES..4096).contains(&length), "{length}");
        assert!(offsets.in_flight() > 256);
    }

    #[test]
    fn queries_go_one_by_one_where_the_partitions_of_documents_fill_the_metadata() {
        let as_of = (0..1000).map(|partition| (partition, 1_000_000_000_000)).collect();
        let mut offsets = Offsets::resume(&BTreeMap::from([(0, Progress::before(5))]), &as_of);
        for query in 5..8 {
            assert_eq!(offsets.room(), 1);
            assert!(offsets.read(0, query));
            assert_eq!(offsets.room(), 0);
            offsets.settle(0, query);
        }
    }
}
