//! What a model's folder says about the model: `freshet.json`, or the files of a public repository.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::EmbedError;
use super::model::{Activation, Head, Markers, Pooling};
use super::registry::{Known, known};

/// Model files looked for where nothing names one.
const MODEL_FILES: [&str; 2] = ["model.onnx", "onnx/model.onnx"];
/// Fewest tokens of a text: a special token on either side, and one between.
const TOKENS_MIN: usize = 3;

/// Longest text where nothing says it: what BERT-like models have positions for.
const TOKENS_DEFAULT: usize = 512;

/// How a model is to be used.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// Name.
    pub name: String,
    /// Where it came from.
    pub source: Option<String>,
    /// SPDX identifier.
    pub license: Option<String>,
    /// What it gives.
    pub head: Head,
    /// Size of its vectors, where it is said: the model must agree.
    pub dimension: Option<usize>,
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
    #[serde(default = "dense")]
    kind: String,
    /// Dense models.
    pooling: Option<String>,
    #[serde(default)]
    normalize: bool,
    /// Cross-encoders.
    activation: Option<String>,
    /// Late interaction.
    query_marker: Option<String>,
    document_marker: Option<String>,
    mask: Option<String>,
    query_tokens: Option<usize>,
    #[serde(default)]
    skip_punctuation: bool,
    dimension: Option<usize>,
    max_tokens: usize,
    #[serde(default)]
    query_prefix: String,
    #[serde(default)]
    passage_prefix: String,
    file: PathBuf,
}

fn dense() -> String {
    "dense".to_owned()
}

impl Own {
    /// The head that is described.
    fn head(&self, path: &Path) -> Result<Head, EmbedError> {
        let refuse = |found: String, expected: &str| Err(misfit(path, found, expected));
        match self.kind.as_str() {
            "dense" => {
                let pooling = match self.pooling.as_deref() {
                    Some("mean") => Pooling::Mean,
                    Some("cls") => Pooling::Cls,
                    Some("last_token") => Pooling::LastToken,
                    Some(other) => {
                        let expected = "\"mean\", \"cls\" or \"last_token\"";
                        return refuse(format!("pooling \"{other}\""), expected);
                    }
                    None => return refuse("no \"pooling\"".into(), "\"mean\", \"cls\" or \"last_token\""),
                };
                Ok(Head::Dense { pooling, normalize: self.normalize })
            }
            "late_interaction" => {
                let (Some(query), Some(document), Some(mask), Some(query_tokens)) = (
                    self.query_marker.clone(),
                    self.document_marker.clone(),
                    self.mask.clone(),
                    self.query_tokens,
                ) else {
                    let keys = "\"query_marker\", \"document_marker\", \"mask\" and \"query_tokens\"";
                    return refuse("late interaction without all of its keys".into(), keys);
                };
                if query_tokens <= TOKENS_MIN || query_tokens > self.max_tokens {
                    let expected = format!("{} to max_tokens, {}", TOKENS_MIN + 1, self.max_tokens);
                    return refuse(format!("query_tokens {query_tokens}"), &expected);
                }
                Ok(Head::LateInteraction(Markers {
                    query: query.into(),
                    document: document.into(),
                    mask: mask.into(),
                    query_tokens,
                    skip_punctuation: self.skip_punctuation,
                }))
            }
            "sparse" => Ok(Head::Sparse),
            "cross_encoder" => match self.activation.as_deref() {
                None | Some("none") => Ok(Head::CrossEncoder { activation: Activation::None }),
                Some("sigmoid") => Ok(Head::CrossEncoder { activation: Activation::Sigmoid }),
                Some(other) => refuse(format!("activation \"{other}\""), "\"none\" or \"sigmoid\""),
            },
            other => refuse(
                format!("kind \"{other}\""),
                "\"dense\", \"late_interaction\", \"sparse\" or \"cross_encoder\"",
            ),
        }
    }
}

/// `1_Pooling/config.json` of sentence-transformers.
#[derive(Deserialize)]
struct PoolingConfig {
    #[serde(default)]
    pooling_mode_mean_tokens: bool,
    #[serde(default)]
    pooling_mode_cls_token: bool,
    #[serde(default)]
    pooling_mode_lasttoken: bool,
    #[serde(default)]
    pooling_mode_max_tokens: bool,
    #[serde(default)]
    pooling_mode_mean_sqrt_len_tokens: bool,
    #[serde(default)]
    pooling_mode_weightedmean_tokens: bool,
}

impl PoolingConfig {
    /// The one pooling that is asked for.
    fn pooling(&self) -> Option<Pooling> {
        let others = self.pooling_mode_max_tokens
            || self.pooling_mode_mean_sqrt_len_tokens
            || self.pooling_mode_weightedmean_tokens;
        match (self.pooling_mode_mean_tokens, self.pooling_mode_cls_token, self.pooling_mode_lasttoken) {
            (true, false, false) if !others => Some(Pooling::Mean),
            (false, true, false) if !others => Some(Pooling::Cls),
            (false, false, true) if !others => Some(Pooling::LastToken),
            _ => None,
        }
    }
}

