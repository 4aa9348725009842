//! Postings against tantivy, with the same terms, one segment and one thread each.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::process::Command;
use std::time::{Duration, Instant};

use freshet_operators::index::rows::{Pick, Row as RowNumber, RowIndex, RowSet, Search};
use freshet_operators::index::sparse::SparseRows;
use freshet_operators::index::{FieldSpec, Metric, Probe, Scoring, TokenCoding};
use freshet_operators::stats::bm25_weight;
use freshet_schemas::{Params, SparseVector, VectorKind};
use tantivy::collector::TopDocs;
use tantivy::query::{BooleanQuery, Occur, Query, TermQuery};
use tantivy::schema::{Field, IndexRecordOption, Schema, TextFieldIndexing, TextOptions};
use tantivy::{Index, IndexWriter, Searcher, TantivyDocument, Term};

use crate::data::{Random, term};
use crate::report::{Report, Row, against, per_second};

const K1: f32 = 1.2;
const HEAD_ROWS: usize = 8192;
const QUERIES: usize = 1000;
const ROUNDS: usize = 5;
/// Bytes that tantivy's writer may hold.
const WRITER_BYTES: usize = 256 << 20;
/// Sealed indexes merged at once.
const FAN_IN: usize = 8;

/// Measures.
pub(crate) fn run(report: &mut Report) {
    let short = descriptions();
    if short.is_empty() {
        eprintln!("sparse: no package descriptions on this machine (apt-cache), real texts are left out");
    } else {
        let part = report.scaled(short.len());
        measure(report, &format!("{part} package descriptions"), &short[..part]);
        let long: Vec<Vec<String>> = short.chunks(20).map(<[_]>::concat).collect();
        let part = report.scaled(long.len());
        measure(report, &format!("{part} texts of 20 descriptions"), &long[..part]);
    }
    let count = report.scaled(1_000_000);
    measure(report, &format!("{count} texts of 30 words, Zipf, 200,000 words"), &zipf(count));
}

/// Short descriptions of the packages that the machine knows, as words.
pub(crate) fn descriptions() -> Vec<Vec<String>> {
    let listed = Command::new("apt-cache").arg("dumpavail").output();
    let text = listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let words = |line: &str| -> Vec<String> {
        let split = line.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
        split.map(str::to_lowercase).collect()
    };
    let described = text.lines().filter_map(|line| line.strip_prefix("Description: "));
    described.map(words).filter(|words| !words.is_empty()).collect()
}

/// Texts of 30 words of a vocabulary of 200,000.
fn zipf(count: usize) -> Vec<Vec<String>> {
    let mut random = Random::new(21);
    (0..count).map(|_| (0..30).map(|_| format!("w{}", random.zipf(200_000))).collect()).collect()
}

fn vector(words: &[String]) -> SparseVector {
    SparseVector::counted(words.iter().map(|word| term(word)).collect())
}

fn spec() -> FieldSpec {
    FieldSpec {
        name: "bm25".into(),
        kind: VectorKind::Sparse,
        size: 0,
        scoring: Scoring::Bm25 { k1: K1, b: 0.75 },
        metric: Metric::Dot,
        factory: String::new(),
        coding: TokenCoding::Int8,
    }
}

fn seal(parts: &[SparseRows]) -> SparseRows {
    let from: Vec<&SparseRows> = parts.iter().collect();
    let rows = (0u32..)
        .zip(&from)
        .flat_map(|(from, part)| (0..part.len() as RowNumber).map(move |row| Pick { from, row }));
    SparseRows::seal(&spec(), &from, &rows.collect::<Vec<_>>()).expect("a sealed index")
}

/// Heads that are sealed when full, and sealed indexes merged by the dozen, all on this thread; at the end one.
fn add(vectors: &[SparseVector]) -> (SparseRows, Duration) {
    let start = Instant::now();
    // Per level the sealed indexes that wait to be merged.
    let mut levels: Vec<Vec<SparseRows>> = Vec::new();
    for rows in vectors.chunks(HEAD_ROWS) {
        let mut head = SparseRows::head(&spec()).expect("a head");
        rows.iter().for_each(|vector| head.push(vector).expect("a vector that fits"));
        let mut sealed = seal(&[head]);
        for level in 0.. {
            if levels.len() == level {
                levels.push(Vec::new());
            }
            levels[level].push(sealed);
            if levels[level].len() < FAN_IN {
                break;
            }
            sealed = seal(&std::mem::take(&mut levels[level]));
        }
    }
    let took = start.elapsed();
    let parts: Vec<SparseRows> = levels.into_iter().rev().flatten().collect();
    (seal(&parts), took)
}

/// Tantivy's index of the same texts, and the time until they could be searched.
fn tantivy_index(texts: &[Vec<String>]) -> (Searcher, Field, Duration) {
    let mut schema = Schema::builder();
    let indexing = TextFieldIndexing::default()
        .set_tokenizer("whitespace")
        .set_index_option(IndexRecordOption::WithFreqs)
        .set_fieldnorms(true);
    let field = schema.add_text_field("text", TextOptions::default().set_indexing_options(indexing));
    let index = Index::create_in_ram(schema.build());
    let texts: Vec<String> = texts.iter().map(|words| words.join(" ")).collect();
    let start = Instant::now();
    let mut writer: IndexWriter = index.writer_with_num_threads(1, WRITER_BYTES).expect("a writer");
    for text in texts {
        let mut document = TantivyDocument::default();
        document.add_text(field, text);
        writer.add_document(document).expect("room for a document");
    }
    writer.commit().expect("a commit");
    let took = start.elapsed();
    let segments = index.searchable_segment_ids().expect("segments");
    if segments.len() > 1 {
        writer.merge(&segments).wait().expect("a merge");
    }
    writer.wait_merging_threads().expect("merges");
    let searcher = index.reader().expect("a reader").searcher();
    (searcher, field, took)
}

