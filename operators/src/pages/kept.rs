//! The lists that are read page by page: how many are kept, and for how long.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use freshet_schemas::Cursor;

/// Bounds on what is kept.
#[derive(Clone, Copy, Debug)]
pub struct CursorLimits {
    /// Most lists of a worker; the one that was used longest ago goes first.
    pub count_max: usize,
    /// How long a list is kept after its last page was asked for.
    pub timeout: Duration,
}

/// Lists by number. Invariant: at most `count_max`.
pub struct Kept<T> {
    limits: CursorLimits,
    run: u64,
    worker: usize,
    next: u64,
    lists: BTreeMap<u64, (Instant, T)>,
}

impl<T> Kept<T> {
    /// Nothing yet, on a worker of a run.
    pub fn new(limits: CursorLimits, run: u64, worker: usize) -> Self {
        Self { limits, run, worker, next: 0, lists: BTreeMap::new() }
    }

    /// The cursor of a list that is about to be kept, at a place in it.
    pub fn cursor(&self, from: usize) -> Cursor {
        Cursor { run: self.run, worker: self.worker, number: self.next, from }
    }

    /// Keeps a list under the cursor that was given last.
    pub fn keep(&mut self, list: T, now: Instant) {
        while self.lists.len() >= self.limits.count_max {
            let oldest = self.lists.iter().min_by_key(|(number, (used, _))| (*used, **number));
            let Some(oldest) = oldest.map(|(number, _)| *number) else { break };
            self.lists.remove(&oldest);
        }
        self.lists.insert(self.next, (now, list));
        self.next += 1;
    }

    /// The list of a cursor, unless it is gone.
    pub fn get(&mut self, cursor: &Cursor, now: Instant) -> Option<&T> {
        if (cursor.run, cursor.worker) != (self.run, self.worker) {
            return None;
        }
        let (used, list) = self.lists.get_mut(&cursor.number)?;
        *used = now;
        Some(list)
    }

    /// Lets go of the list of a cursor.
    pub fn end(&mut self, cursor: &Cursor) {
        self.lists.remove(&cursor.number);
    }

    /// Lets go of what nobody has asked for in time. How long until the next one is due.
    pub fn expire(&mut self, now: Instant) -> Option<Duration> {
        let timeout = self.limits.timeout;
        self.lists.retain(|_, (used, _)| now.saturating_duration_since(*used) < timeout);
        let first = self.lists.values().map(|(used, _)| *used).min()?;
        Some((first + timeout).saturating_duration_since(now))
    }

    /// Lets go of all.
    pub fn clear(&mut self) {
        self.lists.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_kept_while_they_are_used() {
        let limits = CursorLimits { count_max: 2, timeout: Duration::from_secs(60) };
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut kept = Kept::new(limits, 7, 3);
        let a = kept.cursor(10);
        kept.keep("a", at(0));
        let b = kept.cursor(10);
        kept.keep("b", at(10));
        assert_eq!((a.run, a.worker, a.from), (7, 3, 10));
        assert_eq!(kept.get(&a, at(20)), Some(&"a"));
        let c = kept.cursor(0);
        kept.keep("c", at(30));
        assert_eq!(kept.get(&b, at(30)), None, "there is room for two, and it was used longest ago");
        assert_eq!(kept.get(&Cursor { from: 99, ..a }, at(31)), Some(&"a"), "any page of it");
        assert_eq!(kept.get(&Cursor { run: 8, ..a }, at(31)), None, "of another run");
        assert_eq!(kept.get(&Cursor { worker: 0, ..a }, at(31)), None, "of another worker");
        assert_eq!(kept.expire(at(40)), Some(Duration::from_secs(50)));
        assert_eq!(kept.expire(at(90)), Some(Duration::from_secs(1)));
        assert_eq!(kept.get(&c, at(90)), None, "nobody asked for 60 seconds");
        kept.end(&a);
        assert_eq!(kept.get(&a, at(90)), None);
        assert_eq!(kept.expire(at(90)), None, "nothing is left");
    }
}
