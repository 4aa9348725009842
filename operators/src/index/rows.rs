//! The seam between a segment and the indexes of its fields: numbered rows, and which of them may be found.
//!
//! An index knows rows and scores, nothing of documents, versions or times. It begins as a **head**, to which rows are
//! pushed, and which is searched exactly; `seal` makes an immutable, faster index of the rows of one or more others.

use std::borrow::Cow;

use freshet_schemas::Params;

use super::bits::Bits;
use super::{FieldSpec, IndexError, Probe};

/// Number of a row in its index: rows are numbered from 0 in the order in which they came.
pub type Row = u32;

/// Most rows of an index.
pub const ROWS_MAX: usize = i32::MAX as usize;

/// A row found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowHit {
    /// Its number.
    pub row: Row,
    /// Its score, finite.
    pub score: f64,
}

/// What is searched for.
#[derive(Clone, Copy, Debug)]
pub struct Search<'a> {
    /// Fits the field: see `check::suits`.
    pub probe: &'a Probe,
    /// The rows that may be found.
    pub visible: &'a RowSet<'a>,
    /// How many of the best are wanted, at least 1.
    pub want: usize,
    /// Rows that score less are of no use: so many better ones are known already. May be −∞.
    pub above: f64,
    /// How hard an approximate index looks. `exact` is not for indexes: the caller asks `scan` instead.
    pub params: &'a Params,
}

/// What a search found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// Rows and scores, each row once, in no order.
    pub hits: Vec<RowHit>,
    /// Whether these are all visible rows that match (and do not score less than `above`).
    pub all: bool,
}

/// An index over the rows of one field.
///
/// # Contract
/// - Rows are stored once and never change, nor do their numbers.
/// - What a search finds, and its scores to the last bit, depend on the visible rows and the probe only: not on other
///   rows, on other probes, or on how rows are spread over indexes. Approximate indexes keep this except for which rows
///   they miss.
/// - `search`, `scan` and `score` give a row the same score, in a head and in what is sealed from it. The one exception is
///   a lossy coding, `TokenCoding::Residual`: there a row's score changes when the row is sealed (and again when it comes
///   under another codebook). Within an index, all three still agree.
/// - Vectors and probes have been checked (see `check`); what does not fit may be refused again, and never panics.
/// - `seal` is called on background threads while others search the same indexes.
pub trait RowIndex: Send + Sync + Sized {
    /// What a row holds.
    type Vector;

    /// A head without rows.
    ///
    /// # Errors
    /// A field that cannot be indexed, or the library below failing.
    fn head(spec: &FieldSpec) -> Result<Self, IndexError>;

    /// Adds a row to a head.
    ///
    /// # Errors
    /// The library below failing, or too many rows; nothing is stored then.
    fn push(&mut self, vector: &Self::Vector) -> Result<(), IndexError>;

    /// The picked rows, in their order, as an immutable index.
    ///
    /// # Errors
    /// The library below failing.
    fn seal(spec: &FieldSpec, from: &[&Self], picks: &[Pick]) -> Result<Self, IndexError>;

    /// The `want` best of the visible rows that match, the best being first by score descending, then by row ascending;
    /// all that match if there are fewer. In a head also every row that ties with the last of them.
    ///
    /// # Errors
    /// A probe that does not fit, or the library below failing.
    fn search(&self, search: &Search<'_>) -> Result<Found, IndexError>;

    /// All visible rows that match, each scored plainly.
    ///
    /// # Errors
    /// As `search`.
    fn scan(&self, probe: &Probe, visible: &RowSet<'_>) -> Result<Vec<RowHit>, IndexError>;

    /// Scores of given rows, in their order; `None` for those that do not match.
    ///
    /// # Errors
    /// As `search`.
    fn score(&self, probe: &Probe, rows: &[Row]) -> Result<Vec<Option<f64>>, IndexError>;

    /// The vector of a row; of a lossy index what is left of it.
    fn vector(&self, row: Row) -> Self::Vector;

    /// Rows stored.
    fn len(&self) -> usize;

    /// Whether no row is stored.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory, about.
    fn bytes(&self) -> usize;

    /// Asserts the invariants.
    fn check(&self);
}

/// A row of one of several indexes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pick {
    /// Which index.
    pub from: u32,
    /// Its row.
    pub row: Row,
}

/// The rows that may be found: all of an index, or those in a set of its length.
#[derive(Clone, Debug, PartialEq)]
pub struct RowSet<'a> {
    bits: Option<Cow<'a, Bits>>,
    rows: usize,
    count: usize,
}

impl<'a> RowSet<'a> {
    /// All rows of an index of so many.
    pub fn all(rows: usize) -> Self {
        Self { bits: None, rows, count: rows }
    }

    /// The rows in a set.
    pub fn of(bits: Cow<'a, Bits>) -> Self {
        let count = bits.count();
        Self::counted(bits, count)
    }

    /// The rows in a set that holds `count`.
    pub fn counted(bits: Cow<'a, Bits>, count: usize) -> Self {
        debug_assert_eq!(bits.count(), count);
        if count == bits.len() {
            Self::all(count)
        } else {
            Self { rows: bits.len(), count, bits: Some(bits) }
        }
    }

    /// How many rows are in it.
    pub fn count(&self) -> usize {
        self.count
    }

    /// How many rows the index has.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Whether a row is in it.
    pub fn contains(&self, row: Row) -> bool {
        self.bits.as_ref().map_or((row as usize) < self.rows, |bits| bits.contains(row))
    }

    /// The bits, unless all rows are in it.
    pub fn bits(&self) -> Option<&Bits> {
        self.bits.as_deref()
    }

    /// Calls with each of its rows, ascending.
    pub fn for_each(&self, mut each: impl FnMut(Row)) {
        match &self.bits {
            None => (0..self.rows as Row).for_each(each),
            Some(bits) => bits.iter().for_each(&mut each),
        }
    }

    /// Its rows, ascending.
    pub fn to_vec(&self) -> Vec<Row> {
        let mut rows = Vec::with_capacity(self.count);
        self.for_each(|row| rows.push(row));
        rows
    }
}

/// The `want` best of some rows, in the order score descending, then row ascending; `ties`: and all that tie with the
/// last.
pub fn best(hits: &mut Vec<RowHit>, want: usize, ties: bool) {
    let order = |a: &RowHit, b: &RowHit| b.score.total_cmp(&a.score).then(a.row.cmp(&b.row));
    if hits.len() > want && want > 0 {
        let (_, last, _) = hits.select_nth_unstable_by(want - 1, order);
        let last = last.score;
        if ties {
            hits.retain(|hit| hit.score >= last);
        } else {
            hits.truncate(want);
        }
    }
}
