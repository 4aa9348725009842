//! Apache Kafka through librdkafka.
//!
//! ```text
//! partitions ─▶ consumer ─▶ reading thread ─▶ inbox (bounded) ─▶ source, polled by a worker
//! sink, fed by a worker ─▶ producer (bounded, idempotent) ─▶ partitions
//! answers and their queries' progress ─▶ transactional producer ─▶ partitions and the group's coordinator, at once
//! committed offsets ◀─▶ the group's coordinator, through a consumer that only commits
//! ```
//!
//! - Partitions are assigned by hand: the group is named after the pipeline and holds committed offsets, so that
//!   ordinary tools see the lag, but has no members. Two pipelines of one name must not run at a time: the transactions
//!   of the second end the first.
//! - Readers see committed records only. Positions move over what is none (markers, aborted and compacted records).
//! - Partitions that a topic gets while a share of it is read are read from their first record on. A topic that is deleted
//!   while it is read, or deleted and made anew, is an error of `poll`.
//! - Brokers that are away are waited for, with one warning per outage; sinks give records back meanwhile. Refused
//!   credentials are errors of `poll`.
//! - Records that were deleted before they were read are an error of `poll`, or skipped with a warning, as
//!   `auto_offset_reset` says.

mod admin;
mod clients;
mod commits;
mod describe;
mod events;
mod metrics;
mod sink;
mod source;
mod transactions;
mod watch;

#[cfg(test)]
mod tests;

pub use self::metrics::KafkaMetrics;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use freshet_schemas::{Offset, Partition};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};

use self::admin::{Found, Kind};
use self::clients::{Clients, Reports, Role};
use self::commits::{CloseOnDrop, Commits};
use self::sink::KafkaSink;
use self::source::{KafkaSource, Reading, Which};
use self::transactions::KafkaWriter;
use self::watch::Watch;
use super::{ConnectError, Connector, Progress, Share, Sink, Source, TransactionWriter, Wake};
use crate::metrics::Shelf;

/// Time that brokers have to answer.
const ANSWER: Duration = Duration::from_secs(30);
/// Longest wait of the thread that serves the group's consumer.
const SERVE: Duration = Duration::from_millis(100);

/// Topics of a Kafka cluster.
pub struct Kafka {
    settings: freshet_config::Kafka,
    clients: Arc<Clients>,
    /// Asks for metadata and ends of partitions, and commits; reads nothing.
    group: Arc<BaseConsumer<Reports>>,
    answer: Duration,
    commits: CloseOnDrop,
    watch: watch::CloseOnDrop,
    metrics: KafkaMetrics,
    closed: Arc<AtomicBool>,
}

impl Kafka {
    /// Sets the clients up; brokers are asked later.
    pub fn new(settings: &freshet_config::Kafka, group: &str) -> Result<Self, ConnectError> {
        Self::answering_within(settings, group, ANSWER)
    }

    fn answering_within(
        settings: &freshet_config::Kafka,
        group: &str,
        answer: Duration,
    ) -> Result<Self, ConnectError> {
        let clients = Arc::new(Clients::new(settings, group));
        let consumer = clients.config(Role::Reader).create_with_context(clients.reports());
        let consumer: BaseConsumer<Reports> =
            consumer.map_err(|error| clients.error("set up a client for brokers", &error))?;
        let group = Arc::new(consumer);
        let (commits, closed) = (Arc::<Commits>::default(), Arc::<AtomicBool>::default());
        let (asked, committing) = (Arc::clone(&group), Arc::clone(&commits));
        thread("kafka commits", move || committing.serve(&asked))?;
        let (polled, ended) = (Arc::clone(&group), Arc::clone(&closed));
        // Takes log lines and errors; without it they would pile up.
        thread("kafka group", move || {
            while !ended.load(Ordering::Relaxed) {
                drop(polled.poll(SERVE));
            }
        })?;
        let metrics = KafkaMetrics::new().map_err(|error| {
            let what = "cannot set up counters of Kafka".to_owned();
            ConnectError::World { what, source: Some(error.into()), retry: false }
        })?;
        let watch = Arc::new(Watch::new(Arc::clone(&clients), Arc::clone(&group), metrics.clone()));
        let watching = Arc::clone(&watch);
        thread("kafka topics", move || watching.serve())?;
        let (settings, commits, watch) = (settings.clone(), CloseOnDrop(commits), watch::CloseOnDrop(watch));
        Ok(Self { settings, clients, group, answer, commits, watch, metrics, closed })
    }

