//! Commits offsets on a thread of its own.
//!
//! Librdkafka tells nobody whether an asynchronous commit has succeeded, unless it is given a callback that the safe
//! API does not give it. So commits are synchronous, one at a time; offsets that come meanwhile replace those that
//! wait. Brokers that are away are tried again; other failures are returned by the next call.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use freshet_schemas::{Offset, Partition};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};

use super::super::lock;
use super::clients::{Reports, code_of, is_transient};

/// Time between two attempts while brokers are away.
const RETRY: Duration = Duration::from_millis(500);

/// Next offsets by topic and partition.
type Waiting = BTreeMap<(String, Partition), Offset>;

/// Offsets on their way to the group's coordinator.
#[derive(Default)]
pub(super) struct Commits {
    state: Mutex<State>,
    /// Notified on every change of `state`.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Waiting,
    /// Whether some are being committed.
    busy: bool,
    /// Why some could not be, until it is told.
    failed: Option<KafkaError>,
    closed: bool,
}

impl Commits {
    /// Takes offsets to be committed, or returns why earlier ones could not be.
    pub(super) fn add(&self, topic: &str, next: &BTreeMap<Partition, Offset>) -> KafkaResult<()> {
        let mut state = lock(&self.state);
        if let Some(error) = state.failed.take() {
            return Err(error);
        }
        let offsets = next.iter().map(|(partition, offset)| ((topic.to_owned(), *partition), *offset));
        state.waiting.extend(offsets);
        self.changed.notify_all();
        Ok(())
    }

    /// Waits until all that was added is committed; `false` when the time is over before.
    pub(super) fn settle(&self, limit: Duration) -> KafkaResult<bool> {
        let underway = |state: &mut State| (state.busy || !state.waiting.is_empty()) && state.failed.is_none();
        let waited = self.changed.wait_timeout_while(lock(&self.state), limit, underway);
        let (mut state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        state.failed.take().map_or(Ok(!timeout.timed_out()), Err)
    }

    /// Ends the thread once it has tried to commit what waits.
    pub(super) fn close(&self) {
        lock(&self.state).closed = true;
        self.changed.notify_all();
    }

    /// What the thread does.
    pub(super) fn serve(&self, consumer: &BaseConsumer<Reports>) {
        while let Some(waiting) = self.take() {
            let result = commit(consumer, &waiting);
            let mut state = lock(&self.state);
            state.busy = false;
            match result {
                Ok(()) => {}
                Err(error) if code_of(&error).is_some_and(is_transient) && !state.closed => {
                    tracing::debug!(%error, "cannot commit offsets; trying again");
                    for (place, offset) in waiting {
                        state.waiting.entry(place).or_insert(offset);
                    }
                    let waited = self.changed.wait_timeout_while(state, RETRY, |state| !state.closed);
                    drop(waited.unwrap_or_else(PoisonError::into_inner));
                }
                Err(error) => {
                    tracing::warn!(%error, "offsets are not committed");
                    state.failed = Some(error);
                }
            }
            self.changed.notify_all();
        }
    }

    /// Waits for offsets to commit; `None` when there will be none any more.
    fn take(&self) -> Option<Waiting> {
        let idle = |state: &mut State| !state.closed && state.waiting.is_empty();
        let waited = self.changed.wait_while(lock(&self.state), idle);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        state.busy = !state.waiting.is_empty();
        state.busy.then(|| std::mem::take(&mut state.waiting))
    }
}

fn commit(consumer: &BaseConsumer<Reports>, waiting: &Waiting) -> KafkaResult<()> {
    let mut list = TopicPartitionList::new();
    for ((topic, partition), offset) in waiting {
        list.add_partition_offset(topic, *partition, rdkafka::Offset::Offset(*offset))?;
    }
    consumer.commit(&list, CommitMode::Sync)
}

/// Ends the thread when the connector is gone.
pub(super) struct CloseOnDrop(pub(super) Arc<Commits>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}
