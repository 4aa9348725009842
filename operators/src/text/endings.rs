//! Where paragraphs and sentences of a text begin, and so those before them end.

use std::cmp::Reverse;

use unicode_segmentation::UnicodeSegmentation;
use xxhash_rust::xxh3::xxh3_64;

/// What ends before a place. Paragraphs end better than sentences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ending {
    /// A sentence, as UAX #29 says; also a line.
    Sentence,
    /// A paragraph: an empty line follows it.
    Paragraph,
}

/// How well a place suits as a boundary; the greatest wins. Among endings of a kind, the hash of the sentence that begins
/// there decides: two texts that share the sentences around a place agree about it, whatever stands elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    ending: Ending,
    hash: Reverse<u64>,
}

/// A place between two sentences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Boundary {
    /// Byte at which the sentence behind it begins, white space left out.
    pub(super) at: usize,
    /// How well it suits.
    pub(super) rank: Rank,
}

impl Rank {
    #[cfg(test)]
    pub(super) fn ending(self) -> Ending {
        self.ending
    }
}

/// The places between the sentences of a text, ascending.
pub(super) fn boundaries(text: &str) -> Vec<Boundary> {
    let mut found = Vec::new();
    for (start, sentence) in text.split_sentence_bound_indices() {
        let words = sentence.trim_start();
        if words.is_empty() {
            continue;
        }
        let at = start + sentence.len() - words.len();
        let before = text[..at].trim_end();
        if before.is_empty() {
            continue;
        }
        let ending = match is_empty_line(&text[before.len()..at]) {
            true => Ending::Paragraph,
            false => Ending::Sentence,
        };
        found.push(Boundary {
            at,
            rank: Rank { ending, hash: Reverse(xxh3_64(words.trim_end().as_bytes())) },
        });
    }
    found
}

/// Whether white space between two sentences holds an empty line.
fn is_empty_line(space: &str) -> bool {
    space.contains('\u{2029}') || space.bytes().filter(|&byte| byte == b'\n').count() > 1
}
