//! Labelled places at which a process can be made to die, to prove that nothing depends on where it does.
//!
//! `FRESHET_CRASH_AT=LABEL:N` kills the process, as SIGKILL would, when it passes the place for the N-th time.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The environment variable.
pub const VARIABLE: &str = "FRESHET_CRASH_AT";

/// All labels.
pub const LABELS: [&str; 13] = [
    "snapshot.begin",
    "snapshot.segment",
    "snapshot.segment.written",
    "snapshot.removed",
    "snapshot.manifest",
    "snapshot.manifest.written",
    "snapshot.clean",
    "snapshot.cleaned",
    "transaction.begin",
    "transaction.intended",
    "transaction.offsets",
    "transaction.written",
    "transaction.committed",
];

struct Wanted {
    label: String,
    left: AtomicU64,
}

/// A place at which the process may die.
pub fn point(label: &str) {
    static WANTED: OnceLock<Option<Wanted>> = OnceLock::new();
    debug_assert!(LABELS.contains(&label), "{label} is in the list");
    let wanted = WANTED.get_or_init(|| {
        let value = std::env::var(VARIABLE).ok()?;
        let (label, count) = value.rsplit_once(':')?;
        let left = AtomicU64::new(count.parse().ok()?);
        tracing::warn!(label, count, "this process is going to die: {VARIABLE} is set");
        Some(Wanted { label: label.to_owned(), left })
    });
    if let Some(wanted) = wanted.as_ref().filter(|wanted| wanted.label == label)
        && wanted.left.fetch_sub(1, Ordering::SeqCst) == 1
    {
        // No destructor, no flush, no unwinding: what a kill leaves.
        std::process::abort();
    }
}
