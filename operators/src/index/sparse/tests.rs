//! Heads, sealed and merged indexes against sums written out.

use proptest::prelude::*;

use super::*;
use crate::index::bits::Bits;
use crate::index::{Scoring, TokenCoding};
use freshet_schemas::{Params, VectorKind};
use std::borrow::Cow;

fn spec(scoring: Scoring) -> FieldSpec {
    FieldSpec {
        name: "sparse".into(),
        kind: VectorKind::Sparse,
        size: 0,
        scoring,
        metric: crate::index::Metric::Dot,
        factory: String::new(),
        coding: TokenCoding::Int8,
    }
}

const BM25: Scoring = Scoring::Bm25 { k1: 1.2, b: 0.75 };

/// Terms that are hashes, ascending with their number.
fn term(number: u64) -> u64 {
    number * 0x0001_0000_0001
}

fn vector(terms: &std::collections::BTreeMap<u64, f32>) -> SparseVector {
    SparseVector {
        indices: terms.keys().map(|&number| term(number)).collect(),
        values: terms.values().copied().collect(),
    }
}

/// The formulas of the module, row by row.
fn expected(
    vectors: &[SparseVector],
    scoring: Scoring,
    terms: &[(u64, f64)],
    mean: f64,
    visible: &RowSet<'_>,
    want: usize,
) -> Vec<RowHit> {
    let mut hits = Vec::new();
    for row in visible.to_vec() {
        let vector = &vectors[row as usize];
        let length: f64 = vector.values.iter().map(|&v| f64::from(v)).sum();
        let mut score = None;
        for &(term, query_weight) in terms {
            let Ok(place) = vector.indices.binary_search(&term) else { continue };
            let weight = f64::from(vector.values[place]);
            let share = match scoring {
                Scoring::Dot | Scoring::Idf => weight,
                Scoring::Bm25 { k1, b } => {
                    let (k1, b) = (f64::from(k1), f64::from(b));
                    let share = weight / (weight + k1 * (1.0 - b + b * length / mean));
                    if share.is_finite() { share } else { 0.0 }
                }
            };
            score = Some(score.unwrap_or(0.0) + query_weight * share);
        }
        hits.extend(score.map(|score| RowHit { row, score }));
    }
    hits.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.row.cmp(&b.row)));
    hits.truncate(want);
    hits
}

fn sorted(mut hits: Vec<RowHit>, want: usize) -> Vec<RowHit> {
    hits.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.row.cmp(&b.row)));
    hits.truncate(want);
    hits
}

fn row(scoring: Scoring, signed: bool) -> BoxedStrategy<SparseVector> {
    let weight = match scoring {
        Scoring::Bm25 { .. } => prop_oneof![9 => (1u8..4).prop_map(f32::from), 1 => Just(300.0)].boxed(),
        // As of a learned sparse model: many different ones, so that levels are steps.
        Scoring::Dot | Scoring::Idf if !signed => prop_oneof![Just(0.5f32), 0.001f32..2.0].boxed(),
        Scoring::Dot | Scoring::Idf => prop_oneof![Just(0.5f32), Just(1.0), Just(-0.25), 0.0f32..2.0].boxed(),
    };
    // Few frequent terms and many rare ones: lists of many blocks and of a few rows.
    let number = prop_oneof![4 => 0u64..4, 2 => 4u64..40, 1 => 40u64..400];
    prop::collection::btree_map(number, weight, 0..7).prop_map(|terms| vector(&terms)).boxed()
}

fn case() -> impl Strategy<Value = (Scoring, Vec<SparseVector>)> {
    let of = |scoring, signed| {
        let rows = prop::collection::vec(row(scoring, signed), 1..900);
        rows.prop_map(move |vectors| (scoring, vectors))
    };
    let flat = Scoring::Bm25 { k1: 0.9, b: 0.0 };
    prop_oneof![of(BM25, false), of(Scoring::Dot, true), of(Scoring::Dot, false), of(flat, false)]
}

/// Rows on their way to be sealed.
fn gathered(spec: &FieldSpec, vectors: &[SparseVector], written: Option<Vec<u8>>) -> Gathered {
    let known = written.is_some();
    let mut rows = Gathered::new(spec, written);
    for SparseVector { indices, values } in vectors {
        rows.push((!known).then_some(indices), values).expect("a row that fits");
    }
    rows
}

/// An index read back from what it writes, and its weights.
fn written(index: &SparseRows, vectors: &[SparseVector]) -> Result<SparseRows, IndexError> {
    gathered(&index.spec, vectors, index.write().expect("bytes")).seal()
}

