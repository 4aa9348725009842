//! The examples of `config/examples`: each is loaded as it is, and answers as its README says.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use freshet::render;
use freshet::setup::Setup;
use freshet_config::{Config, RerankerKind};
use freshet_schemas::{Answer, Point, Query};
use freshet_tests::drive::{Bench, query_record};
use freshet_tests::oracle::{Oracle, Scored};
use serde_json::{Value, json};

/// Budgets are those of a machine with nothing else to do.
const PATIENCE: Duration = Duration::from_secs(60);
/// Token vectors are rounded to a byte per dimension, and a cross-encoder's last bits depend on its batch.
const TOLERANCE: f64 = 2e-2;

/// An example that ran: its answers, and what is right.
struct Example {
    bench: Bench,
    answers: BTreeMap<String, Answer>,
    queries: BTreeMap<String, Value>,
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/examples").join(name)
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

impl Example {
    /// Runs an example; `env`: the variables it takes.
    fn run(name: &str, env: &[(&str, &str)]) -> Self {
        let text = std::fs::read_to_string(folder(name).join("freshet.toml")).unwrap();
        let variable =
            |wanted: &str| env.iter().find(|(name, _)| *name == wanted).map(|(_, value)| (*value).to_owned());
        let mut config = Config::parse(&text, &variable).unwrap_or_else(|errors| panic!("{name}:\n{errors}"));
        for reranker in config.rerankers.values_mut() {
            reranker.budget = PATIENCE;
            if let RerankerKind::Remote(endpoint) = &mut reranker.kind {
                endpoint.timeout = PATIENCE;
                endpoint.retries = 0;
            }
        }
        let setup = Setup::load(config).unwrap_or_else(|error| panic!("{name}: {error}"));
        let bench = Bench::start(&setup);
        lines(&folder(name).join("documents.jsonl")).iter().for_each(|document| bench.document(document));
        let queries: BTreeMap<String, Value> = lines(&folder(name).join("queries.jsonl"))
            .into_iter()
            .map(|query| (query["id"].as_str().unwrap().to_owned(), query))
            .collect();
        let ask = |(id, query): (&String, &Value)| {
            let answer: Answer = serde_json::from_value(bench.ask(query)).unwrap();
            assert!(answer.error.is_none(), "{answer:?}");
            assert_eq!(answer.points.len(), query["limit"].as_u64().unwrap() as usize, "{id}");
            for pair in answer.points.windows(2) {
                assert!((-pair[0].score, &pair[0].id) < (-pair[1].score, &pair[1].id), "{answer:?}");
            }
            (id.clone(), answer)
        };
        let answers = queries.iter().map(ask).collect();
        Self { bench, answers, queries }
    }

    fn ids(&self, query: &str) -> Vec<&str> {
        self.answers[query].points.iter().map(|point| point.id.as_str()).collect()
    }

    /// The names of the legs of all hits of a query.
    fn legs(&self, query: &str) -> Vec<&str> {
        let mut legs: Vec<&str> = self.answers[query]
            .points
            .iter()
            .flat_map(|point| &point.legs)
            .map(|leg| leg.name.as_str())
            .collect();
        legs.sort_unstable();
        legs.dedup();
        legs
    }

    fn oracle(&self, query: &Value) -> Vec<Scored> {
        let oracle = Oracle::new(&self.bench.setup, self.bench.memory.records("documents"));
        let parsed = Query::parse(&query_record(query), &self.bench.setup.config.queries.limits);
        let parsed = parsed.unwrap_or_else(|error| panic!("{}", error.fault));
        oracle.answer(&parsed, &self.answers[query["id"].as_str().unwrap()].as_of["documents"])
    }

    /// Asserts that the scores of all answers are those of plain scans, by id and by place.
    fn is_right(&self) {
        for (id, query) in &self.queries {
            let right = self.oracle(query);
            assert_eq!(right.len(), self.answers[id].points.len());
            for (point, (_, score)) in self.answers[id].points.iter().zip(&right) {
                let own = right.iter().find(|(id, _)| *id == point.id).map_or(*score, |(_, own)| *own);
                for score in [*score, own] {
                    let off = (point.score - score).abs();
                    assert!(off <= TOLERANCE * (1.0 + score.abs()), "{id}: {point:?}, right: {right:?}");
                }
            }
        }
    }

