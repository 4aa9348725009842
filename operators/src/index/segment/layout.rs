//! Which rows of a field belong to which version.

use std::borrow::Cow;
use std::ops::Range;

use super::versions::Version;
use crate::index::bits::Bits;
use crate::index::rows::{Row, RowSet};

/// Rows of a field by version; the rows of a version follow each other, and versions come in their order.
#[derive(Clone, Debug, PartialEq)]
pub enum Layout {
    /// Row n is that of version n.
    One(u32),
    /// Per version where its rows end, and per row its version.
    Many {
        /// `[versions]`
        ends: Vec<Row>,
        /// `[rows]`
        owners: Vec<Version>,
    },
}

impl Default for Layout {
    fn default() -> Self {
        Self::One(0)
    }
}

impl Layout {
    /// Adds a version of so many rows.
    pub fn push(&mut self, rows: u32) {
        match self {
            Self::One(count) if rows == 1 => *count += 1,
            Self::One(count) => {
                *self = Self::Many { ends: (1..=*count).collect(), owners: (0..*count).collect() };
                self.push(rows);
            }
            Self::Many { ends, owners } => {
                let version = ends.len() as Version;
                owners.extend((0..rows).map(|_| version));
                ends.push(owners.len() as Row);
            }
        }
    }

    /// The rows of a version.
    pub fn rows(&self, version: Version) -> Range<Row> {
        match self {
            Self::One(_) => version..version + 1,
            Self::Many { ends, .. } => {
                let start = (version as usize).checked_sub(1).map_or(0, |before| ends[before]);
                start..ends[version as usize]
            }
        }
    }

    /// The version a row belongs to.
    pub fn owner(&self, row: Row) -> Version {
        match self {
            Self::One(_) => row,
            Self::Many { owners, .. } => owners[row as usize],
        }
    }

    /// Whether row n is that of version n.
    pub fn is_one(&self) -> bool {
        matches!(self, Self::One(_))
    }

    /// All rows.
    pub fn len(&self) -> usize {
        match self {
            Self::One(count) => *count as usize,
            Self::Many { owners, .. } => owners.len(),
        }
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows of some versions.
    pub fn spread<'a>(&self, versions: RowSet<'a>) -> RowSet<'a> {
        match self {
            Self::One(_) => versions,
            Self::Many { owners, .. } if versions.count() == versions.rows() => RowSet::all(owners.len()),
            Self::Many { owners, .. } => {
                let mut bits = Bits::none(owners.len());
                versions.for_each(|version| self.rows(version).for_each(|row| bits.insert(row)));
                RowSet::of(Cow::Owned(bits))
            }
        }
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        match self {
            Self::One(_) => 0,
            Self::Many { ends, owners } => (ends.capacity() + owners.capacity()) * size_of::<u32>(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_know_their_versions() {
        let mut layout = Layout::default();
        let counts = [1, 1, 0, 3, 1];
        counts.into_iter().for_each(|count| layout.push(count));
        let rows: Vec<Range<Row>> = (0..5).map(|version| layout.rows(version)).collect();
        assert_eq!(rows, [0..1, 1..2, 2..2, 2..5, 5..6]);
        assert_eq!((0..6).map(|row| layout.owner(row)).collect::<Vec<_>>(), [0, 1, 3, 3, 3, 4]);
        let some = RowSet::of(Cow::Owned(Bits::of([0, 2, 3], 5)));
        assert_eq!(layout.spread(some).to_vec(), [0, 2, 3, 4]);
        assert_eq!(layout.spread(RowSet::all(5)), RowSet::all(6));
    }
}
