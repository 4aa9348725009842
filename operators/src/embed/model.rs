//! What the service needs of a model, and how a model is had by name.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use freshet_schemas::VectorKind;
use ort::value::Tensor;
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
    /// The vector of the last token.
    LastToken,
}

/// What a model gives for a text, and how it comes from what its run gives.
#[derive(Clone, Debug, PartialEq)]
pub enum Head {
    /// Token vectors, and one vector of them all.
    Dense {
        /// How token vectors become one vector.
        pooling: Pooling,
        /// Whether that is L2-normalised.
        normalize: bool,
    },
    /// Token vectors, for MaxSim: ColBERT (Khattab and Zaharia 2020, arXiv:2004.12832).
    LateInteraction(Markers),
    /// A weight per word of the vocabulary, ln(1 + max(0, logit)), the greatest over all tokens: SPLADE (Formal et al.
    /// 2021, arXiv:2109.10086).
    Sparse,
    /// One score for a query and a text, read together.
    CrossEncoder {
        /// What is done with the logit.
        activation: Activation,
    },
}

/// What ColBERT adds to texts, and leaves out of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Markers {
    /// Token put after the first one of queries.
    pub query: Cow<'static, str>,
    /// Token put after the first one of documents.
    pub document: Cow<'static, str>,
    /// Token that queries are filled up with. No token attends to it, and its vector counts like any other.
    pub mask: Cow<'static, str>,
    /// Tokens that queries are filled up to, and cut at; special tokens counted.
    pub query_tokens: usize,
    /// Whether vectors of ASCII punctuation are left out of documents.
    pub skip_punctuation: bool,
}

/// What is done with the logit of a cross-encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Nothing: any number.
    None,
    /// 1 / (1 + e⁻ˣ): 0 to 1.
    Sigmoid,
}

impl Head {
    /// Its name in `freshet.json` and in lists.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Dense { .. } => "dense",
            Self::LateInteraction(_) => "late_interaction",
            Self::Sparse => "sparse",
            Self::CrossEncoder { .. } => "cross_encoder",
        }
    }

    /// Whether it makes vectors of a kind.
    pub fn makes(&self, kind: VectorKind) -> bool {
        match self {
            Self::Dense { .. } => matches!(kind, VectorKind::Dense | VectorKind::Multi),
            Self::LateInteraction(_) => kind == VectorKind::Multi,
            Self::Sparse => kind == VectorKind::Sparse,
            Self::CrossEncoder { .. } => false,
        }
    }
}

/// What a loaded model is.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelInfo {
    /// Name.
    pub name: String,
    /// Size of its vectors, pooled and token alike, as the model itself gives them; for sparse ones the size of the
    /// vocabulary, for cross-encoders 1.
    pub dim: usize,
    /// Longest text in tokens, special tokens counted; what is longer is cut.
    pub max_tokens: usize,
    /// Tokens that the tokenizer adds to each text: a chunk that is not to be cut has at most
    /// `max_tokens − special_tokens` tokens of its own, prefix included.
    pub special_tokens: usize,
    /// What it gives.
    pub head: Head,
    /// SPDX identifier, where known.
    pub license: Option<String>,
    /// Where it was loaded from; `None` for models that are code.
    pub folder: Option<PathBuf>,
    /// 32 hexadecimal digits over everything that makes its vectors: weights, tokenizer, pooling, prefixes, limits.
    /// Equal digests, equal vectors.
    pub digest: String,
}

/// Token numbers of a text, as a model reads them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tokens {
    /// Token numbers, special tokens included; at least 1, at most `max_tokens`.
    pub ids: Vec<u32>,
    /// Segment of each token; empty: all are 0.
    pub segments: Vec<u32>,
    /// Tokens that are attended to: the first so many.
    pub attended: usize,
    /// Places of tokens whose vectors are left out of the result, ascending.
    pub skipped: Vec<usize>,
}

impl Tokens {
    /// Tokens in one segment, all attended to.
    pub fn new(ids: Vec<u32>) -> Self {
        Self { attended: ids.len(), ids, segments: Vec::new(), skipped: Vec::new() }
    }

    /// Their number.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

/// What a run gives: row-major `[texts, rows, dim]`. A row is a token's, and `rows` the token count of the longest text:
/// rows beyond a text's own tokens are padding. For cross-encoders there is one row per text, of dimension 1.
#[derive(Debug)]
pub struct Hidden {
    /// Rows of each text.
    pub rows: usize,
    /// Size of a row.
    pub dim: usize,
    /// `texts · rows · dim` values.
    pub values: Values,
}

impl Hidden {
    /// Rows of one text, `[tokens, dim]`, padding left out.
    pub fn text(&self, place: usize, tokens: usize) -> &[f32] {
        let start = place * self.rows * self.dim;
        &self.values[start..start + tokens.min(self.rows) * self.dim]
    }
}

/// Numbers, where they lie: logits of a vocabulary are many megabytes.
#[derive(Debug)]
pub enum Values {
    /// On the heap.
    Owned(Vec<f32>),
    /// In a tensor of ONNX Runtime.
    Tensor(Tensor<f32>),
}

impl Deref for Values {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match self {
            Self::Owned(values) => values,
            Self::Tensor(tensor) => tensor.extract_tensor().1,
        }
    }
}

/// A loaded model, shared by all threads.
pub trait Backend: Send + Sync {
    /// What it is; never changes.
    fn info(&self) -> &ModelInfo;
    /// Its tokenizer without truncation and padding, for splitting texts.
    fn tokenizer(&self) -> &Tokenizer;
    /// Tokens of a text, prefix and special tokens included. An error is the text's fault.
    fn encode(&self, text: &str, priority: Priority) -> Result<Tokens, String>;
    /// Tokens of a query and a text that are read together: cross-encoders. An error is the texts' fault.
    fn encode_pair(&self, query: &str, text: &str) -> Result<Tokens, String>;
    /// A new runner, for one thread.
    fn runner(&self) -> Result<Box<dyn Runner>, EmbedError>;
}

/// Runs batches, on one thread.
pub trait Runner: Send {
    /// What the model's head needs of each text.
    ///
    /// # Contract
    /// - `batch` is not empty, each text has 1 to `max_tokens` tokens.
    /// - The result has the shape of [`Hidden`] for this batch; what stands in a text's rows does not depend on the
    ///   other texts beyond rounding.
    /// - A run that takes longer than `limit` is given up, which is an error.
    /// - After an error or a panic it can be run again.
    fn run(&mut self, batch: &[&Tokens], limit: Duration) -> Result<Hidden, String>;
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
