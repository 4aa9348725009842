//! Batches, pooling, quantisation, hashing, lookup: nothing but code.

use std::collections::BTreeMap;
use std::path::PathBuf;

use hf_hub::Cache;
use proptest::prelude::*;

use crate::embed::batches::batches;
use crate::embed::hashing::HashingModel;
use crate::embed::locate::{Places, locate_in};
use crate::embed::pool::embedding;
use crate::embed::{Backend, EmbedError, Head, Pooling, Priority, Tokens, Wants, quantize};

proptest! {
    #[test]
    fn batches_hold_every_text_once_within_the_budget(
        lengths in prop::collection::vec(1_usize..300, 0..80), tokens_max in 1_usize..2000,
    ) {
        let made = batches(&lengths, tokens_max);
        let mut places: Vec<usize> = made.iter().flatten().copied().collect();
        places.sort_unstable();
        prop_assert_eq!(places, (0..lengths.len()).collect::<Vec<_>>());
        for batch in &made {
            let longest = batch.iter().map(|place| lengths[*place]).max().unwrap_or(0);
            let cells = longest * batch.len();
            let padding = cells - batch.iter().map(|place| lengths[*place]).sum::<usize>();
            prop_assert!(cells <= tokens_max || batch.len() == 1);
            prop_assert!(padding * 20 <= cells);
        }
    }

    #[test]
    fn quantised_values_are_off_by_half_a_scale_at_most(
        row in prop::collection::vec(-1.0_f32..1.0, 8),
    ) {
        let matrix = quantize(std::iter::once(row.clone()), 8);
        for (value, code) in row.iter().zip(&matrix.codes) {
            prop_assert!((value - f32::from(*code) * matrix.scales[0]).abs() <= matrix.scales[0] * 0.5001);
        }
    }
}

#[test]
fn batches_put_like_lengths_together() {
    assert_eq!(batches(&[100, 10, 98, 10, 9], 250), [vec![4, 1, 3], vec![2, 0]]);
    assert_eq!(batches(&[500, 100, 100, 100], 250), [vec![1, 2], vec![3], vec![0]]);
}

#[test]
fn rows_of_zeros_keep_a_positive_scale() {
    let matrix = quantize([vec![0.0, 0.0], vec![0.5, -1.0]].into_iter(), 2);
    assert_eq!(matrix.codes, [0, 0, 64, -127]);
    assert_eq!(matrix.scales, [f32::MIN_POSITIVE, 1.0 / 127.0]);
}

#[test]
fn vectors_are_pooled_and_normalised_as_the_model_says() {
    let mut info = HashingModel::new(2).info().clone();
    let rows = [3.0, 0.0, 0.0, 8.0];
    let text = Tokens::new(vec![1, 2]);
    let made = embedding(&rows, &text, &info, Wants::Rows).expect("finite");
    assert_eq!(made.dense, [1.5 / 18.25_f32.sqrt(), 4.0 / 18.25_f32.sqrt()]);
    assert_eq!(made.rows, Some(vec![vec![1.0, 0.0], vec![0.0, 1.0]]));
    assert_eq!(made.tokens, None);
    info.head = Head::Dense { pooling: Pooling::Cls, normalize: false };
    let made = embedding(&rows, &text, &info, Wants::Tokens).expect("finite");
    assert_eq!(made.dense, [3.0, 0.0]);
    assert_eq!(made.tokens.map(|tokens| tokens.codes), Some(vec![127, 0, 0, 127]));
    let made = embedding(&rows, &text, &info, Wants::Dense).expect("finite");
    assert_eq!((made.tokens, made.rows), (None, None));
    embedding(&[1.0, f32::NAN], &text, &info, Wants::Dense).expect_err("not finite");
}

#[test]
fn hashing_knows_words_and_nothing_else() {
    let model = HashingModel::new(64);
    let ids = |text| model.encode(text, Priority::Query).expect("any text");
    assert_eq!(ids("Stop billing!"), ids("stop, BILLING"));
    assert_ne!(ids("stop"), ids("billing"));
    assert_eq!(ids("…").len(), 1);
    assert_eq!(ids(&"word ".repeat(1000)).len(), model.info().max_tokens);
    assert_eq!(HashingModel::dim_of("hashing-64"), Some(64));
    assert_eq!(
        ["hashing-0", "hashing-5000", "hashing-x", "all-MiniLM-L6-v2"].map(HashingModel::dim_of),
        [None; 4]
    );
}

fn nowhere() -> Places {
    Places { models: None, roots: Vec::new(), cache: None, endpoint: None, offline: true }
}

#[test]
fn models_are_found_in_the_documented_order() {
    let base = tempfile::tempdir().expect("a temporary folder");
    let name = "all-MiniLM-L6-v2";
    let (configured, own, vendor) = (base.path().join("c"), base.path().join("m"), base.path().join("r"));
    let hub = base.path().join("hub/models--sentence-transformers--all-MiniLM-L6-v2");
    let places = Places {
        models: Some(own.clone()),
        roots: vec![vendor.clone()],
        cache: Some(Cache::new(base.path().join("hub"))),
        ..nowhere()
    };
    let folders: BTreeMap<String, PathBuf> = [(name.to_owned(), configured.clone())].into();
    let none = BTreeMap::new();
    let place = |folders| locate_in(name, folders, &places).map(|located| (located.place, located.folder));
    let make = |folder: &PathBuf| std::fs::create_dir_all(folder).expect("a writable folder");

    let snapshot = hub.join("snapshots/abc");
    make(&snapshot.join("onnx"));
    make(&hub.join("refs"));
    std::fs::write(hub.join("refs/main"), "abc").expect("a writable folder");
    let error = place(&none).expect_err("the snapshot has no model file yet").to_string();
    for part in
        ["m/all-MiniLM-L6-v2", "r/vendor/models/all-MiniLM-L6-v2", "hub/models--", "freshet models pull"]
    {
        assert!(error.contains(part), "{error}");
    }
    std::fs::write(snapshot.join("onnx/model.onnx"), "").expect("a writable folder");
    assert_eq!(place(&none).expect("in the cache"), ("Hugging Face cache", snapshot));
    make(&vendor.join("vendor/models").join(name));
    assert_eq!(place(&none).expect("in vendor").0, "vendor/models");
    make(&own.join(name));
    assert_eq!(place(&none).expect("in FRESHET_MODELS").0, "FRESHET_MODELS");
    let by_repository = locate_in("sentence-transformers/all-MiniLM-L6-v2", &none, &places);
    assert_eq!(by_repository.expect("by repository").folder, own.join(name));
    assert_eq!(locate_in(&own.display().to_string(), &none, &nowhere()).expect("by path").place, "path");

    let error = place(&folders).expect_err("configured and missing").to_string();
    assert!(error.contains(&configured.display().to_string()) && error.contains("[models]"), "{error}");
    make(&configured);
    assert_eq!(place(&folders).expect("configured").0, "configuration");
}

#[test]
fn an_unknown_name_lists_the_known_ones() {
    let error = locate_in("gpt-9", &BTreeMap::new(), &nowhere()).expect_err("unknown");
    assert!(matches!(&error, EmbedError::NotFound { name, .. } if name == "gpt-9"));
    let text = error.to_string();
    assert!(text.contains("all-MiniLM-L6-v2") && text.contains("FRESHET_MODELS is not set"), "{text}");
}
