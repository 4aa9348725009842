//! Texts in place of vectors: models that are loaded when somebody first names them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use freshet_config::Embedding as Configured;
use freshet_operators::embed::{
    EmbedJob, EmbeddingService, Priority, Wants, hashing::HashingModel, load, registry,
};
use freshet_operators::text::Analyzer;
use freshet_schemas::{SparseVector, VectorKind, VectorValue};
use serde_json::Value;
use tokio::sync::oneshot;

use super::Field;
use crate::setup::Setup;
use freshet_operators::causes::with_causes;

/// Most models that requests may have loaded.
const MODELS_MAX: usize = 8;
/// Qdrant's name of BM25, in lower case.
const BM25: &str = "qdrant/bm25";

/// Why a text is not embedded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InferenceError {
    /// The request names what is not there or does not fit.
    #[error("{0}")]
    Wrong(String),
    /// The service has no room at the moment.
    #[error("as many texts wait to be embedded as may: try again in a moment")]
    Full,
    /// The model failed.
    #[error("{0}")]
    Failed(String),
}

/// A text in place of a vector.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Text {
    pub(crate) text: String,
    pub(crate) model: String,
    pub(crate) options: Value,
}

impl Text {
    /// Reads `{"text": …, "model": …, "options": …}`; `None` if it is something else.
    pub(crate) fn of(value: &Value) -> Option<Self> {
        let object = value.as_object()?;
        let text = object.get("text")?.as_str()?.to_owned();
        let model = object.get("model").and_then(Value::as_str).unwrap_or_default().to_owned();
        Some(Self { text, model, options: object.get("options").cloned().unwrap_or(Value::Null) })
    }
}

/// The models.
pub(crate) struct Inference {
    folders: BTreeMap<String, PathBuf>,
    embedding: Configured,
    /// The service of the pipeline of the configuration.
    own: Option<Arc<EmbeddingService>>,
    loaded: Mutex<BTreeMap<String, Arc<EmbeddingService>>>,
}

impl Inference {
    pub(super) fn new(setup: &Setup) -> Self {
        Self {
            folders: setup.config.models.clone(),
            embedding: setup.config.embedding.clone(),
            own: setup.service.clone(),
            loaded: Mutex::default(),
        }
    }

    /// The vectors of texts for a field, in their order. All texts have one model and the same options.
    pub(crate) async fn embed(
        self: &Arc<Self>,
        texts: Vec<String>,
        of: &Text,
        field: &Field,
        priority: Priority,
    ) -> Result<Vec<VectorValue>, InferenceError> {
        let (model, options) = (&of.model, &of.options);
        if model.to_lowercase() == BM25 {
            let bm25 = Bm25::of(options)?;
            return match field.kind {
                VectorKind::Sparse => Ok(texts.iter().map(|text| bm25.vector(text, priority)).collect()),
                VectorKind::Dense | VectorKind::Multi => Err(unlike(model, field)),
            };
        }
        let (this, name) = (Arc::clone(self), model.clone());
        let found = tokio::task::spawn_blocking(move || this.service(&name)).await;
        let (service, number) = found.map_err(|error| InferenceError::Failed(error.to_string()))??;
        if !service.info(number).head.makes(field.kind) {
            return Err(unlike(model, field));
        }
        let (sender, embeddings) = oneshot::channel();
        let wants = if field.kind == VectorKind::Multi { Wants::Rows } else { Wants::Dense };
        let reply = Box::new(move |embeddings| {
            // Who asked may have gone.
            let _ = sender.send(embeddings);
        });
        let job = EmbedJob { model: number, priority, wants, against: None, texts, reply };
        service.submit(job).map_err(|_| InferenceError::Full)?;
        let embeddings =
            embeddings.await.map_err(|_| InferenceError::Failed("the service ended".to_owned()))?;
        let vector = |embedding: Result<freshet_operators::embed::Embedding, String>| {
            let embedding = embedding.map_err(InferenceError::Failed)?;
            Ok(match field.kind {
                VectorKind::Dense => VectorValue::Dense(embedding.dense),
                VectorKind::Multi => VectorValue::Multi(embedding.rows.unwrap_or_default()),
                VectorKind::Sparse => VectorValue::Sparse(embedding.sparse.unwrap_or_default()),
            })
        };
        embeddings.into_iter().map(vector).collect()
    }

    /// The service of a model and its number there; loads it if need be.
    fn service(&self, name: &str) -> Result<(Arc<EmbeddingService>, usize), InferenceError> {
        let known = registry::known(name);
        // Requests name models, not folders of this machine.
        let listed =
            known.is_some() || self.folders.contains_key(name) || HashingModel::dim_of(name).is_some();
        if !listed {
            let message = format!("model {name:?} is not known; `freshet models list` names those that are");
            return Err(InferenceError::Wrong(message));
        }
        let name = known.map_or(name, |known| known.model.name);
        if let Some(own) = &self.own
            && let Some(number) = (0..own.models()).find(|number| own.info(*number).name == name)
        {
            return Ok((Arc::clone(own), number));
        }
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(service) = loaded.get(name) {
            return Ok((Arc::clone(service), 0));
        }
        if loaded.len() == MODELS_MAX {
            let message =
                format!("{MODELS_MAX} models are loaded, as many as may be; {name:?} is not one of them");
            return Err(InferenceError::Wrong(message));
        }
        let wrong = |error| InferenceError::Wrong(with_causes(&error));
        let model = load(name, &self.folders).map_err(wrong)?;
        let service = EmbeddingService::with_backends(vec![model], &self.embedding).map_err(wrong)?;
        loaded.insert(name.to_owned(), Arc::clone(&service));
        Ok((service, 0))
    }
}

