//! Where the time of a query goes.

use std::cell::Cell;

use freshet_schemas::StageSeconds;

use crate::clock;

const MICROS_PER_SECOND: f64 = 1e6;

/// Moments of a query, microseconds since the epoch; each is noted once.
#[derive(Clone, Debug)]
pub(super) struct Stopwatch {
    read: u64,
    admitted: u64,
    started: u64,
    searched: Cell<Option<u64>>,
    ranked: Cell<Option<u64>>,
}

impl Stopwatch {
    /// Of a query that is ready to be searched for.
    pub(super) fn start(read: u64, admitted: u64) -> Self {
        Self { read, admitted, started: clock::now_us(), searched: Cell::default(), ranked: Cell::default() }
    }

    /// The first lists are there.
    pub(super) fn searched(&self) {
        note(&self.searched);
    }

    /// The hits of the answer are known.
    pub(super) fn ranked(&self) {
        note(&self.searched);
        note(&self.ranked);
    }

    /// What each stage has taken, up to now.
    pub(super) fn seconds(&self) -> StageSeconds {
        let now = clock::now_us();
        let searched = self.searched.get().unwrap_or(now);
        let ranked = self.ranked.get().unwrap_or(now);
        // The clock of the wall may be set back.
        let between = |from: u64, to: u64| to.saturating_sub(from) as f64 / MICROS_PER_SECOND;
        StageSeconds {
            admit: between(self.read, self.admitted),
            embed: between(self.admitted, self.started),
            search: between(self.started, searched),
            rerank: between(searched, ranked),
            fetch: between(ranked, now),
        }
    }
}

fn note(moment: &Cell<Option<u64>>) {
    if moment.get().is_none() {
        moment.set(Some(clock::now_us()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stages_are_the_whole_time_and_moments_stay() {
        let read = clock::now_us() - 3_000_000;
        let watch = Stopwatch::start(read, read + 1_000_000);
        watch.ranked();
        let (searched, ranked) = (watch.searched.get(), watch.ranked.get());
        watch.searched();
        watch.ranked();
        assert_eq!((watch.searched.get(), watch.ranked.get()), (searched, ranked));
        let seconds = watch.seconds();
        assert_eq!(seconds.admit, 1.0);
        // Sums of fractions are a bit more or less.
        let sum: f64 =
            seconds.by_name().iter().map(|(_, seconds)| (seconds * MICROS_PER_SECOND).round()).sum();
        let whole = (clock::now_us() - read) as f64;
        assert!((3e6..=whole).contains(&sum), "{sum} of {whole}");
    }
}
