//! `[vectors.NAME]`: the vector fields.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use freshet_schemas::VectorKind;

use crate::defaults::{self, BM25};
use crate::factory::IndexFactory;
use crate::problems::{did_you_mean, list};
use crate::section::Section;
use crate::{Distance, Modifier, Quantization, VectorField};

/// Largest dimension of a vector, as in Qdrant.
const SIZE_MAX: usize = 65_536;
/// Longest name of a field.
const NAME_CHARS_MAX: usize = 64;
/// Languages with a Snowball stemmer.
pub const LANGUAGES: [&str; 18] = [
    "arabic",
    "danish",
    "dutch",
    "english",
    "finnish",
    "french",
    "german",
    "greek",
    "hungarian",
    "italian",
    "norwegian",
    "portuguese",
    "romanian",
    "russian",
    "spanish",
    "swedish",
    "tamil",
    "turkish",
];

/// Reads all fields; the default ones if there are none. The second part names those that have problems.
pub(crate) fn read(mut section: Section<'_>) -> (BTreeMap<String, VectorField>, Vec<String>) {
    let mut fields = BTreeMap::new();
    let mut broken = Vec::new();
    for (name, value) in section.take_all() {
        let before = section.problem_count();
        if !is_name(&name) {
            let message =
                format!("the name of a vector has 1 to {NAME_CHARS_MAX} letters, digits, \"_\" or \"-\"");
            section.report(&name, message);
        }
        let field = section.named(&name, value).and_then(field);
        match field {
            Some(field) if section.problem_count() == before => {
                fields.insert(name, field);
            }
            _ => broken.push(name),
        }
    }
    if fields.is_empty() && broken.is_empty() {
        fields = defaults::vectors();
    }
    (fields, broken)
}

fn is_name(name: &str) -> bool {
    (1..=NAME_CHARS_MAX).contains(&name.len())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

/// A field as it is written, before its keys are compared with each other.
struct Raw {
    model: Option<String>,
    size: Option<NonZeroUsize>,
    distance: Option<Distance>,
    index: Option<String>,
    language: Option<String>,
    k1: Option<f64>,
    b: Option<f64>,
    quantization: Option<Quantization>,
    modifier: Option<Modifier>,
}

fn field(mut section: Section<'_>) -> Option<VectorField> {
    const KINDS: [(&str, VectorKind); 3] =
        [("dense", VectorKind::Dense), ("sparse", VectorKind::Sparse), ("multi", VectorKind::Multi)];
    const DISTANCES: [(&str, Distance); 3] =
        [("cosine", Distance::Cosine), ("dot", Distance::Dot), ("euclid", Distance::Euclid)];
    const QUANTIZATIONS: [(&str, Quantization); 2] =
        [("int8", Quantization::Int8), ("residual", Quantization::Residual)];
    const MODIFIERS: [(&str, Modifier); 2] = [("none", Modifier::None), ("idf", Modifier::Idf)];
    let has_kind = section.has("kind");
    let kind = section.word("kind", &KINDS);
    if !has_kind {
        section.report("kind", format!("missing: one of {}", list(KINDS.map(|(word, _)| word))));
    }
    let raw = Raw {
        model: section.string("model"),
        size: section.count("size", SIZE_MAX),
        distance: section.word("distance", &DISTANCES),
        index: section.string("index"),
        language: section.string("language"),
        k1: section.float("k1", 0.0..=1000.0),
        b: section.float("b", 0.0..=1.0),
        quantization: section.word("quantization", &QUANTIZATIONS),
        modifier: section.word("modifier", &MODIFIERS),
    };
    if let Some(kind) = kind {
        check_source(&mut section, kind, &raw);
        check_keys(&mut section, kind, &raw);
    }
    section.finish();
    let base = VectorField::of_kind(kind?);
    Some(VectorField {
        model: raw.model,
        size: raw.size,
        distance: raw.distance.unwrap_or(base.distance),
        index: raw.index.unwrap_or(base.index),
        language: raw.language.unwrap_or(base.language),
        k1: raw.k1.map_or(base.k1, |k1| k1 as f32),
        b: raw.b.map_or(base.b, |b| b as f32),
        quantization: raw.quantization.unwrap_or(base.quantization),
        modifier: raw.modifier.unwrap_or(base.modifier),
        ..base
    })
}

/// Where the vectors come from: a model, or the documents, which must then say their size. Whether a model makes
/// vectors of the kind shows when it is loaded.
fn check_source(section: &mut Section<'_>, kind: VectorKind, raw: &Raw) {
    let is_bm25 = raw.model.as_deref() == Some(BM25);
    match kind {
        VectorKind::Sparse => {
            if raw.size.is_some() {
                section.report("size", "a sparse vector has no size");
            }
        }
        VectorKind::Dense | VectorKind::Multi => match (&raw.model, raw.size) {
            (Some(_), Some(_)) => {
                section.report("size", "the model tells the size; give \"model\" or \"size\"");
            }
            (None, None) if !section.was_given("model") && !section.was_given("size") => {
                let message = "missing: give \"model\", or \"size\" if the documents bring the vectors";
                section.report("model", message);
            }
            (Some(_), None) if is_bm25 => {
                let message = format!("\"{BM25}\" makes sparse vectors, not {}", kind.as_str());
                section.report("model", message);
            }
            _ => {}
        },
    }
}

/// Keys that only some fields have.
fn check_keys(section: &mut Section<'_>, kind: VectorKind, raw: &Raw) {
    if kind != VectorKind::Dense {
        let why = format!("only for dense vectors, this one is {}", kind.as_str());
        for (key, given) in [("distance", raw.distance.is_some()), ("index", raw.index.is_some())] {
            if given {
                section.report(key, why.as_str());
            }
        }
    } else if let Some(index) = &raw.index
        && let Err(wrong) = IndexFactory::parse(index)
    {
        // What only FAISS can tell, such as whether PQ's parts divide the dimension, is checked at start.
        section.report("index", format!("\"{index}\": {wrong}"));
    }
    if kind != VectorKind::Multi && raw.quantization.is_some() {
        let message = format!("only for multi-vectors, this one is {}", kind.as_str());
        section.report("quantization", message);
    }
    if raw.modifier.is_some() && kind != VectorKind::Sparse {
        section.report("modifier", format!("only for sparse vectors, this one is {}", kind.as_str()));
    } else if raw.modifier == Some(Modifier::Idf) && raw.model.as_deref() == Some(BM25) {
        section.report("modifier", format!("\"{BM25}\" weighs terms by their rarity already"));
    }
    if raw.model.as_deref() != Some(BM25) {
        let given = [("language", raw.language.is_some()), ("k1", raw.k1.is_some()), ("b", raw.b.is_some())];
        for (key, _) in given.iter().filter(|(_, given)| *given) {
            section.report(key, format!("only for the model \"{BM25}\""));
        }
    } else if let Some(language) = &raw.language
        && !LANGUAGES.contains(&language.as_str())
    {
        let hint = did_you_mean(language, LANGUAGES);
        let message = format!("\"{language}\" is not one of {}{hint}", list(LANGUAGES));
        section.report("language", message);
    }
}
