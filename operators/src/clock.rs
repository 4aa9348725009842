//! The clock that names ticks. Sources read it; nothing else does.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Gives milliseconds since the epoch.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The wall clock.
pub fn wall() -> Clock {
    Arc::new(|| now_us() / 1_000)
}

/// Microseconds since the epoch.
pub fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
