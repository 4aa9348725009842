//! Queries by example and stored vectors, against the twin.

use freshet_schemas::{Condition, Filter};

use super::*;
use crate::index::examples::Formula;
use crate::index::shard::Examples;

/// Compares a query by some examples, and vectors of some documents.
pub(super) fn compare(
    shard: &Shard,
    exact: &ExactShard,
    script: &mut Script,
    (time, field): (Time, usize),
    tolerance: f64,
) {
    let pairs = 1 + script.random.below(2) as usize;
    let count = 2 * pairs + 1;
    let formula = match script.random.below(4) {
        // Rounded token vectors may turn a comparison.
        0 if tolerance < 1e-3 => Formula::Best { positive: script.random.below(count as u64 + 1) as usize },
        1 if tolerance < 1e-3 => Formula::Discover,
        2 => Formula::Context,
        _ => Formula::Sum { positive: script.random.below(count as u64 + 1) as usize },
    };
    let count = if formula == Formula::Context { count - 1 } else { count };
    let probes: Vec<Probe> = (0..count).map(|_| script.probe(field)).collect();
    let k = script.random.below(12) as usize;
    let among = script.ids();
    let what = format!("field {field} at {time}, k {k}, {formula:?} of {probes:?}");
    for among in [None, Some(among.as_slice())] {
        let examples = Examples { probes: &probes, formula };
        let found = shard.by_examples(time, field, examples, k, None, among).expect("probes that fit");
        let expected = exact.by_examples(time, field, (&probes, formula), k, among);
        assert_same(&found, &expected, tolerance * count as f64, &what);
        // A filter that takes the place of the candidates.
        let filter =
            Filter { must: vec![Condition::HasId(sorted(among.unwrap_or_default()))], ..Filter::default() };
        let filtered =
            shard.by_examples(time, field, examples, k, Some(&filter), None).expect("probes that fit");
        let expected = exact.by_examples(time, field, (&probes, formula), k, Some(among.unwrap_or_default()));
        assert_same(&filtered, &expected, tolerance * count as f64, &what);
    }
    let wanted: Vec<(String, Option<u32>)> = among
        .iter()
        .map(|id| (id.clone(), (script.random.below(2) == 0).then(|| script.random.below(3) as u32)))
        .collect();
    assert_eq!(shard.vectors(time, field, &wanted), exact.vectors(time, field, &wanted), "{what}");
}

fn sorted(ids: &[String]) -> Vec<String> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids.dedup();
    ids
}

#[test]
fn a_document_whose_rows_lie_in_two_blocks_is_found_once() {
    let mut shard = open(vec![field("dense", VectorKind::Dense, 1)]).expect("a field");
    let rows =
        |best: u32| (0..5000u32).map(|row| dense_row(&[if row == best { 3.0 } else { 1.0 }])).collect();
    let puts = vec![dense_put("a", rows(10)), dense_put("b", rows(4990)), dense_put("c", rows(9999))];
    shard.apply(1, puts).expect("puts");
    let examples = Examples {
        probes: &[Probe::Dense(vec![1.0]), Probe::Dense(vec![0.5])],
        formula: Formula::Sum { positive: 1 },
    };
    let hits = shard.by_examples(1, 0, examples, 9, None, None).expect("hits");
    let hits: Vec<(&str, u32, f64)> =
        hits.iter().map(|hit| (hit.id.as_str(), hit.chunk, hit.score)).collect();
    assert_eq!(hits, [("a", 10, 1.5), ("b", 4990, 1.5), ("c", 0, 0.5)]);
}

#[test]
fn examples_that_do_not_fit_are_refused() {
    let mut shard = open(vec![field("dense", VectorKind::Dense, 1)]).expect("a field");
    shard.apply(1, vec![dense_put("a", vec![dense_row(&[1.0])])]).expect("a put");
    for probe in [Probe::Dense(vec![f32::NAN]), Probe::Dense(vec![1.0, 2.0]), Probe::Multi(vec![])] {
        let examples = Examples { probes: &[probe], formula: Formula::Sum { positive: 1 } };
        shard.by_examples(1, 0, examples, 1, None, None).expect_err("it does not fit");
    }
}
