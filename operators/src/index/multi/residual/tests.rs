//! Coded rows against what they were made from, and against each other.

use freshet_schemas::{Params, VectorKind};
use proptest::prelude::*;

use super::*;
use crate::index::bits::Bits;
use crate::index::rows::{Row, RowHit, RowIndex, RowSet, Search};
use crate::index::{FieldSpec, Metric, Probe, Scoring, TokenCoding, TokenMatrix};
use std::borrow::Cow;

/// Tokens of a row.
const TOKENS: usize = 16;

fn spec(size: usize) -> FieldSpec {
    FieldSpec {
        name: "tokens".into(),
        kind: VectorKind::Multi,
        size,
        scoring: Scoring::Dot,
        metric: Metric::Dot,
        factory: String::new(),
        coding: TokenCoding::Residual,
    }
}

/// Tokens of unit length around some directions.
struct Clusters {
    seed: u64,
    size: usize,
    centres: Vec<Vec<f32>>,
}

impl Clusters {
    fn new(size: usize, seed: u64) -> Self {
        let mut clusters = Self { seed, size, centres: Vec::new() };
        clusters.centres = (0..200).map(|_| clusters.noise()).collect();
        clusters
    }

    fn noise(&mut self) -> Vec<f32> {
        let mut next = || {
            self.seed =
                self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((self.seed >> 40) as f32 / (1u64 << 24) as f32).mul_add(2.0, -1.0)
        };
        (0..self.size).map(|_| next()).collect()
    }

    fn token(&mut self) -> Vec<f32> {
        let noise = self.noise();
        let centre = &self.centres[(self.seed >> 33) as usize % self.centres.len()];
        let token: Vec<f32> = centre.iter().zip(noise).map(|(centre, noise)| centre + 0.5 * noise).collect();
        let length = token.iter().map(|value| value * value).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
        token.into_iter().map(|value| value / length).collect()
    }

    /// A row: every thirteenth has no tokens, every seventh some of another length, one of them zero.
    fn row(&mut self, number: usize) -> TokenMatrix {
        let mut matrix = TokenMatrix { dim: self.size, ..TokenMatrix::default() };
        for token in 0..if number % 13 == 12 { 0 } else { TOKENS } {
            let values = self.token();
            let scale = values.iter().fold(0f32, |most, value| most.max(value.abs())) / 127.0;
            let zero = number % 7 == 6 && token == 3;
            let code = |value: &f32| if zero { 0 } else { (value / scale).round() as i8 };
            matrix.codes.extend(values.iter().map(code));
            matrix.scales.push(if number % 7 == 6 { 3.0 * scale } else { scale });
        }
        matrix
    }

    fn head(&mut self, rows: usize) -> TokenRows {
        let mut head = TokenRows::head(&spec(self.size)).unwrap();
        (0..rows).for_each(|number| head.push(&self.row(number)).unwrap());
        head
    }
}

/// Rows enough for a codebook.
const ENOUGH: usize = TOKENS_MIN / TOKENS * 11 / 10;

fn all(from: u32, rows: &TokenRows) -> Vec<Pick> {
    (0..rows.len() as Row).map(|row| Pick { from, row }).collect()
}

fn sealed(rows: &TokenRows) -> TokenRows {
    TokenRows::seal(&spec(rows.spec.size), &[rows], &all(0, rows)).unwrap()
}

fn coded_of(rows: &TokenRows) -> &Coded {
    match &rows.held {
        Held::Coded(coded) => coded,
        Held::Bytes { .. } => panic!("not coded"),
    }
}

fn floats(matrix: &TokenMatrix) -> Vec<Vec<f32>> {
    let rows = matrix.codes.chunks_exact(matrix.dim).zip(&matrix.scales);
    rows.map(|(codes, scale)| codes.iter().map(|&code| f32::from(code) * scale).collect()).collect()
}

fn length_of(token: &[f32]) -> f32 {
    token.iter().map(|value| value * value).sum::<f32>().sqrt()
}

/// What coding does to tokens.
#[derive(Clone, Copy, Debug)]
struct Fidelity {
    /// The mean cosine of tokens and what is left of them.
    cosine: f32,
    /// The most that a length changes, as part of it.
    stretch: f32,
}

