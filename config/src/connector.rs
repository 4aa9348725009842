//! `[connector]`: where the topics are.

use std::collections::BTreeMap;
use std::path::PathBuf;

use toml::{Table, Value};

use crate::problems::{did_you_mean, list};
use crate::section::{Section, describe};
use crate::{AutoOffsetReset, Connector, Kafka, defaults};

/// Kinds of connector.
const KINDS: [&str; 2] = ["files", "kafka"];
/// Most partitions or replicas of a topic that is created.
const PARTITIONS_MAX: u32 = 10_000;
/// librdkafka properties that are refused, with the reason.
const REFUSED: [(&str, &str); 14] = [
    ("bootstrap.servers", "has a key of its own: connector.bootstrap_servers"),
    ("metadata.broker.list", "has a key of its own: connector.bootstrap_servers"),
    ("group.id", "is the name of the pipeline: pipeline.name"),
    ("enable.auto.commit", "is set by Freshet: offsets are committed with the answers"),
    ("enable.auto.offset.store", "is set by Freshet: offsets are committed with the answers"),
    ("transactional.id", "is set by Freshet: it must be the same after a restart"),
    ("isolation.level", "is set by Freshet: only committed records are read"),
    ("auto.offset.reset", "has a key of its own: connector.auto_offset_reset"),
    ("enable.partition.eof", "is set by Freshet: it tells which offsets an answer reflects"),
    ("allow.auto.create.topics", "has a key of its own: connector.create_topics"),
    ("enable.idempotence", "is set by Freshet: records of a key must keep their order"),
    ("acks", "is set by Freshet: an answer counts once all replicas have it"),
    ("request.required.acks", "is set by Freshet: an answer counts once all replicas have it"),
    ("statistics.interval.ms", "is set by Freshet: nobody reads the statistics, and they would pile up"),
];

/// Reads the connector; `files` where nothing is said.
pub(crate) fn read(mut section: Section<'_>) -> Connector {
    let kind = section.string("kind").unwrap_or_else(|| KINDS[0].to_owned());
    let connector = match kind.as_str() {
        "files" => files(&mut section),
        "kafka" => kafka(&mut section),
        _ => {
            let message = format!("\"{kind}\" is not one of {}{}", list(KINDS), did_you_mean(&kind, KINDS));
            section.report("kind", message);
            // Which keys belong here depends on the kind.
            section.take_all();
            Connector::default()
        }
    };
    section.finish();
    connector
}

fn files(section: &mut Section<'_>) -> Connector {
    let directory = section.string("directory").unwrap_or_else(|| defaults::DIRECTORY.to_owned());
    Connector::Files { directory: PathBuf::from(directory) }
}

fn kafka(section: &mut Section<'_>) -> Connector {
    if !section.has("bootstrap_servers") {
        section.report("bootstrap_servers", "missing: \"HOST:PORT\", several separated by commas");
    }
    let base = Kafka::at(section.string("bootstrap_servers").unwrap_or_default());
    Connector::Kafka(Kafka {
        create_topics: section.bool("create_topics").unwrap_or(base.create_topics),
        partitions: section.count_u32("partitions", PARTITIONS_MAX).unwrap_or(base.partitions),
        replication: section.count_u32("replication", PARTITIONS_MAX).unwrap_or(base.replication),
        auto_offset_reset: section
            .word(
                "auto_offset_reset",
                &[("none", AutoOffsetReset::None), ("earliest", AutoOffsetReset::Earliest)],
            )
            .unwrap_or(base.auto_offset_reset),
        properties: properties(section.section("properties")),
        ..base
    })
}

fn properties(mut section: Section<'_>) -> BTreeMap<String, String> {
    let mut properties = BTreeMap::new();
    for (name, value) in section.take_all() {
        if let Some((_, reason)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
            section.report(&name, *reason);
            continue;
        }
        match value {
            Value::String(text) => {
                properties.insert(name, text);
            }
            Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => {
                properties.insert(name, describe(&value));
            }
            Value::Table(table) => {
                let message =
                    format!("is a table; a property's name stands in quotes: \"{}\"", dotted(&name, &table));
                section.report(&name, message);
            }
            Value::Array(_) | Value::Datetime(_) => {
                section.report(&name, format!("{} is not a string", describe(&value)));
            }
        }
    }
    properties
}

/// The property that somebody meant by writing its name without quotes.
fn dotted(name: &str, table: &Table) -> String {
    match table.iter().next() {
        Some((key, Value::Table(below))) => format!("{name}.{}", dotted(key, below)),
        Some((key, _)) => format!("{name}.{key}"),
        None => name.to_owned(),
    }
}
