//! The table of answers: what a run answered, as DuckDB sees it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use freshet::setup::Setup;
use freshet_config::{Config, Delivery, Snapshots, StoreOptions};
use freshet_operators::connect::{Connector, Memory};
use freshet_operators::snapshot::{Store, answers as table};
use freshet_schemas::{Answer, Record};
use freshet_tests::drive::{LIMIT, Pipeline, answers, config, query_record, topics};
use freshet_tests::script;
use serde_json::{Value, json};

use crate::snapshots::duckdb;

fn keeping(workers: usize, folder: &Path) -> Config {
    let mut config = config(workers);
    let store = format!("file://{}", folder.display());
    let interval = Duration::from_secs(3600);
    config.snapshots = Some(Snapshots { store, interval, answers: true, ..Snapshots::default() });
    config
}

fn store(folder: &Path) -> Store {
    Store::open(&format!("file://{}", folder.display()), &StoreOptions::default()).unwrap()
}

/// A run that answers some queries, all of which are written before it ends.
fn life(config: Config, memory: &Memory, queries: &[Value]) {
    let connector: Arc<dyn Connector> = Arc::new(memory.clone());
    let pipeline = Pipeline::start(&Setup::load(config).unwrap(), &connector);
    ask(memory, queries);
    pipeline.finish();
}

fn ask(memory: &Memory, queries: &[Value]) {
    let asked = memory.len("queries") + queries.len();
    for query in queries {
        memory.produce("queries", 0, query_record(query));
    }
    memory.wait_for("answers", asked, LIMIT);
}

fn document(memory: &Memory, id: &str, text: &str) {
    let value = json!({"id": id, "text": text}).to_string().into_bytes();
    let record = Record { key: Some(id.as_bytes().to_vec()), value: Some(value), ..Record::default() };
    memory.produce("documents", 0, record);
}

/// What the table is to say of an answer: a row per hit and leg.
fn legs(answer: &Answer) -> Vec<Value> {
    let hit = |(place, point): (usize, &freshet_schemas::Point)| {
        let fused = point.fusion.map(|fusion| (fusion.rank, fusion.score)).unzip();
        let reranked = point.rerank.map(|rerank| (rerank.rank, rerank.score)).unzip();
        let leg = |leg: &freshet_schemas::Leg| {
            json!([
                answer.id,
                place + 1,
                point.id,
                point.chunk,
                point.score,
                fused.0,
                fused.1,
                reranked.0,
                reranked.1,
                leg.name,
                leg.rank,
                leg.score
            ])
        };
        point.legs.iter().map(leg).collect::<Vec<_>>()
    };
    answer.points.iter().enumerate().flat_map(hit).collect()
}

#[test]
fn duckdb_reads_who_asked_what_and_what_was_found() {
    for delivery in [Delivery::ExactlyOnce, Delivery::AtLeastOnce] {
        let folder = tempfile::tempdir().unwrap();
        let configured = |workers: usize| {
            let mut config = keeping(workers, folder.path());
            config.queries.delivery = delivery;
            config
        };
        let memory = topics();
        document(&memory, "a", "refund");
        document(&memory, "b", "refund of an invoice");
        document(&memory, "c", "harbour and berth");
        let strong = |mut query: Value| {
            query["consistency"] = "strong".into();
            query
        };
        let of_two = json!([{"query": {"text": "berth"}, "using": "bm25"}, {"query": {"text": "berth"}, "using": "colbert"}]);
        life(
            configured(2),
            &memory,
            &[
                strong(json!({"id": "q1", "text": "refund"})),
                strong(json!({"id": "q2", "text": "refund", "plan": "bm25"})),
                strong(json!({"id": "q3", "text": "zebra", "plan": "bm25"})),
                json!({"id": "q4", "text": "refund", "plan": "none"}),
                strong(
                    json!({"id": "q5", "prefetch": of_two, "query": {"text": "refund"}, "using": "colbert"}),
                ),
            ],
        );
        // A restart goes on in files of its own.
        document(&memory, "d", "berth");
        life(configured(3), &memory, &[strong(json!({"id": "q6", "text": "berth", "plan": "bm25"}))]);
        let given: BTreeMap<String, Answer> =
            answers(&memory).into_iter().map(|answer| (answer.id.clone(), answer)).collect();
        assert_eq!(given.len(), 6);
        let view = table::view(&store(folder.path())).unwrap().expect("there are answers");
        let queries = [
            view,
            "SELECT id, text, plan, error_code, took_seconds, len(hits), len(degraded), epoch_ms(time), as_of \
             FROM answers ORDER BY id"
                .to_owned(),
            "SELECT a.id, h.rank, h.id, h.chunk, h.score, h.fusion_rank, h.fusion_score, h.rerank_rank, h.rerank_score, \
             l.name, l.rank, l.score FROM answers AS a, unnest(a.hits) AS u(h), unnest(h.legs) AS v(l) \
             ORDER BY a.id, h.rank, l.name"
                .to_owned(),
            // As in the README.
            "SELECT text, count(*) AS times FROM answers GROUP BY text ORDER BY times DESC, text LIMIT 2".to_owned(),
            "SELECT count(*) FROM (SELECT id, text, took_seconds FROM answers ORDER BY took_seconds DESC LIMIT 10)"
                .to_owned(),
            "SELECT text FROM answers WHERE len(hits) = 0 AND error_code IS NULL".to_owned(),
            "SELECT l.name, count(*) AS best FROM answers, unnest(hits[1].legs) AS u(l) WHERE l.rank = 1 \
             GROUP BY l.name ORDER BY l.name"
                .to_owned(),
            "SELECT bool_and(date = (asked AT TIME ZONE 'UTC')::DATE), bool_and(asked > now() - INTERVAL 1 HOUR), \
             min(query->>'id') FROM answers"
                .to_owned(),
            "SELECT count(DISTINCT decode(value)) FROM parquet_kv_metadata('ROOT/answers/*/*.parquet') \
             WHERE decode(key) = 'freshet.run'"
                .replace("ROOT", &folder.path().display().to_string()),
        ];
        let Some(found) = duckdb("duckdb_reads_who_asked_what_and_what_was_found", &queries) else { return };
        let row = |answer: &Answer| {
            let plan = match answer.id.as_str() {
                "q2" | "q3" | "q6" => Some("bm25"),
                "q4" => Some("none"),
                _ => None,
            };
            let error = answer.error.as_ref().map(|error| error.code.as_str());
            let text = match answer.id.as_str() {
                "q3" => "zebra",
                "q6" => "berth",
                // Of q5 the text of the query itself, before those of its stages.
                _ => "refund",
            };
            let as_of = serde_json::to_string(&answer.as_of).unwrap();
            json!([
                answer.id,
                text,
                plan,
                error,
                answer.took_seconds,
                answer.points.len(),
                0,
                answer.time,
                as_of
            ])
        };
        assert_eq!(found[1], Value::Array(given.values().map(row).collect()));
        let mut expected: Vec<Value> = given.values().flat_map(legs).collect();
        expected.sort_by_key(|row| (row[0].to_string(), row[1].as_u64(), row[9].to_string()));
        assert!(expected.len() > 8, "hits with several legs: {}", expected.len());
        assert_eq!(found[2], Value::Array(expected));
        assert_eq!(found[3], json!([["refund", 4], ["berth", 1]]));
        assert_eq!(found[4], json!([[6]]));
        assert_eq!(found[5], json!([["zebra"]]));
        let best: u64 = found[6].as_array().unwrap().iter().map(|row| row[1].as_u64().unwrap()).sum();
        assert!(best >= 4, "the best hits of q1, q2, q5 and q6 were first somewhere: {}", found[6]);
        assert_eq!(found[7], json!([[true, true, "q1"]]));
        assert_eq!(found[8], json!([[2]]), "each life has files of its own, which say whose they are");
    }
}

