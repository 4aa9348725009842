//! `freshet tail`

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use clap::Args;
use freshet::render;
use freshet_operators::connect::{self, ConnectError, Connector, Source};
use freshet_schemas::{Answer, Offset, Partition, Record, text_of};

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
    /// Go on with the answers as they come, until Ctrl-C.
    #[arg(long, short)]
    follow: bool,
}

pub(crate) fn tail(args: &TailArgs) -> Result<(), Failure> {
    let config = args.config.load()?;
    let failed = |error: ConnectError| Failure::Run(with_causes(&error));
    let connector = connect::open(&config.connector, &config.pipeline.name).map_err(failed)?;
    let mut asked = Topic::open(&connector, &config.topics.queries).map_err(failed)?;
    let mut answers = Topic::open(&connector, &config.topics.answers).map_err(failed)?;
    let mut questions = BTreeMap::new();
    let wanted: BTreeSet<&String> = args.ids.iter().collect();
    // What is asked comes before it is answered: all questions first, then again with each look at the answers.
    while !asked.is_read() {
        questions.extend(asked.take().map_err(failed)?.iter().filter_map(question));
    }
    while args.follow || !answers.is_read() {
        let new = answers.take().map_err(failed)?;
        questions.extend(asked.take_now().map_err(failed)?.iter().filter_map(question));
        while questions.len() > QUESTIONS_MAX {
            questions.pop_first();
        }
        for record in new {
            let value = record.value.as_deref().unwrap_or_default();
            let Ok(answer) = serde_json::from_slice::<Answer>(value) else {
                tell!("offset {}: not an answer", record.offset);
                continue;
            };
            let text = questions.remove(&answer.id);
            if wanted.is_empty() || wanted.contains(&answer.id) {
                show(args, answer, &text.unwrap_or_default());
            }
        }
    }
    Ok(())
}

fn show(args: &TailArgs, mut answer: Answer, text: &str) {
    if args.json {
        say!("{}", String::from_utf8_lossy(&answer.to_json()));
        return;
    }
    say!("\n{}: {text}", answer.id);
    if let Some(error) = &answer.error {
        say!("  {}: {}", error.code.as_str(), error.message);
        return;
    }
    answer.points.truncate(args.limit);
    say!("{}", render::found(&answer, std::io::stdout().is_terminal()));
    say!("{}", render::reflects(&answer));
}

/// Id and text of a query record; the first text in its plan if it has none of its own.
fn question(record: &Record) -> Option<(String, String)> {
    let value: serde_json::Value = serde_json::from_slice(record.value.as_deref()?).ok()?;
    Some((value["id"].as_str()?.to_owned(), text_of(&value).unwrap_or_default().to_owned()))
}

/// Questions without an answer that are kept to be shown with it.
const QUESTIONS_MAX: usize = 100_000;
const RECORDS_MAX: usize = 1_000;
const BYTES_MAX: usize = 16 << 20;
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A topic that is read from its first record on.
struct Topic {
    source: Box<dyn Source>,
    wakes: Receiver<()>,
    /// The ends when it was opened.
    ends: BTreeMap<Partition, Offset>,
    positions: BTreeMap<Partition, Offset>,
}

impl Topic {
    fn open(connector: &Arc<dyn Connector>, topic: &str) -> Result<Self, ConnectError> {
        let partitions = connector.prepare(&[topic], &[])?;
        let ends = connector.end_offsets(topic)?;
        let (sender, wakes) = channel();
        let wake: connect::Wake = Arc::new(move || {
            // The receiver is gone once everything is read.
            let _ = sender.send(());
        });
        let source = connector.source(topic, &partitions[topic], &BTreeMap::new(), wake)?;
        Ok(Self { source, wakes, ends, positions: BTreeMap::new() })
    }

    /// Whether all is read that was there when it was opened.
    fn is_read(&self) -> bool {
        self.ends.iter().all(|(partition, end)| self.positions.get(partition).is_some_and(|next| next >= end))
    }

    /// The next records; waits a while where there are none.
    fn take(&mut self) -> Result<Vec<Record>, ConnectError> {
        let records = self.take_now()?;
        if records.is_empty() {
            // A wake, or time to look again: either way the next call tells.
            let _ = self.wakes.recv_timeout(LOOK_AGAIN);
        }
        Ok(records)
    }

    /// The records that are there.
    fn take_now(&mut self) -> Result<Vec<Record>, ConnectError> {
        let polled = self.source.poll(RECORDS_MAX, BYTES_MAX)?;
        self.positions = polled.positions;
        Ok(polled.records)
    }
}
