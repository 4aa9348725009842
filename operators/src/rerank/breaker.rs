//! A circuit breaker: a service that fails again and again is left alone for a while.

use std::time::{Duration, Instant};

/// Counts failures in a row. Knows no clock: the caller brings the time.
///
/// ```text
///   closed ── failures_max failures in a row ──▶ open ── pause ──▶ one trial ── success ──▶ closed
///                                                  ▲                   └── failure ──┐
///                                                  └─────────────────────────────────┘
/// ```
#[derive(Debug)]
pub(super) struct Breaker {
    failures_max: usize,
    pause: Duration,
    failures: usize,
    /// When it opened last; `None` while it is closed.
    opened: Option<Instant>,
    /// Whether a trial is under way.
    trial: bool,
}

/// What a result has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing.
    None,
    /// The service is left alone from now on.
    Opened,
    /// The service is back.
    Closed,
}

impl Breaker {
    pub(super) fn new(failures_max: usize, pause: Duration) -> Self {
        Self { failures_max, pause, failures: 0, opened: None, trial: false }
    }

    /// Whether a request may be made now; how long not, if not. Who may make one must tell what came of it.
    pub(super) fn admit(&mut self, now: Instant) -> Result<(), Duration> {
        let Some(opened) = self.opened else { return Ok(()) };
        let left = (opened + self.pause).saturating_duration_since(now);
        if left > Duration::ZERO || self.trial {
            return Err(left);
        }
        self.trial = true;
        Ok(())
    }

    pub(super) fn succeeded(&mut self) -> Change {
        self.failures = 0;
        self.trial = false;
        if self.opened.take().is_some() { Change::Closed } else { Change::None }
    }

    pub(super) fn failed(&mut self, now: Instant) -> Change {
        self.failures = self.failures.saturating_add(1);
        if std::mem::take(&mut self.trial) {
            self.opened = Some(now);
        } else if self.opened.is_none() && self.failures >= self.failures_max {
            self.opened = Some(now);
            return Change::Opened;
        }
        Change::None
    }

    pub(super) fn is_open(&self) -> bool {
        self.opened.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(10);

    #[test]
    fn it_opens_after_failures_in_a_row_and_tries_again_after_a_pause() {
        let start = Instant::now();
        let mut breaker = Breaker::new(3, PAUSE);
        assert_eq!(breaker.failed(start), Change::None);
        assert_eq!(breaker.failed(start), Change::None);
        assert_eq!(breaker.succeeded(), Change::None, "a success in between counts from the start");
        for expected in [Change::None, Change::None, Change::Opened, Change::None] {
            assert_eq!(breaker.admit(start).is_ok(), !breaker.is_open());
            assert_eq!(breaker.failed(start), expected);
        }
        assert_eq!(breaker.admit(start + PAUSE / 4), Err(PAUSE * 3 / 4));
        let later = start + PAUSE;
        assert_eq!(breaker.admit(later), Ok(()), "one trial");
        assert_eq!(breaker.admit(later), Err(Duration::ZERO), "and only one");
        assert_eq!(breaker.failed(later), Change::None);
        assert_eq!(breaker.admit(later), Err(PAUSE), "a trial that fails begins another pause");
        assert_eq!(breaker.admit(later + PAUSE), Ok(()));
        assert_eq!(breaker.succeeded(), Change::Closed);
        assert_eq!(breaker.admit(later + PAUSE), Ok(()));
    }
}
