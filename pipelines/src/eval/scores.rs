//! What a ranked list is worth, and what times are typical.

use std::collections::BTreeMap;

use serde::Serialize;

/// Places that nDCG and MRR look at.
pub const TOP: usize = 10;

/// Measures of one list, or their means over queries, each from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Scores {
    /// nDCG@10, gain = judgement, discount log2(rank + 1).
    pub ndcg_at_10: f64,
    /// Share of the relevant documents among the first `k`.
    pub recall_at_k: f64,
    /// 1 / rank of the first relevant document among the first 10.
    pub mrr_at_10: f64,
}

/// Scores one ranked list against its judgements (not empty, gains above 0).
pub fn score(ranked: &[String], judged: &BTreeMap<String, f64>, k: usize) -> Scores {
    let gain = |id: &String| judged.get(id).copied().unwrap_or(0.0);
    let discount = |place: usize| ((place + 2) as f64).log2();
    let dcg: f64 = ranked.iter().take(TOP).enumerate().map(|(place, id)| gain(id) / discount(place)).sum();
    let mut best: Vec<f64> = judged.values().copied().collect();
    best.sort_by(|a, b| b.total_cmp(a));
    let ideal: f64 = best.iter().take(TOP).enumerate().map(|(place, gain)| gain / discount(place)).sum();
    let relevant = ranked.iter().take(k).filter(|id| gain(id) > 0.0).count();
    let first = ranked.iter().take(TOP).position(|id| gain(id) > 0.0);
    Scores {
        ndcg_at_10: dcg / ideal,
        recall_at_k: relevant as f64 / judged.len() as f64,
        mrr_at_10: first.map_or(0.0, |place| 1.0 / (place + 1) as f64),
    }
}

/// Means over queries; zeros if there are none.
pub fn mean<'a>(scores: impl ExactSizeIterator<Item = &'a Scores>) -> Scores {
    let count = scores.len().max(1) as f64;
    let mut sum = Scores::default();
    for one in scores {
        sum.ndcg_at_10 += one.ndcg_at_10;
        sum.recall_at_k += one.recall_at_k;
        sum.mrr_at_10 += one.mrr_at_10;
    }
    Scores {
        ndcg_at_10: sum.ndcg_at_10 / count,
        recall_at_k: sum.recall_at_k / count,
        mrr_at_10: sum.mrr_at_10 / count,
    }
}

/// The smallest value that at least so many percent of all are not above (nearest rank); 0 of none.
pub fn percentile(values: impl Iterator<Item = f64>, percent: usize) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let rank = (values.len() * percent).div_ceil(100);
    values.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(gains: &[(&str, f64)]) -> BTreeMap<String, f64> {
        gains.iter().map(|(id, gain)| ((*id).to_owned(), *gain)).collect()
    }

    fn list(ids: &[&str]) -> Vec<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    #[test]
    fn scores_by_hand() {
        let (judged, ranked) = (judged(&[("a", 1.0), ("b", 1.0)]), list(&["x", "a", "y", "b"]));
        let scores = score(&ranked, &judged, 100);
        // (1/log2 3 + 1/log2 5) / (1 + 1/log2 3) = (0.630930 + 0.430677) / 1.630930
        assert!((scores.ndcg_at_10 - 0.650_921).abs() < 1e-6, "{scores:?}");
        assert_eq!((scores.recall_at_k, scores.mrr_at_10), (1.0, 0.5));
        assert_eq!(score(&ranked, &judged, 2).recall_at_k, 0.5);
        assert_eq!(score(&ranked, &judged, 1).recall_at_k, 0.0);
    }

    #[test]
    fn gains_count_and_places_behind_the_tenth_do_not() {
        let judged = judged(&[("a", 2.0), ("b", 1.0)]);
        assert_eq!(
            score(&list(&["a", "b"]), &judged, 100),
            Scores { ndcg_at_10: 1.0, recall_at_k: 1.0, mrr_at_10: 1.0 }
        );
        // (1 + 2/log2 3) / (2 + 1/log2 3) = 2.261860 / 2.630930
        let turned = score(&list(&["b", "a"]), &judged, 100).ndcg_at_10;
        assert!((turned - 0.859_719).abs() < 1e-6, "{turned}");
        let late: Vec<String> = (0..10).map(|n| format!("x{n}")).chain(["a".to_owned()]).collect();
        assert_eq!(score(&late, &judged, 11), Scores { ndcg_at_10: 0.0, recall_at_k: 0.5, mrr_at_10: 0.0 });
    }

    #[test]
    fn percentiles_are_values_that_came() {
        let values = || (1..=20).rev().map(f64::from);
        assert_eq!((percentile(values(), 50), percentile(values(), 95)), (10.0, 19.0));
        assert_eq!((percentile([7.0].into_iter(), 95), percentile(std::iter::empty(), 50)), (7.0, 0.0));
    }
}
