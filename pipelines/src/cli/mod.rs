//! The command line. Answers and tables go to standard output, progress and logs to standard error.
//!
//! Exit codes: 0 done, 1 failed while running, 2 wrong use or configuration.

mod eval;
mod logs;
mod models;
mod query;
mod replay;
mod run;
mod snapshots;
mod tail;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use freshet_config::Config;

/// Streaming hybrid search: documents and queries flow in from topics, ranked answers flow out.
#[derive(Parser)]
#[command(version, about, after_help = "Start here: freshet run --config config/files.toml")]
struct Cli {
    /// What is logged, such as `info` or `freshet_operators=debug`.
    #[arg(long, global = true, env = "FRESHET_LOG", default_value = "warn", value_name = "FILTER")]
    log: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the pipeline: index documents, answer queries.
    #[command(after_help = "Example: freshet run --config config/kafka.toml --until-caught-up")]
    Run(run::RunArgs),
    /// Ask one question and show how each hit was ranked, stage by stage.
    #[command(
        after_help = "Example: freshet query --config config/files.toml \"how do I stop being billed\""
    )]
    Query(query::QueryArgs),
    /// Answer a log of queries again, against two snapshots or by two plans, and show what moved.
    #[command(
        after_help = "Example: freshet replay data/queries.jsonl --at 20261121T090000.000Z --at 20261121T100000.000Z"
    )]
    Replay(replay::ReplayArgs),
    /// Show the answers in the answers topic, as tables of ranks per stage.
    #[command(after_help = "Example: freshet tail --config config/files.toml --ids q1,q2")]
    Tail(tail::TailArgs),
    /// Measure every plan on a test collection (corpus.jsonl, queries.jsonl, qrels.tsv).
    #[command(after_help = "Example: freshet eval collections/scifact")]
    Eval(eval::EvalArgs),
    /// List and fetch models.
    #[command(subcommand, after_help = "Example: freshet models pull all-MiniLM-L6-v2")]
    Models(models::ModelsCommand),
    /// List, verify and compare snapshots, ask for one, and print SQL for them.
    #[command(subcommand)]
    Snapshots(snapshots::SnapshotsCommand),
    /// Check a configuration: all problems at once, each with its key.
    #[command(after_help = "Example: freshet check --config config/kafka.toml")]
    Check(ConfigArgs),
}

/// Where the configuration is.
#[derive(Args)]
struct ConfigArgs {
    /// Configuration file (TOML).
    #[arg(long, short, env = "FRESHET_CONFIG", default_value = "freshet.toml", value_name = "FILE")]
    config: PathBuf,
}

/// Why a command ended.
enum Failure {
    /// Wrong use or configuration: exit code 2.
    Usage(String),
    /// Something failed while it ran: exit code 1.
    Run(String),
}

impl ConfigArgs {
    fn load(&self) -> Result<Config, Failure> {
        Config::load(&self.config).map_err(|errors| Failure::Usage(errors.to_string()))
    }
}

/// An error with its causes, on one line.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

/// Parses the command line and does what it says.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(problem) = logs::start(&cli.log) {
        eprintln!("error: --log: {problem}");
        return ExitCode::from(2);
    }
    let result = match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Query(args) => query::query(&args),
        Command::Replay(args) => replay::replay(&args),
        Command::Tail(args) => tail::tail(&args),
        Command::Eval(args) => eval::eval(&args),
        Command::Models(command) => models::models(&command),
        Command::Snapshots(command) => snapshots::snapshots(&command),
        Command::Check(args) => check(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(problem)) => {
            eprintln!("error: {problem}");
            ExitCode::from(2)
        }
        Err(Failure::Run(problem)) => {
            eprintln!("error: {problem}");
            ExitCode::from(1)
        }
    }
}

#[allow(clippy::print_stdout, reason = "the result of the command")]
fn check(args: &ConfigArgs) -> Result<(), Failure> {
    let config = args.load()?;
    let fields: Vec<&str> = config.vectors.keys().map(String::as_str).collect();
    let plans: Vec<&str> = config.plans.keys().map(String::as_str).collect();
    println!("{}: ok", args.config.display());
    println!("  vectors: {}", fields.join(", "));
    println!("  plans:   {}", plans.join(", "));
    Ok(())
}