    fn finish(self) {
        self.bench.finish();
    }
}

fn reranked(point: &Point) -> u32 {
    point.rerank.unwrap_or_else(|| panic!("{point:?}")).rank
}

#[test]
fn a_cross_encoder_keeps_the_best_five_of_ten() {
    let example = Example::run("a-dense-cross-encoder", &[("CROSS_ENCODER", "tiny-cross")]);
    for query in ["cellar", "spring"] {
        assert_eq!(example.legs(query), ["dense"]);
        let points = &example.answers[query].points;
        assert_eq!(points.iter().map(reranked).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
        assert!(points.iter().all(|point| (1..=10).contains(&point.legs[0].rank)));
        assert!(points.iter().any(|point| point.legs[0].rank != reranked(point)), "something moves");
    }
    example.is_right();
    example.finish();
}

#[test]
fn a_fusion_finds_codes_and_meanings() {
    let example = Example::run("b-dense-bm25-rrf", &[]);
    assert_eq!(example.ids("code")[0], "E-4012");
    assert_eq!(example.ids("paraphrase")[0], "cancel");
    assert_eq!(example.ids("both")[0], "E-4012");
    assert_eq!(example.legs("both"), ["bm25", "dense"]);
    // Words alone do not find the paraphrase, so meaning did.
    let cancel = &example.answers["paraphrase"].points[0];
    assert_eq!(cancel.legs.iter().find(|leg| leg.name == "dense").map(|leg| leg.rank), Some(1));
    for point in example.answers.values().flat_map(|answer| &answer.points) {
        let sum: f64 = point.legs.iter().filter_map(|leg| leg.contribution).sum();
        assert!((sum - point.score).abs() < 1e-9 && point.fusion.is_some(), "{point:?}");
    }
    example.is_right();
    example.finish();
}

#[test]
fn a_filter_holds_in_dense_and_learned_sparse_search() {
    let example = Example::run("c-splade-filter", &[("SPLADE", "tiny-splade")]);
    for (query, cities) in
        [("bern", &["Bern"][..]), ("two-cities", &["Basel", "Zurich"]), ("dbsf", &["Bern"])]
    {
        assert_eq!(example.legs(query), ["dense", "splade"], "{query}");
        for point in &example.answers[query].points {
            let city = point.payload.as_ref().unwrap()["city"].as_str().unwrap();
            assert!(cities.contains(&city), "{query}: {point:?}");
            assert!(point.fusion.is_some());
        }
    }
    example.is_right();
    example.finish();
}

#[test]
fn late_interaction_orders_what_two_searches_found_and_the_table_shows_the_moves() {
    let example = Example::run("d-colbert-rerank", &[("COLBERT", "tiny-colbert")]);
    for query in ["vector", "flood"] {
        assert_eq!(example.legs(query), ["bm25", "dense"]);
        let answer = &example.answers[query];
        assert_eq!(answer.points.iter().map(reranked).collect::<Vec<_>>(), (1..=10).collect::<Vec<_>>());
        let table = render::answer_table(answer, false);
        for point in &answer.points {
            let (now, before) = (reranked(point), point.legs.iter().map(|leg| leg.rank).min().unwrap());
            let moved = match now.cmp(&before) {
                std::cmp::Ordering::Less => format!("{now} ▲{}", before - now),
                std::cmp::Ordering::Greater => format!("{now} ▼{}", now - before),
                std::cmp::Ordering::Equal => format!("{now} ＝"),
            };
            let is_row = |row: &&str| row.split('┆').nth(1).is_some_and(|cell| cell.trim() == point.id);
            let row = table.lines().find(is_row);
            assert!(row.is_some_and(|row| row.contains(&moved)), "{moved}, {}:\n{table}", point.id);
        }
        assert!(table.contains('▲') && table.contains('▼'), "{table}");
    }
    example.is_right();
    example.finish();
}

/// A service that scores a text by how many words of the query it holds; it serves so many requests, then is gone.
fn service(requests: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1/rerank", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for _ in 0..requests {
            let (stream, _) = listener.accept().unwrap();
            serve(stream);
        }
    });
    url
}

fn shared_words(query: &str, text: &str) -> usize {
    let words = |text: &str| -> Vec<String> {
        text.to_lowercase().split(|c: char| !c.is_alphanumeric()).map(str::to_owned).collect()
    };
    let text = words(text);
    words(query).iter().filter(|word| !word.is_empty() && text.contains(word)).count()
}

fn serve(mut stream: TcpStream) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let head: Vec<String> =
        reader.by_ref().lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    assert!(
        head.iter().any(|line| line.eq_ignore_ascii_case("authorization: bearer key-of-the-test")),
        "{head:?}"
    );
    let length =
        head.iter().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).unwrap();
    let request: Value = serde_json::from_slice(&body).unwrap();
    let query = request["query"].as_str().unwrap();
    let score = |(index, text): (usize, &Value)| json!({"index": index, "relevance_score": shared_words(query, text.as_str().unwrap())});
    let results: Vec<Value> =
        request["documents"].as_array().unwrap().iter().enumerate().map(score).collect();
    let body = json!({"results": results}).to_string();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
}

#[test]
fn a_service_keeps_the_best_five_of_ten_and_without_it_the_order_before_is_answered() {
    let url = service(1);
    let example = Example::run("e-remote-rerank", &[("RERANK_URL", &url), ("RERANK_KEY", "key-of-the-test")]);
    let answer = &example.answers["pump"];
    assert_eq!(example.legs("pump"), ["dense"]);
    assert!(answer.degraded.is_empty(), "{answer:?}");
    assert_eq!(answer.points.iter().map(reranked).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    let query = example.queries["pump"]["text"].as_str().unwrap();
    for point in &answer.points {
        assert_eq!(point.score, shared_words(query, point.text.as_ref().unwrap()) as f64, "{point:?}");
        assert!((1..=10).contains(&point.legs[0].rank));
    }
    assert_eq!(example.ids("pump")[0], "pump");
    // The service is gone: its port refuses.
    let mut again = example.queries["pump"].clone();
    again["id"] = json!("again");
    let degraded: Answer = serde_json::from_value(example.bench.ask(&again)).unwrap();
    assert_eq!(degraded.degraded.len(), 1, "{degraded:?}");
    assert_eq!(degraded.degraded[0].stage, "far");
    let ranks: Vec<u32> = degraded.points.iter().map(|point| point.legs[0].rank).collect();
    assert_eq!(ranks, [1, 2, 3, 4, 5]);
    example.finish();
}
