//! Models that are known by name.

use std::borrow::Cow;
use std::sync::LazyLock;

use super::model::{Activation, Head, Markers, Pooling};

/// Suffix of names that ask for the int8 variant of a model.
const INT8: &str = ":int8";

/// A model that Freshet knows where to find. What the model's own folder says goes before what stands here.
#[derive(Clone, Debug, PartialEq)]
pub struct KnownModel {
    /// Name in configurations.
    pub name: &'static str,
    /// Other names it is known by, besides its repositories.
    pub aliases: &'static [&'static str],
    /// Where the weights are as they were published.
    pub weights: Weights,
    /// The same in int8, where somebody publishes them.
    pub int8: Option<Weights>,
    /// What it gives.
    pub head: Head,
    /// Size of a vector; of sparse models the vocabulary; 1 for cross-encoders.
    pub dim: usize,
    /// Longest text in tokens, special tokens counted.
    pub max_tokens: usize,
    /// Put before queries.
    pub query_prefix: &'static str,
    /// Put before documents.
    pub passage_prefix: &'static str,
    /// SPDX identifier.
    pub license: &'static str,
    /// ISO 639 codes, or what the authors say.
    pub languages: &'static str,
}

/// A model file on the Hugging Face hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weights {
    /// Repository; accepted as a name of the model as well.
    pub repository: &'static str,
    /// Model file in the repository.
    pub file: &'static str,
    /// Bytes of the model file, rounded to megabytes.
    pub megabytes: usize,
}

impl Weights {
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

/// A name taken apart: `NAME[:int8][@REVISION]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Known<'a> {
    /// The model.
    pub model: &'static KnownModel,
    /// The variant.
    pub weights: &'static Weights,
    /// Revision of its repository: a commit, a tag or a branch.
    pub revision: Option<&'a str>,
}

/// The known model of a name or repository, such as `bge-small-en-v1.5:int8` or `BAAI/bge-small-en-v1.5@refs/pr/3`.
pub fn known(name: &str) -> Option<Known<'_>> {
    let (name, revision) =
        name.split_once('@').map_or((name, None), |(name, revision)| (name, Some(revision)));
    let (base, int8) = name.strip_suffix(INT8).map_or((name, false), |base| (base, true));
    let model = MODELS.iter().find(|model| {
        model.name == base || model.weights.repository == base || model.aliases.contains(&base)
    })?;
    let weights = if int8 { model.int8.as_ref()? } else { &model.weights };
    Some(Known { model, weights, revision: revision.filter(|revision| !revision.is_empty()) })
}

fn weights(repository: &'static str, file: &'static str, megabytes: usize) -> Weights {
    Weights { repository, file, megabytes }
}

fn dense(pooling: Pooling) -> Head {
    Head::Dense { pooling, normalize: true }
}

/// As the authors of ColBERT mark and fill up texts.
fn colbert() -> Head {
    Head::LateInteraction(Markers {
        query: Cow::Borrowed("[unused0]"),
        document: Cow::Borrowed("[unused1]"),
        mask: Cow::Borrowed("[MASK]"),
        query_tokens: 32,
        skip_punctuation: true,
    })
}

/// What most entries share.
fn entry() -> KnownModel {
    KnownModel {
        name: "",
        aliases: &[],
        weights: weights("", "onnx/model.onnx", 0),
        int8: None,
        head: dense(Pooling::Mean),
        dim: 384,
        max_tokens: 512,
        query_prefix: "",
        passage_prefix: "",
        license: "Apache-2.0",
        languages: "en",
    }
}

