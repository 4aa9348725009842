//! Measures the indexes against others in the same process, on the same data, one thread each: `make bench`.
//!
//! Figures are ratios: the machine may be as slow as it likes. Every group writes rows of one table.

mod data;
mod dense;
mod embed;
mod http;
mod multi;
mod payload;
mod report;
mod shard;
mod snapshot;
mod sparse;
mod store;

use std::path::PathBuf;

use clap::Parser;

use report::Report;

/// As in the binary.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Group {
    /// FAISS segments against raw FAISS.
    Dense,
    /// Postings against tantivy.
    Sparse,
    /// MaxSim against the machine's limits.
    Multi,
    /// Filters against a scan.
    Payload,
    /// Whole shards: from applied to searchable, bytes per document.
    Shard,
    /// The embedding service with the shipped model.
    Embed,
    /// Segments written and read as Parquet, against Arrow alone.
    Snapshot,
    /// Whole pipelines: ingest while snapshots are cut, start to first answer, what exactly-once costs.
    Store,
    /// The server against the gateway in the process, idle and while documents are written.
    Http,
}

/// Measures the indexes and writes a table, as Markdown and as JSON.
#[derive(Parser)]
struct Args {
    /// Groups to measure; all unless given.
    #[arg(value_enum)]
    groups: Vec<Group>,
    /// Part of the full amounts of data, for a quick look.
    #[arg(long, default_value_t = 1.0, value_name = "PART")]
    scale: f64,
    /// Folder for `bench.md` and `bench.json`.
    #[arg(long, default_value = "target/bench", value_name = "DIR")]
    out: PathBuf,
}

fn main() -> std::io::Result<()> {
    let args = Args::parse();
    let mut report = Report::new(args.scale);
    let groups: Vec<Group> = match args.groups.is_empty() {
        true => <Group as clap::ValueEnum>::value_variants().to_vec(),
        false => args.groups,
    };
    for group in groups {
        match group {
            Group::Dense => dense::run(&mut report),
            Group::Sparse => sparse::run(&mut report),
            Group::Multi => multi::run(&mut report),
            Group::Payload => payload::run(&mut report),
            Group::Shard => shard::run(&mut report),
            Group::Embed => embed::run(&mut report),
            Group::Snapshot => snapshot::run(&mut report),
            Group::Store => store::run(&mut report),
            Group::Http => http::run(&mut report),
        }
    }
    report.write(&args.out)
}
