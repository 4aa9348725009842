//! Freeing what no reader can see any more.

use super::{Document, Field, NEVER, Shard, Time};
use crate::index::old::rows::{NO_ROW, Row};

/// Versions freed per call, at least; if more than twice as many wait, half of them.
const VERSIONS_MIN: usize = 4096;

impl Shard {
    /// Takes note that no query will come at a time before `since`, and frees versions that died until then. One call
    /// does a bounded share of the work; what is left is done by the next ones.
    pub fn compact(&mut self, since: Time) {
        self.since = self.since.max(since);
        while self.sizes.get(1).is_some_and(|(time, _)| *time <= self.since) {
            self.sizes.pop_front();
        }
        let dead = self.ended.partition_point(|(died, _)| *died <= self.since);
        for (_, slot) in self.ended.drain(..dead.min(VERSIONS_MIN.max(dead / 2))) {
            let document = &mut self.documents[slot as usize];
            free_oldest(&mut self.fields, document);
            if document.versions.is_empty() {
                self.slots.remove(&document.id);
                *document = Document::default();
                self.free.push(slot);
            }
        }
        for number in 0..self.fields.len() {
            if let Some(numbers) = self.fields[number].index.tidy() {
                self.renumber(number, &numbers);
            }
        }
    }

    fn renumber(&mut self, field: usize, numbers: &[Row]) {
        self.fields[field].table.renumber(numbers);
        let versions = self.documents.iter_mut().flat_map(|document| &mut document.versions);
        for row in versions.flat_map(|version| &mut version.rows[field]) {
            *row = numbers[*row as usize];
            debug_assert_ne!(*row, NO_ROW, "a row in use was freed");
        }
    }
}

/// Frees a document's oldest version, and the rows that no later one shares: those that died with it.
fn free_oldest(fields: &mut [Field], document: &mut Document) {
    let Some(version) = document.versions.pop_front() else { return };
    debug_assert_ne!(version.died, NEVER, "document \"{}\" lives", document.id);
    for (field, rows) in fields.iter_mut().zip(&version.rows) {
        for &row in rows {
            // A row that a version names twice is nobody's after the first time.
            if field.table.died(row) == version.died {
                field.table.release(row);
                field.index.free(row);
            }
        }
    }
}
