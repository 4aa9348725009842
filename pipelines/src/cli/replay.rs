//! `freshet replay`

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use comfy_table::{Table, presets};
use freshet::replay::{
    self, Comparison, LoggedQuery, ReplayError, Replayed, Summary, from_table, read_log, summary,
};
use freshet::run::{Progress, Until};
use freshet::setup::Setup;
use freshet_config::Config;
use freshet_operators::control::Control;
use freshet_operators::snapshot::Store;
use freshet_operators::snapshot::answers;
use serde_json::json;

use super::{ConfigArgs, Failure, with_causes};

/// Options of `freshet replay`.
#[derive(Args)]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Files with a query per line (JSON), as the topic of queries has them.
    #[arg(required_unless_present = "from", conflicts_with = "from")]
    queries: Vec<PathBuf>,
    /// Take the queries from the table of answers in the store.
    #[arg(long)]
    from: Option<Kept>,
    /// The first day whose queries are taken from the table.
    #[arg(long, value_name = "YYYY-MM-DD", requires = "from")]
    since: Option<String>,
    /// Snapshot of a side. Twice: the same plan on two snapshots. Once, or not at all for the newest: two plans on one.
    #[arg(long, value_name = "SNAPSHOT")]
    at: Vec<String>,
    /// Plan of a side, for queries that are texts. Twice: two plans on one snapshot. Once: this plan on two snapshots.
    #[arg(long, value_name = "PLAN")]
    plan: Vec<String>,
    /// Print everything as one JSON object.
    #[arg(long)]
    json: bool,
    /// Most queries whose changes are shown; the biggest changes come first.
    #[arg(long, default_value_t = 20, value_name = "N")]
    show: usize,
}

/// Where queries come from, beside files.
#[derive(Clone, Copy, ValueEnum)]
enum Kept {
    /// The table of answers.
    Answers,
}

/// What a query is answered against.
struct Side {
    snapshot: String,
    plan: Option<String>,
}

impl Side {
    fn name(&self) -> String {
        match &self.plan {
            Some(plan) => format!("{} by plan {plan}", self.snapshot),
            None => self.snapshot.clone(),
        }
    }
}

fn failed(error: &dyn std::error::Error) -> Failure {
    Failure::Run(with_causes(error))
}

pub(crate) fn replay(args: &ReplayArgs) -> Result<(), Failure> {
    let config = args.config.load()?;
    let Some(configured) = &config.snapshots else {
        return Err(Failure::Usage(format!("{} has no [snapshots]", args.config.config.display())));
    };
    check(args, &config)?;
    let store = Store::open(&configured.store, &configured.options).map_err(|error| failed(&error))?;
    let sides = sides(args, &store)?;
    let mut queries = queries(args, &store)?;
    if sides.iter().any(|side| side.plan.is_some()) {
        let all = queries.len();
        queries.retain(LoggedQuery::takes_a_plan);
        if queries.len() < all {
            tell!("{} queries that have a plan of their own are left out", all - queries.len());
        }
    }
    if queries.is_empty() {
        return Err(Failure::Run("there is no query to answer".to_owned()));
    }
    let setup = Setup::load(config).map_err(|error| Failure::Usage(with_causes(&error)))?;
    let [first, second] = answer(&setup, &sides, &queries)?;
    let compared = replay::compare(&queries, &first, &second);
    let sum = summary(&compared);
    print(args, &sides, &compared, &sum);
    if sum.failed == sum.queries {
        let why = compared.first().and_then(|one| one.error.clone()).unwrap_or_default();
        return Err(Failure::Run(format!("no query could be answered on both sides; the first: {why}")));
    }
    Ok(())
}

/// What can be seen before anything is read.
fn check(args: &ReplayArgs, config: &Config) -> Result<(), Failure> {
    if !matches!((args.at.len(), args.plan.len()), (2, 0 | 1) | (0 | 1, 2)) {
        let what = "two sides are compared: give --at twice, or --plan twice, not both";
        return Err(Failure::Usage(what.to_owned()));
    }
    for plan in &args.plan {
        if !config.plans.contains_key(plan) {
            let known: Vec<&str> = config.plans.keys().map(String::as_str).collect();
            return Err(Failure::Usage(format!(
                "--plan: no plan \"{plan}\"; there are {}",
                known.join(", ")
            )));
        }
    }
    match &args.since {
        Some(since) if !answers::is_date(since) => {
            Err(Failure::Usage(format!("--since: \"{since}\" is no date such as 2026-11-21")))
        }
        _ => Ok(()),
    }
}

