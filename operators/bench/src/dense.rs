//! FAISS segments against raw FAISS: queries/s at equal recall, deletions, filters, factory strings.

mod raw;

use std::borrow::Cow;

use freshet_operators::index::bits::Bits;
use freshet_operators::index::dense::DenseRows;
use freshet_operators::index::rows::{Pick, Row as Number, RowIndex, RowSet, Search};
use freshet_operators::index::{FieldSpec, Metric, Probe, Scoring, TokenCoding};
use freshet_schemas::{Params, VectorKind};

use crate::data::{Random, clustered};
use crate::report::{Report, Row, against, per_second, timed};
use raw::Raw;

const DIM: usize = 384;
const WANT: usize = 10;
const PROBES: usize = 200;
const ROUNDS: usize = 3;
/// The factory string that fields have unless they say.
const DEFAULT: &str = "HNSW32";
const EFS: [u32; 12] = [12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512];

/// Measures.
pub(crate) fn run(report: &mut Report) {
    let rows = report.scaled(100_000);
    let mut vectors = clustered(rows + PROBES, DIM, 11);
    let probes: Vec<Probe> = vectors.split_off(rows).into_iter().map(Probe::Dense).collect();
    let mut raw = None;
    let raw_time = timed(|| raw = Some(Raw::hnsw(&vectors)));
    let Some(raw) = raw else { return };
    let mut head = DenseRows::head(&spec(DEFAULT)).expect("a head");
    vectors.iter().for_each(|vector| head.push(vector).expect("room"));
    drop(vectors);
    let ours = built(report, DEFAULT, &head, Some(per_second(rows, raw_time)));
    let bench = Bench { probes, rows };
    let all = RowSet::all(rows);
    let truth = bench.truth(&head, &all);
    let raw_at = |bar: f64| {
        EFS.into_iter().find(|&ef| bench.recall(&truth, |probe| raw.search(probe, WANT, ef)) >= bar)
    };
    let ours_at = |bar: f64| {
        EFS.into_iter().find(|&ef| bench.recall(&truth, |probe| find(&ours, probe, &all, Some(ef))) >= bar)
    };
    for bar in [0.95, 0.98] {
        let (Some(theirs), Some(mine)) = (raw_at(bar), ours_at(bar)) else { continue };
        let times = against(
            ROUNDS,
            || bench.each(|probe| drop(find(&ours, probe, &all, Some(mine)))),
            || bench.each(|probe| drop(raw.search(probe, WANT, theirs))),
        );
        let note = format!("ef {mine}, raw {theirs}");
        bench.add(report, format!("{DEFAULT}, recall@10 ≥ {bar}"), times, Some(0.95), note);
    }
    let Some(base) = raw_at(0.95) else { return };
    deletions(report, &bench, &head, &ours, &raw, base);
    shares(report, &bench, &head, &ours, &raw);
    drop(raw);
    for factory in ["HNSW32,SQ8", "HNSW16", "IVF256,Flat", "IVF256,PQ32"] {
        let index = built(report, factory, &head, None);
        table(report, &bench, &index, &truth, factory);
    }
    table(report, &bench, &ours, &truth, DEFAULT);
}

struct Bench {
    probes: Vec<Probe>,
    rows: usize,
}

impl Bench {
    fn each(&self, mut work: impl FnMut(&Probe)) {
        self.probes.iter().for_each(&mut work);
    }

    fn truth(&self, head: &DenseRows, visible: &RowSet<'_>) -> Vec<Vec<Number>> {
        self.probes.iter().map(|probe| find(head, probe, visible, None)).collect()
    }

    fn recall(&self, truth: &[Vec<Number>], mut search: impl FnMut(&Probe) -> Vec<Number>) -> f64 {
        let mut right = 0;
        for (probe, truth) in self.probes.iter().zip(truth) {
            let found = search(probe);
            right += found.iter().take(WANT).filter(|row| truth.contains(row)).count();
        }
        right as f64 / truth.iter().map(Vec::len).sum::<usize>().max(1) as f64
    }

    fn add(
        &self,
        report: &mut Report,
        what: String,
        (ours, other): (std::time::Duration, std::time::Duration),
        bar: Option<f64>,
        note: String,
    ) {
        let rate = |time| per_second(self.probes.len(), time);
        report.add(Row {
            group: "dense",
            what,
            value: rate(ours),
            unit: "queries/s",
            reference: Some((rate(other), "raw HNSW32")),
            bar,
            note,
        });
    }
}

fn spec(factory: &str) -> FieldSpec {
    FieldSpec {
        name: "text".into(),
        kind: VectorKind::Dense,
        size: DIM,
        scoring: Scoring::Dot,
        metric: Metric::Dot,
        factory: factory.into(),
        coding: TokenCoding::Int8,
    }
}

fn find(index: &DenseRows, probe: &Probe, visible: &RowSet<'_>, ef: Option<u32>) -> Vec<Number> {
    let params = Params { hnsw_ef: ef, ..Params::default() };
    let search = Search { probe, visible, want: WANT, above: f64::NEG_INFINITY, params: &params };
    index.search(&search).expect("a search").hits.into_iter().map(|hit| hit.row).collect()
}

