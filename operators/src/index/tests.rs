//! A shard against its brute-force twin, over random scripts at every time that can still be asked for.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use freshet_schemas::{Params, VectorKind};

use super::exact::ExactShard;
use super::segment::SegmentSpec;
use super::shard::{Builder, HeadLimit, Job, PartCut, Shard};
use super::{
    Chunk, DocumentPut, FieldPut, FieldSpec, Hit, IndexError, Metric, Probe, RowPut, RowVector, Scoring,
    ShardChange, Time, TokenCoding, TokenMatrix,
};

mod examples;
mod filter;
mod recall;
mod script;

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
        digest: Vec::new(),
        chunks: rows.iter().map(|_| Chunk::default()).collect(),
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
        // Each of two may be off by the tolerance.
        let close = |other: &Hit| (other.score - e.score).abs() <= 2.0 * tolerance * e.score.abs().max(1.0);
        if tolerance == 0.0 || !(cut || beside.any(close)) {
            // Chunks of a document may be as near to each other.
            let chunk = |hit: &Hit| if tolerance > 1e-3 { 0 } else { hit.chunk };
            assert_eq!((&f.id, chunk(f)), (&e.id, chunk(e)), "{what}, place {place}");
        }
    }
}

/// Builds when told to: at any point between two steps of a script.
#[derive(Default)]
struct Later(Mutex<VecDeque<Job>>);

impl Builder for Later {
    fn submit(&self, job: Job) {
        self.0.lock().expect("one thread").push_back(job);
    }
}

impl Later {
    /// Does the job that has waited longest; false if none does.
    fn work(&self) -> bool {
        let job = self.0.lock().expect("one thread").pop_front();
        job.map(|job| job()).is_some()
    }
}

fn open_with(fields: Vec<FieldSpec>, versions: usize) -> Result<(Shard, Arc<Later>), IndexError> {
    let later = Arc::new(Later::default());
    let limit = HeadLimit { versions, ..HeadLimit::default() };
    let spec = SegmentSpec { fields, payload: Vec::new() };
    let shard = Shard::new(Arc::new(spec), limit, Arc::<Later>::clone(&later))?;
    Ok((shard, later))
}

fn open(fields: Vec<FieldSpec>) -> Result<Shard, IndexError> {
    open_with(fields, HeadLimit::default().versions).map(|(shard, _)| shard)
}

/// Lets a shard be quiet from `time` on until nothing is left to merge.
fn settle(shard: &mut Shard, later: &Later, time: Time) {
    for _ in 0..100 {
        shard.compact(time).expect("builds");
        if shard.is_settled() {
            return;
        }
        while later.work() {}
    }
    panic!("{:?} does not settle", shard.counters());
}

fn search(
    shard: &Shard,
    time: Time,
    field: usize,
    probe: &Probe,
    k: usize,
    exact: bool,
) -> Result<Vec<Hit>, IndexError> {
    shard.search(time, field, probe, k, &Params { exact, ..Params::default() }, None)
}

/// Compares everything both can be asked, at a random time.
fn compare(shard: &Shard, exact: &ExactShard, script: &mut Script, since: Time, tolerance: f64, what: &str) {
    let time = since + script.random.below(script.time + 2 - since);
    assert_eq!(shard.len_at(time), exact.len_at(time), "{what}: documents at {time}");
    let number = script.random.below(5) as usize;
    let probe = script.probe(number);
    // MaxSim rounds the probe to eight bits: each of up to three tokens is off by at most half a step, 0.38/254, times the
    // sum of 24 values of about 0.18; in practice by a third of that.
    let tolerance = if number == 4 && tolerance > 0.0 { 1e-2 } else { tolerance };
    let k = script.random.below(12) as usize;
    let what = format!("{what}: field {number} at {time}, k {k}, probe {probe:?}");
    let expected = exact.search(time, number, &probe, k);
    for plainly in [false, true] {
        let found = search(shard, time, number, &probe, k, plainly).expect("a probe that fits");
        assert_same(&found, &expected, tolerance, &what);
    }
    let ids = script.ids();
    let found = shard.score(time, number, &probe, &ids).expect("a probe that fits");
    assert_same(&found, &exact.score(time, number, &probe, &ids), tolerance, &what);
    let wanted: Vec<(String, u32)> = ids.into_iter().map(|id| (id, script.random.below(3) as u32)).collect();
    assert_eq!(shard.fetch(time, &wanted), exact.fetch(time, &wanted), "{what}");
    examples::compare(shard, exact, script, (time, number), tolerance);
}

