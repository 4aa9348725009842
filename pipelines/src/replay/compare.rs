//! Two lists of hits for one query: what entered, what left, what moved, and how much that is.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{LoggedQuery, Replayed};

/// Persistence of rank-biased overlap: how likely a reader goes on to the next hit. With 0.9 the first ten ranks have 86 %
/// of the weight (Webber, Moffat and Zobel 2010, §4.3).
const RBO_P: f64 = 0.9;
/// Hits that the measures "at 10" look at.
const TOP: usize = 10;

/// A hit and its rank, from 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hit {
    /// Document id.
    pub id: String,
    /// Its rank on the side where it is.
    pub rank: usize,
}

/// A hit that is on both sides, at different ranks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Moved {
    /// Document id.
    pub id: String,
    /// Its rank before, from 1.
    pub from: usize,
    /// Its rank after.
    pub to: usize,
}

/// A query on both sides.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Id of the query in the log.
    pub id: String,
    /// Its text, if it has one.
    pub text: Option<String>,
    /// Hits that are only on the second side, by rank.
    pub entered: Vec<Hit>,
    /// Hits that are only on the first side, by rank.
    pub left: Vec<Hit>,
    /// Hits on both sides at different ranks, by their rank on the second.
    pub moved: Vec<Moved>,
    /// Whether the first hit is the same.
    pub same_top_1: bool,
    /// Whether the first ten hits are the same, in the same order.
    pub same_top_10: bool,
    /// Share of the first ten hits that both sides have; of the longer side, where there are fewer.
    pub overlap_at_10: f64,
    /// Rank-biased overlap, from 0 to 1.
    pub rbo: f64,
    /// Why it cannot be compared: its error on either side. Its measures are 0 then, and count in no mean.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// All queries of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Queries.
    pub queries: usize,
    /// Those that got an error on either side.
    pub failed: usize,
    /// Those whose hits are not the same.
    pub changed: usize,
    /// Share of those without an error whose first hit is the same.
    pub same_top_1: f64,
    /// Share of those without an error whose first ten hits are the same, in order.
    pub same_top_10: f64,
    /// Mean of their overlap at 10.
    pub overlap_at_10: f64,
    /// Mean of their rank-biased overlap.
    pub rbo: f64,
}

impl Comparison {
    /// Whether the hits are not the same.
    pub fn is_changed(&self) -> bool {
        !(self.entered.is_empty() && self.left.is_empty() && self.moved.is_empty())
    }
}

/// Compares both sides query by query. Biggest changes first: rank-biased overlap ascending, then ids; errors are last.
pub fn compare(queries: &[LoggedQuery], first: &[Replayed], second: &[Replayed]) -> Vec<Comparison> {
    let sides = queries.iter().zip(first.iter().zip(second));
    let mut all: Vec<Comparison> = sides.map(|(query, (a, b))| one(query, a, b)).collect();
    all.sort_by(|a, b| {
        let failed = a.error.is_some().cmp(&b.error.is_some());
        failed.then(a.rbo.total_cmp(&b.rbo)).then_with(|| a.id.cmp(&b.id))
    });
    all
}

