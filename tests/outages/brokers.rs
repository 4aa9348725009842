//! Brokers that are away, slow, or killed.

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::broker;
use crate::cluster::Cluster;
use crate::proxy::Proxy;
use crate::stage::{LIMIT, Plan, Stage};

const AWAY: &str = "no broker answers; trying again until one does";
const BACK: &str = "a broker answers again";

/// A listener that is only reached through a proxy, beside the one of the test. Ports: 2 the broker's, 3 the proxy's.
fn proxied(port: u16) -> String {
    format!(
        "listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{},FAR://127.0.0.1:{}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port},FAR://127.0.0.1:{}\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,FAR:PLAINTEXT\n",
        port + 1,
        port + 2,
        port + 3,
    )
}

fn start() -> (Cluster, Proxy, String) {
    let cluster = Cluster::start(1, proxied);
    let proxy = Proxy::start(cluster.port + 3, cluster.port + 2);
    let far = format!("127.0.0.1:{}", cluster.port + 3);
    (cluster, proxy, far)
}

#[test]
fn brokers_that_are_away_in_the_middle_are_waited_for() {
    if broker("brokers_that_are_away_in_the_middle_are_waited_for").is_none() {
        return;
    }
    let (cluster, proxy, far) = start();
    // The brokers abort a transaction that is open when they are gone, which is then begun again.
    let connector = "properties = { \"transaction.timeout.ms\" = 2000 }";
    let servers = (far.as_str(), cluster.servers.as_str());
    let mut stage = Stage::set(&Plan { servers, partitions: 2, replication: 1, connector, snapshots: false });
    let mut run = stage.run(2);
    stage.write_and_ask(20, 20);
    stage.check(&mut run);
    assert_eq!(run.said(AWAY), 0, "{}", run.log());
    for outage in 1..=2 {
        // While answers are under way.
        stage.write_and_ask(100, 200);
        proxy.cut();
        stage.write_and_ask(100, 100);
        proxy.wait_for_refusals(12, LIMIT);
        run.wait_for(AWAY);
        // Longer than a transaction lasts.
        let end = Instant::now() + Duration::from_millis(4500);
        while Instant::now() < end {
            proxy.wait_for_refusals(1, LIMIT);
            std::thread::park_timeout(Duration::from_millis(100));
        }
        proxy.mend();
        stage.write_and_ask(20, 20);
        stage.check(&mut run);
        assert_eq!((run.said(AWAY), run.said(BACK)), (outage, outage), "{}", run.log());
    }
    eprintln!("transactions begun again: {}", run.said("beginning again"));
    run.stop();
}

#[test]
fn slow_brokers_are_borne_with_bounded_memory() {
    if broker("slow_brokers_are_borne_with_bounded_memory").is_none() {
        return;
    }
    let (cluster, proxy, far) = start();
    // Records as large on the way as they are in memory.
    let servers = (far.as_str(), cluster.servers.as_str());
    let mut stage =
        Stage::set(&Plan { servers, partitions: 2, replication: 1, connector: "", snapshots: false });
    let mut run = stage.run(1);
    stage.write_and_ask(20, 20);
    stage.check(&mut run);
    proxy.slow(Duration::from_millis(60), 2 << 20);
    let before = run.memory_peak();
    stage.write_sized(300, 40_000, 60);
    stage.check(&mut run);
    let grown = run.memory_peak().saturating_sub(before);
    eprintln!("memory grew by {} MiB", grown >> 20);
    assert!(grown < 256 << 20, "memory grew by {} MiB", grown >> 20);
    assert_eq!(run.said("error"), 0, "{}", run.log());
    run.stop();
}

/// The broker that leads most of these partitions.
fn leader(servers: &str, topics: &[&str]) -> i32 {
    let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", servers).create().unwrap();
    let mut led = std::collections::BTreeMap::<i32, usize>::new();
    for topic in topics {
        let metadata = consumer.fetch_metadata(Some(topic), LIMIT).unwrap();
        for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
            *led.entry(partition.leader()).or_default() += 1;
        }
    }
    led.into_iter().max_by_key(|(_, count)| *count).unwrap().0
}

#[test]
fn a_leader_that_is_killed_is_replaced() {
    if broker("a_leader_that_is_killed_is_replaced").is_none() {
        return;
    }
    let cluster = Cluster::start(2, |_| String::new());
    let servers = (cluster.servers.as_str(), cluster.servers.as_str());
    let mut stage =
        Stage::set(&Plan { servers, partitions: 1, replication: 2, connector: "", snapshots: false });
    let mut run = stage.run(2);
    stage.write_and_ask(20, 20);
    stage.check(&mut run);
    let topics = &stage.config.topics;
    let killed = leader(
        &cluster.servers,
        &[
            topics.documents.first(),
            &topics.answers,
            "__transaction_state",
            "__transaction_state",
            "__consumer_offsets",
        ],
    );
    stage.write_and_ask(100, 200);
    cluster.kill(killed);
    stage.write_and_ask(100, 100);
    stage.check(&mut run);
    run.stop();
}
