//! The contract against a real broker, and what is particular to Kafka: transactions, retention, absence.
//!
//! The broker is the one at `KAFKA_BOOTSTRAP_SERVERS`. Without it tests that need one say that they are skipped, or
//! fail where `CI` is set. Topics are made for each test and not removed.

use std::collections::BTreeMap;
use std::io::Write;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use freshet_config::AutoOffsetReset;
use freshet_schemas::Record;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::super::contract::{Fixture, contract};
use super::super::partitioner::partition_of;
use super::super::testing::{LIMIT, Reader, Signal, Writer, read_all, record, write};
use super::*;

static TOPICS: AtomicUsize = AtomicUsize::new(0);

/// A name that no other test and no earlier run has used.
fn unique(what: &str) -> String {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
    format!("{what}-{time}-{}-{}", std::process::id(), TOPICS.fetch_add(1, Ordering::Relaxed))
}

fn settings(servers: &str, properties: &[(&str, &str)]) -> freshet_config::Kafka {
    freshet_config::Kafka {
        bootstrap_servers: servers.to_owned(),
        create_topics: true,
        partitions: NonZeroU32::MIN,
        replication: NonZeroU32::MIN,
        auto_offset_reset: AutoOffsetReset::None,
        properties: properties
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
    }
}

struct Broker {
    servers: String,
    group: String,
}

impl Broker {
    fn get() -> Option<Self> {
        if let Ok(servers) = std::env::var("KAFKA_BOOTSTRAP_SERVERS") {
            return Some(Self { servers, group: unique("group") });
        }
        let thread = std::thread::current();
        let name = thread.name().unwrap_or_default();
        assert!(std::env::var_os("CI").is_none(), "{name} needs a broker: set KAFKA_BOOTSTRAP_SERVERS");
        writeln!(std::io::stderr(), "SKIPPED {name}: KAFKA_BOOTSTRAP_SERVERS is not set").unwrap();
        None
    }

    fn kafka(&self, properties: &[(&str, &str)]) -> Kafka {
        Kafka::new(&settings(&self.servers, properties), &self.group).unwrap()
    }

    fn create(&self, partitions: usize) -> String {
        let partitions = NonZeroU32::new(u32::try_from(partitions).unwrap()).unwrap();
        let kafka =
            Kafka::new(&freshet_config::Kafka { partitions, ..settings(&self.servers, &[]) }, &self.group)
                .unwrap();
        let topic = unique("topic");
        let created = kafka.prepare(&[&topic], &[]).unwrap();
        assert_eq!(created[&topic].len(), partitions.get() as usize);
        topic
    }

    /// A producer of its own, for what the sink does not do.
    fn transactional(&self) -> BaseProducer {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.servers).set("transactional.id", unique("transaction"));
        let producer: BaseProducer = config.create().unwrap();
        producer.init_transactions(LIMIT).unwrap();
        producer
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        ClientConfig::new().set("bootstrap.servers", &self.servers).create().unwrap()
    }
}

impl Fixture for Broker {
    fn open(&self) -> Arc<dyn Connector> {
        Arc::new(self.kafka(&[]))
    }

    fn topic(&self, partitions: usize) -> String {
        self.create(partitions)
    }
}

contract!(Broker::get());

mod changes;
mod transactions;

fn why(error: &ConnectError) -> (String, bool) {
    match error {
        ConnectError::World { what, retry, .. } => (what.clone(), *retry),
        ConnectError::MissingTopics { .. } => panic!("{error}"),
    }
}

fn send(producer: &BaseProducer, topic: &str, key: &str) {
    producer.send(BaseRecord::to(topic).key(key).payload("{}")).unwrap();
    producer.flush(LIMIT).unwrap();
}

fn keys(records: &[Record]) -> Vec<String> {
    records.iter().map(|record| String::from_utf8(record.key.clone().unwrap()).unwrap()).collect()
}

#[test]
fn missing_topics_are_named_together() {
    let Some(broker) = Broker::get() else { return };
    let present = broker.create(1);
    let strict = freshet_config::Kafka { create_topics: false, ..settings(&broker.servers, &[]) };
    let kafka = Kafka::new(&strict, &broker.group).unwrap();
    let (one, two) = (unique("absent-a"), unique("absent-b"));
    let missing = kafka.prepare(&[&two, &present], &[&one, &two]).unwrap_err();
    assert!(
        matches!(&missing, ConnectError::MissingTopics { topics } if topics == &[one.clone(), two]),
        "{missing}"
    );
    assert!(matches!(kafka.end_offsets(&one), Err(ConnectError::MissingTopics { .. })));
    assert!(
        matches!(kafka.prepare(&[&one], &[]), Err(ConnectError::MissingTopics { .. })),
        "looking creates nothing"
    );
    let (what, retry) = why(&kafka.prepare(&["no/topic"], &[]).unwrap_err());
    assert!(what.contains("no/topic") && !retry, "{what}");
}

