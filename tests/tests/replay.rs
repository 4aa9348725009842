//! Logs of queries, answered again.

use std::sync::Arc;

use freshet::replay::{Comparison, Hit, LoggedQuery, Moved, answer, compare, from_table, read_log, summary};
use freshet::run::Progress;
use freshet::setup::Setup;
use freshet_config::{Config, Snapshots, StoreOptions};
use freshet_operators::connect::{Connector, Memory};
use freshet_operators::snapshot::{Store, answers, list};
use freshet_schemas::Record;
use freshet_tests::drive::{LIMIT, Pipeline, config, query_record, topics};
use serde_json::json;

fn snapping(folder: &std::path::Path) -> Config {
    let mut config = config(2);
    let interval = std::time::Duration::from_secs(3600);
    let store = format!("file://{}", folder.display());
    config.snapshots = Some(Snapshots { store, interval, answers: true, ..Snapshots::default() });
    config
}

fn load(config: Config) -> Setup {
    Setup::load(config).expect("the hashing model needs nothing")
}

fn embedded(setup: &Setup) -> u64 {
    setup.service.as_ref().unwrap().metrics().snapshot().document_texts
}

/// Changes some documents (no text: a delete) and asks a question, in a run of its own that ends with a snapshot, whose
/// name comes back.
fn life(
    config: &Config,
    memory: &Memory,
    documents: &[(&str, Option<&str>)],
    query: &serde_json::Value,
) -> String {
    for (id, text) in documents {
        let value = text.map(|text| json!({"id": id, "text": text}).to_string().into_bytes());
        let record = Record { key: Some(id.as_bytes().to_vec()), value, ..Record::default() };
        memory.produce("documents", 0, record);
    }
    let connector: Arc<dyn Connector> = Arc::new(memory.clone());
    let pipeline = Pipeline::start(&load(config.clone()), &connector);
    let asked = memory.len("queries") + 1;
    memory.produce("queries", 0, query_record(query));
    memory.wait_for("answers", asked, LIMIT);
    pipeline.finish();
    let store = Store::open(&config.snapshots.as_ref().unwrap().store, &StoreOptions::default()).unwrap();
    list(&store).unwrap().pop().expect("a last snapshot")
}

/// Compares two sides as the command does: one snapshot with two plans, or two with the plans that the queries name.
fn moves(setup: &Setup, sides: [(&str, Option<&str>); 2], queries: &[LoggedQuery]) -> Vec<Comparison> {
    let run = |snapshot: &str, plan: Option<&str>| {
        let progress = Arc::new(Progress::default());
        let mut found = answer(setup, snapshot, &[plan.map(str::to_owned)], queries, &progress).unwrap();
        assert_eq!(found.len(), 1);
        found.remove(0)
    };
    let [(a, plan_a), (b, plan_b)] = sides;
    compare(queries, &run(a, plan_a), &run(b, plan_b))
}

fn hit(id: &str, rank: usize) -> Hit {
    Hit { id: id.to_owned(), rank }
}

fn moved(id: &str, from: usize, to: usize) -> Moved {
    Moved { id: id.to_owned(), from, to }
}

