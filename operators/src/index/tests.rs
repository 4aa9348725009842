//! A shard against its brute-force twin, over random scripts at every time that can still be asked for.

use freshet_schemas::VectorKind;

use super::exact::ExactShard;
use super::old::shard::Shard;
use super::{
    DocumentPut, FieldPut, FieldSpec, Hit, IndexError, Metric, Probe, RowPut, RowVector, Scoring,
    ShardChange, Time, TokenCoding, TokenMatrix,
};

mod script;
mod speed;

use script::{Random, Script, Values};

fn field(name: &str, kind: VectorKind, size: usize) -> FieldSpec {
    FieldSpec {
        name: name.into(),
        kind,
        size,
        scoring: Scoring::Dot,
        metric: Metric::Dot,
        factory: "Flat".into(),
        coding: TokenCoding::Int8,
    }
}

/// One field of each sort. Their numbers: dot 0, euclid 1, learned 2, bm25 3, colbert 4.
fn fields(size: usize) -> Vec<FieldSpec> {
    vec![
        field("dot", VectorKind::Dense, size),
        FieldSpec { metric: Metric::Euclid, ..field("euclid", VectorKind::Dense, size) },
        field("learned", VectorKind::Sparse, 0),
        FieldSpec { scoring: Scoring::Bm25 { k1: 1.2, b: 0.75 }, ..field("bm25", VectorKind::Sparse, 0) },
        field("colbert", VectorKind::Multi, size),
    ]
}

/// A document with one dense vector.
fn dense_put(id: &str, rows: Vec<RowPut>) -> ShardChange {
    ShardChange::Put(Box::new(DocumentPut {
        id: id.into(),
        origin: (0, 0),
        payload: "{}".into(),
        chunks: rows.iter().map(|_| String::new()).collect(),
        fields: vec![FieldPut::Rows(rows)],
    }))
}

fn dense_row(vector: &[f32]) -> RowPut {
    RowPut::New(RowVector::Dense(vector.to_vec()))
}

/// Scores agree to `tolerance`, relative to their size; ids too, wherever scores lie further apart than that.
fn assert_same(found: &[Hit], expected: &[Hit], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}: {found:?} against {expected:?}");
    let near = |a: f64, b: f64| (a - b).abs() <= tolerance * b.abs().max(1.0);
    for (place, (f, e)) in found.iter().zip(expected).enumerate() {
        assert!(near(f.score, e.score), "{what}, place {place}: {f:?} against {e:?}");
        let beside = [place.checked_sub(1), Some(place + 1)].into_iter().flatten();
        let mut beside = beside.filter_map(|other| expected.get(other));
        // The last place may tie with what was cut.
        let cut = place + 1 == expected.len();
        if tolerance == 0.0 || !(cut || beside.any(|other| near(other.score, e.score))) {
            assert_eq!((&f.id, f.chunk), (&e.id, e.chunk), "{what}, place {place}");
        }
    }
}

/// Compares everything both can be asked, at a random time.
fn compare(shard: &Shard, exact: &ExactShard, script: &mut Script, since: Time, tolerance: f64, what: &str) {
    let time = since + script.random.below(script.time + 2 - since);
    assert_eq!(shard.len_at(time), exact.len_at(time), "{what}: documents at {time}");
    let number = script.random.below(5) as usize;
    let probe = script.probe(number);
    // MaxSim rounds each token of the probe.
    let tolerance = if number == 4 { tolerance * 10.0 } else { tolerance };
    let k = script.random.below(12) as usize;
    let what = format!("{what}: field {number} at {time}, k {k}, probe {probe:?}");
    let expected = exact.search(time, number, &probe, k);
    for plainly in [false, true] {
        let found = shard.search(time, number, &probe, k, plainly).expect("a probe that fits");
        assert_same(&found, &expected, tolerance, &what);
    }
    let ids = script.ids();
    let found = shard.score(time, number, &probe, &ids).expect("a probe that fits");
    assert_same(&found, &exact.score(time, number, &probe, &ids), tolerance, &what);
    let wanted: Vec<(String, u32)> = ids.into_iter().map(|id| (id, script.random.below(3) as u32)).collect();
    assert_eq!(shard.fetch(time, &wanted), exact.fetch(time, &wanted), "{what}");
}

fn run(seed: u64, steps: usize, documents: u64, values: Values, tolerance: f64) {
    let size = if values == Values::Small { 3 } else { 24 };
    let mut script = Script::new(seed, size, documents, values);
    let mut shard = Shard::new(fields(size)).expect("fields that can be indexed");
    let mut exact = ExactShard::new(fields(size));
    let mut since = 0;
    for step in 0..steps {
        let changes = script.changes();
        shard.apply(script.time, changes.clone()).expect("changes that fit");
        exact.apply(script.time, changes).expect("changes that fit");
        if script.random.below(4) == 0 {
            since += script.random.below(script.time + 1 - since);
            shard.compact(since);
        }
        shard.check();
        for _ in 0..6 {
            compare(&shard, &exact, &mut script, since, tolerance, &format!("seed {seed}, step {step}"));
        }
    }
}

