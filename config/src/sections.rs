//! The sections that are read key by key: pipeline, topics, documents, embedding, queries, models, snapshots.

use std::collections::BTreeMap;
use std::path::PathBuf;

use freshet_schemas::{DocumentTopics, QueryLimits};
use toml::Value;

use crate::section::{Section, describe};
use crate::{Delivery, Embedding, Indexing, Pipeline, Queries, Snapshots, StoreOptions, Topics};

/// Suffix of the topic for records that were refused.
const DEAD_LETTERS: &str = ".dlq";
/// Longest name of a Kafka topic, less the suffix.
const TOPIC_CHARS_MAX: usize = 249 - DEAD_LETTERS.len();
/// Most shards and most threads: more are slips of the keyboard.
const THREADS_MAX: usize = 4096;
/// Most of anything else that is counted.
pub(crate) const COUNT_MAX: usize = 1 << 30;
/// Deepest plan; the nesting of JSON is bounded by 127.
const DEPTH_MAX: u64 = 32;

pub(crate) fn pipeline(mut section: Section<'_>) -> Pipeline {
    let base = Pipeline::default();
    let pipeline = Pipeline {
        name: section.string("name").unwrap_or(base.name),
        shards: section.count_u32("shards", THREADS_MAX as u32).unwrap_or(base.shards),
        workers: section.count("workers", THREADS_MAX).unwrap_or(base.workers),
        tick: section.duration("tick").unwrap_or(base.tick),
        tick_records_max: section.count("tick_records_max", COUNT_MAX).unwrap_or(base.tick_records_max),
        in_flight_records_max: section
            .count("in_flight_records_max", COUNT_MAX)
            .unwrap_or(base.in_flight_records_max),
        in_flight_bytes_max: section.size("in_flight_bytes_max").unwrap_or(base.in_flight_bytes_max),
        observe: section.bool("observe").unwrap_or(base.observe),
    };
    section.finish();
    pipeline
}

pub(crate) fn topics(mut section: Section<'_>) -> Topics {
    let base = Topics::default();
    let topics = Topics {
        documents: document_topics(&mut section).unwrap_or(base.documents),
        queries: topic(&mut section, "queries").unwrap_or(base.queries),
        answers: topic(&mut section, "answers").unwrap_or(base.answers),
    };
    let dead = |topic: &str| format!("{topic}{DEAD_LETTERS}");
    let mut used: Vec<(String, String)> = Vec::new();
    let documents = topics.documents.names().iter().map(|name| ("documents", name));
    for (key, name) in documents.chain([("queries", &topics.queries), ("answers", &topics.answers)]) {
        if let Some((_, by)) = used.iter().find(|(other, _)| other == name) {
            section.report(key, format!("\"{name}\" is also the topic of {by}"));
        }
        used.push((name.clone(), key.to_owned()));
        if key != "answers" {
            used.push((dead(name), format!("the dead letters of {key}")));
        }
    }
    section.finish();
    topics
}

/// One topic, or an array of them.
fn document_topics(section: &mut Section<'_>) -> Option<DocumentTopics> {
    if !section.is_array("documents") {
        return topic(section, "documents").map(DocumentTopics::from);
    }
    let names = section.strings("documents")?;
    if names.is_empty() {
        section.report("documents", "is empty: name at least one topic");
        return None;
    }
    if names.len() > DocumentTopics::MAX {
        section.report("documents", format!("{} topics, at most {}", names.len(), DocumentTopics::MAX));
        return None;
    }
    let legal: Vec<bool> = names.iter().map(|name| is_topic(section, "documents", name)).collect();
    legal.into_iter().all(|legal| legal).then(|| DocumentTopics::new(names))
}

fn topic(section: &mut Section<'_>, key: &'static str) -> Option<String> {
    let name = section.string(key)?;
    is_topic(section, key, &name).then_some(name)
}

/// Whether a topic may have this name; reports it otherwise.
fn is_topic(section: &mut Section<'_>, key: &'static str, name: &str) -> bool {
    let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let legal = name.len() <= TOPIC_CHARS_MAX && name.chars().all(is_legal) && name != "." && name != "..";
    if !legal {
        let message = format!(
            "{name:?} is not a topic: at most {TOPIC_CHARS_MAX} letters, digits, \".\", \"_\" or \"-\""
        );
        section.report(key, message);
    }
    legal
}

