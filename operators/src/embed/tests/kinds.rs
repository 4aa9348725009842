//! Models of every kind against references written out in NumPy: `models/tiny_models.py` makes both.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use freshet_config::Embedding as EmbeddingConfig;
use serde::Deserialize;

use crate::embed::{Backend, EmbedJob, Embedding, EmbeddingService, Manifest, Priority, Wants, load, locate};

/// Largest difference from the reference, and of one text between any two batches.
const TOLERANCE: f32 = 1e-5;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Reference {
    documents: Vec<Expected>,
    queries: Vec<Expected>,
    pairs: Vec<Expected>,
}

#[derive(Deserialize)]
struct Expected {
    query: Option<String>,
    text: String,
    dense: Option<Vec<f32>>,
    tokens: Option<Vec<Vec<f32>>>,
    sparse: Option<Sparse>,
    score: Option<f32>,
}

#[derive(Deserialize)]
struct Sparse {
    indices: Vec<u64>,
    values: Vec<f32>,
}

const MODELS: [&str; 7] =
    ["tiny-mean", "tiny-cls", "tiny-last", "tiny-splade", "tiny-colbert", "tiny-cross", "tiny-cross-sigmoid"];

fn model(name: &str) -> (Arc<dyn Backend>, Reference) {
    let none = Default::default();
    let backend = load(name, &none).unwrap_or_else(|error| panic!("{error}; run scripts/setup.sh tiny"));
    let folder = locate(name, &none).expect("just loaded").folder;
    let reference = std::fs::read(folder.join("reference.json")).expect("written beside the model");
    (backend, serde_json::from_slice(&reference).expect("a reference"))
}

/// A service of one thread.
fn service(
    model: &Arc<dyn Backend>,
    batch_tokens_max: usize,
    run_timeout: Duration,
) -> Arc<EmbeddingService> {
    let positive = |value| NonZeroUsize::new(value).expect("positive");
    let config = EmbeddingConfig {
        threads: positive(1),
        batch_tokens_max: positive(batch_tokens_max),
        queue_texts_max: positive(1024),
        run_timeout,
    };
    EmbeddingService::with_backends(vec![Arc::clone(model)], &config).expect("a service")
}

/// Runs jobs of one text each, in the order given; results in that order.
fn embed(
    model: &Arc<dyn Backend>,
    batch_tokens_max: usize,
    jobs: Vec<(Priority, &Expected)>,
) -> Vec<Embedding> {
    let service = service(model, batch_tokens_max, Duration::from_secs(60));
    let (send, results) = channel();
    let count = jobs.len();
    for (number, (priority, expected)) in jobs.into_iter().enumerate() {
        let send = send.clone();
        let job = EmbedJob {
            model: 0,
            priority,
            wants: Wants::Rows,
            against: expected.query.as_deref().map(Arc::from),
            texts: vec![expected.text.clone()],
            reply: Box::new(move |mut results| {
                let result = results.pop().expect("one text").expect("a sound text");
                send.send((number, result)).expect("the test listens");
            }),
        };
        assert!(service.submit(job).is_ok(), "the queue is full");
    }
    let mut found: Vec<(usize, Embedding)> = results.iter().take(count).collect();
    found.sort_by_key(|(number, _)| *number);
    found.into_iter().map(|(_, embedding)| embedding).collect()
}

/// All numbers of an embedding that the reference speaks of, with what they are.
fn numbers(embedding: &Embedding, expected: &Expected) -> Vec<(&'static str, Vec<f32>, Vec<f32>)> {
    let mut numbers = Vec::new();
    if let Some(dense) = &expected.dense {
        numbers.push(("dense", embedding.dense.clone(), dense.clone()));
    }
    if let Some(tokens) = &expected.tokens {
        let rows = embedding.rows.clone().expect("token vectors");
        assert_eq!(rows.len(), tokens.len(), "token vectors of {:?}", expected.text);
        numbers.push(("tokens", rows.concat(), tokens.concat()));
    }
    if let Some(sparse) = &expected.sparse {
        let found = embedding.sparse.clone().expect("weights of words");
        assert_eq!(found.indices, sparse.indices, "words of {:?}", expected.text);
        numbers.push(("sparse", found.values, sparse.values.clone()));
    }
    if let Some(score) = expected.score {
        numbers.push(("score", vec![embedding.score.expect("a score")], vec![score]));
    }
    numbers
}