#[test]
fn small_integers_tie_and_agree_exactly() {
    (0..60).for_each(|seed| run(seed, 40, 12, Values::Small, 0.0));
}

#[test]
fn many_documents_with_small_integers_agree_exactly() {
    (100..104).for_each(|seed| run(seed, 12, 400, Values::Small, 0.0));
}

#[test]
fn random_vectors_agree() {
    (200..220).for_each(|seed| run(seed, 25, 30, Values::Random, 1e-5));
}

#[test]
fn churn_leaves_no_rows_behind() {
    let mut script = Script::new(9, 3, 600, Values::Small);
    let mut shard = Shard::new(fields(3)).expect("fields that can be indexed");
    let mut exact = ExactShard::new(fields(3));
    let mut most = 0;
    for round in 0..60 {
        let changes = script.changes();
        shard.apply(script.time, changes.clone()).expect("changes that fit");
        exact.apply(script.time, changes).expect("changes that fit");
        shard.compact(script.time);
        let counters = shard.counters();
        assert_eq!(counters.versions, counters.documents, "only the newest versions are kept");
        most = most.max(counters.rows);
        assert!(counters.rows_dead <= most + 1024, "{counters:?} in round {round}");
        let now = script.time;
        compare(&shard, &exact, &mut script, now, 0.0, &format!("round {round}"));
    }
    shard.check();
}

#[test]
fn a_mass_removal_gives_rows_back() {
    let mut random = Random::new(3);
    let mut shard = Shard::new(vec![field("dense", VectorKind::Dense, 2)]).expect("a field");
    let vector = |random: &mut Random| [random.below(9) as f32, random.below(9) as f32];
    let id = |number: u64| format!("d{number:04}");
    let puts = (0..9000).map(|number| dense_put(&id(number), vec![dense_row(&vector(&mut random))]));
    shard.apply(1, puts.collect()).expect("puts");
    let remove = |number| ShardChange::Remove { id: id(number) };
    shard.apply(2, (0..9000).filter(|number| number % 10 != 0).map(remove).collect()).expect("removals");
    let probe = Probe::Dense(vec![1.0, 2.0]);
    let before = shard.search(2, 0, &probe, 50, false).expect("hits");
    assert_eq!((shard.len_at(1), shard.len_at(2)), (9000, 900));
    for _ in 0..4 {
        shard.compact(2);
        shard.check();
        assert_eq!(shard.search(2, 0, &probe, 50, false).expect("hits"), before);
    }
    assert_eq!((shard.counters().rows, shard.counters().rows_dead), (900, 0));
    shard.apply(3, vec![dense_put("new", vec![dense_row(&[9.0, 9.0])])]).expect("a put");
    assert_eq!(shard.search(3, 0, &probe, 1, false).expect("a hit")[0].id, "new");
    shard.check();
}

#[test]
fn ties_for_the_last_place_go_by_id() {
    let mut shard = Shard::new(vec![field("dense", VectorKind::Dense, 1)]).expect("a field");
    let puts = (0..5000u32).rev().map(|number| {
        dense_put(
            &format!("d{number:04}"),
            vec![dense_row(&[0.5]), dense_row(&[if number == 77 { 2.0 } else { 1.0 }])],
        )
    });
    shard.apply(1, puts.collect()).expect("puts");
    let hits = shard.search(1, 0, &Probe::Dense(vec![1.0]), 4, false).expect("hits");
    let found: Vec<(&str, u32)> = hits.iter().map(|hit| (hit.id.as_str(), hit.chunk)).collect();
    assert_eq!(found, [("d0077", 1), ("d0000", 1), ("d0001", 1), ("d0002", 1)]);
}

#[test]
fn a_multivector_of_one_token_equals_dense() {
    let mut random = Random::new(11);
    let specs = vec![field("dense", VectorKind::Dense, 4), field("multi", VectorKind::Multi, 4)];
    let mut shard = Shard::new(specs).expect("fields");
    let codes = |random: &mut Random| -> Vec<i8> { (0..4).map(|_| random.below(7) as i8 - 3).collect() };
    let puts = (0..300).map(|number| {
        let codes = codes(&mut random);
        let dense = codes.iter().map(|code| f32::from(*code)).collect();
        let multi = TokenMatrix { dim: 4, codes, scales: vec![1.0] };
        ShardChange::Put(Box::new(DocumentPut {
            id: format!("d{number}"),
            origin: (0, number),
            payload: "{}".into(),
            chunks: vec![String::new()],
            fields: [RowVector::Dense(dense), RowVector::Multi(multi)]
                .into_iter()
                .map(|row| FieldPut::Rows(vec![RowPut::New(row)]))
                .collect(),
        }))
    });
    shard.apply(1, puts.collect()).expect("puts");
    let vector = vec![1.0, -2.0, 0.5, 3.0];
    let dense = shard.search(1, 0, &Probe::Dense(vector.clone()), 40, false).expect("hits");
    assert_eq!(shard.search(1, 1, &Probe::Multi(vec![vector]), 40, false).expect("hits"), dense);
}