#[test]
fn creates_inputs_outputs_and_dead_letters() {
    let Some(broker) = Broker::get() else { return };
    let settings =
        freshet_config::Kafka { partitions: NonZeroU32::new(3).unwrap(), ..settings(&broker.servers, &[]) };
    let kafka = Kafka::new(&settings, &broker.group).unwrap();
    let (input, output) = (unique("in"), unique("out"));
    let created = kafka.prepare(&[&input], &[&output, &format!("{input}.dlq")]).unwrap();
    assert_eq!(created.len(), 3);
    assert!(created.values().all(|partitions| partitions == &[0, 1, 2]));
    assert_eq!(kafka.prepare(&[&input], &[]).unwrap()[&input], [0, 1, 2], "a second time nothing happens");
    let too_many = freshet_config::Kafka { replication: NonZeroU32::new(9).unwrap(), ..settings };
    let (what, retry) =
        why(&Kafka::new(&too_many, &broker.group).unwrap().prepare(&[&unique("in")], &[]).unwrap_err());
    assert!(what.contains("InvalidReplicationFactor") && !retry, "{what}");
}

#[test]
fn reads_committed_transactions_only_and_moves_over_their_markers() {
    let Some(broker) = Broker::get() else { return };
    let kafka = broker.kafka(&[]);
    let topic = broker.create(1);
    let producer = broker.transactional();

    producer.begin_transaction().unwrap();
    send(&producer, &topic, "aborted");
    producer.abort_transaction(LIMIT).unwrap();
    producer.begin_transaction().unwrap();
    send(&producer, &topic, "committed");
    producer.commit_transaction(LIMIT).unwrap();

    // Offsets: 0 aborted, 1 marker, 2 committed, 3 marker.
    let mut reader = Reader::open(&kafka, &topic, &BTreeMap::new());
    let mut read = Vec::new();
    let ends = loop {
        // The marker is written after the transaction counts as committed.
        let ends = kafka.end_offsets(&topic).unwrap();
        read.extend(reader.read_to(&ends));
        if ends[&0] == 4 {
            break ends;
        }
    };
    assert_eq!(keys(&read), ["committed"]);
    assert_eq!(read[0].offset, 2);

    producer.begin_transaction().unwrap();
    send(&producer, &topic, "open");
    assert_eq!(kafka.end_offsets(&topic).unwrap(), ends, "an open transaction is not there yet");
    assert_eq!(reader.source.poll(10, 1000).unwrap().records, []);
    producer.commit_transaction(LIMIT).unwrap();
    let read = reader.read_to(&BTreeMap::from([(0, 6)]));
    assert_eq!(keys(&read), ["open"]);

    // Started at the end behind a marker, the position is right at once.
    let mut late = Reader::open(&kafka, &topic, &BTreeMap::from([(0, 6)]));
    assert_eq!(late.read_to(&BTreeMap::from([(0, 6)])), []);
}

#[test]
fn what_the_broker_refuses_is_settled_with_the_reason() {
    let Some(broker) = Broker::get() else { return };
    let topic = broker.create(1);
    // Larger than the client takes, and larger than the broker takes.
    for properties in [&[][..], &[("message.max.bytes", "5000000"), ("compression.type", "none")]] {
        let kafka = broker.kafka(properties);
        let fates = Writer::open(&kafka)
            .try_write(&topic, [record("a", "{}"), record("b", &"x".repeat(2_000_000)), record("c", "{}")]);
        assert!(fates[0].is_ok() && fates[2].is_ok(), "{fates:?}");
        assert!(fates[1].as_ref().is_err_and(|reason| reason.contains("MessageSizeTooLarge")), "{fates:?}");
    }
    assert_eq!(keys(&read_all(&broker.kafka(&[]), &topic)), ["a", "c", "a", "c"]);
}