fn fidelity(before: &TokenRows, after: &TokenRows) -> Fidelity {
    assert_eq!(before.len(), after.len());
    let (mut sum, mut count, mut stretch) = (0.0, 0, 0f32);
    for row in 0..before.len() as Row {
        let (before, after) = (floats(&before.vector(row)), floats(&after.vector(row)));
        assert_eq!(before.len(), after.len());
        for (before, after) in before.iter().zip(&after) {
            let (lengths, dot) = (
                (length_of(before), length_of(after)),
                before.iter().zip(after).map(|(a, b)| a * b).sum::<f32>(),
            );
            if lengths.0 == 0.0 {
                assert_eq!(lengths.1, 0.0, "a token of zero stays zero");
                continue;
            }
            stretch = stretch.max((lengths.1 / lengths.0 - 1.0).abs());
            sum += dot / lengths.0 / lengths.1;
            count += 1;
        }
    }
    Fidelity { cosine: sum / count as f32, stretch }
}

/// `search`, `scan` and `score` give the bits that MaxSim with the decoded tokens gives.
fn agree(rows: &TokenRows, clusters: &mut Clusters) {
    rows.check();
    let tokens: Vec<Vec<f32>> = (0..5).map(|_| clusters.token()).collect();
    let query = super::super::Query::new(&tokens, rows.spec.size);
    let probe = Probe::Multi(tokens);
    let numbers: Vec<Row> = (0..rows.len() as Row).collect();
    let by_hand = |&row: &Row| {
        let TokenMatrix { codes, scales, .. } = rows.vector(row);
        query.max_sim(Tokens { codes: &codes, scales: &scales })
    };
    let scores: Vec<Option<f64>> = numbers.iter().map(by_hand).collect();
    assert_eq!(rows.score(&probe, &numbers).unwrap(), scores);
    let mut visible = Bits::default();
    numbers.iter().for_each(|row| visible.push(row % 3 != 1));
    let expected: Vec<RowHit> = numbers
        .iter()
        .filter(|row| visible.contains(**row))
        .filter_map(|&row| scores[row as usize].map(|score| RowHit { row, score }))
        .collect();
    let set = RowSet::of(Cow::Borrowed(&visible));
    assert_eq!(rows.scan(&probe, &set).unwrap(), expected);
    let (above, params) = (f64::NEG_INFINITY, Params::default());
    let search = Search { probe: &probe, visible: &set, want: rows.len().max(1), above, params: &params };
    let mut found = rows.search(&search).unwrap().hits;
    found.sort_by_key(|hit| hit.row);
    assert_eq!(found, expected);
}

#[test]
fn a_code_is_short_and_close() {
    for (size, bytes, least) in [(128, 36, 0.9), (384, 36, 0.9), (1000, 36, 0.85), (20, 24, 0.99)] {
        let mut clusters = Clusters::new(size, 1);
        let head = clusters.head(ENOUGH);
        let rows = sealed(&head);
        let coded = coded_of(&rows);
        assert_eq!(coded.codes.len(), head.count() * bytes, "{size} dimensions");
        let Fidelity { cosine, stretch } = fidelity(&head, &rows);
        assert!(cosine >= least, "{size} dimensions: cosine {cosine}");
        assert!(stretch < 5e-3, "{size} dimensions: a length changes by {stretch}");
        agree(&rows, &mut clusters);
    }
}

#[test]
fn a_seal_is_the_same_every_time() {
    let head = Clusters::new(48, 2).head(ENOUGH);
    let (one, two) = (sealed(&head), sealed(&head));
    assert!(!Arc::ptr_eq(&coded_of(&one).book, &coded_of(&two).book));
    assert!(coded_of(&one).codes == coded_of(&two).codes, "codes differ from run to run");
    (0..one.len() as Row).for_each(|row| assert_eq!(one.vector(row), two.vector(row)));
}

