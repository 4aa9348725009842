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

#[cfg(test)]
mod tests {
    use freshet_schemas::{SparseVector, VectorKind};

    use super::*;
    use crate::index::{Scoring, TokenCoding, TokenMatrix};

    fn spec(kind: VectorKind, metric: Metric) -> FieldSpec {
        let (name, factory) = ("v".to_owned(), "Flat".to_owned());
        FieldSpec { name, kind, size: 2, scoring: Scoring::Dot, metric, factory, coding: TokenCoding::Int8 }
    }

    /// What is chosen of candidates with these scores and vectors.
    fn chosen(spec: &FieldSpec, of: &[(&str, f64, RowVector)], diversity: f64, limit: usize) -> String {
        let hit =
            |(id, score, _): &(&str, f64, RowVector)| Hit { id: (*id).to_owned(), chunk: 0, score: *score };
        let vectors = of.iter().map(|(id, _, vector)| ((*id).to_owned(), vector.clone())).collect();
        let found = choose(spec, of.iter().map(hit).collect(), &vectors, diversity, limit);
        assert!(found.iter().all(|found| of.iter().any(|of| hit(of) == *found)), "hits keep their scores");
        found.into_iter().map(|hit| hit.id).collect()
    }

    fn dense(vector: [f32; 2]) -> RowVector {
        RowVector::Dense(vector.to_vec())
    }

    #[test]
    fn relevance_and_diversity_are_weighed() {
        let spec = spec(VectorKind::Dense, Metric::Dot);
        let of =
            [("b", 0.9, dense([1.0, 0.0])), ("a", 0.8, dense([1.0, 0.0])), ("c", 0.1, dense([0.0, 1.0]))];
        assert_eq!(chosen(&spec, &of, 0.0, 3), "bac");
        assert_eq!(chosen(&spec, &of, 0.5, 3), "bca");
        assert_eq!(chosen(&spec, &of, 0.5, 2), "bc");
        assert_eq!(chosen(&spec, &of, 1.0, 9), "bca");
        assert_eq!(chosen(&spec, &of, 0.5, 0), "");
        assert_eq!(chosen(&spec, &[], 0.5, 3), "");
    }

    #[test]
    fn ties_go_to_the_smaller_id() {
        let spec = spec(VectorKind::Dense, Metric::Dot);
        let one = |id| (id, 0.5, dense([1.0, 0.0]));
        for of in [[one("c"), one("a"), one("b")], [one("b"), one("c"), one("a")]] {
            for diversity in [0.0, 0.5, 1.0] {
                assert_eq!(chosen(&spec, &of, diversity, 3), "abc");
            }
        }
        // The less relevant one has the smaller id, and as good a value.
        let of =
            [("z", 1.0, dense([1.0, 0.0])), ("y", 0.5, dense([0.5, 0.0])), ("x", 0.25, dense([0.25, 0.0]))];
        assert_eq!(chosen(&spec, &of, 0.5, 3), "zxy");
    }

    #[test]
    fn each_kind_has_its_similarity() {
        let euclid = spec(VectorKind::Dense, Metric::Euclid);
        let of =
            [("a", -1.0, dense([1.0, 0.0])), ("b", -1.5, dense([1.5, 0.0])), ("c", -2.0, dense([0.0, 2.0]))];
        assert_eq!(chosen(&euclid, &of, 0.2, 3), "abc");
        assert_eq!(chosen(&euclid, &of, 0.5, 3), "acb", "−4/2 + 5/2 against −2.25/2 + 0.25/2");
        let term = |indices: &[u64], values: &[f32]| {
            RowVector::Sparse(SparseVector { indices: indices.to_vec(), values: values.to_vec() })
        };
        let of = [
            ("a", 2.0, term(&[1], &[2.0])),
            ("b", 2.0, term(&[1, 2], &[2.0, 1.0])),
            ("c", 1.0, term(&[9], &[1.0])),
        ];
        assert_eq!(chosen(&spec(VectorKind::Sparse, Metric::Dot), &of, 0.5, 2), "ac");
        let tokens = |codes: &[i8]| {
            let scales = vec![1.0; codes.len() / 2];
            RowVector::Multi(TokenMatrix { dim: 2, codes: codes.to_vec(), scales })
        };
        let of = [
            ("a", 2.0, tokens(&[1, 0, 0, 1])),
            ("b", 2.0, tokens(&[1, 0, 0, 1])),
            ("c", 1.0, tokens(&[-1, 0])),
        ];
        assert_eq!(chosen(&spec(VectorKind::Multi, Metric::Dot), &of, 0.5, 2), "ac");
        assert_eq!(chosen(&spec(VectorKind::Multi, Metric::Dot), &of, 0.0, 2), "ab");
    }

    #[test]
    fn candidates_without_a_vector_stay_out() {
        let spec = spec(VectorKind::Dense, Metric::Dot);
        let hit = |id: &str| Hit { id: id.to_owned(), chunk: 0, score: 1.0 };
        let vectors = [("b".to_owned(), dense([1.0, 0.0]))].into();
        assert_eq!(choose(&spec, vec![hit("a"), hit("b")], &vectors, 0.5, 5), [hit("b")]);
    }
}
