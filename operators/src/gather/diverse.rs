//! Maximal marginal relevance: hits that are like the query and unlike each other.

use std::collections::BTreeMap;

use crate::index::examples::similarity;
use crate::index::multi::maxsim::{Query, Tokens};
use crate::index::{FieldSpec, Hit, Metric, RowVector, by_rank};

/// Chooses up to `limit` of the candidates. First the most relevant one; then, again and again, the one for which
/// `(1 − diversity) · relevance − diversity · similarity` is greatest, where the similarity is the greatest to any that is
/// chosen already. Ties go to the smaller id. Hits keep their scores.
///
/// Carbonell & Goldstein 1998; relevance and similarity are those of Qdrant: for Euclidean fields the negative squared
/// distance, for token vectors MaxSim of the candidate with the chosen one. Candidates without a vector stay out.
pub(super) fn choose(
    spec: &FieldSpec,
    candidates: Vec<Hit>,
    vectors: &BTreeMap<String, RowVector>,
    diversity: f64,
    limit: usize,
) -> Vec<Hit> {
    let mut pending: Vec<Pending<'_>> =
        candidates.into_iter().filter_map(|hit| Pending::of(spec, hit, vectors)).collect();
    // In the order of hits: of candidates that tie, the first one is the one with the smaller id.
    pending.sort_by(|a, b| by_rank(&a.hit, &b.hit));
    let mut chosen = Vec::new();
    while chosen.len() < limit {
        let value = |of: &Pending<'_>| match of.closest {
            None => of.relevance,
            Some(closest) => (1.0 - diversity) * of.relevance - diversity * closest,
        };
        let best = (0..pending.len()).max_by(|&a, &b| {
            let (first, second) = (&pending[a], &pending[b]);
            let by_value = value(first).total_cmp(&value(second));
            by_value.then_with(|| second.hit.id.cmp(&first.hit.id))
        });
        let Some(best) = best else { break };
        let next = pending.remove(best);
        for other in &mut pending {
            let similarity = other.similarity(spec, &next);
            other.closest = Some(other.closest.map_or(similarity, |closest| closest.max(similarity)));
        }
        chosen.push(next.hit);
    }
    chosen
}

/// A candidate that is not chosen yet.
struct Pending<'a> {
    hit: Hit,
    relevance: f64,
    vector: &'a RowVector,
    /// Of token vectors what compares with those of others.
    tokens: Option<Query>,
    /// The greatest similarity to any that is chosen.
    closest: Option<f64>,
}

impl<'a> Pending<'a> {
    fn of(spec: &FieldSpec, hit: Hit, vectors: &'a BTreeMap<String, RowVector>) -> Option<Self> {
        let relevance = similarity(spec, Some(hit.score))?;
        let vector = vectors.get(&hit.id)?;
        let tokens = match vector {
            RowVector::Multi(matrix) => Some(Query::new(&matrix.decoded(), matrix.dim)),
            RowVector::Dense(_) | RowVector::Sparse(_) => None,
        };
        Some(Self { hit, relevance, vector, tokens, closest: None })
    }

    fn similarity(&self, spec: &FieldSpec, other: &Self) -> f64 {
        let found = match (self.vector, other.vector) {
            (RowVector::Dense(a), RowVector::Dense(b)) => {
                let pairs = a.iter().zip(b).map(|(a, b)| (f64::from(*a), f64::from(*b)));
                match spec.metric {
                    Metric::Dot => pairs.map(|(a, b)| a * b).sum(),
                    Metric::Euclid => 0.0 - pairs.map(|(a, b)| (a - b).powi(2)).sum::<f64>(),
                }
            }
            (RowVector::Sparse(a), RowVector::Sparse(b)) => {
                let weight =
                    |term| b.indices.binary_search(&term).ok().map(|place| f64::from(b.values[place]));
                a.iter().filter_map(|(term, of)| Some(f64::from(of) * weight(term)?)).sum()
            }
            (RowVector::Multi(_), RowVector::Multi(b)) => {
                let tokens = Tokens { codes: &b.codes, scales: &b.scales };
                self.tokens.as_ref().and_then(|query| query.max_sim(tokens)).unwrap_or(0.0)
            }
            (RowVector::Dense(_) | RowVector::Sparse(_) | RowVector::Multi(_), _) => 0.0,
        };
        if found.is_nan() { f64::MIN } else { found.clamp(f64::MIN, f64::MAX) }
    }
}
