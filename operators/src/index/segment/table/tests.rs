use freshet_schemas::{Filter, Params, SparseVector, VectorKind};
use object_store::PutPayload;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::reader::ChunkReader;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;

use super::*;
use crate::index::payload::{PayloadField, PayloadKind};
use crate::index::rows::{RowSet, Search};
use crate::index::segment::{BuiltField, Marks, NewVersion, Segment, SegmentSpec, Source, Version};
use crate::index::{Chunk, FieldSpec, Metric, Probe, RowVector, Scoring, Time, TokenCoding, TokenMatrix};

const SIZE: usize = 3;

fn field(name: &str, kind: VectorKind, size: usize) -> FieldSpec {
    let scoring = if name == "bm25" { Scoring::Bm25 { k1: 1.2, b: 0.75 } } else { Scoring::Dot };
    let factory = "HNSW16,SQ8".to_owned();
    FieldSpec {
        name: name.to_owned(),
        kind,
        size,
        scoring,
        metric: Metric::Dot,
        factory,
        coding: TokenCoding::Int8,
    }
}

/// All kinds, some by names that are taken.
fn spec() -> SegmentSpec {
    let payload = [
        ("city", PayloadKind::Keyword),
        ("text", PayloadKind::Text),
        ("year", PayloadKind::Integer),
        ("price", PayloadKind::Float),
        ("sold", PayloadKind::Bool),
        ("at", PayloadKind::Datetime),
        ("author.name", PayloadKind::Keyword),
        ("offers[].price", PayloadKind::Float),
    ];
    let payload = payload.map(|(path, kind)| PayloadField { path: path.to_owned(), kind });
    SegmentSpec {
        fields: vec![
            field("text", VectorKind::Dense, SIZE),
            field("dense", VectorKind::Dense, 2),
            field("id", VectorKind::Sparse, 0),
            field("bm25", VectorKind::Sparse, 0),
            field("Chunk", VectorKind::Multi, SIZE),
        ],
        payload: payload.to_vec(),
    }
}

fn payload() -> impl Strategy<Value = String> {
    let value = || {
        prop_oneof![
            Just(json!(null)),
            Just(json!([])),
            Just(json!([1, "Łódź", null])),
            Just(json!(1.5)),
            Just(json!(-7)),
            Just(json!(true)),
            Just(json!("Łódź")),
            Just(json!("2024-02-29T12:00:00Z")),
            Just(json!({"name": "Ada", "price": 3})),
        ]
    };
    let names = vec!["city", "text", "year", "price", "sold", "at", "author", "offers", "other"];
    proptest::collection::btree_map(select(names), value(), 0..6).prop_map(|map| json!(map).to_string())
}

fn value() -> impl Strategy<Value = f32> {
    prop_oneof![Just(0.0), Just(-0.0), Just(f32::MIN_POSITIVE / 2.0), -1f32..1.0]
}

fn dense(size: usize) -> impl Strategy<Value = Vec<RowVector>> {
    vec(vec(value(), size).prop_map(RowVector::Dense), 0..4)
}

fn sparse() -> impl Strategy<Value = Vec<RowVector>> {
    let terms =
        || proptest::collection::btree_map(select(vec![0, 1, 7, u64::MAX - 1, u64::MAX]), 0f32..3.0, 0..5);
    let vector = terms().prop_map(|terms| {
        let (indices, values) = terms.into_iter().unzip();
        RowVector::Sparse(SparseVector { indices, values })
    });
    option::of(vector).prop_map(|vector| vector.into_iter().collect())
}

fn multi() -> impl Strategy<Value = Vec<RowVector>> {
    let token = || (vec(-127i8..=127, SIZE), 0f32..0.1);
    let matrix = vec(token(), 0..4).prop_map(|tokens| {
        let (codes, scales): (Vec<Vec<i8>>, Vec<f32>) = tokens.into_iter().unzip();
        RowVector::Multi(TokenMatrix { dim: SIZE, codes: codes.concat(), scales })
    });
    vec(matrix, 0..4)
}

