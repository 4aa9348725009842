//! Writes records with an idempotent producer: in order, without duplicates, until they are written or refused.

use std::sync::{Arc, Mutex};

use freshet_schemas::Record;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, ProducerContext, ThreadedProducer};

use super::super::{ConnectError, Sink, Wake, lock};
use super::clients::{Clients, Reports, Role, code_of};

/// Records are given back while so many have been sent and their tokens not been taken.
const UNSETTLED_MAX: usize = 4096;

/// Hands records to librdkafka; its threads write them.
pub(super) struct KafkaSink {
    /// There until the sink is dropped.
    producer: Option<ThreadedProducer<Deliveries>>,
    settled: Arc<Settled>,
    /// Tokens that have not been taken.
    unsettled: usize,
}

/// Fates of records, from librdkafka's threads to the worker.
struct Settled {
    fates: Mutex<Vec<(u64, Result<(), String>)>>,
    wake: Wake,
}

impl Settled {
    fn push(&self, token: u64, fate: Result<(), String>) {
        lock(&self.fates).push((token, fate));
        (self.wake)();
    }
}

struct Deliveries {
    reports: Reports,
    settled: Arc<Settled>,
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
    type DeliveryOpaque = Box<u64>;

    fn delivery(&self, result: &DeliveryResult<'_>, token: Box<u64>) {
        let fate = match result {
            Ok(_) => Ok(()),
            // The sink was dropped: nobody waits any more.
            Err((error, _)) if matches!(code_of(error), Some(Code::PurgeQueue | Code::PurgeInflight)) => {
                return;
            }
            Err((error, _)) => Err(error.to_string()),
        };
        if fate.is_ok() {
            self.reports.outage.end();
        }
        self.settled.push(*token, fate);
    }
}

impl KafkaSink {
    /// Starts a producer. Does not wait for a broker.
    pub(super) fn start(clients: &Clients, wake: Wake) -> Result<Self, ConnectError> {
        let settled = Arc::new(Settled { fates: Mutex::default(), wake });
        let deliveries = Deliveries { reports: clients.reports(), settled: Arc::clone(&settled) };
        let producer = clients.config(Role::Writer).create_with_context(deliveries);
        let producer = producer.map_err(|error| clients.error("write", &error))?;
        Ok(Self { producer: Some(producer), settled, unsettled: 0 })
    }
}

impl Sink for KafkaSink {
    fn send(&mut self, topic: &str, record: Record, token: u64) -> Result<(), Record> {
        let Some(producer) = self.producer.as_ref().filter(|_| self.unsettled < UNSETTLED_MAX) else {
            return Err(record);
        };
        let message = BaseRecord::<[u8], [u8], _> {
            topic,
            partition: None,
            payload: record.value.as_deref(),
            key: record.key.as_deref(),
            timestamp: None,
            headers: headers_of(&record),
            delivery_opaque: Box::new(token),
        };
        match producer.send(message) {
            Ok(()) => {}
            Err((error, _)) if code_of(&error) == Some(Code::QueueFull) => return Err(record),
            Err((error, _)) => self.settled.push(token, Err(format!("topic \"{topic}\": {error}"))),
        }
        self.unsettled += 1;
        Ok(())
    }

    fn settled(&mut self) -> Vec<(u64, Result<(), String>)> {
        let fates = std::mem::take(&mut *lock(&self.settled.fates));
        self.unsettled -= fates.len();
        fates
    }
}

impl Drop for KafkaSink {
    /// Gives up what is not written: nobody has been told that it would be. Librdkafka takes a while to end, which is
    /// no matter of the worker's thread.
    fn drop(&mut self) {
        let producer = self.producer.take();
        if let Err(error) =
            std::thread::Builder::new().name("end writing".to_owned()).spawn(move || drop(producer))
        {
            tracing::warn!(%error, "no thread to end a producer on");
        }
    }
}

pub(super) fn headers_of(record: &Record) -> Option<OwnedHeaders> {
    if record.headers.is_empty() {
        return None;
    }
    let insert = |headers: OwnedHeaders, (name, value): &(String, Option<Vec<u8>>)| {
        let key = &name.replace('\0', "\u{fffd}"); // names are C strings in librdkafka
        headers.insert(Header { key, value: value.as_deref() })
    };
    Some(record.headers.iter().fold(OwnedHeaders::new_with_capacity(record.headers.len()), insert))
}
