//! Answers and the progress of the queries they settle, handed over together.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use freshet_schemas::Partition;

use super::trace::QueryTrace;
use super::{Offsets, Outgoing, not_written};
use crate::clock;
use crate::connect::{Batch, Entry, Progress, TransactionSink};
use crate::control::Control;
use crate::snapshot::answers::AnsweredQuery;

/// Time between two hand-overs of progress that no record goes with.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// Hands answers over with the progress of their queries.
pub struct Together {
    sink: TransactionSink,
    /// Handed over last.
    handed: BTreeMap<Partition, Progress>,
    next_progress: Instant,
    /// Records handed over so far; they are written in this order.
    records: usize,
    /// Traces of those that are not known to be written, each with the number of records up to its own.
    traces: VecDeque<(usize, Box<QueryTrace>)>,
}

impl Together {
    /// Writes to a sink; `recovered` is what was committed before.
    pub fn new(sink: TransactionSink, recovered: BTreeMap<Partition, Progress>) -> Self {
        Self {
            sink,
            handed: recovered,
            next_progress: Instant::now() + PROGRESS_INTERVAL,
            records: 0,
            traces: VecDeque::new(),
        }
    }

    /// Hands over what there is room for; returns how much is not known to be written. Queries count as settled from
    /// here on, and `keep` takes what is kept of them: their answers and the progress that says so are written together or
    /// not at all.
    pub(super) fn write(
        &mut self,
        queue: &mut VecDeque<Outgoing>,
        keep: impl Fn(Option<Box<AnsweredQuery>>),
        offsets: &RefCell<Offsets>,
        control: &Control,
    ) -> usize {
        let mut offsets = offsets.borrow_mut();
        let count = queue.len().min(self.sink.room());
        let mut entries = Vec::with_capacity(count);
        for Outgoing { topic, record, settles, answers, as_of, row, trace } in queue.drain(..count) {
            if let Some(origin) = settles {
                offsets.settle(origin.partition, origin.offset);
            }
            offsets.reflect(&as_of);
            keep(row);
            self.records += 1;
            self.traces.extend(trace.map(|trace| (self.records, trace)));
            entries.push(Entry { topic, record, instead: answers.map(|_| not_written as _) });
        }
        let now = Instant::now();
        let idle = queue.is_empty() && (now >= self.next_progress || control.draining());
        if !entries.is_empty() || idle {
            self.next_progress = now + PROGRESS_INTERVAL;
            let mut progress = offsets.progress();
            let settled = |progress: &Progress| (progress.next(), progress.upto - progress.open.len() as i64);
            // What is new only is that queries have been read is told with the next answer. A partition is named once it is
            // known, even if nothing was read of it: what comes and goes before the next run is missed then.
            progress.retain(|partition, now| self.handed.get(partition).map(settled) != Some(settled(now)));
            if !entries.is_empty() || !progress.is_empty() {
                self.handed.extend(progress.iter().map(|(partition, now)| (*partition, now.clone())));
                self.sink.send(Batch { entries, progress });
            }
        }
        if let Some(error) = self.sink.failure() {
            control.fail(&*error);
        }
        let unsettled = self.sink.unsettled();
        while self.traces.front().is_some_and(|(number, _)| number + unsettled <= self.records) {
            let Some((_, trace)) = self.traces.pop_front() else { break };
            trace.written(false, clock::now_us());
        }
        unsettled
    }
}