fn built(report: &mut Report, factory: &str, head: &DenseRows, raw: Option<f64>) -> DenseRows {
    let picks: Vec<Pick> = (0..head.len() as Number).map(|row| Pick { from: 0, row }).collect();
    let mut index = None;
    let time = timed(|| index = Some(DenseRows::seal(&spec(factory), &[head], &picks).expect("an index")));
    let index = index.expect("an index");
    report.add(Row {
        group: "dense",
        what: format!("{factory}, build"),
        value: per_second(head.len(), time),
        unit: "rows/s",
        reference: raw.map(|raw| (raw, "raw HNSW32")),
        bar: None,
        note: format!("{} bytes a row", index.bytes() / index.len().max(1)),
    });
    index
}

fn kept(rows: usize, share: f64, seed: u64) -> Bits {
    let mut random = Random::new(seed);
    Bits::of((0..rows as Number).filter(|_| random.unit() < share).collect::<Vec<_>>(), rows)
}

/// A fifth of the rows deleted, against raw FAISS with all.
fn deletions(report: &mut Report, bench: &Bench, head: &DenseRows, ours: &DenseRows, raw: &Raw, base: u32) {
    let visible = RowSet::of(Cow::Owned(kept(bench.rows, 0.8, 5)));
    let truth = bench.truth(head, &visible);
    let recall = |ef| bench.recall(&truth, |probe| find(ours, probe, &visible, Some(ef)));
    let Some(ef) = EFS.into_iter().find(|&ef| recall(ef) >= 0.95) else { return };
    let times = against(
        ROUNDS,
        || bench.each(|probe| drop(find(ours, probe, &visible, Some(ef)))),
        || bench.each(|probe| drop(raw.search(probe, WANT, base))),
    );
    let note = format!("ef {ef}, recall {:.3}; raw ef {base}, nothing deleted", recall(ef));
    bench.add(report, "20 % deleted".into(), times, Some(0.8), note);
}

/// Filters, against raw FAISS asked for ever more until enough is allowed, and against its selector alone.
fn shares(report: &mut Report, bench: &Bench, head: &DenseRows, ours: &DenseRows, raw: &Raw) {
    for share in [0.0005, 0.001, 0.002, 0.01, 0.02, 0.05, 0.2, 0.5] {
        let bits = kept(bench.rows, share, 9);
        let visible = RowSet::of(Cow::Borrowed(&bits));
        let truth = bench.truth(head, &visible);
        let recall = bench.recall(&truth, |probe| find(ours, probe, &visible, None));
        let selector = bench.recall(&truth, |probe| raw.selected(probe, WANT, 64, &bits));
        let (mine, other) = against(
            1,
            || bench.each(|probe| drop(find(ours, probe, &visible, None))),
            || bench.each(|probe| drop(raw.selected(probe, WANT, 64, &bits))),
        );
        let note = format!("recall {recall:.3}; selector alone {selector:.3} at ef 64");
        bench.add(report, format!("{} % kept, selector", share * 100.0), (mine, other), None, note);
        if share == 0.01 {
            let ask = [250, 500, 1000, 2000, 4000, 8000, 16_000].into_iter().map(|ask| ask.min(bench.rows));
            let over = |probe: &Probe, ask| {
                let mut found = raw.search(probe, ask, ask as u32);
                found.retain(|&row| bits.contains(row));
                found
            };
            let mut ask = ask;
            let Some(ask) = ask.find(|&ask| bench.recall(&truth, |probe| over(probe, ask)) >= 0.95) else {
                continue;
            };
            let times = against(
                1,
                || bench.each(|probe| drop(find(ours, probe, &visible, None))),
                || bench.each(|probe| drop(over(probe, ask))),
            );
            let note = format!("recall {recall:.3}; raw asked for {ask}");
            bench.add(report, "1 % kept, over-fetching".into(), times, Some(5.0), note);
        }
    }
}

/// What a factory string gives as it stands.
fn table(report: &mut Report, bench: &Bench, index: &DenseRows, truth: &[Vec<Number>], factory: &str) {
    let all = RowSet::all(bench.rows);
    let recall_at = |ef| bench.recall(truth, |probe| find(index, probe, &all, ef));
    let recall = recall_at(None);
    let time = timed(|| bench.each(|probe| drop(find(index, probe, &all, None))));
    let mut note = format!("recall {recall:.3}; {} bytes a row", index.bytes() / bench.rows);
    if factory.starts_with("HNSW") {
        for bar in [0.95, 0.98] {
            let Some(ef) = EFS.into_iter().find(|&ef| recall_at(Some(ef)) >= bar) else { continue };
            let time = timed(|| bench.each(|probe| drop(find(index, probe, &all, Some(ef)))));
            note += &format!("; {bar} at ef {ef}: {:.0}/s", per_second(bench.probes.len(), time));
        }
    }
    report.add(Row {
        group: "dense",
        what: format!("{factory}, as it stands"),
        value: per_second(bench.probes.len(), time),
        unit: "queries/s",
        reference: None,
        bar: None,
        note,
    });
}