#[test]
fn few_tokens_stay_as_they_are() {
    let mut clusters = Clusters::new(16, 3);
    let head = clusters.head(TOKENS_MIN / TOKENS - 1);
    let rows = sealed(&head);
    (0..rows.len() as Row).for_each(|row| assert_eq!(head.vector(row), rows.vector(row)));
    assert!(matches!(rows.held, Held::Bytes { .. }));
    agree(&rows, &mut clusters);
    // Tokens without any direction are no codebook.
    let mut head = TokenRows::head(&spec(1)).unwrap();
    let zeros = TokenMatrix { dim: 1, codes: vec![0; TOKENS_MIN], scales: vec![1.0; TOKENS_MIN] };
    head.push(&zeros).unwrap();
    assert_eq!(sealed(&head).vector(0), zeros);
}

#[test]
fn a_merge_keeps_the_larger_codebook_and_its_codes() {
    let mut clusters = Clusters::new(33, 4);
    let large = sealed(&clusters.head(ENOUGH + 50));
    let other = sealed(&clusters.head(ENOUGH));
    let head = clusters.head(90);
    let from = [&head, &other, &large];
    let mut picks: Vec<Pick> =
        all(0, &head).into_iter().chain(all(1, &other)).chain(all(2, &large)).collect();
    picks.sort_by_key(|pick| (pick.row % 5, pick.from, pick.row));
    picks.retain(|pick| pick.row % 4 != 1);
    let merged = TokenRows::seal(&spec(33), &from, &picks).unwrap();
    let book = &coded_of(&large).book;
    assert!(Arc::ptr_eq(book, &coded_of(&merged).book));
    let mut encoder = Encoder::new(book);
    let mut scratch = Scratch::default();
    for (pick, row) in picks.iter().zip(0..) {
        let source = from[pick.from as usize];
        let codes = coded_of(&merged).codes_of(merged.range(row));
        if pick.from == 2 {
            assert_eq!(codes, coded_of(&large).codes_of(large.range(pick.row)), "copied");
            assert_eq!(merged.vector(row), large.vector(pick.row));
        } else {
            let mut expected = Vec::new();
            encoder.encode(source.tokens(pick.row, &mut scratch), |code| expected.extend_from_slice(code));
            assert_eq!(codes, expected, "coded anew");
        }
    }
    agree(&merged, &mut clusters);
}

/// Read back from what they write.
fn back(rows: &TokenRows) -> TokenRows {
    let mut head = TokenRows::head(&rows.spec).unwrap();
    (0..rows.len() as Row).for_each(|row| head.extend_unknown(rows.range(row).len()).unwrap());
    head.seal_with(&rows.write().unwrap()).unwrap()
}

#[test]
fn codes_come_back_and_are_not_coded_again() {
    for size in [4, 33] {
        let mut clusters = Clusters::new(size, 8);
        let rows = sealed(&clusters.head(ENOUGH));
        let (one, other) = (back(&rows), back(&rows));
        one.check();
        assert_eq!(one.write(), rows.write());
        assert!((0..rows.len() as Row).all(|row| one.vector(row) == rows.vector(row)));
        agree(&one, &mut clusters);
        // Two books that are one, of two files.
        let picks: Vec<Pick> = all(0, &one).into_iter().chain(all(1, &other)).collect();
        let merged = TokenRows::seal(&spec(size), &[&one, &other], &picks).unwrap();
        let twice = [coded_of(&rows).codes.as_slice(), coded_of(&rows).codes.as_slice()].concat();
        assert!(coded_of(&merged).codes == twice, "copied");

        let bytes = rows.write().unwrap();
        let refused = |head: TokenRows, bytes: &[u8]| head.seal_with(bytes).err().unwrap().to_string();
        let head = |tokens| {
            let mut head = TokenRows::head(&spec(size)).unwrap();
            head.extend_unknown(tokens).unwrap();
            head
        };
        for cut in (0..bytes.len()).step_by(bytes.len() / 50) {
            assert!(refused(head(rows.count()), &bytes[..cut]).contains("torn"), "cut at {cut}");
            let mut turned = bytes.clone();
            turned[cut] ^= 0x40;
            assert!(refused(head(rows.count()), &turned).contains("torn"), "turned at {cut}");
        }
        assert!(refused(head(rows.count() - 1), &bytes).contains("and codes of"));
        assert!(refused(TokenRows::head(&spec(size + 1)).unwrap(), &bytes).contains("torn"));
    }
    assert_eq!(Clusters::new(4, 8).head(3).write(), None);
}

