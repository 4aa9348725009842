//! The formulas by hand, and against what Qdrant's client computes.

use freshet_schemas::Fusion;
use serde::Deserialize;

use super::{Fused, Leg, dbsf, fuse, fuse_legs, rrf};
use crate::index::Hit;

fn leg(hits: &[(&str, u32, f64)]) -> Vec<Hit> {
    hits.iter().map(|(id, chunk, score)| Hit { id: (*id).into(), chunk: *chunk, score: *score }).collect()
}

fn legs(lists: &[Vec<Hit>]) -> Vec<Leg<'_>> {
    lists.iter().map(|hits| Leg { hits, chunked: true }).collect()
}

fn ids(fused: &[Fused]) -> Vec<&str> {
    fused.iter().map(|hit| hit.id.as_str()).collect()
}

#[test]
fn rrf_sums_reciprocal_ranks() {
    let lists = [leg(&[("a", 0, 9.0), ("b", 0, 8.0)]), leg(&[("b", 0, 0.3), ("c", 0, 0.2), ("a", 0, 0.1)])];
    let fused = rrf(&legs(&lists), 2.0, &[]);
    assert_eq!(ids(&fused), ["b", "a", "c"]);
    assert_eq!(fused[0].contributions, [Some(1.0 / 3.0), Some(1.0 / 2.0)]);
    assert_eq!(fused[1].score, 1.0 / 2.0 + 1.0 / 4.0);
    assert_eq!(fused[2].contributions, [None, Some(1.0 / 3.0)]);
    let weighted = rrf(&legs(&lists), 60.0, &[3.0, 0.0]);
    assert_eq!(ids(&weighted), ["a", "b", "c"]);
    assert_eq!(weighted[0].score, 1.0 / (1.0 / 3.0 + 59.0));
    assert_eq!(weighted[2].contributions, [None, Some(0.0)]);
}

#[test]
fn ties_go_by_id_and_legs_are_alike() {
    let (one, other) = (leg(&[("b", 0, 1.0), ("a", 0, 0.5)]), leg(&[("a", 0, 7.0), ("b", 0, 6.0)]));
    let (lists, mirrored) = ([one.clone(), other.clone()], [other, one]);
    for fusion in [Fusion::Rrf { k: 2.0, weights: Vec::new() }, Fusion::Dbsf] {
        let fused = fuse(&fusion, &lists);
        assert_eq!(ids(&fused), ["a", "b"]);
        assert_eq!(fused[0].score, fused[1].score);
        assert_eq!(ids(&fuse(&fusion, &mirrored)), ["a", "b"]);
    }
}

#[test]
fn dbsf_places_scores_within_three_deviations() {
    let lists = [leg(&[("a", 0, 3.0), ("b", 0, 2.0), ("c", 0, 1.0)]), leg(&[("c", 0, 0.7)]), leg(&[])];
    let fused = dbsf(&legs(&lists));
    // Mean 2, sample deviation 1: from −1, 6 wide.
    assert_eq!(fused[0].contributions, [Some(2.0 / 6.0), Some(0.5), None]);
    assert_eq!(ids(&fused), ["c", "a", "b"]);
    assert_eq!((fused[1].score, fused[2].score), (4.0 / 6.0, 0.5));
}

#[test]
fn dbsf_of_equal_scores_is_one_half() {
    // Their mean rounds: the variance is not 0.
    let lists =
        [leg(&[("a", 0, 0.1), ("b", 0, 0.1), ("c", 0, 0.1)]), leg(&[("d", 0, 1e-200), ("e", 0, 0.0)])];
    assert!(dbsf(&legs(&lists)).iter().all(|hit| hit.score == 0.5));
    // Ten equal scores and one far off: more than 3σ below the mean, and not clamped.
    let ids: Vec<String> = (0..20).map(|number| format!("d{number:02}")).collect();
    let hits: Vec<(&str, u32, f64)> = ids.iter().map(|id| (id.as_str(), 0, f64::from(id != "d19"))).collect();
    assert!(dbsf(&legs(&[leg(&hits)])).last().is_some_and(|hit| hit.score < 0.0 && hit.id == "d19"));
}

#[test]
fn the_chunk_is_that_of_the_best_rank_in_a_chunked_leg() {
    let sparse = leg(&[("a", 0, 9.0), ("b", 0, 8.0), ("d", 0, 1.0)]);
    let dense = leg(&[("c", 4, 0.9), ("a", 2, 0.8), ("b", 1, 0.7)]);
    let multi = leg(&[("b", 0, 30.0), ("a", 3, 20.0)]);
    let legs =
        [(&sparse, false), (&dense, true), (&multi, true)].map(|(hits, chunked)| Leg { hits, chunked });
    let fused = fuse_legs(&Fusion::Dbsf, &legs);
    let chunk = |id: &str| fused.iter().find(|hit| hit.id == id).map(|hit| hit.chunk);
    assert_eq!(["a", "b", "c", "d"].map(chunk), [Some(2), Some(0), Some(4), Some(0)]);
    let guessed = fuse(&Fusion::Dbsf, &[sparse.clone(), dense.clone(), multi.clone()]);
    assert_eq!(guessed, fused);
}

/// A case of `tests/fixtures/fusion_qdrant.json`; its generator is beside it.
#[derive(Debug, Deserialize)]
struct Case {
    method: String,
    k: Option<f64>,
    weights: Option<Vec<f64>>,
    legs: Vec<Vec<(String, f64)>>,
    points: Vec<(String, f64)>,
}

/// The client sums in the same order and in doubles; only the shape of the formulas differs.
const TOLERANCE: f64 = 1e-9;

#[test]
fn fusions_are_those_of_qdrant() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/fusion_qdrant.json");
    let cases = std::fs::read_to_string(path).expect("the fixture is committed");
    let cases: Vec<Case> = serde_json::from_str(&cases).expect("cases");
    assert!(cases.len() >= 100, "{} cases", cases.len());
    for case in cases {
        let hit = |(id, score): &(String, f64)| Hit { id: id.clone(), chunk: 0, score: *score };
        let legs: Vec<Vec<Hit>> = case.legs.iter().map(|leg| leg.iter().map(hit).collect()).collect();
        let fusion = match case.method.as_str() {
            "dbsf" => Fusion::Dbsf,
            _ => Fusion::Rrf { k: case.k.unwrap_or(2.0), weights: case.weights.clone().unwrap_or_default() },
        };
        let fused = fuse(&fusion, &legs);
        assert_eq!(fused.len(), case.points.len(), "{case:?}");
        for (place, (found, (id, score))) in fused.iter().zip(&case.points).enumerate() {
            assert!((found.score - score).abs() < TOLERANCE, "place {place}: {found:?} in {case:?}");
            let near = |other: &(String, f64)| other.0 != *id && (other.1 - score).abs() < TOLERANCE;
            assert!(found.id == *id || case.points.iter().any(near), "place {place}: {found:?} in {case:?}");
        }
    }
}
