//! What every connector must do: one suite, run against memory, files and a real Kafka broker.
//!
//! A connector's tests name a fixture and expand [`contract!`], which makes one test of each check.

use std::collections::BTreeMap;
use std::sync::Arc;

use freshet_schemas::{Offset, Partition, Record};

use super::testing::{Reader, Signal, Writer, placeless, read_all, record, write};
use super::{Connector, Share};

/// A system of topics that can be opened again.
pub(super) trait Fixture {
    /// Opens the system; later calls find what earlier ones left.
    fn open(&self) -> Arc<dyn Connector>;
    /// Name of a topic with this many partitions (or 1, where more cannot be had), empty at first.
    fn topic(&self, partitions: usize) -> String;
}

/// One test per check; `$fixture` is an expression of type `Option<impl Fixture>`, `None` skips.
macro_rules! contract {
    ($fixture:expr) => {
        crate::connect::contract::contract!(@ $fixture;
            keeps_order_and_numbers_records, keeps_every_byte, keeps_large_records, polls_within_bounds,
            resumes_from_committed, starts_anywhere, commits_of_topics_are_apart, wakes_for_new_records,
            reads_with_many_sources, reads_no_partitions, shares_are_disjoint_and_whole, settles_every_token_once, bounds_unsettled_tokens,
            follows_while_written, topics_are_removed_and_made_anew);
        crate::connect::contract::contract!(@ $fixture;
            writes_records_with_progress, a_writer_that_is_dropped_leaves_all_or_nothing,
            commits_without_progress_replace_it, many_workers_write_in_order);
    };
    (@ $fixture:expr; $($check:ident),* $(,)?) => {
        $(#[test]
        fn $check() {
            if let Some(fixture) = $fixture {
                crate::connect::contract::$check(&fixture);
            }
        })*
    };
}
pub(super) use contract;

pub(super) use super::contract_transactions::*;

