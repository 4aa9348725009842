//! Topics in memory.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::contract::{Fixture, contract};
use super::super::testing::{LIMIT, Reader, Signal, read_all, record, write};
use super::*;

#[derive(Default)]
struct InMemory {
    memory: Memory,
    topics: AtomicUsize,
}

impl Fixture for InMemory {
    fn open(&self) -> Arc<dyn Connector> {
        Arc::new(self.memory.clone())
    }

    fn topic(&self, partitions: usize) -> String {
        let name = format!("topic-{}", self.topics.fetch_add(1, Ordering::Relaxed));
        self.memory.create(&name, partitions);
        name
    }
}

contract!(Some(InMemory::default()));

#[test]
fn partitions_that_come_later_are_read_by_those_who_follow() {
    let memory = Memory::new();
    memory.create("t", 1);
    memory.produce("t", 0, record("a", "1"));
    let shares = [0, 1].map(|index| Share { index, peers: 2 });
    let mut readers = shares.map(|share| Reader::follow(&memory, "t", share, &BTreeMap::new()));
    assert_eq!(readers[0].read_to(&BTreeMap::from([(0, 1)])).len(), 1);
    assert_eq!(readers[1].source.poll(10, 1000).unwrap().positions, BTreeMap::new());
    for partition in 1..4 {
        memory.produce("t", partition, record("b", "2"));
    }
    let read = readers[1].read_to(&BTreeMap::from([(1, 1), (3, 1)]));
    assert_eq!(read.iter().map(|record| record.partition).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(readers[0].read_to(&BTreeMap::from([(0, 1), (2, 1)])).len(), 1);
}

#[test]
fn holds_and_releases() {
    let memory = Memory::new();
    memory.produce("t", 1, record("a", "{}"));
    memory.produce("t", 1, record("b", "{}"));
    memory.hold("t", 1, 1);
    let signal = Signal::new();
    let mut source = memory.source("t", &[0, 1], &BTreeMap::new(), signal.wake()).unwrap();
    let polled = source.poll(10, 1000).unwrap();
    assert_eq!(polled.records.len(), 1);
    assert_eq!(polled.positions, BTreeMap::from([(0, 0), (1, 1)]));
    assert_eq!(memory.end_offsets("t").unwrap(), BTreeMap::from([(0, 0), (1, 2)]));
    let seen = signal.count();
    memory.release("t", 1);
    signal.wait_beyond(seen);
    assert_eq!(source.poll(10, 1000).unwrap().records.len(), 1);
}

#[test]
fn waits_for_records_and_commits() {
    let memory = Memory::new();
    let other = memory.clone();
    let writing = std::thread::spawn(move || {
        write(&other, "t", [record("a", "1"), record("b", "2")]);
        other.commit("t", &BTreeMap::from([(0, 2)])).unwrap();
    });
    assert_eq!(memory.wait_for("t", 2, LIMIT), read_all(&memory, "t"));
    assert!(memory.wait_until(LIMIT, |memory| memory.committed("t").unwrap().get(&0) == Some(&2)));
    assert!(!memory.wait_until(Duration::from_millis(1), |memory| memory.len("t") > 2));
    writing.join().unwrap();
}

#[test]
fn a_dropped_source_is_woken_no_more() {
    let memory = Memory::new();
    let signal = Signal::new();
    drop(memory.source("t", &[], &BTreeMap::new(), signal.wake()).unwrap());
    let seen = signal.count();
    memory.produce("t", 0, record("a", "1"));
    assert_eq!(signal.count(), seen);
}

#[test]
fn turns_keep_partitions_from_starving() {
    let memory = Memory::new();
    for partition in 0..3 {
        memory.produce("t", partition, record("k", "1"));
        memory.produce("t", partition, record("k", "2"));
    }
    let mut source = memory.source("t", &[0, 1, 2], &BTreeMap::new(), Signal::new().wake()).unwrap();
    let mut turn = || source.poll(1, 1000).unwrap().records[0].partition;
    assert_eq!([turn(), turn(), turn(), turn(), turn(), turn()], [0, 1, 2, 0, 1, 2]);
}
