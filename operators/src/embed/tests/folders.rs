//! Folders of models, sound and not, on small models that ONNX Runtime runs.

use std::path::Path;

use serde_json::{Value, json};

use super::tiny::{self, Shape};
use crate::embed::{
    Backend, EmbedError, Head, Manifest, ModelInfo, OnnxModel, Pooling, Priority, Runner, Tokens,
};

/// Longest run; only a failing test takes this long.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(60);

fn load(folder: &Path) -> Result<OnnxModel, EmbedError> {
    OnnxModel::load(folder, Manifest::read(folder, "asked-for")?)
}

/// Loads the model of a folder made with these.
fn made(shape: &Shape, manifest: &Value) -> Result<OnnxModel, EmbedError> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    tiny::write(folder.path(), shape, manifest);
    load(folder.path())
}

#[track_caller]
fn refused(result: Result<OnnxModel, EmbedError>, found: &str, expected: &str) {
    let Err(EmbedError::Misfit { found: has, expected: wants, .. }) =
        result.map(|model| model.info().clone())
    else {
        panic!("not refused as a misfit; is ONNX Runtime there? (scripts/setup.sh, ORT_DYLIB_PATH)")
    };
    assert!(has.contains(found), "found: {has}");
    assert!(wants.contains(expected), "expected: {wants}");
}

#[test]
fn a_model_says_its_size_and_runs() {
    let model = match made(&Shape::default(), &tiny::manifest()) {
        Ok(model) => model,
        Err(error) => panic!("{error}"),
    };
    let ModelInfo { name, dim, max_tokens, special_tokens, head, .. } = model.info();
    assert_eq!((name.as_str(), *dim, *max_tokens, *special_tokens), ("tiny", tiny::DIM, 5, 2));
    assert_eq!(*head, Head::Dense { pooling: Pooling::Mean, normalize: false });
    // [CLS] and [SEP] count; the tokenizer's own limit of 4 and padding to 9 do not hold; queries have a prefix.
    let document = model.encode("red green blue red", Priority::Document).expect("a readable text");
    assert_eq!(document.ids, [1, 4, 5, 6, 2]);
    assert_eq!(model.tokenizer().encode("red green blue red", true).expect("a readable text").len(), 6);
    let query = model.encode("green", Priority::Query).expect("a readable text");
    assert_eq!(query.ids, [1, 4, 5, 2]);
    let hidden = model.runner().expect("a session").run(&[&document, &query], LIMIT).expect("a run");
    assert_eq!((hidden.rows, hidden.dim), (5, tiny::DIM));
    let rows = |ids: &[u32]| ids.iter().flat_map(|id| tiny::TABLE[*id as usize]).collect::<Vec<f32>>();
    assert_eq!(hidden.text(0, 5), rows(&document.ids));
    assert_eq!(hidden.text(1, 4), rows(&query.ids));
}

#[test]
fn runners_are_independent_and_digests_tell_models_apart() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    tiny::write(folder.path(), &Shape::default(), &tiny::manifest());
    let model = load(folder.path()).expect("a sound folder");
    let (mut one, mut two) = (model.runner().expect("a session"), model.runner().expect("a session"));
    let text = Tokens::new(vec![1, 4, 2]);
    let values = |runner: &mut Box<dyn Runner>| runner.run(&[&text], LIMIT).expect("a run").values.to_vec();
    assert_eq!(values(&mut one), values(&mut two));
    let digest = |changed: (&str, Value)| {
        let mut manifest = tiny::manifest();
        manifest[changed.0] = changed.1;
        made(&Shape::default(), &manifest).expect("a sound folder").info().digest.clone()
    };
    assert_eq!(digest(("license", "MIT".into())), model.info().digest);
    assert_ne!(digest(("query_prefix", "blue ".into())), model.info().digest);
    assert_ne!(digest(("pooling", "cls".into())), model.info().digest);
}

#[test]
fn misfits_say_what_was_found_and_expected() {
    let manifest = tiny::manifest();
    let rank = Shape { rank: 2, ..Shape::default() };
    refused(made(&rank, &manifest), "last_hidden_state", "rank 3");
    let input = Shape { inputs: vec!["input_ids", "attention_mask", "pixel_values"], ..Shape::default() };
    refused(made(&input, &manifest), "pixel_values", "token_type_ids");
    let mask = Shape { inputs: vec!["input_ids"], ..Shape::default() };
    refused(made(&mask, &manifest), "[\"input_ids\"]", "attention_mask");
    let with = |key: &str, value: Value| {
        let mut changed = manifest.clone();
        changed[key] = value;
        made(&Shape::default(), &changed)
    };
    refused(with("pooling", "max".into()), "pooling \"max\"", "\"last_token\"");
    refused(with("file", "other.onnx".into()), "no file \"other.onnx\"", "tokenizer.json");
    refused(with("max_tokens", 2.into()), "max_tokens 2", "at least 3");
    refused(with("max_tokens", "many".into()), "many", "JSON");
}

#[test]
fn an_output_of_another_name_is_taken_by_its_rank() {
    let shape = Shape { output: "hidden", ..Shape::default() };
    assert_eq!(made(&shape, &tiny::manifest()).expect("a sound folder").info().dim, tiny::DIM);
}

#[test]
fn broken_files_are_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    tiny::write(folder.path(), &Shape::default(), &tiny::manifest());
    std::fs::write(folder.path().join("model.onnx"), "not a model").expect("a writable folder");
    assert!(matches!(load(folder.path()), Err(EmbedError::Onnx { what: "load", .. })));
    std::fs::write(folder.path().join("tokenizer.json"), "{}").expect("a writable folder");
    refused(load(folder.path()), "", "a tokenizer");
    std::fs::remove_file(folder.path().join("tokenizer.json")).expect("it is there");
    refused(load(folder.path()), "no file \"tokenizer.json\"", "tokenizer.json");
}

#[test]
fn the_layout_of_public_repositories_is_read() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let put = |file: &str, content: &[u8]| {
        let path = folder.path().join(file);
        std::fs::create_dir_all(path.parent().expect("in the folder")).expect("a writable folder");
        std::fs::write(path, content).expect("a writable folder");
    };
    refused(load(folder.path()), "no model file", "onnx/model.onnx");
    put("onnx/model.onnx", &tiny::model(&Shape::default()));
    put("tokenizer.json", tiny::tokenizer().to_string().as_bytes());
    put("config.json", br#"{"max_position_embeddings": 64, "hidden_size": 3}"#);
    refused(load(folder.path()), "nothing about the pooling", "1_Pooling/config.json");
    put("1_Pooling/config.json", br#"{"pooling_mode_max_tokens": true}"#);
    refused(load(folder.path()), "another pooling", "mean, CLS or last");
    put("1_Pooling/config.json", br#"{"word_embedding_dimension": 3, "pooling_mode_cls_token": true}"#);
    let modules = json!([{"type": "sentence_transformers.models.Normalize"}]);
    put("modules.json", modules.to_string().as_bytes());
    let info = load(folder.path()).expect("a sound folder").info().clone();
    assert_eq!(info.head, Head::Dense { pooling: Pooling::Cls, normalize: true });
    assert_eq!(info.max_tokens, 64);
    assert_eq!(info.name, "asked-for");
    put("sentence_bert_config.json", br#"{"max_seq_length": 32}"#);
    assert_eq!(load(folder.path()).expect("a sound folder").info().max_tokens, 32);
}
