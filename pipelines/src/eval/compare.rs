//! Two plans, query by query.

use serde::Serialize;

/// nDCG@10 of two plans for one query.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Duel {
    /// Query id.
    pub id: String,
    /// Its text.
    pub text: String,
    /// Of the first plan.
    pub a: f64,
    /// Of the second plan.
    pub b: f64,
}

/// Who won.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Name of the first plan.
    pub a: String,
    /// Name of the second plan.
    pub b: String,
    /// All queries, the largest difference first, then by id.
    pub duels: Vec<Duel>,
    /// Queries that the second plan does better.
    pub wins: usize,
    /// Queries that the second plan does worse.
    pub losses: usize,
    /// Queries that they do alike, but for rounding.
    pub ties: usize,
    /// Mean of the differences, second less first.
    pub mean: f64,
    /// See [`p_value`].
    pub p: f64,
}

/// Differences below this are those of rounding.
const TIE: f64 = 1e-9;

impl Duel {
    fn difference(&self) -> f64 {
        let difference = self.b - self.a;
        if difference.abs() < TIE { 0.0 } else { difference }
    }
}

impl Comparison {
    /// Of these queries.
    pub fn of(a: String, b: String, mut duels: Vec<Duel>) -> Self {
        duels.sort_by(|x, y| {
            let size = |duel: &Duel| duel.difference().abs();
            size(y).total_cmp(&size(x)).then_with(|| x.id.cmp(&y.id))
        });
        let differences: Vec<f64> = duels.iter().map(Duel::difference).collect();
        let count = |of: fn(&f64) -> bool| differences.iter().filter(|difference| of(difference)).count();
        Self {
            a,
            b,
            wins: count(|difference| *difference > 0.0),
            losses: count(|difference| *difference < 0.0),
            ties: count(|difference| *difference == 0.0),
            mean: differences.iter().sum::<f64>() / differences.len().max(1) as f64,
            p: p_value(&differences),
            duels,
        }
    }
}

/// Most differences whose signs are tried in all ways.
const EXACT_MAX: usize = 16;
/// Ways that are drawn otherwise.
const DRAWS: u64 = 100_000;
/// Share of the sum below which two sums are the same, but for rounding.
const SAME: f64 = 1e-12;

/// How often a mean difference at least as large, in either direction, would come about if the two plans were alike: the
/// paired randomisation test (Smucker, Allan, Carterette 2007, §3.3). All signs of up to 16 differences that are not 0 are
/// tried; of more, 100,000 draws of a fixed seed.
pub fn p_value(differences: &[f64]) -> f64 {
    let differences: Vec<f64> = differences.iter().copied().filter(|difference| *difference != 0.0).collect();
    let observed = differences.iter().sum::<f64>().abs();
    let least = observed - SAME * differences.iter().map(|difference| difference.abs()).sum::<f64>();
    let signed = |signs: &mut dyn FnMut() -> bool| {
        differences.iter().map(|difference| if signs() { *difference } else { -difference }).sum::<f64>()
    };
    if differences.len() <= EXACT_MAX {
        let ways = 1u32 << differences.len();
        let as_large = (0..ways).filter(|way| {
            let mut rest = *way;
            let mut sign = || {
                let sign = rest & 1 == 1;
                rest >>= 1;
                sign
            };
            signed(&mut sign).abs() >= least
        });
        return as_large.count() as f64 / f64::from(ways);
    }
    let mut random = SplitMix(0);
    let mut as_large = 0;
    for _ in 0..DRAWS {
        let (mut bits, mut left) = (0, 0);
        let mut sign = || {
            if left == 0 {
                (bits, left) = (random.next(), u64::BITS);
            }
            let sign = bits & 1 == 1;
            (bits, left) = (bits >> 1, left - 1);
            sign
        };
        as_large += u64::from(signed(&mut sign).abs() >= least);
    }
    // What was observed is one of the ways.
    (as_large + 1) as f64 / (DRAWS + 1) as f64
}

/// splitmix64: the same sequence everywhere.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn duel(id: &str, a: f64, b: f64) -> Duel {
        Duel { id: id.to_owned(), text: String::new(), a, b }
    }

    #[test]
    fn the_largest_moves_come_first() {
        let duels =
            vec![duel("q1", 0.5, 0.5), duel("q2", 0.2, 0.4), duel("q4", 1.0, 0.0), duel("q3", 0.4, 0.2)];
        let comparison = Comparison::of("a".into(), "b".into(), duels);
        let order: Vec<&str> = comparison.duels.iter().map(|duel| duel.id.as_str()).collect();
        assert_eq!(order, ["q4", "q2", "q3", "q1"]);
        assert_eq!((comparison.wins, comparison.losses, comparison.ties), (1, 2, 1));
        assert!((comparison.mean + 0.25).abs() < 1e-12);
    }

    #[test]
    fn a_plan_ties_with_itself() {
        let duels = (0..30).map(|n| duel(&format!("q{n}"), f64::from(n) / 30.0, f64::from(n) / 30.0));
        let comparison = Comparison::of("a".into(), "a".into(), duels.collect());
        assert_eq!((comparison.wins, comparison.losses, comparison.ties), (0, 0, 30));
        assert_eq!((comparison.mean, comparison.p), (0.0, 1.0));
    }

    #[test]
    fn few_differences_are_tried_in_all_ways() {
        // All of one sign: 2 of 2^n ways are as large.
        assert_eq!(p_value(&[0.1, 0.3, 0.2]), 2.0 / 8.0);
        // The sums are ±0.6, ±0.4, ±0.2 and twice 0.
        assert_eq!(p_value(&[0.3, 0.1, -0.2]), 6.0 / 8.0);
        assert_eq!(p_value(&[]), 1.0);
    }

    #[test]
    fn many_differences_are_drawn() {
        let alike: Vec<f64> = (0..40).map(|n| if n % 2 == 0 { 0.1 } else { -0.1 }).collect();
        assert_eq!(p_value(&alike), 1.0);
        // 14 of 20 of one size against 6: the two-sided sign test says 0.1153.
        let more: Vec<f64> = (0..20).map(|n| if n < 14 { 0.1 } else { -0.1 }).collect();
        let p = p_value(&more);
        assert!((p - 0.1153).abs() < 0.005, "{p}");
        assert_eq!(p, p_value(&more), "the same every time");
    }
}
