//! Dense fields of whole shards against raw FAISS: queries/s at equal recall, deletions, filters, factory strings.
//!
//! Every figure of ours is of `Shard::search`, in a shard that was loaded by changes and merged until it rests. Figures
//! at a recall lie between two steps of the effort: between them time and recall are taken to be straight lines.

mod raw;

use std::time::Duration;

use freshet_operators::index::bits::Bits;
use freshet_operators::index::payload::{PayloadField, PayloadKind};
use freshet_operators::index::rows::Row as Number;
use freshet_operators::index::shard::Shard;
use freshet_operators::index::{Metric, Probe, ShardChange, Time};
use freshet_schemas::{Filter, Params, VectorKind};
use serde_json::json;

use crate::data::{Random, clustered};
use crate::report::{Report, Row, against, per_second, timed};
use crate::shard::{dense, field, id, open_with, put_with, settle};
use raw::Raw;

const DIM: usize = 384;
const WANT: usize = 10;
const PROBES: usize = 500;
const ROUNDS: usize = 7;
const TICK: usize = 1024;
/// Recall at which speeds are compared.
const BARS: [f64; 2] = [0.95, 0.98];
/// What fields may be built with, the reference first.
const FACTORIES: [&str; 6] = ["HNSW32", "HNSW32,SQ8", "HNSW16", "HNSW16,SQ8", "IVF256,Flat", "IVF256,PQ32"];
/// Shares of the documents that filters keep, in thousandths.
const KEPT: [u32; 5] = [1, 10, 50, 200, 500];

/// Measures.
pub(crate) fn run(report: &mut Report) {
    let rows = report.scaled(100_000);
    let mut vectors = clustered(rows + PROBES, DIM, 11);
    let probes: Vec<Probe> = vectors.split_off(rows).into_iter().map(Probe::Dense).collect();
    let mut raw = None;
    let built = timed(|| raw = Some(Raw::hnsw(&vectors)));
    let Some(raw) = raw else { return };
    let mut bench = Bench { probes, truth: Vec::new(), raw, raw_seconds: built.as_secs_f64() };
    for factory in FACTORIES {
        let mut shard = bench.load(report, factory, &vectors);
        if bench.truth.is_empty() {
            bench.truth = bench.all(|probe| find(&shard, probe, &exact(), None));
        }
        bench.speeds(report, factory, &shard);
        if factory == freshet_config::defaults::INDEX {
            bench.filters(report, &shard);
            bench.deletions(report, factory, &mut shard);
        }
    }
}

struct Bench {
    probes: Vec<Probe>,
    /// Per probe the nearest rows.
    truth: Vec<Vec<Number>>,
    raw: Raw,
    raw_seconds: f64,
}

/// Two neighbouring efforts, one below a recall and one that reaches it, and how far it is from the first to the second.
#[derive(Clone, Copy)]
struct Reach {
    below: u32,
    at: u32,
    way: f64,
}

impl Bench {
    /// A shard that got all vectors by changes, at rest.
    fn load(&self, report: &mut Report, factory: &str, vectors: &[Vec<f32>]) -> Shard {
        let mut spec = field("dense", VectorKind::Dense, DIM);
        (spec.factory, spec.metric) = (factory.into(), Metric::Dot);
        let payload = vec![PayloadField { path: "n".into(), kind: PayloadKind::Integer }];
        let mut shard = open_with(vec![spec], payload);
        let mut random = Random::new(5);
        let numbers: Vec<usize> = (0..vectors.len()).collect();
        let time = timed(|| {
            for (time, numbers) in (1..).zip(numbers.chunks(TICK)) {
                let change = |&number: &usize| {
                    let payload = format!("{{\"n\":{}}}", random.below(1000));
                    put_with(number, payload, vec![dense(&vectors[number])])
                };
                shard.apply(time, numbers.iter().map(change).collect()).expect("changes that fit");
            }
            settle(&mut shard);
        });
        let counters = shard.counters();
        report.add(Row {
            group: "dense",
            what: format!("{factory}: loaded and merged"),
            value: per_second(vectors.len(), time),
            unit: "documents/s",
            reference: Some((vectors.len() as f64 / self.raw_seconds, "raw HNSW32, one add")),
            bar: None,
            note: format!(
                "{:.1} s; {} bytes/document; {} segment",
                time.as_secs_f64(),
                counters.bytes / counters.documents.max(1),
                counters.sealed
            ),
        });
        shard
    }