/// Random changes, with heads of `head` versions, and builds and forgetting at random points.
fn run(seed: u64, steps: usize, documents: u64, head: usize, values: Values, tolerance: f64) {
    let size = if values == Values::Small { 3 } else { 24 };
    let mut script = Script::new(seed, size, documents, values);
    let (mut shard, later) = open_with(fields(size), head).expect("fields that can be indexed");
    let mut exact = ExactShard::new(fields(size));
    let mut since = 0;
    for step in 0..steps {
        let changes = script.changes();
        shard.apply(script.time, changes.clone()).expect("changes that fit");
        exact.apply(script.time, changes).expect("changes that fit");
        for _ in 0..script.random.below(3) {
            later.work();
        }
        if script.random.below(4) == 0 {
            since += script.random.below(script.time + 1 - since);
            shard.compact(since).expect("builds");
        }
        if script.random.below(8) == 0 {
            let documents = |part: &PartCut| part.segment.versions().len() - part.removed.len();
            let cut: usize = shard.cut().expect("a cut").iter().map(documents).sum();
            assert_eq!(cut, shard.len_at(Time::MAX), "seed {seed}, step {step}: documents of a cut");
        }
        shard.check();
        for _ in 0..6 {
            compare(&shard, &exact, &mut script, since, tolerance, &format!("seed {seed}, step {step}"));
        }
    }
    script.time += 10_000;
    settle(&mut shard, &later, script.time);
    shard.check();
    let (mut fresh, later) = open_with(fields(size), head).expect("fields that can be indexed");
    fresh.apply(1, exact.documents(script.time)).expect("documents that fit");
    settle(&mut fresh, &later, script.time);
    let (old, new) = (shard.counters(), fresh.counters());
    assert_eq!(
        (old.documents, old.versions),
        (new.documents, new.documents),
        "seed {seed}: only the living are left"
    );
    assert!(old.bytes as f64 <= 1.5 * new.bytes as f64 + 4096.0, "seed {seed}: {old:?} against {new:?}");
    for number in 0..5 {
        let probe = script.probe(number);
        let ask = |shard| search(shard, script.time, number, &probe, 10, false).expect("a probe that fits");
        assert_eq!(ask(&shard), ask(&fresh), "seed {seed}: as an index built anew");
    }
}

#[test]
fn small_integers_tie_and_agree_exactly() {
    (0..60).for_each(|seed| run(seed, 40, 12, 1 + seed as usize % 20, Values::Small, 0.0));
}

#[test]
fn many_documents_with_small_integers_agree_exactly() {
    (100..104).for_each(|seed| run(seed, 12, 400, 90, Values::Small, 0.0));
}

#[test]
fn random_vectors_agree() {
    (200..220).for_each(|seed| run(seed, 25, 30, 5 + seed as usize % 7, Values::Random, 1e-5));
}

#[test]
fn churn_leaves_little_behind() {
    let mut script = Script::new(9, 3, 600, Values::Small);
    let (mut shard, later) = open_with(fields(3), 100).expect("fields that can be indexed");
    let mut exact = ExactShard::new(fields(3));
    for round in 0..60 {
        let changes = script.changes();
        shard.apply(script.time, changes.clone()).expect("changes that fit");
        exact.apply(script.time, changes).expect("changes that fit");
        while later.work() {}
        shard.compact(script.time).expect("builds");
        let counters = shard.counters();
        assert!(counters.versions <= 2 * counters.documents + 200, "{counters:?} in round {round}");
        assert!(counters.segments <= 12, "{counters:?} in round {round}");
        let now = script.time;
        compare(&shard, &exact, &mut script, now, 0.0, &format!("round {round}"));
    }
    shard.check();
}

#[test]
fn a_mass_removal_gives_memory_back() {
    let mut random = Random::new(3);
    let fields = vec![field("dense", VectorKind::Dense, 2)];
    let (mut shard, later) = open_with(fields, 1000).expect("a field");
    let vector = |random: &mut Random| [random.below(9) as f32, random.below(9) as f32];
    let id = |number: u64| format!("d{number:04}");
    let puts = (0..9000).map(|number| dense_put(&id(number), vec![dense_row(&vector(&mut random))]));
    shard.apply(1, puts.collect()).expect("puts");
    while later.work() {}
    let remove = |number| ShardChange::Remove { id: id(number) };
    shard.apply(2, (0..9000).filter(|number| number % 10 != 0).map(remove).collect()).expect("removals");
    let probe = Probe::Dense(vec![1.0, 2.0]);
    let before = search(&shard, 2, 0, &probe, 50, false).expect("hits");
    assert_eq!((shard.len_at(1), shard.len_at(2)), (9000, 900));
    while later.work() {}
    shard.compact(2).expect("builds");
    shard.check();
    assert_eq!(search(&shard, 2, 0, &probe, 50, false).expect("hits"), before);
    settle(&mut shard, &later, 9999);
    shard.check();
    assert_eq!((shard.counters().versions, shard.counters().segments), (900, 2));
    assert_eq!(search(&shard, 9999, 0, &probe, 50, false).expect("hits"), before);
    shard.apply(10_000, vec![dense_put("new", vec![dense_row(&[9.0, 9.0])])]).expect("a put");
    assert_eq!(search(&shard, 10_000, 0, &probe, 1, false).expect("a hit")[0].id, "new");
    shard.check();
}

