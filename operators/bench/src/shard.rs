//! Measurements of whole shards: all fields together, builds in the background.

use std::sync::Arc;
use std::time::{Duration, Instant};

use freshet_operators::index::payload::PayloadField;
use freshet_operators::index::segment::SegmentSpec;
use freshet_operators::index::shard::{BuildPool, Builder, HeadLimit, Shard};
use freshet_operators::index::{
    Chunk, DocumentPut, FieldPut, FieldSpec, Metric, Probe, RowPut, RowVector, Scoring, ShardChange,
    TokenCoding, TokenMatrix,
};
use freshet_schemas::{Params, SparseVector, VectorKind};

use crate::data::{Random, clustered};
use crate::report::{Report, Row, per_second};

const DIM: usize = 384;
const TICK: usize = 64;

/// Measures.
pub(crate) fn run(report: &mut Report) {
    freshness(report);
    bytes(report);
}

pub(crate) fn field(name: &str, kind: VectorKind, size: usize) -> FieldSpec {
    FieldSpec {
        name: name.into(),
        kind,
        size,
        scoring: Scoring::Bm25 { k1: 1.2, b: 0.75 },
        metric: Metric::Dot,
        factory: freshet_config::defaults::INDEX.into(),
        coding: TokenCoding::Int8,
    }
}

/// A shard of these fields, which a thread builds.
pub(crate) fn open(fields: Vec<FieldSpec>) -> Shard {
    open_with(fields, Vec::new())
}

/// A shard that indexes payload fields, too.
pub(crate) fn open_with(fields: Vec<FieldSpec>, payload: Vec<PayloadField>) -> Shard {
    let builder: Arc<dyn Builder> = Arc::new(BuildPool::new(1).expect("a thread"));
    let spec = SegmentSpec { fields, payload };
    Shard::new(Arc::new(spec), HeadLimit::default(), builder).expect("fields that can be indexed")
}

/// Lets a shard merge all it wants to.
pub(crate) fn settle(shard: &mut Shard) {
    let time = shard.applied().unwrap_or(0) + 60_000;
    while !shard.is_settled() {
        shard.compact(time).expect("builds");
        std::thread::yield_now();
    }
}

/// The id of a document: they ascend with their numbers.
pub(crate) fn id(number: usize) -> String {
    format!("document-{number:07}")
}

pub(crate) fn put(number: usize, fields: Vec<FieldPut>) -> ShardChange {
    put_with(number, "{}".into(), fields)
}

pub(crate) fn put_with(number: usize, payload: String, fields: Vec<FieldPut>) -> ShardChange {
    ShardChange::Put(Box::new(DocumentPut {
        id: id(number),
        origin: (0, 0),
        payload,
        digest: vec![0; 32],
        chunks: vec![Chunk::default()],
        fields,
    }))
}

pub(crate) fn dense(vector: &[f32]) -> FieldPut {
    FieldPut::Rows(vec![RowPut::New(RowVector::Dense(vector.to_vec()))])
}

/// 30 terms of a vocabulary of 200,000.
fn terms(random: &mut Random) -> SparseVector {
    SparseVector::counted((0..30).map(|_| random.zipf(200_000) as u64).collect())
}

