//! The command line. Answers and tables go to standard output, progress and logs to standard error.
//!
//! Exit codes: 0 done, 1 failed while running, 2 wrong use or configuration.

#[macro_use]
mod out;

mod doctor;
mod eval;
mod load;
mod logs;
mod models;
mod query;
mod replay;
mod run;
mod snapshots;
mod tail;
mod topics;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use freshet_config::Config;
use freshet_operators::causes::with_causes;
use serde_json::json;

/// Streaming hybrid search: documents and queries flow in from topics, ranked answers flow out.
#[derive(Parser)]
#[command(
    version,
    about,
    after_help = "Start here: freshet run --config config/files.toml\n\n\
        Exit codes: 0 done, 1 failed while running, 2 wrong use or configuration."
)]
struct Cli {
    /// What is logged, such as `info` or `freshet_operators=debug`.
    #[arg(long, global = true, env = "FRESHET_LOG", default_value = "warn", value_name = "FILTER")]
    log: String,
    /// How it is written.
    #[arg(long, global = true, env = "FRESHET_LOG_FORMAT", default_value = "text", value_name = "FORMAT")]
    log_format: logs::LogFormat,
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
        after_help = "Examples: freshet query --config config/files.toml \"how do I stop being billed\"\n          echo '{\"count\": true}' | freshet query --query -"
    )]
    Query(query::QueryArgs),
    /// Answer a log of queries again, against two snapshots or by two plans, and show what moved.
    #[command(
        after_help = "Example: freshet replay data/queries.jsonl --at 20261121T090000.000Z --at 20261121T100000.000Z"
    )]
    Replay(replay::ReplayArgs),
    /// Write documents from files to the documents topic.
    #[command(
        after_help = "Example: freshet load --config config/files.toml tickets.jsonl more.parquet products.csv"
    )]
    Load(load::LoadArgs),
    /// Create and list the topics of a pipeline.
    #[command(subcommand, after_help = "Example: freshet topics create --config config/kafka.toml")]
    Topics(topics::TopicsCommand),
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
    Check(CheckArgs),
    /// Look at what a pipeline needs here: what is missing, what is slow, and how to mend it.
    #[command(after_help = "Example: freshet doctor --config config/kafka.toml")]
    Doctor(doctor::DoctorArgs),
    /// Print completions for a shell.
    #[command(after_help = "Example: freshet completions bash > /etc/bash_completion.d/freshet")]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Options of `freshet check`.
#[derive(Args)]
struct CheckArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Print what was found as JSON.
    #[arg(long)]
    json: bool,
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

/// Parses the command line and does what it says.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(problem) = logs::start(&cli.log, cli.log_format) {
        tell!("error: --log: {problem}");
        return ExitCode::from(2);
    }
    let result = match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Query(args) => query::query(&args),
        Command::Replay(args) => replay::replay(&args),
        Command::Load(args) => load::load(&args),
        Command::Topics(command) => topics::topics_command(&command),
        Command::Tail(args) => tail::tail(&args),
        Command::Eval(args) => eval::eval(&args),
        Command::Models(command) => models::models(&command),
        Command::Snapshots(command) => snapshots::snapshots(&command),
        Command::Check(args) => check(&args),
        Command::Doctor(args) => doctor::doctor(&args),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "freshet", &mut script);
            out::write(&script);
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(problem)) => {
            tell!("error: {problem}");
            ExitCode::from(2)
        }
        Err(Failure::Run(problem)) => {
            tell!("error: {problem}");
            ExitCode::from(1)
        }
    }
}

fn check(args: &CheckArgs) -> Result<(), Failure> {
    let file = args.config.config.display();
    let config = match Config::load(&args.config.config) {
        Ok(config) => config,
        Err(errors) if args.json => {
            let problem =
                |problem: &freshet_config::Problem| json!({"key": problem.key, "message": problem.message});
            let problems: Vec<_> = errors.problems.iter().map(problem).collect();
            say!("{}", json!({"file": args.config.config, "ok": false, "problems": problems}));
            return Err(Failure::Usage(errors.to_string()));
        }
        Err(errors) => return Err(Failure::Usage(errors.to_string())),
    };
    let fields: Vec<&str> = config.vectors.keys().map(String::as_str).collect();
    let plans: Vec<&str> = config.plans.keys().map(String::as_str).collect();
    if args.json {
        say!("{}", json!({"file": args.config.config, "ok": true, "vectors": fields, "plans": plans}));
        return Ok(());
    }
    say!("{file}: ok");
    say!("  vectors: {}", fields.join(", "));
    say!("  plans:   {}", plans.join(", "));
    Ok(())
}