fn numbered(count: usize) -> impl Iterator<Item = Record> {
    (0..count).map(|n| record(&format!("key-{}", n % 7), &format!(r#"{{"id":"key-{}","n":{n}}}"#, n % 7)))
}

fn by_partition(records: &[Record]) -> BTreeMap<Partition, Vec<Record>> {
    let mut parts: BTreeMap<Partition, Vec<Record>> = BTreeMap::new();
    for record in records {
        parts.entry(record.partition).or_default().push(record.clone());
    }
    parts
}

fn by_key(records: &[Record]) -> BTreeMap<Option<Vec<u8>>, Vec<Record>> {
    let mut keys: BTreeMap<Option<Vec<u8>>, Vec<Record>> = BTreeMap::new();
    for record in records {
        keys.entry(record.key.clone()).or_default().push(placeless(record));
    }
    keys
}

pub(super) fn keeps_order_and_numbers_records(fixture: &impl Fixture) {
    let connector = fixture.open();
    let topic = fixture.topic(3);
    let empty = connector.end_offsets(&topic).unwrap();
    assert!(!empty.is_empty() && empty.values().all(|end| *end == 0), "{empty:?}");
    let sent: Vec<Record> = numbered(500).collect();
    write(&*connector, &topic, sent.clone());
    let read = read_all(&*connector, &topic);
    assert_eq!(by_key(&read), by_key(&sent));
    let ends = connector.end_offsets(&topic).unwrap();
    for (partition, records) in by_partition(&read) {
        let offsets: Vec<Offset> = records.iter().map(|record| record.offset).collect();
        assert_eq!(offsets, (0..ends[&partition]).collect::<Vec<_>>(), "partition {partition}");
    }
}

/// Records that are easy to spoil.
fn odd_records() -> Vec<Record> {
    let pair = |key: Option<&[u8]>, value: Option<&[u8]>| Record {
        key: key.map(<[u8]>::to_vec),
        value: value.map(<[u8]>::to_vec),
        ..Record::default()
    };
    let header = |name: &str, value: Option<&[u8]>| (name.to_owned(), value.map(<[u8]>::to_vec));
    vec![
        pair(Some(b"gone"), None),
        pair(None, None),
        pair(None, Some(b"{\"no\":\"key\"}")),
        pair(Some(b"other"), Some(b"{\"id\":\"a\"}")),
        pair(Some(b"1"), Some(b"{\"id\":1}")),
        pair(Some(b"1"), Some(b"{\"id\":\"1\"}")),
        pair(Some(b"1"), Some(b"{\"id\":1.0}")),
        pair(Some(b"spaces"), Some(b" {\"id\" : \"spaces\"}\t")),
        pair(Some(b"lines"), Some(b"{\n  \"id\": \"lines\"\r\n}\n")),
        pair(Some(b"null"), Some(b"null")),
        pair(Some(b"text"), Some(b"not json")),
        pair(Some(b""), Some(b"")),
        pair(Some(b"\xff\x00"), Some(b"\x00\xfe\xff\n\r\n")),
        pair(Some("grüße\n\u{2028}\"\\".as_bytes()), Some("\"grüße\"".as_bytes())),
        pair(Some(b"precise"), Some(b"[1.10, 1e400, 123456789012345678901234567890, \"\\u0041\"]")),
        pair(Some(b"nested"), Some(br#"{"key":"nested","value":{"id":"x"}}"#)),
        pair(None, Some(br#"{"key":"nested","value":null,"headers":{}}"#)),
        pair(Some(b"twice"), Some(br#"{"id":"once","id":"twice"}"#)),
        Record {
            headers: vec![
                header("b", Some(b"2")),
                header("a", Some(b"1")),
                header("b", None),
                header("", Some(b"")),
                header("bytes", Some(b"\xff\x00")),
            ],
            ..record("headers", r#"{"id":"headers"}"#)
        },
        Record { headers: vec![header("only", None), header("base64", Some(b"AA=="))], ..record("h", "1") },
        Record { headers: vec![header("h", Some(b"tombstone"))], ..pair(Some(b"gone"), None) },
    ]
}

pub(super) fn keeps_every_byte(fixture: &impl Fixture) {
    let connector = fixture.open();
    let topic = fixture.topic(1);
    let sent = odd_records();
    write(&*connector, &topic, sent.clone());
    let read: Vec<Record> = read_all(&*connector, &topic).iter().map(placeless).collect();
    for (number, (read, sent)) in read.iter().zip(&sent).enumerate() {
        assert_eq!(read, sent, "record {number}");
    }
    assert_eq!(read.len(), sent.len());
}

pub(super) fn keeps_large_records(fixture: &impl Fixture) {
    let connector = fixture.open();
    let topic = fixture.topic(1);
    let value = |letter: &str| format!(r#"{{"id":"large","text":"{}"}}"#, letter.repeat(700_000));
    let sent = [record("large", &value("a")), record("small", "{}"), record("large", &value("b"))];
    write(&*connector, &topic, sent.clone());
    let read: Vec<Record> = read_all(&*connector, &topic).iter().map(placeless).collect();
    assert!(read == sent, "large records differ");
}

pub(super) fn polls_within_bounds(fixture: &impl Fixture) {
    let connector = fixture.open();
    let topic = fixture.topic(2);
    write(&*connector, &topic, numbered(60));
    let ends = connector.end_offsets(&topic).unwrap();
    let size = numbered(1).map(|record| record.size_bytes()).sum::<usize>();
    for (records_max, bytes_max, most) in
        [(7, usize::MAX, 7), (100, 1, 1), (100, 3 * size + size / 2, 3), (1, 0, 1)]
    {
        let mut reader = Reader::open(&*connector, &topic, &BTreeMap::new());
        let mut read = Vec::new();
        loop {
            let seen = reader.signal.count();
            let polled = reader.source.poll(records_max, bytes_max).unwrap();
            assert!(
                polled.records.len() <= most,
                "{} records at {records_max}, {bytes_max}",
                polled.records.len()
            );
            let known = polled.records.iter().all(|record| polled.positions.contains_key(&record.partition));
            assert!(known, "a partition lacks its position");
            let nothing = polled.records.is_empty();
            read.extend(polled.records);
            for (partition, position) in &polled.positions {
                let handed = read.iter().filter(|record| record.partition == *partition).count();
                assert_eq!(*position, handed as Offset, "position runs ahead or behind");
            }
            if polled.positions == ends {
                break;
            }
            if nothing {
                reader.signal.wait_beyond(seen);
            }
        }
        assert_eq!(read.len(), 60);
        assert_eq!(reader.source.poll(0, usize::MAX).unwrap().records, []);
    }
}

pub(super) fn resumes_from_committed(fixture: &impl Fixture) {
    let topic = fixture.topic(2);
    let first = fixture.open();
    assert_eq!(first.committed(&topic).unwrap(), BTreeMap::new());
    write(&*first, &topic, numbered(40));
    let next = first.end_offsets(&topic).unwrap();
    first.commit(&topic, &next).unwrap();
    assert_eq!(first.committed(&topic).unwrap(), next);
    write(&*first, &topic, numbered(30));
    drop(first);

    let second = fixture.open();
    let committed = second.committed(&topic).unwrap();
    assert_eq!(committed, next);
    let ends = second.end_offsets(&topic).unwrap();
    let read = Reader::open(&*second, &topic, &committed).read_to(&ends);
    assert_eq!(by_key(&read), by_key(&numbered(30).collect::<Vec<_>>()));
    second.commit(&topic, &ends).unwrap();
    assert_eq!(second.committed(&topic).unwrap(), ends);
}

pub(super) fn starts_anywhere(fixture: &impl Fixture) {
    let connector = fixture.open();
    let topic = fixture.topic(1);
    write(&*connector, &topic, numbered(20));
    let all = read_all(&*connector, &topic);
    let ends = connector.end_offsets(&topic).unwrap();
    for start in [0, 1, 13, 19, 20] {
        let read = Reader::open(&*connector, &topic, &BTreeMap::from([(0, start)])).read_to(&ends);
        assert_eq!(read, all[start as usize..]);
    }
}

pub(super) fn commits_of_topics_are_apart(fixture: &impl Fixture) {
    let connector = fixture.open();
    let (one, two) = (fixture.topic(1), fixture.topic(1));
    for (topic, next) in [(&one, 3), (&two, 5), (&one, 4)] {
        connector.commit(topic, &BTreeMap::from([(0, next)])).unwrap();
    }
    assert_eq!(connector.committed(&one).unwrap(), BTreeMap::from([(0, 4)]));
    assert_eq!(fixture.open().committed(&two).unwrap(), BTreeMap::from([(0, 5)]));
}

pub(super) fn topics_are_removed_and_made_anew(fixture: &impl Fixture) {
    let topic = fixture.topic(1);
    {
        let connector = fixture.open();
        // It is there already, and stays as it is.
        connector.prepare_table(&topic).unwrap();
        write(&*connector, &topic, numbered(3));
        connector.prepare_table(&topic).unwrap();
        connector.commit(&topic, &BTreeMap::from([(0, 2)])).unwrap();
        assert_eq!(connector.committed(&topic).unwrap(), BTreeMap::from([(0, 2)]));
    }
    let connector = fixture.open();
    connector.remove(&[&topic, "never-there"]).unwrap();
    connector.prepare_table(&topic).unwrap();
    assert_eq!(connector.end_offsets(&topic).unwrap(), BTreeMap::from([(0, 0)]));
    assert_eq!(connector.committed(&topic).unwrap(), BTreeMap::new());
    write(&*connector, &topic, numbered(1));
    assert_eq!(read_all(&*connector, &topic).len(), 1);
}

pub(super) fn wakes_for_new_records(fixture: &impl Fixture) {
    let connector = fixture.open();
    let topic = fixture.topic(1);
    let mut reader = Reader::open(&*connector, &topic, &BTreeMap::new());
    for round in 1..=3 {
        assert_eq!(reader.source.poll(10, 1000).unwrap().records, []);
        write(&*connector, &topic, numbered(1));
        let read = reader.read_to(&BTreeMap::from([(0, round)]));
        assert_eq!(read.len(), 1);
    }
}

pub(super) fn reads_with_many_sources(fixture: &impl Fixture) {
    let connector = fixture.open();
    let topic = fixture.topic(3);
    write(&*connector, &topic, numbered(90));
    let ends = connector.end_offsets(&topic).unwrap();
    let mut read = Vec::new();
    for (partition, end) in &ends {
        let signal = Signal::new();
        let source = connector.source(&topic, &[*partition], &BTreeMap::new(), signal.wake()).unwrap();
        let part = Reader { source, signal }.read_to(&BTreeMap::from([(*partition, *end)]));
        assert!(part.iter().all(|record| record.partition == *partition));
        read.extend(part);
    }
    assert_eq!(by_key(&read), by_key(&numbered(90).collect::<Vec<_>>()));
}

pub(super) fn reads_no_partitions(fixture: &impl Fixture) {
    let connector = fixture.open();
    let topic = fixture.topic(1);
    write(&*connector, &topic, numbered(1));
    let mut source = connector.source(&topic, &[], &BTreeMap::new(), Signal::new().wake()).unwrap();
    let polled = source.poll(10, 1000).unwrap();
    assert!(polled.records.is_empty() && polled.positions.is_empty());
}

pub(super) fn shares_are_disjoint_and_whole(fixture: &impl Fixture) {
    let connector = fixture.open();
    let topic = fixture.topic(5);
    write(&*connector, &topic, numbered(100));
    let ends = connector.end_offsets(&topic).unwrap();
    let start = BTreeMap::from([(0, 3), (1, 2)]);
    let mut read = Vec::new();
    for index in 0..3 {
        let share = Share { index, peers: 3 };
        let part = ends.iter().filter(|(partition, _)| share.holds(**partition)).map(|(p, end)| (*p, *end));
        let part: BTreeMap<Partition, Offset> = part.collect();
        let mut reader = Reader::follow(&*connector, &topic, share, &start);
        let records = reader.read_to(&part);
        assert!(records.iter().all(|record| part.contains_key(&record.partition)));
        assert_eq!(reader.source.poll(10, 1000).unwrap().positions, part);
        read.extend(records);
    }
    let skipped = |record: &Record| record.offset < start.get(&record.partition).copied().unwrap_or(0);
    let mut all = read_all(&*connector, &topic);
    all.retain(|record| !skipped(record));
    assert_eq!(by_partition(&read), by_partition(&all));
}

pub(super) fn settles_every_token_once(fixture: &impl Fixture) {
    let connector = fixture.open();
    let (one, two) = (fixture.topic(1), fixture.topic(1));
    let mut writer = Writer::open(&*connector);
    for _ in 0..3 {
        writer.write(&one, numbered(50));
        writer.write(&two, numbered(50));
    }
    assert_eq!(writer.sink.settled(), []);
    assert_eq!(read_all(&*connector, &one).len(), 150);
    assert_eq!(read_all(&*connector, &two).len(), 150);
}

pub(super) fn bounds_unsettled_tokens(fixture: &impl Fixture) {
    let connector = fixture.open();
    let topic = fixture.topic(1);
    let signal = Signal::new();
    let mut sink = connector.sink(signal.wake()).unwrap();
    let mut sent = 0u64;
    let given_back = loop {
        if let Err(record) = sink.send(&topic, record("k", r#"{"id":"k"}"#), sent) {
            break record;
        }
        sent += 1;
        assert!(sent < 1_000_000, "the sink takes records without end while nobody takes its tokens");
    };
    assert_eq!(given_back, record("k", r#"{"id":"k"}"#));
    let mut settled = 0;
    while settled < sent {
        let seen = signal.count();
        match sink.settled().len() as u64 {
            0 => signal.wait_beyond(seen),
            some => settled += some,
        }
    }
    assert_eq!(sink.send(&topic, given_back, sent), Ok(()));
}

pub(super) fn follows_while_written(fixture: &impl Fixture) {
    let connector = fixture.open();
    let topic = fixture.topic(1);
    let mut reader = Reader::open(&*connector, &topic, &BTreeMap::new());
    let sent: Vec<Record> = numbered(2000).collect();
    let writing = std::thread::spawn({
        let (connector, topic, sent) = (Arc::clone(&connector), topic.clone(), sent.clone());
        move || {
            let mut writer = Writer::open(&*connector);
            sent.chunks(97).for_each(|chunk| writer.write(&topic, chunk.to_vec()));
        }
    });
    let read = reader.read_to(&BTreeMap::from([(0, 2000)]));
    writing.join().unwrap();
    assert_eq!(read.iter().map(placeless).collect::<Vec<_>>(), sent);
}
