//! A model that ONNX Runtime runs: token numbers in, token vectors or logits out.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ort::ep;
use ort::session::{RunOptions, Session, SessionInputValue};
use ort::value::{DynValue, Tensor, TensorElementType, TensorValueType, ValueType};
use tokenizers::Tokenizer;
use xxhash_rust::xxh3::Xxh3;

use super::encode::TextEncoder;
use super::manifest::misfit;
use super::model::{Backend, Head, Hidden, Runner, Tokens, Values};
use super::watchdog::Watchdog;
use super::{EmbedError, Manifest, ModelInfo, Priority, environment};

/// Inputs of BERT-like exports; a model need not have them all.
const INPUTS: [&str; 3] = ["input_ids", "attention_mask", "token_type_ids"];
/// Longest run of a word when a model is loaded.
const PROBE_LIMIT: Duration = Duration::from_secs(60);

/// A loaded ONNX model with its tokenizer.
pub struct OnnxModel {
    info: ModelInfo,
    encoder: TextEncoder,
    file: PathBuf,
    signature: Signature,
    watchdog: Arc<Watchdog>,
    /// The session that the model was examined with, for the first runner.
    spare: Mutex<Option<Session>>,
}

/// Names of a model's inputs and output.
#[derive(Clone, Debug)]
struct Signature {
    /// Those of [`INPUTS`] that the model has.
    inputs: Vec<&'static str>,
    /// What the head reads.
    output: String,
    /// Its rank: 3 for rows per token, 2 for a row per text.
    rank: usize,
    /// Token number put where a text ends before the longest.
    padding: u32,
}

impl OnnxModel {
    /// Loads the model of a folder and runs it once, to know the size of its vectors.
    pub fn load(folder: &Path, manifest: Manifest) -> Result<Self, EmbedError> {
        let encoder = TextEncoder::load(folder, &manifest)?;
        let file = folder.join(&manifest.file);
        let session = open(&file)?;
        let signature = Signature { padding: encoder.padding(), ..examine(&session, &file, &manifest.head)? };
        let watchdog = Watchdog::start()
            .map_err(|source| EmbedError::Thread { name: "embed-watchdog".to_owned(), source })?;
        let watchdog = Arc::new(watchdog);
        let mut runner =
            OnnxRunner { session, signature: signature.clone(), watchdog: Arc::clone(&watchdog) };
        let probe = match manifest.head {
            Head::CrossEncoder { .. } => encoder.encode_pair("probe", "probe"),
            Head::Dense { .. } | Head::LateInteraction(_) | Head::Sparse => {
                encoder.encode("probe", Priority::Document)
            }
        };
        let probe = probe.map_err(|e| misfit(folder, e, "a tokenizer that reads \"probe\""))?;
        let hidden = runner.run(&[&probe], PROBE_LIMIT).map_err(|e| misfit(&file, e, "a model that runs"))?;
        if let Some(dim) = manifest.dimension.filter(|dim| *dim != hidden.dim) {
            return Err(misfit(&file, format!("dimension {}", hidden.dim), &format!("dimension {dim}")));
        }
        let info = ModelInfo {
            dim: hidden.dim,
            max_tokens: manifest.max_tokens,
            special_tokens: encoder.special_tokens(),
            folder: Some(folder.to_path_buf()),
            digest: digest(folder, &manifest)?,
            head: manifest.head,
            name: manifest.name,
            license: manifest.license,
        };
        Ok(Self { info, encoder, file, signature, watchdog, spare: Mutex::new(Some(runner.session)) })
    }
}

impl Backend for OnnxModel {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn tokenizer(&self) -> &Tokenizer {
        self.encoder.tokenizer()
    }

    fn encode(&self, text: &str, priority: Priority) -> Result<Tokens, String> {
        self.encoder.encode(text, priority)
    }

    fn encode_pair(&self, query: &str, text: &str) -> Result<Tokens, String> {
        self.encoder.encode_pair(query, text)
    }

    fn runner(&self) -> Result<Box<dyn Runner>, EmbedError> {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).take();
        let session = spare.map_or_else(|| open(&self.file), Ok)?;
        let watchdog = Arc::clone(&self.watchdog);
        Ok(Box::new(OnnxRunner { session, signature: self.signature.clone(), watchdog }))
    }
}

/// One session, one thread.
struct OnnxRunner {
    session: Session,
    signature: Signature,
    watchdog: Arc<Watchdog>,
}

impl Runner for OnnxRunner {
    fn run(&mut self, batch: &[&Tokens], limit: Duration) -> Result<Hidden, String> {
        let longest = batch.iter().map(|text| text.len()).max().unwrap_or(0);
        let mut inputs: Vec<(&str, SessionInputValue)> = Vec::with_capacity(INPUTS.len());
        for name in &self.signature.inputs {
            let mut values = Vec::with_capacity(batch.len() * longest);
            for text in batch {
                let end = values.len() + longest;
                let padding = match *name {
                    "input_ids" => {
                        values.extend(text.ids.iter().map(|id| i64::from(*id)));
                        i64::from(self.signature.padding)
                    }
                    "attention_mask" => {
                        values.resize(values.len() + text.attended, 1);
                        0
                    }
                    _ => {
                        values.extend(text.segments.iter().map(|segment| i64::from(*segment)));
                        0
                    }
                };
                values.resize(end, padding);
            }
            let tensor =
                Tensor::from_array(([batch.len(), longest], values)).map_err(|error| error.to_string())?;
            inputs.push((name, tensor.into()));
        }
        let options = Arc::new(RunOptions::new().map_err(|error| error.to_string())?);
        let ending = Arc::clone(&options);
        let end = Box::new(move || {
            // What cannot be ended goes on: the run says what becomes of it.
            let _ = ending.terminate();
        });
        let started = Instant::now();
        let watched = self.watchdog.watch(limit, end);
        let result = self.session.run_with_options(inputs, &options);
        drop(watched);
        let mut outputs = result.map_err(|error| match started.elapsed() >= limit {
            true => format!("the model did not finish within {limit:.1?}"),
            false => error.to_string(),
        })?;
        let output = outputs.remove(&self.signature.output).ok_or("the model gave no output")?;
        hidden(output, &self.signature, batch.len(), longest)
    }
}

