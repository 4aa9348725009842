//! A connector that reads documents from one system and keeps everything else in another: single questions and
//! evaluation run on real documents without touching the topics of the pipeline.

use std::collections::BTreeMap;
use std::sync::Arc;

use freshet_operators::connect::{
    ConnectError, Connector, Memory, Progress, Share, Sink, Source, TransactionWriter, Wake,
};
use freshet_operators::metrics::Shelf;
use freshet_schemas::{DocumentTopics, Offset, Partition};

/// Reads `topics` from `under`; all other topics, and everything written, are in `over`.
pub struct Overlay {
    /// Topics that are read from `under`.
    pub topics: DocumentTopics,
    /// System of the real topics; never written to.
    pub under: Arc<dyn Connector>,
    /// Everything else.
    pub over: Memory,
}

impl Overlay {
    fn is_under(&self, topic: &str) -> bool {
        self.topics.names().iter().any(|name| name == topic)
    }

    fn of(&self, topic: &str) -> &dyn Connector {
        if self.is_under(topic) { &*self.under } else { &self.over }
    }
}

impl Connector for Overlay {
    fn prepare(
        &self,
        inputs: &[&str],
        outputs: &[&str],
    ) -> Result<BTreeMap<String, Vec<Partition>>, ConnectError> {
        let (under, over): (Vec<&str>, Vec<&str>) = inputs.iter().partition(|topic| self.is_under(topic));
        let mut partitions = self.under.prepare(&under, &[])?;
        partitions.extend(self.over.prepare(&over, outputs)?);
        Ok(partitions)
    }

    fn prepare_table(&self, topic: &str) -> Result<(), ConnectError> {
        self.over.prepare_table(topic)
    }

    fn remove(&self, topics: &[&str]) -> Result<(), ConnectError> {
        self.over.remove(topics)
    }

    fn end_offsets(&self, topic: &str) -> Result<BTreeMap<Partition, Offset>, ConnectError> {
        self.of(topic).end_offsets(topic)
    }

    fn committed(&self, topic: &str) -> Result<BTreeMap<Partition, Offset>, ConnectError> {
        self.over.committed(topic)
    }

    fn commit(&self, topic: &str, next: &BTreeMap<Partition, Offset>) -> Result<(), ConnectError> {
        self.over.commit(topic, next)
    }

    fn source(
        &self,
        topic: &str,
        partitions: &[Partition],
        start: &BTreeMap<Partition, Offset>,
        wake: Wake,
    ) -> Result<Box<dyn Source>, ConnectError> {
        self.of(topic).source(topic, partitions, start, wake)
    }

    fn follow(
        &self,
        topic: &str,
        share: Share,
        start: &BTreeMap<Partition, Offset>,
        wake: Wake,
    ) -> Result<Box<dyn Source>, ConnectError> {
        self.of(topic).follow(topic, share, start, wake)
    }

    fn transactions(
        &self,
        topic: &str,
    ) -> Result<(BTreeMap<Partition, Progress>, Box<dyn TransactionWriter>), ConnectError> {
        self.over.transactions(topic)
    }

    fn sink(&self, wake: Wake) -> Result<Box<dyn Sink>, ConnectError> {
        self.over.sink(wake)
    }

    fn register(&self, registry: &dyn Shelf) -> prometheus::Result<()> {
        self.under.register(registry)
    }
}
