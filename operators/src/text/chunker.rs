//! Text → overlapping windows of tokens, as byte ranges.
//!
//! ```text
//! text ─▶ tokens ─▶ atoms: what is never cut          ┐
//!      └▶ places between sentences and paragraphs ────┴▶ anchors: windows begin anew ─▶ windows in between
//! ```
//! The text is tokenised once, without special tokens. Tokens are gathered into *atoms*, the smallest pieces that are
//! never cut: a word of the tokenizer, or, where a word alone is longer than a window (scripts without spaces, long
//! strings of data), a token of it. Windows are laid over whole atoms and end where paragraphs and sentences do, if some
//! do in their last third.
//!
//! **Stability.** Laid greedily from the start, an insertion would move all windows behind it. So what decides where a
//! window ends looks at the text nearby: an *anchor* is a boundary that no better one stands within a
//! window's length of, and a window that reaches an anchor ends there. Behind an anchor all is as if the text before it
//! were not there, but for the overlap. Between anchors a window ends at the best boundary of its last third and not at
//! the last one, so that windows which have come apart soon find the same boundary. A change thus moves windows up to the
//! next anchor at most, one or two on average.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;

use tokenizers::{Encoding, Tokenizer};

use super::TextError;
use super::endings::{Boundary, Rank, boundaries};

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
/// - A range ends with a paragraph if one ends in its last third, else with a sentence if one does, else with the last
///   word that fits; or at an anchor: a boundary that no better one stands within `tokens_max` tokens of.
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
        let whole = || std::iter::once(0..text.len()).collect();
        let Some((tokenizer, settings)) = &self.windows else { return Ok(whole()) };
        let encoding =
            tokenizer.encode(text, false).map_err(|error| TextError::Tokenizer(error.to_string()))?;
        if encoding.len() <= settings.tokens_max.get() {
            // Most texts: what follows would come to the same, and looks for sentences first.
            return Ok(whole());
        }
        let atoms = atoms(&encoding, text, settings.tokens_max.get());
        let layout = Layout::new(&atoms, text, *settings);
        Ok(layout.windows().into_iter().map(|window| layout.bytes(window)).collect())
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

/// A text as windows are laid over it. Places are numbers of atoms.
struct Layout<'a> {
    atoms: &'a [Atom],
    /// Per place the tokens before it; one more than there are atoms.
    before: Vec<usize>,
    /// Places at which sentences begin, ascending, and how well they suit as boundaries.
    endings: Vec<(usize, Rank)>,
    /// Length of the text.
    bytes: usize,
    settings: ChunkSettings,
}

impl<'a> Layout<'a> {
    fn new(atoms: &'a [Atom], text: &str, settings: ChunkSettings) -> Self {
        let mut before = vec![0];
        before.extend(atoms.iter().scan(0, |sum, atom| {
            *sum += atom.tokens;
            Some(*sum)
        }));
        Self { atoms, before, endings: endings(atoms, text), bytes: text.len(), settings }
    }

    fn bytes(&self, window: Range<usize>) -> Range<usize> {
        let byte = |place: usize| self.atoms.get(place).map_or(self.bytes, |atom| atom.start);
        // The first atom starts at 0, and so does a text without any.
        let start = if window.start == 0 { 0 } else { byte(window.start) };
        start..byte(window.end)
    }

    fn tokens(&self, window: Range<usize>) -> usize {
        self.before[window.end] - self.before[window.start]
    }

    /// The windows, in order; at least one.
    fn windows(&self) -> Vec<Range<usize>> {
        let anchors = self.anchors();
        let mut windows: Vec<Range<usize>> = Vec::new();
        let mut first = 0;
        loop {
            let last_end = windows.last().map_or(0, |window| window.end);
            let stop = anchors[anchors.partition_point(|&anchor| anchor <= last_end)..].first();
            let end = self.end(first, last_end, stop.copied().unwrap_or(self.atoms.len()));
            windows.push(first..end);
            if end == self.atoms.len() {
                return windows;
            }
            first = self.next(first, end);
        }
    }

    /// Where the window from `first` ends: at `stop` if it reaches so far.
    fn end(&self, first: usize, last_end: usize, stop: usize) -> usize {
        let tokens_max = self.settings.tokens_max.get();
        let fits = |place: &usize| *place - self.before[first] <= tokens_max;
        let fitting = self.before[first..=stop].partition_point(fits).saturating_sub(1);
        // A single atom may be too long.
        let full = (first + fitting).max(first + 1).min(stop);
        if full == stop {
            return stop;
        }
        let filled = |place: usize| 3 * self.tokens(first..place) >= 2 * tokens_max;
        let from = self.endings.partition_point(|&(place, _)| place <= last_end.max(first) || !filled(place));
        let until = self.endings.partition_point(|&(place, _)| place <= full);
        let best = self
            .endings
            .get(from..until)
            .unwrap_or_default()
            .iter()
            .max_by_key(|&&(place, rank)| (rank, place));
        best.map_or(full, |&(place, _)| place)
    }

    /// Where the window after `first..end` starts: it takes back atoms while they fit into the overlap and leave room for
    /// a new one.
    fn next(&self, first: usize, end: usize) -> usize {
        let ChunkSettings { tokens_max, overlap } = self.settings;
        let room = overlap.min(tokens_max.get().saturating_sub(self.atoms[end].tokens));
        let mut next = end;
        while next > first + 1 && self.tokens(next - 1..end) <= room {
            next -= 1;
        }
        next
    }

    /// Boundaries at least a window behind the start that no better one stands within a window of; of equal ones the
    /// first.
    fn anchors(&self) -> Vec<usize> {
        let tokens_max = self.settings.tokens_max.get();
        let near = |a: usize, b: usize| self.tokens(a..b) < tokens_max;
        let is_anchor = |number: usize| {
            let (place, rank) = self.endings[number];
            let mut before = self.endings[..number].iter().rev().take_while(|other| near(other.0, place));
            let mut behind = self.endings[number + 1..].iter().take_while(|other| near(place, other.0));
            !near(0, place) && before.all(|other| other.1 < rank) && behind.all(|other| other.1 <= rank)
        };
        let numbers = (0..self.endings.len()).filter(|&number| is_anchor(number));
        numbers.map(|number| self.endings[number].0).collect()
    }
}

/// The atoms at which sentences begin.
fn endings(atoms: &[Atom], text: &str) -> Vec<(usize, Rank)> {
    // Some tokenizers give white space to the word behind it.
    let begins = |start: usize| start + text[start..].len() - text[start..].trim_start().len();
    let mut atoms = atoms.iter().enumerate().peekable();
    let mut found = Vec::new();
    for Boundary { at, rank } in boundaries(text) {
        while let Some((place, atom)) = atoms.next_if(|(_, atom)| begins(atom.start) <= at) {
            if begins(atom.start) == at && place > 0 && found.last().is_none_or(|&(last, _)| last < place) {
                found.push((place, rank));
                break;
            }
        }
    }
    found
}