#[test]
fn changes_during_a_build_are_not_lost() {
    let (mut shard, later) = open_with(vec![field("dense", VectorKind::Dense, 1)], 4).expect("a field");
    let put = |id: &str, value: f32| dense_put(id, vec![dense_row(&[value])]);
    shard.apply(1, ["a", "b", "c", "d"].map(|id| put(id, 1.0)).to_vec()).expect("puts");
    assert!(shard.counters().sealed == 0 && !shard.is_settled());
    let removed = ShardChange::Remove { id: "b".into() };
    shard.apply(2, vec![removed, put("a", 5.0)]).expect("changes while a build waits");
    while later.work() {}
    shard.apply(3, vec![put("c", 7.0)]).expect("a change after it is done");
    let ids = |shard: &Shard, time| -> Vec<String> {
        let hits = search(shard, time, 0, &Probe::Dense(vec![1.0]), 9, false).expect("hits");
        hits.into_iter().map(|hit| format!("{}{}", hit.id, hit.score)).collect()
    };
    assert_eq!(shard.counters().sealed, 1);
    for _ in 0..2 {
        assert_eq!(ids(&shard, 1), ["a1", "b1", "c1", "d1"]);
        assert_eq!(ids(&shard, 2), ["a5", "c1", "d1"]);
        assert_eq!(ids(&shard, 3), ["c7", "a5", "d1"]);
        shard.check();
        while later.work() {}
    }
    shard.compact(3).expect("builds");
    assert_eq!(ids(&shard, 3), ["c7", "a5", "d1"]);
}

#[test]
fn cuts_make_no_small_segments() {
    let (mut shard, later) = open_with(vec![field("dense", VectorKind::Dense, 1)], 40).expect("a field");
    for number in 1..=100u16 {
        let put = dense_put(&format!("d{number}"), vec![dense_row(&[number.into()])]);
        shard.apply(number.into(), vec![put]).expect("a put");
        if number % 7 == 0 {
            let cut = shard.cut().expect("a cut");
            let versions: usize = cut.iter().map(|part| part.segment.versions().len()).sum();
            assert_eq!(versions, usize::from(number));
        }
        while later.work() {}
        shard.check();
    }
    assert_eq!((shard.counters().builds, shard.counters().sealed), (2, 1), "as without cuts");
    settle(&mut shard, &later, 9999);
    assert_eq!((shard.counters().versions, shard.counters().segments), (100, 2));
}

#[test]
fn ties_for_the_last_place_go_by_id() {
    let mut shard = open(vec![field("dense", VectorKind::Dense, 1)]).expect("a field");
    let puts = (0..5000u32).rev().map(|number| {
        dense_put(
            &format!("d{number:04}"),
            vec![dense_row(&[0.5]), dense_row(&[if number == 77 { 2.0 } else { 1.0 }])],
        )
    });
    shard.apply(1, puts.collect()).expect("puts");
    let hits = search(&shard, 1, 0, &Probe::Dense(vec![1.0]), 4, false).expect("hits");
    let found: Vec<(&str, u32)> = hits.iter().map(|hit| (hit.id.as_str(), hit.chunk)).collect();
    assert_eq!(found, [("d0077", 1), ("d0000", 1), ("d0001", 1), ("d0002", 1)]);
}

#[test]
fn a_multivector_of_one_token_equals_dense() {
    let mut random = Random::new(11);
    let specs = vec![field("dense", VectorKind::Dense, 4), field("multi", VectorKind::Multi, 4)];
    let mut shard = open(specs).expect("fields");
    let codes = |random: &mut Random| -> Vec<i8> { (0..4).map(|_| random.below(7) as i8 - 3).collect() };
    let puts = (0..300).map(|number| {
        let codes = codes(&mut random);
        let dense = codes.iter().map(|code| f32::from(*code)).collect();
        let multi = TokenMatrix { dim: 4, codes, scales: vec![1.0] };
        ShardChange::Put(Box::new(DocumentPut {
            id: format!("d{number}"),
            origin: (0, number),
            payload: "{}".into(),
            digest: Vec::new(),
            chunks: vec![Chunk::default()],
            fields: [RowVector::Dense(dense), RowVector::Multi(multi)]
                .into_iter()
                .map(|row| FieldPut::Rows(vec![RowPut::New(row)]))
                .collect(),
        }))
    });
    shard.apply(1, puts.collect()).expect("puts");
    let vector = vec![1.0, -2.0, 0.5, 3.0];
    let dense = search(&shard, 1, 0, &Probe::Dense(vector.clone()), 40, false).expect("hits");
    assert_eq!(search(&shard, 1, 1, &Probe::Multi(vec![vector]), 40, false).expect("hits"), dense);
}

