//! The budget between source and index.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use freshet_schemas::{Offset, Partition};

use crate::index::Time;

/// Counts what has been read and is not in the indexes yet. Invariant: the sums equal those of `open`.
#[derive(Debug)]
pub struct Budget {
    records_max: usize,
    bytes_max: usize,
    open: VecDeque<(Time, usize, usize)>,
    records: usize,
    bytes: usize,
    positions: BTreeMap<Partition, Offset>,
    gauge: Arc<BudgetGauge>,
}

/// Use of the budgets of all workers, and the highest use of one so far, for metrics and tests.
#[derive(Debug, Default)]
pub struct BudgetGauge {
    /// Records between source and index, of all workers.
    pub records: AtomicUsize,
    /// Their bytes.
    pub bytes: AtomicUsize,
    /// Most records between source and index.
    pub records_peak: AtomicUsize,
    /// Most bytes between source and index.
    pub bytes_peak: AtomicUsize,
}

impl Budget {
    /// A budget of so many records and bytes; a single record larger than `bytes_max` still passes, alone.
    pub fn new(records_max: usize, bytes_max: usize, gauge: Arc<BudgetGauge>) -> Self {
        Self {
            records_max,
            bytes_max,
            open: VecDeque::new(),
            records: 0,
            bytes: 0,
            positions: BTreeMap::new(),
            gauge,
        }
    }

    /// Records and bytes that may still be read.
    pub fn room(&self) -> (usize, usize) {
        (self.records_max.saturating_sub(self.records), self.bytes_max.saturating_sub(self.bytes))
    }

    /// Books what a tick has read; ticks ascend.
    pub fn take(&mut self, tick: Time, records: usize, bytes: usize) {
        if records == 0 {
            return;
        }
        debug_assert!(self.open.back().is_none_or(|&(last, ..)| last < tick));
        self.open.push_back((tick, records, bytes));
        self.records += records;
        self.bytes += bytes;
        self.gauge.records.fetch_add(records, Ordering::Relaxed);
        self.gauge.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.gauge.records_peak.fetch_max(self.records, Ordering::Relaxed);
        self.gauge.bytes_peak.fetch_max(self.bytes, Ordering::Relaxed);
    }

    /// Gives back what closed ticks held.
    pub fn release(&mut self, closed: impl Fn(&Time) -> bool) {
        while let Some(&(tick, records, bytes)) = self.open.front() {
            if !closed(&tick) {
                return;
            }
            self.open.pop_front();
            self.records -= records;
            self.bytes -= bytes;
            self.gauge.records.fetch_sub(records, Ordering::Relaxed);
            self.gauge.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// Whether the position of a partition is new; remembers it.
    pub fn moved(&mut self, partition: Partition, next: Offset) -> bool {
        self.positions.insert(partition, next) != Some(next)
    }
}

impl Drop for Budget {
    fn drop(&mut self) {
        // What is still open is read again by the next run.
        self.release(|_| true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_returns_when_ticks_close() {
        let gauge = Arc::new(BudgetGauge::default());
        let mut budget = Budget::new(10, 100, Arc::clone(&gauge));
        budget.take(1, 4, 50);
        budget.take(3, 6, 70);
        assert_eq!(budget.room(), (0, 0));
        budget.release(|&t| t < 3);
        assert_eq!(budget.room(), (4, 30));
        let used = |gauge: &BudgetGauge| {
            (gauge.records.load(Ordering::Relaxed), gauge.bytes.load(Ordering::Relaxed))
        };
        assert_eq!(used(&gauge), (6, 70));
        let mut other = Budget::new(10, 100, Arc::clone(&gauge));
        other.take(2, 1, 1);
        assert_eq!(used(&gauge), (7, 71));
        drop(other);
        assert_eq!(used(&gauge), (6, 70));
        budget.release(|_| true);
        assert_eq!(budget.room(), (10, 100));
        assert_eq!(gauge.records_peak.load(Ordering::Relaxed), 10);
        assert_eq!(gauge.bytes_peak.load(Ordering::Relaxed), 120);
    }
}
