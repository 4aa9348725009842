//! Sealed token vectors as codes of a codebook.
//!
//! Rows that were coded with the codebook that is kept are copied as they are. All others, those of a head among them,
//! are coded anew: that is when the score of a row changes.

use std::ops::Range;
use std::sync::Arc;

use super::codebook::{Codebook, Encoder, Scratch};
use super::maxsim::Tokens;
use super::train::Sample;
use super::{Held, Pick, TokenRows};
use crate::index::bytes::{Bytes, sum, unsummed};

/// Fewer tokens stay as they are: words made from less are hardly better than none, and there is little to save.
const TOKENS_MIN: usize = 16_384;
/// A codebook is made anew when there are so many times the tokens that it was made from.
const OUTGROWN: usize = 16;
/// The first bytes behind the sum, which name the format.
const MAGIC: &[u8; 8] = b"FSCODE01";
/// Tokens encoded at once.
const BATCH: usize = 1024;

/// Coded tokens. Invariant: `codes` has `book.code_bytes()` per token.
pub(super) struct Coded {
    book: Arc<Codebook>,
    codes: Vec<u8>,
}

impl Coded {
    /// Some tokens, decoded.
    pub(super) fn tokens<'a>(&self, tokens: Range<usize>, scratch: &'a mut Scratch) -> Tokens<'a> {
        self.book.decode(self.codes_of(tokens), scratch)
    }

    fn codes_of(&self, tokens: Range<usize>) -> &[u8] {
        let bytes = self.book.code_bytes();
        &self.codes[tokens.start * bytes..tokens.end * bytes]
    }

    /// Bytes of memory, about. Segments may share their codebook; it is counted in each, for nobody knows which will stay.
    pub(super) fn bytes(&self) -> usize {
        self.codes.capacity() + self.book.bytes()
    }

    /// All of it as bytes, for `read`: their sum, the codebook, the codes.
    pub(super) fn write(&self) -> Vec<u8> {
        let mut bytes = unsummed();
        bytes.extend(MAGIC);
        self.book.write(&mut bytes);
        bytes.extend(&self.codes);
        sum(bytes)
    }

    /// What `write` gave of tokens of a size; `None` of other bytes.
    pub(super) fn read(size: usize, bytes: &[u8]) -> Option<Self> {
        let mut from = Bytes::summed(bytes)?;
        if &from.take()? != MAGIC {
            return None;
        }
        let book = Codebook::read(&mut from)?;
        let fits = book.size() == size && book.knows(from.0);
        fits.then(|| Self { codes: from.0.to_vec(), book: Arc::new(book) })
    }

    /// Tokens held.
    pub(super) fn len(&self) -> usize {
        self.codes.len() / self.book.code_bytes()
    }
}

/// The tokens of picked rows, in their order, coded; `None` if they should stay as they are.
pub(super) fn seal(size: usize, from: &[&TokenRows], picks: &[Pick]) -> Option<Coded> {
    let count = |pick: &Pick| from[pick.from as usize].range(pick.row).len();
    let tokens = picks.iter().map(count).sum();
    let book = kept(from, tokens).or_else(|| made(size, from, picks, tokens))?;
    Some(coded(book, from, picks, tokens))
}

/// The codebook of the largest source that has one, unless the tokens have outgrown it.
fn kept(from: &[&TokenRows], tokens: usize) -> Option<Arc<Codebook>> {
    let mut largest: Option<&Coded> = None;
    for source in from {
        if let Held::Coded(coded) = &source.held
            && largest.is_none_or(|largest| coded.len() > largest.len())
        {
            largest = Some(coded);
        }
    }
    let book = &largest?.book;
    (tokens / OUTGROWN < book.made_from()).then(|| Arc::clone(book))
}

/// A new codebook.
fn made(size: usize, from: &[&TokenRows], picks: &[Pick], tokens: usize) -> Option<Arc<Codebook>> {
    if tokens < TOKENS_MIN {
        return None;
    }
    let mut sample = Sample::new(size);
    let mut scratch = Scratch::default();
    let mut first = 0;
    for pick in picks {
        let source = from[pick.from as usize];
        let count = source.range(pick.row).len();
        if (first..first + count).any(|number| Sample::takes(number, tokens)) {
            sample.add(source.tokens(pick.row, &mut scratch), first, tokens);
        }
        first += count;
    }
    Codebook::train(sample, tokens).map(Arc::new)
}

fn coded(book: Arc<Codebook>, from: &[&TokenRows], picks: &[Pick], tokens: usize) -> Coded {
    let bytes = book.code_bytes();
    let mut codes = Vec::with_capacity(tokens * bytes);
    let mut scratch = Scratch::default();
    let mut waiting = Waiting::new(&book);
    for pick in picks {
        let source = from[pick.from as usize];
        match &source.held {
            Held::Coded(coded) if coded.book.is(&book) => {
                codes.extend_from_slice(coded.codes_of(source.range(pick.row)));
            }
            Held::Coded(_) | Held::Bytes { .. } => {
                waiting.add(source.tokens(pick.row, &mut scratch), codes.len());
                codes.resize(codes.len() + source.range(pick.row).len() * bytes, 0);
                if waiting.scales.len() >= BATCH {
                    waiting.encode(&mut codes);
                }
            }
        }
    }
    waiting.encode(&mut codes);
    drop(waiting);
    Coded { book, codes }
}

/// Tokens that are encoded together, and where their codes go.
struct Waiting<'a> {
    encoder: Encoder<'a>,
    bytes: usize,
    codes: Vec<i8>,
    scales: Vec<f32>,
    places: Vec<usize>,
}

impl<'a> Waiting<'a> {
    fn new(book: &'a Codebook) -> Self {
        Self {
            encoder: Encoder::new(book),
            bytes: book.code_bytes(),
            codes: Vec::new(),
            scales: Vec::new(),
            places: Vec::new(),
        }
    }

    fn add(&mut self, tokens: Tokens<'_>, place: usize) {
        self.codes.extend_from_slice(tokens.codes);
        self.scales.extend_from_slice(tokens.scales);
        self.places.extend((0..tokens.scales.len()).map(|token| place + token * self.bytes));
    }

    fn encode(&mut self, codes: &mut [u8]) {
        let mut places = self.places.drain(..);
        self.encoder.encode(Tokens { codes: &self.codes, scales: &self.scales }, |code| {
            if let Some(place) = places.next() {
                codes[place..][..code.len()].copy_from_slice(code);
            }
        });
        drop(places);
        self.codes.clear();
        self.scales.clear();
    }
}

#[cfg(test)]
mod tests;
