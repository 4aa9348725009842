//! Writes records and the progress of queries in transactions of the one transactional producer of a pipeline.
//!
//! ```text
//! begin ─▶ records, offsets with metadata ─▶ all delivered? ─▶ commit ─▶ settled
//!   ▲                                           │ refused: its replacement takes the record's place
//!   └──────────── abort, pause ◀────────────────┴ away, aborted: the same again        fatal ─▶ the end
//! ```
//!
//! The transactional id is the group: a process that starts under the same name aborts what this one has open, and
//! fences it. A commit that has not been answered is asked for again, never aborted: it may have happened.
//!
//! Brokers abort a transaction that lasts too long, for example because they could not be reached, and then fence its
//! producer as they would for another process. Which it was is told by the progress beside the offsets: if nobody has
//! changed it, a new producer goes on, with the same batch or, if its commit has happened after all, with the next.
//! So does it where librdkafka waits for what never comes, long after brokers have ended the transaction.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use freshet_schemas::Partition;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientContext, TopicPartitionList};

use self::trouble::{Patience, Trouble, aside, blame, is_fenced, is_stuck, repeat, trouble};
use super::super::{Batch, ConnectError, Progress, TransactionWriter, lock};
use super::admin::until_answered;
use super::clients::{Clients, Reports, code_of, hint, is_transient};
use super::sink::headers_of;
use crate::crash;

mod trouble;

/// Longest wait of one call; calls are repeated.
const CALL: Duration = Duration::from_secs(5);
/// Time between two attempts.
const RETRY: Duration = Duration::from_millis(200);
/// Time between two looks at whether to go on.
const LOOK: Duration = Duration::from_millis(100);
/// Times that a transaction may last until its producer is given up.
const PATIENCE: u32 = 3;

/// Writes transactions of one group.
pub(super) struct KafkaWriter {
    clients: Arc<Clients>,
    group: Arc<BaseConsumer<Reports>>,
    topic: String,
    /// There until the writer is dropped.
    producer: Option<ThreadedProducer<Deliveries>>,
    fates: Arc<Fates>,
    attempt: u64,
    /// What is beside the offsets, as far as this writer knows.
    committed: BTreeMap<Partition, Progress>,
    /// Time after which brokers abort a transaction.
    timeout: Duration,
    /// Time after which the producer of a transaction that comes to no end is given up.
    patience: Duration,
}

/// What has become of the records of one attempt.
#[derive(Default)]
struct Fates {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    attempt: u64,
    delivered: usize,
    /// Records that were not delivered, by their number.
    failed: Vec<(usize, KafkaError)>,
}

struct Deliveries {
    reports: Reports,
    fates: Arc<Fates>,
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.reports.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.reports.error(error, reason);
    }
}

impl ProducerContext for Deliveries {
    /// Number of the attempt, and of the record in it.
    type DeliveryOpaque = Box<(u64, usize)>;

    fn delivery(&self, result: &DeliveryResult<'_>, place: Box<(u64, usize)>) {
        let mut state = lock(&self.fates.state);
        if state.attempt != place.0 {
            return;
        }
        match result {
            Ok(_) => state.delivered += 1,
            Err((error, _)) => state.failed.push((place.1, error.clone())),
        }
        self.fates.changed.notify_all();
    }
}

impl KafkaWriter {
    /// Starts the producer and fences the one before it.
    pub(super) fn start(
        clients: &Arc<Clients>,
        group: &Arc<BaseConsumer<Reports>>,
        topic: &str,
        answer: Duration,
    ) -> Result<Self, ConnectError> {
        let timeout = clients.transactional().1;
        let mut writer = Self {
            clients: Arc::clone(clients),
            group: Arc::clone(group),
            topic: topic.to_owned(),
            producer: None,
            fates: Arc::default(),
            attempt: 0,
            committed: BTreeMap::new(),
            timeout,
            patience: (timeout * PATIENCE).max(answer),
        };
        let producer = writer.producer()?;
        until_answered(clients, answer, |left| producer.init_transactions(left))
            .map_err(|error| clients.error("begin transactions", &error))?;
        clients.outage.end();
        writer.producer = Some(producer);
        Ok(writer)
    }