/// All that an index holds.
fn debug(index: &SparseRows) -> String {
    match &index.form {
        Form::Head(head) => format!("{head:?}"),
        Form::Sealed(sealed) => format!("{sealed:?}"),
    }
}

#[test]
fn postings_of_other_rows_or_torn_ones_are_refused() {
    for scoring in [BM25, Scoring::Dot] {
        let (vectors, index) = many(scoring, 3000);
        let back = written(&index, &vectors).expect("its own");
        back.check();
        assert_eq!(debug(&back), debug(&index));
        let bytes = index.write().expect("bytes").expect("a sealed index");
        let refused = |vectors: &[SparseVector], bytes: Vec<u8>| {
            let read = gathered(&index.spec, vectors, Some(bytes)).seal();
            read.err().expect("an error").to_string()
        };
        for cut in (0..bytes.len()).step_by(97) {
            assert!(refused(&vectors, bytes[..cut].to_vec()).contains("torn"), "cut at {cut}");
            let mut turned = bytes.clone();
            turned[cut] ^= 0x10;
            assert!(refused(&vectors, turned).contains("torn"), "turned at {cut}");
        }
        assert!(refused(&vectors[1..], bytes.clone()).contains("its postings are of 3000 rows"));
        // As many rows and terms, at other places.
        let mut moved = vectors.clone();
        let long = moved.iter().position(|row| row.indices.len() > 2).expect("a long row");
        let short = moved.iter().position(|row| row.indices.is_empty()).expect("an empty row");
        moved.swap(long, short);
        assert!(refused(&moved, bytes).contains("not those of its postings"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Whatever is pruned, the best rows and every bit of their scores are those of the formulas: in heads, in sealed
    /// indexes and in merged ones, whatever is visible.
    #[test]
    fn finds_what_the_formulas_say(
        (scoring, vectors) in case(),
        parts in 1usize..4,
        seed in any::<u64>(),
        queries in prop::collection::vec((prop::collection::btree_map(prop_oneof![0u64..6, 4u64..50, 40u64..420], 0.01f64..3.0, 1..6), 0.5f64..9.0, 1usize..30, 0u8..5), 1..8),
    ) {
        let spec = spec(scoring);
        let mut state = seed;
        let mut chance = || { state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407); state >> 33 };
        let mut heads: Vec<SparseRows> = (0..parts).map(|_| SparseRows::head(&spec).expect("a head")).collect();
        let mut picks = Vec::new();
        let mut merged = Vec::new();
        let mut of_first = Vec::new();
        for vector in &vectors {
            let part = chance() as usize % parts;
            let row = heads[part].len() as Row;
            heads[part].push(vector).expect("a vector that fits");
            if part == 0 { of_first.push(vector.clone()); }
            if chance() % 5 > 0 {
                picks.push(Pick { from: part as u32, row });
                merged.push(vector.clone());
            }
        }
        let from: Vec<&SparseRows> = heads.iter().collect();
        let sealed = SparseRows::seal(&spec, &from, &picks).expect("a sealed index");
        let all: Vec<Pick> = (0..sealed.len() as Row).map(|row| Pick { from: 0, row }).collect();
        let again = SparseRows::seal(&spec, &[&sealed], &all).expect("a sealed index");
        let (back, told) = (debug(&written(&sealed, &merged).expect("its postings")), debug(&sealed));
        prop_assert_eq!(&back, &told, "read back");
        let (unwritten, told) = (debug(&gathered(&spec, &merged, None).seal().expect("rows")), debug(&sealed));
        prop_assert_eq!(&unwritten, &told, "built anew");
        for (number, vector) in merged.iter().enumerate() {
            prop_assert_eq!(&sealed.vector(number as Row), vector);
            prop_assert_eq!(&again.vector(number as Row), vector);
        }
        let params = Params::default();
        for (index, vectors) in [(&heads[0], &of_first), (&sealed, &merged), (&again, &merged)] {
            index.check();
            for (terms, mean, want, hidden) in &queries {
                let terms: Vec<(u64, f64)> = terms.iter().map(|(&number, &weight)| (term(number), weight)).collect();
                let mut bits = Bits::all(vectors.len());
                (0..vectors.len() as Row).filter(|row| (row * 7 + 3) % 5 < u32::from(*hidden)).for_each(|row| bits.remove(row));
                let visible = RowSet::of(Cow::Borrowed(&bits));
                let probe = Probe::Sparse { terms: terms.clone(), length_mean: *mean };
                let right = expected(vectors, scoring, &terms, *mean, &visible, usize::MAX);
                let search = Search { probe: &probe, visible: &visible, want: *want, above: f64::NEG_INFINITY, params: &params };
                let found = index.search(&search).expect("a probe that fits");
                let best: Vec<RowHit> = right.iter().take(*want).copied().collect();
                prop_assert_eq!(&sorted(found.hits.clone(), *want), &best);
                prop_assert!(!found.all || found.hits.len() == right.len());
                prop_assert_eq!(sorted(index.scan(&probe, &visible).expect("a probe"), usize::MAX), right.clone());
                // A score that is known already leaves out only what is worse.
                if let Some(middle) = best.get(best.len() / 2) {
                    let found = index.search(&Search { above: middle.score, ..search }).expect("a probe that fits");
                    let useful = |hits: Vec<RowHit>| -> Vec<RowHit> { hits.into_iter().filter(|hit| hit.score >= middle.score).collect() };
                    prop_assert_eq!(useful(sorted(found.hits, *want)), useful(best.clone()));
                }
            }
        }
    }
}

/// So many rows that a search goes over several windows, and every term's list over many blocks.
fn many(scoring: Scoring, rows: usize) -> (Vec<SparseVector>, SparseRows) {
    let mut state = 7u64;
    let mut below = |end: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % end
    };
    let mut vectors = Vec::with_capacity(rows);
    for _ in 0..rows {
        let mut terms = std::collections::BTreeMap::new();
        for _ in 0..below(8) {
            // Small numbers are frequent, and rows with the same few terms tie.
            let bits = below(9);
            let number = below(2 << bits);
            *terms.entry(number).or_insert(0.0f32) += 1.0;
        }
        vectors.push(vector(&terms));
    }
    let mut head = SparseRows::head(&spec(scoring)).expect("a head");
    vectors.iter().for_each(|vector| head.push(vector).expect("a vector that fits"));
    let picks: Vec<Pick> = (0..rows as Row).map(|row| Pick { from: 0, row }).collect();
    (vectors, SparseRows::seal(&spec(scoring), &[&head], &picks).expect("a sealed index"))
}

/// Over several windows, for few and thousands of best rows, with query weights of any sign, in sets of many rows and
/// of few: always the rows and bits of the formulas.
#[test]
fn windows_signs_and_sizes() {
    const ROWS: usize = 30_000;
    for scoring in [BM25, Scoring::Bm25 { k1: 0.9, b: 0.0 }, Scoring::Dot] {
        let (vectors, sealed) = many(scoring, ROWS);
        let params = Params::default();
        for terms in [
            vec![(0, 0.3), (1, 0.7), (9, 2.0), (200, 5.5)],
            vec![(3, 1.0), (5, 1.0), (100, 1.0)],
            vec![(0, -0.5), (2, 1.5), (60, 3.0)],
            vec![(1, 0.0), (4, 1e-30), (30, 2.0)],
            vec![(2, -1.0), (3, -2.0)],
        ] {
            let terms: Vec<(u64, f64)> =
                terms.iter().map(|&(number, weight)| (term(number), weight)).collect();
            for (mean, part) in [(0.8, 1), (3.0, 2), (40.0, 3), (3.0, 100), (3.0, 5000)] {
                let mut bits = Bits::all(ROWS);
                (0..ROWS as Row).filter(|row| row % part != part / 2).for_each(|row| bits.remove(row));
                let visible = RowSet::of(Cow::Borrowed(&bits));
                let probe = Probe::Sparse { terms: terms.clone(), length_mean: mean };
                let right = expected(&vectors, scoring, &terms, mean, &visible, usize::MAX);
                for want in [1, 10, 1000, 7000] {
                    let best: Vec<RowHit> = right.iter().take(want).copied().collect();
                    let reached = best.get(best.len() / 2).map_or(f64::NEG_INFINITY, |hit| hit.score);
                    for above in [f64::NEG_INFINITY, reached] {
                        let search =
                            Search { probe: &probe, visible: &visible, want, above, params: &params };
                        let found = sorted(sealed.search(&search).expect("a probe that fits").hits, want);
                        let useful = |hits: &[RowHit]| -> Vec<RowHit> {
                            hits.iter().filter(|hit| hit.score >= above).copied().collect()
                        };
                        assert_eq!(
                            useful(&found),
                            useful(&best),
                            "{scoring:?} {terms:?} {mean} {part} {want}"
                        );
                    }
                }
                let rows: Vec<Row> = right.iter().take(50).map(|hit| hit.row).collect();
                let scores: Vec<Option<f64>> = right.iter().take(50).map(|hit| Some(hit.score)).collect();
                assert_eq!(sealed.score(&probe, &rows).expect("a probe that fits"), scores);
            }
        }
    }
}