fn unlike(model: &str, field: &Field) -> InferenceError {
    let (name, kind) = (&field.shown, field.kind.as_str());
    InferenceError::Wrong(format!("model {model:?} makes no vectors for \"{name}\", which is {kind}"))
}

/// Weights of terms as Qdrant's own model gives them: a document's saturate with their count and its length, a query's
/// are 1. The rarity of terms comes in with the modifier of the field.
struct Bm25 {
    k: f32,
    b: f32,
    avg_len: f32,
    analyzer: Analyzer,
}

impl Bm25 {
    /// With Qdrant's defaults where the options say nothing.
    fn of(options: &Value) -> Result<Self, InferenceError> {
        let wrong = |message: String| InferenceError::Wrong(message);
        let mut language = "english";
        let (mut k, mut b, mut avg_len) = (1.2, 0.75, 256.0);
        for (key, value) in options.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
            let number = || {
                let number = value.as_f64().filter(|number| number.is_finite() && *number >= 0.0);
                number.ok_or_else(|| wrong(format!("options.{key}: {value} is not a number from 0")))
            };
            match key.as_str() {
                "k" => k = number()?,
                "b" => b = number()?,
                "avg_len" => avg_len = number()?,
                "language" => {
                    language = value
                        .as_str()
                        .ok_or_else(|| wrong(format!("options.language: {value} is no name")))?;
                }
                _ => {
                    return Err(wrong(format!(
                        "options.{key} is not supported; k, b, avg_len, language are"
                    )));
                }
            }
        }
        if avg_len <= 0.0 || b > 1.0 {
            return Err(wrong("options: avg_len is greater than 0, and b at most 1".to_owned()));
        }
        let analyzer =
            Analyzer::new(language).map_err(|error| wrong(format!("options.language: {error}")))?;
        #[expect(clippy::cast_possible_truncation, reason = "weights are 32-bit floats")]
        let (k, b, avg_len) = (k as f32, b as f32, avg_len as f32);
        Ok(Self { k, b, avg_len, analyzer })
    }

    fn vector(&self, text: &str, priority: Priority) -> VectorValue {
        let mut counts: BTreeMap<u64, u32> = BTreeMap::new();
        let mut length = 0.0;
        for stem in self.analyzer.stems(text) {
            *counts.entry(u64::from(term(&stem))).or_default() += 1;
            length += 1.0;
        }
        let Self { k, b, avg_len, .. } = self;
        let weight = |count: u32| match priority {
            Priority::Query => 1.0,
            Priority::Document => {
                let count = count as f32;
                count * (k + 1.0) / (count + k * (1.0 - b + b * length / avg_len))
            }
        };
        let (indices, values) = counts.into_iter().map(|(term, count)| (term, weight(count))).unzip();
        VectorValue::Sparse(SparseVector { indices, values })
    }
}

/// Number of a stem as Qdrant's client numbers it: |MurmurHash3, 32 bits, seed 0|, so that vectors of both go together.
fn term(stem: &str) -> u32 {
    murmur3(stem.as_bytes()).cast_signed().unsigned_abs()
}

/// MurmurHash3_x86_32 of Austin Appleby (public domain), with seed 0.
fn murmur3(bytes: &[u8]) -> u32 {
    let mix = |block: u32| block.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    let (blocks, tail) = bytes.as_chunks::<4>();
    let mut hash = blocks.iter().fold(0u32, |hash, block| {
        (hash ^ mix(u32::from_le_bytes(*block))).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64)
    });
    let rest = tail.iter().rev().fold(0u32, |rest, byte| rest << 8 | u32::from(*byte));
    hash ^= mix(rest);
    #[expect(clippy::cast_possible_truncation, reason = "the length modulo 2^32 is what is meant")]
    let length = bytes.len() as u32;
    hash ^= length;
    hash ^= hash >> 16;
    hash = hash.wrapping_mul(0x85eb_ca6b);
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn stems_have_the_numbers_of_murmur3() {
        // The reference implementation's verification values.
        assert_eq!(murmur3(b""), 0);
        assert_eq!(murmur3(b"test"), 0xba6b_d213);
        assert_eq!(murmur3(b"Hello, world!"), 0xc036_3e43);
        assert_eq!(murmur3(b"The quick brown fox jumps over the lazy dog"), 0x2e4f_f723);
        assert_eq!(term("test"), 0xba6b_d213u32.cast_signed().unsigned_abs());
    }

    #[test]
    fn weights_of_documents_saturate_and_those_of_queries_are_one() {
        let bm25 = Bm25::of(&json!({"avg_len": 4})).unwrap();
        let VectorValue::Sparse(document) = bm25.vector("berths, berth and the quay", Priority::Document)
        else {
            panic!("not sparse");
        };
        // Two stems, one of them twice; "and" and "the" are no terms: the length is 3.
        let expected = |count: f32| count * 2.2 / (count + 1.2 * (0.25 + 0.75 * 3.0 / 4.0));
        let mut values = document.values.clone();
        values.sort_by(f32::total_cmp);
        assert_eq!(values, [expected(1.0), expected(2.0)]);
        let VectorValue::Sparse(query) = bm25.vector("berth berth", Priority::Query) else {
            panic!("not sparse")
        };
        assert_eq!((query.indices, query.values), (vec![u64::from(term("berth"))], vec![1.0]));
        for wrong in
            [json!({"k": -1}), json!({"b": 2}), json!({"language": "klingon"}), json!({"tokenizer": "word"})]
        {
            assert!(Bm25::of(&wrong).is_err(), "{wrong}");
        }
    }
}
