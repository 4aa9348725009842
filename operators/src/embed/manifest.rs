//! What a model's folder says about the model: `freshet.json`, or the files of a public repository.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::EmbedError;
use super::model::Pooling;
use super::registry::known;

/// Model files looked for where no `freshet.json` names one.
const MODEL_FILES: [&str; 2] = ["model.onnx", "onnx/model.onnx"];

/// How a model is to be used.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// Name.
    pub name: String,
    /// Where it came from.
    pub source: Option<String>,
    /// SPDX identifier.
    pub license: Option<String>,
    /// How token vectors become one.
    pub pooling: Pooling,
    /// Whether pooled vectors are L2-normalised.
    pub normalize: bool,
    /// Longest text in tokens, special tokens counted.
    pub max_tokens: usize,
    /// Put before queries.
    pub query_prefix: String,
    /// Put before documents.
    pub passage_prefix: String,
    /// Model file, relative to the folder.
    pub file: PathBuf,
}

/// `freshet.json`; fields that are not known are left to later versions.
#[derive(Deserialize)]
struct Own {
    name: String,
    source: Option<String>,
    license: Option<String>,
    pooling: String,
    normalize: bool,
    max_tokens: usize,
    #[serde(default)]
    query_prefix: String,
    #[serde(default)]
    passage_prefix: String,
    file: PathBuf,
}

/// `1_Pooling/config.json` of sentence-transformers.
#[derive(Deserialize)]
struct PoolingConfig {
    #[serde(default)]
    pooling_mode_mean_tokens: bool,
    #[serde(default)]
    pooling_mode_cls_token: bool,
}

/// `sentence_bert_config.json` of sentence-transformers.
#[derive(Deserialize)]
struct SentenceConfig {
    max_seq_length: Option<usize>,
}

/// `config.json` of transformers.
#[derive(Deserialize)]
struct TransformerConfig {
    max_position_embeddings: Option<usize>,
}

/// An entry of `modules.json` of sentence-transformers.
#[derive(Deserialize)]
struct Module {
    #[serde(rename = "type")]
    kind: String,
}

impl Manifest {
    /// Reads what a folder says; `name` is the name it was asked for by.
    pub fn read(folder: &Path, name: &str) -> Result<Self, EmbedError> {
        let manifest = match json::<Own>(folder, "freshet.json")? {
            Some(own) => Self::own(folder, own)?,
            None => Self::public(folder, name)?,
        };
        if manifest.max_tokens < 3 {
            let found = format!("max_tokens {}", manifest.max_tokens);
            return Err(misfit(folder, found, "at least 3"));
        }
        for file in [manifest.file.as_path(), Path::new("tokenizer.json")] {
            if !folder.join(file).is_file() {
                let found = format!("no file \"{}\"", file.display());
                return Err(misfit(
                    folder,
                    found,
                    &format!("\"{}\" and \"tokenizer.json\"", manifest.file.display()),
                ));
            }
        }
        Ok(manifest)
    }

    fn own(folder: &Path, own: Own) -> Result<Self, EmbedError> {
        let pooling = match own.pooling.as_str() {
            "mean" => Pooling::Mean,
            "cls" => Pooling::Cls,
            other => {
                let found = format!("pooling \"{other}\"");
                return Err(misfit(&folder.join("freshet.json"), found, "\"mean\" or \"cls\""));
            }
        };
        Ok(Self {
            name: own.name,
            source: own.source,
            license: own.license,
            pooling,
            normalize: own.normalize,
            max_tokens: own.max_tokens,
            query_prefix: own.query_prefix,
            passage_prefix: own.passage_prefix,
            file: own.file,
        })
    }

    /// The layout of public repositories; the registry says what they do not.
    fn public(folder: &Path, name: &str) -> Result<Self, EmbedError> {
        let registered = known(name);
        let Some(file) = MODEL_FILES.into_iter().find(|file| folder.join(file).is_file()) else {
            let expected = format!("\"freshet.json\", or one of {MODEL_FILES:?}");
            return Err(misfit(folder, "no model file".to_owned(), &expected));
        };
        let pooling = match (json::<PoolingConfig>(folder, "1_Pooling/config.json")?, registered) {
            (Some(PoolingConfig { pooling_mode_mean_tokens: true, pooling_mode_cls_token: false }), _) => {
                Pooling::Mean
            }
            (Some(PoolingConfig { pooling_mode_mean_tokens: false, pooling_mode_cls_token: true }), _) => {
                Pooling::Cls
            }
            (Some(_), _) => {
                let found = "another pooling, or more than one".to_owned();
                return Err(misfit(&folder.join("1_Pooling/config.json"), found, "mean or CLS pooling"));
            }
            (None, Some(model)) => model.pooling,
            (None, None) => {
                let found = "nothing about the pooling".to_owned();
                return Err(misfit(folder, found, "\"freshet.json\" or \"1_Pooling/config.json\""));
            }
        };
        let normalize = match (json::<Vec<Module>>(folder, "modules.json")?, registered) {
            (Some(modules), _) => modules.iter().any(|module| module.kind.ends_with("Normalize")),
            (None, Some(model)) => model.normalize,
            (None, None) => false,
        };
        Ok(Self {
            name: registered.map_or(name, |model| model.name).to_owned(),
            source: registered.map(|model| model.repository.to_owned()),
            license: registered.map(|model| model.license.to_owned()),
            pooling,
            normalize,
            max_tokens: public_max_tokens(folder)?
                .or(registered.map(|model| model.max_tokens))
                .unwrap_or(512),
            query_prefix: registered.map_or("", |model| model.query_prefix).to_owned(),
            passage_prefix: registered.map_or("", |model| model.passage_prefix).to_owned(),
            file: PathBuf::from(file),
        })
    }
}

/// The limit of sentence-transformers, which is often below what the positions of the model allow.
fn public_max_tokens(folder: &Path) -> Result<Option<usize>, EmbedError> {
    let sentence =
        json::<SentenceConfig>(folder, "sentence_bert_config.json")?.and_then(|c| c.max_seq_length);
    let positions = json::<TransformerConfig>(folder, "config.json")?.and_then(|c| c.max_position_embeddings);
    Ok(sentence.or(positions))
}

/// Reads a JSON file of a folder; `None` if it is not there.
fn json<T: DeserializeOwned>(folder: &Path, file: &str) -> Result<Option<T>, EmbedError> {
    let path = folder.join(file);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(EmbedError::Unreadable { path, source }),
    };
    match serde_json::from_slice(&bytes) {
        Ok(value) => Ok(Some(value)),
        Err(error) => Err(misfit(&path, error.to_string(), "JSON with the fields of a model")),
    }
}

pub(super) fn misfit(path: &Path, found: String, expected: &str) -> EmbedError {
    EmbedError::Misfit { path: path.to_path_buf(), found, expected: expected.to_owned() }
}
