//! Fusion.
use freshet_schemas::Fusion; use crate::index::Hit; use std::collections::BTreeMap;
/// Fused.
pub struct Fused { /// id
 pub id: String, /// chunk
 pub chunk: u32, /// score
 pub score: f64, /// c
 pub contributions: Vec<Option<f64>> }
/// Fuse.
pub fn fuse(fusion: &Fusion, legs: &[Vec<Hit>]) -> Vec<Fused> {
    let mut m: BTreeMap<String, Fused> = BTreeMap::new();
    for (l, leg) in legs.iter().enumerate() {
        let n = leg.len() as f64; let mean = leg.iter().map(|h| h.score).sum::<f64>() / n;
        let sd = (leg.iter().map(|h| (h.score - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
        for (r, h) in leg.iter().enumerate() {
            let part = match fusion { Fusion::Rrf { k, weights } => 1.0 / ((r as f64 + 1.0) / weights.get(l).copied().unwrap_or(1.0) + k - 1.0),
                Fusion::Dbsf => if leg.len() < 2 || leg.iter().all(|x| x.score == leg[0].score) { 0.5 } else { (h.score - (mean - 3.0 * sd)) / (6.0 * sd) } };
            let f = m.entry(h.id.clone()).or_insert_with(|| Fused { id: h.id.clone(), chunk: h.chunk, score: 0.0, contributions: vec![None; legs.len()] });
            f.score += part; f.contributions[l] = Some(part);
        }
    }
    let mut v: Vec<Fused> = m.into_values().collect(); v.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.id.cmp(&b.id))); v
}