#[test]
fn a_bad_change_changes_nothing() {
    let mut shard = Shard::new(vec![field("dense", VectorKind::Dense, 2)]).expect("a field");
    shard.apply(5, vec![dense_put("a", vec![dense_row(&[1.0, 0.0])])]).expect("a put");
    let good = || dense_put("b", vec![dense_row(&[0.0, 1.0])]);
    let bad = [
        dense_put("c", vec![dense_row(&[1.0])]),
        dense_put("c", vec![dense_row(&[1.0, f32::NAN])]),
        dense_put("c", vec![RowPut::Keep(0)]),
        dense_put("a", vec![RowPut::Keep(1)]),
        dense_put("a", vec![RowPut::New(RowVector::Multi(TokenMatrix::default()))]),
        ShardChange::Remove { id: "c".into() },
        good(),
    ];
    for bad in bad {
        assert!(shard.apply(6, vec![good(), bad]).is_err());
        shard.check();
        assert_eq!((shard.applied(), shard.counters().rows, shard.counters().versions), (Some(5), 1, 1));
    }
    assert_eq!(shard.apply(5, vec![good()]), Err(IndexError::Order { time: 5, applied: 5 }));
    let wrong =
        shard.search(5, 0, &Probe::Dense(vec![1.0]), 3, false).expect_err("a probe of the wrong size");
    assert_eq!(wrong.to_string(), "probe for field \"dense\" has 1 dimensions, index has 2");
    assert!(shard.search(5, 1, &Probe::Dense(vec![1.0]), 3, false).is_err());
    assert!(shard.apply(6, vec![good()]).is_ok());
}

#[test]
fn a_kept_row_may_move_and_repeat() {
    let mut shard = Shard::new(vec![field("dense", VectorKind::Dense, 1)]).expect("a field");
    shard.apply(1, vec![dense_put("a", vec![dense_row(&[1.0]), dense_row(&[2.0])])]).expect("a put");
    shard
        .apply(2, vec![dense_put("a", vec![dense_row(&[0.0]), RowPut::Keep(1), RowPut::Keep(1)])])
        .expect("a put");
    shard
        .apply(3, vec![dense_put("a", vec![RowPut::Keep(0), RowPut::Keep(0), RowPut::Keep(2)])])
        .expect("a put");
    let best = |shard: &Shard, time| {
        let hits = shard.search(time, 0, &Probe::Dense(vec![1.0]), 1, false).expect("hits");
        hits.first().map(|hit| (hit.chunk, hit.score))
    };
    assert_eq!(
        [0, 1, 2, 3].map(|time| best(&shard, time)),
        [None, Some((1, 2.0)), Some((1, 2.0)), Some((2, 2.0))]
    );
    shard.check();
    shard.compact(3);
    shard.check();
    assert_eq!(best(&shard, 3), Some((2, 2.0)));
    shard.apply(4, vec![ShardChange::Remove { id: "a".into() }]).expect("a removal");
    shard.compact(4);
    shard.check();
    assert_eq!((best(&shard, 4), shard.counters().rows), (None, 0));
}

#[test]
fn searching_and_scoring_give_the_same_bits() {
    fn shared<T: Send + Sync>(_: &T) {}
    let mut script = Script::new(21, 40, 3000, Values::Random);
    let mut shard = Shard::new(fields(40)).expect("fields that can be indexed");
    shared(&shard);
    for _ in 0..2 {
        let changes = script.changes();
        shard.apply(script.time, changes).expect("changes that fit");
    }
    for number in 0..5 {
        for time in [shard.applied().expect("a time") - 1, script.time] {
            let probe = script.probe(number);
            let hits = shard.search(time, number, &probe, 20, false).expect("a probe that fits");
            let ids: Vec<String> = hits.iter().rev().map(|hit| hit.id.clone()).collect();
            assert_eq!(shard.search(time, number, &probe, 20, true).expect("a probe that fits"), hits);
            assert_eq!(shard.score(time, number, &probe, &ids).expect("a probe that fits"), hits);
        }
    }
}

#[test]
fn scores_that_overflow_are_found_and_finite() {
    let mut shard = Shard::new(vec![field("dense", VectorKind::Dense, 2)]).expect("a field");
    let vector = |number: u32| match number {
        0 => [f32::MAX, f32::MAX],
        1 => [f32::MIN, f32::MIN],
        _ => [number as f32, 0.0],
    };
    let puts = (0..100).map(|number| dense_put(&format!("d{number:02}"), vec![dense_row(&vector(number))]));
    shard.apply(1, puts.collect()).expect("puts");
    let probe = Probe::Dense(vec![2.0, 2.0]);
    for (k, exact) in [(3, false), (100, false), (3, true), (100, true)] {
        let hits = shard.search(1, 0, &probe, k, exact).expect("hits");
        assert_eq!(hits.len(), k);
        assert_eq!(hits[..2].iter().map(|hit| hit.id.as_str()).collect::<Vec<_>>(), ["d00", "d99"]);
        assert!(hits.iter().all(|hit| hit.score.is_finite()));
    }
}
