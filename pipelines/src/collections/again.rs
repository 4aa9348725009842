//! Collections whose runs failed are started again, after pauses that grow.

use std::collections::BTreeMap;
use std::sync::Weak;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::Collections;

/// Pause after the first failure; it doubles with each that follows.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// Longest pause. A run that lasts longer than this had a good start: its failure is a first one.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// What the thread hears.
pub(super) enum Event {
    /// The run of a collection has failed.
    Failed(String),
    /// No collection is started any more.
    End,
}

/// When which collection is started again. Knows no clock and no thread.
#[derive(Debug, Default)]
struct Schedule {
    /// Failures in a row, and the last start, by name.
    history: BTreeMap<String, (u32, Option<Instant>)>,
    due: BTreeMap<String, Instant>,
}

impl Schedule {
    /// A run has failed; returns the pause until it is started again.
    fn failed(&mut self, name: &str, now: Instant) -> Duration {
        let (failures, started) = self.history.entry(name.to_owned()).or_default();
        if started.is_some_and(|started| now.duration_since(started) > PAUSE_MAX) {
            *failures = 0;
        }
        let pause = PAUSE_MIN.saturating_mul(1 << (*failures).min(16)).min(PAUSE_MAX);
        *failures += 1;
        self.due.insert(name.to_owned(), now + pause);
        pause
    }

    /// Time until the next start; `None` if none is due.
    fn next(&self, now: Instant) -> Option<Duration> {
        self.due.values().min().map(|due| due.saturating_duration_since(now))
    }

    /// Names to be started now.
    fn take(&mut self, now: Instant) -> Vec<String> {
        let names: Vec<String> =
            self.due.iter().filter(|(_, due)| **due <= now).map(|(name, _)| name.clone()).collect();
        for name in &names {
            self.due.remove(name);
            self.history.entry(name.clone()).or_default().1 = Some(now);
        }
        names
    }

    /// Forgets those that are not there any more.
    fn keep(&mut self, known: impl Fn(&str) -> bool) {
        self.history.retain(|name, _| known(name));
        self.due.retain(|name, _| known(name));
    }
}

/// Starts collections again until the end.
pub(super) fn watch(collections: &Weak<Collections>, events: &Receiver<Event>) {
    let mut schedule = Schedule::default();
    loop {
        let event = match schedule.next(Instant::now()) {
            None => events.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(pause) => events.recv_timeout(pause),
        };
        let mut failed = match event {
            Ok(Event::Failed(name)) => vec![name],
            Err(RecvTimeoutError::Timeout) => Vec::new(),
            Ok(Event::End) | Err(RecvTimeoutError::Disconnected) => return,
        };
        let Some(collections) = collections.upgrade() else { return };
        for name in schedule.take(Instant::now()) {
            if let Err(error) = collections.revive(&name) {
                tracing::error!(collection = name, %error, "a collection cannot be started again");
                failed.push(name);
            }
        }
        for name in failed {
            let pause = schedule.failed(&name, Instant::now());
            tracing::warn!(collection = name, ?pause, "a collection is started again after a pause");
        }
        let names = collections.names();
        schedule.keep(|name| names.iter().any(|known| known == name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound_and_begin_anew_after_a_good_run() {
        let mut schedule = Schedule::default();
        let mut now = Instant::now();
        let mut pauses = Vec::new();
        for _ in 0..9 {
            let pause = schedule.failed("c", now);
            pauses.push(pause.as_secs());
            assert_eq!(schedule.next(now), Some(pause));
            now += pause;
            assert_eq!(schedule.take(now), ["c"]);
            assert_eq!(schedule.next(now), None);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        now += PAUSE_MAX + Duration::from_secs(1);
        assert_eq!(schedule.failed("c", now), PAUSE_MIN);
        assert!(schedule.take(now).is_empty(), "not before its time");
        schedule.keep(|_| false);
        assert_eq!(schedule.next(now), None);
    }
}
