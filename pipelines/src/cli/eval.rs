//! `freshet eval`

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use freshet::eval::report::{TIMES, compare, comparison_table};
use freshet::eval::{Collection, Comparison, EvalError, Evaluation, Request, evaluate};
use freshet::run::{Progress, Until};
use freshet::setup::Setup;
use freshet_config::{Config, DEFAULT_PLAN};
use freshet_operators::control::Control;
use serde_json::json;

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
    #[arg(long, value_delimiter = ',', conflicts_with = "compare")]
    plans: Vec<String>,
    /// Measure two plans and say, query by query, which does better. With `--against` the second is a plan of that
    /// configuration.
    #[arg(long, num_args = 2, value_names = ["PLAN_A", "PLAN_B"])]
    compare: Vec<String>,
    /// A second configuration, such as one with another model: its plan is compared with that of the first. The plan is
    /// `default`, or that of `--plans`, or those of `--compare`.
    #[arg(long, value_name = "CONFIG")]
    against: Option<PathBuf>,
    /// Places that recall looks at.
    #[arg(short, default_value_t = 100, value_name = "K", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    k: usize,
    /// Write all measures, per query too, to this file as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Search the documents of this snapshot instead of those of the folder. `freshet snapshots list` shows them.
    #[arg(long, value_name = "SNAPSHOT", conflicts_with = "against")]
    at: Option<String>,
}

/// What one configuration is asked for.
struct Side<'a> {
    config: Option<&'a Path>,
    plans: Vec<String>,
}

pub(crate) fn eval(args: &EvalArgs) -> Result<(), Failure> {
    let collection = Collection::read(&args.folder).map_err(|error| Failure::Usage(with_causes(&error)))?;
    if collection.queries.is_empty() {
        let what =
            format!("{}: no query of queries.jsonl has a judgement in qrels.tsv", args.folder.display());
        return Err(Failure::Usage(what));
    }
    let (first, second) = sides(args)?;
    let evaluation = measure(args, &first, &collection)?;
    let other = second.as_ref().map(|side| measure(args, side, &collection)).transpose()?;
    let mut json = json!({"first": evaluation.json(&collection)});
    show(&evaluation);
    if let Some(other) = &other {
        say!("");
        show(other);
        json["second"] = other.json(&collection);
    }
    if let Some(comparison) =
        comparison(args, &first, &evaluation, second.as_ref().zip(other.as_ref()), &collection)
    {
        say!("\n{}", comparison_table(&comparison));
        json["comparison"] = json!(comparison);
    }
    if let Some(file) = &args.json {
        let failed = |error: std::io::Error| Failure::Run(format!("{}: {error}", file.display()));
        std::fs::write(file, format!("{json:#}\n")).map_err(failed)?;
    }
    Ok(())
}

/// What is measured of which configuration.
fn sides(args: &EvalArgs) -> Result<(Side<'_>, Option<Side<'_>>), Failure> {
    let config = args.config.as_deref();
    let Some(against) = args.against.as_deref() else {
        let mut plans = if args.compare.is_empty() { args.plans.clone() } else { args.compare.clone() };
        plans.dedup();
        return Ok((Side { config, plans }, None));
    };
    let (a, b) = match (args.plans.as_slice(), args.compare.as_slice()) {
        ([], [a, b]) => (a.clone(), b.clone()),
        ([one], _) => (one.clone(), one.clone()),
        ([], _) => (DEFAULT_PLAN.to_owned(), DEFAULT_PLAN.to_owned()),
        (several, _) => {
            let what = format!("--against compares one plan, --plans names {}", several.join(", "));
            return Err(Failure::Usage(what));
        }
    };
    Ok((Side { config, plans: vec![a] }, Some(Side { config: Some(against), plans: vec![b] })))
}

fn measure(args: &EvalArgs, side: &Side<'_>, collection: &Collection) -> Result<Evaluation, Failure> {
    let config = match side.config {
        Some(path) => Config::load(path),
        None => Config::parse(EVAL_CONFIG, &|name| std::env::var(name).ok()),
    };
    let config = config.map_err(|errors| Failure::Usage(errors.to_string()))?;
    let named = || side.config.map_or_else(|| "the built-in configuration".into(), Path::to_string_lossy);
    if args.at.is_some() && config.snapshots.is_none() {
        return Err(Failure::Usage(format!("--at: {} has no [snapshots]", named())));
    }
    if args.k > config.queries.limits.limit_max {
        let max = config.queries.limits.limit_max;
        return Err(Failure::Usage(format!("-k {}: at most {max} (queries.limit_max)", args.k)));
    }
    let plans =
        if side.plans.is_empty() { config.plans.keys().cloned().collect() } else { side.plans.clone() };
    let setup = Setup::load(config).map_err(|error| Failure::Usage(with_causes(&error)))?;
    let documents = match &args.at {
        Some(id) => format!("snapshot {id}"),
        None => format!("{} documents", collection.documents.len()),
    };
    let (queries, count) = (collection.queries.len(), plans.len());
    tell!("{}, {}: {documents}, {queries} judged queries, {count} plans", args.folder.display(), named());
    let (progress, shown) = (Arc::new(Progress::default()), Arc::new(Control::default()));
    let bars = super::run::show(&progress, &shown, Until::CaughtUp);
    let request = Request { plans, k: args.k, at: args.at.clone() };
    let evaluation = evaluate(setup, collection, &request, &progress);
    shown.stop();
    bars.join().ok();
    evaluation.map_err(|error| match matches!(error, EvalError::Plan { .. }) {
        true => Failure::Usage(error.to_string()),
        false => Failure::Run(with_causes(&error)),
    })
}

fn show(evaluation: &Evaluation) {
    say!("{}\n{TIMES}", evaluation.table());
    for warning in evaluation.warnings() {
        say!("warning: {warning}");
    }
}

/// The comparison that is asked for.
fn comparison(
    args: &EvalArgs,
    first: &Side<'_>,
    evaluation: &Evaluation,
    second: Option<(&Side<'_>, &Evaluation)>,
    collection: &Collection,
) -> Option<Comparison> {
    let (a, b) = match (second, args.compare.as_slice()) {
        (Some((side, other)), _) => {
            let name = |side: &Side<'_>, plan: &str| match side.config {
                Some(path) => format!("{plan} of {}", path.display()),
                None => plan.to_owned(),
            };
            let (a, b) = (first.plans.first()?, side.plans.first()?);
            ((name(first, a), evaluation.plan(a)?), (name(side, b), other.plan(b)?))
        }
        (None, [a, b]) => ((a.clone(), evaluation.plan(a)?), (b.clone(), evaluation.plan(b)?)),
        (None, _) => return None,
    };
    Some(compare(collection, a, b))
}