/// `sentence_bert_config.json` of sentence-transformers.
#[derive(Deserialize)]
struct SentenceConfig {
    max_seq_length: Option<usize>,
}

/// `config.json` of transformers.
#[derive(Default, Deserialize)]
struct TransformerConfig {
    max_position_embeddings: Option<usize>,
    model_type: Option<String>,
    #[serde(default)]
    architectures: Vec<String>,
    /// What the sentence-transformers library does with the logit of a cross-encoder.
    sbert_ce_default_activation_function: Option<String>,
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
        if manifest.max_tokens < TOKENS_MIN {
            let found = format!("max_tokens {}", manifest.max_tokens);
            return Err(misfit(folder, found, &format!("at least {TOKENS_MIN}")));
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
        Ok(Self {
            head: own.head(&folder.join("freshet.json"))?,
            name: own.name,
            source: own.source,
            license: own.license,
            dimension: own.dimension,
            max_tokens: own.max_tokens,
            query_prefix: own.query_prefix,
            passage_prefix: own.passage_prefix,
            file: own.file,
        })
    }

    /// The layout of public repositories; the registry says what they do not.
    fn public(folder: &Path, name: &str) -> Result<Self, EmbedError> {
        let registered = known(name);
        let named = registered.map(|known| known.weights.file);
        let Some(file) = named.into_iter().chain(MODEL_FILES).find(|file| folder.join(file).is_file()) else {
            let expected = format!("\"freshet.json\", or one of {MODEL_FILES:?}");
            return Err(misfit(folder, "no model file".to_owned(), &expected));
        };
        let config = json::<TransformerConfig>(folder, "config.json")?.unwrap_or_default();
        let model = registered.map(|known| known.model);
        Ok(Self {
            head: public_head(folder, &config, registered)?,
            name: model.map_or(name, |model| model.name).to_owned(),
            source: registered.map(|known| known.weights.repository.to_owned()),
            license: model.map(|model| model.license.to_owned()),
            dimension: model.map(|model| model.dim),
            max_tokens: public_max_tokens(folder, &config)?
                .map_or(model.map(|model| model.max_tokens), |found| {
                    Some(model.map_or(found, |model| found.min(model.max_tokens)))
                })
                .unwrap_or(TOKENS_DEFAULT),
            query_prefix: model.map_or("", |model| model.query_prefix).to_owned(),
            passage_prefix: model.map_or("", |model| model.passage_prefix).to_owned(),
            file: PathBuf::from(file),
        })
    }
}

/// What a public repository says that its model gives, or else the registry.
fn public_head(
    folder: &Path,
    config: &TransformerConfig,
    registered: Option<Known<'_>>,
) -> Result<Head, EmbedError> {
    let registered = registered.map(|known| known.model.head.clone());
    let normalize = json::<Vec<Module>>(folder, "modules.json")?
        .map(|modules| modules.iter().any(|module| module.kind.ends_with("Normalize")));
    let pooling = json::<PoolingConfig>(folder, "1_Pooling/config.json")?;
    let is = |end: &str| config.architectures.iter().any(|architecture| architecture.ends_with(end));
    match (registered, pooling) {
        (Some(head @ (Head::LateInteraction(_) | Head::Sparse | Head::CrossEncoder { .. })), _) => Ok(head),
        (registered, Some(pooling)) => {
            let Some(pooling) = pooling.pooling() else {
                let found = "another pooling, or more than one".to_owned();
                let path = folder.join("1_Pooling/config.json");
                return Err(misfit(&path, found, "pooling by mean, CLS or last token"));
            };
            let known = matches!(registered, Some(Head::Dense { normalize: true, .. }));
            Ok(Head::Dense { pooling, normalize: normalize.unwrap_or(known) })
        }
        (Some(head), None) => Ok(head),
        (None, None) if is("ForSequenceClassification") => {
            let plain = config.sbert_ce_default_activation_function.as_deref();
            let plain = plain.is_some_and(|function| function.ends_with("Identity"));
            let activation = if plain { Activation::None } else { Activation::Sigmoid };
            Ok(Head::CrossEncoder { activation })
        }
        (None, None) => {
            let found = "nothing about the pooling".to_owned();
            Err(misfit(folder, found, "\"freshet.json\" or \"1_Pooling/config.json\""))
        }
    }
}

/// The limit of sentence-transformers, which is often below what the positions of the model allow.
fn public_max_tokens(folder: &Path, config: &TransformerConfig) -> Result<Option<usize>, EmbedError> {
    let sentence =
        json::<SentenceConfig>(folder, "sentence_bert_config.json")?.and_then(|c| c.max_seq_length);
    // RoBERTa numbers positions from 2 on.
    let first =
        if config.model_type.as_deref().is_some_and(|kind| kind.ends_with("roberta")) { 2 } else { 0 };
    Ok(sentence.or(config.max_position_embeddings.map(|positions| positions.saturating_sub(first))))
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
