//! The trace of a query: a span of the whole, and one of each stage, made when its answer is written.

use std::sync::Arc;

use freshet_schemas::{Answer, Headers, StageSeconds};

use crate::message::Origin;
use crate::trace::{Open, Span, SpanKind, Tracer, carried, number, text};

const MICROS_PER_SECOND: f64 = 1e6;

/// Makes the traces of a pipeline's queries.
#[derive(Clone, Debug)]
pub struct QueryTraces {
    /// Takes the spans.
    pub tracer: Tracer,
    /// Topic of the queries.
    pub queries: Arc<str>,
    /// Topic of the answers.
    pub answers: Arc<str>,
    /// Name of the pipeline: its consumer group.
    pub pipeline: Arc<str>,
}

/// A trace whose answer is made and not written.
#[derive(Debug)]
pub(super) struct QueryTrace {
    tracer: Tracer,
    whole: Open,
    spans: Vec<Span>,
    read_us: u64,
    made_us: u64,
    /// The span of the whole, but for its end.
    outline: Span,
    answers: Arc<str>,
}

/// Name of the span of a stage.
fn stage_name(stage: &str) -> &'static str {
    match stage {
        "admit" => "freshet.admit",
        "embed" => "freshet.embed",
        "search" => "freshet.search",
        "rerank" => "freshet.rerank",
        _ => "freshet.fetch",
    }
}

impl QueryTraces {
    /// Begins the trace of an answered query, if it is sampled; its headers then name the span of the query.
    pub(super) fn begin(
        &self,
        origin: Origin,
        (read_us, now_us): (u64, u64),
        answer: &Answer,
        headers: &mut Headers,
    ) -> Option<Box<QueryTrace>> {
        let whole = self.tracer.begin(headers)?;
        *headers = carried(std::mem::take(headers), whole.context);
        let (kind, mut attributes) = if origin.is_gateway() {
            (SpanKind::Server, Vec::new())
        } else {
            let attributes = vec![
                text("messaging.system", self.tracer.system()),
                text("messaging.operation.name", "process"),
                text("messaging.operation.type", "process"),
                text("messaging.destination.name", &*self.queries),
                text("messaging.destination.partition.id", origin.partition.to_string()),
                number("messaging.kafka.offset", origin.offset),
                text("messaging.consumer.group.name", &*self.pipeline),
            ];
            (SpanKind::Consumer, attributes)
        };
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        attributes.extend([
            text("db.system.name", "freshet"),
            text("db.namespace", &*self.pipeline),
            text("db.operation.name", "query"),
            number("db.response.returned_rows", count(answer.points.len())),
            text("freshet.query.id", answer.id.as_str()),
        ]);
        attributes.extend(answer.time.map(|tick| number("freshet.tick", count(tick as usize))));
        attributes.extend(answer.error.as_ref().map(|fault| text("error.type", fault.code.as_str())));
        let mut outline = whole.clone().end("freshet.query", kind, (read_us, now_us));
        outline.attributes = attributes;
        outline.error = answer.error.as_ref().map(|fault| fault.message.clone());
        let (spans, made_us) = self.stages(&whole, read_us, answer.stage_seconds.as_ref());
        let (tracer, answers) = (self.tracer.clone(), Arc::clone(&self.answers));
        let made_us = made_us.unwrap_or(now_us);
        Some(Box::new(QueryTrace { tracer, whole, spans, read_us, made_us, outline, answers }))
    }

    /// Spans of the stages, one behind the other, and the end of the last.
    fn stages(&self, whole: &Open, read_us: u64, seconds: Option<&StageSeconds>) -> (Vec<Span>, Option<u64>) {
        let mut at = read_us;
        let mut spans = Vec::new();
        for (stage, seconds) in seconds.iter().flat_map(|seconds| seconds.by_name()) {
            let begun = at;
            at += (seconds * MICROS_PER_SECOND).round() as u64;
            let part = self.tracer.part_of(whole);
            spans.push(part.end(stage_name(stage), SpanKind::Internal, (begun, at)));
        }
        (spans, seconds.map(|_| at))
    }
}

impl QueryTrace {
    /// The answer is written, or handed to who asked.
    pub(super) fn written(mut self, origin_is_gateway: bool, now_us: u64) {
        if !origin_is_gateway {
            let part = self.tracer.part_of(&self.whole);
            let mut span = part.end("freshet.produce", SpanKind::Producer, (self.made_us, now_us));
            span.attributes = vec![
                text("messaging.system", self.tracer.system()),
                text("messaging.operation.name", "send"),
                text("messaging.operation.type", "send"),
                text("messaging.destination.name", &*self.answers),
            ];
            self.spans.push(span);
        }
        self.outline.end_us = now_us.max(self.read_us);
        self.spans.push(self.outline);
        self.tracer.send(self.spans);
    }
}