#[test]
fn a_topic_that_is_not_there_refuses_records() {
    let Some(broker) = Broker::get() else { return };
    let kafka = broker.kafka(&[("topic.metadata.propagation.max.ms", "100")]);
    let fates = Writer::open(&kafka).try_write(&unique("absent"), [record("a", "{}")]);
    assert!(fates[0].as_ref().is_err_and(|reason| reason.contains("UnknownTopic")), "{fates:?}");
}

#[test]
fn keys_go_where_the_java_client_puts_them() {
    let Some(broker) = Broker::get() else { return };
    let kafka = broker.kafka(&[]);
    let topic = broker.create(5);
    write(&kafka, &topic, (0..100).map(|n| record(&format!("key-{n}"), "{}")));
    for record in read_all(&kafka, &topic) {
        assert_eq!(record.partition, partition_of(record.key.as_deref().unwrap(), 5));
    }
}

#[test]
fn header_names_that_are_no_c_strings_are_mended() {
    let Some(broker) = Broker::get() else { return };
    let (kafka, topic) = (broker.kafka(&[]), broker.create(1));
    write(&kafka, &topic, [Record { headers: vec![("a\0b".into(), None)], ..record("a", "{}") }]);
    assert_eq!(read_all(&kafka, &topic)[0].headers, [("a\u{fffd}b".into(), None)]);
}

#[test]
fn wrong_properties_are_told_without_their_values() {
    let wrong = settings(
        "localhost:1",
        &[("acks", "0"), ("sasl.mechanism", "hunter2"), ("security.protocol", "sasl")],
    );
    let (what, _) = why(&Kafka::new(&wrong, "group").err().unwrap());
    assert!(what.contains("property \"") && !what.contains("hunter2"), "{what}");
    let unknown = settings("localhost:1", &[("no.such.property", "hunter2")]);
    let (what, _) = why(&Kafka::new(&unknown, "group").err().unwrap());
    assert!(what.contains("no.such.property") && !what.contains("hunter2"), "{what}");
}

#[test]
fn what_freshet_rests_on_cannot_be_configured_away() {
    let wrong = [
        ("acks", "0"),
        ("request.required.acks", "0"),
        ("isolation.level", "read_uncommitted"),
        ("enable.auto.commit", "true"),
        ("group.id", "other"),
        ("bootstrap.servers", "other:1"),
        ("queue.buffering.max.ms", "17"),
        ("message.max.bytes", "20000000"),
    ];
    let clients = Clients::new(&settings("localhost:1", &wrong), "group");
    let (reader, writer) = (clients.config(Role::Reader), clients.config(Role::Writer));
    assert_eq!(writer.get("acks"), Some("all"));
    assert_eq!(writer.get("request.required.acks"), None);
    assert_eq!(writer.get("bootstrap.servers"), Some("localhost:1"));
    assert_eq!((writer.get("linger.ms"), writer.get("queue.buffering.max.ms")), (None, Some("17")));
    assert_eq!(reader.get("isolation.level"), Some("read_committed"));
    assert_eq!(reader.get("enable.auto.commit"), Some("false"));
    assert_eq!(reader.get("group.id"), Some("group"));
    assert_eq!(reader.get("fetch.max.bytes"), Some("20000000"));
    assert!(KafkaSink::start(&clients, Arc::new(|| ())).is_ok());
}

/// Port 1 of this machine, where nothing listens.
#[test]
fn brokers_that_are_away_are_waited_for() {
    let away = settings("127.0.0.1:1", &[]);
    let kafka = Kafka::answering_within(&away, "group", Duration::from_millis(300)).unwrap();
    let (what, retry) = why(&kafka.prepare(&["t"], &[]).unwrap_err());
    assert!(what.contains("127.0.0.1:1") && retry, "{what}");
    assert!(kafka.end_offsets("t").is_err() && kafka.committed("t").is_err());

    let signal = Signal::new();
    let mut source = kafka.source("t", &[0], &BTreeMap::from([(0, 7)]), signal.wake()).unwrap();
    let polled = source.poll(10, 1000).unwrap();
    assert_eq!((polled.records, polled.positions), (vec![], BTreeMap::from([(0, 7)])));

    let mut sink = kafka.sink(signal.wake()).unwrap();
    let mut token = 0;
    while sink.send("t", record("a", &"x".repeat(1000)), token).is_ok() {
        token += 1;
        assert!(token < 1_000_000, "records pile up");
    }
    assert_eq!(sink.settled(), []);
    assert_eq!(source.poll(10, 1000).unwrap().records, []);
}