#[test]
fn a_bad_change_changes_nothing() {
    let mut shard = open(vec![field("dense", VectorKind::Dense, 2)]).expect("a field");
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
        assert_eq!((shard.applied(), shard.counters().versions), (Some(5), 1));
    }
    assert_eq!(shard.apply(5, vec![good()]), Err(IndexError::Order { time: 5, applied: 5 }));
    let wrong =
        search(&shard, 5, 0, &Probe::Dense(vec![1.0]), 3, false).expect_err("a probe of the wrong size");
    assert_eq!(wrong.to_string(), "probe for field \"dense\" has 1 dimensions, index has 2");
    assert!(search(&shard, 5, 1, &Probe::Dense(vec![1.0]), 3, false).is_err());
    assert!(shard.apply(6, vec![good()]).is_ok());
}

#[test]
fn a_kept_row_may_move_and_repeat() {
    let mut shard = open(vec![field("dense", VectorKind::Dense, 1)]).expect("a field");
    shard.apply(1, vec![dense_put("a", vec![dense_row(&[1.0]), dense_row(&[2.0])])]).expect("a put");
    shard
        .apply(2, vec![dense_put("a", vec![dense_row(&[0.0]), RowPut::Keep(1), RowPut::Keep(1)])])
        .expect("a put");
    shard
        .apply(3, vec![dense_put("a", vec![RowPut::Keep(0), RowPut::Keep(0), RowPut::Keep(2)])])
        .expect("a put");
    let best = |shard: &Shard, time| {
        let hits = search(shard, time, 0, &Probe::Dense(vec![1.0]), 1, false).expect("hits");
        hits.first().map(|hit| (hit.chunk, hit.score))
    };
    assert_eq!(
        [0, 1, 2, 3].map(|time| best(&shard, time)),
        [None, Some((1, 2.0)), Some((1, 2.0)), Some((2, 2.0))]
    );
    shard.check();
    shard.compact(3).expect("builds");
    shard.check();
    assert_eq!(best(&shard, 3), Some((2, 2.0)));
    shard.apply(4, vec![ShardChange::Remove { id: "a".into() }]).expect("a removal");
    shard.compact(4).expect("builds");
    shard.check();
    assert_eq!((best(&shard, 4), shard.counters().documents), (None, 0));
}

#[test]
fn searching_and_scoring_give_the_same_bits() {
    let mut script = Script::new(21, 40, 3000, Values::Random);
    let mut shard = open(fields(40)).expect("fields that can be indexed");
    for _ in 0..2 {
        let changes = script.changes();
        shard.apply(script.time, changes).expect("changes that fit");
    }
    for number in 0..5 {
        for time in [shard.applied().expect("a time") - 1, script.time] {
            let probe = script.probe(number);
            let hits = search(&shard, time, number, &probe, 20, false).expect("a probe that fits");
            let ids: Vec<String> = hits.iter().rev().map(|hit| hit.id.clone()).collect();
            assert_eq!(search(&shard, time, number, &probe, 20, true).expect("a probe that fits"), hits);
            assert_eq!(shard.score(time, number, &probe, &ids).expect("a probe that fits"), hits);
        }
    }
}

#[test]
fn scores_that_overflow_are_found_and_finite() {
    let mut shard = open(vec![field("dense", VectorKind::Dense, 2)]).expect("a field");
    let vector = |number: u32| match number {
        0 => [f32::MAX, f32::MAX],
        1 => [f32::MIN, f32::MIN],
        _ => [number as f32, 0.0],
    };
    let puts = (0..100).map(|number| dense_put(&format!("d{number:02}"), vec![dense_row(&vector(number))]));
    shard.apply(1, puts.collect()).expect("puts");
    let probe = Probe::Dense(vec![2.0, 2.0]);
    for (k, exact) in [(3, false), (100, false), (3, true), (100, true)] {
        let hits = search(&shard, 1, 0, &probe, k, exact).expect("hits");
        assert_eq!(hits.len(), k);
        assert_eq!(hits[..2].iter().map(|hit| hit.id.as_str()).collect::<Vec<_>>(), ["d00", "d99"]);
        assert!(hits.iter().all(|hit| hit.score.is_finite()));
    }
}
