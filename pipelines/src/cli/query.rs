//! `freshet query`

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use freshet::ask::{Question, ask, ask_snapshot, ask_standalone};
use freshet::render;
use freshet::run::{Progress, Until};
use freshet::setup::Setup;
use freshet_config::Connector as ConnectorConfig;
use freshet_operators::connect::{self, Files};
use freshet_operators::control::Control;
use freshet_schemas::Answer;

use super::{ConfigArgs, Failure, with_causes};

/// Options of `freshet query`.
#[derive(Args)]
pub(crate) struct QueryArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The question.
    #[arg(required_unless_present = "query")]
    text: Option<String>,
    /// Ask a whole query in the query language, from a file or (`-`) from standard input.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["text", "plan", "limit"])]
    query: Option<PathBuf>,
    /// Plan of the configuration. Default: `default`.
    #[arg(long)]
    plan: Option<String>,
    /// Most hits.
    #[arg(long, default_value_t = 10)]
    limit: usize,
    /// Wait until all documents present now are indexed.
    #[arg(long)]
    strong: bool,
    /// Print the answer as JSON.
    #[arg(long)]
    json: bool,
    /// Read the documents and answer in this process, without a running pipeline and without writing to its topics.
    #[arg(long)]
    standalone: bool,
    /// Answer from this snapshot alone: what was true when it was cut. `freshet snapshots list` shows them.
    #[arg(long, value_name = "SNAPSHOT", conflicts_with_all = ["strong", "standalone"])]
    at: Option<String>,
    /// Seconds to wait for the answer of a running pipeline.
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    timeout: u64,
}

pub(crate) fn query(args: &QueryArgs) -> Result<(), Failure> {
    let config = args.config.load()?;
    let failed = |error: &dyn std::error::Error| Failure::Run(with_causes(error));
    let connector =
        connect::open(&config.connector, &config.pipeline.name).map_err(|error| failed(&error))?;
    let question = question(args)?;
    if args.at.is_some() && config.snapshots.is_none() {
        let what = format!("--at: {} has no [snapshots]", args.config.config.display());
        return Err(Failure::Usage(what));
    }
    // Where nobody runs the pipeline of a directory, this process does, as long as the question takes.
    let idle = match &config.connector {
        ConnectorConfig::Files { directory } => {
            let files = Files::new(directory, &config.pipeline.name);
            files.try_lock().map_err(|error| failed(&error))?.is_some()
        }
        ConnectorConfig::Kafka(_) => false,
    };
    let answer = if args.standalone || idle || args.at.is_some() {
        let setup = Setup::load(config).map_err(|error| Failure::Usage(with_causes(&error)))?;
        let (progress, shown) = (Arc::new(Progress::default()), Arc::new(Control::default()));
        let bars = super::run::show(&progress, &shown, Until::CaughtUp);
        let answer = match &args.at {
            Some(id) => ask_snapshot(setup, id, &question, &progress),
            None => {
                tell!("no pipeline is asked: indexing the documents here, then answering");
                ask_standalone(setup, connector, &question, &progress)
            }
        };
        shown.stop();
        bars.join().ok();
        answer
    } else {
        ask(&connector, &config.topics, &question, Duration::from_secs(args.timeout))
    };
    let answer = answer.map_err(|error| failed(&error))?;
    if args.json {
        say!("{}", String::from_utf8_lossy(&answer.to_json()));
    } else {
        show(args.text.as_deref(), &answer);
    }
    match answer.error {
        Some(error) => Err(Failure::Run(format!("{}: {}", error.code.as_str(), error.message))),
        None => Ok(()),
    }
}

/// What is asked.
fn question(args: &QueryArgs) -> Result<Question, Failure> {
    let question = match (&args.query, &args.text) {
        (Some(file), _) => {
            let read = match file.to_str() {
                Some("-") => std::io::read_to_string(std::io::stdin()),
                _ => std::fs::read_to_string(file),
            };
            let wrong = |what: String| Failure::Usage(format!("--query: {} {what}", file.display()));
            let text = read.map_err(|error| wrong(format!("cannot be read: {error}")))?;
            Question::query(&text).map_err(wrong)?
        }
        (None, text) => Question::text(text.as_deref().unwrap_or_default(), args.plan.as_deref(), args.limit),
    };
    Ok(if args.strong { question.with_consistency("strong") } else { question })
}

fn show(text: Option<&str>, answer: &Answer) {
    if answer.error.is_some() {
        return;
    }
    if let Some(text) = text {
        say!("{text}");
    }
    say!("{}", render::found(answer, std::io::stdout().is_terminal()));
    say!("{}", render::reflects(answer));
}