    /// What this connector counts.
    pub fn metrics(&self) -> &KafkaMetrics {
        &self.metrics
    }

    /// Partitions that a topic has now: whoever asks for its ends must hear of all.
    fn partitions(&self, topic: &str) -> Result<Vec<Partition>, ConnectError> {
        match admin::find(&self.clients, &self.group, topic, self.answer)? {
            Found::Missing => Err(ConnectError::MissingTopics { topics: vec![topic.to_owned()] }),
            Found::Partitions(partitions) => Ok(partitions),
        }
    }

    fn read(
        &self,
        topic: &str,
        which: Which,
        start: &BTreeMap<Partition, Offset>,
        wake: Wake,
    ) -> Result<Box<dyn Source>, ConnectError> {
        let reading = Reading {
            clients: Arc::clone(&self.clients),
            topic: topic.to_owned(),
            which,
            reset: self.settings.auto_offset_reset,
            metrics: self.metrics.clone(),
        };
        Ok(Box::new(KafkaSource::start(reading, &self.watch.0, start, wake)?))
    }

    /// Asks about all partitions of a topic until brokers answer for each; `take` makes an answer of an offset and its
    /// metadata.
    fn ask<T>(
        &self,
        what: &str,
        topic: &str,
        ask: impl Fn(TopicPartitionList, Duration) -> KafkaResult<TopicPartitionList>,
        take: impl Fn(Partition, Offset, &str) -> T,
    ) -> Result<BTreeMap<Partition, T>, ConnectError> {
        let partitions = self.partitions(topic)?;
        let answer = admin::until_answered(&self.clients, self.answer, |left| {
            let mut list = TopicPartitionList::new();
            for partition in &partitions {
                list.add_partition(topic, *partition);
            }
            let mut offsets = BTreeMap::new();
            for element in ask(list, left)?.elements() {
                element.error()?;
                if let rdkafka::Offset::Offset(offset) = element.offset() {
                    let partition = element.partition();
                    offsets.insert(partition, take(partition, offset, element.metadata()));
                }
            }
            Ok(offsets)
        });
        let offsets =
            answer.map_err(|error| self.clients.error(&format!("ask for {what} of \"{topic}\""), &error))?;
        self.clients.outage.end();
        Ok(offsets)
    }
}

/// Starts a thread that ends by itself.
fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), ConnectError> {
    let started = std::thread::Builder::new().name(name.to_owned()).spawn(work).map(drop);
    started.map_err(|error| {
        let what = format!("cannot start a thread for \"{name}\"");
        ConnectError::World { what, source: Some(error.into()), retry: true }
    })
}

impl Drop for Kafka {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::Relaxed);
    }
}

impl Connector for Kafka {
    fn prepare(
        &self,
        inputs: &[&str],
        outputs: &[&str],
    ) -> Result<BTreeMap<String, Vec<Partition>>, ConnectError> {
        let mut found = BTreeMap::new();
        let mut missing = Vec::new();
        for topic in inputs.iter().chain(outputs) {
            match admin::find(&self.clients, &self.group, topic, self.answer)? {
                Found::Partitions(partitions) => {
                    found.insert((*topic).to_owned(), partitions);
                }
                Found::Missing => missing.push(*topic),
            }
        }
        missing.sort_unstable();
        missing.dedup();
        if !missing.is_empty() && !self.settings.create_topics {
            return Err(ConnectError::MissingTopics {
                topics: missing.into_iter().map(str::to_owned).collect(),
            });
        }
        if !missing.is_empty() {
            let kind = |topic: &str| if inputs.contains(&topic) { Kind::Input } else { Kind::Output };
            let topics: Vec<(&str, Kind)> = missing.iter().map(|topic| (*topic, kind(topic))).collect();
            found.extend(admin::create(&self.clients, &self.group, &topics, &self.settings, self.answer)?);
        }
        Ok(found)
    }

