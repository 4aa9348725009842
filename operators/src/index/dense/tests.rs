use std::borrow::Cow;

use proptest::prelude::*;

use super::*;
use crate::index::bits::Bits;
use crate::index::{Scoring, TokenCoding};

fn spec(factory: &str, size: usize, metric: Metric) -> FieldSpec {
    FieldSpec {
        name: "text".into(),
        kind: VectorKind::Dense,
        size,
        scoring: Scoring::Dot,
        metric,
        factory: factory.into(),
        coding: TokenCoding::Int8,
    }
}

/// splitmix64, as numbers of −1..1.
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

/// Vectors of unit length around 50 centres.
fn clustered(count: usize, dim: usize, seed: u64) -> Vec<Vec<f32>> {
    let mut random = Random(seed);
    let centres: Vec<Vec<f32>> = (0..50).map(|_| (0..dim).map(|_| random.unit()).collect()).collect();
    let mut vector = || {
        let centre = &centres[(random.bits() % 50) as usize];
        let moved: Vec<f32> = centre.iter().map(|value| value + 0.8 * random.unit()).collect();
        let norm = moved.iter().map(|value| value * value).sum::<f32>().sqrt();
        moved.into_iter().map(|value| value / norm).collect()
    };
    (0..count).map(|_| vector()).collect()
}

fn head(spec: &FieldSpec, vectors: &[Vec<f32>]) -> DenseRows {
    let mut head = DenseRows::head(spec).unwrap();
    vectors.iter().for_each(|vector| head.push(vector).unwrap());
    head
}

fn sealed(spec: &FieldSpec, vectors: &[Vec<f32>]) -> DenseRows {
    let head = head(spec, vectors);
    let picks: Vec<Pick> = (0..vectors.len() as u32).map(|row| Pick { from: 0, row }).collect();
    let sealed = DenseRows::seal(spec, &[&head], &picks).unwrap();
    sealed.check();
    sealed
}

fn find(index: &DenseRows, probe: &[f32], visible: &RowSet<'_>, want: usize) -> Vec<RowHit> {
    let probe = Probe::Dense(probe.to_vec());
    let params = Params::default();
    let search = Search { probe: &probe, visible, want, above: f64::NEG_INFINITY, params: &params };
    index.search(&search).unwrap().hits
}

/// The wanted hits by sorting all; `ties`: and what ties with the last.
fn twin(index: &DenseRows, probe: &[f32], visible: &RowSet<'_>, want: usize, ties: bool) -> Vec<RowHit> {
    let rows = visible.to_vec();
    let scores = index.score(&Probe::Dense(probe.to_vec()), &rows).unwrap();
    let mut hits: Vec<RowHit> =
        rows.into_iter().zip(scores).map(|(row, score)| RowHit { row, score: score.unwrap() }).collect();
    hits.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.row.cmp(&b.row)));
    let last = hits.get(want.saturating_sub(1)).map_or(f64::NEG_INFINITY, |hit| hit.score);
    let mut place = 0;
    hits.retain(|hit| {
        place += 1;
        place <= want || (ties && hit.score == last)
    });
    hits
}

fn shares(rows: usize) -> impl Iterator<Item = (f64, Bits)> {
    let mut random = Random(7);
    [0.0005, 0.002, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.8, 1.0].into_iter().map(move |share| {
        let kept = (0..rows as u32).filter(|_| f64::from(random.unit()) < share * 2.0 - 1.0);
        (share, Bits::of(kept.collect::<Vec<_>>(), rows))
    })
}

#[test]
fn recall_holds_for_every_share_of_visible_rows() {
    let (rows, dim, probes) = (12_000, 32, 40);
    let mut vectors = clustered(rows + probes, dim, 1);
    let probes = vectors.split_off(rows);
    for (factory, metric) in [
        ("HNSW32", Metric::Dot),
        ("HNSW16", Metric::Euclid),
        ("HNSW32,SQ8", Metric::Dot),
        ("IVF64,Flat", Metric::Euclid),
        ("IVF64,SQ8", Metric::Dot),
        ("IVF64,PQ16", Metric::Dot),
    ] {
        let index = sealed(&spec(factory, dim, metric), &vectors);
        assert!(index.near.is_some(), "{factory}");
        for (share, bits) in shares(rows) {
            let visible = RowSet::of(Cow::Owned(bits));
            let (mut right, mut all) = (0, 0);
            for probe in &probes {
                let truth = twin(&index, probe, &visible, 10, false);
                let hits = find(&index, probe, &visible, 10);
                assert_eq!(hits.len(), truth.len(), "{factory}, {share}");
                for hit in &hits {
                    assert!(visible.contains(hit.row));
                    right += usize::from(truth.contains(hit));
                }
                all += truth.len();
            }
            let recall = right as f64 / all.max(1) as f64;
            assert!(recall >= 0.95, "{factory}, {share} kept: recall {recall}");
        }
    }
}

