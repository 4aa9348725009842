//! What every connector must do about transactions: records and progress are written both or neither.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use freshet_schemas::{AsOf, Offset, Record};

use super::contract::Fixture;
use super::testing::{LIMIT, Signal, placeless, read_all, record};
use super::{Batch, Connector, Entry, Progress, TransactionSink, Transactions};

/// Progress with open queries.
pub(super) fn progress(upto: Offset, open: &[Offset]) -> Progress {
    Progress { upto, open: open.iter().copied().collect(), as_of: AsOf::from([(0, upto * 2), (3, 7)]) }
}

pub(super) fn entry(topic: &str, record: Record) -> Entry {
    Entry { topic: topic.to_owned(), record, instead: None }
}

/// Waits until all that was sent is written, or fails with the reason.
pub(super) fn settle(sink: &TransactionSink, signal: &Signal) -> Result<(), String> {
    loop {
        let seen = signal.count();
        if let Some(error) = sink.failure() {
            return Err(error.to_string());
        }
        if sink.unsettled() == 0 {
            return Ok(());
        }
        signal.wait_beyond(seen);
    }
}

/// The records of a topic, once there are so many: brokers show what is committed a moment after they have said so.
fn values(connector: &dyn Connector, topic: &str, count: usize) -> Vec<Record> {
    let begun = Instant::now();
    loop {
        let read = read_all(connector, topic);
        if read.len() >= count || begun.elapsed() > LIMIT {
            return read.iter().map(placeless).collect();
        }
        std::thread::yield_now();
    }
}