    fn all(&self, search: impl FnMut(&Probe) -> Vec<Number>) -> Vec<Vec<Number>> {
        self.probes.iter().map(search).collect()
    }

    fn recall(&self, truth: &[Vec<Number>], mut search: impl FnMut(&Probe) -> Vec<Number>) -> f64 {
        let mut right = 0;
        for (probe, truth) in self.probes.iter().zip(truth) {
            right += search(probe).iter().take(WANT).filter(|row| truth.contains(row)).count();
        }
        right as f64 / truth.iter().map(Vec::len).sum::<usize>().max(1) as f64
    }

    /// The least effort, in steps, that reaches a recall.
    fn reach(&self, bar: f64, step: u32, recall: impl Fn(u32) -> f64) -> Option<Reach> {
        let (mut below, mut at) = (0, 128);
        while recall(at * step) < bar {
            (below, at) = (at, at * 2);
            if at > 1024 {
                return None;
            }
        }
        while below + 1 < at {
            let middle = below.midpoint(at);
            if recall(middle * step) < bar { below = middle } else { at = middle }
        }
        let below = below.max(1);
        let (low, high) = (recall(below * step), recall(at * step));
        let way = if high > low { ((bar - low) / (high - low)).clamp(0.0, 1.0) } else { 1.0 };
        Some(Reach { below: below * step, at: at * step, way })
    }

    /// The time of all probes at a recall, ours and raw FAISS', in turns.
    fn compare(
        &self,
        mine: Reach,
        theirs: Reach,
        mut search: impl FnMut(&Probe, u32),
    ) -> (Duration, Duration) {
        let mut run = |mine: u32, theirs: u32| {
            against(
                ROUNDS,
                || self.probes.iter().for_each(|probe| search(probe, mine)),
                || self.probes.iter().for_each(|probe| drop(self.raw.search(probe, WANT, theirs))),
            )
        };
        let (low, high) = (run(mine.below, theirs.below), run(mine.at, theirs.at));
        let between = |low: Duration, high: Duration, way: f64| low.mul_f64(1.0 - way) + high.mul_f64(way);
        (between(low.0, high.0, mine.way), between(low.1, high.1, theirs.way))
    }

    fn raw_reach(&self, bar: f64) -> Option<Reach> {
        self.reach(bar, 4, |ef| self.recall(&self.truth, |probe| self.raw.search(probe, WANT, ef)))
    }

