//! Random scripts: every answer equals the one computed from scratch at its `as_of`, for any number of workers.

use std::collections::BTreeMap;
use std::sync::Arc;

use freshet_operators::connect::Connector;
use freshet_schemas::{Answer, Query, Record};
use freshet_tests::drive::{LIMIT, Pipeline, answers, play, query_record, setup, timeless, topics};
use freshet_tests::oracle::Oracle;
use freshet_tests::script::{self, Step};

/// Scores are sums of few products of small numbers: f32 keeps them to this.
const TOLERANCE: f64 = 1e-5;

pub(crate) fn check(
    oracle: &Oracle,
    setup: &freshet::setup::Setup,
    query: &serde_json::Value,
    answer: &Answer,
    context: &str,
) {
    assert!(answer.error.is_none(), "{context}: {:?}", answer.error);
    let query = Query::parse(&query_record(query), &setup.config.queries.limits)
        .unwrap_or_else(|e| panic!("{}", e.fault));
    let expected = oracle.answer(&query, &answer.as_of["documents"]);
    let found: Vec<(String, f64)> =
        answer.points.iter().map(|point| (point.id.clone(), point.score)).collect();
    let ids = |list: &[(String, f64)]| list.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&found), ids(&expected), "{context}: {query:?}\nfound {found:?}\nexpected {expected:?}");
    for ((id, score), (_, right)) in found.iter().zip(&expected) {
        assert!(
            (score - right).abs() <= TOLERANCE,
            "{context}: {id} scored {score}, expected {right}: {query:?}"
        );
    }
}

pub(crate) fn by_id(script: &[Step]) -> BTreeMap<String, serde_json::Value> {
    let queries = script.iter().flat_map(|step| &step.queries);
    queries.map(|query| (query["id"].as_str().unwrap().to_owned(), query.clone())).collect()
}

/// What the log holds at the end of each step, to check that a strong query sees exactly that.
fn ends(script: &[Step]) -> BTreeMap<String, BTreeMap<i32, i64>> {
    let mut end: BTreeMap<i32, i64> = (0..script::PARTITIONS as i32).map(|p| (p, -1)).collect();
    let mut ends = BTreeMap::new();
    for step in script {
        for (partition, _) in &step.documents {
            *end.get_mut(partition).unwrap() += 1;
        }
        for query in &step.queries {
            ends.insert(query["id"].as_str().unwrap().to_owned(), end.clone());
        }
    }
    ends
}

#[test]
fn step_by_step_answers_equal_the_oracle_for_any_number_of_workers() {
    for seed in 0..12 {
        let script = script::random(seed, 12);
        let (queries, ends) = (by_id(&script), ends(&script));
        let mut first: Option<Vec<String>> = None;
        for workers in [1, 2, 4] {
            let setup = setup(workers);
            let (log, answers) = play(&script, &setup);
            assert_eq!(
                answers.len(),
                queries.len(),
                "seed {seed}, {workers} workers: every query is answered once"
            );
            let oracle = Oracle::new(&setup, log);
            for answer in &answers {
                let context = format!("seed {seed}, {workers} workers, query {}", answer.id);
                assert_eq!(
                    answer.as_of["documents"], ends[&answer.id],
                    "{context}: strong is all and only that"
                );
                check(&oracle, &setup, &queries[&answer.id], answer, &context);
            }
            let bytes: Vec<String> = answers.into_iter().map(timeless).collect();
            let expected = first.get_or_insert_with(|| bytes.clone());
            assert_eq!(*expected, bytes, "seed {seed}: {workers} workers give the same bytes as 1");
        }
    }
}

#[test]
fn answers_while_documents_arrive_equal_the_oracle_at_their_as_of() {
    for seed in 100..110 {
        let script = script::random(seed, 30);
        let queries = by_id(&script);
        for workers in [1, 2, 4] {
            let setup = setup(workers);
            let memory = topics();
            let connector: Arc<dyn Connector> = Arc::new(memory.clone());
            let pipeline = Pipeline::start(&setup, &connector);
            for step in &script {
                for (partition, record) in &step.documents {
                    memory.produce("documents", *partition, record.clone());
                }
                for query in &step.queries {
                    memory.produce("queries", 0, query_record(query));
                }
            }
            memory.wait_for("answers", queries.len(), LIMIT);
            pipeline.finish();
            let log: Vec<Record> = memory.records("documents");
            let oracle = Oracle::new(&setup, log);
            for answer in answers(&memory) {
                let context = format!("seed {seed}, {workers} workers, query {}", answer.id);
                check(&oracle, &setup, &queries[&answer.id], &answer, &context);
            }
        }
    }
}
