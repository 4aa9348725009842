//! Looks for topics, and creates those that are missing where that is allowed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use freshet_schemas::Partition;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};

use super::super::ConnectError;
use super::clients::{Clients, Reports, Role, code_of, is_transient};
use crate::wake::block_on;

/// Time between two looks at topics that are being created, or at brokers that do not answer.
const LOOK: Duration = Duration::from_millis(100);
/// Time that brokers have for the first of several answers.
const FIRST: Duration = Duration::from_secs(1);

/// What there is of a topic.
pub(super) enum Found {
    Partitions(Vec<Partition>),
    Missing,
}

/// What a topic is created for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Its records are kept for good: a pipeline reads its documents again when it starts.
    Input,
    /// Kept for as long as brokers are told to.
    Output,
    /// The newest record of each key is kept, in one partition.
    Table,
}

/// Asks until brokers answer, refuse the credentials, or the time is over; `ask` gets the time that it has. It is short at
/// first, since a refusal shows only between two questions, and grows, since slow brokers answer late.
pub(super) fn until_answered<T>(
    clients: &Clients,
    limit: Duration,
    ask: impl Fn(Duration) -> KafkaResult<T>,
) -> KafkaResult<T> {
    let deadline = Instant::now() + limit;
    let mut time = FIRST;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match ask(time.min(left).max(LOOK)) {
            Err(error) if code_of(&error).is_some_and(is_transient) && Instant::now() < deadline => {
                if clients.outage.refused() {
                    return Err(error);
                }
                std::thread::sleep(LOOK);
                time *= 2;
            }
            result => return result,
        }
    }
}

/// Looks for a topic.
pub(super) fn find(
    clients: &Clients,
    consumer: &BaseConsumer<Reports>,
    topic: &str,
    limit: Duration,
) -> Result<Found, ConnectError> {
    let ask = |left| {
        let metadata = consumer.fetch_metadata(Some(topic), left)?;
        let entry = metadata.topics().iter().find(|entry| entry.name() == topic);
        match entry.and_then(|entry| entry.error()).map(Code::from) {
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => Ok(Found::Missing),
            Some(code) => Err(KafkaError::MetadataFetch(code)),
            None => {
                let all = entry.map(|entry| entry.partitions()).unwrap_or_default();
                let mut partitions: Vec<Partition> = all.iter().map(|partition| partition.id()).collect();
                partitions.sort_unstable();
                Ok(Found::Partitions(partitions))
            }
        }
    };
    let found = until_answered(clients, limit, ask);
    let found = found.map_err(|error| clients.error(&format!("look for topic \"{topic}\""), &error))?;
    clients.outage.end();
    Ok(found)
}

/// Creates topics and waits until brokers know them.
pub(super) fn create(
    clients: &Clients,
    consumer: &BaseConsumer<Reports>,
    topics: &[(&str, Kind)],
    settings: &freshet_config::Kafka,
    limit: Duration,
) -> Result<BTreeMap<String, Vec<Partition>>, ConnectError> {
    let names: Vec<&str> = topics.iter().map(|(topic, _)| *topic).collect();
    let what = format!("create topic(s) {}", names.join(", "));
    let fail = |error: KafkaError| clients.error(&what, &error);
    let admin: AdminClient<Reports> =
        clients.config(Role::Admin).create_with_context(clients.reports()).map_err(fail)?;
    let partitions = i32::try_from(settings.partitions.get()).unwrap_or(i32::MAX);
    let replication = i32::try_from(settings.replication.get()).unwrap_or(i32::MAX);
    let new = |topic, partitions| NewTopic::new(topic, partitions, TopicReplication::Fixed(replication));
    let new: Vec<NewTopic<'_>> = (topics.iter())
        .map(|(topic, kind)| match kind {
            Kind::Input => new(topic, partitions).set("retention.ms", "-1"),
            Kind::Output => new(topic, partitions),
            Kind::Table => new(topic, 1).set("cleanup.policy", "compact"),
        })
        .collect();
    let options = AdminOptions::new().request_timeout(Some(limit)).operation_timeout(Some(limit));
    for result in block_on(admin.create_topics(&new, &options)).map_err(fail)? {
        match result {
            Ok(topic) => tracing::info!(topic, partitions, "created topic"),
            Err((_, Code::TopicAlreadyExists)) => {}
            Err((topic, code)) => {
                return Err(clients.error(&format!("create topic \"{topic}\""), &KafkaError::AdminOp(code)));
            }
        }
    }
    let deadline = Instant::now() + limit;
    let mut created = BTreeMap::new();
    for topic in names {
        loop {
            match find(clients, consumer, topic, deadline.saturating_duration_since(Instant::now()))? {
                Found::Partitions(partitions) if !partitions.is_empty() => {
                    created.insert(topic.to_owned(), partitions);
                    break;
                }
                Found::Partitions(_) | Found::Missing if Instant::now() < deadline => {
                    std::thread::sleep(LOOK)
                }
                Found::Partitions(_) | Found::Missing => {
                    return Err(fail(KafkaError::AdminOp(Code::OperationTimedOut)));
                }
            }
        }
    }
    Ok(created)
}

/// Removes topics and the group, and waits until brokers know the topics no more.
pub(super) fn remove(
    clients: &Clients,
    consumer: &BaseConsumer<Reports>,
    topics: &[&str],
    limit: Duration,
) -> Result<(), ConnectError> {
    let what = format!("remove topic(s) {}", topics.join(", "));
    let fail = |error: KafkaError| clients.error(&what, &error);
    let admin: AdminClient<Reports> =
        clients.config(Role::Admin).create_with_context(clients.reports()).map_err(fail)?;
    let options = AdminOptions::new().request_timeout(Some(limit)).operation_timeout(Some(limit));
    for result in block_on(admin.delete_topics(topics, &options)).map_err(fail)? {
        match result {
            Ok(topic) => tracing::info!(topic, "removed topic"),
            Err((_, Code::UnknownTopicOrPartition | Code::UnknownTopic)) => {}
            Err((topic, code)) => {
                return Err(clients.error(&format!("remove topic \"{topic}\""), &KafkaError::AdminOp(code)));
            }
        }
    }
    let options = AdminOptions::new().request_timeout(Some(limit));
    for result in block_on(admin.delete_groups(&[clients.group.as_str()], &options)).map_err(fail)? {
        match result {
            Ok(_) | Err((_, Code::GroupIdNotFound)) => {}
            // Its offsets are of topics that are gone; brokers forget them with the topics.
            Err((group, code)) => tracing::warn!(group, %code, "consumer group not removed"),
        }
    }
    let deadline = Instant::now() + limit;
    for topic in topics {
        while let Found::Partitions(_) =
            find(clients, consumer, topic, deadline.saturating_duration_since(Instant::now()))?
        {
            if Instant::now() >= deadline {
                return Err(fail(KafkaError::AdminOp(Code::OperationTimedOut)));
            }
            std::thread::sleep(LOOK);
        }
    }
    Ok(())
}
