//! Text → tokens as a model reads them: prefixes, markers, pairs, limits.

use std::collections::BTreeSet;
use std::path::Path;

use tokenizers::{EncodeInput, Encoding, Tokenizer, TruncationParams};

use super::manifest::misfit;
use super::model::{Head, Markers, Tokens};
use super::{EmbedError, Manifest, Priority};

/// Place of ColBERT's marker: after the first special token.
const MARKER_PLACE: usize = 1;

/// Reads texts for one model.
pub(super) struct TextEncoder {
    query_prefix: String,
    passage_prefix: String,
    /// Cuts nothing.
    plain: Tokenizer,
    /// Cuts at the model's limit, special tokens counted.
    cutting: Tokenizer,
    /// Token that the tokenizer's file pads with.
    padding: u32,
    special_tokens: usize,
    marking: Option<Marking>,
}

/// [`Markers`], as token numbers.
struct Marking {
    query: u32,
    document: u32,
    mask: u32,
    query_tokens: usize,
    skipped: BTreeSet<u32>,
    /// Cuts at the length of queries.
    queries: Tokenizer,
}

impl TextEncoder {
    /// Reads the tokenizer of a folder. Padding and truncation of its file do not hold: padding is the runner's work, and
    /// public files often pad every text to a fixed length or cut below the model's limit.
    pub(super) fn load(folder: &Path, manifest: &Manifest) -> Result<Self, EmbedError> {
        let path = folder.join("tokenizer.json");
        let bad = |error: tokenizers::Error| {
            misfit(&path, error.to_string(), "a tokenizer of Hugging Face tokenizers")
        };
        let mut plain = Tokenizer::from_file(&path).map_err(bad)?;
        let padding = plain.get_padding().map_or(0, |padding| padding.pad_id);
        plain.with_padding(None);
        plain.with_truncation(None).map_err(bad)?;
        let marking = match &manifest.head {
            Head::LateInteraction(markers) => Some(Marking::new(&plain, markers, &path)?),
            Head::Dense { .. } | Head::Sparse | Head::CrossEncoder { .. } => None,
        };
        let marker = usize::from(marking.is_some());
        let special_tokens = plain.encode("", true).map_err(bad)?.len() + marker;
        Ok(Self {
            query_prefix: manifest.query_prefix.clone(),
            passage_prefix: manifest.passage_prefix.clone(),
            cutting: cutting(&plain, manifest.max_tokens - marker).map_err(bad)?,
            plain,
            padding,
            special_tokens,
            marking,
        })
    }

    pub(super) fn tokenizer(&self) -> &Tokenizer {
        &self.plain
    }

    pub(super) fn padding(&self) -> u32 {
        self.padding
    }

    /// Tokens that are added to each text.
    pub(super) fn special_tokens(&self) -> usize {
        self.special_tokens
    }

    /// Tokens of a text alone.
    pub(super) fn encode(&self, text: &str, priority: Priority) -> Result<Tokens, String> {
        let prefix = match priority {
            Priority::Query => &self.query_prefix,
            Priority::Document => &self.passage_prefix,
        };
        let tokenizer = match (&self.marking, priority) {
            (Some(marking), Priority::Query) => &marking.queries,
            (Some(_), Priority::Document) | (None, _) => &self.cutting,
        };
        let encoding = match prefix.as_str() {
            "" => tokenizer.encode_fast(text, true),
            prefix => tokenizer.encode_fast(format!("{prefix}{text}"), true),
        };
        let tokens = tokens(encoding)?;
        Ok(match &self.marking {
            Some(marking) => marking.mark(tokens, priority),
            None => tokens,
        })
    }

    /// Tokens of two texts read together; the longer one is cut first.
    pub(super) fn encode_pair(&self, query: &str, text: &str) -> Result<Tokens, String> {
        let pair = EncodeInput::Dual(query.into(), text.into());
        tokens(self.cutting.encode_fast(pair, true))
    }
}

impl Marking {
    fn new(plain: &Tokenizer, markers: &Markers, path: &Path) -> Result<Self, EmbedError> {
        let id = |token: &str| {
            plain.token_to_id(token).ok_or_else(|| {
                let expected = "a tokenizer that knows the markers of the model";
                misfit(path, format!("no token \"{token}\""), expected)
            })
        };
        // The characters that Python calls `string.punctuation`, which ColBERT's authors use.
        let punctuation = ('!'..='~').filter(char::is_ascii_punctuation).map(String::from);
        let skipped = match markers.skip_punctuation {
            true => punctuation.filter_map(|symbol| plain.token_to_id(&symbol)).collect(),
            false => BTreeSet::new(),
        };
        let queries = cutting(plain, markers.query_tokens - 1)
            .map_err(|error| misfit(path, error.to_string(), "a tokenizer that cuts queries"))?;
        Ok(Self {
            query: id(&markers.query)?,
            document: id(&markers.document)?,
            mask: id(&markers.mask)?,
            query_tokens: markers.query_tokens,
            skipped,
            queries,
        })
    }

    /// Puts the marker in; fills queries up with masks; marks what is left out of documents.
    fn mark(&self, mut tokens: Tokens, priority: Priority) -> Tokens {
        let marker = match priority {
            Priority::Query => self.query,
            Priority::Document => self.document,
        };
        tokens.ids.insert(MARKER_PLACE.min(tokens.ids.len()), marker);
        tokens.attended = tokens.ids.len();
        match priority {
            Priority::Query => tokens.ids.resize(tokens.ids.len().max(self.query_tokens), self.mask),
            Priority::Document => {
                let places = tokens.ids.iter().enumerate();
                let skipped = places.filter(|(_, id)| self.skipped.contains(id));
                tokens.skipped = skipped.map(|(place, _)| place).collect();
            }
        }
        tokens
    }
}

/// The same tokenizer, which cuts at so many tokens.
fn cutting(plain: &Tokenizer, max_tokens: usize) -> tokenizers::Result<Tokenizer> {
    let mut cutting = plain.clone();
    let cut = TruncationParams { max_length: max_tokens, ..TruncationParams::default() };
    cutting.with_truncation(Some(cut))?;
    Ok(cutting)
}

fn tokens(encoding: tokenizers::Result<Encoding>) -> Result<Tokens, String> {
    let encoding = encoding.map_err(|error| format!("the tokenizer cannot read the text: {error}"))?;
    let mut tokens = Tokens::new(encoding.get_ids().to_vec());
    if tokens.is_empty() {
        return Err("the text has no tokens".to_owned());
    }
    if encoding.get_type_ids().iter().any(|segment| *segment != 0) {
        tokens.segments = encoding.get_type_ids().to_vec();
    }
    Ok(tokens)
}
