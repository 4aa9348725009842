//! A model that is code: feature hashing of words. For tests and for trying the dataflow out where no ONNX Runtime and
//! no weights are wanted; it knows words, not meaning.
//!
//! A text's vector is the mean of its words' vectors, and a word's vector has ±1 at one place, both chosen by a hash
//! (Weinberger et al. 2009, "Feature hashing for large scale multitask learning"). Texts that share words are near,
//! others are nearly orthogonal. Equal texts get equal bits, on every machine, in every batch.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokenizers::Tokenizer;
use xxhash_rust::xxh3::xxh3_64;

use super::model::{Backend, Head, Hidden, Pooling, Runner, Tokens, Values};
use super::{EmbedError, ModelInfo, Priority};
use crate::text::words;

/// Names are this and the dimension: `hashing-64`.
const NAME_PREFIX: &str = "hashing-";
/// Largest dimension.
const DIM_MAX: usize = 4096;
/// Longest text in words.
const TOKENS_MAX: usize = 256;
/// The token of a text without words; its vector is zero.
const NO_WORD: u32 = 0;
/// For splitting texts: words and runs of punctuation, as they stand; the vocabulary is of no interest.
const TOKENIZER: &str = r#"{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
    "normalizer": null, "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null, "decoder": null,
    "model": {"type": "WordLevel", "vocab": {"?": 0}, "unk_token": "?"}}"#;

/// The model; named `hashing-N`.
pub struct HashingModel {
    info: ModelInfo,
    tokenizer: Tokenizer,
    gate: Gate,
}

impl HashingModel {
    /// The model of `dim` dimensions, 1 to 4096.
    pub fn new(dim: usize) -> Self {
        Self::gated(dim, Gate::open())
    }

    /// The same, each run of which waits at a gate: for tests of what happens meanwhile.
    pub fn gated(dim: usize, gate: Gate) -> Self {
        assert!((1..=DIM_MAX).contains(&dim), "{dim} dimensions, expected 1 to {DIM_MAX}");
        let name = format!("{NAME_PREFIX}{dim}");
        let info = ModelInfo {
            dim,
            max_tokens: TOKENS_MAX,
            special_tokens: 0,
            head: Head::Dense { pooling: Pooling::Mean, normalize: true },
            license: Some("Apache-2.0".to_owned()),
            folder: None,
            digest: format!("{:032x}", xxh3_64(name.as_bytes())),
            name,
        };
        let tokenizer = Tokenizer::from_bytes(TOKENIZER).expect("the tokenizer is a constant");
        Self { info, tokenizer, gate }
    }

    /// The dimension in a name such as `hashing-64`; `None` for other names.
    pub fn dim_of(name: &str) -> Option<usize> {
        let dim = name.strip_prefix(NAME_PREFIX)?.parse().ok()?;
        (1..=DIM_MAX).contains(&dim).then_some(dim)
    }
}

impl Backend for HashingModel {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    fn encode(&self, text: &str, _priority: Priority) -> Result<Tokens, String> {
        let hash = |word: &str| ((xxh3_64(word.as_bytes()) >> 32) as u32).max(NO_WORD + 1);
        let words = words(text).take(TOKENS_MAX);
        let mut ids: Vec<u32> = words.map(|word| hash(&word.to_lowercase())).collect();
        if ids.is_empty() {
            ids.push(NO_WORD);
        }
        Ok(Tokens::new(ids))
    }

    fn encode_pair(&self, _query: &str, _text: &str) -> Result<Tokens, String> {
        Err(format!("{} reads no pairs", self.info.name))
    }

    fn runner(&self) -> Result<Box<dyn Runner>, EmbedError> {
        Ok(Box::new(HashingRunner { dim: self.info.dim, gate: self.gate.clone() }))
    }
}

struct HashingRunner {
    dim: usize,
    gate: Gate,
}

impl Runner for HashingRunner {
    fn run(&mut self, batch: &[&Tokens], _limit: Duration) -> Result<Hidden, String> {
        self.gate.pass();
        let longest = batch.iter().map(|text| text.len()).max().unwrap_or(0);
        let mut values = vec![0.0; batch.len() * longest * self.dim];
        for (text, rows) in batch.iter().zip(values.chunks_exact_mut(longest * self.dim)) {
            for (id, row) in text.ids.iter().zip(rows.chunks_exact_mut(self.dim)) {
                if *id != NO_WORD {
                    // The lowest bit is the sign, the others choose the place.
                    let sign = if id % 2 == 0 { 1.0 } else { -1.0 };
                    row[(id / 2) as usize % self.dim] = sign;
                }
            }
        }
        Ok(Hidden { rows: longest, dim: self.dim, values: Values::Owned(values) })
    }
}

/// Holds runs back until they are let through. Clones are the same gate.
#[derive(Clone)]
pub struct Gate {
    shared: Arc<(Mutex<GateState>, Condvar)>,
}

/// Invariant: no run waits while `permits` is positive, once all have been scheduled.
struct GateState {
    /// Runs that may still pass.
    permits: usize,
    /// Runs that wait.
    held: usize,
}

impl Gate {
    /// A gate that lets everything through.
    pub fn open() -> Self {
        Self::with_permits(usize::MAX)
    }

    /// A gate that holds every run.
    pub fn closed() -> Self {
        Self::with_permits(0)
    }

    fn with_permits(permits: usize) -> Self {
        Self { shared: Arc::new((Mutex::new(GateState { permits, held: 0 }), Condvar::new())) }
    }

    /// Lets so many further runs through; `usize::MAX` opens the gate for good.
    pub fn allow(&self, runs: usize) {
        let mut state = self.lock();
        state.permits = state.permits.saturating_add(runs);
        self.shared.1.notify_all();
    }

    /// Waits until at least so many runs are held at once.
    pub fn wait_held(&self, runs: usize) {
        let mut state = self.lock();
        while state.held < runs {
            state = self.wait(state);
        }
    }

    fn pass(&self) {
        let mut state = self.lock();
        state.held += 1;
        self.shared.1.notify_all();
        while state.permits == 0 {
            state = self.wait(state);
        }
        state.held -= 1;
        if state.permits != usize::MAX {
            state.permits -= 1;
        }
    }

    fn lock(&self) -> MutexGuard<'_, GateState> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, GateState>) -> MutexGuard<'a, GateState> {
        self.shared.1.wait(state).unwrap_or_else(PoisonError::into_inner)
    }
}
