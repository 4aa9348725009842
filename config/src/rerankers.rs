//! `[rerankers.NAME]`: what reads a query and texts together, and orders them.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::time::Duration;

use crate::VectorField;
use crate::problems::list;
use crate::section::Section;

/// `[rerankers.NAME]`
#[derive(Clone, Debug, PartialEq)]
pub struct Reranker {
    /// `kind`, with what only it has.
    pub kind: RerankerKind,
    /// `documents_max`: most documents that one query has read; those behind are left out. Default 100.
    pub documents_max: NonZeroUsize,
    /// `budget`: longest time that reranking may take a query, retries counted; then the order before it is answered.
    /// Default 2 s.
    pub budget: Duration,
}

/// The kinds of rerankers.
#[derive(Clone, Debug, PartialEq)]
pub enum RerankerKind {
    /// `cross_encoder`: a model of the embedding service.
    CrossEncoder {
        /// `model`: name or folder.
        model: String,
    },
    /// `remote`: an HTTP service with the request and answer of Cohere's and Jina's `/rerank`.
    Remote(Endpoint),
    /// `llm`: a chat model behind an OpenAI-compatible endpoint, which orders all texts at once.
    Llm(Endpoint),
}

impl RerankerKind {
    /// The model of the embedding service that it needs.
    pub fn model(&self) -> Option<&str> {
        match self {
            Self::CrossEncoder { model } => Some(model),
            Self::Remote(_) | Self::Llm(_) => None,
        }
    }
}

/// An HTTP service that reranks.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    /// `url`: `http://` or `https://`, the whole address of the request.
    pub url: String,
    /// `model`: what the service calls it; some have one only.
    pub model: Option<String>,
    /// `api_key`, sent as a bearer token. Best given as `"${NAME}"`.
    pub api_key: Option<Secret>,
    /// `timeout` of one request. Default 1 s.
    pub timeout: Duration,
    /// `retries` after a first request that failed in a way that may pass. Default 2.
    pub retries: u32,
    /// `connections`: requests at once. Default 8.
    pub connections: NonZeroUsize,
    /// `failures_max`: requests that fail one after the other before the service is left alone. Default 5.
    pub failures_max: NonZeroUsize,
    /// `pause`: how long it is left alone then. Default 10 s.
    pub pause: Duration,
}

/// A value that is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The value itself, for the request only.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(value: String) -> Self {
        Self(value)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

const DOCUMENTS_DEFAULT: NonZeroUsize = NonZeroUsize::new(100).expect("positive");
const DOCUMENTS_MAX: usize = 10_000;
const BUDGET_DEFAULT: Duration = Duration::from_secs(2);
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(1);
const RETRIES_DEFAULT: u32 = 2;
const RETRIES_MAX: u64 = 10;
const CONNECTIONS_DEFAULT: NonZeroUsize = NonZeroUsize::new(8).expect("positive");
const CONNECTIONS_MAX: usize = 1024;
const FAILURES_DEFAULT: NonZeroUsize = NonZeroUsize::new(5).expect("positive");
const FAILURES_MAX: usize = 1_000_000;
const PAUSE_DEFAULT: Duration = Duration::from_secs(10);

/// Keys that only rerankers behind HTTP have.
const ENDPOINT_KEYS: [&str; 7] =
    ["url", "api_key", "timeout", "retries", "connections", "failures_max", "pause"];

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    CrossEncoder,
    Remote,
    Llm,
}

const KINDS: [(&str, Kind); 3] =
    [("cross_encoder", Kind::CrossEncoder), ("remote", Kind::Remote), ("llm", Kind::Llm)];

/// Reads all rerankers. The second part names them all, also those that have problems, with what they read at most.
pub(crate) fn read(
    mut section: Section<'_>,
    vectors: &BTreeMap<String, VectorField>,
    broken: &[String],
) -> (BTreeMap<String, Reranker>, BTreeMap<String, usize>) {
    let mut rerankers = BTreeMap::new();
    let mut named = BTreeMap::new();
    for (name, value) in section.take_all() {
        if vectors.contains_key(&name) || broken.contains(&name) {
            let message = "a vector field has this name, too: plans could not tell them apart";
            section.report(&name, message);
            continue;
        }
        let reranker = section.named(&name, value).and_then(reranker);
        let read = reranker.as_ref().map_or(DOCUMENTS_DEFAULT, |reranker| reranker.documents_max);
        named.insert(name.clone(), read.get());
        rerankers.extend(reranker.map(|reranker| (name, reranker)));
    }
    (rerankers, named)
}

fn reranker(mut section: Section<'_>) -> Option<Reranker> {
    let has_kind = section.has("kind");
    let kind = section.word("kind", &KINDS);
    if !has_kind {
        section.report("kind", format!("missing: one of {}", list(KINDS.map(|(word, _)| word))));
    }
    let model = section.string("model");
    let documents_max = section.count("documents_max", DOCUMENTS_MAX).unwrap_or(DOCUMENTS_DEFAULT);
    let budget = section.duration("budget").unwrap_or(BUDGET_DEFAULT);
    let kind = match kind {
        Some(Kind::CrossEncoder) => {
            for key in ENDPOINT_KEYS.iter().filter(|key| section.has(key)).copied().collect::<Vec<_>>() {
                section.take(key);
                section.report(key, "only for rerankers behind HTTP, kind \"remote\" or \"llm\"");
            }
            if model.is_none() && !section.was_given("model") {
                section.report("model", "missing: name or folder of a cross-encoder");
            }
            model.map(|model| RerankerKind::CrossEncoder { model })
        }
        Some(kind @ (Kind::Remote | Kind::Llm)) => {
            if kind == Kind::Llm && model.is_none() && !section.was_given("model") {
                section.report("model", "missing: what the endpoint calls the chat model");
            }
            let endpoint = endpoint(&mut section, model);
            endpoint.map(if kind == Kind::Llm { RerankerKind::Llm } else { RerankerKind::Remote })
        }
        None => {
            section.also_known(&ENDPOINT_KEYS);
            ENDPOINT_KEYS.iter().for_each(|key| drop(section.take(key)));
            None
        }
    };
    section.finish();
    Some(Reranker { kind: kind?, documents_max, budget })
}

fn endpoint(section: &mut Section<'_>, model: Option<String>) -> Option<Endpoint> {
    let url = section.address("url", "https://api.example.com/v1/rerank");
    let endpoint = Endpoint {
        url: url.clone().unwrap_or_default(),
        model,
        api_key: section.string("api_key").map(Secret),
        timeout: section.duration("timeout").unwrap_or(TIMEOUT_DEFAULT),
        retries: section
            .integer("retries", 0..=RETRIES_MAX)
            .map_or(RETRIES_DEFAULT, |retries| retries as u32),
        connections: section.count("connections", CONNECTIONS_MAX).unwrap_or(CONNECTIONS_DEFAULT),
        failures_max: section.count("failures_max", FAILURES_MAX).unwrap_or(FAILURES_DEFAULT),
        pause: section.duration("pause").unwrap_or(PAUSE_DEFAULT),
    };
    url.map(|_| endpoint)
}
