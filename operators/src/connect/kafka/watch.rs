//! Looks at the topics that are read, again and again: new partitions, and topics that are not what they were.
//!
//! ```text
//! readers ── watch ──▶ names ── one thread, every interval or when hurried ──▶ brokers
//!    ▲                                                                          │ id, partitions
//!    └───── partitions, or why the topic can be read no more ◀──────────────────┘
//! ```
//! A topic that is missing is looked for twice: a broker may not know yet what others know. One with another id was
//! deleted and made anew: its offsets mean other records, whatever they are.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use freshet_schemas::Partition;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::topic_partition_list::TopicPartitionListElem;

use super::super::{ConnectError, lock};
use super::clients::{Clients, Reports, code_of};
use super::describe::{Description, describe};
use super::metrics::KafkaMetrics;

/// Property that says how often topics are looked at, and the time unless it does.
const INTERVAL_PROPERTY: &str = "topic.metadata.refresh.interval.ms";
const INTERVAL: Duration = Duration::from_secs(3);
/// Bounds of the time between two looks, whatever is configured.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
const INTERVAL_MAX: Duration = Duration::from_secs(60);
/// Time after which a look that was not answered, or found a topic missing, is repeated.
const AGAIN: Duration = Duration::from_millis(500);
/// Time that brokers have to answer one look.
const ANSWER: Duration = Duration::from_secs(5);
/// Looks in a row that find a topic missing before it counts as deleted.
const MISSING_MAX: usize = 2;

/// The topics that are read.
pub(super) struct Watch {
    clients: Arc<Clients>,
    client: Arc<BaseConsumer<Reports>>,
    interval: Duration,
    metrics: KafkaMetrics,
    state: Mutex<State>,
    /// Notified when there is something to look at, and when the watch is closed.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    topics: BTreeMap<String, Watched>,
    hurried: bool,
    closed: bool,
}

/// What is known of a topic.
#[derive(Default)]
struct Watched {
    readers: usize,
    /// As it was first seen.
    id: Option<String>,
    partitions: Vec<Partition>,
    /// Looks in a row that found no such topic.
    missing: usize,
    end: Option<End>,
}

/// Why a topic is not the one any more that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Deleted,
    MadeAnew,
}

impl Watched {
    /// Takes what a look has found.
    fn see(&mut self, found: Result<Description, Code>) {
        match found {
            Ok(found) => {
                self.missing = 0;
                match (&self.id, found.id) {
                    (Some(known), Some(id)) if *known != id => self.end = Some(End::MadeAnew),
                    (None, id) => self.id = id,
                    _ => {}
                }
                // Brokers that lag behind may still tell of fewer.
                if self.end.is_none() && found.partitions.len() > self.partitions.len() {
                    self.partitions = found.partitions;
                }
            }
            Err(Code::UnknownTopicOrPartition | Code::UnknownTopicId) => {
                self.missing += 1;
                if self.missing >= MISSING_MAX {
                    self.end = Some(End::Deleted);
                }
            }
            // What brokers refuse for another reason shows when it is read.
            Err(_) => {}
        }
    }
}

impl Watch {
    pub(super) fn new(
        clients: Arc<Clients>,
        client: Arc<BaseConsumer<Reports>>,
        metrics: KafkaMetrics,
    ) -> Self {
        let configured = clients.property(INTERVAL_PROPERTY).and_then(|value| value.parse().ok());
        let interval = configured.map_or(INTERVAL, Duration::from_millis);
        let interval = interval.clamp(INTERVAL_MIN, INTERVAL_MAX);
        Self { clients, client, interval, metrics, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Watches a topic until what is returned is dropped; it is looked at at once.
    pub(super) fn watch(self: &Arc<Self>, topic: &str) -> WatchedTopic {
        let mut state = lock(&self.state);
        state.topics.entry(topic.to_owned()).or_default().readers += 1;
        state.hurried = true;
        self.changed.notify_all();
        WatchedTopic { watch: Arc::clone(self), topic: topic.to_owned() }
    }

    /// Looks soon: something is strange.
    pub(super) fn hurry(&self) {
        lock(&self.state).hurried = true;
        self.changed.notify_all();
    }

    /// Ends the thread.
    pub(super) fn close(&self) {
        lock(&self.state).closed = true;
        self.changed.notify_all();
    }

    /// What the thread does.
    pub(super) fn serve(&self) {
        let mut wait = Duration::ZERO;
        while let Some(topics) = self.next(wait) {
            wait = match describe(&self.client, &topics, ANSWER) {
                Ok(found) => {
                    self.clients.outage.end();
                    self.measure(&found);
                    if self.take(found) { AGAIN.min(self.interval) } else { self.interval }
                }
                Err(error) => {
                    tracing::debug!(%error, code = ?code_of(&error), "topics are not described; asking again");
                    AGAIN.min(self.interval)
                }
            };
        }
    }

    /// Asks where the partitions end. A look that is not answered leaves the numbers as they were.
    fn measure(&self, found: &BTreeMap<String, Result<Description, Code>>) {
        for (topic, found) in found {
            let Ok(found) = found else { continue };
            let mut list = TopicPartitionList::new();
            for partition in &found.partitions {
                list.add_partition(topic, *partition);
            }
            if list.set_all_offsets(rdkafka::Offset::End).is_err() {
                continue;
            }
            let Ok(list) = self.client.offsets_for_times(list, ANSWER) else { continue };
            let end = |element: &TopicPartitionListElem<'_>| match (element.error(), element.offset()) {
                (Ok(()), rdkafka::Offset::Offset(end)) => Some((element.partition(), end)),
                _ => None,
            };
            self.metrics.end(topic, &list.elements().iter().filter_map(end).collect());
        }
    }

    /// Waits until it is time for a look; the topics to be looked at, or `None` at the end.
    fn next(&self, wait: Duration) -> Option<Vec<String>> {
        // However hurried, there is some time between two looks.
        let least = wait.min(INTERVAL_MIN);
        let open = |state: &mut State| !state.closed;
        let waited = self.changed.wait_timeout_while(lock(&self.state), least, open);
        let state = waited.unwrap_or_else(PoisonError::into_inner).0;
        let early = |state: &mut State| !state.closed && !state.hurried;
        let waited = self.changed.wait_timeout_while(state, wait - least, early);
        let state = waited.unwrap_or_else(PoisonError::into_inner).0;
        let idle = |state: &mut State| !state.closed && state.topics.is_empty();
        let mut state = self.changed.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner);
        state.hurried = false;
        (!state.closed).then(|| state.topics.keys().cloned().collect())
    }