#[test]
fn scores_are_the_same_to_the_bit_everywhere() {
    let (rows, dim) = (3000, 37);
    let vectors = clustered(rows, dim, 2);
    for metric in [Metric::Dot, Metric::Euclid] {
        let head = head(&spec("HNSW16", dim, metric), &vectors);
        for factory in ["Flat", "HNSW16", "HNSW16,SQ8", "IVF32,Flat", "PCA16,IVF32,Flat", "HNSW16,SQfp16"] {
            let index = sealed(&spec(factory, dim, metric), &vectors);
            assert_eq!(index.near.is_some(), factory != "Flat");
            let visible = RowSet::all(rows);
            for probe in vectors.iter().step_by(300) {
                let truth = twin(&head, probe, &visible, rows, false);
                let truth = |row| truth.iter().find(|hit| hit.row == row).map(|hit| hit.score.to_bits());
                for hit in find(&index, probe, &visible, 20).iter().chain(&find(&head, probe, &visible, 20)) {
                    assert_eq!(truth(hit.row), Some(hit.score.to_bits()), "{factory}");
                }
                for hit in index.scan(&Probe::Dense(probe.clone()), &visible).unwrap() {
                    assert_eq!(truth(hit.row), Some(hit.score.to_bits()), "{factory}");
                }
            }
            assert!((0..rows).all(|row| index.vector(row as Row) == vectors[row]));
        }
    }
}

#[test]
fn builds_are_the_same_every_time_and_bytes_come_back() {
    let vectors = clustered(2500, 16, 3);
    assert_eq!(sealed(&spec("Flat", 16, Metric::Dot), &vectors).write().unwrap(), None);
    for (factory, metric) in [
        ("HNSW8", Metric::Dot),
        ("HNSW8", Metric::Euclid),
        ("HNSW8,SQ8", Metric::Dot),
        ("IVF16,Flat", Metric::Euclid),
        ("IVF16,SQ8", Metric::Dot),
        ("PCA8,HNSW8", Metric::Dot),
    ] {
        let spec = spec(factory, 16, metric);
        let index = sealed(&spec, &vectors);
        let bytes = index.write().unwrap().unwrap();
        assert!(
            bytes == sealed(&spec, &vectors).write().unwrap().unwrap(),
            "{factory} differs from run to run"
        );
        let read = head(&spec, &vectors).seal_with(&bytes).unwrap();
        read.check();
        let visible = RowSet::of(Cow::Owned(Bits::of((0..2500).filter(|row| row % 3 > 0), 2500)));
        for probe in vectors.iter().step_by(250) {
            assert_eq!(find(&index, probe, &visible, 10), find(&read, probe, &visible, 10));
            assert!(
                index.scan(&Probe::Dense(probe.clone()), &visible)
                    == read.scan(&Probe::Dense(probe.clone()), &visible)
            );
        }
        assert!(read.write().unwrap().unwrap() == bytes);
        let front = 13 + index.near.as_ref().map_or(0, |near| near.text().len());
        for cut in (0..bytes.len()).step_by(bytes.len() / 40) {
            assert!(head(&spec, &vectors).seal_with(&bytes[..cut]).is_err(), "{factory} cut at {cut}");
            // FAISS' own reader is to refuse it as well.
            let torn = cut.saturating_sub(front);
            let mut rows = head(&spec, &vectors).vectors;
            assert!(rows.attach(&bytes[front..][..torn]).is_err(), "{factory} torn at {torn}");
        }
        assert!(head(&spec, &vectors[1..]).seal_with(&bytes).is_err(), "one row less");
        let wider = FieldSpec { size: 17, ..spec };
        assert!(head(&wider, &clustered(2500, 17, 3)).seal_with(&bytes).is_err());
    }
}

/// Graph and vectors, as snapshots up to format 3 have them: of `clustered(2100, 4, 3)`.
const WHOLE: &[u8] = include_bytes!("../../../../tests/fixtures/faiss/hnsw4.faiss");

