//! What is particular to Kafka's transactions: fencing, what a dead process left open, refusals, brokers that are away.

use std::time::{Duration, Instant};

use super::super::super::contract_transactions::{entry, progress, settle};
use super::super::super::{Batch, Entry, Progress, Transactions};
use super::*;

fn replacement(record: &Record, reason: &str) -> Record {
    Record { value: Some(format!("refused: {reason}").into_bytes()), ..record.clone() }
}

#[test]
fn a_second_process_ends_the_first() {
    let Some(broker) = Broker::get() else { return };
    let (queries, answers) = (broker.create(1), broker.create(1));
    let first = broker.kafka(&[]);
    let transactions = Transactions::start(first.transactions(&queries).unwrap().1).unwrap();
    let signal = Signal::new();
    let mut sink = transactions.sink(signal.wake());
    let batch = |key: &str, upto| Batch {
        entries: vec![entry(&answers, record(key, "{}"))],
        progress: BTreeMap::from([(0, progress(upto, &[]))]),
    };
    sink.send(batch("a", 1));
    settle(&sink, &signal).unwrap();

    let second = broker.kafka(&[]);
    let (recovered, writer) = second.transactions(&queries).unwrap();
    assert_eq!(recovered, BTreeMap::from([(0, progress(1, &[]))]));
    sink.send(batch("zombie", 2));
    let why = settle(&sink, &signal).unwrap_err();
    assert!(why.contains("another process runs under the pipeline name"), "{why}");

    let later = Transactions::start(writer).unwrap();
    let mut sink = later.sink(signal.wake());
    sink.send(batch("b", 2));
    settle(&sink, &signal).unwrap();
    assert_eq!(keys(&read_all(&second, &answers)), ["a", "b"]);
}

#[test]
fn what_a_dead_process_left_open_is_aborted_at_once() {
    let Some(broker) = Broker::get() else { return };
    let (queries, answers) = (broker.create(1), broker.create(1));
    let kafka = broker.kafka(&[]);
    // As a process does that is killed before it commits.
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &broker.servers).set("transactional.id", &broker.group);
    let dead: BaseProducer = config.create().unwrap();
    dead.init_transactions(LIMIT).unwrap();
    dead.begin_transaction().unwrap();
    send(&dead, &answers, "left");
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(&queries, 0, rdkafka::Offset::Offset(7)).unwrap();
    let group = kafka.group.group_metadata().unwrap();
    dead.send_offsets_to_transaction(&offsets, &group, LIMIT).unwrap();

    let begun = Instant::now();
    let (recovered, writer) = kafka.transactions(&queries).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(20), "does not wait for the transaction to time out");
    assert_eq!(recovered, BTreeMap::new());
    let transactions = Transactions::start(writer).unwrap();
    let signal = Signal::new();
    let mut sink = transactions.sink(signal.wake());
    let progress = BTreeMap::from([(0, Progress::before(1))]);
    sink.send(Batch { entries: vec![entry(&answers, record("answer", "{}"))], progress });
    settle(&sink, &signal).unwrap();
    assert_eq!(keys(&read_all(&kafka, &answers)), ["answer"]);
}

#[test]
fn a_refused_record_is_replaced_and_the_others_are_written_once() {
    let Some(broker) = Broker::get() else { return };
    let (queries, answers) = (broker.create(1), broker.create(1));
    // Larger than the client takes, and larger than the broker takes.
    for properties in [&[][..], &[("message.max.bytes", "5000000"), ("compression.type", "none")]] {
        let kafka = broker.kafka(properties);
        let (recovered, writer) = kafka.transactions(&queries).unwrap();
        let transactions = Transactions::start(writer).unwrap();
        let signal = Signal::new();
        let mut sink = transactions.sink(signal.wake());
        let sizes = [2, 2_000_000, 2, 1_500_000, 2];
        let entries = sizes.iter().enumerate().map(|(number, size)| Entry {
            instead: Some(replacement),
            ..entry(&answers, record(&number.to_string(), &"x".repeat(*size)))
        });
        let upto = recovered.get(&0).map_or(0, |progress| progress.upto) + 5;
        let progress = BTreeMap::from([(0, progress(upto, &[]))]);
        sink.send(Batch { entries: entries.collect(), progress: progress.clone() });
        settle(&sink, &signal).unwrap();
        assert_eq!(kafka.transactions(&queries).unwrap().0, progress);
    }
    let read = read_all(&broker.kafka(&[]), &answers);
    assert_eq!(keys(&read), ["0", "1", "2", "3", "4", "0", "1", "2", "3", "4"]);
    for (number, record) in read.iter().enumerate() {
        let value = String::from_utf8(record.value.clone().unwrap()).unwrap();
        let refused = value.starts_with("refused: ") && value.contains("MessageSizeTooLarge");
        assert_eq!(refused, number % 5 % 2 == 1, "record {number}: {value}");
    }
}

