//! The formulas, as Qdrant has them.

use std::collections::BTreeMap;

use freshet_schemas::Fusion;

use crate::index::Hit;

/// Score of every hit of a list that has no spread: as good as it gets to the middle of 0..1.
const FLAT_SCORE: f64 = 0.5;

/// A ranked list to be fused.
#[derive(Clone, Copy, Debug)]
pub struct Leg<'a> {
    /// Best first, each document once.
    pub hits: &'a [Hit],
    /// Whether its hits name chunks (dense and multi fields, and fusions of them), or whole documents (sparse fields).
    pub chunked: bool,
}

/// A hit of a fusion.
#[derive(Clone, Debug, PartialEq)]
pub struct Fused {
    /// Document id.
    pub id: String,
    /// The chunk named by the chunked leg that ranks the document best, the first of those that rank it alike; 0 if no
    /// such leg found it.
    pub chunk: u32,
    /// Sum of the contributions, in the order of the legs.
    pub score: f64,
    /// Per leg what it contributed; `None` if it did not find the document.
    pub contributions: Vec<Option<f64>>,
}

/// Fuses the lists of some stages, taking those for chunked that name a chunk other than the first.
pub fn fuse(fusion: &Fusion, legs: &[Vec<Hit>]) -> Vec<Fused> {
    let chunked = |hits: &[Hit]| hits.iter().any(|hit| hit.chunk > 0);
    let legs: Vec<Leg<'_>> = legs.iter().map(|hits| Leg { hits, chunked: chunked(hits) }).collect();
    fuse_legs(fusion, &legs)
}

/// Fuses ranked lists: score descending, then id ascending.
pub fn fuse_legs(fusion: &Fusion, legs: &[Leg<'_>]) -> Vec<Fused> {
    match fusion {
        Fusion::Rrf { k, weights } => rrf(legs, *k, weights),
        Fusion::Dbsf => dbsf(legs),
    }
}

/// Reciprocal rank fusion: Σ over legs of 1 / ((rank + 1)/weight + k − 1), rank from 0.
///
/// Cormack et al. 2009, <https://plg.uwaterloo.ca/~gvcormac/cormacksigir09-rrf.pdf>, who have k = 60 and no weights; with
/// weight 1 theirs is `1/(k' + rank + 1)` for k' = k − 1. Weights, and k = 2 by default, are Qdrant's. A leg without a
/// weight has weight 1; one whose weight is not positive contributes 0.
pub fn rrf(legs: &[Leg<'_>], k: f64, weights: &[f64]) -> Vec<Fused> {
    let contribution = |leg: usize| {
        let weight = weights.get(leg).copied().unwrap_or(1.0);
        move |rank: usize, _: f64| {
            if weight > 0.0 { 1.0 / ((rank as f64 + 1.0) / weight + k - 1.0) } else { 0.0 }
        }
    };
    sum(legs, contribution)
}

/// Distribution-based score fusion: Σ over legs of (score − (μ − 3σ)) / 6σ, with mean and sample deviation of the leg.
///
/// Mazzeschi 2023, "Distribution-Based Score Fusion (DBSF)". As in Qdrant nothing is clamped: a score more than 3σ from
/// the mean contributes less than 0 or more than 1; and hits of a leg with one score only contribute 0.5. Qdrant looks
/// for a variance of exactly 0, which rounding can miss when scores are equal; here equal scores are always flat.
pub fn dbsf(legs: &[Leg<'_>]) -> Vec<Fused> {
    sum(legs, |leg| {
        let normal = Distribution::of(legs[leg].hits);
        move |_: usize, score: f64| normal.as_ref().map_or(FLAT_SCORE, |normal| normal.place(score))
    })
}

/// Where most scores of a list lie: μ − 3σ and the 6σ above it. Invariant: `width` is positive.
struct Distribution {
    low: f64,
    width: f64,
}

impl Distribution {
    /// `None` for lists whose scores do not differ.
    fn of(hits: &[Hit]) -> Option<Self> {
        let first = hits.first()?.score;
        if hits.iter().all(|hit| hit.score == first) {
            return None;
        }
        let count = hits.len() as f64;
        let mean = hits.iter().map(|hit| hit.score).sum::<f64>() / count;
        let variance = hits.iter().map(|hit| (hit.score - mean).powi(2)).sum::<f64>() / (count - 1.0);
        let width = 6.0 * variance.sqrt();
        // Scores that differ by less, or by more, than their squares can tell.
        let usable = width.is_finite() && width > 0.0;
        usable.then_some(Self { low: mean - width / 2.0, width })
    }

    fn place(&self, score: f64) -> f64 {
        (score - self.low) / self.width
    }
}

/// Sums per document what each leg contributes, given its number, by rank and score.
fn sum<F: Fn(usize, f64) -> f64>(legs: &[Leg<'_>], contribution: impl Fn(usize) -> F) -> Vec<Fused> {
    let mut sums: BTreeMap<&str, Sum> = BTreeMap::new();
    for (number, leg) in legs.iter().enumerate() {
        let contribution = contribution(number);
        for (rank, hit) in leg.hits.iter().enumerate() {
            let sum = sums.entry(&hit.id).or_insert_with(|| Sum::over(legs.len()));
            sum.contributions[number] = Some(contribution(rank, hit.score));
            if leg.chunked && sum.rank.is_none_or(|best| rank < best) {
                (sum.rank, sum.chunk) = (Some(rank), hit.chunk);
            }
        }
    }
    let mut fused: Vec<Fused> = sums.into_iter().map(|(id, sum)| sum.fused(id)).collect();
    fused.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.id.cmp(&b.id)));
    fused
}

/// A document under way.
struct Sum {
    contributions: Vec<Option<f64>>,
    /// Best rank in a chunked leg, and the chunk it names.
    rank: Option<usize>,
    chunk: u32,
}

impl Sum {
    fn over(legs: usize) -> Self {
        Self { contributions: vec![None; legs], rank: None, chunk: 0 }
    }

    fn fused(self, id: &str) -> Fused {
        let score = self.contributions.iter().flatten().fold(0.0, |sum, part| sum + part);
        Fused { id: id.to_owned(), chunk: self.chunk, score, contributions: self.contributions }
    }
}