    /// The same, knowing what is committed.
    pub(super) fn knowing(mut self, committed: &BTreeMap<Partition, Progress>) -> Self {
        self.committed.clone_from(committed);
        self
    }

    /// A producer that has not begun yet.
    fn producer(&self) -> Result<ThreadedProducer<Deliveries>, ConnectError> {
        let deliveries = Deliveries { reports: self.clients.reports(), fates: Arc::clone(&self.fates) };
        let producer = self.clients.transactional().0.create_with_context(deliveries);
        producer.map_err(|error| self.clients.error("write transactions", &error))
    }

    /// Goes on with a new producer after the one before was given up. Returns whether the batch is written.
    fn begin_again(
        &mut self,
        batch: &Batch,
        pause: &dyn Fn(Duration) -> bool,
        why: &KafkaError,
    ) -> Result<bool, Trouble> {
        tracing::warn!(
            error = %why,
            "a transaction lasted longer than transaction.timeout.ms, so the brokers have ended it; beginning again"
        );
        end(self.producer.take());
        let producer = loop {
            let producer = self.producer().map_err(|_| Trouble::Fatal(why.clone()))?;
            match repeat(self.patience(pause), || producer.init_transactions(CALL).map_err(trouble)) {
                Ok(()) => break producer,
                Err(Trouble::Fatal(error)) if is_stuck(&error) => end(Some(producer)),
                Err(Trouble::Again(error)) => return Err(Trouble::Fatal(error)),
                Err(trouble) => return Err(trouble),
            }
        };
        self.producer = Some(producer);
        let mut written = self.committed.clone();
        written.extend(batch.progress.clone());
        let now = loop {
            match self.progress(written.keys()) {
                Ok(now) => break now,
                Err(error) if code_of(&error).is_some_and(is_transient) && pause(RETRY) => {}
                Err(error) => return Err(Trouble::Fatal(error)),
            }
        };
        if !batch.progress.is_empty() && now == written {
            return Ok(true);
        }
        // Another process has answered meanwhile, and was ended just now: its answers must not come twice.
        if now == self.committed { Ok(false) } else { Err(Trouble::Fatal(KafkaError::Global(Code::Fenced))) }
    }