#[test]
fn a_codebook_is_outgrown() {
    let mut clusters = Clusters::new(4, 5);
    let first = sealed(&clusters.head(ENOUGH));
    let tokens = first.count();
    for (rows, outgrown) in [(10 * ENOUGH, false), (17 * ENOUGH, true)] {
        let head = clusters.head(rows);
        let picks: Vec<Pick> = all(0, &first).into_iter().chain(all(1, &head)).collect();
        let merged = TokenRows::seal(&spec(4), &[&first, &head], &picks).unwrap();
        let book = &coded_of(&merged).book;
        assert_eq!(!Arc::ptr_eq(book, &coded_of(&first).book), outgrown);
        assert_eq!(book.made_from(), if outgrown { merged.count() } else { tokens });
    }
}

/// Rows as an update of the payload alone leaves them: decoded, and copied to a head.
fn taken_over(rows: &TokenRows) -> TokenRows {
    let mut head = TokenRows::head(&rows.spec).unwrap();
    (0..rows.len() as Row).for_each(|row| head.push(&rows.vector(row)).unwrap());
    head
}

/// Documents are updated again and again without a change of their texts, so that their tokens are decoded and coded each
/// time. Under one codebook that costs next to nothing after the first time (measured: less than 0.00001 of the mean cosine
/// in 12 updates); each new codebook costs some more (0.015 for three in 384 dimensions), and there is one each time the
/// tokens have become sixteen times as many.
#[test]
fn updates_do_not_wear_tokens_out() {
    for size in [128, 384] {
        let mut clusters = Clusters::new(size, 6);
        let head = clusters.head(ENOUGH);
        let fresh = sealed(&head);
        let of_fresh = fidelity(&head, &fresh);
        let mut rows = sealed(&head);
        for update in 0..6 {
            let head_of = taken_over(&rows);
            let picks = all(1, &head_of);
            let next = TokenRows::seal(&spec(size), &[&rows, &head_of], &picks).unwrap();
            assert!(Arc::ptr_eq(&coded_of(&next).book, &coded_of(&rows).book));
            let now = fidelity(&head, &next);
            let holds = now.cosine >= of_fresh.cosine - 0.001 && now.stretch <= 5e-3;
            assert!(holds, "{size} dimensions, update {update}: {of_fresh:?} to {now:?}");
            rows = next;
        }
        for made in 1..=3 {
            let next = sealed(&taken_over(&rows));
            assert!(!Arc::ptr_eq(&coded_of(&next).book, &coded_of(&rows).book));
            let now = fidelity(&head, &next);
            let holds = now.cosine >= of_fresh.cosine - 0.02 && now.stretch <= 0.01;
            assert!(holds, "{size} dimensions, codebook {made}: {of_fresh:?} to {now:?}");
            rows = next;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn any_dimension_can_be_coded(
        size in prop::sample::select(vec![1usize, 7, 33, 96, 128, 384]),
        seed in any::<u64>(),
        keep in 2u32..9,
    ) {
        let mut clusters = Clusters::new(size, seed);
        let head = clusters.head(ENOUGH);
        let rows = sealed(&head);
        prop_assert!(coded_of(&rows).codes.len() <= 36 * head.count());
        let Fidelity { cosine, stretch } = fidelity(&head, &rows);
        prop_assert!(cosine >= 0.9, "{} dimensions: cosine {}", size, cosine);
        prop_assert!(stretch < 5e-3, "{} dimensions: a length changes by {}", size, stretch);
        agree(&rows, &mut clusters);
        // Rows left out, in another order, behind a head.
        let behind = clusters.head(40);
        let mut picks = all(1, &rows);
        picks.retain(|pick| pick.row % keep != 0);
        picks.reverse();
        picks.extend(all(0, &behind));
        let merged = TokenRows::seal(&spec(size), &[&behind, &rows], &picks).unwrap();
        for (pick, row) in picks.iter().zip(0..) {
            if pick.from == 1 {
                prop_assert_eq!(merged.vector(row), rows.vector(pick.row));
            }
        }
        agree(&merged, &mut clusters);
    }
}
