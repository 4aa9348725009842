//! Text → overlapping windows of tokens, as byte ranges.
//!
//! The text is tokenised once, without special tokens. Tokens are gathered into *atoms*, the smallest pieces that are
//! never cut: a word of the tokenizer, or, where a word alone is longer than a window (scripts without spaces, long
//! strings of data), a token of it. Windows are then laid greedily over whole atoms.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;

use tokenizers::{Encoding, Tokenizer};

use super::TextError;

/// How texts are split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkSettings {
    /// Most tokens of a chunk, special tokens not counted.
    pub tokens_max: NonZeroUsize,
    /// Most tokens that neighbouring chunks share; less than `tokens_max`.
    pub overlap: usize,
}

/// Splits texts into windows.
///
/// # Contract
/// - The first range starts at 0, the last ends at the text's end, and each starts no later than the one before ends:
///   every byte of the text is in at least one range. Starts and ends both ascend strictly.
/// - Ranges end and start where a word of the tokenizer starts (white space belongs to the word before it), so never
///   inside a word or a character. A word longer than a window is cut between its tokens.
/// - A range has at most `tokens_max` tokens of the text's tokenisation, and shares at most `overlap` of them with the
///   one before. Only a single character that is more than `tokens_max` tokens makes a longer range.
/// - A text of at most `tokens_max` tokens, also an empty one, is one range.
#[derive(Clone)]
pub struct Chunker {
    windows: Option<(Arc<Tokenizer>, ChunkSettings)>,
}

/// A piece of text that is not cut.
struct Atom {
    /// Byte at which it starts.
    start: usize,
    tokens: usize,
}

impl Chunker {
    /// One chunk per text, whatever its length.
    pub fn whole() -> Self {
        Self { windows: None }
    }

    /// Windows over the tokens of `tokenizer`, whose own truncation and padding are not used.
    pub fn new(tokenizer: &Tokenizer, settings: ChunkSettings) -> Result<Self, TextError> {
        let (tokens_max, overlap) = (settings.tokens_max.get(), settings.overlap);
        if overlap >= tokens_max {
            return Err(TextError::Overlap { tokens_max, overlap });
        }
        let mut plain = tokenizer.clone();
        plain.with_padding(None);
        plain.with_truncation(None).map_err(|error| TextError::Tokenizer(error.to_string()))?;
        Ok(Self { windows: Some((Arc::new(plain), settings)) })
    }

    /// Byte ranges of the chunks of a text, in order; at least one.
    pub fn chunks(&self, text: &str) -> Result<Vec<Range<usize>>, TextError> {
        let Some((tokenizer, settings)) = &self.windows else {
            return Ok(std::iter::once(0..text.len()).collect());
        };
        let encoding =
            tokenizer.encode(text, false).map_err(|error| TextError::Tokenizer(error.to_string()))?;
        let atoms = atoms(&encoding, text, settings.tokens_max.get());
        Ok(windows(&atoms, text.len(), *settings))
    }
}

impl std::fmt::Debug for Chunker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Chunker").field(&self.windows.as_ref().map(|(_, settings)| settings)).finish()
    }
}

/// Atoms of a text, in order; the first starts at 0.
fn atoms(encoding: &Encoding, text: &str, tokens_max: usize) -> Vec<Atom> {
    let words = encoding.get_word_ids();
    let offsets = encoding.get_offsets();
    let mut atoms: Vec<Atom> = Vec::new();
    let mut first = 0;
    for next in 1..=words.len() {
        if next == words.len() || words[next] != words[next - 1] || words[next].is_none() {
            let word = &offsets[first..next];
            let whole = word.len() <= tokens_max;
            for (place, &(start, _)) in word.iter().enumerate() {
                let before = &offsets[..first + place];
                // Several tokens may come from one character: no cut unless the text has moved on.
                let cut = (place == 0 || !whole)
                    && before.last().is_none_or(|last| last.1 <= start)
                    && atoms.last().is_none_or(|last| last.start < start)
                    && text.is_char_boundary(start);
                match atoms.last_mut() {
                    Some(atom) if !cut => atom.tokens += 1,
                    _ => atoms.push(Atom { start, tokens: 1 }),
                }
            }
            first = next;
        }
    }
    if let Some(atom) = atoms.first_mut() {
        atom.start = 0;
    }
    atoms
}

/// Lays windows over atoms.
fn windows(atoms: &[Atom], bytes: usize, settings: ChunkSettings) -> Vec<Range<usize>> {
    let tokens_max = settings.tokens_max.get();
    let mut ranges = Vec::new();
    let mut first = 0; // first atom of the window
    loop {
        let mut tokens = atoms.get(first).map_or(0, |atom| atom.tokens);
        let mut end = (first + 1).min(atoms.len()); // first atom after the window
        while end < atoms.len() && tokens + atoms[end].tokens <= tokens_max {
            tokens += atoms[end].tokens;
            end += 1;
        }
        let start_byte = atoms.get(first).map_or(0, |atom| atom.start);
        ranges.push(start_byte..atoms.get(end).map_or(bytes, |atom| atom.start));
        if end == atoms.len() {
            return ranges;
        }
        // The next window takes back atoms of this one while they fit into the overlap and leave room for a new one.
        let room = settings.overlap.min(tokens_max.saturating_sub(atoms[end].tokens));
        let (mut next, mut shared) = (end, 0);
        while next > first + 1 && shared + atoms[next - 1].tokens <= room {
            next -= 1;
            shared += atoms[next].tokens;
        }
        first = next;
    }
}
