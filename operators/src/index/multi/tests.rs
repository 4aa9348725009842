//! Token rows against a brute force, sealed and merged at random.

use freshet_schemas::{Params, VectorKind};
use proptest::prelude::*;

use super::*;
use crate::index::bits::Bits;
use crate::index::{Metric, Scoring, TokenCoding};

const PROBE_TOKENS: usize = 3;

fn spec(size: usize) -> FieldSpec {
    FieldSpec {
        name: "tokens".into(),
        kind: VectorKind::Multi,
        size,
        scoring: Scoring::Dot,
        metric: Metric::Dot,
        factory: String::new(),
        coding: TokenCoding::Int8,
    }
}

/// MaxSim by the formula; small integers and halves, so that every sum is exact.
fn max_sim(probe: &[Vec<f32>], row: &TokenMatrix) -> Option<f64> {
    let dot = |q: &[f32], codes: &[i8], scale: f32| {
        q.iter().zip(codes).map(|(q, c)| f64::from(*q) * f64::from(*c)).sum::<f64>() * f64::from(scale)
    };
    let best = |q: &Vec<f32>| {
        let tokens = row.codes.chunks_exact(row.dim).zip(&row.scales);
        tokens.map(|(codes, scale)| dot(q, codes, *scale)).fold(f64::NEG_INFINITY, f64::max)
    };
    (!probe.is_empty() && !row.scales.is_empty()).then(|| probe.iter().map(best).sum())
}

fn matrix(size: usize) -> impl Strategy<Value = TokenMatrix> {
    // Few values, so that rows tie; row lengths to both sides of the sixteen tokens that a kernel takes at a time.
    let token = (prop::collection::vec(-1i8..=1, size), prop::sample::select(vec![0.5f32, 1.0, 2.0]));
    let tokens = prop_oneof![4 => prop::collection::vec(token.clone(), 0..4), 1 => prop::collection::vec(token, 15..34)];
    tokens.prop_map(move |tokens| {
        let (codes, scales): (Vec<_>, Vec<_>) = tokens.into_iter().unzip();
        TokenMatrix { dim: size, codes: codes.concat(), scales }
    })
}

/// Rows, a probe, and per row: which head it goes to, a key of its place in the seal, whether it is picked and visible.
type Case = (usize, Vec<(TokenMatrix, bool, u32, bool, bool)>, Vec<Vec<f32>>, usize, f64);

fn cases() -> impl Strategy<Value = Case> {
    prop::sample::select(vec![1usize, 2, 5, 64, 67]).prop_flat_map(|size| {
        let row = (matrix(size), any::<bool>(), any::<u32>(), any::<bool>(), any::<bool>());
        let value = (-2i8..=2).prop_map(f32::from);
        let probe = prop::collection::vec(prop::collection::vec(value, size), 0..=PROBE_TOKENS);
        let above = prop_oneof![Just(f64::NEG_INFINITY), (-4i8..4).prop_map(f64::from)];
        (Just(size), prop::collection::vec(row, 0..40), probe, 1usize..6, above)
    })
}

/// Everything an index answers, against the rows it should hold.
fn same(
    index: &TokenRows,
    rows: &[TokenMatrix],
    visible: &Bits,
    case: (&[Vec<f32>], usize, f64),
    head: bool,
) {
    let (tokens, want, above) = case;
    index.check();
    assert_eq!(index.len(), rows.len());
    rows.iter().zip(0..).for_each(|(row, number)| assert_eq!(&index.vector(number), row));
    let probe = Probe::Multi(tokens.to_vec());
    // A sum of nothing but −0 is 0.
    let scores: Vec<Option<f64>> =
        rows.iter().map(|row| max_sim(tokens, row).map(|score| score + 0.0)).collect();
    let all: Vec<Row> = (0..rows.len() as Row).collect();
    assert_eq!(index.score(&probe, &all).expect("a probe that fits"), scores);
    let set = RowSet::of(std::borrow::Cow::Borrowed(visible));
    let mut expected: Vec<RowHit> = all
        .iter()
        .filter(|&&row| visible.contains(row))
        .filter_map(|&row| scores[row as usize].map(|score| RowHit { row, score }))
        .collect();
    assert_eq!(index.scan(&probe, &set).expect("a probe that fits"), expected);
    expected.retain(|hit| hit.score >= above);
    expected.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.row.cmp(&b.row)));
    let matched = expected.len();
    let last = expected.get(want - 1).map_or(f64::NEG_INFINITY, |hit| hit.score);
    let ties = expected.iter().filter(|hit| hit.score >= last).count();
    expected.truncate(if head { ties } else { want });
    let search = Search { probe: &probe, visible: &set, want, above, params: &Params::default() };
    let mut found = index.search(&search).expect("a probe that fits");
    found.hits.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.row.cmp(&b.row)));
    assert_eq!(found, Found { all: expected.len() == matched, hits: expected });
}

proptest! {
    #[test]
    fn rows_are_found_as_by_brute_force((size, rows, probe, want, above) in cases()) {
        let spec = spec(size);
        let mut heads = [TokenRows::head(&spec).unwrap(), TokenRows::head(&spec).unwrap()];
        let mut held: [(Vec<TokenMatrix>, Bits); 2] = Default::default();
        let mut picked = Vec::new();
        for (matrix, second, key, pick, visible) in rows {
            let from = usize::from(second);
            if pick {
                picked.push((key, Pick { from: from as u32, row: heads[from].len() as Row }, visible));
            }
            heads[from].push(&matrix).unwrap();
            held[from].0.push(matrix);
            held[from].1.push(visible);
        }
        for (head, (rows, visible)) in heads.iter().zip(&held) {
            same(head, rows, visible, (&probe, want, above), true);
        }
        picked.sort_by_key(|(key, ..)| *key);
        let picks: Vec<Pick> = picked.iter().map(|(_, pick, _)| *pick).collect();
        let mut visible = Bits::default();
        picked.iter().for_each(|(.., seen)| visible.push(*seen));
        let mut kept: Vec<TokenMatrix> =
            picks.iter().map(|pick| held[pick.from as usize].0[pick.row as usize].clone()).collect();
        let sealed = TokenRows::seal(&spec, &[&heads[0], &heads[1]], &picks).unwrap();
        same(&sealed, &kept, &visible, (&probe, want, above), false);
        // Merged once more, with all of a head behind it.
        let behind = |from, rows: usize| (0..rows as Row).map(move |row| Pick { from, row });
        let picks: Vec<Pick> = behind(1, sealed.len()).chain(behind(0, heads[0].len())).collect();
        let merged = TokenRows::seal(&spec, &[&heads[0], &sealed], &picks).unwrap();
        kept.extend(held[0].0.iter().cloned());
        (0..held[0].0.len() as Row).for_each(|row| visible.push(held[0].1.contains(row)));
        same(&merged, &kept, &visible, (&probe, want, above), false);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    assert!(TokenRows::head(&spec(0)).is_err());
    assert!(TokenRows::head(&spec(DIM_MAX + 1)).is_err());
    let mut head = TokenRows::head(&spec(2)).expect("a field");
    assert!(head.push(&TokenMatrix { dim: 2, codes: vec![1; 3], scales: vec![1.0; 2] }).is_err());
    assert!(head.is_empty());
    let all = RowSet::all(0);
    assert!(head.scan(&Probe::Multi(vec![vec![1.0; 3]]), &all).is_err());
    assert!(head.scan(&Probe::Dense(vec![1.0; 2]), &all).is_err());
}
