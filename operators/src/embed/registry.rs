//! Models that are known by name.

use super::model::Pooling;

/// A model that Freshet knows where to find. What the model's own folder says goes before what stands here.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KnownModel {
    /// Name in configurations.
    pub name: &'static str,
    /// Repository on the Hugging Face hub; accepted as a name as well.
    pub repository: &'static str,
    /// Model file in the repository.
    pub file: &'static str,
    /// Size of a vector.
    pub dim: usize,
    /// Bytes of the model file in the repository, rounded to megabytes.
    pub megabytes: usize,
    /// Longest text in tokens, special tokens counted.
    pub max_tokens: usize,
    /// How token vectors become one vector.
    pub pooling: Pooling,
    /// Whether the pooled vector is L2-normalised.
    pub normalize: bool,
    /// Put before queries.
    pub query_prefix: &'static str,
    /// Put before documents.
    pub passage_prefix: &'static str,
    /// SPDX identifier.
    pub license: &'static str,
}

impl KnownModel {
    /// Files to fetch: needed ones, and those that may be missing.
    pub fn files(&self) -> [(&'static str, bool); 6] {
        [
            (self.file, true),
            ("tokenizer.json", true),
            ("config.json", true),
            ("1_Pooling/config.json", false),
            ("sentence_bert_config.json", false),
            ("modules.json", false),
        ]
    }
}

/// All known models.
pub const MODELS: &[KnownModel] = &[KnownModel {
    name: "all-MiniLM-L6-v2",
    repository: "sentence-transformers/all-MiniLM-L6-v2",
    file: "onnx/model.onnx",
    dim: 384,
    megabytes: 90,
    max_tokens: 256,
    pooling: Pooling::Mean,
    normalize: true,
    query_prefix: "",
    passage_prefix: "",
    license: "Apache-2.0",
}];

/// The known model of a name or repository.
pub fn known(name: &str) -> Option<&'static KnownModel> {
    MODELS.iter().find(|model| model.name == name || model.repository == name)
}
