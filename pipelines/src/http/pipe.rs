//! One pipeline as the server's handlers see it: questions go in, documents are written, and waited for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use freshet_operators::clock;
use freshet_operators::connect::topics::end_offsets;
use freshet_operators::connect::{ConnectError, Connector};
use freshet_operators::control::Control;
use freshet_schemas::{Answer, AsOf, DocumentSpec, Fault, FaultCode, Record, VectorSpec};
use tokio::sync::oneshot;

use super::refusal::Refusal;
use super::trace;
use super::writer::{DocumentWriter, Fates};
use crate::setup::Setup;
use crate::status::{Phase, covers};

/// A run of a setup that has a gateway, and the writer of its documents.
pub(crate) struct Pipe {
    pub(crate) setup: Setup,
    pub(crate) connector: Arc<dyn Connector>,
    pub(crate) control: Arc<Control>,
    /// What documents of each topic must look like.
    specs: Vec<DocumentSpec>,
    writer: DocumentWriter,
    /// Names queries that have no id: the start of the server, and a number.
    started_us: u64,
    asked: AtomicU64,
}

impl Pipe {
    /// Starts the writer; the run is the caller's to start.
    pub(crate) fn start(
        setup: &Setup,
        connector: &Arc<dyn Connector>,
        control: &Arc<Control>,
    ) -> Result<Self, ConnectError> {
        Ok(Self {
            writer: DocumentWriter::start(&**connector)?,
            specs: setup.document_specs(),
            setup: setup.clone(),
            connector: Arc::clone(connector),
            control: Arc::clone(control),
            started_us: clock::now_us(),
            asked: AtomicU64::new(0),
        })
    }

    /// Where the run stands, a wish to end counted.
    pub(crate) fn phase(&self) -> Phase {
        if self.control.running() { self.setup.status.phase() } else { Phase::Ending }
    }

    /// The record of a query that has no id.
    pub(crate) fn named(&self, value: Vec<u8>) -> Record {
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        let key = format!("http-{:x}-{number}", self.started_us).into_bytes();
        Record { key: Some(key), value: Some(value), ..Record::default() }
    }

    /// Puts a query into the dataflow.
    pub(crate) fn ask(&self, mut record: Record) -> Result<oneshot::Receiver<Answer>, Refusal> {
        if let Some(why) = self.phase().obstacle() {
            return Err(Refusal::later("not_ready", why));
        }
        let Some(gateway) = &self.setup.gateway else { return Err(Refusal::ended()) };
        let (sender, answer) = oneshot::channel();
        let reply = move |answer| {
            // Who asked may have gone.
            let _ = sender.send(answer);
        };
        record.headers.extend(trace::carried());
        gateway.ask(record, Box::new(reply))?;
        Ok(answer)
    }

    /// The vector fields, which are the same in all topics.
    pub(crate) fn vectors(&self) -> &BTreeMap<String, VectorSpec> {
        &self.specs[0].vectors
    }

    /// What documents of a topic must look like; of the only one, if none is named.
    pub(crate) fn spec(&self, topic: Option<&str>) -> Result<&DocumentSpec, Refusal> {
        let known = self.setup.config.topics.documents.known_names();
        match (topic, &self.specs[..]) {
            (None, [only]) => Ok(only),
            (None, _) => {
                let message = format!("missing: there are several documents topics: {known}");
                Err(Refusal::invalid("topic", message))
            }
            (Some(name), specs) => specs.iter().find(|spec| spec.source.topic == name).ok_or_else(|| {
                Refusal::invalid("topic", format!("\"{name}\" is no documents topic; known: {known}"))
            }),
        }
    }

    /// Writes records to a documents topic; says what became of each, once all fates are known.
    pub(crate) async fn write(&self, topic: &str, mut records: Vec<Record>) -> Result<Fates, Refusal> {
        let carried = trace::carried();
        records.iter_mut().for_each(|record| record.headers.extend(carried.iter().cloned()));
        self.writer.write(topic, records)?.await.map_err(|_| Refusal::ended())
    }

    /// Shows how many questions wait.
    pub(crate) fn show_waiting(&self) {
        if let Some(gateway) = &self.setup.gateway {
            let waiting = i64::try_from(gateway.waiting()).unwrap_or(i64::MAX);
            self.setup.metrics.gateway_queue.set(waiting);
        }
    }

    /// Ends the writer; what comes later is refused.
    pub(crate) fn end(&self) {
        self.writer.end();
    }

    /// Waits until all that the documents topics hold now is in the indexes; returns what that is, as answers name it.
    pub(crate) async fn indexed(&self) -> Result<BTreeMap<String, AsOf>, Refusal> {
        let mut watch = self.setup.status.watch_indexed();
        let mut phase = self.setup.status.watch_phase();
        let (connector, topics) = (Arc::clone(&self.connector), self.setup.config.topics.documents.clone());
        let ends = tokio::task::spawn_blocking(move || end_offsets(&*connector, &topics)).await;
        let unknown = |error: &dyn std::fmt::Display| {
            let message = format!("written, but the ends of the documents topic are not known: {error}");
            Refusal::later("not_known", message)
        };
        let ends = ends.map_err(|error| unknown(&error))?.map_err(|error| unknown(&error))?;
        let timeout = self.setup.config.queries.consistency_timeout;
        let waited = tokio::select! {
            waited = tokio::time::timeout(timeout, watch.wait_for(|indexed| covers(indexed, &ends))) => waited,
            // Nothing is indexed any more.
            _ = phase.wait_for(|phase| *phase == Phase::Ending) => return Err(Refusal::ended()),
        };
        match waited {
            Ok(Ok(_)) => {
                let as_of: AsOf = ends.into_iter().map(|(partition, next)| (partition, next - 1)).collect();
                Ok(self.setup.config.topics.documents.by_name(&as_of))
            }
            Ok(Err(_)) => Err(Refusal::ended()),
            Err(_) => {
                let message = format!("written, but not in the indexes within {timeout:?}");
                Err(Refusal::from(Fault::whole(FaultCode::ConsistencyTimeout, message)))
            }
        }
    }
}