#[test]
fn every_kind_gives_what_numpy_gives_in_any_batch() {
    for name in MODELS {
        let (model, reference) = model(name);
        let documents = reference.documents.iter().map(|expected| (Priority::Document, expected));
        let queries = reference.queries.iter().chain(&reference.pairs);
        let mut jobs: Vec<(Priority, &Expected)> =
            documents.chain(queries.map(|expected| (Priority::Query, expected))).collect();
        assert!(!jobs.is_empty(), "{name} has no reference");
        // Alone, a few together, all together; forwards and backwards.
        for (batch_tokens_max, backwards) in [(1, false), (60, false), (60, true), (4096, true)] {
            if backwards {
                jobs.reverse();
            }
            for (embedding, (_, expected)) in embed(&model, batch_tokens_max, jobs.clone()).iter().zip(&jobs)
            {
                for (what, found, wanted) in numbers(embedding, expected) {
                    assert_eq!(found.len(), wanted.len(), "{name}: {what} of {:?}", expected.text);
                    let worst = found.iter().zip(&wanted).map(|(f, w)| (f - w).abs()).fold(0.0, f32::max);
                    assert!(
                        worst <= TOLERANCE,
                        "{name}: {what} of {:?} off by {worst}, batches of {batch_tokens_max}",
                        expected.text
                    );
                }
            }
            if backwards {
                jobs.reverse();
            }
        }
    }
}

#[test]
fn heads_make_the_vectors_they_are_for() {
    use freshet_schemas::VectorKind::{Dense, Multi, Sparse};
    let makes = |name| {
        let head = model(name).0.info().head.clone();
        [Dense, Sparse, Multi].map(|kind| head.makes(kind))
    };
    assert_eq!(makes("tiny-mean"), [true, false, true]);
    assert_eq!(makes("tiny-splade"), [false, true, false]);
    assert_eq!(makes("tiny-colbert"), [false, false, true]);
    assert_eq!(makes("tiny-cross"), [false, false, false]);
}

#[test]
fn a_text_that_makes_the_model_hang_is_found_and_takes_no_other_along() {
    let model = load("tiny-hang", &Default::default()).unwrap_or_else(|error| panic!("{error}"));
    let service = service(&model, 4096, Duration::from_millis(300));
    let (send, results) = channel();
    let texts = ["rain and snow", "water level", "the flood", "spring", "a thaw"].map(str::to_owned).to_vec();
    let reply = Box::new(move |results| send.send(results).expect("the test listens"));
    let (priority, wants) = (Priority::Document, Wants::Dense);
    let job = EmbedJob { model: 0, priority, wants, against: None, texts: texts.clone(), reply };
    assert!(service.submit(job).is_ok(), "the queue is full");
    let results = results.recv().expect("a reply");
    for (text, result) in texts.iter().zip(results) {
        match text.as_str() {
            "the flood" => {
                assert_eq!(result, Err("the model did not finish within 300.0ms".to_owned()));
            }
            _ => assert!(result.is_ok(), "{text}: {result:?}"),
        }
    }
}

#[test]
fn a_model_used_as_another_kind_is_refused_with_what_it_gives() {
    let folder = locate("tiny-mean", &Default::default()).expect("scripts/setup.sh tiny").folder;
    let written = std::fs::read_to_string(folder.join("freshet.json")).expect("a manifest");
    let refused = |changes: &[(&str, serde_json::Value)]| {
        let copy = tempfile::tempdir().expect("a temporary folder");
        for file in ["model.onnx", "tokenizer.json"] {
            std::fs::copy(folder.join(file), copy.path().join(file)).expect("a writable folder");
        }
        let mut manifest: serde_json::Value = serde_json::from_str(&written).expect("JSON");
        for (key, value) in changes {
            manifest[*key] = value.clone();
        }
        std::fs::write(copy.path().join("freshet.json"), manifest.to_string()).expect("a writable folder");
        let loaded = Manifest::read(copy.path(), "copy")
            .and_then(|manifest| crate::embed::OnnxModel::load(copy.path(), manifest));
        loaded.map(|model| model.info().head.clone()).expect_err("does not fit").to_string()
    };
    let cross = refused(&[("kind", "cross_encoder".into())]);
    assert!(cross.contains("last_hidden_state") && cross.contains("rank 2"), "{cross}");
    let dimension = refused(&[("dimension", 384.into())]);
    assert!(dimension.contains("found dimension 32, expected dimension 384"), "{dimension}");
    let marker = refused(&[
        ("kind", "late_interaction".into()),
        ("query_marker", "[Q]".into()),
        ("document_marker", "[unused1]".into()),
        ("mask", "[MASK]".into()),
        ("query_tokens", 8.into()),
    ]);
    assert!(marker.contains("no token \"[Q]\""), "{marker}");
    let keys = refused(&[("kind", "late_interaction".into())]);
    assert!(keys.contains("\"query_marker\""), "{keys}");
    let kind = refused(&[("kind", "generative".into())]);
    assert!(kind.contains("kind \"generative\"") && kind.contains("\"sparse\""), "{kind}");
}