    fn add(
        &self,
        report: &mut Report,
        what: String,
        (ours, other): (Duration, Duration),
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

    /// Queries/s of a shard at equal recall, and as it stands.
    fn speeds(&self, report: &mut Report, factory: &str, shard: &Shard) {
        let recall = |params: &Params| self.recall(&self.truth, |probe| find(shard, probe, params, None));
        let step = if factory.starts_with("HNSW") { 4 } else { 1 };
        for bar in BARS {
            let mine = self.reach(bar, step, |effort| recall(&hard(factory, effort)));
            let (Some(mine), Some(theirs)) = (mine, self.raw_reach(bar)) else { continue };
            let times = self.compare(mine, theirs, |probe, effort| {
                drop(find(shard, probe, &hard(factory, effort), None));
            });
            let name = if step == 4 { "ef" } else { "nprobe" };
            let note = format!("{name} {}, raw ef {}", mine.at, theirs.at);
            let promised = (factory == freshet_config::defaults::INDEX && bar == BARS[0]).then_some(0.95);
            self.add(report, format!("{factory}: recall@10 = {bar}"), times, promised, note);
        }
        let params = Params::default();
        let (time, _) = against(
            ROUNDS,
            || self.probes.iter().for_each(|probe| drop(find(shard, probe, &params, None))),
            || {},
        );
        report.add(Row {
            group: "dense",
            what: format!("{factory}: as it stands"),
            value: per_second(self.probes.len(), time),
            unit: "queries/s",
            reference: None,
            bar: None,
            note: format!("recall@10 {:.3}", recall(&params)),
        });
    }

    /// Filters by an indexed field, against raw FAISS asked for ever more until enough passes, and against its selector,
    /// to which the rows are given. Ours are evaluated for the first probe and kept for the others: group `payload` has
    /// what evaluating costs.
    fn filters(&self, report: &mut Report, shard: &Shard) {
        let time = shard.applied().unwrap_or(0);
        for kept in KEPT {
            let filter = json!({"must": {"key": "n", "range": {"lt": kept}}});
            let filter = Filter::parse(&filter, "filter").expect("a filter");
            let passes = shard.search(time, 0, &self.probes[0], usize::MAX, &exact(), Some(&filter));
            let passes = passes.expect("a probe that fits");
            let bits = Bits::of(passes.iter().map(|hit| number(&hit.id)), shard.counters().documents);
            let truth = self.all(|probe| find(shard, probe, &exact(), Some(&filter)));
            let mine = |probe: &Probe| find(shard, probe, &Params::default(), Some(&filter));
            let recall = self.recall(&truth, mine);
            let selector = self.recall(&truth, |probe| self.raw.selected(probe, WANT, 64, &bits));
            let times = against(
                3,
                || self.probes.iter().for_each(|probe| drop(mine(probe))),
                || self.probes.iter().for_each(|probe| drop(self.raw.selected(probe, WANT, 64, &bits))),
            );
            let note = format!("recall {recall:.3}; selector alone {selector:.3} at ef 64");
            let share = f64::from(kept) / 10.0;
            self.add(report, format!("a filter keeps {share} %, raw with selector"), times, None, note);
            if kept == 10 {
                self.over_fetching(report, shard, &filter, &bits, &truth);
            }
        }
    }

    fn over_fetching(
        &self,
        report: &mut Report,
        shard: &Shard,
        filter: &Filter,
        bits: &Bits,
        truth: &[Vec<Number>],
    ) {
        let over = |probe: &Probe, ask: usize| {
            let mut found = self.raw.search(probe, ask, ask as u32);
            found.retain(|&row| bits.contains(row));
            found
        };
        let asks = (0..12).map(|doubled| (64 << doubled).min(bits.len()));
        let Some(ask) = asks.into_iter().find(|&ask| self.recall(truth, |probe| over(probe, ask)) >= BARS[0])
        else {
            return;
        };
        let times = against(
            1,
            || {
                self.probes
                    .iter()
                    .for_each(|probe| drop(find(shard, probe, &Params::default(), Some(filter))))
            },
            || self.probes.iter().for_each(|probe| drop(over(probe, ask))),
        );
        let note = format!("raw asked for {ask}");
        self.add(report, "a filter keeps 1 %, raw over-fetching".into(), times, Some(5.0), note);
    }

    /// A fifth of the documents deleted, against raw FAISS with all.
    fn deletions(&self, report: &mut Report, factory: &str, shard: &mut Shard) {
        let mut random = Random::new(7);
        let documents = 0..shard.counters().documents;
        let gone =
            documents.filter(|_| random.below(5) == 0).map(|number| ShardChange::Remove { id: id(number) });
        let time: Time = shard.applied().unwrap_or(0) + 1;
        shard.apply(time, gone.collect()).expect("documents that are there");
        let truth = self.all(|probe| find(shard, probe, &exact(), None));
        let recall = |effort| self.recall(&truth, |probe| find(shard, probe, &hard(factory, effort), None));
        let (Some(mine), Some(theirs)) = (self.reach(BARS[0], 4, recall), self.raw_reach(BARS[0])) else {
            return;
        };
        let times = self
            .compare(mine, theirs, |probe, effort| drop(find(shard, probe, &hard(factory, effort), None)));
        let stands = self.recall(&truth, |probe| find(shard, probe, &Params::default(), None));
        let note =
            format!("ef {}, as it stands recall {stands:.3}; raw ef {}, nothing deleted", mine.at, theirs.at);
        self.add(report, format!("{factory}: 20 % deleted, recall@10 = {}", BARS[0]), times, Some(0.8), note);
    }
}

fn exact() -> Params {
    Params { exact: true, ..Params::default() }
}

/// An effort of an index: candidates of a graph, or cells.
fn hard(factory: &str, effort: u32) -> Params {
    match factory.starts_with("HNSW") {
        true => Params { hnsw_ef: Some(effort), ..Params::default() },
        false => Params { nprobe: Some(effort), ..Params::default() },
    }
}

fn find(shard: &Shard, probe: &Probe, params: &Params, filter: Option<&Filter>) -> Vec<Number> {
    let time = shard.applied().unwrap_or(0);
    let hits = shard.search(time, 0, probe, WANT, params, filter).expect("a probe that fits");
    hits.iter().map(|hit| number(&hit.id)).collect()
}

/// The number of a document.
fn number(id: &str) -> Number {
    id.rsplit('-').next().and_then(|digits| digits.parse().ok()).expect("an id ends with its number")
}