/// Checks the shape of an output: rows per token, or one row per text.
fn hidden(output: DynValue, signature: &Signature, texts: usize, longest: usize) -> Result<Hidden, String> {
    let tensor = output.downcast::<TensorValueType<f32>>().map_err(|error| error.to_string())?;
    let shape: Vec<i64> = tensor.extract_tensor().0.to_vec();
    let is = |found: i64, expected: usize| usize::try_from(found) == Ok(expected);
    let (rows, dim) = match (signature.rank, shape.as_slice()) {
        (3, [found, tokens, dim]) if is(*found, texts) && is(*tokens, longest) => (longest, *dim),
        (2, [found, dim]) if is(*found, texts) => (1, *dim),
        _ => (0, 0),
    };
    // A cross-encoder has one logit: those of classifiers do not say which class is the good one.
    match usize::try_from(dim) {
        Ok(dim) if dim > 0 && (signature.rank == 3 || dim == 1) => {
            Ok(Hidden { rows, dim, values: Values::Tensor(tensor) })
        }
        _ => {
            let expected = match signature.rank {
                3 => format!("[{texts}, {longest}, dim]"),
                _ => format!("[{texts}, 1]"),
            };
            Err(format!("output \"{}\" has shape {shape:?}, expected {expected}", signature.output))
        }
    }
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

/// Checks what a model takes, and gives to a head.
fn examine(session: &Session, file: &Path, head: &Head) -> Result<Signature, EmbedError> {
    let names: Vec<&str> = session.inputs().iter().map(|input| input.name()).collect();
    if let Some(other) = names.iter().find(|name| !INPUTS.contains(name)) {
        return Err(misfit(file, format!("an input \"{other}\""), &format!("inputs among {INPUTS:?}")));
    }
    let inputs: Vec<&str> = INPUTS.into_iter().filter(|name| names.contains(name)).collect();
    if !inputs.contains(&"input_ids") || !inputs.contains(&"attention_mask") {
        return Err(misfit(file, format!("inputs {names:?}"), "\"input_ids\" and \"attention_mask\""));
    }
    // Names that exports use, best first; otherwise the first output of the rank.
    let (wanted, known, shape): (usize, &[&str], &str) = match head {
        Head::Dense { .. } => (3, &["last_hidden_state", "token_embeddings"], "[batch, tokens, dim]"),
        Head::LateInteraction(_) => (3, &["contextual", "last_hidden_state"], "[batch, tokens, dim]"),
        Head::Sparse => (3, &["logits"], "[batch, tokens, words]"),
        Head::CrossEncoder { .. } => (2, &["logits"], "[batch, 1]"),
    };
    let outputs = session.outputs();
    let named = known.iter().find_map(|name| outputs.iter().find(|output| output.name() == *name));
    let output = named.or_else(|| outputs.iter().find(|output| rank(output.dtype()) == Some(wanted)));
    if let Some(output) = output.filter(|output| rank(output.dtype()) == Some(wanted)) {
        return Ok(Signature { inputs, output: output.name().to_owned(), rank: wanted, padding: 0 });
    }
    let found: Vec<String> = outputs.iter().map(|o| format!("\"{}\": {}", o.name(), o.dtype())).collect();
    let expected =
        format!("an f32 output of rank {wanted}, {shape}, for a model of kind \"{}\"", head.name());
    Err(misfit(file, format!("outputs {}", found.join(", ")), &expected))
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

/// xxh3-128 over weights, tokenizer and usage.
fn digest(folder: &Path, manifest: &Manifest) -> Result<String, EmbedError> {
    let mut hash = Xxh3::new();
    for file in [manifest.file.as_path(), Path::new("tokenizer.json")] {
        let path = folder.join(file);
        let bytes = std::fs::read(&path).map_err(|source| EmbedError::Unreadable { path, source })?;
        hash.update(&(bytes.len() as u64).to_le_bytes());
        hash.update(&bytes);
    }
    let Manifest { head, max_tokens, query_prefix, passage_prefix, .. } = manifest;
    let head = match head {
        // As it was before there were other heads: digests of snapshots stay what they are.
        Head::Dense { pooling, normalize } => format!("{pooling:?} {normalize}"),
        Head::LateInteraction(_) | Head::Sparse | Head::CrossEncoder { .. } => format!("{head:?}"),
    };
    let usage = format!("{head} {max_tokens} {query_prefix:?} {passage_prefix:?}");
    hash.update(usage.as_bytes());
    Ok(format!("{:032x}", hash.digest128()))
}
