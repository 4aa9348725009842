//! Reads partitions of a topic on a thread of its own, by manual assignment: no group membership, no rebalancing.
//!
//! ```text
//! topic's watch ─ partitions ─▶ waiting ─ the offset is checked against what is kept ─▶ open ─▶ records, positions
//!                                  ▲                                                     │
//!                                  └──────────── the broker has not the next offset ─────┘
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use freshet_config::AutoOffsetReset;
use freshet_schemas::{Offset, Partition};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};

use super::super::inbox::{Inbox, Item};
use super::super::{ConnectError, Polled, Share, Source, Wake};
use super::clients::{Clients, Reports, Role, code_of, hint, is_permanent, is_transient};
use super::events::{Event, EventQueue};
use super::metrics::KafkaMetrics;
use super::thread;
use super::watch::{Watch, WatchedTopic};

/// Longest wait of the thread for records, and so for the source to be dropped.
const WAIT: Duration = Duration::from_millis(100);
/// Most records and bytes that go into the inbox at once.
const BATCH_RECORDS_MAX: usize = 500;
const BATCH_BYTES_MAX: usize = 1 << 20;
/// Time that a broker has to tell the ends of a partition before it is asked again: at first, and while other partitions
/// are read, which wait meanwhile.
const ASK: Duration = Duration::from_secs(5);
const ASK_MEANWHILE: Duration = Duration::from_millis(500);

/// Hands out what its thread has read. Dropped, the thread ends by itself.
pub(super) struct KafkaSource {
    inbox: Arc<Inbox>,
}

/// Which partitions are read.
pub(super) enum Which {
    These(Vec<Partition>),
    /// Those of a share, and what it gets later.
    Share(Share),
}

/// What is read, and how.
pub(super) struct Reading {
    pub(super) clients: Arc<Clients>,
    pub(super) topic: String,
    pub(super) which: Which,
    pub(super) reset: AutoOffsetReset,
    pub(super) metrics: KafkaMetrics,
}

