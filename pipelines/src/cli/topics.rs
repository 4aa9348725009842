//! `freshet topics`

use std::num::NonZeroU32;
use std::sync::Arc;

use clap::{Args, Subcommand};
use comfy_table::{Table, presets};
use freshet_config::{Config, Connector as ConnectorConfig};
use freshet_operators::connect::{self, ConnectError, Connector};
use freshet_operators::decode::DEAD_LETTER_SUFFIX;
use serde_json::json;

use super::{ConfigArgs, Failure, with_causes};

/// What to do with topics.
#[derive(Subcommand)]
pub(crate) enum TopicsCommand {
    /// Create the topics of a pipeline that are missing, those of dead letters included. Topics that are there stay as they
    /// are. Documents and queries are kept for good (retention.ms = -1).
    #[command(
        after_help = "Example: freshet topics create --config config/kafka.toml --partitions 6 --replication 3"
    )]
    Create {
        #[command(flatten)]
        which: Which,
        /// Partitions of topics that are created. Default: `connector.partitions`.
        #[arg(long, value_name = "N")]
        partitions: Option<NonZeroU32>,
        /// Replicas of topics that are created. Default: `connector.replication`.
        #[arg(long, value_name = "N")]
        replication: Option<NonZeroU32>,
    },
    /// Show the topics of a pipeline: partitions, records, and how far the pipeline is with them.
    #[command(after_help = "Example: freshet topics list --config config/kafka.toml")]
    List(Which),
}

/// Whose topics.
#[derive(Args)]
pub(crate) struct Which {
    #[command(flatten)]
    config: ConfigArgs,
    /// Print JSON, a line per topic.
    #[arg(long)]
    json: bool,
}

/// A topic of a pipeline.
struct Topic {
    role: &'static str,
    name: String,
    /// Whether the pipeline reads it.
    input: bool,
}

fn topics(config: &Config) -> Vec<Topic> {
    let topics = &config.topics;
    let of = |role, name: String, input| Topic { role, name, input };
    let letters = |topic: &str| format!("{topic}{DEAD_LETTER_SUFFIX}");
    let documents = topics.documents.names();
    let mut all: Vec<Topic> = documents.iter().map(|name| of("documents", name.clone(), true)).collect();
    all.push(of("queries", topics.queries.clone(), true));
    all.push(of("answers", topics.answers.clone(), false));
    all.extend(documents.iter().map(|name| of("dead letters of documents", letters(name), false)));
    all.push(of("dead letters of queries", letters(&topics.queries), false));
    all
}

pub(crate) fn topics_command(command: &TopicsCommand) -> Result<(), Failure> {
    match command {
        TopicsCommand::Create { which, partitions, replication } => {
            let mut config = which.config.load()?;
            match &mut config.connector {
                ConnectorConfig::Kafka(kafka) => {
                    kafka.create_topics = true;
                    kafka.partitions = partitions.unwrap_or(kafka.partitions);
                    kafka.replication = replication.unwrap_or(kafka.replication);
                }
                ConnectorConfig::Files { .. } if partitions.is_some() || replication.is_some() => {
                    let what =
                        "--partitions, --replication: a topic of files has one partition and no replicas";
                    return Err(Failure::Usage(what.to_owned()));
                }
                ConnectorConfig::Files { .. } => {}
            }
            let connector = open(&config)?;
            let topics = topics(&config);
            let named = |input: bool| -> Vec<&str> {
                topics.iter().filter(|topic| topic.input == input).map(|topic| topic.name.as_str()).collect()
            };
            connector.prepare(&named(true), &named(false)).map_err(|error| failed(&error))?;
            list(&config, &connector, &topics, which.json)
        }
        TopicsCommand::List(which) => {
            let config = which.config.load()?;
            list(&config, &open(&config)?, &topics(&config), which.json)
        }
    }
}

fn failed(error: &ConnectError) -> Failure {
    Failure::Run(with_causes(error))
}

fn open(config: &Config) -> Result<Arc<dyn Connector>, Failure> {
    connect::open(&config.connector, &config.pipeline.name).map_err(|error| failed(&error))
}

fn list(
    config: &Config,
    connector: &Arc<dyn Connector>,
    topics: &[Topic],
    as_json: bool,
) -> Result<(), Failure> {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(["topic", "is", "partitions", "end offsets", "behind"]);
    for topic in topics {
        let there = match &config.connector {
            ConnectorConfig::Files { directory } => directory.join(format!("{}.jsonl", topic.name)).exists(),
            ConnectorConfig::Kafka(_) => true,
        };
        let ends = match connector.end_offsets(&topic.name) {
            Ok(ends) => ends,
            Err(error) if !there || matches!(error, ConnectError::MissingTopics { .. }) => {
                if as_json {
                    say!("{}", json!({"topic": topic.name, "role": topic.role, "partitions": null}));
                } else {
                    table.add_row([topic.name.as_str(), topic.role, "missing", "", ""]);
                }
                continue;
            }
            Err(error) => return Err(failed(&error)),
        };
        let behind = if topic.input {
            let committed = connector.committed(&topic.name).map_err(|error| failed(&error))?;
            Some(ends.iter().map(|(p, end)| end - committed.get(p).copied().unwrap_or(0)).sum::<i64>())
        } else {
            None
        };
        let sum: i64 = ends.values().sum();
        if as_json {
            let told = json!({
                "topic": topic.name, "role": topic.role, "partitions": ends.len(), "end_offsets": ends, "behind": behind,
            });
            say!("{told}");
        } else {
            let behind = behind.map_or(String::new(), |behind| behind.to_string());
            table.add_row([
                topic.name.clone(),
                topic.role.to_owned(),
                ends.len().to_string(),
                sum.to_string(),
                behind,
            ]);
        }
    }
    if !as_json {
        say!("{table}");
    }
    Ok(())
}
