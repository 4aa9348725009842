//! What there is to know by heart: all metrics, listed for the book.

use freshet_operators::connect::KafkaMetrics;
use freshet_operators::embed::{EmbedError, EmbedMetrics};
use freshet_operators::metrics::{Described, Listing, RunMetrics};
use freshet_operators::observe::OperatorMetrics;
use freshet_operators::rerank::RerankMetrics;
use freshet_operators::snapshot::SnapshotMetrics;
use freshet_operators::trace::TraceMetrics;

use crate::http::HttpMetrics;

/// All metrics of a process, by name.
///
/// # Errors
/// Names that Prometheus refuses: never.
pub fn metrics() -> Result<Vec<Described>, EmbedError> {
    let list = Listing::default();
    RunMetrics::new()?.register(&list)?;
    SnapshotMetrics::new()?.register(&list)?;
    RerankMetrics::new()?.register(&list)?;
    TraceMetrics::new()?.register(&list)?;
    EmbedMetrics::new()?.register(&list)?;
    KafkaMetrics::new()?.register(&list)?;
    HttpMetrics::register(&list)?;
    OperatorMetrics::register(&list)?;
    Ok(list.sorted())
}