impl KafkaSource {
    /// Starts to read. Never blocks; what fails is returned by `poll`.
    pub(super) fn start(
        reading: Reading,
        watch: &Arc<Watch>,
        start: &BTreeMap<Partition, Offset>,
        wake: Wake,
    ) -> Result<Self, ConnectError> {
        let mine = |partition: &Partition| match &reading.which {
            Which::These(partitions) => partitions.contains(partition),
            Which::Share(share) => share.holds(*partition),
        };
        let start: BTreeMap<Partition, Offset> =
            start.iter().filter(|(partition, _)| mine(partition)).map(|(p, offset)| (*p, *offset)).collect();
        let inbox = Arc::new(Inbox::new(start.clone(), wake));
        let nothing = matches!(&reading.which, Which::These(partitions) if partitions.is_empty());
        if !nothing {
            let (watched, inbox) = (watch.watch(&reading.topic), Arc::clone(&inbox));
            let name = format!("read {}", reading.topic);
            thread(&name, move || {
                let reader = Reader { reading: &reading, watched, inbox: &inbox };
                if let Err(error) = reader.read(&start) {
                    inbox.fail(error);
                }
            })?;
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
struct Reader<'a> {
    reading: &'a Reading,
    watched: WatchedTopic,
    inbox: &'a Inbox,
}

/// Where the thread stands. A partition is in one of the maps once it is known.
#[derive(Default)]
struct Places {
    /// Not read yet, or not any more until its offset has been checked; where it goes on, if it has been read before.
    waiting: BTreeMap<Partition, Option<Offset>>,
    /// Being read, with the next offset.
    open: BTreeMap<Partition, Offset>,
    /// Partitions of the whole topic when it was last looked at.
    seen: usize,
    /// No partition that waits is tried before.
    next_try: Option<Instant>,
}

impl Reader<'_> {
    fn read(&self, start: &BTreeMap<Partition, Offset>) -> Result<(), ConnectError> {
        let clients = &self.reading.clients;
        let consumer: BaseConsumer<Reports> = clients
            .config(Role::Reader)
            .create_with_context(clients.reports())
            .map_err(|error| self.error(&error))?;
        let queue = EventQueue::of(&consumer)
            .ok_or_else(|| self.error(&KafkaError::ClientCreation("no queue".into())))?;
        let mut places = Places::default();
        if let Which::These(partitions) = &self.reading.which {
            places.waiting = partitions.iter().map(|p| (*p, start.get(p).copied())).collect();
        }
        let mut items = Vec::new();
        loop {
            self.look(&mut places, start)?;
            if !self.open(&consumer, &mut places, &mut items)? {
                return Ok(());
            }
            let failure = self.batch(&consumer, &queue, &mut places, &mut items);
            if !items.is_empty() {
                self.reading.metrics.read(&self.reading.topic, &places.open);
            }
            if !self.inbox.put(&mut items) {
                return Ok(());
            }
            failure?;
        }
    }

    /// Takes note of partitions that the topic has got; fails if it is not the same any more.
    fn look(&self, places: &mut Places, start: &BTreeMap<Partition, Offset>) -> Result<(), ConnectError> {
        let Some(partitions) = self.watched.partitions_beside(places.seen)? else { return Ok(()) };
        let Which::Share(share) = self.reading.which else { return Ok(()) };
        let grown = places.seen > 0;
        places.seen = partitions.len();
        for partition in partitions {
            if share.holds(partition) && !places.open.contains_key(&partition) {
                if grown && !places.waiting.contains_key(&partition) {
                    tracing::info!(topic = self.reading.topic, partition, "a new partition is read");
                }
                places.waiting.entry(partition).or_insert_with(|| start.get(&partition).copied());
            }
        }
        Ok(())
    }

    /// Begins to read partitions that wait, as far as brokers answer; whether to go on.
    fn open(
        &self,
        consumer: &BaseConsumer<Reports>,
        places: &mut Places,
        items: &mut Vec<Item>,
    ) -> Result<bool, ConnectError> {
        let now = Instant::now();
        if places.waiting.is_empty() || places.next_try.is_some_and(|time| now < time) {
            return Ok(true);
        }
        let limit = if places.open.is_empty() { ASK } else { ASK_MEANWHILE };
        for (partition, start) in std::mem::take(&mut places.waiting) {
            match consumer.fetch_watermarks(&self.reading.topic, partition, limit) {
                Ok(kept) => {
                    self.reading.clients.outage.end();
                    let offset = self.first(partition, start, kept)?;
                    self.assign(consumer, partition, offset).map_err(|error| self.error(&error))?;
                    places.open.insert(partition, offset);
                    items.push(Item::Position(partition, offset));
                }
                Err(error) if code_of(&error).is_some_and(is_passing) => {
                    if code_of(&error).is_some_and(is_absent) {
                        self.watched.hurry();
                    }
                    places.waiting.insert(partition, start);
                }
                Err(error) => return Err(self.error(&error)),
            }
            if !self.inbox.pause(Duration::ZERO) {
                return Ok(false);
            }
        }
        let pause = if places.open.is_empty() { WAIT } else { 2 * limit };
        places.next_try = (!places.waiting.is_empty()).then(|| Instant::now() + pause);
        Ok(true)
    }

    fn assign(
        &self,
        consumer: &BaseConsumer<Reports>,
        partition: Partition,
        offset: Offset,
    ) -> KafkaResult<()> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.reading.topic, partition, rdkafka::Offset::Offset(offset))?;
        consumer.incremental_assign(&list)
    }

    /// The offset to begin at, which is checked against those that are kept: the first, and the one after the last.
    fn first(
        &self,
        partition: Partition,
        start: Option<Offset>,
        (low, high): (Offset, Offset),
    ) -> Result<Offset, ConnectError> {
        let topic = &self.reading.topic;
        let Some(start) = start else { return Ok(low) };
        if start > high {
            let what = format!(
                "partition {partition} of \"{topic}\" ends at offset {high}, but was read up to {start} before: the \
                 topic was created anew or has lost records; reset the group's offsets to begin again"
            );
            return Err(ConnectError::World { what, source: None, retry: false });
        }
        if start >= low {
            return Ok(start);
        }
        let gone = low - start;
        if self.reading.reset == AutoOffsetReset::None {
            let what = format!(
                "partition {partition} of \"{topic}\": offset {start} is to be read next, but the earliest kept is \
                 {low}: {gone} offset(s) were deleted before they were read; let the topic keep its records longer \
                 (retention.ms, retention.bytes), and to go on now either set connector.auto_offset_reset = \
                 \"earliest\", which leaves out what is gone, or reset the offsets of group \"{}\" and start without \
                 snapshots",
                self.reading.clients.group
            );
            return Err(ConnectError::World { what, source: None, retry: false });
        }
        tracing::warn!(
            topic,
            partition,
            needed = start,
            earliest = low,
            gone,
            "offsets were deleted before they were read and are left out; let the topic keep its records longer"
        );
        self.reading.metrics.skip(topic, gone.unsigned_abs());
        Ok(low)
    }

    /// Waits for events and takes what is there; an error ends reading. What has come before does not say that brokers
    /// answer now: the topic's watch does.
    fn batch(
        &self,
        consumer: &BaseConsumer<Reports>,
        queue: &EventQueue<'_>,
        places: &mut Places,
        items: &mut Vec<Item>,
    ) -> Result<(), ConnectError> {
        let mut wait = WAIT;
        let mut bytes = 0;
        while items.len() < BATCH_RECORDS_MAX && bytes < BATCH_BYTES_MAX {
            let Some(event) = queue.poll(wait) else { return Ok(()) };
            wait = Duration::ZERO;
            match event {
                Event::Record(record) => {
                    bytes += record.size_bytes();
                    places.open.insert(record.partition, record.offset + 1);
                    items.push(Item::Record(record));
                }
                Event::End(partition, offset) => {
                    places.open.insert(partition, offset);
                    items.push(Item::Position(partition, offset));
                }
                Event::Gone(partition, code) => self.gone(consumer, places, partition, code)?,
                Event::Error { code, .. } if is_absent(code) => self.watched.hurry(),
                Event::Error { code, .. } if is_transient(code) => {}
                Event::Error { code, .. } if self.reading.clients.outage.refused() => {
                    return Err(self.error(&KafkaError::Global(code)));
                }
                Event::Error { code, reason } => {
                    let (topic, servers) = (&self.reading.topic, &self.reading.clients.servers);
                    let hint = hint(code);
                    let what = format!("cannot read \"{topic}\" at {servers}: {code}: {reason}{hint}");
                    return Err(ConnectError::World { what, source: None, retry: !is_permanent(code) });
                }
                Event::Other => {}
            }
        }
        Ok(())
    }

    /// The broker cannot go on where reading stands: the offset is checked again, which says why.
    fn gone(
        &self,
        consumer: &BaseConsumer<Reports>,
        places: &mut Places,
        partition: Partition,
        code: Code,
    ) -> Result<(), ConnectError> {
        let Some(position) = places.open.remove(&partition) else { return Ok(()) };
        let topic = &self.reading.topic;
        if code == Code::LogTruncation {
            let what = format!(
                "partition {partition} of \"{topic}\" has lost records that were read (before offset {position}): a \
                 broker without them became its leader; set unclean.leader.election.enable = false there, and reset \
                 the group's offsets and start without snapshots to begin again"
            );
            return Err(ConnectError::World { what, source: None, retry: false });
        }
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, partition);
        consumer.incremental_unassign(&list).map_err(|error| self.error(&error))?;
        tracing::debug!(topic, partition, position, "the broker has not this offset");
        places.waiting.insert(partition, Some(position));
        places.next_try.get_or_insert_with(|| Instant::now() + WAIT);
        Ok(())
    }

    fn error(&self, error: &KafkaError) -> ConnectError {
        self.reading.clients.error(&format!("read \"{}\"", self.reading.topic), error)
    }
}

/// Whether a broker does not know the topic or partition: it was made a moment ago, or was deleted, which the watch tells.
fn is_absent(code: Code) -> bool {
    matches!(
        code,
        Code::UnknownTopicOrPartition | Code::UnknownTopicId | Code::UnknownTopic | Code::UnknownPartition
    )
}

fn is_passing(code: Code) -> bool {
    is_transient(code) || is_absent(code)
}