    /// What is beside the offsets of some partitions.
    fn progress<'a>(
        &self,
        partitions: impl Iterator<Item = &'a Partition>,
    ) -> KafkaResult<BTreeMap<Partition, Progress>> {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition(&self.topic, *partition);
        }
        let mut progress = BTreeMap::new();
        for element in self.group.committed_offsets(list, CALL)?.elements() {
            element.error()?;
            if let rdkafka::Offset::Offset(next) = element.offset() {
                let partition = element.partition();
                let known = Progress::recover(&self.topic, partition, next, element.metadata());
                progress.insert(partition, known);
            }
        }
        Ok(progress)
    }

    /// From now on.
    fn patience<'a>(&self, pause: &'a dyn Fn(Duration) -> bool) -> Patience<'a> {
        Patience { pause, end: Instant::now() + self.patience }
    }

    fn attempt(&mut self, batch: &Batch, patience: Patience<'_>) -> Result<(), Trouble> {
        self.attempt += 1;
        *lock(&self.fates.state) = State { attempt: self.attempt, ..State::default() };
        let Some(producer) = &self.producer else { return Err(Trouble::Closed) };
        producer.begin_transaction().map_err(trouble)?;
        crash::point("transaction.begin");
        for (number, entry) in batch.entries.iter().enumerate() {
            let mut message = BaseRecord::<[u8], [u8], _> {
                topic: &entry.topic,
                partition: None,
                payload: entry.record.value.as_deref(),
                key: entry.record.key.as_deref(),
                timestamp: None,
                headers: headers_of(&entry.record),
                delivery_opaque: Box::new((self.attempt, number)),
            };
            while let Err((error, refused)) = producer.send(message) {
                if code_of(&error) != Some(Code::QueueFull) {
                    lock(&self.fates.state).failed.push((number, error));
                    break;
                }
                patience.pause(LOOK)?;
                message = refused;
            }
        }
        // The offsets go with the records, not after them: they are another broker's matter.
        let offsets = self.send_offsets(producer, batch, patience);
        if let Err(Trouble::Fatal(_) | Trouble::Closed) = offsets {
            return offsets;
        }
        // A record that is refused ends the transaction, and so the offsets: it is to blame, then.
        self.delivered(producer, batch, patience)?;
        offsets?;
        crash::point("transaction.written");
        repeat(patience, || producer.commit_transaction(CALL).map_err(trouble))?;
        crash::point("transaction.committed");
        Ok(())
    }

    /// The progress of queries, as a part of the transaction.
    fn send_offsets(
        &self,
        producer: &ThreadedProducer<Deliveries>,
        batch: &Batch,
        patience: Patience<'_>,
    ) -> Result<(), Trouble> {
        if batch.progress.is_empty() {
            return Ok(());
        }
        let offsets = self.offsets(batch).map_err(Trouble::Fatal)?;
        repeat(patience, || {
            let group = self.group.group_metadata().ok_or_else(|| {
                Trouble::Fatal(KafkaError::ClientCreation("the consumer has no group".to_owned()))
            })?;
            let (producer, offsets) = (producer.clone(), offsets.clone());
            // Librdkafka waits for the coordinator of the group whatever time it is given.
            aside(patience, move || producer.send_offsets_to_transaction(&offsets, &group, CALL))
        })?;
        crash::point("transaction.offsets");
        Ok(())
    }

    /// Waits until all records are delivered.
    fn delivered(
        &self,
        producer: &ThreadedProducer<Deliveries>,
        batch: &Batch,
        patience: Patience<'_>,
    ) -> Result<(), Trouble> {
        let mut state = lock(&self.fates.state);
        loop {
            if !state.failed.is_empty() {
                return Err(blame(std::mem::take(&mut state.failed), batch));
            }
            if state.delivered == batch.entries.len() {
                drop(state);
                return Self::reports_are_gone(producer, patience);
            }
            let waited = self.fates.changed.wait_timeout(state, LOOK);
            let (after, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            if timeout.timed_out() {
                drop(after);
                if let Some((code, _)) = producer.client().fatal_error() {
                    return Err(Trouble::Fatal(KafkaError::Global(code)));
                }
                patience.pause(Duration::ZERO)?;
                state = lock(&self.fates.state);
            } else {
                state = after;
            }
        }
    }

    /// Waits until the last report, which has just been told, is out of librdkafka's books: a commit that finds it there
    /// waits for another one, a tenth of a second.
    fn reports_are_gone(
        producer: &ThreadedProducer<Deliveries>,
        patience: Patience<'_>,
    ) -> Result<(), Trouble> {
        while producer.in_flight_count() > 0 {
            patience.pause(Duration::ZERO)?;
            std::thread::yield_now();
        }
        Ok(())
    }

    fn offsets(&self, batch: &Batch) -> KafkaResult<TopicPartitionList> {
        let mut list = TopicPartitionList::new();
        for (partition, progress) in &batch.progress {
            let mut element = list.add_partition(&self.topic, *partition);
            element.set_offset(rdkafka::Offset::Offset(progress.next()))?;
            element.set_metadata(progress.to_metadata());
        }
        Ok(list)
    }

    fn abort(&self, patience: Patience<'_>) -> Result<(), Trouble> {
        let Some(producer) = &self.producer else { return Err(Trouble::Closed) };
        match repeat(patience, || producer.abort_transaction(CALL).map_err(trouble)) {
            // There was nothing to abort.
            Err(Trouble::Again(KafkaError::Transaction(error))) if error.code() == Code::State => Ok(()),
            result => result,
        }
    }

    /// Whether brokers have given this producer up, or it comes to no end.
    fn is_given_up(&self, error: &KafkaError) -> bool {
        let fatal = self.producer.as_ref().and_then(|producer| producer.client().fatal_error());
        let code = fatal.map(|(code, _)| code).or(code_of(error));
        code.is_some_and(|code| {
            is_fenced(code) || matches!(code, Code::InvalidTransactionalState | Code::UnknownProducerId)
        }) || is_stuck(error)
    }

    fn fatal(&self, error: &KafkaError) -> ConnectError {
        let fatal = self.producer.as_ref().and_then(|producer| producer.client().fatal_error());
        let code = fatal.as_ref().map(|(code, _)| *code).or(code_of(error));
        let why = fatal.map(|(_, why)| why).unwrap_or_else(|| error.to_string());
        if code.is_some_and(is_fenced) {
            let what = format!(
                "another process runs under the pipeline name \"{}\" at {} and has taken over; give one of them another \
                 name ({why})",
                self.clients.group, self.clients.servers
            );
            return ConnectError::World { what, source: None, retry: false };
        }
        let hint = code.map_or("", hint);
        let what = format!("cannot write transactions at {}: {why}{hint}", self.clients.servers);
        ConnectError::World { what, source: None, retry: true }
    }
}