    /// Takes what was found; whether some topic is missing.
    fn take(&self, found: BTreeMap<String, Result<Description, Code>>) -> bool {
        let mut state = lock(&self.state);
        for (topic, found) in found {
            if let Some(watched) = state.topics.get_mut(&topic) {
                watched.see(found);
            }
        }
        state.topics.values().any(|watched| watched.missing > 0)
    }

    /// The error of a topic that has come to an end.
    fn error(&self, topic: &str, end: End) -> ConnectError {
        let (servers, group) = (&self.clients.servers, &self.clients.group);
        let (happened, first) = match end {
            End::Deleted => ("deleted", "create it, "),
            End::MadeAnew => ("deleted and created anew", ""),
        };
        let what = format!(
            "topic \"{topic}\" at {servers} was {happened} while it was read: what was read of it does not go on; to \
             begin again, {first}reset the offsets of group \"{group}\" and start without the snapshots that there are"
        );
        ConnectError::World { what, source: None, retry: false }
    }
}

/// A topic that is watched.
pub(super) struct WatchedTopic {
    watch: Arc<Watch>,
    topic: String,
}

impl WatchedTopic {
    /// Its partitions if there are others than `known` many; ascending, none before the first look.
    ///
    /// # Errors
    /// When it was deleted, or is another topic.
    pub(super) fn partitions_beside(&self, known: usize) -> Result<Option<Vec<Partition>>, ConnectError> {
        let state = lock(&self.watch.state);
        let Some(watched) = state.topics.get(&self.topic) else { return Ok(None) };
        match watched.end {
            Some(end) => Err(self.watch.error(&self.topic, end)),
            None => Ok((watched.partitions.len() != known).then(|| watched.partitions.clone())),
        }
    }

    /// Looks soon: something is strange.
    pub(super) fn hurry(&self) {
        self.watch.hurry();
    }
}

impl Drop for WatchedTopic {
    fn drop(&mut self) {
        let mut state = lock(&self.watch.state);
        if let Some(watched) = state.topics.get_mut(&self.topic) {
            watched.readers -= 1;
            if watched.readers == 0 {
                state.topics.remove(&self.topic);
            }
        }
    }
}

/// Ends the thread when the connector is gone.
pub(super) struct CloseOnDrop(pub(super) Arc<Watch>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(id: &str, partitions: Partition) -> Result<Description, Code> {
        Ok(Description { id: Some(id.to_owned()), partitions: (0..partitions).collect() })
    }

    #[test]
    fn partitions_are_added_and_never_taken_back() {
        let mut watched = Watched::default();
        for (seen, expected) in [(2, 2), (3, 3), (2, 3), (5, 5)] {
            watched.see(found("a", seen));
            assert_eq!(watched.partitions.len(), expected);
        }
        assert_eq!(watched.end, None);
    }

    #[test]
    fn a_topic_is_deleted_when_two_looks_in_a_row_say_so() {
        let mut watched = Watched::default();
        let missing = || Err(Code::UnknownTopicOrPartition);
        let looks = [found("a", 1), missing(), found("a", 1), Err(Code::LeaderNotAvailable), missing()];
        for look in looks {
            watched.see(look);
            assert_eq!(watched.end, None);
        }
        watched.see(missing());
        assert_eq!(watched.end, Some(End::Deleted));
    }

    #[test]
    fn another_id_is_another_topic() {
        let mut watched = Watched::default();
        watched.see(found("a", 1));
        watched.see(Err(Code::UnknownTopicOrPartition));
        watched.see(found("b", 3));
        assert_eq!((watched.end, watched.partitions), (Some(End::MadeAnew), vec![0]));
    }
}
