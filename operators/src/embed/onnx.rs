//! A model that ONNX Runtime runs: token numbers in, token vectors out.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::ep;
use ort::session::{Session, SessionInputValue};
use ort::value::{Tensor, TensorElementType, ValueType};
use tokenizers::{Tokenizer, TruncationParams};
use xxhash_rust::xxh3::Xxh3;

use super::manifest::misfit;
use super::model::{Backend, Hidden, Runner};
use super::{EmbedError, Manifest, ModelInfo, Priority, environment};

/// Inputs of BERT-like exports; a model need not have them all.
const INPUTS: [&str; 3] = ["input_ids", "attention_mask", "token_type_ids"];
/// Names of the output that holds token vectors, best first; otherwise the first output of rank 3.
const OUTPUTS: [&str; 2] = ["last_hidden_state", "token_embeddings"];

/// A loaded ONNX model with its tokenizer.
pub struct OnnxModel {
    info: ModelInfo,
    query_prefix: String,
    passage_prefix: String,
    /// Cuts at `max_tokens`, special tokens counted.
    cutting: Tokenizer,
    /// Cuts nothing.
    plain: Tokenizer,
    file: PathBuf,
    signature: Signature,
    /// The session that the model was examined with, for the first runner.
    spare: Mutex<Option<Session>>,
}

/// Names of a model's inputs and output.
#[derive(Clone, Debug)]
struct Signature {
    /// Those of [`INPUTS`] that the model has.
    inputs: Vec<&'static str>,
    /// Token vectors.
    output: String,
    /// Token number put where a text ends before the longest.
    padding: u32,
}

impl OnnxModel {
    /// Loads the model of a folder and runs it once, to know the size of its vectors.
    pub fn load(folder: &Path, manifest: Manifest) -> Result<Self, EmbedError> {
        let Tokenizers { plain, cutting, padding } = tokenizers(folder, manifest.max_tokens)?;
        let file = folder.join(&manifest.file);
        let session = open(&file)?;
        let signature = Signature { padding, ..examine(&session, &file)? };
        let mut runner = OnnxRunner { session, signature: signature.clone() };
        let probe = encode(&cutting, "", "probe")
            .map_err(|e| misfit(folder, e, "a tokenizer that reads \"probe\""))?;
        let hidden = runner.run(&[&probe]).map_err(|e| misfit(&file, e, "a model that runs"))?;
        let special = plain.encode("", true).map_err(|e| misfit(folder, e.to_string(), "a tokenizer"))?.len();
        let info = ModelInfo {
            dim: hidden.dim,
            max_tokens: manifest.max_tokens,
            special_tokens: special,
            pooling: manifest.pooling,
            normalize: manifest.normalize,
            folder: Some(folder.to_path_buf()),
            digest: digest(folder, &manifest)?,
            name: manifest.name,
            license: manifest.license,
        };
        Ok(Self {
            info,
            query_prefix: manifest.query_prefix,
            passage_prefix: manifest.passage_prefix,
            cutting,
            plain,
            file,
            signature,
            spare: Mutex::new(Some(runner.session)),
        })
    }
}

impl Backend for OnnxModel {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn tokenizer(&self) -> &Tokenizer {
        &self.plain
    }

    fn encode(&self, text: &str, priority: Priority) -> Result<Vec<u32>, String> {
        let prefix = match priority {
            Priority::Query => &self.query_prefix,
            Priority::Document => &self.passage_prefix,
        };
        encode(&self.cutting, prefix, text)
    }

    fn runner(&self) -> Result<Box<dyn Runner>, EmbedError> {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).take();
        let session = spare.map_or_else(|| open(&self.file), Ok)?;
        Ok(Box::new(OnnxRunner { session, signature: self.signature.clone() }))
    }
}

/// One session, one thread.
struct OnnxRunner {
    session: Session,
    signature: Signature,
}

impl Runner for OnnxRunner {
    fn run(&mut self, batch: &[&[u32]]) -> Result<Hidden, String> {
        let longest = batch.iter().map(|text| text.len()).max().unwrap_or(0);
        let cells = batch.len() * longest;
        let (mut ids, mut mask) = (Vec::with_capacity(cells), Vec::with_capacity(cells));
        for text in batch {
            ids.extend(text.iter().map(|id| i64::from(*id)));
            ids.resize(ids.len() + longest - text.len(), i64::from(self.signature.padding));
            mask.resize(mask.len() + text.len(), 1_i64);
            mask.resize(mask.len() + longest - text.len(), 0);
        }
        let mut inputs: Vec<(&str, SessionInputValue)> = Vec::with_capacity(INPUTS.len());
        for name in &self.signature.inputs {
            let values = match *name {
                "input_ids" => std::mem::take(&mut ids),
                "attention_mask" => std::mem::take(&mut mask),
                _ => vec![0; cells], // token_type_ids: one segment
            };
            let tensor =
                Tensor::from_array(([batch.len(), longest], values)).map_err(|error| error.to_string())?;
            inputs.push((name, tensor.into()));
        }
        let outputs = self.session.run(inputs).map_err(|error| error.to_string())?;
        let output = outputs.get(&self.signature.output).ok_or("the model gave no output")?;
        let (shape, values) = output.try_extract_tensor::<f32>().map_err(|error| error.to_string())?;
        let dim = match **shape {
            [texts, tokens, dim] if fits(texts, batch.len()) && fits(tokens, longest) => {
                usize::try_from(dim).ok()
            }
            _ => None,
        };
        let dim = dim.filter(|dim| *dim > 0).ok_or_else(|| {
            format!(
                "output \"{}\" has shape {shape:?}, expected [{}, {longest}, dim]",
                self.signature.output,
                batch.len()
            )
        })?;
        Ok(Hidden { longest, dim, values: values.to_vec() })
    }
}