/// A version, how long after the one before it was born, and whether it died.
fn version() -> impl Strategy<Value = (NewVersion, Time, bool)> {
    let chunk = prop_oneof![Just(String::new()), Just("žluťoučký 🐎\0".to_owned()), "[a-z ]{0,20}"];
    let one = (select(vec!["", "a", "b", "ß", "\u{1F40E}"]), any::<(i32, i64)>(), payload());
    let vectors = (dense(SIZE), dense(2), sparse(), sparse(), multi());
    let rest = (vec(any::<u8>(), 0..5), vec((0..u32::MAX, chunk), 0..5), 0u64..3, any::<bool>());
    (one, vectors, rest).prop_map(|((id, origin, payload), vectors, (digest, chunks, after, died))| {
        let fields = vec![vectors.0, vectors.1, vectors.2, vectors.3, vectors.4];
        let chunks = chunks.into_iter().map(|(start, text)| Chunk { start, text }).collect();
        let version = NewVersion { id: id.to_owned(), origin, payload, digest, chunks, fields };
        (version, after, died)
    })
}

/// A head, and who has died in it.
fn grown(versions: &[(NewVersion, Time, bool)]) -> (Segment, Marks) {
    let mut head = Segment::head(&spec()).unwrap();
    let mut deaths = Vec::new();
    let mut now = 1_700_000_000_000;
    for (version, after, died) in versions {
        now += after;
        let twice = head.versions().of(&version.id).any(|other| head.versions().born(other) == now);
        now += Time::from(twice);
        let number = head.push(version, now).unwrap();
        deaths.extend(died.then_some((now + 1000, number)));
    }
    let births = head.versions().births().to_vec();
    (head, Marks::new(&births, deaths))
}

fn seal(head: &Segment, marks: Marks) -> Segment {
    Segment::seal(&spec(), &[Source { segment: head, marks }]).unwrap().segment
}

fn written(segment: &Segment, spec: &SegmentSpec) -> Vec<u8> {
    let mut bytes = Vec::new();
    let about = [("cut".to_owned(), "17".to_owned())];
    let written = write(segment, spec, &about, &mut bytes).unwrap();
    assert_eq!((written.bytes, written.versions), (bytes.len(), segment.versions().len()));
    bytes
}

/// What an object store would give.
fn stored(bytes: &[u8]) -> impl ChunkReader + 'static {
    PutPayload::from(bytes.to_vec()).into_iter().next().unwrap()
}

fn read_back(bytes: &[u8], spec: &SegmentSpec, built: Vec<BuiltField>) -> Segment {
    let table = read(stored(bytes), spec, built).unwrap();
    assert_eq!(table.about, [("cut".to_owned(), "17".to_owned())]);
    table.segment.check();
    table.segment
}

fn bits(vectors: impl Iterator<Item = RowVector>) -> Vec<String> {
    // `Debug` tells −0 from 0, and gives as many digits as it takes.
    vectors.map(|vector| format!("{vector:?}")).collect()
}

/// Asserts that a version is the same in two segments.
fn same_version(a: &Segment, in_a: Version, b: &Segment, in_b: Version) {
    let (of_a, of_b) = (a.versions(), b.versions());
    assert_eq!(of_a.id(in_a), of_b.id(in_b));
    assert_eq!(of_a.payload(in_a), of_b.payload(in_b));
    assert_eq!(of_a.digest(in_a), of_b.digest(in_b));
    assert_eq!(of_a.chunks(in_a).collect::<Vec<_>>(), of_b.chunks(in_b).collect::<Vec<_>>());
    assert_eq!(of_a.chunk_starts(in_a), of_b.chunk_starts(in_b));
    assert_eq!((of_a.born(in_a), of_a.origin(in_a)), (of_b.born(in_b), of_b.origin(in_b)));
    for field in 0..a.fields().len() {
        assert_eq!(bits(a.vectors(in_a, field)), bits(b.vectors(in_b, field)), "field {field}");
    }
}

fn probes() -> Vec<(usize, Probe)> {
    let terms = vec![(0, 0.5), (7, 1.0), (u64::MAX, 2.0)];
    let sparse = Probe::Sparse { terms, length_mean: 2.0 };
    vec![
        (0, Probe::Dense(vec![0.3, -0.2, 0.9])),
        (1, Probe::Dense(vec![0.3, -0.2])),
        (2, sparse.clone()),
        (3, sparse),
        (4, Probe::Multi(vec![vec![0.6, 0.0, 0.8], vec![0.0, 1.0, 0.0]])),
    ]
}

