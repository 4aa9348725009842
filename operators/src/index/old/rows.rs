//! The seam between a shard and the indexes of its fields: numbered rows, and who may see them.
//!
//! An index knows rows and scores, nothing of documents, versions or times. The shard says which rows are visible, and
//! makes of the best rows the best documents.

use freshet_schemas::{SparseVector, VectorKind};

use super::dense::DenseFlat;
use super::multi::TokenRows;
use super::sparse::Postings;
use super::{FieldSpec, IndexError, Probe, RowVector, Time, TokenMatrix};

/// Number of a row in its field's index.
pub type Row = u32;

/// A row whose number means nothing.
pub const NO_ROW: Row = Row::MAX;

/// A vector to be stored.
#[derive(Clone, Debug, PartialEq)]
pub enum NewVector {
    /// Of a dense or multi field.
    Row(RowVector),
    /// Of a sparse field.
    Sparse(SparseVector),
}

impl NewVector {
    /// The vector, borrowed.
    pub fn as_ref(&self) -> VectorRef<'_> {
        match self {
            Self::Row(row) => VectorRef::from(row),
            Self::Sparse(vector) => VectorRef::Sparse(vector),
        }
    }
}

/// A stored vector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum VectorRef<'a> {
    /// `[size]`
    Dense(&'a [f32]),
    /// `[tokens, size]`
    Multi(&'a TokenMatrix),
    /// Terms and weights.
    Sparse(&'a SparseVector),
}

impl<'a> From<&'a RowVector> for VectorRef<'a> {
    fn from(row: &'a RowVector) -> Self {
        match row {
            RowVector::Dense(vector) => Self::Dense(vector),
            RowVector::Multi(matrix) => Self::Multi(matrix),
        }
    }
}

/// A row found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowHit {
    /// Its number.
    pub row: Row,
    /// Its score, finite.
    pub score: f64,
}

/// What a search over rows found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// Rows and scores, in no order, each row once.
    pub hits: Vec<RowHit>,
    /// Every visible row that matches and scores more than this is in `hits`; `None`: every one that matches is.
    pub floor: Option<f64>,
}

