//! Records that wait for their schemas.

use std::collections::{BTreeMap, VecDeque};

use freshet_schemas::{Offset, Partition, Record, RecordSchemas};

use super::ReadRecord;

/// Records that are held back before nothing more is read.
pub const HELD_RECORDS_MAX: usize = 4096;
/// Bytes of them.
pub const HELD_BYTES_MAX: usize = 4 << 20;

/// What is held back. Invariant: no queue is empty; the sums are those of the queues.
#[derive(Default)]
pub(super) struct Hold {
    queues: BTreeMap<Partition, VecDeque<Record>>,
    records: usize,
    bytes: usize,
}

/// The schemas of a record, once all of them are known.
type Find<'a> = &'a mut dyn FnMut(&Record) -> Option<RecordSchemas>;

impl Hold {
    pub(super) fn is_full(&self) -> bool {
        self.records >= HELD_RECORDS_MAX || self.bytes >= HELD_BYTES_MAX
    }

    /// Takes out what has its schemas by now: at most so many records and, beyond the first, so many bytes.
    pub(super) fn release(
        &mut self,
        records_max: usize,
        bytes_max: usize,
        find: Find<'_>,
    ) -> Vec<ReadRecord> {
        let (mut released, mut bytes) = (Vec::new(), 0);
        for queue in self.queues.values_mut() {
            while let Some(record) = queue.front() {
                let size = record.size_bytes();
                let fits = released.is_empty() || bytes + size <= bytes_max;
                if released.len() >= records_max || !fits {
                    break;
                }
                let Some(schemas) = find(record) else { break };
                bytes += size;
                released.extend(queue.pop_front().map(|record| ReadRecord { record, schemas }));
            }
        }
        self.queues.retain(|_, queue| !queue.is_empty());
        self.records -= released.len();
        self.bytes -= bytes;
        released
    }

    /// What of newly read records goes on at once; the rest is held back.
    pub(super) fn pass(&mut self, records: Vec<Record>, find: Find<'_>) -> Vec<ReadRecord> {
        let mut passed = Vec::with_capacity(records.len());
        for record in records {
            if !self.queues.contains_key(&record.partition)
                && let Some(schemas) = find(&record)
            {
                passed.push(ReadRecord { record, schemas });
            } else {
                self.records += 1;
                self.bytes += record.size_bytes();
                self.queues.entry(record.partition).or_default().push_back(record);
            }
        }
        passed
    }

    /// Positions as the source has them, but before what is held back.
    pub(super) fn positions(&self, mut read: BTreeMap<Partition, Offset>) -> BTreeMap<Partition, Offset> {
        for (partition, queue) in &self.queues {
            if let Some(first) = queue.front() {
                read.insert(*partition, first.offset);
            }
        }
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(partition: Partition, offset: Offset, waits: bool) -> Record {
        let value = Some(if waits { b"wait".to_vec() } else { b"go".to_vec() });
        Record { partition, offset, value, ..Record::default() }
    }

    fn places(records: &[ReadRecord]) -> Vec<(Partition, Offset)> {
        records.iter().map(|read| (read.record.partition, read.record.offset)).collect()
    }

    #[test]
    fn a_record_that_waits_holds_back_its_partition_and_no_other() {
        let mut hold = Hold::default();
        let mut find =
            |record: &Record| (record.value.as_deref() == Some(b"go")).then(RecordSchemas::default);
        let read = vec![record(0, 5, false), record(0, 6, true), record(1, 1, false), record(0, 7, false)];
        assert_eq!(places(&hold.pass(read, &mut find)), [(0, 5), (1, 1)]);
        let positions = BTreeMap::from([(0, 8), (1, 2), (2, 4)]);
        assert_eq!(hold.positions(positions.clone()), BTreeMap::from([(0, 6), (1, 2), (2, 4)]));
        assert!(hold.release(9, 99, &mut find).is_empty());
        assert_eq!(places(&hold.pass(vec![record(0, 8, false), record(1, 2, false)], &mut find)), [(1, 2)]);
        // Found: in order, within the room.
        let mut all = |_: &Record| Some(RecordSchemas::default());
        assert!(hold.release(0, 99, &mut all).is_empty());
        assert_eq!(places(&hold.release(2, 99, &mut all)), [(0, 6), (0, 7)]);
        assert_eq!(hold.positions(positions.clone())[&0], 8);
        assert_eq!(places(&hold.release(9, 0, &mut all)), [(0, 8)]);
        assert_eq!(hold.positions(positions.clone()), positions);
        assert_eq!((hold.records, hold.bytes), (0, 0));
    }

    #[test]
    fn what_is_held_back_is_bounded() {
        let mut hold = Hold::default();
        let mut none = |_: &Record| None;
        let offsets = 0..i64::try_from(HELD_RECORDS_MAX).unwrap();
        hold.pass(offsets.map(|offset| record(0, offset, true)).collect(), &mut none);
        assert!(hold.is_full());
        let mut all = |_: &Record| Some(RecordSchemas::default());
        hold.release(1, 99, &mut all);
        assert!(!hold.is_full());
        let value = Some(vec![0; HELD_BYTES_MAX]);
        hold.pass(vec![Record { value, ..Record::default() }], &mut none);
        assert!(hold.is_full());
    }
}
