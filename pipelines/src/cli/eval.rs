//! `freshet eval`

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use freshet::eval::{Collection, evaluate};
use freshet::render;
use freshet::run::{Progress, Until};
use freshet::setup::Setup;
use freshet_config::Config;
use freshet_operators::control::Control;

use super::{Failure, with_causes};

/// The plans that are compared unless another configuration is named.
const EVAL_CONFIG: &str = include_str!("../../../config/eval.toml");

/// Options of `freshet eval`.
#[derive(Args)]
pub(crate) struct EvalArgs {
    /// Folder with corpus.jsonl (_id, title, text), queries.jsonl (_id, text) and qrels.tsv.
    folder: PathBuf,
    /// Configuration whose plans are measured. Default: single legs, fusions and reranks of all-MiniLM-L6-v2 and BM25.
    #[arg(long, short)]
    config: Option<PathBuf>,
    /// Only these plans, separated by commas.
    #[arg(long, value_delimiter = ',')]
    plans: Vec<String>,
}

#[allow(clippy::print_stdout, reason = "the result of the command")]
pub(crate) fn eval(args: &EvalArgs) -> Result<(), Failure> {
    let environment = |name: &str| std::env::var(name).ok();
    let config = match &args.config {
        Some(path) => Config::load(path),
        None => Config::parse(EVAL_CONFIG, &environment),
    };
    let config = config.map_err(|errors| Failure::Usage(errors.to_string()))?;
    let plans: Vec<String> =
        if args.plans.is_empty() { config.plans.keys().cloned().collect() } else { args.plans.clone() };
    let collection = Collection::read(&args.folder).map_err(|error| Failure::Usage(with_causes(&error)))?;
    let setup = Setup::load(config).map_err(|error| Failure::Usage(with_causes(&error)))?;
    eprintln!(
        "{}: {} documents, {} judged queries, {} plans",
        args.folder.display(),
        collection.documents.len(),
        collection.queries.len(),
        plans.len()
    );
    let (progress, shown) = (Arc::new(Progress::default()), Arc::new(Control::default()));
    let bars = super::run::show(&progress, &shown, Until::CaughtUp);
    let scores = evaluate(setup, &collection, &plans, &progress);
    shown.stop();
    bars.join().ok();
    println!("{}", render::scores_table(&scores.map_err(|error| Failure::Run(with_causes(&error)))?));
    Ok(())
}