fn one(query: &LoggedQuery, first: &Replayed, second: &Replayed) -> Comparison {
    let mut comparison = Comparison {
        id: query.id.clone(),
        text: query.text(),
        entered: Vec::new(),
        left: Vec::new(),
        moved: Vec::new(),
        same_top_1: false,
        same_top_10: false,
        overlap_at_10: 0.0,
        rbo: 0.0,
        error: None,
    };
    let (a, b) = match (first, second) {
        (Ok(a), Ok(b)) => (a, b),
        (Err(error), _) | (_, Err(error)) => {
            comparison.error = Some(error.clone());
            return comparison;
        }
    };
    let ranks = |hits: &[String]| -> BTreeMap<String, usize> {
        hits.iter().enumerate().map(|(place, id)| (id.clone(), place + 1)).collect()
    };
    let (before, after) = (ranks(a), ranks(b));
    for (place, id) in b.iter().enumerate() {
        let (id, to) = (id.clone(), place + 1);
        match before.get(&id) {
            None => comparison.entered.push(Hit { id, rank: to }),
            Some(&from) if from != to => comparison.moved.push(Moved { id, from, to }),
            Some(_) => {}
        }
    }
    let gone = a.iter().enumerate().filter(|(_, id)| !after.contains_key(*id));
    comparison.left = gone.map(|(place, id)| Hit { id: id.clone(), rank: place + 1 }).collect();
    let top = |hits: &[String]| hits[..hits.len().min(TOP)].to_vec();
    let (top_a, top_b) = (top(a), top(b));
    comparison.same_top_1 = a.first() == b.first();
    comparison.same_top_10 = top_a == top_b;
    let longer = top_a.len().max(top_b.len());
    let common = top_a.iter().filter(|id| top_b.contains(id)).count();
    comparison.overlap_at_10 = if longer == 0 { 1.0 } else { common as f64 / longer as f64 };
    comparison.rbo = rank_biased_overlap(a, b);
    comparison
}

/// How alike two ranked lists are, the first ranks counting most: rank-biased overlap, extrapolated beyond the ends of the
/// lists (Webber, Moffat and Zobel 2010, "A similarity measure for indefinite rankings", ACM TOIS 28(4), equation 32):
///
/// `(1−p)/p · (Σ_{d=1..l} X_d/d · p^d + Σ_{d=s+1..l} X_s·(d−s)/(s·d) · p^d) + ((X_l − X_s)/l + X_s/s) · p^l`
///
/// with `s` and `l` the lengths of the shorter and the longer list and `X_d` the number of ids that the first `d` of both
/// have in common. 1 for equal lists, two empty ones among them; 0 if nothing is common. No id may stand twice in a list.
pub fn rank_biased_overlap(a: &[String], b: &[String]) -> f64 {
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    if long.is_empty() {
        return 1.0;
    }
    if short.is_empty() {
        return 0.0;
    }
    let (s, p) = (short.len(), RBO_P);
    let mut seen = (BTreeSet::new(), BTreeSet::new());
    let (mut common, mut common_s, mut sum, mut weight) = (0usize, 0usize, 0.0, 1.0);
    for (place, id) in long.iter().enumerate() {
        let depth = place + 1;
        weight *= p;
        if let Some(other) = short.get(place) {
            seen.0.insert(other);
            common += usize::from(other != id && seen.1.contains(other));
        }
        seen.1.insert(id);
        common += usize::from(seen.0.contains(id));
        if depth <= s {
            common_s = common;
        }
        let mut agreement = common as f64 / depth as f64;
        if depth > s {
            agreement += common_s as f64 * (depth - s) as f64 / (s * depth) as f64;
        }
        sum += agreement * weight;
    }
    let tail = (common - common_s) as f64 / long.len() as f64 + common_s as f64 / s as f64;
    (1.0 - p) / p * sum + tail * weight
}