#[test]
fn lives_without_end_keep_every_answer_once() {
    for seed in 320..323 {
        let folder = tempfile::tempdir().unwrap();
        let memory = topics();
        let mut asked = Vec::new();
        for (life_number, steps) in script::random(seed, 9).chunks(3).enumerate() {
            let mut config = keeping(1 + life_number, folder.path());
            // Cuts all the time: rows are written with each of them.
            config.snapshots.as_mut().unwrap().interval = Duration::from_millis(3);
            let connector: Arc<dyn Connector> = Arc::new(memory.clone());
            let pipeline = Pipeline::start(&Setup::load(config).unwrap(), &connector);
            for step in steps {
                for (partition, record) in &step.documents {
                    memory.produce("documents", *partition, record.clone());
                }
                ask(&memory, &step.queries);
                asked.extend(step.queries.iter().map(|query| query["id"].as_str().unwrap().to_owned()));
            }
            pipeline.finish();
        }
        let store = store(folder.path());
        let mut kept: Vec<String> = table::queries(&store, None).unwrap().into_iter().map(|q| q.id).collect();
        kept.sort();
        assert_eq!(kept, asked, "seed {seed}: ids ascend as they are asked");
        let rows =
            format!("SELECT count(*) FROM read_parquet('{}/answers/*/*.parquet')", folder.path().display());
        let Some(found) = duckdb("lives_without_end_keep_every_answer_once", &[rows]) else { return };
        assert_eq!(found[0], json!([[asked.len()]]), "seed {seed}: no row is there twice");
    }
}

#[test]
fn a_store_that_refuses_holds_no_answer_up_and_loses_none() {
    let folder = tempfile::tempdir().unwrap();
    let memory = topics();
    document(&memory, "a", "refund");
    let connector: Arc<dyn Connector> = Arc::new(memory.clone());
    let pipeline = Pipeline::start(&Setup::load(keeping(2, folder.path())).unwrap(), &connector);
    let cut = || pipeline.control().cut_now().recv_timeout(LIMIT).expect("an outcome").expect("written");
    let query =
        |number: usize| json!({"id": format!("q{number}"), "text": "refund", "consistency": "strong"});
    ask(&memory, &[query(0)]);
    // A file where the folder is to be: snapshots are written, answers are not.
    let blocked = folder.path().join("answers");
    let aside = folder.path().join("aside");
    let is_kept = || blocked.exists();
    cut();
    // They are written after the snapshot is told.
    let until = std::time::Instant::now() + LIMIT;
    while !is_kept() {
        assert!(std::time::Instant::now() < until, "the answers come with the snapshot");
        std::thread::park_timeout(Duration::from_millis(5));
    }
    // One more begins once they are written: the folder is not moved while something is written to it.
    cut();
    std::fs::rename(&blocked, &aside).unwrap();
    std::fs::write(&blocked, "in the way").unwrap();
    for number in 1..4 {
        ask(&memory, &[query(number)]);
        cut();
    }
    std::fs::remove_file(&blocked).unwrap();
    std::fs::rename(&aside, &blocked).unwrap();
    ask(&memory, &[query(4)]);
    pipeline.finish();
    let kept: Vec<String> =
        table::queries(&store(folder.path()), None).unwrap().into_iter().map(|query| query.id).collect();
    assert_eq!(kept, ["q0", "q1", "q2", "q3", "q4"]);
}