/// Documents of two fields arrive in ticks while segments are built; each tick's last document is asked for at once.
fn freshness(report: &mut Report) {
    let count = report.scaled(30_000);
    let vectors = clustered(count, DIM, 3);
    let mut random = Random::new(4);
    let mut shard = open(vec![field("dense", VectorKind::Dense, DIM), field("bm25", VectorKind::Sparse, 0)]);
    let (mut applied, mut searched) = (Vec::new(), Vec::new());
    for (tick, group) in vectors.chunks(TICK).enumerate() {
        let changes = group.iter().enumerate().map(|(place, vector)| {
            put(tick * TICK + place, vec![dense(vector), FieldPut::Sparse(terms(&mut random))])
        });
        let changes: Vec<ShardChange> = changes.collect();
        let time = tick as u64 + 1;
        let start = Instant::now();
        shard.apply(time, changes).expect("changes that fit");
        shard.compact(time).expect("builds");
        applied.push(start.elapsed());
        let last = group.len() - 1;
        let start = Instant::now();
        let hits = shard.search(time, 0, &Probe::Dense(group[last].clone()), 10, &Params::default(), None);
        searched.push(start.elapsed());
        let found = hits.expect("a probe that fits");
        assert_eq!(found[0].id, id(tick * TICK + last), "a document is found at once");
    }
    let total: Duration = applied.iter().sum();
    let at = |times: &mut Vec<Duration>, part: f64| {
        times.sort_unstable();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place")]
        let place = ((times.len() - 1) as f64 * part) as usize;
        times[place].as_secs_f64() * 1e3
    };
    let note = format!(
        "p50; p99 {:.2} ms, longest {:.2} ms; {:.0} documents/s applied; every tick's last document was found by the next search",
        at(&mut applied, 0.99),
        at(&mut applied, 1.0),
        per_second(count, total)
    );
    report.add(Row {
        group: "shard",
        what: format!("from tick to searchable: {TICK} documents, dense {DIM} + BM25"),
        value: at(&mut applied, 0.5),
        unit: "ms",
        reference: None,
        bar: None,
        note,
    });
    let busy = at(&mut searched, 0.99);
    settle(&mut shard);
    let time = shard.applied().unwrap_or(0);
    let mut quiet: Vec<Duration> = vectors
        .iter()
        .step_by(TICK)
        .map(|vector| {
            let start = Instant::now();
            let hits = shard.search(time, 0, &Probe::Dense(vector.clone()), 10, &Params::default(), None);
            std::hint::black_box(hits.expect("a probe that fits"));
            start.elapsed()
        })
        .collect();
    report.add(Row {
        group: "shard",
        what: "longest wait of a query while segments are built (p99, head included)".into(),
        value: busy,
        unit: "ms",
        reference: Some((at(&mut quiet, 0.99), "p99 of the same shard when quiet")),
        bar: None,
        note: format!("{:?}", shard.counters()),
    });
}

/// Bytes of memory per document of each kind of field, in a quiet shard.
fn bytes(report: &mut Report) {
    let count = report.scaled(20_000);
    let vectors = clustered(count, DIM, 5);
    let mut random = Random::new(6);
    let mut measure = |what: &str, spec: Option<FieldSpec>, vector: &mut dyn FnMut(usize) -> FieldPut| {
        let has_field = spec.is_some();
        let mut shard = open(spec.into_iter().collect());
        for (tick, numbers) in (0..count).collect::<Vec<_>>().chunks(1024).enumerate() {
            let changes = numbers
                .iter()
                .map(|&number| put(number, if has_field { vec![vector(number)] } else { Vec::new() }));
            shard.apply(tick as u64 + 1, changes.collect()).expect("changes that fit");
        }
        settle(&mut shard);
        report.add(Row {
            group: "shard",
            what: format!("memory: {what}"),
            value: shard.counters().bytes as f64 / count as f64,
            unit: "bytes/document",
            reference: None,
            bar: None,
            note: "ids of 16 bytes, an empty payload and the version's columns included".into(),
        });
    };
    measure("no field", None, &mut |_| FieldPut::None);
    let spec = field("dense", VectorKind::Dense, DIM);
    measure(&format!("dense, {DIM} dimensions, {}", spec.factory), Some(spec), &mut |number| {
        dense(&vectors[number])
    });
    let spec = field("bm25", VectorKind::Sparse, 0);
    measure("BM25, 30 terms", Some(spec), &mut |_| FieldPut::Sparse(terms(&mut random)));
    {
        let spec = field("colbert", VectorKind::Multi, 128);
        let mut random = Random::new(7);
        let mut matrix = |_| {
            let codes: Vec<i8> = (0..64 * 128).map(|_| (random.below(255) as i64 - 127) as i8).collect();
            let scales = vec![1.0 / 900.0; 64];
            FieldPut::Rows(vec![RowPut::New(RowVector::Multi(TokenMatrix { dim: 128, codes, scales }))])
        };
        measure("late interaction, 64 tokens of 128, int8", Some(spec), &mut matrix);
    }
}
