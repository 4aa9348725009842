//! Text → terms for BM25: words, lower case, stop words out, stems.

use freshet_schemas::SparseVector;
use regex::Regex;
use rust_stemmers::{Algorithm, Stemmer};
use xxhash_rust::xxh3::xxh3_64;

use super::TextError;
use super::stopwords::stop_words;

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
    words: Regex,
    stemmer: Stemmer,
    /// Lower-case, ascending.
    stop: Vec<&'static str>,
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
        let words = Regex::new(r"\w+").expect("the pattern is a constant");
        Ok(Self { words, stemmer: Stemmer::create(*algorithm), stop })
    }

    /// Terms of a document with their frequency in it.
    pub fn document(&self, text: &str) -> SparseVector {
        self.counts(text)
    }

    /// Terms of a query with their count in it: the same analysis as for documents.
    pub fn query(&self, text: &str) -> SparseVector {
        self.counts(text)
    }

    /// Stems in the order of the text, stop words left out.
    pub fn stems<'a>(&'a self, text: &'a str) -> impl Iterator<Item = String> + 'a {
        self.words.find_iter(text).filter_map(|word| {
            let lower = word.as_str().to_lowercase();
            let stopped = self.stop.binary_search(&lower.as_str()).is_ok();
            (!stopped).then(|| self.stemmer.stem(&lower).into_owned())
        })
    }

    fn counts(&self, text: &str) -> SparseVector {
        let mut terms: Vec<u64> = self.stems(text).map(|stem| xxh3_64(stem.as_bytes())).collect();
        terms.sort_unstable();
        let mut vector = SparseVector::default();
        for same in terms.chunk_by(|a, b| a == b) {
            vector.indices.push(same[0]);
            // Exact up to 2²⁴ occurrences; a text holds at most a few million words.
            vector.values.push(same.len() as f32);
        }
        vector
    }
}

impl std::fmt::Debug for Analyzer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Analyzer").field("stop_words", &self.stop.len()).finish_non_exhaustive()
    }
}