/// What is asked: ours and tantivy's form of it.
struct Asked {
    probe: Probe,
    query: BooleanQuery,
}

fn queries(texts: &[Vec<String>], field: Field) -> Vec<Asked> {
    let mut frequencies: BTreeMap<u64, i64> = BTreeMap::new();
    let mut length = 0;
    for words in texts {
        length += words.len();
        vector(words).indices.iter().for_each(|&term| *frequencies.entry(term).or_default() += 1);
    }
    let length_mean = length as f64 / texts.len() as f64;
    let mut random = Random::new(22);
    let mut asked = Vec::with_capacity(QUERIES);
    while asked.len() < QUERIES {
        let words = &texts[random.below(texts.len())];
        let mut chosen: Vec<&String> =
            (0..2 + random.below(5)).map(|_| &words[random.below(words.len())]).collect();
        chosen.sort_unstable();
        chosen.dedup();
        if chosen.len() < 2 {
            continue;
        }
        let weight = |term: u64| bm25_weight(1.0, texts.len() as i64, frequencies[&term], K1);
        let mut terms: Vec<(u64, f64)> =
            chosen.iter().map(|word| term(word)).map(|term| (term, weight(term))).collect();
        terms.sort_unstable_by_key(|(term, _)| *term);
        let clause = |word: &&String| -> (Occur, Box<dyn Query>) {
            let term = Term::from_field_text(field, word);
            (Occur::Should, Box::new(TermQuery::new(term, IndexRecordOption::WithFreqs)))
        };
        let query = BooleanQuery::new(chosen.iter().map(clause).collect());
        asked.push(Asked { probe: Probe::Sparse { terms, length_mean }, query });
    }
    asked
}

fn measure(report: &mut Report, corpus: &str, texts: &[Vec<String>]) {
    let vectors: Vec<SparseVector> = texts.iter().map(|words| vector(words)).collect();
    let (sealed, added) = add(&vectors);
    let postings: usize = vectors.iter().map(|vector| vector.indices.len()).sum();
    drop(vectors);
    let (searcher, field, committed) = tantivy_index(texts);
    let asked = queries(texts, field);
    let visible = RowSet::all(sealed.len());
    let params = Params::default();
    let ask = |probe: &Probe| {
        let search = Search { probe, visible: &visible, want: 10, above: f64::NEG_INFINITY, params: &params };
        sealed.search(&search).expect("a probe that fits").hits
    };
    let theirs = |query: &BooleanQuery| {
        searcher.search(query, &TopDocs::with_limit(10).order_by_score()).expect("an answer")
    };
    let apart = check(&sealed, &asked, &ask, &theirs);
    let (ours, other) = against(
        ROUNDS,
        || asked.iter().for_each(|asked| drop(black_box(ask(&asked.probe)))),
        || asked.iter().for_each(|asked| drop(black_box(theirs(&asked.query)))),
    );
    report.add(Row {
        group: "sparse",
        what: format!("BM25 top 10 of 2–6 terms, {corpus}"),
        value: per_second(asked.len(), ours),
        unit: "queries/s",
        reference: Some((per_second(asked.len(), other), "tantivy")),
        bar: Some(1.5),
        note: format!(
            "{postings} postings; equal to a scan; best scores within {:.1} % of tantivy's rounded lengths",
            apart * 100.0
        ),
    });
    report.add(Row {
        group: "sparse",
        what: format!("adding, {corpus}"),
        value: per_second(texts.len(), added),
        unit: "documents/s",
        reference: Some((per_second(texts.len(), committed), "tantivy, one thread, commit")),
        bar: Some(1.0),
        note: "term counts given; sealed and merged; tantivy splits at spaces".into(),
    });
    let space: usize = searcher.space_usage().map(|usage| usage.total().get_bytes() as usize).unwrap_or(0);
    report.add(Row {
        group: "sparse",
        what: format!("memory, {corpus}"),
        value: sealed.bytes() as f64 / postings as f64,
        unit: "bytes/posting",
        reference: Some((space as f64 / postings as f64, "tantivy, no vectors by row")),
        bar: None,
        note: "with the vectors by row, which updates and merges read".into(),
    });
}

/// Compares answers with plain scans, and best scores with tantivy's; the greatest relative difference of those.
fn check(
    sealed: &SparseRows,
    asked: &[Asked],
    ask: &dyn Fn(&Probe) -> Vec<freshet_operators::index::rows::RowHit>,
    theirs: &dyn Fn(&BooleanQuery) -> Vec<(f32, tantivy::DocAddress)>,
) -> f64 {
    let visible = RowSet::all(sealed.len());
    let mut apart = 0f64;
    for Asked { probe, query } in asked.iter().step_by(asked.len().div_ceil(20)) {
        let mut right = sealed.scan(probe, &visible).expect("a probe that fits");
        right.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.row.cmp(&b.row)));
        right.truncate(10);
        let mut found = ask(probe);
        found.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.row.cmp(&b.row)));
        assert_eq!(found, right, "the search finds what a scan finds");
        if let (Some(ours), Some((score, _))) = (right.first(), theirs(query).first()) {
            apart = apart.max((ours.score - f64::from(*score)).abs() / ours.score);
        }
    }
    apart
}
