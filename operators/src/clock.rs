//! The clock that names ticks. Sources read it; nothing else does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since the epoch, for all workers of a process; never goes back, whatever the clock under it does.
///
/// An idle source follows it past the ticks that others have used: they can close though the clock under it stands.
pub struct Clock {
    under: Box<dyn Fn() -> u64 + Send + Sync>,
    highest: AtomicU64,
    used: AtomicU64,
}

impl Clock {
    /// The wall clock.
    pub fn wall() -> Arc<Self> {
        Self::over(|| now_us() / 1_000)
    }

    /// A clock over any other.
    pub fn over(under: impl Fn() -> u64 + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { under: Box::new(under), highest: AtomicU64::new(0), used: AtomicU64::new(0) })
    }

    /// Now: at least every time that was ever returned or used.
    pub fn now(&self) -> u64 {
        let now = (self.under)();
        self.highest.fetch_max(now, Ordering::SeqCst).max(now)
    }

    /// A time before `next` has been used.
    pub fn used(&self, next: u64) {
        self.highest.fetch_max(next, Ordering::SeqCst);
        self.used.fetch_max(next, Ordering::SeqCst);
    }

    /// The first time that is later than all that have been used.
    pub fn unused(&self) -> u64 {
        self.used.load(Ordering::SeqCst)
    }
}

/// Microseconds since the epoch.
pub fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_goes_back_and_passes_what_was_used() {
        let under = Arc::new(AtomicU64::new(100));
        let hands = Arc::clone(&under);
        let clock = Clock::over(move || hands.load(Ordering::SeqCst));
        assert_eq!(clock.now(), 100);
        under.store(40, Ordering::SeqCst);
        assert_eq!(clock.now(), 100);
        assert_eq!(clock.unused(), 0);
        clock.used(105);
        assert_eq!((clock.now(), clock.unused()), (105, 105));
        under.store(200, Ordering::SeqCst);
        assert_eq!(clock.now(), 200);
    }
}
