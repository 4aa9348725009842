//! Measurements. Run with `cargo test --release -p freshet-operators index::tests::speed -- --ignored --nocapture`.

use std::time::Instant;

use freshet_schemas::{SparseVector, VectorKind};

use super::{Random, field};
use crate::index::old::shard::Shard;
use crate::index::{DocumentPut, FieldPut, FieldSpec, Probe, RowPut, RowVector, Scoring, ShardChange};

const DOCUMENTS: u64 = 20_000;
const SIZE: usize = 384;

fn vector(random: &mut Random) -> Vec<f32> {
    (0..SIZE).map(|_| random.below(2001) as f32 / 1000.0 - 1.0).collect()
}

/// 120 terms of a vocabulary in which low numbers are common.
fn terms(random: &mut Random) -> SparseVector {
    let mut indices: Vec<u64> = (0..120).map(|_| random.below(200) * random.below(200)).collect();
    indices.sort_unstable();
    indices.dedup();
    let values = indices.iter().map(|_| 1.0 + random.below(3) as f32).collect();
    SparseVector { indices, values }
}

fn put(number: u64, fields: Vec<FieldPut>) -> ShardChange {
    let payload = format!("{{\"number\":{number}}}");
    let id = format!("document-{}", number % DOCUMENTS);
    ShardChange::Put(Box::new(DocumentPut {
        id,
        origin: (0, 0),
        payload,
        chunks: vec![String::new()],
        fields,
    }))
}

fn milliseconds(what: &str, times: usize, mut f: impl FnMut()) {
    let mut taken: Vec<f64> = (0..times)
        .map(|_| {
            let start = Instant::now();
            f();
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    taken.sort_unstable_by(f64::total_cmp);
    eprintln!("{what}: {:.3} ms (best), {:.3} ms (median of {times})", taken[0], taken[times / 2]);
}

#[test]
#[ignore = "a measurement, not a test"]
fn searches_and_changes() {
    let mut random = Random::new(1);
    let bm25 = Scoring::Bm25 { k1: 1.2, b: 0.75 };
    let bm25 = FieldSpec { scoring: bm25, ..field("bm25", VectorKind::Sparse, 0) };
    let mut shard = Shard::new(vec![field("dense", VectorKind::Dense, SIZE), bm25]).expect("fields");
    let mut time = 0;
    let mut next = 0;
    let mut tick = |shard: &mut Shard, count: u64| {
        time += 1;
        let new = |number| {
            let row = RowPut::New(RowVector::Dense(vector(&mut random)));
            put(number, vec![FieldPut::Rows(vec![row]), FieldPut::Sparse(terms(&mut random))])
        };
        let changes: Vec<ShardChange> = (next..next + count).map(new).collect();
        next += count;
        let start = Instant::now();
        shard.apply(time, changes).expect("puts");
        (time, start.elapsed())
    };
    let (now, taken) = tick(&mut shard, DOCUMENTS);
    eprintln!(
        "{DOCUMENTS} documents of {SIZE} dimensions and about 100 terms put in {taken:?}: {:?}",
        shard.counters()
    );
    let mut random = Random::new(2);
    let dense = Probe::Dense(vector(&mut random));
    let query = [3, 40, 700, 5100].map(|term| (term, 2.0)).to_vec();
    let sparse = Probe::Sparse { terms: query, length_mean: 200.0 };
    let search = |shard: &Shard, time, field, probe: &Probe, exact| {
        std::hint::black_box(shard.search(time, field, probe, 100, exact).expect("hits"));
    };
    milliseconds("dense, k 100", 30, || search(&shard, now, 0, &dense, false));
    milliseconds("dense, k 100, plain scan", 30, || search(&shard, now, 0, &dense, true));
    milliseconds("bm25, 4 terms, k 100", 30, || search(&shard, now, 1, &sparse, false));
    let ids: Vec<String> = (0..200).map(|number| format!("document-{number}")).collect();
    milliseconds("dense, score 200", 30, || drop(shard.score(now, 0, &dense, &ids).expect("hits")));
    milliseconds("bm25, score 200", 30, || drop(shard.score(now, 1, &sparse, &ids).expect("hits")));
    let mut compacting = 0f64;
    let mut applying = 0f64;
    for _ in 0..100 {
        let (now, taken) = tick(&mut shard, 500);
        applying += taken.as_secs_f64();
        let start = Instant::now();
        shard.compact(now);
        compacting = compacting.max(start.elapsed().as_secs_f64());
    }
    eprintln!(
        "100 ticks of 500 updates: {applying:.3} s applying, at most {:.3} ms in compact",
        compacting * 1e3
    );
    let (now, _) = tick(&mut shard, 500);
    milliseconds("dense, k 100, beside dead rows", 30, || search(&shard, now, 0, &dense, false));
    milliseconds("bm25, 4 terms, k 100, beside dead rows", 30, || search(&shard, now, 1, &sparse, false));
    eprintln!("{:?}", shard.counters());
}