/// An index over the rows of one field.
///
/// # Contract
/// - A vector is stored once, by `insert`, and stays as it is until its row is freed. The number of a freed row may be
///   given out again; freed rows are never visible, so an index need not forget them at once.
/// - What a search finds, and its scores to the last bit, depend on the visible rows and the probe only: not on the
///   order of insertion, on rows that are not visible, or on other probes. Approximate indexes keep this except for
///   which rows they miss.
/// - `search`, `scan` and `score` give a row the same score.
/// - Vectors and probes have been checked by `fits` and `suits`; what does not fit is refused again, never a panic.
pub trait RowIndex: Send + Sync {
    /// Says what of a vector does not fit, with both sizes.
    ///
    /// # Errors
    /// What does not fit.
    fn fits(&self, vector: VectorRef<'_>) -> Result<(), String>;

    /// Says what of a probe does not fit, with both sizes.
    ///
    /// # Errors
    /// What does not fit.
    fn suits(&self, probe: &Probe) -> Result<(), String>;

    /// Stores a vector under the number of a freed row, or the next.
    ///
    /// # Errors
    /// A vector that does not fit, or the library below failing; nothing is stored then.
    fn insert(&mut self, vector: NewVector) -> Result<Row, IndexError>;

    /// Takes note that a row will never be visible again.
    fn free(&mut self, row: Row);

    /// At least the `want` best of the visible rows that match, if there are so many.
    ///
    /// # Errors
    /// A probe that does not fit, or the library below failing.
    fn search(&self, probe: &Probe, visible: &RowSet, want: usize) -> Result<Found, IndexError>;

    /// All visible rows that match, each scored plainly.
    ///
    /// # Errors
    /// As `search`.
    fn scan(&self, probe: &Probe, visible: &RowSet) -> Result<Found, IndexError>;

    /// Scores of given rows, in their order; `None` for those that do not match.
    ///
    /// # Errors
    /// As `search`.
    fn score(&self, probe: &Probe, rows: &[Row]) -> Result<Vec<Option<f64>>, IndexError>;

    /// The vector of a row that has not been freed.
    fn vector(&self, row: Row) -> VectorRef<'_>;

    /// Does a bounded share of the work that freed rows leave behind. If rows got new numbers: the new number of each
    /// old one, `NO_ROW` for those that are gone.
    fn tidy(&mut self) -> Option<Vec<Row>>;

    /// Rows stored, freed ones that are still held included.
    fn len(&self) -> usize;

    /// Whether no row is stored.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory the vectors take, about.
    fn bytes(&self) -> usize;

    /// Asserts the invariants.
    fn check(&self);
}

/// An empty index for a field.
///
/// # Errors
/// A size that does not fit the kind, or FAISS failing.
pub fn open(spec: &FieldSpec) -> Result<Box<dyn RowIndex>, IndexError> {
    let wrong = |what: &str| IndexError::Field { field: spec.name.clone(), what: what.to_owned() };
    match spec.kind {
        VectorKind::Dense | VectorKind::Multi if spec.size == 0 => Err(wrong("has no dimensions")),
        VectorKind::Multi if spec.size > super::maxsim::DIM_MAX => Err(wrong(&format!(
            "has {} dimensions, multi-vectors may have {}",
            spec.size,
            super::maxsim::DIM_MAX
        ))),
        VectorKind::Dense => Ok(Box::new(DenseFlat::new(&spec.name, spec.size, spec.metric)?)),
        VectorKind::Sparse => Ok(Box::new(Postings::new(&spec.name, spec.scoring))),
        VectorKind::Multi => Ok(Box::new(TokenRows::new(&spec.name, spec.size))),
    }
}

/// The rows that may be found: all of an index, or those whose bit is set.
#[derive(Clone, Debug, PartialEq)]
pub struct RowSet {
    /// Bit `row % 8` of byte `row / 8`, as FAISS reads it; `None`: all rows.
    bits: Option<Vec<u8>>,
    /// Rows of the index.
    rows: usize,
    /// Rows in the set.
    count: usize,
}

impl RowSet {
    /// All rows of an index of so many.
    pub fn all(rows: usize) -> Self {
        Self { bits: None, rows, count: rows }
    }

    /// The rows with their bit set.
    pub fn of_bits(bits: Vec<u8>, rows: usize) -> Self {
        debug_assert_eq!(bits.len(), rows.div_ceil(8));
        let count = bits.iter().map(|byte| byte.count_ones() as usize).sum();
        Self { bits: Some(bits), rows, count }
    }

    /// How many rows are in it.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether a row is in it.
    pub fn contains(&self, row: Row) -> bool {
        let row = row as usize;
        match &self.bits {
            None => row < self.rows,
            Some(bits) => bits.get(row / 8).is_some_and(|byte| byte >> (row % 8) & 1 == 1),
        }
    }

    /// The bits, unless all rows are in it.
    pub fn bits(&self) -> Option<&[u8]> {
        self.bits.as_deref()
    }

    /// Its rows, ascending.
    pub fn iter(&self) -> impl Iterator<Item = Row> + '_ {
        let rows = 0..Row::try_from(self.rows).unwrap_or(NO_ROW);
        rows.filter(|&row| self.contains(row))
    }
}

/// Who a row belongs to, and when it is visible. Invariants: all columns are as long as each other; a row is visible at
/// `born ≤ t < died`, which is never true of a row nobody owns (born at the end of time).
#[derive(Debug, Default)]
pub struct RowTable {
    owners: Vec<u32>,
    born: Vec<Time>,
    died: Vec<Time>,
    /// Rows that are not visible for ever: dead, or nobody's.
    closed: usize,
    /// The latest birth so far.
    newest: Time,
}

/// A time that never comes.
pub const NEVER: Time = Time::MAX;

impl RowTable {
    /// Rows of the index, nobody's included.
    pub fn len(&self) -> usize {
        self.owners.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }

