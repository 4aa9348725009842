//! `freshet tail`

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use clap::Args;
use freshet::render;
use freshet_operators::connect::{self, ConnectError, Connector};
use freshet_schemas::{Answer, Record, text_of};

use super::{ConfigArgs, Failure, with_causes};

/// Options of `freshet tail`.
#[derive(Args)]
pub(crate) struct TailArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Only the answers to these queries, separated by commas.
    #[arg(long, value_delimiter = ',')]
    ids: Vec<String>,
    /// Most hits of an answer that are shown.
    #[arg(long, default_value_t = 5)]
    limit: usize,
    /// Print the answers as JSON Lines.
    #[arg(long)]
    json: bool,
}

pub(crate) fn tail(args: &TailArgs) -> Result<(), Failure> {
    let config = args.config.load()?;
    let failed = |error: ConnectError| Failure::Run(with_causes(&error));
    let connector = connect::open(&config.connector, &config.pipeline.name).map_err(failed)?;
    let questions = read(&connector, &config.topics.queries).map_err(failed)?;
    let questions: BTreeMap<String, String> = questions.iter().filter_map(question).collect();
    let wanted: BTreeSet<&String> = args.ids.iter().collect();
    for record in read(&connector, &config.topics.answers).map_err(failed)? {
        let Ok(answer) = serde_json::from_slice::<Answer>(record.value.as_deref().unwrap_or_default()) else {
            eprintln!("offset {}: not an answer", record.offset);
            continue;
        };
        if wanted.is_empty() || wanted.contains(&answer.id) {
            show(args, answer, &questions);
        }
    }
    Ok(())
}

#[allow(clippy::print_stdout, reason = "the result of the command")]
fn show(args: &TailArgs, mut answer: Answer, questions: &BTreeMap<String, String>) {
    if args.json {
        println!("{}", String::from_utf8_lossy(&answer.to_json()));
        return;
    }
    println!("\n{}: {}", answer.id, questions.get(&answer.id).map_or("", String::as_str));
    if let Some(error) = &answer.error {
        println!("  {}: {}", error.code.as_str(), error.message);
        return;
    }
    answer.points.truncate(args.limit);
    println!("{}", render::found(&answer, std::io::stdout().is_terminal()));
    println!("{}", render::reflects(&answer));
}

/// Id and text of a query record; the first text in its plan if it has none of its own.
fn question(record: &Record) -> Option<(String, String)> {
    let value: serde_json::Value = serde_json::from_slice(record.value.as_deref()?).ok()?;
    Some((value["id"].as_str()?.to_owned(), text_of(&value).unwrap_or_default().to_owned()))
}

const RECORDS_MAX: usize = 1_000;
const BYTES_MAX: usize = 16 << 20;
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// All records that a topic holds now.
fn read(connector: &Arc<dyn Connector>, topic: &str) -> Result<Vec<Record>, ConnectError> {
    let partitions = connector.prepare(&[topic], &[])?;
    let ends = connector.end_offsets(topic)?;
    let (sender, wakes) = channel();
    let wake: connect::Wake = Arc::new(move || {
        // The receiver is gone once everything is read.
        let _ = sender.send(());
    });
    let mut source = connector.source(topic, &partitions[topic], &BTreeMap::new(), wake)?;
    let mut records = Vec::new();
    loop {
        let polled = source.poll(RECORDS_MAX, BYTES_MAX)?;
        let nothing = polled.records.is_empty();
        records.extend(polled.records);
        if ends.iter().all(|(partition, end)| polled.positions.get(partition).is_some_and(|next| next >= end))
        {
            return Ok(records);
        }
        if nothing {
            // A wake, or time to look again: either way the next round tells.
            let _ = wakes.recv_timeout(LOOK_AGAIN);
        }
    }
}
