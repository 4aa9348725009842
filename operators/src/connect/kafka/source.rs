//! Reads partitions of a topic on a thread of its own, by manual assignment: no group membership, no rebalancing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use freshet_schemas::{Offset, Partition};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;

use super::super::inbox::{Inbox, Item};
use super::super::{ConnectError, Polled, Source, Wake};
use super::clients::{Clients, Reports, Role, code_of, is_transient};
use super::events::{Event, EventQueue};
use super::thread;

/// Longest wait of the thread for records, and so for the source to be dropped.
const WAIT: Duration = Duration::from_millis(100);
/// Most records and bytes that go into the inbox at once.
const BATCH_RECORDS_MAX: usize = 500;
const BATCH_BYTES_MAX: usize = 1 << 20;
/// Time that a broker has to tell the ends of a partition, before it is asked again.
const ASK: Duration = Duration::from_secs(5);

/// Hands out what its thread has read. Dropped, the thread ends by itself.
pub(super) struct KafkaSource {
    inbox: Arc<Inbox>,
}

impl KafkaSource {
    /// Starts to read. Never blocks; what fails is returned by `poll`.
    pub(super) fn start(
        clients: Arc<Clients>,
        topic: &str,
        partitions: &[Partition],
        start: &BTreeMap<Partition, Offset>,
        wake: Wake,
    ) -> Result<Self, ConnectError> {
        let known = |partition: &Partition| (*partition, start.get(partition).copied());
        let starts: BTreeMap<Partition, Option<Offset>> = partitions.iter().map(known).collect();
        let positions = starts.iter().map(|(partition, start)| (*partition, start.unwrap_or(0))).collect();
        let inbox = Arc::new(Inbox::new(positions, wake));
        if !starts.is_empty() {
            let reader = Reader { clients, topic: topic.to_owned(), inbox: Arc::clone(&inbox) };
            let read = move || {
                if let Err(error) = reader.read(&starts) {
                    reader.inbox.fail(error);
                }
            };
            thread(&format!("read {topic}"), read)?;
        }
        Ok(Self { inbox })
    }
}

impl Source for KafkaSource {
    fn poll(&mut self, records_max: usize, bytes_max: usize) -> Result<Polled, ConnectError> {
        self.inbox.poll(records_max, bytes_max)
    }
}

impl Drop for KafkaSource {
    fn drop(&mut self) {
        self.inbox.close();
    }
}

/// What the thread works with.
struct Reader {
    clients: Arc<Clients>,
    topic: String,
    inbox: Arc<Inbox>,
}

impl Reader {
    fn read(&self, starts: &BTreeMap<Partition, Option<Offset>>) -> Result<(), ConnectError> {
        let what = format!("read \"{}\"", self.topic);
        let fail = |error: KafkaError| self.clients.error(&what, &error);
        let config = self.clients.config(Role::Reader);
        let consumer: BaseConsumer<Reports> = config.create_with_context(self.clients.reports()).map_err(fail)?;
        let queue = EventQueue::of(&consumer).ok_or_else(|| fail(KafkaError::ClientCreation("no queue".into())))?;
        let mut assignment = TopicPartitionList::new();
        for (partition, start) in starts {
            let Some(offset) = self.first(&consumer, &queue, *partition, *start)? else { return Ok(()) };
            assignment.add_partition_offset(&self.topic, *partition, rdkafka::Offset::Offset(offset)).map_err(fail)?;
            self.inbox.put(&mut vec![Item::Position(*partition, offset)]);
        }
        consumer.assign(&assignment).map_err(fail)?;
        let mut items = Vec::new();
        loop {
            let failure = self.batch(&queue, &mut items);
            if !self.inbox.put(&mut items) {
                return Ok(());
            }
            if let Some(error) = failure {
                return Err(error);
            }
        }
    }

    /// The offset to begin at, which is checked: `None` when the source is gone. Asks until a broker answers.
    fn first(
        &self,
        consumer: &BaseConsumer<Reports>,
        queue: &EventQueue<'_>,
        partition: Partition,
        start: Option<Offset>,
    ) -> Result<Option<Offset>, ConnectError> {
        let (low, high) = loop {
            match consumer.fetch_watermarks(&self.topic, partition, ASK) {
                Ok(ends) => break ends,
                Err(error) if code_of(&error).is_some_and(is_transient) => {
                    if !self.inbox.pause(WAIT) {
                        return Ok(None);
                    }
                    while let Some(event) = queue.poll(Duration::ZERO) {
                        if let Some(error) = self.failure(&event) {
                            return Err(error);
                        }
                    }
                }
                Err(error) => return Err(self.clients.error(&format!("read \"{}\"", self.topic), &error)),
            }
        };
        self.clients.outage.end();
        let topic = &self.topic;
        match start {
            Some(start) if start > high => {
                let what = format!(
                    "partition {partition} of \"{topic}\" ends at offset {high}, but was read up to {start} before: the \
                     topic was created anew or has lost records; reset the group's offsets to begin again"
                );
                Err(ConnectError::World { what, source: None, retry: false })
            }
            Some(start) if start < low => {
                tracing::warn!(topic, partition, start, low, "records were deleted before they were read");
                Ok(Some(low))
            }
            Some(start) => Ok(Some(start)),
            None => Ok(Some(low)),
        }
    }

    /// Waits for events and takes what is there; returns the error that ends reading.
    fn batch(&self, queue: &EventQueue<'_>, items: &mut Vec<Item>) -> Option<ConnectError> {
        let mut wait = WAIT;
        let mut bytes = 0;
        while items.len() < BATCH_RECORDS_MAX && bytes < BATCH_BYTES_MAX {
            let event = queue.poll(wait)?;
            wait = Duration::ZERO;
            match event {
                Event::Record(record) => {
                    bytes += record.size_bytes();
                    items.push(Item::Record(record));
                    self.clients.outage.end();
                }
                Event::End(partition, offset) => {
                    items.push(Item::Position(partition, offset));
                    self.clients.outage.end();
                }
                Event::Error { .. } | Event::Other => {
                    if let Some(error) = self.failure(&event) {
                        return Some(error);
                    }
                }
            }
        }
        None
    }

    /// The error that an event means, unless the client gets over it by itself.
    fn failure(&self, event: &Event) -> Option<ConnectError> {
        match event {
            Event::Error { code, reason } if !is_transient(*code) => {
                let what = format!("cannot read \"{}\" at {}: {code}: {reason}", self.topic, self.clients.servers);
                Some(ConnectError::World { what, source: None, retry: true })
            }
            Event::Error { .. } | Event::Record(_) | Event::End(..) | Event::Other => None,
        }
    }
}