    /// Rows that are dead or nobody's.
    pub fn closed(&self) -> usize {
        self.closed
    }

    /// Slot of the document a row belongs to.
    pub fn owner(&self, row: Row) -> u32 {
        self.owners[row as usize]
    }

    /// When a row ceased to be visible; 0 once nobody's, `NEVER` while it lives.
    pub fn died(&self, row: Row) -> Time {
        self.died[row as usize]
    }

    /// Gives a row to a document.
    pub fn claim(&mut self, row: Row, owner: u32, born: Time) {
        let row = row as usize;
        while self.owners.len() <= row {
            self.owners.push(0);
            self.born.push(NEVER);
            self.died.push(0);
            self.closed += 1;
        }
        debug_assert_eq!((self.born[row], self.died[row]), (NEVER, 0), "row {row} is someone's");
        (self.owners[row], self.born[row], self.died[row]) = (owner, born, NEVER);
        self.closed -= 1;
        self.newest = self.newest.max(born);
    }

    /// Ends the visibility of a row, or (`NEVER`) takes that back.
    pub fn end(&mut self, row: Row, died: Time) {
        let old = std::mem::replace(&mut self.died[row as usize], died);
        match (old == NEVER, died == NEVER) {
            (true, false) => self.closed += 1,
            (false, true) => self.closed -= 1,
            (true, true) | (false, false) => {}
        }
    }

    /// Makes a dead row nobody's.
    pub fn release(&mut self, row: Row) {
        debug_assert_ne!(self.died(row), NEVER, "row {row} lives");
        (self.born[row as usize], self.died[row as usize]) = (NEVER, 0);
    }

    /// The rows visible at a time, of an index that stores `stored` rows: some may not have been given to anyone.
    pub fn visible(&self, time: Time, stored: usize) -> RowSet {
        if self.closed == 0 && self.newest <= time && self.len() == stored {
            return RowSet::all(stored);
        }
        let pack = |(born, died): (&[Time], &[Time])| {
            let lives = born.iter().zip(died).map(|(&born, &died)| u8::from(born <= time && time < died));
            lives.enumerate().fold(0u8, |byte, (bit, lives)| byte | lives << bit)
        };
        RowSet::of_bits(self.born.chunks(8).zip(self.died.chunks(8)).map(pack).collect(), self.len())
    }

    /// Renumbers the rows; see [`RowIndex::tidy`].
    pub fn renumber(&mut self, numbers: &[Row]) {
        let old = std::mem::take(self);
        self.newest = old.newest;
        let kept = (0..old.len()).filter(|&row| numbers.get(row).is_some_and(|&new| new != NO_ROW));
        let rows = kept.clone().map(|row| numbers[row] as usize + 1).max().unwrap_or(0);
        (self.owners, self.born, self.died) = (vec![0; rows], vec![NEVER; rows], vec![0; rows]);
        for row in kept {
            let new = numbers[row] as usize;
            (self.owners[new], self.born[new], self.died[new]) =
                (old.owners[row], old.born[row], old.died[row]);
        }
        self.closed = self.died.iter().filter(|&&died| died != NEVER).count();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_visible_from_birth_until_death() {
        let mut table = RowTable::default();
        (0..20).for_each(|row| table.claim(row, row / 2, 10));
        assert_eq!(table.visible(9, 20).count(), 0);
        assert_eq!(table.visible(10, 20), RowSet::all(20));
        table.end(3, 12);
        table.claim(20, 9, 12);
        assert!(table.visible(11, 21).contains(3) && !table.visible(11, 21).contains(20));
        assert!(!table.visible(12, 21).contains(3) && table.visible(12, 21).contains(20));
        table.release(3);
        assert!(!table.visible(11, 21).contains(3) && table.closed() == 1);
        table.claim(3, 1, 13);
        assert_eq!(table.visible(13, 21), RowSet::all(21));
        assert_eq!(table.visible(12, 21).iter().count(), 20);
    }
}
