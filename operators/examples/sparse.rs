//! Fills a sparse index by hand and searches it: `cargo run --release -p freshet-operators --example sparse`.
//!
//! An index of a field knows rows, scores and sets of bits. Ids, times and the weights of a query's terms come from around it: here
//! they are counted by hand.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::borrow::Cow;
use std::error::Error;

use freshet_operators::index::bits::Bits;
use freshet_operators::index::rows::{Pick, Row, RowIndex, RowSet, Search};
use freshet_operators::index::sparse::SparseRows;
use freshet_operators::index::{FieldSpec, Metric, Probe, Scoring, TokenCoding};
use freshet_operators::stats::bm25_weight;
use freshet_operators::text::Analyzer;
use freshet_schemas::{Params, VectorKind};

/// As in Lucene.
const K1: f32 = 1.2;
const TEXTS: [&str; 4] = [
    "Refunds take three days.",
    "A refund of the refund is no refund.",
    "Berths are booked by the harbour master.",
    "The invoice names the refund.",
];

/// Rows that match a question, best first: in a head, in what is sealed from it, and without the first row.
///
/// # Errors
/// None, unless the index is broken.
pub fn found(question: &str) -> Result<[Vec<Row>; 3], Box<dyn Error>> {
    let spec = FieldSpec {
        name: "bm25".to_owned(),
        kind: VectorKind::Sparse,
        size: 0,
        scoring: Scoring::Bm25 { k1: K1, b: 0.75 },
        metric: Metric::Dot,
        factory: String::new(),
        coding: TokenCoding::Int8,
    };
    let analyzer = Analyzer::new("english")?;
    let rows = TEXTS.map(|text| analyzer.document(text));
    let mut head = SparseRows::head(&spec)?;
    rows.iter().try_for_each(|row| head.push(row))?;
    let all: Vec<Pick> = (0..rows.len() as Row).map(|row| Pick { from: 0, row }).collect();
    let sealed = SparseRows::seal(&spec, &[&head], &all)?;

    // What differential counts in a pipeline.
    let length: f32 = rows.iter().flat_map(|row| &row.values).sum();
    let asked = analyzer.query(question);
    let weight = |(&term, &count): (&u64, &f32)| {
        let frequency = rows.iter().filter(|row| row.indices.contains(&term)).count();
        (term, bm25_weight(count, rows.len() as i64, frequency as i64, K1))
    };
    let terms = asked.indices.iter().zip(&asked.values).map(weight).collect();
    let probe = Probe::Sparse { terms, length_mean: f64::from(length) / rows.len() as f64 };

    let everything = RowSet::all(rows.len());
    let mut but_the_first = Bits::all(rows.len());
    but_the_first.remove(0);
    let but_the_first = RowSet::of(Cow::Owned(but_the_first));
    let search = |index: &SparseRows, visible: &RowSet<'_>| {
        let search =
            Search { probe: &probe, visible, want: 10, above: f64::NEG_INFINITY, params: &Params::default() };
        let mut hits = index.search(&search)?.hits;
        hits.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.row.cmp(&b.row)));
        Ok::<_, Box<dyn Error>>(hits.into_iter().map(|hit| hit.row).collect())
    };
    Ok([search(&head, &everything)?, search(&sealed, &everything)?, search(&sealed, &but_the_first)?])
}

/// Shows them.
///
/// # Errors
/// As [`found`].
pub fn main() -> Result<(), Box<dyn Error>> {
    let names = ["head", "sealed", "sealed, without row 0"];
    for (name, rows) in names.iter().zip(found("refunds")?) {
        println!("{name}:");
        rows.into_iter().for_each(|row| println!("  {}", TEXTS[row as usize]));
    }
    Ok(())
}
