//! Ticks and the offsets they are bound to.

use std::collections::BTreeMap;

use freshet_schemas::{AsOf, Offset, Partition};

use crate::index::Time;
use crate::message::Binding;

/// Which offsets each tick reflects. Offsets ascend with ticks.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Next offsets as of the compacted past.
    base: BTreeMap<Partition, Offset>,
    /// Later bindings by tick.
    later: BTreeMap<Time, Vec<Binding>>,
    /// Newest tick known to be closed.
    closed: Time,
}

impl Ledger {
    /// Notes a binding.
    pub fn bind(&mut self, tick: Time, binding: Binding) {
        self.later.entry(tick).or_default().push(binding);
    }

    /// The newest closed tick, where `open` is the first tick that is not.
    pub fn newest_closed(&mut self, open: Time) -> Time {
        if open != Time::MAX {
            self.closed = self.closed.max(open.saturating_sub(1));
        } else if let Some((&last, _)) = self.later.last_key_value() {
            // All sources are done: everything read is closed.
            self.closed = self.closed.max(last);
        }
        self.closed
    }

    /// Last offset per partition that is reflected at a tick, −1 for none.
    pub fn as_of(&self, tick: Time) -> AsOf {
        let mut next = self.base.clone();
        for binding in self.later.range(..=tick).flat_map(|(_, bindings)| bindings) {
            next.insert(binding.partition, binding.next);
        }
        next.into_iter().map(|(partition, next)| (partition, next - 1)).collect()
    }

    /// Whether at least these offsets are reflected. A partition nobody has heard of is not.
    pub fn covers(as_of: &AsOf, needs: &BTreeMap<Partition, Offset>) -> bool {
        needs
            .iter()
            .all(|(partition, offset)| *offset < 0 || as_of.get(partition).is_some_and(|last| last >= offset))
    }

    /// No tick before `since` will be asked for.
    pub fn compact(&mut self, since: Time) {
        while let Some(entry) = self.later.first_entry().filter(|entry| *entry.key() <= since) {
            for binding in entry.remove() {
                self.base.insert(binding.partition, binding.next);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(ledger: &mut Ledger, tick: Time, partition: Partition, next: Offset) {
        ledger.bind(tick, Binding { partition, next });
    }

    #[test]
    fn as_of_is_a_prefix_at_every_tick_and_compaction_keeps_it() {
        let mut ledger = Ledger::default();
        bind(&mut ledger, 1, 0, 0);
        bind(&mut ledger, 1, 1, 0);
        bind(&mut ledger, 5, 0, 3);
        bind(&mut ledger, 7, 1, 2);
        assert_eq!(ledger.as_of(4), BTreeMap::from([(0, -1), (1, -1)]));
        assert_eq!(ledger.as_of(5), BTreeMap::from([(0, 2), (1, -1)]));
        ledger.compact(5);
        assert_eq!(ledger.as_of(6), BTreeMap::from([(0, 2), (1, -1)]));
        assert_eq!(ledger.as_of(7), BTreeMap::from([(0, 2), (1, 1)]));
    }

    #[test]
    fn covers_needs_every_partition() {
        let as_of = BTreeMap::from([(0, 2), (1, -1)]);
        let needs = |list: &[(Partition, Offset)]| list.iter().copied().collect();
        assert!(Ledger::covers(&as_of, &needs(&[(0, 2)])));
        assert!(Ledger::covers(&as_of, &needs(&[(0, 1), (1, -1)])));
        assert!(!Ledger::covers(&as_of, &needs(&[(0, 3)])));
        assert!(!Ledger::covers(&as_of, &needs(&[(7, 0)])));
    }
}
