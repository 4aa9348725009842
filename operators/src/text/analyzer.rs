//! Text → terms for BM25: words, lower case, stop words out, stems.

use freshet_schemas::SparseVector;
use hashbrown::HashTable;
use rust_stemmers::{Algorithm, Stemmer};
use xxhash_rust::xxh3::xxh3_64;

use super::stopwords::stop_words;
use super::{TextError, words};

/// Most words whose terms are kept: more than a language uses all day, and some megabytes.
const KNOWN_WORDS_MAX: usize = 1 << 16;
/// Longest word in bytes whose term is kept.
const KNOWN_BYTES_MAX: usize = 64;

/// Languages with a Snowball stemmer, by the name used in the configuration, ascending.
pub const LANGUAGES: [(&str, Algorithm); 18] = [
    ("arabic", Algorithm::Arabic),
    ("danish", Algorithm::Danish),
    ("dutch", Algorithm::Dutch),
    ("english", Algorithm::English),
    ("finnish", Algorithm::Finnish),
    ("french", Algorithm::French),
    ("german", Algorithm::German),
    ("greek", Algorithm::Greek),
    ("hungarian", Algorithm::Hungarian),
    ("italian", Algorithm::Italian),
    ("norwegian", Algorithm::Norwegian),
    ("portuguese", Algorithm::Portuguese),
    ("romanian", Algorithm::Romanian),
    ("russian", Algorithm::Russian),
    ("spanish", Algorithm::Spanish),
    ("swedish", Algorithm::Swedish),
    ("tamil", Algorithm::Tamil),
    ("turkish", Algorithm::Turkish),
];

/// Turns texts into term counts.
///
/// Steps, in Lucene's order: words (`\w+` over Unicode), lower case, stop words out, Snowball stem. A term is the
/// xxh3-64 hash of its stem, so that no vocabulary has to be kept or agreed on between workers; two stems that share
/// a hash would share their postings (below 10⁻⁶ for a million stems).
pub struct Analyzer {
    stemmer: Stemmer,
    /// Lower-case, ascending.
    stop: Vec<&'static str>,
}

/// Terms of words that one [`Analyzer`] has met: most words of a text were in others before, and stemming is the larger part
/// of analysis. Bounded; begun anew when full, since what is frequent is soon met again.
#[derive(Debug, Default)]
pub struct KnownTerms {
    /// Words as they stand in texts; stop words have no term.
    terms: HashTable<(Box<str>, Option<u64>)>,
}

impl Analyzer {
    /// Analyzer of a language of [`LANGUAGES`].
    pub fn new(language: &str) -> Result<Self, TextError> {
        let Some((_, algorithm)) = LANGUAGES.iter().find(|(name, _)| *name == language) else {
            let names: Vec<&str> = LANGUAGES.iter().map(|(name, _)| *name).collect();
            return Err(TextError::UnknownLanguage { found: language.to_owned(), known: names.join(", ") });
        };
        let mut stop: Vec<&str> = stop_words(*algorithm).split_ascii_whitespace().collect();
        stop.sort_unstable();
        Ok(Self { stemmer: Stemmer::create(*algorithm), stop })
    }

    /// Terms of a document with their frequency in it.
    pub fn document(&self, text: &str) -> SparseVector {
        // A text holds at most a few million words.
        SparseVector::counted(words(text).filter_map(|word| self.term(word)).collect())
    }

    /// As [`Analyzer::document`], for one document after the other. `known` serves this analyzer alone.
    pub fn next_document(&self, text: &str, known: &mut KnownTerms) -> SparseVector {
        SparseVector::counted(words(text).filter_map(|word| known.term(word, self)).collect())
    }

    /// Terms of a query with their count in it: the same analysis as for documents.
    pub fn query(&self, text: &str) -> SparseVector {
        self.document(text)
    }

    /// Stems in the order of the text, stop words left out.
    pub fn stems<'a>(&'a self, text: &'a str) -> impl Iterator<Item = String> + 'a {
        words(text).filter_map(|word| self.stem(word))
    }

    /// `None`: a stop word.
    fn stem(&self, word: &str) -> Option<String> {
        let lower = word.to_lowercase();
        let stopped = self.stop.binary_search(&lower.as_str()).is_ok();
        (!stopped).then(|| self.stemmer.stem(&lower).into_owned())
    }

    fn term(&self, word: &str) -> Option<u64> {
        self.stem(word).map(|stem| xxh3_64(stem.as_bytes()))
    }
}

impl KnownTerms {
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.terms.len()
    }

    fn term(&mut self, word: &str, analyzer: &Analyzer) -> Option<u64> {
        let hash_of = |word: &str| xxh3_64(word.as_bytes());
        let hash = hash_of(word);
        if let Some((_, term)) = self.terms.find(hash, |(known, _)| **known == *word) {
            return *term;
        }
        let term = analyzer.term(word);
        if word.len() <= KNOWN_BYTES_MAX {
            if self.terms.len() == KNOWN_WORDS_MAX {
                self.terms.clear();
            }
            self.terms.insert_unique(hash, (word.into(), term), |(known, _)| hash_of(known));
        }
        term
    }
}

impl std::fmt::Debug for Analyzer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Analyzer").field("stop_words", &self.stop.len()).finish_non_exhaustive()
    }
}
