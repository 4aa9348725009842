//! What the service needs of a model, and how a model is had by name.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokenizers::Tokenizer;

use super::hashing::HashingModel;
use super::locate::locate;
use super::manifest::Manifest;
use super::onnx::OnnxModel;
use super::{EmbedError, Priority};

/// How token vectors become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// The mean over all tokens, special tokens included.
    Mean,
    /// The vector of the first token.
    Cls,
}

/// What a loaded model is.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelInfo {
    /// Name.
    pub name: String,
    /// Size of its vectors, pooled and token alike, as the model itself gives them.
    pub dim: usize,
    /// Longest text in tokens, special tokens counted; what is longer is cut.
    pub max_tokens: usize,
    /// Tokens that the tokenizer adds to each text: a chunk that is not to be cut has at most
    /// `max_tokens − special_tokens` tokens of its own, prefix included.
    pub special_tokens: usize,
    /// How token vectors become one.
    pub pooling: Pooling,
    /// Whether pooled vectors are L2-normalised.
    pub normalize: bool,
    /// SPDX identifier, where known.
    pub license: Option<String>,
    /// Where it was loaded from; `None` for models that are code.
    pub folder: Option<PathBuf>,
    /// 32 hexadecimal digits over everything that makes its vectors: weights, tokenizer, pooling, prefixes, limits.
    /// Equal digests, equal vectors.
    pub digest: String,
}

/// What a run gives: row-major `[texts, longest, dim]`, where `longest` is the token count of the longest text; rows
/// beyond a text's own tokens are padding.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hidden {
    /// Token count of the longest text.
    pub longest: usize,
    /// Size of a vector.
    pub dim: usize,
    /// `texts · longest · dim` values.
    pub values: Vec<f32>,
}

impl Hidden {
    /// Token vectors of one text, `[tokens, dim]`, padding left out.
    pub fn text(&self, place: usize, tokens: usize) -> &[f32] {
        let start = place * self.longest * self.dim;
        &self.values[start..start + tokens * self.dim]
    }
}

/// A loaded model, shared by all threads.
pub trait Backend: Send + Sync {
    /// What it is; never changes.
    fn info(&self) -> &ModelInfo;
    /// Its tokenizer without truncation and padding, for splitting texts.
    fn tokenizer(&self) -> &Tokenizer;
    /// Token numbers of a text, prefix and special tokens included: at least 1, at most `max_tokens`. An error is the
    /// text's fault.
    fn encode(&self, text: &str, priority: Priority) -> Result<Vec<u32>, String>;
    /// A new runner, for one thread.
    fn runner(&self) -> Result<Box<dyn Runner>, EmbedError>;
}

/// Runs batches, on one thread.
pub trait Runner: Send {
    /// Token vectors of each text.
    ///
    /// # Contract
    /// - `batch` is not empty, each text has 1 to `max_tokens` tokens.
    /// - The result has the shape of [`Hidden`] for this batch; what stands in a text's rows does not depend on the
    ///   other texts beyond rounding.
    /// - After an error or a panic it can be run again.
    fn run(&mut self, batch: &[&[u32]]) -> Result<Hidden, String>;
}

/// Loads a model by name or folder.
///
/// `hashing-N` is the [`HashingModel`] of N dimensions; every other name goes through [`locate`], with `folders` the
/// `[models]` of the configuration.
pub fn load(name: &str, folders: &BTreeMap<String, PathBuf>) -> Result<Arc<dyn Backend>, EmbedError> {
    if !folders.contains_key(name)
        && let Some(dim) = HashingModel::dim_of(name)
    {
        return Ok(Arc::new(HashingModel::new(dim)));
    }
    let located = locate(name, folders)?;
    let manifest = Manifest::read(&located.folder, name)?;
    Ok(Arc::new(OnnxModel::load(&located.folder, manifest)?))
}
