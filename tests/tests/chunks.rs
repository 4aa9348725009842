//! Long documents: what of them is embedded again, and what a hit says of where it is.

use std::collections::BTreeSet;
use std::sync::Arc;

use freshet::setup::Setup;
use freshet_config::{Config, Snapshots};
use freshet_operators::connect::Connector;
use freshet_schemas::{Answer, DocumentChange};
use freshet_tests::drive::{Bench, CONFIG, LIMIT, Pipeline, config, query_record, setup, topics};
use freshet_tests::oracle::Oracle;
use serde_json::{Value, json};

use crate::oracle::check;

const NOUNS: [&str; 12] = [
    "harbour", "berth", "anchor", "crane", "ferry", "quay", "tide", "pilot", "cargo", "buoy", "lock", "canal",
];

fn embedded(bench: &Bench) -> u64 {
    bench.setup.service.as_ref().unwrap().counts().document_texts
}

/// The test configuration with other lines for documents.
fn with_documents(lines: &str) -> Setup {
    let text = CONFIG.replace("chunk_tokens = 8\nchunk_overlap = 2\n", lines);
    Setup::load(Config::parse(&text, &|_| None).unwrap_or_else(|errors| panic!("{errors}"))).unwrap()
}

/// Sentences that no two paragraphs share.
fn paragraph(number: usize) -> String {
    let sentence = |place: usize| {
        let word = |word: usize| format!("{}{number}", NOUNS[(number + place * 5 + word) % NOUNS.len()]);
        let words: Vec<String> = (0..6 + (number + place) % 5).map(word).collect();
        format!("The {}.", words.join(" "))
    };
    (0..2 + number % 4).map(sentence).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_paragraph_that_changes_embeds_few_chunks_again() {
    let bench = Bench::start(&with_documents("chunk_tokens = 40\nchunk_overlap = 8\n"));
    let mut paragraphs: Vec<String> = (0..60).map(paragraph).collect();
    let put = |id: &str, paragraphs: &[String]| {
        let before = embedded(&bench);
        bench.document(&json!({"id": "long", "text": paragraphs.join("\n\n")}));
        bench.ask(&json!({"id": id, "text": "harbour", "consistency": "strong"}));
        embedded(&bench) - before
    };
    let all = put("first", &paragraphs);
    assert!(all >= 50, "{all} chunks");
    // A paragraph has 12 to 55 tokens: with the overlap it stands in at most three chunks, and a few more move before
    // the text is as it was.
    const BEYOND: u64 = 8;
    paragraphs[30] = paragraph(100);
    let changed = put("changed", &paragraphs);
    assert!((1..=3 + BEYOND).contains(&changed), "{changed} of {all} chunks for a changed paragraph");
    paragraphs.insert(20, paragraph(101));
    let inserted = put("inserted", &paragraphs);
    assert!((1..=3 + BEYOND).contains(&inserted), "{inserted} of {all} chunks for a new paragraph");
    paragraphs.remove(10);
    let removed = put("removed", &paragraphs);
    assert!(removed <= 2 + BEYOND, "{removed} of {all} chunks for one that is gone");
    bench.finish();
}

/// Asserts that spans are where the texts of hits stand, and that no list holds a document twice.
fn spans_fit(answer: &Value, text_of: impl Fn(&str) -> String) {
    let points = answer["points"].as_array().unwrap();
    assert!(!points.is_empty(), "{answer}");
    let ids: BTreeSet<&str> = points.iter().map(|point| point["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), points.len(), "each document once");
    for point in points {
        let characters: Vec<char> = text_of(point["id"].as_str().unwrap()).chars().collect();
        let place = |end: usize| usize::try_from(point["span"][end].as_u64().unwrap()).unwrap();
        let there: String = characters[place(0)..place(1)].iter().collect();
        assert_eq!(point["text"], there, "{point}");
    }
}

#[test]
fn a_document_is_found_once_by_its_best_chunk_which_says_where_it_is() {
    let bench = Bench::start(&setup(2));
    let text = |id: &str| {
        let words = NOUNS.iter().cycle().take(40).enumerate();
        words.map(|(place, noun)| format!("{noun}ä{}{id} ", place / 12)).collect::<String>()
    };
    for id in ["a", "b", "c"] {
        bench.document(&json!({"id": id, "text": text(id), "stars": 1}));
    }
    let ask = |id: &str| {
        let leg = |using: &str| json!({"query": "tideä2b pilotä2b cargoä2b", "using": using, "limit": 9});
        bench.ask(&json!({"id": id, "consistency": "strong", "limit": 9,
            "prefetch": [leg("dense"), leg("colbert")], "query": {"fusion": "rrf"}}))
    };
    let first = ask("first");
    spans_fit(&first, text);
    assert_eq!(first["points"].as_array().unwrap().len(), 3);
    let best = &first["points"][0];
    assert_eq!(best["id"], "b");
    assert!(best["text"].as_str().unwrap().contains("pilotä2b"), "{best}");
    assert!(best["chunk"].as_u64().unwrap() >= 3 && best["span"][0].as_u64().unwrap() > 100, "{best}");
    // A payload-only update writes a new version: its chunks are where they were.
    let before = embedded(&bench);
    bench.document(&json!({"id": "b", "text": text("b"), "stars": 2}));
    let second = ask("second");
    assert_eq!(embedded(&bench), before);
    assert_eq!(second["points"][0]["payload"], json!({"stars": 2}));
    for key in ["chunk", "span", "text"] {
        assert_eq!(second["points"][0][key], first["points"][0][key]);
    }
    bench.finish();
}

#[test]
fn spans_and_titles_come_back_with_a_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    let load = || {
        let mut config = config(2);
        config.documents.title = Some("title".into());
        let store = format!("file://{}", folder.path().display());
        config.snapshots = Some(Snapshots { store, ..Snapshots::default() });
        Setup::load(config).unwrap()
    };
    let memory = topics();
    let connector: Arc<dyn Connector> = Arc::new(memory.clone());
    let text: String = NOUNS.iter().cycle().take(30).map(|noun| format!("{noun}é ")).collect();
    let document = json!({"id": "a", "title": "Häfen", "text": text}).to_string();
    let record = freshet_schemas::Record { value: Some(document.into_bytes()), ..Default::default() };
    let ask = |id: &str, count: usize| {
        let setup = load();
        let pipeline = Pipeline::start(&setup, &connector);
        let query =
            json!({"id": id, "query": "buoyé lockäé canalé", "using": "dense", "consistency": "strong"});
        memory.produce("queries", 0, query_record(&query));
        memory.wait_for("answers", count, LIMIT);
        pipeline.finish();
        let answer = memory.records("answers").pop().unwrap();
        let answer: Value = serde_json::from_slice(&answer.value.unwrap()).unwrap();
        spans_fit(&answer, |_| text.clone());
        (answer["points"].clone(), setup.service.as_ref().unwrap().counts().document_texts)
    };
    memory.produce("documents", 0, record.clone());
    let (points, first) = ask("first", 1);
    assert!(first > 2 && points[0]["payload"] == json!({"title": "Häfen"}), "{points}");
    // The same record again: the state that was restored knows its title and its chunks.
    memory.produce("documents", 0, record);
    let (again, embedded) = ask("second", 2);
    assert_eq!((again, embedded), (points, 0));
}

#[test]
fn a_title_is_read_before_every_chunk_and_counted_once() {
    let bench = Bench::start(&with_documents("chunk_tokens = 8\nchunk_overlap = 2\ntitle = \"title\"\n"));
    let text = |from: usize| NOUNS.iter().cycle().skip(from).take(28).copied().collect::<Vec<_>>().join(" ");
    let put = |id: &str, title: &str, from: usize, stars: u32| {
        bench.document(&json!({"id": id, "title": title, "text": text(from), "stars": stars}));
    };
    // What a round embeds of documents, counted before the oracle embeds them too.
    let round = |round: &str, before: u64| {
        let settle =
            json!({"id": format!("settle {round}"), "text": "x", "plan": "bm25", "consistency": "strong"});
        bench.ask(&settle);
        let embedded = embedded(&bench) - before;
        let oracle = Oracle::new(&bench.setup, bench.memory.records("documents"));
        for (number, mut query) in [
            json!({"query": "lighthouse keeper", "using": "dense", "limit": 5}),
            json!({"query": "lighthouse tide", "using": "colbert", "limit": 5}),
            json!({"text": "lighthouse tide", "plan": "bm25", "limit": 5}),
        ]
        .into_iter()
        .enumerate()
        {
            query["id"] = json!(format!("{round} {number}"));
            query["consistency"] = json!("strong");
            let answer: Answer = serde_json::from_value(bench.ask(&query)).unwrap();
            check(&oracle, &bench.setup, &query, &answer, &format!("round {round}: {query}"));
        }
        embedded
    };
    put("a", "Lighthouse keeper", 0, 1);
    put("b", "Canals", 3, 1);
    put("c", "", 5, 1);
    assert!(round("first", 0) >= 12);
    let before = embedded(&bench);
    put("a", "Lighthouse keeper", 0, 2);
    assert_eq!(round("payload", before), 0, "a change of payload embeds nothing");
    let before = embedded(&bench);
    put("a", "Lighthouse", 0, 2);
    let retitled = round("title", before);
    let spec = bench.setup.document_specs().remove(0);
    let record = bench.memory.records("documents").into_iter().next().unwrap();
    let Ok(DocumentChange::Put(document)) = DocumentChange::parse(&record, &spec) else {
        panic!("{record:?}")
    };
    let chunks = (bench.setup.splitter())(&document.text).len() as u64;
    assert!(chunks >= 4, "{chunks}");
    // Two fields of one model: it still reads each chunk once.
    assert_eq!(retitled, chunks, "another title is read before all chunks");
    let answer =
        bench.ask(&json!({"id": "span", "query": "lighthouse", "using": "dense", "consistency": "strong"}));
    assert_eq!(answer["points"][0]["id"], "a");
    spans_fit(&answer, |id| {
        text(match id {
            "a" => 0,
            "b" => 3,
            _ => 5,
        })
    });
    bench.finish();
}