#[test]
fn what_documents_changed_is_what_moves() {
    let folder = tempfile::tempdir().unwrap();
    let config = snapping(folder.path());
    let memory = topics();
    // By BM25 a text is the better the more of it is about the question.
    let first = life(
        &config,
        &memory,
        &[
            ("a", Some("refund")),
            ("b", Some("refund invoice")),
            ("c", Some("refund invoice harbour")),
            ("d", Some("harbour berth")),
        ],
        &json!({"id": "q1", "text": "refund", "plan": "bm25", "consistency": "strong", "limit": 5}),
    );
    let second = life(
        &config,
        &memory,
        &[("a", None), ("d", Some("refund refund")), ("e", Some("login token"))],
        &json!({"id": "q2", "using": "bm25", "query": {"text": "berth"}, "consistency": "strong"}),
    );
    assert_ne!(first, second);
    // The log is what was asked, read from the table of answers.
    let store = Store::open(&config.snapshots.as_ref().unwrap().store, &StoreOptions::default()).unwrap();
    let queries = from_table(answers::queries(&store, None).unwrap());
    let ids: Vec<&str> = queries.iter().map(|query| query.id.as_str()).collect();
    assert_eq!(ids, ["q1", "q2"], "in the order in which they were asked");
    let setup = load(config);
    let all = moves(&setup, [(&first, None), (&second, None)], &queries);
    assert_eq!(all.len(), 2);
    let of = |id: &str| all.iter().find(|one| one.id == id).unwrap();
    let refund = of("q1");
    assert_eq!(refund.error, None);
    assert_eq!((&refund.left, &refund.entered), (&vec![hit("a", 1)], &vec![hit("d", 1)]));
    assert_eq!(refund.moved, [], "b and c stand where they stood");
    assert_eq!((refund.same_top_1, refund.text.as_deref()), (false, Some("refund")));
    assert!((refund.overlap_at_10 - 2.0 / 3.0).abs() < 1e-12);
    let berth = of("q2");
    assert_eq!((&berth.left, &berth.entered, berth.overlap_at_10), (&vec![hit("d", 1)], &vec![], 0.0));
    assert_eq!(all[0].id, "q2", "the biggest change first");
    // And back: everything is turned round.
    let back = moves(&setup, [(&second, None), (&first, None)], &queries);
    assert_eq!((&back[0].entered, &back[0].left), (&vec![hit("d", 1)], &vec![]));
    assert_eq!((&back[1].entered, &back[1].left), (&vec![hit("a", 1)], &vec![hit("d", 1)]));
    // The same snapshot twice.
    let same = moves(&setup, [(&first, None), (&first, None)], &queries);
    let sum = summary(&same);
    assert_eq!((sum.queries, sum.failed, sum.changed), (2, 0, 0));
    assert_eq!((sum.same_top_1, sum.same_top_10, sum.overlap_at_10), (1.0, 1.0, 1.0));
    assert!((sum.rbo - 1.0).abs() < 1e-12);
    assert_eq!(embedded(&setup), 0, "no document was embedded");
}

#[test]
fn two_plans_order_the_same_documents_differently() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = snapping(folder.path());
    let turned = Config::parse(
        &format!(
            "{}\n[plans.harbour]\nprefetch = [{{ using = \"bm25\", limit = 9 }}, {{ using = \"bm25\", limit = 9, \
             query = {{ text = \"harbour\" }} }}]\nquery = {{ rrf = {{ k = 2, weights = [1, 5] }} }}\n",
            freshet_tests::drive::CONFIG
        ),
        &|_| None,
    );
    config.plans = turned.unwrap_or_else(|errors| panic!("{errors}")).plans;
    let memory = topics();
    let documents = [("a", Some("refund")), ("b", Some("refund harbour")), ("c", Some("invoice"))];
    let snapshot =
        life(&config, &memory, &documents, &json!({"id": "q", "text": "x", "consistency": "strong"}));
    let log = folder.path().join("log.jsonl");
    std::fs::write(
        &log,
        "{\"id\": \"q1\", \"text\": \"refund\"}\n\n{\"key\": \"q2\", \"value\": {\"text\": \"invoice\"}}\n\
         {\"text\": \" \"}\n",
    )
    .unwrap();
    let queries = read_log(&log).unwrap();
    let ids: Vec<&str> = queries.iter().map(|query| query.id.as_str()).collect();
    assert_eq!(ids, ["q1", "q2", "line 4"]);
    assert!(queries.iter().all(LoggedQuery::takes_a_plan));
    let setup = load(config);
    let plans = [Some("bm25".to_owned()), Some("harbour".to_owned())];
    // Both plans in one run.
    let found = answer(&setup, &snapshot, &plans, &queries, &Arc::new(Progress::default())).unwrap();
    let all = compare(&queries, &found[0], &found[1]);
    let ids: Vec<&str> = all.iter().map(|one| one.id.as_str()).collect();
    assert_eq!(
        ids,
        ["q2", "q1", "line 4"],
        "c is joined by b, above it; a and b change places; an error is last"
    );
    assert_eq!((&all[0].entered, &all[0].left), (&vec![hit("b", 1)], &vec![]));
    assert_eq!(all[0].moved, [moved("c", 1, 2)]);
    assert_eq!(all[1].moved, [moved("b", 2, 1), moved("a", 1, 2)]);
    assert!(all[2].error.as_deref().is_some_and(|error| error.contains("text")), "{:?}", all[2].error);
    assert_eq!(moves(&setup, [(&snapshot, Some("bm25")), (&snapshot, Some("harbour"))], &queries), all);
    std::fs::write(&log, "{\"id\": \"q1\", \"text\": \"refund\"}\nno query\n").unwrap();
    let told = read_log(&log).unwrap_err().to_string();
    assert!(told.contains("log.jsonl:2: not a JSON object"), "{told}");
}
