//! What an evaluation found: stages with their measures, warnings, tables, JSON.

use std::collections::BTreeMap;

use comfy_table::{Cell, CellAlignment, Table, presets};
use freshet_schemas::Answer;
use serde_json::{Value, json};

use super::collection::Collection;
use super::compare::{Comparison, Duel, p_value};
use super::scores::{Scores, mean, percentile, score};
use super::stages::Stage;

/// What the times of a table are.
pub const TIMES: &str =
    "ms: from reading a query to its answer, by the stage and all below it alone, one query at a time";

/// One query by one sub-plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// What its list is worth.
    pub scores: Scores,
    /// From reading the query to its answer.
    pub ms: f64,
}

/// A sub-plan, measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// Means.
    pub scores: Scores,
    /// Median of the times.
    pub p50_ms: f64,
    /// 95 % of the times are no longer.
    pub p95_ms: f64,
    /// Per query, in the order of the collection.
    pub queries: Vec<Asked>,
    /// Answers in which a reranker could not do its work.
    pub degraded: usize,
}

impl Measured {
    /// Of the answers to the queries of a collection; one that is missing counts as an empty list.
    pub fn of<'a>(collection: &Collection, k: usize, answer: impl Fn(&str) -> Option<&'a Answer>) -> Self {
        let asked = |(id, _): &(String, String)| {
            let answer = answer(id);
            let points = answer.map_or(&[][..], |answer| &answer.points);
            let ranked: Vec<String> = points.iter().map(|point| point.id.clone()).collect();
            let ms = answer.map_or(0.0, |answer| answer.took_seconds * 1e3);
            Asked { scores: score(&ranked, &collection.judgements[id], k), ms }
        };
        let queries: Vec<Asked> = collection.queries.iter().map(asked).collect();
        let degraded =
            |(id, _): &&(String, String)| answer(id).is_some_and(|answer| !answer.degraded.is_empty());
        Self {
            scores: mean(queries.iter().map(|asked| &asked.scores)),
            p50_ms: percentile(queries.iter().map(|asked| asked.ms), 50),
            p95_ms: percentile(queries.iter().map(|asked| asked.ms), 95),
            degraded: collection.queries.iter().filter(degraded).count(),
            queries,
        }
    }

    fn ndcg(&self) -> f64 {
        self.scores.ndcg_at_10
    }
}

/// A plan and its stages.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanReport {
    /// Name of the plan.
    pub plan: String,
    /// Its stages in the order in which they run, the whole plan last.
    pub stages: Vec<Stage>,
}

/// All that was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// Places that recall looked at.
    pub k: usize,
    /// Plans, in the order asked for.
    pub plans: Vec<PlanReport>,
    /// Sub-plans, by number.
    pub measured: Vec<Measured>,
}

/// nDCG@10 has four digits in tables: less is no difference.
const DIFFERENCE: f64 = 5e-5;

impl Evaluation {
    fn measured(&self, stage: &Stage) -> &Measured {
        &self.measured[stage.plan]
    }