#[test]
fn a_record_that_nothing_stands_in_for_ends_the_run() {
    let Some(broker) = Broker::get() else { return };
    let (queries, answers) = (broker.create(1), broker.create(1));
    let kafka = broker.kafka(&[]);
    let transactions = Transactions::start(kafka.transactions(&queries).unwrap().1).unwrap();
    let signal = Signal::new();
    let mut sink = transactions.sink(signal.wake());
    let entries = vec![
        entry(&answers, record("small", "{}")),
        entry(&answers, record("large", &"x".repeat(2_000_000))),
    ];
    sink.send(Batch { entries, progress: BTreeMap::from([(0, Progress::before(2))]) });
    let why = settle(&sink, &signal).unwrap_err();
    assert!(why.contains("MessageSizeTooLarge"), "{why}");
    assert_eq!(read_all(&kafka, &answers), []);
    assert_eq!(kafka.transactions(&queries).unwrap().0, BTreeMap::new());
}

/// Holds the first transaction up, after its records were sent, until the broker has aborted it.
fn held_up<'a>(kafka: &'a Kafka, answers: &'a str, then: impl Fn() + 'a) -> impl Fn(Duration) -> bool + 'a {
    let held = std::cell::Cell::new(false);
    move |_| {
        if !held.replace(true) {
            // The record, and the marker that ends it.
            let deadline = Instant::now() + LIMIT;
            while kafka.end_offsets(answers).unwrap()[&0] < 2 {
                assert!(Instant::now() < deadline, "the broker aborts nothing");
            }
            then();
        }
        true
    }
}

/// Transactions are short, and records wait a while before they are sent.
const SHORT: [(&str, &str); 2] = [("transaction.timeout.ms", "1000"), ("linger.ms", "300")];

#[test]
fn a_transaction_that_lasts_too_long_is_begun_again() {
    let Some(broker) = Broker::get() else { return };
    let (queries, answers) = (broker.create(1), broker.create(1));
    let kafka = broker.kafka(&SHORT);
    let (_, mut writer) = kafka.transactions(&queries).unwrap();
    let batch = |key: &str, upto| Batch {
        entries: vec![entry(&answers, record(key, "{}"))],
        progress: BTreeMap::from([(0, progress(upto, &[]))]),
    };
    writer.write(&mut batch("a", 1), &held_up(&kafka, &answers, || ())).unwrap();
    writer.write(&mut batch("b", 2), &|_| true).unwrap();
    assert_eq!(keys(&read_all(&kafka, &answers)), ["a", "b"]);
    assert_eq!(broker.kafka(&[]).transactions(&queries).unwrap().0, BTreeMap::from([(0, progress(2, &[]))]));
}

/// With connections that end sooner than librdkafka uses them: once held up, it looks for a coordinator for ever.
#[test]
fn a_transaction_that_comes_to_no_end_is_begun_again() {
    let Some(broker) = Broker::get() else { return };
    let (queries, answers) = (broker.create(1), broker.create(1));
    let properties = [SHORT.as_slice(), &[("connections.max.idle.ms", "333")]].concat();
    let settings = settings(&broker.servers, &properties);
    let restless = Kafka::answering_within(&settings, &broker.group, Duration::from_secs(10)).unwrap();
    let (_, mut writer) = restless.transactions(&queries).unwrap();
    let kafka = broker.kafka(&[]);
    let batch = |key: &str, upto| Batch {
        entries: vec![entry(&answers, record(key, "{}"))],
        progress: BTreeMap::from([(0, progress(upto, &[]))]),
    };
    // Held up for some more such times.
    let more = || std::thread::sleep(Duration::from_secs(3));
    writer.write(&mut batch("a", 1), &held_up(&kafka, &answers, more)).unwrap();
    writer.write(&mut batch("b", 2), &|_| true).unwrap();
    assert_eq!(keys(&read_all(&kafka, &answers)), ["a", "b"]);
    assert_eq!(kafka.transactions(&queries).unwrap().0, BTreeMap::from([(0, progress(2, &[]))]));
}

#[test]
fn a_transaction_that_lasted_too_long_gives_way_to_another_process() {
    let Some(broker) = Broker::get() else { return };
    let (queries, answers) = (broker.create(1), broker.create(1));
    let kafka = broker.kafka(&SHORT);
    let (_, mut writer) = kafka.transactions(&queries).unwrap();
    let batch = |key: &str| Batch {
        entries: vec![entry(&answers, record(key, "{}"))],
        progress: BTreeMap::from([(0, progress(1, &[]))]),
    };
    // The other answers more queries than the first knows of.
    let other = || {
        let mut more = batch("other");
        more.progress = BTreeMap::from([(0, progress(5, &[]))]);
        broker.kafka(&[]).transactions(&queries).unwrap().1.write(&mut more, &|_| true).unwrap();
    };
    let (what, _) = why(&writer.write(&mut batch("first"), &held_up(&kafka, &answers, other)).unwrap_err());
    assert!(what.contains("another process runs under the pipeline name"), "{what}");
    assert_eq!(keys(&read_all(&kafka, &answers)), ["other"]);
}

/// Port 1 of this machine, where nothing listens.
#[test]
fn transactions_need_a_broker_to_begin() {
    let kafka =
        Kafka::answering_within(&settings("127.0.0.1:1", &[]), "group", Duration::from_millis(300)).unwrap();
    let (what, retry) = why(&kafka.transactions("queries").err().unwrap());
    assert!(what.contains("127.0.0.1:1") && retry, "{what}");
}
