//! The table.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::time::ClockId;
use serde::Serialize;

/// One measurement.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    /// Which index.
    pub(crate) group: &'static str,
    /// What was measured, on which data.
    pub(crate) what: String,
    /// Ours, in `unit`.
    pub(crate) value: f64,
    /// Such as `queries/s`.
    pub(crate) unit: &'static str,
    /// The other's figure and name, if there is one.
    pub(crate) reference: Option<(f64, &'static str)>,
    /// What the ratio is to reach, if something is promised.
    pub(crate) bar: Option<f64>,
    /// Recall, sizes, what else one must know.
    pub(crate) note: String,
}

impl Row {
    /// Ours against the other's.
    pub(crate) fn ratio(&self) -> Option<f64> {
        self.reference.map(|(reference, _)| self.value / reference)
    }
}

/// All measurements of a run.
pub(crate) struct Report {
    /// Part of the full amounts of data.
    pub(crate) scale: f64,
    rows: Vec<Row>,
}

impl Report {
    /// Nothing measured yet.
    pub(crate) fn new(scale: f64) -> Self {
        Self { scale, rows: Vec::new() }
    }

    /// A part of a full amount of data, at least 1.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive count")]
    pub(crate) fn scaled(&self, full: usize) -> usize {
        ((full as f64 * self.scale) as usize).max(1)
    }

    /// Takes a measurement in, and shows it.
    pub(crate) fn add(&mut self, row: Row) {
        eprintln!("{}", line(&row));
        self.rows.push(row);
    }

    /// Writes `bench.md` and `bench.json`, and prints the table.
    #[allow(clippy::print_stdout, reason = "the result of the run")]
    pub(crate) fn write(&self, folder: &Path) -> io::Result<()> {
        let mut table = String::from(
            "| index | measured | Freshet | reference | ratio | bar | notes |\n|---|---|---|---|---|---|---|\n",
        );
        self.rows.iter().for_each(|row| table.extend([line(row).as_str(), "\n"]));
        fs::create_dir_all(folder)?;
        fs::write(folder.join("bench.md"), &table)?;
        fs::write(folder.join("bench.json"), serde_json::to_string_pretty(&self.rows)?)?;
        println!("{table}");
        Ok(())
    }
}

fn line(row: &Row) -> String {
    let reference =
        row.reference.map(|(value, name)| format!("{} ({name})", number(value))).unwrap_or_default();
    let ratio = row.ratio().map(|ratio| format!("{ratio:.2}×")).unwrap_or_default();
    let bar = row.bar.map(|bar| format!("≥ {bar}×")).unwrap_or_default();
    let (value, unit) = (number(row.value), row.unit);
    format!(
        "| {} | {} | {value} {unit} | {reference} | {ratio} | {bar} | {} |",
        row.group, row.what, row.note
    )
}

/// Three significant digits.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

/// Times two things in turns, `rounds` times each, and gives the best time of each: both see the same noise. It is the
/// CPU time of this thread, on which both do all their work: what else the machine does counts little.
pub(crate) fn against(
    rounds: usize,
    mut ours: impl FnMut(),
    mut other: impl FnMut(),
) -> (Duration, Duration) {
    let mut best = (Duration::MAX, Duration::MAX);
    for _ in 0..rounds {
        best.0 = best.0.min(busy(&mut ours));
        best.1 = best.1.min(busy(&mut other));
    }
    best
}

/// CPU time that this thread needs for something.
pub(crate) fn busy(mut work: impl FnMut()) -> Duration {
    let start = clock(ClockId::ThreadCPUTime);
    work();
    clock(ClockId::ThreadCPUTime).saturating_sub(start)
}

/// CPU time that all threads of this process have had.
pub(crate) fn busy_process() -> Duration {
    clock(ClockId::ProcessCPUTime)
}

fn clock(id: ClockId) -> Duration {
    let time = rustix::time::clock_gettime(id);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// How long something takes, once.
pub(crate) fn timed(mut work: impl FnMut()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// So many per second.
pub(crate) fn per_second(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}