    /// The stage of those that another takes from which is worth most.
    fn best_input<'a>(&self, plan: &'a PlanReport, stage: &Stage) -> Option<&'a Stage> {
        let inputs = stage.inputs.iter().map(|&input| &plan.stages[input]);
        inputs.max_by(|a, b| self.measured(a).ndcg().total_cmp(&self.measured(b).ndcg()))
    }

    /// A line for each stage that makes its best input worse, or that could not do its work.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for plan in &self.plans {
            for stage in &plan.stages {
                let own = self.measured(stage);
                if own.degraded > 0 {
                    warnings.push(format!(
                        "plan \"{}\": {} of {} answers of \"{}\" had to do without a reranker; its budget may be too small",
                        plan.plan,
                        own.degraded,
                        own.queries.len(),
                        stage.name
                    ));
                }
                let Some(best) = self.best_input(plan, stage) else { continue };
                let before = self.measured(best);
                if before.ndcg() - own.ndcg() >= DIFFERENCE {
                    let pairs = own.queries.iter().zip(&before.queries);
                    let differences: Vec<f64> =
                        pairs.map(|(own, before)| own.scores.ndcg_at_10 - before.scores.ndcg_at_10).collect();
                    warnings.push(format!(
                        "plan \"{}\": \"{}\" makes things worse: nDCG@10 {:.4}, its best input \"{}\" alone has {:.4} \
                         (p = {:.3})",
                        plan.plan,
                        stage.name,
                        own.ndcg(),
                        best.name,
                        before.ndcg(),
                        p_value(&differences)
                    ));
                }
            }
        }
        warnings
    }

    /// Stages of all plans, a row each.
    pub fn table(&self) -> String {
        let recall = format!("recall@{}", self.k);
        let mut table = Table::new();
        table
            .load_style(presets::UTF8_FULL_CONDENSED)
            .set_header(["plan", "stage", "nDCG@10", "± input", &recall, "MRR@10", "ms p50", "ms p95"]);
        let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
        for plan in &self.plans {
            for stage in &plan.stages {
                let own = self.measured(stage);
                let gain = self.best_input(plan, stage).map(|best| own.ndcg() - self.measured(best).ndcg());
                table.add_row([
                    Cell::new(if stage.depth == 0 { plan.plan.as_str() } else { "" }),
                    Cell::new(format!("{}{}", "  ".repeat(stage.depth), stage.name)),
                    right(format!("{:.4}", own.ndcg())),
                    right(gain.map_or_else(String::new, |gain| format!("{gain:+.4}"))),
                    right(format!("{:.4}", own.scores.recall_at_k)),
                    right(format!("{:.4}", own.scores.mrr_at_10)),
                    right(format!("{:.1}", own.p50_ms)),
                    right(format!("{:.1}", own.p95_ms)),
                ]);
            }
        }
        table.to_string()
    }

    /// What a plan as a whole is worth; `None` if it was not measured.
    pub fn plan(&self, name: &str) -> Option<&Measured> {
        let plan = self.plans.iter().find(|plan| plan.plan == name)?;
        Some(self.measured(plan.stages.last()?))
    }

    /// Everything, for programs.
    pub fn json(&self, collection: &Collection) -> Value {
        let queries = |measured: &Measured| -> BTreeMap<String, Value> {
            let asked = collection.queries.iter().zip(&measured.queries);
            let one = |asked: &Asked| {
                let mut value = json!(asked.scores);
                value["ms"] = json!(asked.ms);
                value
            };
            asked.map(|((id, _), asked)| (id.clone(), one(asked))).collect()
        };
        let stage = |stage: &Stage| {
            let own = self.measured(stage);
            let mut value = json!({"stage": stage.name, "depth": stage.depth, "inputs": stage.inputs});
            if let (Some(value), Value::Object(scores)) = (value.as_object_mut(), json!(own.scores)) {
                value.extend(scores);
            }
            value["p50_ms"] = json!(own.p50_ms);
            value["p95_ms"] = json!(own.p95_ms);
            value["degraded"] = json!(own.degraded);
            value["queries"] = json!(queries(own));
            value
        };
        let plan = |plan: &PlanReport| {
            let stages: Vec<Value> = plan.stages.iter().map(stage).collect();
            json!({"plan": plan.plan, "stages": stages})
        };
        json!({
            "k": self.k,
            "times": TIMES,
            "plans": self.plans.iter().map(plan).collect::<Vec<_>>(),
            "warnings": self.warnings(),
        })
    }
}

/// Compares what two plans, maybe of two configurations, make of the queries of a collection.
pub fn compare(collection: &Collection, a: (String, &Measured), b: (String, &Measured)) -> Comparison {
    let pairs = a.1.queries.iter().zip(&b.1.queries);
    let duel = |((id, text), (a, b)): (&(String, String), (&Asked, &Asked))| Duel {
        id: id.clone(),
        text: text.clone(),
        a: a.scores.ndcg_at_10,
        b: b.scores.ndcg_at_10,
    };
    Comparison::of(a.0, b.0, collection.queries.iter().zip(pairs).map(duel).collect())
}

/// Queries shown of a comparison: those with the largest moves.
const SHOWN: usize = 20;
/// Characters shown of a query.
const QUERY_CHARS: usize = 60;

/// The largest moves, and the sum of all.
pub fn comparison_table(comparison: &Comparison) -> String {
    let Comparison { a, b, duels, wins, losses, ties, mean, p } = comparison;
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_header(["query", "", a, b, "difference"]);
    let number = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
    for duel in duels.iter().take(SHOWN) {
        let mut text: String = duel.text.chars().take(QUERY_CHARS).collect();
        if text.len() < duel.text.len() {
            text.push('…');
        }
        table.add_row([
            Cell::new(&duel.id),
            Cell::new(text),
            number(format!("{:.4}", duel.a)),
            number(format!("{:.4}", duel.b)),
            number(format!("{:+.4}", duel.b - duel.a)),
        ]);
    }
    let more = match duels.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!("\n{more} more queries with smaller moves"),
    };
    format!(
        "{table}{more}\nnDCG@10: {b} wins {wins}, loses {losses}, ties {ties} against {a}; mean difference {mean:+.4}, \
         p = {p:.4} (paired randomisation test)"
    )
}
