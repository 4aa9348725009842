//! Which versions of a segment are visible at which time.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};

use super::versions::Version;
use crate::index::Time;
use crate::index::bits::Bits;
use crate::index::rows::RowSet;

/// Who lives, and who has died of late: removal marks, which the segment itself knows nothing of.
///
/// A version is visible at `born ≤ t < died`. Invariants: a version is in at most one of `live` and `died`; those in
/// neither died before the earliest time that is still asked for; `deaths` holds `died` in the order of time.
#[derive(Clone, Debug, Default)]
pub struct Marks {
    live: Bits,
    live_count: usize,
    died: BTreeMap<Version, Time>,
    deaths: VecDeque<(Time, Version)>,
    /// The latest birth.
    newest: Time,
}

impl Marks {
    /// Versions that were born and have died as said, all others living.
    pub fn new(births: &[Time], deaths: Vec<(Time, Version)>) -> Self {
        let mut marks = Self {
            live: Bits::all(births.len()),
            live_count: births.len(),
            newest: births.iter().copied().max().unwrap_or(0),
            ..Self::default()
        };
        let mut deaths = deaths;
        deaths.sort_unstable();
        deaths.into_iter().for_each(|(time, version)| marks.end(version, time));
        marks
    }

    /// A version was added.
    pub fn push(&mut self, born: Time) {
        self.live.push(true);
        self.live_count += 1;
        self.newest = self.newest.max(born);
    }

    /// A living version dies, no earlier than those that died before.
    pub fn end(&mut self, version: Version, time: Time) {
        debug_assert!(self.live.contains(version), "version {version} lives");
        debug_assert!(self.deaths.back().is_none_or(|(last, _)| *last <= time), "deaths ascend");
        self.live.remove(version);
        self.live_count -= 1;
        self.died.insert(version, time);
        self.deaths.push_back((time, version));
    }

    /// The versions that live.
    pub fn living(&self) -> &Bits {
        &self.live
    }

    /// No time before `since` will be asked for: whoever died until then is forgotten.
    pub fn forget(&mut self, since: Time) {
        let gone = self.deaths.partition_point(|(died, _)| *died <= since);
        for (_, version) in self.deaths.drain(..gone) {
            self.died.remove(&version);
        }
    }

    /// Versions in the segment.
    pub fn len(&self) -> usize {
        self.live.len()
    }

    /// Whether the segment has no versions.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// Versions that live.
    pub fn live(&self) -> usize {
        self.live_count
    }

    /// Versions that no time sees any more.
    pub fn expired(&self) -> usize {
        self.live.len() - self.live_count - self.died.len()
    }

    /// Whether a version has not died.
    pub fn lives(&self, version: Version) -> bool {
        self.live.contains(version)
    }

    /// Whether some time may still see it.
    pub fn kept(&self, version: Version) -> bool {
        self.lives(version) || self.died.contains_key(&version)
    }

    /// When it died, if that was of late.
    pub fn died(&self, version: Version) -> Option<Time> {
        self.died.get(&version).copied()
    }

    /// Whether a version born at `born` is visible at a time.
    pub fn sees(&self, time: Time, version: Version, born: Time) -> bool {
        born <= time && (self.lives(version) || self.died(version).is_some_and(|died| time < died))
    }

    /// Whether a time sees just those who live now.
    pub fn is_newest(&self, time: Time) -> bool {
        self.newest <= time && self.deaths.back().is_none_or(|(died, _)| *died <= time)
    }

    /// The versions visible at a time, born when `births` says.
    pub fn visible(&self, time: Time, births: &[Time]) -> RowSet<'_> {
        if self.is_newest(time) {
            return RowSet::counted(Cow::Borrowed(&self.live), self.live_count);
        }
        let mut bits = self.live.clone();
        for &(died, version) in self.deaths.iter().rev() {
            if died <= time {
                break;
            }
            bits.insert(version);
        }
        if self.newest > time {
            let unborn = (0..).zip(births).filter(|(_, born)| **born > time).map(|(version, _)| version);
            unborn.for_each(|version| bits.remove(version));
        }
        RowSet::of(Cow::Owned(bits))
    }

    /// Asserts the invariants.
    pub fn check(&self) {
        assert_eq!(self.live.count(), self.live_count);
        assert!(self.died.keys().all(|&version| !self.live.contains(version)), "the dead do not live");
        let mut deaths: Vec<(Time, Version)> = self.died.iter().map(|(&v, &t)| (t, v)).collect();
        deaths.sort_unstable();
        let mut queue: Vec<(Time, Version)> = self.deaths.iter().copied().collect();
        assert!(queue.is_sorted_by_key(|(time, _)| *time), "deaths ascend");
        queue.sort_unstable();
        assert_eq!(queue, deaths);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_visible_from_birth_until_death() {
        let births: Vec<Time> = (0..20).map(|_| 10).collect();
        let mut marks = Marks::new(&births, vec![(12, 3)]);
        let sees = |marks: &Marks, time: Time, births: &[Time]| marks.visible(time, births).to_vec();
        assert_eq!(sees(&marks, 9, &births).len(), 0);
        assert_eq!(sees(&marks, 11, &births).len(), 20);
        assert!(!sees(&marks, 12, &births).contains(&3) && marks.sees(11, 3, 10) && !marks.sees(12, 3, 10));
        marks.push(13);
        let births: Vec<Time> = births.into_iter().chain([13]).collect();
        assert_eq!(sees(&marks, 12, &births).len(), 19);
        assert!(sees(&marks, 13, &births).contains(&20));
        assert_eq!((marks.live(), marks.expired()), (20, 0));
        marks.forget(12);
        assert_eq!((marks.live(), marks.expired(), marks.kept(3)), (20, 1, false));
        marks.check();
    }
}
