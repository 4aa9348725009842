//! What a term of a row is worth.

use crate::index::Scoring;

/// A field's scoring at a mean length.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weighing {
    scoring: Scoring,
    length_mean: f64,
}

impl Weighing {
    pub(super) fn new(scoring: Scoring, length_mean: f64) -> Self {
        Self { scoring, length_mean }
    }

    /// The part of a term's contribution that depends on the row. One that is not finite counts as 0.
    pub(super) fn share(&self, weight: f64, length: f64) -> f64 {
        match self.scoring {
            Scoring::Dot | Scoring::Idf => weight,
            Scoring::Bm25 { k1, b } => {
                let (k1, b) = (f64::from(k1), f64::from(b));
                let share = weight / (weight + k1 * (1.0 - b + b * length / self.length_mean));
                if share.is_finite() { share } else { 0.0 }
            }
        }
    }

    /// Whether every share of a positive weight is positive.
    pub(super) fn saturates(&self) -> bool {
        matches!(self.scoring, Scoring::Dot | Scoring::Idf) || (1e-3..1e9).contains(&self.length_mean)
    }

    /// By how much a share may exceed the one at another mean length.
    ///
    /// With c = reference / mean < 1, k1 · (1 − b + b · length / mean) ≥ c · k1 · (1 − b + b · length / reference), and
    /// w / (w + c · K) ≤ (w / (w + K)) / c. With c ≥ 1 a share only falls.
    pub(super) fn excess(&self, reference: f64) -> f64 {
        match self.scoring {
            Scoring::Dot | Scoring::Idf => 1.0,
            Scoring::Bm25 { .. } if reference > 0.0 => (self.length_mean / reference).max(1.0),
            Scoring::Bm25 { .. } => 1.0,
        }
    }
}