pub(super) fn writes_records_with_progress(fixture: &impl Fixture) {
    let (queries, answers, letters) = (fixture.topic(1), fixture.topic(1), fixture.topic(1));
    let mut sent = Vec::new();
    let mut expected = BTreeMap::new();
    for round in 1..=3 {
        let connector = fixture.open();
        let (recovered, writer) = connector.transactions(&queries).unwrap();
        assert_eq!(recovered, expected, "round {round}");
        let transactions = Transactions::start(writer).unwrap();
        let signal = Signal::new();
        let mut sink = transactions.sink(signal.wake());
        for number in 0..5 {
            let answer = record(&format!("q-{round}-{number}"), r#"{"id":"x"}"#);
            let entries = vec![entry(&answers, answer.clone()), entry(&letters, answer.clone())];
            let at = round * 100 + number * 10;
            expected = BTreeMap::from([(0, progress(at, &[at - 9, at - 5, at - 1]))]);
            sink.send(Batch { entries, progress: expected.clone() });
            sent.push(answer);
        }
        settle(&sink, &signal).unwrap();
        assert_eq!(values(&*connector, &answers, sent.len()), sent);
        assert_eq!(values(&*connector, &letters, sent.len()), sent);
        assert_eq!(connector.committed(&queries).unwrap(), BTreeMap::from([(0, expected[&0].next())]));
    }
}

pub(super) fn a_writer_that_is_dropped_leaves_all_or_nothing(fixture: &impl Fixture) {
    let (queries, answers) = (fixture.topic(1), fixture.topic(1));
    let mut next = 0;
    for round in 0..20 {
        let connector = fixture.open();
        let (recovered, writer) = connector.transactions(&queries).unwrap();
        let committed = recovered.get(&0).map_or(0, |progress| progress.upto);
        let written = values(&*connector, &answers, usize::try_from(committed).unwrap());
        assert_eq!(written.len() as Offset, committed, "round {round}");
        assert!(committed <= next, "round {round}");
        next = committed;
        let transactions = Transactions::start(writer).unwrap();
        let signal = Signal::new();
        let mut sink = transactions.sink(signal.wake());
        for _ in 0..30 {
            let answer = record(&next.to_string(), &format!(r#"{{"id":"{next}"}}"#));
            next += 1;
            let progress = BTreeMap::from([(0, Progress::before(next))]);
            sink.send(Batch { entries: vec![entry(&answers, answer)], progress });
            if round % 3 == 0 {
                settle(&sink, &signal).unwrap();
            }
        }
    }
    let connector = fixture.open();
    connector.transactions(&queries).unwrap();
    let keys: Vec<Vec<u8>> =
        values(&*connector, &answers, 7 * 30).into_iter().map(|record| record.key.unwrap()).collect();
    let expected: Vec<Vec<u8>> = (0..keys.len()).map(|number| number.to_string().into_bytes()).collect();
    assert_eq!(keys, expected, "each once, in order");
    assert!(keys.len() >= 7 * 30);
}

pub(super) fn commits_without_progress_replace_it(fixture: &impl Fixture) {
    let (queries, documents) = (fixture.topic(1), fixture.topic(1));
    let connector = fixture.open();
    let (_, writer) = connector.transactions(&queries).unwrap();
    let transactions = Transactions::start(writer).unwrap();
    let signal = Signal::new();
    let mut sink = transactions.sink(signal.wake());
    sink.send(Batch { entries: Vec::new(), progress: BTreeMap::from([(0, progress(50, &[41]))]) });
    settle(&sink, &signal).unwrap();
    connector.commit(&documents, &BTreeMap::from([(0, 5)])).unwrap();
    assert_eq!(connector.committed(&documents).unwrap(), BTreeMap::from([(0, 5)]));
    drop(transactions);
    let (recovered, _) = fixture.open().transactions(&queries).unwrap();
    assert_eq!(recovered, BTreeMap::from([(0, progress(50, &[41]))]), "commits of another topic leave it");
    connector.commit(&queries, &BTreeMap::from([(0, 60)])).unwrap();
    assert_eq!(connector.committed(&queries).unwrap(), BTreeMap::from([(0, 60)]));
    let (recovered, _) = fixture.open().transactions(&queries).unwrap();
    assert_eq!(recovered, BTreeMap::from([(0, Progress::before(60))]));
}

pub(super) fn many_workers_write_in_order(fixture: &impl Fixture) {
    let (queries, answers) = (fixture.topic(3), fixture.topic(1));
    let connector = fixture.open();
    let partitions: Vec<i32> = connector.end_offsets(&queries).unwrap().into_keys().collect();
    let (_, writer) = connector.transactions(&queries).unwrap();
    let transactions = Transactions::start(writer).unwrap();
    let count = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for partition in &partitions {
            let (transactions, answers, count) = (&transactions, &answers, &count);
            scope.spawn(move || {
                let signal = Signal::new();
                let mut sink = transactions.sink(signal.wake());
                for number in 1..=100 {
                    while sink.room() == 0 {
                        signal.wait_beyond(signal.count());
                    }
                    let answer = record(&partition.to_string(), &number.to_string());
                    let progress = BTreeMap::from([(*partition, Progress::before(number))]);
                    sink.send(Batch { entries: vec![entry(answers, answer)], progress });
                    count.fetch_add(1, Ordering::Relaxed);
                }
                settle(&sink, &signal).unwrap();
            });
        }
    });
    let count = count.into_inner();
    let written = values(&*connector, &answers, count);
    assert_eq!(written.len(), count);
    for partition in &partitions {
        let key = partition.to_string().into_bytes();
        let of = written.iter().filter(|record| record.key.as_deref() == Some(&key));
        let numbers: Vec<String> =
            of.map(|record| String::from_utf8(record.value.clone().unwrap()).unwrap()).collect();
        assert!(numbers.iter().cloned().eq((1..=100).map(|number| number.to_string())), "{numbers:?}");
    }
    let keys: BTreeSet<_> = written.iter().map(|record| record.key.clone()).collect();
    assert_eq!(keys.len(), partitions.len());
    let committed = Arc::clone(&connector).committed(&queries).unwrap();
    assert!(committed.values().all(|next| *next == 100) && committed.len() == partitions.len());
}
