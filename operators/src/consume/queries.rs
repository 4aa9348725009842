//! Queries topic and gateway → records at the newest closed tick.
//!
//! The capability of this operator is the newest closed tick: it says to everything downstream that no query will look
//! further back. Limit: at most `in_flight_max` queries of this worker are being answered at once, those of the topic and
//! of the gateway together; the two take turns in being first where there is little room.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use freshet_schemas::Record;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Scope, StreamVec};

use crate::clock;
use crate::connect::Source;
use crate::control::Control;
use crate::gateway::{Desk, GATEWAY};
use crate::index::Time;
use crate::message::Origin;
use crate::produce::{Offsets, SharedJournal};
use crate::wake::LateWake;

/// What the operator needs to read queries.
pub struct QueryConsumer {
    /// The partitions of this worker, which may get more.
    pub source: Box<dyn Source>,
    /// Queries read and not answered yet; shared with the operator that writes answers.
    pub offsets: Rc<RefCell<Offsets>>,
    /// What remembers queries as they were asked, if anything does.
    pub journal: Option<SharedJournal>,
    /// Queries from within the process.
    pub desk: Option<Arc<Desk>>,
    /// Most queries being answered at once.
    pub in_flight_max: usize,
    /// Time after which an idle operator looks again.
    pub tick: Duration,
    /// Bound to the operator: the source wakes it.
    pub wake: LateWake,
    /// Stop signal and failures.
    pub control: Arc<Control>,
}

/// Reads queries: each with the microsecond at which it was read.
pub fn consume_queries<'scope>(
    scope: Scope<'scope, Time>,
    applied: StreamVec<'scope, Time, ()>,
    mut consumer: QueryConsumer,
) -> StreamVec<'scope, Time, (Origin, u64, Record)> {
    let mut builder = OperatorBuilder::new("Consume(queries)".into(), scope);
    let info = builder.operator_info();
    let activator = scope.activator_for(info.address.clone());
    consumer.wake.bind(scope.worker().sync_activator_for(info.address.to_vec()));
    if let Some(desk) = &consumer.desk {
        desk.wake().bind(scope.worker().sync_activator_for(info.address.to_vec()));
    }
    let mut applied = builder.new_input_connection::<Vec<()>, _, _>(applied, Pipeline, []);
    let (output, stream) = builder.new_output_connection([]);
    let mut output = OutputBuilder::from(output);
    let worker = scope.worker().index();

    builder.build(move |mut capabilities| {
        let mut held = capabilities.pop();
        let mut next_look = Instant::now();
        let mut desk_first = false;
        move |frontiers| {
            applied.for_each(|_, _| {});
            if consumer.control.draining() {
                held = None;
                consumer.desk.iter().for_each(|desk| desk.close());
            }
            let Some(capability) = held.as_mut() else { return };
            let closed =
                frontiers[0].frontier().first().map_or(*capability.time(), |open| open.saturating_sub(1));
            if closed > *capability.time() {
                capability.downgrade(&closed);
            }
            // Before the first tick has closed there is no cut to read.
            if *capability.time() > 0 {
                desk_first = !desk_first;
                let queries = consumer.take(worker, desk_first);
                output.activate().session(&*capability).give_iterator(queries.into_iter());
            }
            let now = Instant::now();
            if next_look <= now {
                next_look = now + consumer.tick;
                activator.activate_after(consumer.tick);
            }
        }
    });
    stream
}

impl QueryConsumer {
    /// Takes queries for which there is room.
    fn take(&mut self, worker: usize, desk_first: bool) -> Vec<(Origin, u64, Record)> {
        let mut queries = if desk_first { self.ask_desk(worker) } else { Vec::new() };
        let records = self.poll();
        let read_at_us = clock::now_us();
        let origin = |r: &Record| Origin { worker, partition: r.partition, offset: r.offset };
        queries.extend(records.into_iter().map(|r| (origin(&r), read_at_us, r)));
        if !desk_first {
            queries.extend(self.ask_desk(worker));
        }
        if let Some(journal) = &self.journal {
            let mut journal = journal.borrow_mut();
            queries.iter().for_each(|(origin, _, record)| journal.read(*origin, record));
        }
        queries
    }

    /// Queries that may still be taken.
    fn room(&self) -> usize {
        let at_desk = self.desk.as_ref().map_or(0, |desk| desk.open());
        self.in_flight_max.saturating_sub(self.offsets.borrow().in_flight() + at_desk)
    }

    fn ask_desk(&self, worker: usize) -> Vec<(Origin, u64, Record)> {
        let taken = self.desk.as_ref().map(|desk| desk.take(self.room())).unwrap_or_default();
        let origin = |number| Origin { worker, partition: GATEWAY, offset: number };
        taken.into_iter().map(|taken| (origin(taken.number), taken.asked_at_us, taken.record)).collect()
    }

    fn poll(&mut self) -> Vec<Record> {
        let room = self.room();
        let mut offsets = self.offsets.borrow_mut();
        let room = room.min(offsets.room());
        if room == 0 {
            return Vec::new();
        }
        match self.source.poll(room, QUERY_BYTES_MAX) {
            Ok(mut polled) => {
                polled.records.retain(|record| offsets.read(record.partition, record.offset));
                offsets.advance(&polled.positions);
                polled.records
            }
            Err(error) => {
                self.control.fail(&error);
                Vec::new()
            }
        }
    }
}

/// Bytes of queries taken at once.
const QUERY_BYTES_MAX: usize = 1 << 20;