#[test]
fn bytes_that_hold_the_vectors_too_are_read() {
    let vectors = clustered(2100, 4, 3);
    let spec = spec("HNSW4", 4, Metric::Dot);
    let (index, read) = (sealed(&spec, &vectors), head(&spec, &vectors).seal_with(WHOLE).unwrap());
    for probe in vectors.iter().step_by(100) {
        let visible = RowSet::all(2100);
        assert_eq!(find(&index, probe, &visible, 10), find(&read, probe, &visible, 10));
    }
    assert!(read.write().unwrap() == index.write().unwrap(), "the vectors are not written again");
    let others = clustered(2100, 4, 4);
    let error = head(&spec, &others).seal_with(WHOLE).err().unwrap().to_string();
    assert!(error.contains("not those of the index"), "{error}");
}

#[test]
fn what_faiss_cannot_make_is_refused() {
    for factory in ["HNSW", "IVF256,PQ7", "PCA64,HNSW16", "IVF16", "nonsense"] {
        let error = DenseRows::head(&spec(factory, 16, Metric::Dot)).err();
        assert!(
            matches!(&error, Some(IndexError::Field { what, .. }) if what.contains("such as") || what.contains("as in") || what.contains("not one of")),
            "{factory}: {error:?}"
        );
    }
    let mut head = head(&spec("Flat", 2, Metric::Dot), &[]);
    assert!(matches!(head.push(&vec![1.0]), Err(IndexError::Misfit { .. })));
    let probe = Probe::Dense(vec![1.0; 3]);
    assert!(matches!(head.scan(&probe, &RowSet::all(0)), Err(IndexError::Probe { .. })));
    assert!(find(&head, &[1.0, 0.0], &RowSet::all(0), 3).is_empty());
}

#[test]
fn scores_that_overflow_are_clamped() {
    let big = vec![
        vec![f32::MAX; 4],
        vec![f32::MIN; 4],
        vec![f32::MAX, f32::MIN, f32::MAX, f32::MIN],
        vec![0.0; 4],
    ];
    for metric in [Metric::Dot, Metric::Euclid] {
        let head = head(&spec("Flat", 4, metric), &big);
        let hits = find(&head, &[f32::MAX; 4], &RowSet::all(4), 4);
        assert_eq!(hits.len(), 4);
        assert!(hits.iter().all(|hit| hit.score.is_finite()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn heads_and_merges_find_what_a_scan_finds(
        rows in prop::collection::vec((prop::collection::vec(-2i8..=2, 3), any::<bool>()), 1..200),
        probe in prop::collection::vec(-2i8..=2, 3), want in 1usize..30, cut in 0usize..200, euclid: bool,
    ) {
        let metric = if euclid { Metric::Euclid } else { Metric::Dot };
        let spec = spec("HNSW16", 3, metric);
        let floats = |values: &Vec<i8>| values.iter().map(|value| f32::from(*value)).collect::<Vec<f32>>();
        let vectors: Vec<Vec<f32>> = rows.iter().map(|(values, _)| floats(values)).collect();
        let probe = floats(&probe);
        let seen = (0u32..).zip(&rows).filter(|(_, (_, seen))| *seen).map(|(row, _)| row);
        let bits = Bits::of(seen.collect::<Vec<_>>(), rows.len());
        let visible = RowSet::of(Cow::Borrowed(&bits));
        let whole = head(&spec, &vectors);
        prop_assert_eq!(find(&whole, &probe, &visible, want), twin(&whole, &probe, &visible, want, true));
        // The visible rows, from a sealed index and a head, last to first.
        let cut = cut.min(vectors.len());
        let (left, right) = (sealed(&spec, &vectors[..cut]), head(&spec, &vectors[cut..]));
        let pick = |row: u32| match (row as usize) < cut {
            true => Pick { from: 0, row },
            false => Pick { from: 1, row: row - cut as u32 },
        };
        let mut order: Vec<u32> = bits.iter().collect();
        order.reverse();
        let picks: Vec<Pick> = order.iter().map(|&row| pick(row)).collect();
        let merged = DenseRows::seal(&spec, &[&left, &right], &picks).unwrap();
        merged.check();
        prop_assert_eq!(merged.len(), order.len());
        for (row, &old) in (0u32..).zip(&order) {
            prop_assert_eq!(&merged.vector(row), &vectors[old as usize]);
        }
        let all = RowSet::all(order.len());
        let hits = find(&merged, &probe, &all, want);
        prop_assert_eq!(&hits, &twin(&merged, &probe, &all, want, false));
    }
}