/// Asserts that two segments are the same by all that can be asked of them.
fn same(a: &Segment, b: &Segment) {
    assert_eq!(a.is_sealed(), b.is_sealed());
    assert_eq!(a.versions().len(), b.versions().len());
    for version in 0..a.versions().len() as Version {
        same_version(a, version, b, version);
        let of = |segment: &Segment| segment.versions().of(a.versions().id(version)).collect::<Vec<_>>();
        assert_eq!(of(a), of(b));
    }
    for (of_a, of_b) in a.fields().iter().zip(b.fields()) {
        assert!(of_a.layout == of_b.layout);
    }
    for (number, probe) in probes() {
        let found = |segment: &Segment| {
            let rows = &segment.fields()[number].rows;
            let (visible, params) = (RowSet::all(rows.len()), Params::default());
            let search = Search {
                probe: &probe,
                visible: &visible,
                want: 3,
                above: f64::NEG_INFINITY,
                params: &params,
            };
            let mut hits = rows.search(&search).unwrap().hits;
            hits.sort_by_key(|hit| hit.row);
            (hits, rows.scan(&probe, &visible).unwrap())
        };
        assert_eq!(found(a), found(b), "field {number}");
    }
    for (key, asked) in [
        ("city", json!({"match": {"value": "Łódź"}})),
        ("text", json!({"match": {"text": "łódź"}})),
        ("year", json!({"range": {"gte": -8}})),
        ("price", json!({"range": {"lt": 2}})),
        ("sold", json!({"match": {"value": true}})),
        ("at", json!({"range": {"gte": "2024-01-01"}})),
        ("author.name", json!({"match": {"value": "Ada"}})),
    ] {
        let mut condition = asked;
        condition["key"] = json!(key);
        let filter = Filter::parse(&json!({"must": condition}), "filter").unwrap();
        let found = |segment: &Segment| {
            segment
                .payload()
                .select(&filter, segment.versions(), &RowSet::all(segment.versions().len()))
                .iter()
                .collect::<Vec<_>>()
        };
        assert_eq!(found(a), found(b), "{key}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_sealed_segment_comes_back(versions in vec(version(), 0..20)) {
        let (head, marks) = grown(&versions);
        let sealed = seal(&head, marks);
        let back = read_back(&written(&sealed, &spec()), &spec(), built(&sealed, 0).unwrap());
        prop_assert!(back.is_sealed());
        same(&sealed, &back);
        // Built anew: the same.
        same(&sealed, &read_back(&written(&sealed, &spec()), &spec(), Vec::new()));
    }

    #[test]
    fn a_head_comes_back(versions in vec(version(), 0..20)) {
        let (head, marks) = grown(&versions);
        let back = read_back(&written(&head, &spec()), &spec(), built(&head, 0).unwrap());
        prop_assert!(!back.is_sealed());
        same(&head, &back);
        same(&seal(&head, marks.clone()), &seal(&back, marks));
    }
}

/// Some versions, always the same.
fn some(count: u64) -> Vec<(NewVersion, Time, bool)> {
    let version = |number: u64| {
        let value = |place: u64| (((number * 7 + place) * 2_654_435_761) % 2003) as f32 / 1000.0 - 1.0;
        let row = |places: u64| RowVector::Dense((0..places).map(value).collect());
        let terms = SparseVector { indices: vec![number % 5, 7 + number % 3], values: vec![1.0, 0.5] };
        let matrix = TokenMatrix { dim: SIZE, codes: vec![1, -127, 127], scales: vec![0.01] };
        NewVersion {
            id: format!("d{:03}", number * 37 % count),
            origin: (3, number as i64),
            payload: json!({"city": "Łódź", "year": number}).to_string(),
            digest: vec![number as u8],
            chunks: vec![Chunk { start: 0, text: format!("chunk {number}") }, Chunk::default()],
            fields: vec![
                vec![row(3), row(3)],
                vec![row(2)],
                vec![RowVector::Sparse(terms)],
                Vec::new(),
                vec![RowVector::Multi(matrix)],
            ],
        }
    };
    (0..count).map(|number| (version(number), 1, false)).collect()
}

#[test]
fn what_was_built_comes_back() {
    let (head, marks) = grown(&some(4200));
    let sealed = seal(&head, marks);
    let (bytes, all) = (written(&sealed, &spec()), built(&sealed, 4000).unwrap());
    let fields = |built: &[BuiltField]| built.iter().map(|built| built.field).collect::<Vec<_>>();
    // Of field 3 there are no rows.
    assert_eq!(fields(&all), [0, 1, 2]);
    assert_eq!(fields(&built(&sealed, 4201).unwrap()), [0], "two rows a document");
    assert_eq!(built(&head, 0).unwrap(), [], "heads have nothing");
    same(&sealed, &read_back(&bytes, &spec(), all.clone()));
    // Built anew: the same, since building is deterministic.
    same(&sealed, &read_back(&bytes, &spec(), Vec::new()));

    let refused =
        |built: Vec<BuiltField>, bytes: &[u8]| read(stored(bytes), &spec(), built).err().unwrap().to_string();
    let moved = |from: usize, field: usize| vec![BuiltField { field, bytes: all[from].bytes.clone() }];
    for which in [0, 2] {
        for place in (0..all[which].bytes.len()).step_by(1 + all[which].bytes.len() / 40) {
            let mut torn = all.clone();
            torn[which].bytes.truncate(place);
            assert!(refused(torn, &bytes).contains("torn"), "field {which} cut at {place}");
        }
    }
    let mut torn = all.clone();
    let middle = torn[0].bytes.len() / 2;
    torn[0].bytes[middle] ^= 1;
    assert!(refused(torn, &bytes).contains("is torn"));
    assert!(refused(moved(0, 1), &bytes).contains("not those of the index"));
    assert!(
        refused(moved(0, 2), &bytes).contains("torn")
            || refused(moved(0, 2), &bytes).contains("another format")
    );
    assert!(refused(moved(2, 3), &bytes).contains("torn"), "more than no rows can have");
    assert!(refused(moved(2, 0), &bytes).contains("is torn"));
    assert!(refused(moved(0, 4), &bytes).contains("has codes, and keeps none"));
    assert!(refused(moved(0, 9), &bytes).contains("field 9, which has none"));
    let (fewer, _) = grown(&some(4100));
    let alive = Marks::new(fewer.versions().births(), Vec::new());
    let fewer = written(&seal(&fewer, alive), &spec());
    assert!(refused(moved(0, 0), &fewer).contains("not those of the index"));
    assert!(refused(moved(2, 2), &fewer).contains("its postings are of 4200 rows"));
    assert!(refused(moved(0, 0), &written(&head, &spec())).contains("field 0, which has none"));
}

#[test]
fn corrupt_bytes_are_errors() {
    let (head, marks) = grown(&some(12));
    let bytes = written(&seal(&head, marks), &spec());
    for len in 0..bytes.len() {
        assert!(read(stored(&bytes[..len]), &spec(), Vec::new()).is_err(), "cut to {len} bytes");
    }
    let (mut flips, mut unnoticed) = (0, 0);
    for place in (0..bytes.len()).step_by(5) {
        let mut bytes = bytes.clone();
        bytes[place] ^= [0x01, 0x80, 0xFF][flips % 3];
        flips += 1;
        if let Ok(table) = read(stored(&bytes), &spec(), Vec::new()) {
            table.segment.check();
            unnoticed += 1;
        }
    }
    // Those that leave values valid, or hit what nobody reads; a checksum is for the caller.
    assert!(unnoticed < flips / 2, "{unnoticed} of {flips} flips unnoticed");
}

#[test]
fn a_table_of_another_segment_is_refused() {
    let (head, _) = grown(&some(3));
    let bytes = written(&head, &spec());
    let refused = |change: fn(&mut SegmentSpec)| {
        let mut other = spec();
        change(&mut other);
        read(stored(&bytes), &other, Vec::new()).err().unwrap().to_string()
    };
    let size = refused(|other| other.fields[0].size = 4);
    assert!(size.starts_with("table metadata \"freshet.fields\" is [{\"name\":\"text\""), "{size}");
    assert!(size.contains("\"size\":3") && size.contains("must be") && size.contains("\"size\":4"), "{size}");
    assert!(refused(|other| drop(other.fields.pop())).contains("must be ["));
    // Payload fields may have been declared since: they are read from the payloads.
    let mut other = spec();
    other.payload.truncate(1);
    read(stored(&bytes), &other, Vec::new()).unwrap();
}

#[test]
fn columns_are_as_documented() {
    let (head, _) = grown(&some(3));
    let bytes = written(&head, &spec());
    let builder = ParquetRecordBatchReaderBuilder::try_new(stored(&bytes)).unwrap();
    let columns: Vec<&str> = builder.schema().fields().iter().map(|field| field.name().as_str()).collect();
    let wanted = "id chunk start text payload partition offset born digest vector_text dense vector_id bm25 \
                  vector_Chunk vector_Chunk_scales city payload_text year price sold at author.name \
                  offers[].price";
    assert_eq!(columns.join(" "), wanted);
    let rows: usize = builder.build().unwrap().map(|batch| batch.unwrap().num_rows()).sum();
    assert_eq!(rows, 6);
}
