//! Segments as tables with what was built of them beside, against Arrow's writer and reader of the same rows.

use std::fs::File;
use std::time::Duration;

use arrow::array::RecordBatch;
use freshet_operators::index::segment::{BuiltField, Marks, NewVersion, Segment, SegmentSpec, Source, table};
use freshet_operators::index::{Chunk, FieldSpec, Metric, RowVector, Scoring, TokenCoding, TokenMatrix};
use freshet_schemas::{SparseVector, VectorKind};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use crate::data::{Random, clustered, term};
use crate::report::{Report, Row, against, busy};

const DIM: usize = 384;
const TOKENS: usize = 32;
const TOKEN_DIM: usize = 96;

/// Times that a table is written and read, the best of which counts: what else the machine does counts little.
const WRITES: usize = 12;
const READS: usize = 24;

/// What the ratios are to reach.
const BAR: f64 = 0.8;

/// Measures.
pub(crate) fn run(report: &mut Report) {
    let dense = field("dense", VectorKind::Dense, DIM);
    let sparse = field("sparse", VectorKind::Sparse, 0);
    let multi = field("multi", VectorKind::Multi, TOKEN_DIM);
    let coded = FieldSpec { coding: TokenCoding::Residual, ..multi.clone() };
    measure(report, "dense and BM25", vec![dense, sparse], report.scaled(20_000));
    measure(report, "token vectors", vec![multi], report.scaled(4_000));
    measure(report, "token vectors, residual", vec![coded], report.scaled(4_000));
}

fn field(name: &str, kind: VectorKind, size: usize) -> FieldSpec {
    let (scoring, metric) = (Scoring::Bm25 { k1: 1.2, b: 0.75 }, Metric::Dot);
    FieldSpec {
        name: name.into(),
        kind,
        size,
        scoring,
        metric,
        factory: "HNSW32".into(),
        coding: TokenCoding::Int8,
    }
}

fn vector(field: &FieldSpec, dense: &[f32], words: &[String], random: &mut Random) -> RowVector {
    match field.kind {
        VectorKind::Dense => RowVector::Dense(dense.to_vec()),
        VectorKind::Sparse => {
            RowVector::Sparse(SparseVector::counted(words.iter().map(|word| term(word)).collect()))
        }
        VectorKind::Multi => {
            let code = |random: &mut Random| (random.normal() * 40.0).clamp(-127.0, 127.0).round() as i8;
            RowVector::Multi(TokenMatrix {
                dim: TOKEN_DIM,
                codes: (0..TOKENS * TOKEN_DIM).map(|_| code(random)).collect(),
                scales: vec![0.0025; TOKENS],
            })
        }
    }
}

fn segment(spec: &SegmentSpec, count: usize) -> (Segment, usize) {
    let mut random = Random::new(11);
    let dense = clustered(count, DIM, 12);
    let mut head = Segment::head(spec).expect("a head");
    let mut bytes = 0;
    for (number, dense) in dense.iter().enumerate() {
        let words: Vec<String> = (0..80).map(|_| format!("word{}", random.zipf(200_000))).collect();
        let version = NewVersion {
            id: format!("document-{number:07}"),
            origin: (0, number as i64),
            payload: format!("{{\"number\":{number},\"city\":\"city{}\"}}", random.below(200)),
            digest: random.bits().to_le_bytes().to_vec(),
            chunks: vec![Chunk { start: 0, text: words.join(" ") }],
            fields: spec.fields.iter().map(|field| vec![vector(field, dense, &words, &mut random)]).collect(),
        };
        bytes += version.bytes();
        head.push(&version, 1_700_000_000_000 + number as u64).expect("a version");
    }
    let marks = Marks::new(head.versions().births(), Vec::new());
    let sealed = Segment::seal(spec, &[Source { segment: &head, marks }]).expect("a segment");
    (sealed.segment, bytes)
}

fn measure(report: &mut Report, what: &str, fields: Vec<FieldSpec>, count: usize) {
    let spec = SegmentSpec { fields, payload: Vec::new() };
    let (segment, bytes) = segment(&spec, count);
    let path = std::env::temp_dir().join(format!("freshet-bench-{}.parquet", std::process::id()));
    let file = File::create(&path).expect("a file");
    let built = table::built(&segment, 0).expect("what was built");
    let built_bytes: usize = built.iter().map(|built| built.bytes.len()).sum();
    let written = table::write(&segment, &spec, &[], file).expect("a table");
    let stored = || File::open(&path).expect("the table");
    let reader =
        || ParquetRecordBatchReaderBuilder::try_new(stored()).expect("a table").build().expect("a reader");
    let batches: Vec<RecordBatch> = reader().map(|batch| batch.expect("rows")).collect();

    let ours = || {
        let mut to = Vec::with_capacity(bytes);
        table::write(&segment, &spec, &[], &mut to).expect("a table");
        drop(std::hint::black_box(table::built(&segment, 0).expect("what was built")));
    };
    let level = ZstdLevel::try_new(1).expect("a level");
    let plain = || {
        let mut to = Vec::with_capacity(bytes);
        let properties = WriterProperties::builder().set_compression(Compression::ZSTD(level)).build();
        let mut writer =
            ArrowWriter::try_new(&mut to, batches[0].schema(), Some(properties)).expect("a writer");
        batches.iter().for_each(|batch| writer.write(batch).expect("rows"));
        writer.close().expect("a table");
    };
    let per_second = |time: Duration| bytes as f64 / 1e6 / time.as_secs_f64();
    let note = format!(
        "{count} documents, {:.1} MB of values, table of {:.1} MB, {:.1} MB beside it",
        bytes as f64 / 1e6,
        written.bytes as f64 / 1e6,
        built_bytes as f64 / 1e6
    );
    let row = |doing: &str, (ours, other): (Duration, Duration), name| Row {
        group: "snapshot",
        what: format!("{doing}: {what}"),
        value: per_second(ours),
        unit: "MB/s",
        reference: Some((per_second(other), name)),
        bar: Some(BAR),
        note: note.clone(),
    };
    report.add(row("write", against(WRITES, ours, plain), "ArrowWriter, zstd 1, of ready batches"));
    let beside = |built: &BuiltField| path.with_extension(built.field.to_string());
    built.iter().for_each(|built| std::fs::write(beside(built), &built.bytes).expect("a file"));
    let read = |built: &BuiltField| BuiltField {
        field: built.field,
        bytes: std::fs::read(beside(built)).expect("what was built"),
    };
    let plain = || reader().for_each(|batch| drop(std::hint::black_box(batch.expect("rows"))));
    let mut best = (Duration::MAX, Duration::MAX);
    for _ in 0..READS {
        // To let a segment go again is no part of loading it.
        let mut loaded = None;
        let ours = || {
            let table = table::read(stored(), &spec, built.iter().map(read).collect());
            loaded = Some(table.expect("a segment"));
        };
        best.0 = best.0.min(busy(ours));
        drop(loaded);
        best.1 = best.1.min(busy(plain));
    }
    report.add(row("read to a sealed segment", best, "Parquet to batches"));
    std::fs::remove_file(&path).expect("the table");
    built.iter().for_each(|built| std::fs::remove_file(beside(built)).expect("what was built"));
}
