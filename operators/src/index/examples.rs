//! How the similarities of a row to some examples become its score: recommendation, discovery, context search.
//!
//! The formulas are Qdrant's (`lib/segment/src/vector_storage/query`). Its similarity is that of its searches but for
//! Euclidean fields, where it is the negative **squared** distance.

use serde::{Deserialize, Serialize};

use super::{FieldSpec, Metric};
use freshet_schemas::VectorKind;

/// Smallest difference that counts in a context, as in Qdrant: ε of `f32`.
const EPSILON: f64 = f32::EPSILON as f64;

/// A formula over the similarities to all examples, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Formula {
    /// So many positive examples, then negative ones: `σ(p)` if p > n, else `−σ(n)`, of the best similarity of each kind.
    Best {
        /// How many are positive.
        positive: usize,
    },
    /// So many positive examples, then negative ones: the sum of the first less the sum of the others.
    Sum {
        /// How many are positive.
        positive: usize,
    },
    /// A target, then pairs of a positive and a negative example: for each pair 1 if the positive one is more similar, −1 if
    /// it is less; and `σ(target)`, which is between 0 and 1.
    Discover,
    /// Pairs of a positive and a negative example: of each the difference, where it is negative, as x/(1 + |x|).
    Context,
}

impl Formula {
    /// The score of a row with these similarities.
    pub fn score(self, similarities: &[f64]) -> f64 {
        let best = |of: &[f64]| of.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        match self {
            Self::Best { positive } => {
                let (positive, negative) = similarities.split_at(positive);
                let (positive, negative) = (best(positive), best(negative));
                if positive > negative { scaled(positive) } else { 0.0 - scaled(negative) }
            }
            Self::Sum { positive } => {
                let (positive, negative) = similarities.split_at(positive);
                positive.iter().sum::<f64>() - negative.iter().sum::<f64>()
            }
            Self::Discover => {
                let Some((target, pairs)) = similarities.split_first() else { return 0.0 };
                pairs_of(pairs).map(|(positive, negative)| rank(positive, negative)).sum::<f64>()
                    + scaled(*target)
            }
            Self::Context => pairs_of(similarities)
                .map(|(positive, negative)| squashed((positive - negative - EPSILON).min(0.0)))
                .sum(),
        }
    }
}

/// The similarity that a score stands for; `None`: no row to be compared. A sparse row without a common term is 0 similar.
pub fn similarity(spec: &FieldSpec, score: Option<f64>) -> Option<f64> {
    match (spec.kind, spec.metric) {
        (VectorKind::Sparse, _) => Some(score.unwrap_or(0.0)),
        // The square of a root of an `f32` is that `f32` again, once it is rounded to one.
        (VectorKind::Dense, Metric::Euclid) => score.map(|score| 0.0 - f64::from((score * score) as f32)),
        (VectorKind::Dense, Metric::Dot) | (VectorKind::Multi, _) => score,
    }
}

fn pairs_of(similarities: &[f64]) -> impl Iterator<Item = (f64, f64)> + '_ {
    similarities.chunks_exact(2).map(|pair| (pair[0], pair[1]))
}

fn rank(positive: f64, negative: f64) -> f64 {
    if positive > negative {
        1.0
    } else if positive < negative {
        -1.0
    } else {
        0.0
    }
}

/// x/(1 + |x|), between −1 and 1.
fn squashed(x: f64) -> f64 {
    if x.is_infinite() { x.signum() } else { x / (1.0 + x.abs()) }
}

/// Between 0 and 1, rising.
fn scaled(x: f64) -> f64 {
    0.5 * (squashed(x) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_better_side_decides_the_best_score() {
        let best = |positive, of: &[f64]| Formula::Best { positive }.score(of);
        assert_eq!(best(2, &[1.0, 3.0, 2.0]), 0.875);
        assert_eq!(best(1, &[1.0, 3.0, 2.0]), -0.875);
        assert_eq!(best(1, &[3.0, 3.0]), -0.875, "a tie is for the negative side");
        assert_eq!(best(0, &[0.0]), -0.5);
        assert_eq!(best(1, &[-1.0]), 0.25);
        assert!(best(1, &[f64::MAX]).is_finite());
    }

    #[test]
    fn sums_and_pairs_are_sums() {
        assert_eq!(Formula::Sum { positive: 2 }.score(&[1.0, 2.0, 4.0]), -1.0);
        assert_eq!(Formula::Discover.score(&[1.0, 2.0, 1.0, 1.0, 2.0, 5.0, 5.0, 3.0, 0.0]), 1.75);
        assert_eq!(Formula::Context.score(&[2.0, 1.0]), 0.0);
        assert!((Formula::Context.score(&[1.0, 2.0, 0.0, 3.0]) - (-0.5 - 0.75)).abs() < 1e-6);
    }
}