/// All known models, by kind.
pub static MODELS: LazyLock<Vec<KnownModel>> = LazyLock::new(|| {
    vec![
        KnownModel {
            name: "all-MiniLM-L6-v2",
            weights: weights("sentence-transformers/all-MiniLM-L6-v2", "onnx/model.onnx", 90),
            int8: Some(weights("Xenova/all-MiniLM-L6-v2", "onnx/model_quantized.onnx", 23)),
            max_tokens: 256,
            ..entry()
        },
        KnownModel {
            name: "bge-small-en-v1.5",
            weights: weights("BAAI/bge-small-en-v1.5", "onnx/model.onnx", 133),
            int8: Some(weights("Xenova/bge-small-en-v1.5", "onnx/model_quantized.onnx", 34)),
            head: dense(Pooling::Cls),
            query_prefix: "Represent this sentence for searching relevant passages: ",
            license: "MIT",
            ..entry()
        },
        KnownModel {
            name: "bge-base-en-v1.5",
            weights: weights("BAAI/bge-base-en-v1.5", "onnx/model.onnx", 436),
            int8: Some(weights("Xenova/bge-base-en-v1.5", "onnx/model_quantized.onnx", 110)),
            head: dense(Pooling::Cls),
            dim: 768,
            query_prefix: "Represent this sentence for searching relevant passages: ",
            license: "MIT",
            ..entry()
        },
        KnownModel {
            name: "e5-small-v2",
            weights: weights("intfloat/e5-small-v2", "onnx/model.onnx", 133),
            int8: Some(weights("Xenova/e5-small-v2", "onnx/model_quantized.onnx", 34)),
            query_prefix: "query: ",
            passage_prefix: "passage: ",
            license: "MIT",
            ..entry()
        },
        KnownModel {
            name: "multilingual-e5-small",
            weights: weights("intfloat/multilingual-e5-small", "onnx/model.onnx", 470),
            int8: Some(weights("Xenova/multilingual-e5-small", "onnx/model_quantized.onnx", 118)),
            query_prefix: "query: ",
            passage_prefix: "passage: ",
            license: "MIT",
            languages: "about 100",
            ..entry()
        },
        KnownModel {
            name: "jina-embeddings-v2-small-en",
            aliases: &["jinaai/jina-embeddings-v2-small-en"],
            weights: weights("Xenova/jina-embeddings-v2-small-en", "onnx/model.onnx", 130),
            int8: Some(weights("Xenova/jina-embeddings-v2-small-en", "onnx/model_quantized.onnx", 33)),
            dim: 512,
            max_tokens: 8192,
            ..entry()
        },
        KnownModel {
            name: "nomic-embed-text-v1.5",
            weights: weights("nomic-ai/nomic-embed-text-v1.5", "onnx/model.onnx", 547),
            int8: Some(weights("nomic-ai/nomic-embed-text-v1.5", "onnx/model_quantized.onnx", 137)),
            dim: 768,
            max_tokens: 8192,
            query_prefix: "search_query: ",
            passage_prefix: "search_document: ",
            ..entry()
        },
        KnownModel {
            name: "Splade_PP_en_v1",
            aliases: &["prithivida/Splade_PP_en_v1", "prithvida/Splade_PP_en_v1", "splade-pp-en-v1"],
            weights: weights("Qdrant/Splade_PP_en_v1", "model.onnx", 532),
            head: Head::Sparse,
            dim: 30_522,
            ..entry()
        },
        KnownModel {
            name: "colbertv2.0",
            weights: weights("colbert-ir/colbertv2.0", "model.onnx", 436),
            head: colbert(),
            dim: 128,
            license: "MIT",
            ..entry()
        },
        KnownModel {
            name: "answerai-colbert-small-v1",
            weights: weights("answerdotai/answerai-colbert-small-v1", "vespa_colbert.onnx", 130),
            head: colbert(),
            dim: 96,
            ..entry()
        },
        KnownModel {
            name: "ms-marco-MiniLM-L-6-v2",
            aliases: &["cross-encoder/ms-marco-MiniLM-L-6-v2"],
            weights: weights("Xenova/ms-marco-MiniLM-L-6-v2", "onnx/model.onnx", 91),
            int8: Some(weights("Xenova/ms-marco-MiniLM-L-6-v2", "onnx/model_quantized.onnx", 23)),
            head: Head::CrossEncoder { activation: Activation::None },
            dim: 1,
            ..entry()
        },
        KnownModel {
            name: "ms-marco-MiniLM-L-12-v2",
            aliases: &["cross-encoder/ms-marco-MiniLM-L-12-v2"],
            weights: weights("Xenova/ms-marco-MiniLM-L-12-v2", "onnx/model.onnx", 134),
            int8: Some(weights("Xenova/ms-marco-MiniLM-L-12-v2", "onnx/model_quantized.onnx", 34)),
            head: Head::CrossEncoder { activation: Activation::None },
            dim: 1,
            ..entry()
        },
        KnownModel {
            name: "bge-reranker-base",
            weights: weights("BAAI/bge-reranker-base", "onnx/model.onnx", 1110),
            int8: Some(weights("Xenova/bge-reranker-base", "onnx/model_quantized.onnx", 279)),
            head: Head::CrossEncoder { activation: Activation::Sigmoid },
            dim: 1,
            license: "MIT",
            languages: "en, zh",
            ..entry()
        },
        KnownModel {
            name: "jina-reranker-v1-tiny-en",
            weights: weights("jinaai/jina-reranker-v1-tiny-en", "onnx/model.onnx", 130),
            int8: Some(weights("jinaai/jina-reranker-v1-tiny-en", "onnx/model_quantized.onnx", 33)),
            head: Head::CrossEncoder { activation: Activation::Sigmoid },
            dim: 1,
            max_tokens: 8192,
            ..entry()
        },
        KnownModel {
            name: "jina-reranker-v1-turbo-en",
            weights: weights("jinaai/jina-reranker-v1-turbo-en", "onnx/model.onnx", 151),
            int8: Some(weights("jinaai/jina-reranker-v1-turbo-en", "onnx/model_quantized.onnx", 38)),
            head: Head::CrossEncoder { activation: Activation::Sigmoid },
            dim: 1,
            max_tokens: 8192,
            ..entry()
        },
        KnownModel {
            name: "jina-reranker-v2-base-multilingual",
            weights: weights("jinaai/jina-reranker-v2-base-multilingual", "onnx/model.onnx", 1110),
            int8: Some(weights(
                "jinaai/jina-reranker-v2-base-multilingual",
                "onnx/model_quantized.onnx",
                280,
            )),
            head: Head::CrossEncoder { activation: Activation::Sigmoid },
            dim: 1,
            max_tokens: 1024,
            license: "CC-BY-NC-4.0",
            languages: "about 100",
            ..entry()
        },
    ]
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart() {
        let small = known("bge-small-en-v1.5").expect("a known name");
        assert_eq!((small.weights.repository, small.revision), ("BAAI/bge-small-en-v1.5", None));
        let pinned = known("bge-small-en-v1.5:int8@abc").expect("a known name");
        assert_eq!((pinned.weights.repository, pinned.revision), ("Xenova/bge-small-en-v1.5", Some("abc")));
        assert_eq!(known("BAAI/bge-small-en-v1.5").map(|known| known.model.name), Some("bge-small-en-v1.5"));
        assert_eq!(
            known("prithivida/Splade_PP_en_v1").map(|known| known.model.name),
            Some("Splade_PP_en_v1")
        );
        assert_eq!(known("colbertv2.0:int8"), None, "nobody publishes it");
        assert_eq!(known("bge"), None);
    }

    #[test]
    fn every_name_stands_for_one_model() {
        let mut names: Vec<&str> = Vec::new();
        for model in MODELS.iter() {
            names.extend([model.name, model.weights.repository]);
            names.extend(model.aliases);
        }
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(names.iter().all(|name| !name.contains([':', '@']) && !name.is_empty()));
    }
}
