//! Topics that change while they are read: records that go, partitions that come, topics that are deleted.

use super::*;
use crate::wake::block_on;

/// Topics are looked at often, so that tests are short.
const WATCHFUL: [(&str, &str); 1] = [("topic.metadata.refresh.interval.ms", "200")];

impl Broker {
    fn resetting(&self, reset: AutoOffsetReset, properties: &[(&str, &str)]) -> Kafka {
        let settings =
            freshet_config::Kafka { auto_offset_reset: reset, ..settings(&self.servers, properties) };
        Kafka::new(&settings, &self.group).unwrap()
    }

    /// Deletes the records of partition 0 before an offset.
    fn delete_records(&self, topic: &str, before: Offset) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, 0, rdkafka::Offset::Offset(before)).unwrap();
        // The client lives until it has answered.
        let deleted = block_on(self.admin().delete_records(&list, &AdminOptions::new())).unwrap();
        assert!(deleted.elements().iter().all(|element| element.error().is_ok()), "{deleted:?}");
    }

    fn delete_topic(&self, topic: &str) {
        let deleted = block_on(self.admin().delete_topics(&[topic], &AdminOptions::new())).unwrap();
        assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
    }
}

fn offsets(records: &[Record]) -> Vec<Offset> {
    records.iter().map(|record| record.offset).collect()
}

#[test]
fn a_start_from_nothing_begins_at_the_earliest_record_that_is_kept() {
    let Some(broker) = Broker::get() else { return };
    let topic = broker.create(1);
    write(&broker.kafka(&[]), &topic, (0..10).map(|n| record(&n.to_string(), "{}")));
    broker.delete_records(&topic, 4);
    for reset in [AutoOffsetReset::None, AutoOffsetReset::Earliest] {
        let kafka = broker.resetting(reset, &[]);
        let read = Reader::open(&kafka, &topic, &BTreeMap::new()).read_to(&BTreeMap::from([(0, 10)]));
        assert_eq!(offsets(&read), (4..10).collect::<Vec<_>>());
        assert_eq!(kafka.metrics().offsets_skipped(&topic), 0);
    }
}

#[test]
fn offsets_that_are_gone_at_the_start_are_an_error_or_counted() {
    let Some(broker) = Broker::get() else { return };
    let topic = broker.create(1);
    let kafka = broker.kafka(&[]);
    write(&kafka, &topic, (0..10).map(|n| record(&n.to_string(), "{}")));
    broker.delete_records(&topic, 4);
    let start = BTreeMap::from([(0, 1)]);
    let (what, retry) = why(&Reader::open(&kafka, &topic, &start).read_to_error());
    for part in [&topic, "partition 0", "offset 1 ", "earliest kept is 4", "3 offset(s)", "retention.ms"] {
        assert!(what.contains(part), "{what} does not say {part}");
    }
    assert!(what.contains("auto_offset_reset = \"earliest\"") && what.contains(&broker.group) && !retry);

    let kafka = broker.resetting(AutoOffsetReset::Earliest, &[]);
    let registry = prometheus::Registry::new();
    kafka.metrics().register(&registry).unwrap();
    let read = Reader::open(&kafka, &topic, &start).read_to(&BTreeMap::from([(0, 10)]));
    assert_eq!(offsets(&read), (4..10).collect::<Vec<_>>());
    assert_eq!(kafka.metrics().offsets_skipped(&topic), 3);
    let families = registry.gather();
    let skipped = families.iter().find(|family| family.name() == "freshet_kafka_offsets_skipped_total");
    assert_eq!(skipped.expect("shown").get_metric()[0].get_counter().get_value(), 3.0);

    let (what, retry) = why(&Reader::open(&kafka, &topic, &BTreeMap::from([(0, 11)])).read_to_error());
    assert!(what.contains("ends at offset 10") && what.contains(&topic) && !retry, "{what}");
}

