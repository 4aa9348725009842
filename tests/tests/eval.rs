//! `freshet eval` on a collection of which one can say what is right.

use std::collections::BTreeMap;
use std::sync::Arc;

use freshet::eval::report::{compare, comparison_table};
use freshet::eval::{Collection, EvalError, Evaluation, Request, evaluate};
use freshet::run::{self, Progress, Until};
use freshet::setup::Setup;
use freshet_config::{Config, Snapshots};
use freshet_operators::connect::{Connector, Memory};
use freshet_operators::control::Control;
use freshet_operators::snapshot::{Store, list};
use freshet_tests::drive::CONFIG;
use serde_json::{Value, json};

/// Words find the right documents; the cosine of the hashing model prefers short ones that hold one of the words.
const PLANS: &str = r#"
[plans.words]
using = "bm25"
[plans.good]
prefetch = [{ using = "bm25", limit = 5 }, { using = "bm25", limit = 1 }]
query = { fusion = "rrf" }
[plans.bad]
prefetch = [{ using = "bm25", limit = 5 }]
using = "dense"
"#;

fn config() -> Config {
    Config::parse(&format!("{CONFIG}{PLANS}"), &|_| None).unwrap_or_else(|errors| panic!("{errors}"))
}

fn collection() -> Collection {
    let filler = "the other words of this text are many and say nothing of the matter at hand";
    let mut documents = Vec::new();
    let (mut queries, mut judgements) = (Vec::new(), BTreeMap::new());
    for (number, words) in
        [["red", "crane"], ["wet", "quay"], ["old", "ferry"], ["low", "tide"]].iter().enumerate()
    {
        let [one, two] = words;
        documents
            .push(json!({"_id": format!("right{number}"), "text": format!("{one} {filler} {two} {filler}")}));
        documents.push(json!({"_id": format!("wrong{number}"), "text": two}));
        queries.push((format!("q{number}"), format!("{one} {two}")));
        judgements.insert(format!("q{number}"), BTreeMap::from([(format!("right{number}"), 1.0)]));
    }
    let documents = documents.into_iter().map(|document| document.as_object().expect("an object").clone());
    Collection { documents: documents.collect(), queries, judgements }
}

fn measure(config: Config, plans: &[&str], at: Option<String>) -> Result<Evaluation, EvalError> {
    let plans = plans.iter().map(|plan| (*plan).to_owned()).collect();
    let setup = Setup::load(config).expect("the hashing model needs nothing");
    evaluate(setup, &collection(), &Request { plans, k: 2, at }, &Arc::new(Progress::default()))
}

#[test]
fn every_stage_is_a_row_and_one_that_makes_things_worse_is_warned_of() {
    let evaluation = measure(config(), &["words", "good", "bad"], None).unwrap();
    let rows: Vec<Vec<&str>> = evaluation
        .plans
        .iter()
        .map(|plan| plan.stages.iter().map(|stage| stage.name.as_str()).collect())
        .collect();
    assert_eq!(rows, [vec!["bm25"], vec!["bm25", "bm25", "rrf, k = 2"], vec!["bm25", "rerank by dense"]]);
    let words = evaluation.plan("words").unwrap();
    assert_eq!((words.scores.ndcg_at_10, words.scores.recall_at_k, words.scores.mrr_at_10), (1.0, 1.0, 1.0));
    let bad = evaluation.plan("bad").unwrap();
    // The right document is second: 1 / log2 3.
    assert!((bad.scores.ndcg_at_10 - 0.630_930).abs() < 1e-6, "{:?}", bad.scores);
    assert_eq!((bad.scores.recall_at_k, bad.scores.mrr_at_10), (1.0, 0.5));
    for measured in &evaluation.measured {
        assert_eq!(measured.queries.len(), 4);
        assert!(0.0 < measured.p50_ms && measured.p50_ms <= measured.p95_ms, "{measured:?}");
    }
    let warnings = evaluation.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    // All four queries lose: 2 of 16 ways to give signs are as large.
    assert_eq!(
        warnings[0],
        "plan \"bad\": \"rerank by dense\" makes things worse: nDCG@10 0.6309, its best input \"bm25\" alone has \
         1.0000 (p = 0.125)"
    );
    let table = evaluation.table();
    for part in ["recall@2", "-0.3691", "ms p95", "  bm25", "good"] {
        assert!(table.contains(part), "{part}: {table}");
    }
    let value = evaluation.json(&collection());
    let root = &value["plans"][2]["stages"][1];
    assert_eq!(root["queries"]["q0"]["mrr_at_10"], 0.5);
    assert_eq!(root["inputs"], json!([0]));
    assert_eq!(value["warnings"].as_array().unwrap().len(), 1);
}

#[test]
fn plans_are_compared_query_by_query() {
    let evaluation = measure(config(), &["words", "bad"], None).unwrap();
    let side = |plan: &str| (plan.to_owned(), evaluation.plan(plan).unwrap());
    let itself = compare(&collection(), side("words"), side("words"));
    assert_eq!((itself.wins, itself.losses, itself.ties, itself.p), (0, 0, 4, 1.0));
    let worse = compare(&collection(), side("words"), side("bad"));
    assert_eq!((worse.wins, worse.losses, worse.ties, worse.p), (0, 4, 0, 0.125));
    let table = comparison_table(&worse);
    assert!(table.contains("bad wins 0, loses 4, ties 0 against words"), "{table}");
    assert!(table.contains("red crane"), "{table}");
}

#[test]
fn an_old_snapshot_can_be_measured() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config();
    config.pipeline.workers = 2.try_into().unwrap();
    let store = format!("file://{}", folder.path().display());
    config.snapshots = Some(Snapshots { store: store.clone(), ..Snapshots::default() });
    // A pipeline of its own indexed all documents but one.
    let memory = Memory::new();
    for mut document in collection().documents {
        let id = document.remove("_id").unwrap();
        if id != "right0" {
            document.insert("id".into(), id);
            let value = Some(Value::Object(document).to_string().into_bytes());
            memory.produce("documents", 0, freshet_schemas::Record { value, ..Default::default() });
        }
    }
    memory.create("queries", 1);
    let connector: Arc<dyn Connector> = Arc::new(memory);
    let (control, progress) = (Arc::new(Control::default()), Arc::new(Progress::default()));
    run::run(Setup::load(config.clone()).unwrap(), connector, Until::CaughtUp, &control, &progress).unwrap();
    let opened = Store::open(&store, &Default::default()).unwrap();
    let id = list(&opened).unwrap().pop().expect("the run ended with a snapshot");
    let evaluation = measure(config.clone(), &["words"], Some(id)).unwrap();
    let found: Vec<f64> =
        evaluation.plan("words").unwrap().queries.iter().map(|asked| asked.scores.mrr_at_10).collect();
    assert_eq!(found, [0.0, 1.0, 1.0, 1.0]);
    let missing = measure(config, &["words"], Some("20000101T000000.000Z".into())).unwrap_err();
    assert!(missing.to_string().contains("20000101T000000.000Z"), "{missing}");
}

#[test]
fn a_plan_that_is_not_there_is_named() {
    let error = measure(config(), &["words", "wrods"], None).unwrap_err();
    assert_eq!(error.to_string(), "plan \"wrods\" is not configured; known: bad, bm25, default, good, words");
}