pub(crate) fn embedding(mut section: Section<'_>) -> Embedding {
    let base = Embedding::default();
    let embedding = Embedding {
        threads: section.count("threads", THREADS_MAX).unwrap_or(base.threads),
        batch_tokens_max: section.count("batch_tokens_max", COUNT_MAX).unwrap_or(base.batch_tokens_max),
        queue_texts_max: section.count("queue_texts_max", COUNT_MAX).unwrap_or(base.queue_texts_max),
        run_timeout: section.duration("run_timeout").unwrap_or(base.run_timeout),
    };
    section.finish();
    embedding
}

pub(crate) fn indexing(mut section: Section<'_>) -> Indexing {
    let base = Indexing::default();
    let indexing = Indexing {
        build_threads: section.count("build_threads", THREADS_MAX).unwrap_or(base.build_threads),
        head_documents: section.count("head_documents", COUNT_MAX).unwrap_or(base.head_documents),
        head_bytes: section.size("head_bytes").unwrap_or(base.head_bytes),
    };
    section.finish();
    indexing
}

pub(crate) fn queries(mut section: Section<'_>) -> Queries {
    let base = Queries::default();
    let limits = QueryLimits {
        limit_max: section.count("limit_max", COUNT_MAX).map_or(base.limits.limit_max, usize::from),
        depth_max: section
            .integer("depth_max", 1..=DEPTH_MAX)
            .map_or(base.limits.depth_max, |depth| depth as usize),
        nodes_max: section.count("nodes_max", COUNT_MAX).map_or(base.limits.nodes_max, usize::from),
        text_bytes_max: section.size("text_bytes_max").map_or(base.limits.text_bytes_max, usize::from),
    };
    let queries = Queries {
        limits,
        in_flight_max: section.count("in_flight_max", COUNT_MAX).unwrap_or(base.in_flight_max),
        consistency_timeout: section.duration("consistency_timeout").unwrap_or(base.consistency_timeout),
        cursor_timeout: section.duration("cursor_timeout").unwrap_or(base.cursor_timeout),
        cursors_max: section.count("cursors_max", COUNT_MAX).unwrap_or(base.cursors_max),
        delivery: section
            .word(
                "delivery",
                &[("exactly_once", Delivery::ExactlyOnce), ("at_least_once", Delivery::AtLeastOnce)],
            )
            .unwrap_or(base.delivery),
    };
    section.finish();
    queries
}

pub(crate) fn models(mut section: Section<'_>) -> BTreeMap<String, PathBuf> {
    let mut models = BTreeMap::new();
    for (name, value) in section.take_all() {
        match value.as_str().filter(|folder| !folder.trim().is_empty()) {
            Some(folder) => {
                models.insert(name, PathBuf::from(folder));
            }
            None => {
                let message = format!("{} is not the folder of a model", describe(&value));
                section.report(&name, message);
            }
        }
    }
    models
}

pub(crate) fn snapshots(mut section: Section<'_>) -> Snapshots {
    let base = Snapshots::default();
    let snapshots = Snapshots {
        store: section.string("store").unwrap_or(base.store),
        options: store_options(section.section("options")),
        interval: section.duration("interval").unwrap_or(base.interval),
        keep: section.count("keep", COUNT_MAX).unwrap_or(base.keep),
        keep_for: section.duration("keep_for").unwrap_or(base.keep_for),
        answers: section.bool("answers").unwrap_or(base.answers),
    };
    let is_url = snapshots
        .store
        .split_once("://")
        .is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty());
    if !is_url {
        let message = format!(
            "\"{}\" is not a URL such as \"file://snapshots\" or \"s3://bucket/prefix\"",
            snapshots.store
        );
        section.report("store", message);
    }
    section.finish();
    snapshots
}

/// Which keys there are, the store's client knows: it says so when the store is opened.
fn store_options(mut section: Section<'_>) -> StoreOptions {
    let mut options = BTreeMap::new();
    for (name, value) in section.take_all() {
        match value {
            Value::String(text) => drop(options.insert(name, text)),
            Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => {
                options.insert(name, describe(&value));
            }
            Value::Array(_) | Value::Table(_) | Value::Datetime(_) => {
                section.report(&name, format!("{} is not a string", describe(&value)));
            }
        }
    }
    StoreOptions(options)
}