fn sides(args: &ReplayArgs, store: &Store) -> Result<[Side; 2], Failure> {
    let side = |number: usize| {
        // The one that is given stands for both sides.
        let of = |given: &[String]| given.get(number).or_else(|| given.first()).cloned();
        let snapshot = super::snapshots::one(store, of(&args.at).as_ref())?.id;
        Ok(Side { snapshot, plan: of(&args.plan) })
    };
    let first = side(0)?;
    // The newest may change meanwhile: it is looked up once.
    let second = if args.at.len() < 2 {
        Side { snapshot: first.snapshot.clone(), plan: args.plan.get(1).cloned() }
    } else {
        side(1)?
    };
    Ok([first, second])
}

fn queries(args: &ReplayArgs, store: &Store) -> Result<Vec<LoggedQuery>, Failure> {
    if args.from.is_some() {
        let asked = answers::queries(store, args.since.as_deref()).map_err(|error| failed(&error))?;
        let all = asked.len();
        let queries = from_table(asked);
        if queries.len() < all {
            tell!("{} queries that are no JSON objects are left out", all - queries.len());
        }
        return Ok(queries);
    }
    let mut queries = Vec::new();
    for path in &args.queries {
        queries.extend(read_log(path).map_err(|error| Failure::Usage(with_causes(&error)))?);
    }
    Ok(queries)
}

/// Answers both sides: in one run, if they have the same snapshot.
fn answer(setup: &Setup, sides: &[Side; 2], queries: &[LoggedQuery]) -> Result<[Vec<Replayed>; 2], Failure> {
    let run = |snapshot: &str, plans: &[Option<String>]| {
        tell!("{snapshot}: {} answers", plans.len() * queries.len());
        let (progress, shown) = (Arc::new(Progress::default()), Arc::new(Control::default()));
        let bars = super::run::show(&progress, &shown, Until::CaughtUp);
        let found = replay::answer(setup, snapshot, plans, queries, &progress);
        shown.stop();
        bars.join().ok();
        found.map_err(|error: ReplayError| failed(&error))
    };
    let [first, second] = sides;
    let mut found = if first.snapshot == second.snapshot {
        run(&first.snapshot, &[first.plan.clone(), second.plan.clone()])?
    } else {
        let mut found = run(&first.snapshot, std::slice::from_ref(&first.plan))?;
        found.extend(run(&second.snapshot, std::slice::from_ref(&second.plan))?);
        found
    };
    let second = found.pop().unwrap_or_default();
    Ok([found.pop().unwrap_or_default(), second])
}

fn print(args: &ReplayArgs, sides: &[Side; 2], compared: &[Comparison], summary: &Summary) {
    let names = sides.each_ref().map(Side::name);
    if args.json {
        say!("{}", json!({ "sides": names, "summary": summary, "queries": compared }));
        return;
    }
    say!("- {}\n+ {}", names[0], names[1]);
    let changed = compared.iter().filter(|one| one.is_changed());
    for one in changed.take(args.show) {
        say!("{}", changes(one));
    }
    if summary.changed > args.show {
        say!("\n… and {} more; --show {} shows all", summary.changed - args.show, summary.changed);
    }
    say!("\n{}", table(summary));
    for one in compared.iter().filter(|one| one.error.is_some()).take(args.show) {
        tell!("{}: {}", one.id, one.error.as_deref().unwrap_or_default());
    }
}

fn changes(one: &Comparison) -> String {
    let mut text = format!(
        "\n{}: {}  (overlap@10 {:.2}, rank-biased overlap {:.3})",
        one.id,
        one.text.as_deref().unwrap_or_default(),
        one.overlap_at_10,
        one.rbo
    );
    for hit in &one.left {
        text.push_str(&format!("\n  - {:>3}       {}", hit.rank, hit.id));
    }
    for hit in &one.entered {
        text.push_str(&format!("\n  +       {:>3} {}", hit.rank, hit.id));
    }
    for moved in &one.moved {
        text.push_str(&format!("\n    {:>3} → {:>3} {}", moved.from, moved.to, moved.id));
    }
    text
}

fn table(summary: &Summary) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header([
        "queries",
        "failed",
        "changed",
        "same top 1",
        "same top 10",
        "overlap@10",
        "rank-biased overlap",
    ]);
    let share = |share: f64| format!("{:.1} %", share * 100.0);
    table.add_row([
        summary.queries.to_string(),
        summary.failed.to_string(),
        summary.changed.to_string(),
        share(summary.same_top_1),
        share(summary.same_top_10),
        format!("{:.4}", summary.overlap_at_10),
        format!("{:.4}", summary.rbo),
    ]);
    table
}