/// Reading waits for a worker that does not poll, while records are deleted before which it stands.
#[test]
fn offsets_that_go_while_they_are_read_are_an_error_or_counted() {
    let Some(broker) = Broker::get() else { return };
    let small = [("compression.type", "none"), ("queued.max.messages.kbytes", "1024")];
    for reset in [AutoOffsetReset::None, AutoOffsetReset::Earliest] {
        let topic = broker.create(1);
        let kafka = broker.resetting(reset, &small);
        let value = "x".repeat(100_000);
        write(&kafka, &topic, (0..200).map(|n| record(&n.to_string(), &value)));
        let mut reader = Reader::open(&kafka, &topic, &BTreeMap::new());
        reader.signal.wait_beyond(1);
        broker.delete_records(&topic, 199);
        if reset == AutoOffsetReset::None {
            let (what, retry) = why(&reader.read_to_error());
            let said = ["is to be read next", "earliest kept is 199", "offset(s) were deleted"];
            assert!(said.iter().all(|part| what.contains(part)) && what.contains(&topic) && !retry, "{what}");
            continue;
        }
        let read = offsets(&reader.read_to(&BTreeMap::from([(0, 200)])));
        let (last, before) = read.split_last().unwrap();
        let skipped = 199 - before.len() as Offset;
        assert_eq!((*last, before), (199, (0..before.len() as Offset).collect::<Vec<_>>().as_slice()));
        assert!(skipped > 0, "nothing was gone before it was read");
        assert_eq!(kafka.metrics().offsets_skipped(&topic), skipped as u64);
    }
}

#[test]
fn new_partitions_are_read_from_their_first_record() {
    let Some(broker) = Broker::get() else { return };
    let kafka = broker.kafka(&WATCHFUL);
    let topic = broker.create(1);
    write(&kafka, &topic, [record("a", "{}")]);
    let shares = [0, 1].map(|index| Share { index, peers: 2 });
    let mut readers = shares.map(|share| Reader::follow(&kafka, &topic, share, &BTreeMap::new()));
    readers[0].read_to(&BTreeMap::from([(0, 1)]));
    let grown = [rdkafka::admin::NewPartitions::new(&topic, 4)];
    let grown = block_on(broker.admin().create_partitions(&grown, &AdminOptions::new())).unwrap();
    assert!(grown.iter().all(Result::is_ok), "{grown:?}");
    write(&broker.kafka(&[]), &topic, (0..100).map(|n| record(&n.to_string(), "{}")));
    let ends = kafka.end_offsets(&topic).unwrap();
    assert!(ends.len() == 4 && ends.values().all(|end| *end > 0), "ends are known at once: {ends:?}");
    let mut read = 0;
    for (share, reader) in shares.iter().zip(&mut readers) {
        let part = ends.iter().filter(|(partition, _)| share.holds(**partition)).map(|(p, end)| (*p, *end));
        let part: BTreeMap<Partition, Offset> = part.collect();
        read += reader.read_to(&part).len();
        assert_eq!(reader.source.poll(1, 1).unwrap().positions, part);
    }
    assert_eq!(read, 100);
}

#[test]
fn a_topic_that_is_deleted_while_read_is_an_error() {
    let Some(broker) = Broker::get() else { return };
    let kafka = broker.kafka(&WATCHFUL);
    let topic = broker.create(1);
    write(&kafka, &topic, [record("a", "{}")]);
    let mut reader = Reader::open(&kafka, &topic, &BTreeMap::new());
    reader.read_to(&BTreeMap::from([(0, 1)]));
    broker.delete_topic(&topic);
    let (what, retry) = why(&reader.read_to_error());
    assert!(what.contains(&topic) && what.contains("was deleted while it was read") && !retry, "{what}");
    assert!(what.contains(&broker.group), "{what}");
}

/// The new topic has more records than were read of the old one: its offsets look as if nothing had happened.
#[test]
fn a_topic_that_is_made_anew_while_read_is_an_error() {
    let Some(broker) = Broker::get() else { return };
    let kafka = broker.kafka(&WATCHFUL);
    let topic = broker.create(1);
    write(&kafka, &topic, [record("a", "{}")]);
    let mut reader = Reader::open(&kafka, &topic, &BTreeMap::new());
    reader.read_to(&BTreeMap::from([(0, 1)]));
    broker.delete_topic(&topic);
    let again = broker.kafka(&[]);
    let deadline = std::time::Instant::now() + LIMIT;
    // The name is free once the broker has let go of it.
    while again.prepare(&[&topic], &[]).is_err() || again.end_offsets(&topic).is_err() {
        assert!(std::time::Instant::now() < deadline, "the topic is not made anew");
    }
    write(&again, &topic, (0..50).map(|n| record(&n.to_string(), "{}")));
    let (what, retry) = why(&reader.read_to_error());
    assert!(what.contains(&topic) && !retry, "{what}");
    assert!(what.contains("deleted and created anew") || what.contains("was deleted"), "{what}");
}