impl TransactionWriter for KafkaWriter {
    fn write(&mut self, batch: &mut Batch, pause: &dyn Fn(Duration) -> bool) -> Result<(), ConnectError> {
        let closed = || {
            let what = "the pipeline ended before its answers were written".to_owned();
            ConnectError::World { what, source: None, retry: true }
        };
        loop {
            let begun = Instant::now();
            let patience = self.patience(pause);
            let mut trouble = match self.attempt(batch, patience) {
                Ok(()) => {
                    self.clients.outage.end();
                    self.committed.append(&mut batch.progress);
                    return Ok(());
                }
                Err(trouble) => trouble,
            };
            if matches!(trouble, Trouble::Refused(_) | Trouble::Again(_))
                && let Err(worse) = self.abort(patience)
            {
                trouble = worse;
            }
            if let Trouble::Fatal(error) = &trouble
                && begun.elapsed() >= self.timeout
                && self.is_given_up(error)
            {
                let error = error.clone();
                match self.begin_again(batch, pause, &error) {
                    Ok(true) => {
                        self.committed.append(&mut batch.progress);
                        return Ok(());
                    }
                    Ok(false) => continue,
                    Err(worse) => trouble = worse,
                }
            }
            match trouble {
                Trouble::Refused(refused) => {
                    for (number, reason) in refused {
                        batch.entries[number].refuse(&reason)?;
                    }
                }
                Trouble::Again(error) => {
                    tracing::debug!(%error, "a transaction was aborted; trying again");
                    if !pause(RETRY) {
                        return Err(closed());
                    }
                }
                Trouble::Fatal(error) => return Err(self.fatal(&error)),
                Trouble::Closed => return Err(closed()),
            }
        }
    }
}

impl Drop for KafkaWriter {
    /// What is open is aborted by the next start, or by the broker after its timeout. Librdkafka takes a while to end.
    fn drop(&mut self) {
        end(self.producer.take());
    }
}

/// Ends a producer on a thread of its own.
fn end(producer: Option<ThreadedProducer<Deliveries>>) {
    if let Err(error) =
        std::thread::Builder::new().name("end writing".to_owned()).spawn(move || drop(producer))
    {
        tracing::warn!(%error, "no thread to end a producer on");
    }
}
