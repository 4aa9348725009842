//! The vectors of documents, as they are stored.

use super::Shard;
use crate::index::{Stored, Time};

impl Shard {
    /// The vectors of those of some documents that live here and are visible at a time, in the order asked for: the row of a
    /// chunk, or all rows. A field with one row for a document has that of every chunk.
    pub fn vectors(&self, time: Time, field: usize, wanted: &[(String, Option<u32>)]) -> Vec<Stored> {
        let stored = |(id, chunk): &(String, Option<u32>)| {
            let (part, version) = self.visible(id, time)?;
            let segment = &self.parts[part].segment;
            let of_field = &segment.fields()[field];
            let all = of_field.layout.rows(version);
            let rows = match chunk {
                Some(chunk) if all.len() > 1 => {
                    let row = all.start.saturating_add(*chunk);
                    if all.contains(&row) { row..row + 1 } else { all.start..all.start }
                }
                Some(_) | None => all,
            };
            Some(Stored { id: id.clone(), rows: rows.map(|row| of_field.rows.vector(row)).collect() })
        };
        wanted.iter().filter_map(stored).collect()
    }
}