/// Sums up. Without a query that could be compared all shares and means are 0.
pub fn summary(compared: &[Comparison]) -> Summary {
    let well: Vec<&Comparison> = compared.iter().filter(|one| one.error.is_none()).collect();
    let mean = |of: &dyn Fn(&Comparison) -> f64| {
        well.iter().map(|one| of(one)).sum::<f64>() / well.len().max(1) as f64
    };
    Summary {
        queries: compared.len(),
        failed: compared.len() - well.len(),
        changed: well.iter().filter(|one| one.is_changed()).count(),
        same_top_1: mean(&|one| f64::from(u8::from(one.same_top_1))),
        same_top_10: mean(&|one| f64::from(u8::from(one.same_top_10))),
        overlap_at_10: mean(&|one| one.overlap_at_10),
        rbo: mean(&|one| one.rbo),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(ids: &str) -> Vec<String> {
        ids.chars().map(String::from).collect()
    }

    fn rbo(a: &str, b: &str) -> f64 {
        rank_biased_overlap(&list(a), &list(b))
    }

    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12, "found {found}, expected {expected}");
    }

    /// The formula as it is printed, with sets made anew at every depth.
    fn printed(a: &str, b: &str, p: f64) -> f64 {
        let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
        let (s, l) = (short.len(), long.len());
        let x = |d: usize| {
            let first = &short[..d.min(s)];
            long[..d].chars().filter(|id| first.contains(*id)).count() as f64
        };
        let one: f64 = (1..=l).map(|d| x(d) / d as f64 * p.powi(d as i32)).sum();
        let two: f64 = (s + 1..=l).map(|d| x(s) * (d - s) as f64 / (s * d) as f64 * p.powi(d as i32)).sum();
        (1.0 - p) / p * (one + two) + ((x(l) - x(s)) / l as f64 + x(s) / s as f64) * p.powi(l as i32)
    }

    #[test]
    fn rank_biased_overlap_is_the_printed_formula() {
        for (a, b) in [
            ("abc", "abc"),
            ("abc", "acb"),
            ("abcdefgh", "hgfedcba"),
            ("abc", "xyz"),
            ("ab", "abcdef"),
            ("fa", "abcdef"),
            ("abcdefghijkl", "bxcay"),
        ] {
            near(rbo(a, b), printed(a, b, RBO_P));
            near(rbo(b, a), rbo(a, b));
        }
        near(rbo("abcdefghijklmno", "abcdefghijklmno"), 1.0);
        near(rbo("", ""), 1.0);
        near(rbo("", "a"), 0.0);
        near(rbo("abc", "xyz"), 0.0);
        // By hand: depth 1 has nothing in common, depth 2 all: 0.1/0.9 · (0 + 1 · 0.81) + 1 · 0.81.
        near(rbo("ab", "ba"), 0.9);
        assert!(rbo("abcd", "abdc") > rbo("abcd", "bacd"), "the first ranks count most");
    }

    fn logged(id: &str) -> LoggedQuery {
        LoggedQuery { id: id.to_owned(), query: serde_json::Map::new() }
    }

    #[test]
    fn what_entered_left_and_moved() {
        let queries = [logged("same"), logged("failed"), logged("turned"), logged("other")];
        let no = || Err("unknown_plan: no".to_owned());
        let first = [Ok(list("abc")), Ok(list("abc")), Ok(list("abc")), Ok(list("abcdefghijkl"))];
        let second = [Ok(list("abc")), no(), Ok(list("bad")), Ok(list("abcdefghijlx"))];
        let all = compare(&queries, &first, &second);
        let order: Vec<&str> = all.iter().map(|one| one.id.as_str()).collect();
        assert_eq!(order, ["turned", "other", "same", "failed"], "biggest changes first");
        let turned = &all[0];
        let hit = |id: &str, rank| Hit { id: id.to_owned(), rank };
        let moved = |id: &str, from, to| Moved { id: id.to_owned(), from, to };
        assert_eq!((&turned.entered, &turned.left), (&vec![hit("d", 3)], &vec![hit("c", 3)]));
        assert_eq!(turned.moved, [moved("b", 2, 1), moved("a", 1, 2)]);
        near(turned.overlap_at_10, 2.0 / 3.0);
        let other = &all[1];
        assert_eq!((&other.entered, &other.left), (&vec![hit("x", 12)], &vec![hit("k", 11)]));
        assert_eq!(other.moved, [moved("l", 12, 11)]);
        assert!(other.same_top_10 && other.is_changed(), "only behind the first ten");
        let summary = summary(&all);
        assert_eq!((summary.queries, summary.failed, summary.changed), (4, 1, 2));
        near(summary.same_top_1, 2.0 / 3.0);
        near(summary.same_top_10, 2.0 / 3.0);
        near(summary.overlap_at_10, (1.0 + 1.0 + 2.0 / 3.0) / 3.0);
    }
}