fn fits(found: i64, expected: usize) -> bool {
    usize::try_from(found) == Ok(expected)
}

/// Opens a session for one thread.
fn open(file: &Path) -> Result<Session, EmbedError> {
    let environment = environment()?;
    let fail = |source: ort::Error| EmbedError::Onnx { what: "load", path: file.to_path_buf(), source };
    // One thread, no spinning: parallelism comes from several sessions. The arena keeps what the largest batch needed,
    // and the token budget bounds that; without it, batches of long texts take up to 1.5 times as long. No memory
    // patterns: they keep a plan and a block for every shape, and shapes vary with every batch.
    let builder = || {
        Session::builder(&environment)?
            .with_intra_threads(1)?
            .with_inter_threads(1)?
            .with_intra_op_spinning(false)?
            .with_inter_op_spinning(false)?
            .with_memory_pattern(false)?
            .with_execution_providers([ep::CPU::default().with_arena_allocator(true).build()])?
            .commit_from_file(file)
    };
    builder().map_err(fail)
}

/// Checks what a model takes and gives.
fn examine(session: &Session, file: &Path) -> Result<Signature, EmbedError> {
    let names: Vec<&str> = session.inputs().iter().map(|input| input.name()).collect();
    if let Some(other) = names.iter().find(|name| !INPUTS.contains(name)) {
        return Err(misfit(file, format!("an input \"{other}\""), &format!("inputs among {INPUTS:?}")));
    }
    let inputs: Vec<&str> = INPUTS.into_iter().filter(|name| names.contains(name)).collect();
    if !inputs.contains(&"input_ids") || !inputs.contains(&"attention_mask") {
        return Err(misfit(file, format!("inputs {names:?}"), "\"input_ids\" and \"attention_mask\""));
    }
    let outputs = session.outputs();
    let named = OUTPUTS.iter().find_map(|name| outputs.iter().find(|output| output.name() == *name));
    let output = named.or_else(|| outputs.iter().find(|output| rank(output.dtype()) == Some(3)));
    if let Some(output) = output.filter(|output| rank(output.dtype()) == Some(3)) {
        return Ok(Signature { inputs, output: output.name().to_owned(), padding: 0 });
    }
    let found: Vec<String> = outputs.iter().map(|o| format!("\"{}\": {}", o.name(), o.dtype())).collect();
    Err(misfit(
        file,
        format!("outputs {}", found.join(", ")),
        "an f32 output of rank 3, [batch, tokens, dim]",
    ))
}

/// Rank of a tensor of f32.
fn rank(kind: &ValueType) -> Option<usize> {
    match kind {
        ValueType::Tensor { ty: TensorElementType::Float32, shape, .. } => Some(shape.len()),
        ValueType::Tensor { .. }
        | ValueType::Sequence(_)
        | ValueType::Map { .. }
        | ValueType::Optional(_) => None,
    }
}

/// The tokenizer of a folder.
struct Tokenizers {
    /// Neither cuts nor pads.
    plain: Tokenizer,
    /// Cuts.
    cutting: Tokenizer,
    /// The token that its file pads with.
    padding: u32,
}

/// Reads the tokenizer of a folder. Padding and truncation of its file do not hold: padding is the runner's work, and
/// public files often pad every text to a fixed length or cut below the model's limit.
fn tokenizers(folder: &Path, max_tokens: usize) -> Result<Tokenizers, EmbedError> {
    let path = folder.join("tokenizer.json");
    let bad =
        |error: tokenizers::Error| misfit(&path, error.to_string(), "a tokenizer of Hugging Face tokenizers");
    let mut plain = Tokenizer::from_file(&path).map_err(bad)?;
    let padding = plain.get_padding().map_or(0, |padding| padding.pad_id);
    plain.with_padding(None);
    plain.with_truncation(None).map_err(bad)?;
    let mut cutting = plain.clone();
    let cut = TruncationParams { max_length: max_tokens, ..TruncationParams::default() };
    cutting.with_truncation(Some(cut)).map_err(bad)?;
    Ok(Tokenizers { plain, cutting, padding })
}

fn encode(tokenizer: &Tokenizer, prefix: &str, text: &str) -> Result<Vec<u32>, String> {
    let encoding = match prefix {
        "" => tokenizer.encode_fast(text, true),
        prefix => tokenizer.encode_fast(format!("{prefix}{text}"), true),
    };
    let ids =
        encoding.map_err(|error| format!("the tokenizer cannot read the text: {error}"))?.get_ids().to_vec();
    if ids.is_empty() { Err("the text has no tokens".to_owned()) } else { Ok(ids) }
}

/// xxh3-128 over weights, tokenizer and usage.
fn digest(folder: &Path, manifest: &Manifest) -> Result<String, EmbedError> {
    let mut hash = Xxh3::new();
    for file in [manifest.file.as_path(), Path::new("tokenizer.json")] {
        let path = folder.join(file);
        let bytes = std::fs::read(&path).map_err(|source| EmbedError::Unreadable { path, source })?;
        hash.update(&(bytes.len() as u64).to_le_bytes());
        hash.update(&bytes);
    }
    let Manifest { pooling, normalize, max_tokens, query_prefix, passage_prefix, .. } = manifest;
    let usage = format!("{pooling:?} {normalize} {max_tokens} {query_prefix:?} {passage_prefix:?}");
    hash.update(usage.as_bytes());
    Ok(format!("{:032x}", hash.digest128()))
}
