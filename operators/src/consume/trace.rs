//! Spans of documents whose writer traces them: from reading the record until it is in the indexes.

use std::collections::VecDeque;
use std::sync::Arc;

use freshet_schemas::DocumentTopics;

use crate::clock;
use crate::index::Time;
use crate::registry::ReadRecord;
use crate::trace::{Open, SpanKind, Tracer, number, text};

/// Makes the spans of a worker's documents. What is open is bounded by the budget between source and index.
#[derive(Debug)]
pub struct DocumentTraces {
    tracer: Tracer,
    topics: DocumentTopics,
    pipeline: Arc<str>,
    /// By the tick at which they were read, ascending.
    open: VecDeque<(Time, Reading)>,
}

#[derive(Debug)]
struct Reading {
    span: Open,
    read_us: u64,
    partition: i32,
    offset: i64,
    id: Option<String>,
}

impl DocumentTraces {
    /// Of the documents of some topics.
    pub fn new(tracer: Tracer, topics: DocumentTopics, pipeline: Arc<str>) -> Self {
        Self { tracer, topics, pipeline, open: VecDeque::new() }
    }

    /// Records are read at a tick; ticks ascend.
    pub(super) fn read(&mut self, tick: Time, records: &[ReadRecord]) {
        for ReadRecord { record, .. } in records {
            let Some(span) = self.tracer.follow(&record.headers) else { continue };
            let id = record.key.as_deref().map(|key| String::from_utf8_lossy(key).into_owned());
            let (partition, offset) = (record.partition, record.offset);
            let reading = Reading { span, read_us: clock::now_us(), partition, offset, id };
            self.open.push_back((tick, reading));
        }
    }

    /// Ticks are in the indexes.
    pub(super) fn applied(&mut self, closed: impl Fn(&Time) -> bool) {
        let mut spans = Vec::new();
        while self.open.front().is_some_and(|(tick, _)| closed(tick)) {
            let Some((_, reading)) = self.open.pop_front() else { break };
            let times = (reading.read_us, clock::now_us());
            let (topic, partition) = self.topics.name(reading.partition);
            let mut span = reading.span.end("freshet.document", SpanKind::Consumer, times);
            span.attributes = vec![
                text("messaging.system", self.tracer.system()),
                text("messaging.operation.name", "process"),
                text("messaging.operation.type", "process"),
                text("messaging.destination.name", topic),
                text("messaging.destination.partition.id", partition.to_string()),
                number("messaging.kafka.offset", reading.offset),
                text("messaging.consumer.group.name", &*self.pipeline),
            ];
            span.attributes.extend(reading.id.map(|id| text("messaging.kafka.message.key", id)));
            spans.push(span);
        }
        if !spans.is_empty() {
            self.tracer.send(spans);
        }
    }
}