    fn prepare_table(&self, topic: &str) -> Result<(), ConnectError> {
        if let Found::Missing = admin::find(&self.clients, &self.group, topic, self.answer)? {
            let topics = [(topic, Kind::Table)];
            admin::create(&self.clients, &self.group, &topics, &self.settings, self.answer)?;
        }
        Ok(())
    }

    /// The group goes as well: it has no other topics.
    fn remove(&self, topics: &[&str]) -> Result<(), ConnectError> {
        admin::remove(&self.clients, &self.group, topics, self.answer)
    }

    fn end_offsets(&self, topic: &str) -> Result<BTreeMap<Partition, Offset>, ConnectError> {
        let ask = |mut list: TopicPartitionList, left| {
            list.set_all_offsets(rdkafka::Offset::End)?;
            self.group.offsets_for_times(list, left)
        };
        self.ask("the ends", topic, ask, |_, offset, _| offset)
    }

    /// Waits for commits of this connector that are on their way.
    fn committed(&self, topic: &str) -> Result<BTreeMap<Partition, Offset>, ConnectError> {
        let settled = match self.commits.0.settle(self.answer) {
            Ok(true) => Ok(()),
            Ok(false) => Err(KafkaError::ConsumerCommit(Code::OperationTimedOut)),
            Err(error) => Err(error),
        };
        settled.map_err(|error| self.clients.error(&format!("commit offsets of \"{topic}\""), &error))?;
        let ask = |list, left| self.group.committed_offsets(list, left);
        self.ask("the committed offsets", topic, ask, |_, offset, _| offset)
    }

    /// Returns before the offsets are durable; an error is that of an earlier commit.
    fn commit(&self, topic: &str, next: &BTreeMap<Partition, Offset>) -> Result<(), ConnectError> {
        let added = self.commits.0.add(topic, next);
        added.map_err(|error| self.clients.error(&format!("commit offsets of \"{topic}\""), &error))
    }

    fn source(
        &self,
        topic: &str,
        partitions: &[Partition],
        start: &BTreeMap<Partition, Offset>,
        wake: Wake,
    ) -> Result<Box<dyn Source>, ConnectError> {
        self.read(topic, Which::These(partitions.to_vec()), start, wake)
    }

    fn follow(
        &self,
        topic: &str,
        share: Share,
        start: &BTreeMap<Partition, Offset>,
        wake: Wake,
    ) -> Result<Box<dyn Source>, ConnectError> {
        self.read(topic, Which::Share(share), start, wake)
    }

    /// Ends what a process of the same pipeline has left open, and that process if it still runs: its next transaction
    /// fails.
    fn transactions(
        &self,
        topic: &str,
    ) -> Result<(BTreeMap<Partition, Progress>, Box<dyn TransactionWriter>), ConnectError> {
        let writer = KafkaWriter::start(&self.clients, &self.group, topic, self.answer)?;
        let ask = |list, left| self.group.committed_offsets(list, left);
        let recover = |partition, next, metadata: &str| Progress::recover(topic, partition, next, metadata);
        let progress = self.ask("the committed offsets", topic, ask, recover)?;
        let writer = writer.knowing(&progress);
        Ok((progress, Box::new(writer)))
    }

    fn sink(&self, wake: Wake) -> Result<Box<dyn Sink>, ConnectError> {
        Ok(Box::new(KafkaSink::start(&self.clients, wake)?))
    }

    fn register(&self, registry: &dyn Shelf) -> prometheus::Result<()> {
        self.metrics.register(registry)
    }
}
