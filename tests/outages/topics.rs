//! Topics that change while the pipeline runs or rests.

use std::collections::BTreeSet;

use freshet_operators::wake::block_on;
use rdkafka::admin::{AdminOptions, NewPartitions};
use rdkafka::{Offset, TopicPartitionList};

use crate::broker;
use crate::stage::{Plan, Stage};

/// Topics are looked at often, so that tests are short.
const WATCHFUL: &str = "properties = { \"topic.metadata.refresh.interval.ms\" = 200 }";

fn plan(broker: &str, partitions: u32, snapshots: bool) -> Plan<'_> {
    Plan { servers: (broker, broker), partitions, replication: 1, connector: WATCHFUL, snapshots }
}

#[test]
fn partitions_that_are_added_are_read_and_answered() {
    let Some(broker) = broker("partitions_that_are_added_are_read_and_answered") else { return };
    let mut stage = Stage::set(&plan(&broker, 1, true));
    let mut run = stage.run(2);
    stage.write_and_ask(10, 6);
    assert_eq!(stage.check(&mut run), BTreeSet::from([0]));
    let topics = stage.config.topics.clone();
    let grown = [NewPartitions::new(topics.documents.first(), 4), NewPartitions::new(&topics.queries, 3)];
    let grown = block_on(stage.admin().create_partitions(&grown, &AdminOptions::new())).unwrap();
    assert!(grown.iter().all(Result::is_ok), "{grown:?}");
    stage.renew_sink();
    stage.write_and_ask(40, 30);
    assert_eq!(stage.check(&mut run), BTreeSet::from([0, 1, 2, 3]));
    assert!(run.said("a new partition is read") == 5, "{}", run.log());
    run.stop();
    // Another run, with other workers, begins with a snapshot that knows the new partitions.
    for workers in [1, 3] {
        let mut run = stage.run(workers);
        stage.write_and_ask(10, 10);
        stage.check(&mut run);
        let documents = stage.documents - 10;
        let loaded = run.log();
        let loaded = loaded.lines().find(|line| line.contains("snapshot loaded")).unwrap();
        assert!(loaded.contains(&format!("documents={documents}")), "{loaded}");
        run.stop();
    }
}

#[test]
fn a_topic_that_is_deleted_ends_the_run() {
    let Some(broker) = broker("a_topic_that_is_deleted_ends_the_run") else { return };
    for documents in [true, false] {
        let mut stage = Stage::set(&plan(&broker, 1, false));
        let mut run = stage.run(1);
        stage.write_and_ask(5, 3);
        stage.check(&mut run);
        let topics = &stage.config.topics;
        let topic = if documents { topics.documents.first() } else { &topics.queries };
        let deleted = block_on(stage.admin().delete_topics(&[topic], &AdminOptions::new())).unwrap();
        assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
        let (code, log) = run.end();
        assert_eq!(code, Some(1), "{log}");
        let error = log.lines().find(|line| line.starts_with("error:")).unwrap();
        assert!(error.contains(&format!("topic \"{topic}\"")) && error.contains("was deleted"), "{error}");
        assert!(error.contains("to begin again, create it"), "{error}");
    }
}

#[test]
fn documents_that_are_gone_end_the_run_or_are_left_out() {
    let Some(broker) = broker("documents_that_are_gone_end_the_run_or_are_left_out") else { return };
    let mut stage = Stage::set(&plan(&broker, 1, true));
    let mut run = stage.run(1);
    stage.write_and_ask(5, 3);
    stage.check(&mut run);
    run.stop();
    // Between two runs more is written and deleted.
    stage.write_and_ask(10, 0);
    let mut before = TopicPartitionList::new();
    before.add_partition_offset(stage.config.topics.documents.first(), 0, Offset::Offset(12)).unwrap();
    block_on(stage.admin().delete_records(&before, &AdminOptions::new())).unwrap();
    let (code, log) = stage.run(1).end();
    assert_eq!(code, Some(1), "{log}");
    let error = log.lines().find(|line| line.starts_with("error:")).unwrap();
    for part in
        ["partition 0", "offset 5 is to be read next", "earliest kept is 12", "7 offset(s)", "snapshots"]
    {
        assert!(error.contains(part), "{error} does not say {part}");
    }
    stage.reconfigure("kind = \"kafka\"\n", "kind = \"kafka\"\nauto_offset_reset = \"earliest\"\n");
    let mut run = stage.run(1);
    run.wait_for("are left out");
    let warning = run.log();
    let warning = warning.lines().find(|line| line.contains("are left out")).unwrap();
    assert!(warning.contains("gone=7") && warning.contains("needed=5"), "{warning}");
    run.stop();
}

#[test]
fn queries_that_are_gone_end_the_run() {
    let Some(broker) = broker("queries_that_are_gone_end_the_run") else { return };
    let mut stage = Stage::set(&plan(&broker, 1, false));
    let mut run = stage.run(1);
    stage.write_and_ask(5, 4);
    stage.check(&mut run);
    run.stop();
    stage.write_and_ask(0, 6);
    let mut before = TopicPartitionList::new();
    before.add_partition_offset(&stage.config.topics.queries, 0, Offset::Offset(9)).unwrap();
    block_on(stage.admin().delete_records(&before, &AdminOptions::new())).unwrap();
    let (code, log) = stage.run(1).end();
    assert_eq!(code, Some(1), "{log}");
    let error = log.lines().find(|line| line.starts_with("error:")).unwrap();
    let said = [stage.config.topics.queries.as_str(), "offset 4 is to be read next", "5 offset(s)"];
    assert!(said.iter().all(|part| error.contains(part)), "{error}");
}
