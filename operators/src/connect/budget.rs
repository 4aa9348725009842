//! What one poll may still hand out.

use freshet_schemas::Record;

/// Counts records and bytes down. The first record is admitted whatever its size, so that none is stuck.
pub(super) struct Budget {
    records_left: usize,
    bytes_left: usize,
    empty: bool,
}

impl Budget {
    pub(super) fn new(records_max: usize, bytes_max: usize) -> Self {
        Self { records_left: records_max, bytes_left: bytes_max, empty: true }
    }

    /// Whether the record still fits; if so it is counted.
    pub(super) fn admit(&mut self, record: &Record) -> bool {
        let bytes = record.size_bytes();
        if self.records_left == 0 || (!self.empty && bytes > self.bytes_left) {
            return false;
        }
        self.records_left -= 1;
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
        self.empty = false;
        true
    }
}
