//! Sparse vectors as postings per term.

use std::collections::BTreeMap;
use std::ops::Bound;

use freshet_schemas::SparseVector;

use super::rows::{Found, NO_ROW, NewVector, Row, RowHit, RowIndex, RowSet, VectorRef};
use super::{IndexError, Probe, Scoring};

/// Freed rows below which postings are not swept.
const FREED_MIN: usize = 256;

/// Postings looked at per call of `tidy`, at least; at most a sixteenth of all beyond that, plus one list.
const SWEEP_POSTINGS_MIN: usize = 1 << 16;

/// A term in a row.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Posting {
    row: Row,
    weight: f32,
}

/// Rows and what their removal leaves behind. Invariants: `rows` is `None` for freed rows; each freed row is in exactly
/// one of `freed` (its postings are still there, and no sweep has begun for it), `sweeping` (they are being removed)
/// and `clean` (they are gone; the number may be used again). Each term of a row that is not freed has one posting.
///
/// Scores, summed over the terms that probe and row share, terms ascending, in f64; rows that share none do not match:
/// - `Dot`: Σ weight(probe) · weight(row).
/// - `Bm25`: Σ weight(probe) · tf / (tf + k1 · (1 − b + b · length / mean length)), Robertson & Zaragoza 2009, §3.4,
///   where the probe's weight already holds count · idf · (k1 + 1), and a row's length is the sum of its weights.
pub struct Postings {
    name: String,
    scoring: Scoring,
    rows: Vec<Option<SparseRow>>,
    postings: BTreeMap<u64, Vec<Posting>>,
    /// Postings in all lists.
    count: usize,
    freed: Vec<Row>,
    sweep: Option<Sweep>,
    clean: Vec<Row>,
}

struct SparseRow {
    vector: SparseVector,
    /// Sum of the weights: for BM25 the number of terms.
    length: f64,
}

/// Removal of the postings of freed rows, some lists at a time.
struct Sweep {
    /// Ascending.
    sweeping: Vec<Row>,
    /// Last term done.
    done: Option<u64>,
}

/// A probe's terms and mean length, checked.
struct Terms<'a> {
    terms: &'a [(u64, f64)],
    length_mean: f64,
}

impl Postings {
    /// No rows yet.
    pub fn new(name: &str, scoring: Scoring) -> Self {
        Self {
            name: name.to_owned(),
            scoring,
            rows: Vec::new(),
            postings: BTreeMap::new(),
            count: 0,
            freed: Vec::new(),
            sweep: None,
            clean: Vec::new(),
        }
    }

    fn terms<'a>(&self, probe: &'a Probe) -> Result<Terms<'a>, IndexError> {
        self.suits(probe).map_err(|what| IndexError::Probe { field: self.name.clone(), what })?;
        match probe {
            Probe::Sparse { terms, length_mean } => Ok(Terms { terms, length_mean: *length_mean }),
            Probe::Dense(_) | Probe::Multi(_) => Ok(Terms { terms: &[], length_mean: 0.0 }),
        }
    }

    /// What a term adds to the score of a row.
    fn part(&self, query_weight: f64, weight: f32, length: f64, length_mean: f64) -> f64 {
        query_weight * term_share(self.scoring, weight, length, length_mean)
    }

    fn misfit(&self, what: &str) -> IndexError {
        IndexError::Misfit { id: String::new(), field: self.name.clone(), what: what.to_owned() }
    }

    fn begin_sweep(&mut self) {
        let held = self.rows.len() - self.clean.len();
        if self.sweep.is_none() && self.freed.len() >= FREED_MIN && self.freed.len() > held / 4 {
            let mut sweeping = std::mem::take(&mut self.freed);
            sweeping.sort_unstable();
            self.sweep = Some(Sweep { sweeping, done: None });
        }
    }
}

/// The part of a term's weight that depends on the row. A share that is not finite (precomputed weights may be
/// negative) counts as 0.
fn term_share(scoring: Scoring, weight: f32, length: f64, length_mean: f64) -> f64 {
    let weight = f64::from(weight);
    match scoring {
        Scoring::Dot => weight,
        Scoring::Bm25 { k1, b } => {
            let (k1, b) = (f64::from(k1), f64::from(b));
            let relative = if length_mean > 0.0 { b * length / length_mean } else { 0.0 };
            let share = weight / (weight + k1 * (1.0 - b + relative));
            if share.is_finite() { share } else { 0.0 }
        }
    }
}

fn ascend(mut terms: impl Iterator<Item = u64>) -> bool {
    let Some(mut last) = terms.next() else { return true };
    terms.all(|term| std::mem::replace(&mut last, term) < term)
}

impl RowIndex for Postings {
    fn fits(&self, vector: VectorRef<'_>) -> Result<(), String> {
        let VectorRef::Sparse(vector) = vector else { return Err("is not sparse, field is".into()) };
        if vector.indices.len() != vector.values.len() {
            return Err(format!("has {} indices and {} values", vector.indices.len(), vector.values.len()));
        }
        match (ascend(vector.indices.iter().copied()), vector.values.iter().all(|value| value.is_finite())) {
            (false, _) => Err("has indices that do not ascend".into()),
            (true, false) => Err("has a value that is not finite".into()),
            (true, true) => Ok(()),
        }
    }

    fn suits(&self, probe: &Probe) -> Result<(), String> {
        let Probe::Sparse { terms, length_mean } = probe else {
            return Err("is not sparse, field is".into());
        };
        let finite = length_mean.is_finite() && terms.iter().all(|(_, weight)| weight.is_finite());
        match (ascend(terms.iter().map(|(term, _)| *term)), finite) {
            (false, _) => Err("has terms that do not ascend".into()),
            (true, false) => Err("has a weight that is not finite".into()),
            (true, true) => Ok(()),
        }
    }

    fn insert(&mut self, vector: NewVector) -> Result<Row, IndexError> {
        self.fits(vector.as_ref()).map_err(|what| self.misfit(&what))?;
        let NewVector::Sparse(vector) = vector else { return Err(self.misfit("is not sparse")) };
        let next = Row::try_from(self.rows.len()).ok().filter(|&row| row != NO_ROW);
        let row = self.clean.pop().or(next).ok_or_else(|| self.misfit("finds the index full"))?;
        for (term, weight) in vector.iter() {
            self.postings.entry(term).or_default().push(Posting { row, weight });
        }
        self.count += vector.indices.len();
        let length = vector.values.iter().map(|&value| f64::from(value)).sum();
        let stored = Some(SparseRow { vector, length });
        match self.rows.get_mut(row as usize) {
            Some(place) => *place = stored,
            None => self.rows.push(stored),
        }
        Ok(row)
    }

    fn free(&mut self, row: Row) {
        self.rows[row as usize] = None;
        self.freed.push(row);
    }

    /// Term by term over the postings: every row that matches.
    fn search(&self, probe: &Probe, visible: &RowSet, _want: usize) -> Result<Found, IndexError> {
        let Terms { terms, length_mean } = self.terms(probe)?;
        let mut scores = vec![f64::NAN; self.rows.len()];
        let mut touched = Vec::new();
        for &(term, query_weight) in terms {
            for posting in self.postings.get(&term).map(Vec::as_slice).unwrap_or_default() {
                let Some(row) = &self.rows[posting.row as usize] else { continue };
                if !visible.contains(posting.row) {
                    continue;
                }
                let part = self.part(query_weight, posting.weight, row.length, length_mean);
                let score = &mut scores[posting.row as usize];
                if score.is_nan() {
                    touched.push(posting.row);
                    *score = 0.0;
                }
                *score += part;
            }
        }
        let hits = touched.into_iter().map(|row| RowHit { row, score: scores[row as usize] });
        Ok(Found { hits: hits.collect(), floor: None })
    }

    fn scan(&self, probe: &Probe, visible: &RowSet) -> Result<Found, IndexError> {
        let rows: Vec<Row> = visible.iter().filter(|&row| self.rows[row as usize].is_some()).collect();
        let scores = self.score(probe, &rows)?;
        let hits =
            rows.into_iter().zip(scores).filter_map(|(row, score)| Some(RowHit { row, score: score? }));
        Ok(Found { hits: hits.collect(), floor: None })
    }

    fn score(&self, probe: &Probe, rows: &[Row]) -> Result<Vec<Option<f64>>, IndexError> {
        let Terms { terms, length_mean } = self.terms(probe)?;
        let score = |row: &Row| {
            let SparseRow { vector, length } = self.rows[*row as usize].as_ref()?;
            let weight =
                |term: &u64| vector.indices.binary_search(term).ok().map(|place| vector.values[place]);
            let shared = terms.iter().filter_map(|(term, query_weight)| Some((*query_weight, weight(term)?)));
            let mut parts = shared.map(|(query, weight)| self.part(query, weight, *length, length_mean));
            let first = parts.next()?;
            Some(parts.fold(0.0 + first, |sum, part| sum + part))
        };
        Ok(rows.iter().map(score).collect())
    }

    fn vector(&self, row: Row) -> VectorRef<'_> {
        static EMPTY: SparseVector = SparseVector { indices: Vec::new(), values: Vec::new() };
        VectorRef::Sparse(self.rows[row as usize].as_ref().map_or(&EMPTY, |row| &row.vector))
    }

    /// Sweeps the postings of freed rows once they are a fifth of what is held, some lists per call. Numbers stay.
    fn tidy(&mut self) -> Option<Vec<Row>> {
        self.begin_sweep();
        let Some(Sweep { sweeping, done }) = &mut self.sweep else { return None };
        let mut work = SWEEP_POSTINGS_MIN.max(self.count / 16);
        let mut empty = Vec::new();
        let mut finished = true;
        let from = done.map_or(Bound::Unbounded, Bound::Excluded);
        for (&term, list) in self.postings.range_mut((from, Bound::Unbounded)) {
            if work == 0 {
                finished = false;
                break;
            }
            work = work.saturating_sub(list.len());
            let before = list.len();
            list.retain(|posting| sweeping.binary_search(&posting.row).is_err());
            self.count -= before - list.len();
            if list.is_empty() {
                empty.push(term);
            } else if list.capacity() > 2 * list.len() {
                list.shrink_to_fit();
            }
            *done = Some(term);
        }
        for term in empty {
            self.postings.remove(&term);
        }
        if finished && let Some(sweep) = self.sweep.take() {
            self.clean.extend(sweep.sweeping);
        }
        None
    }

    fn len(&self) -> usize {
        self.rows.len()
    }

    fn bytes(&self) -> usize {
        let terms: usize = self.rows.iter().flatten().map(|row| row.vector.indices.len()).sum();
        terms * size_of::<(u64, f32)>() + self.count * size_of::<Posting>() + self.postings.len() * 48
    }

    fn check(&self) {
        let sweeping = self.sweep.as_ref().map(|sweep| sweep.sweeping.as_slice()).unwrap_or_default();
        let mut freed: Vec<Row> = self.freed.iter().chain(sweeping).chain(&self.clean).copied().collect();
        freed.sort_unstable();
        let gone = (0..).zip(&self.rows).filter(|(_, row)| row.is_none()).map(|(number, _)| number);
        assert!(gone.eq(freed.iter().copied()), "freed rows are in exactly one list");
        assert_eq!(self.postings.values().map(Vec::len).sum::<usize>(), self.count, "postings are counted");
        let mut stored: BTreeMap<Row, SparseVector> = BTreeMap::new();
        for (&term, list) in &self.postings {
            assert!(!list.is_empty(), "term {term} has an empty list");
            for posting in list {
                assert!(!self.clean.contains(&posting.row), "row {} is clean", posting.row);
                if self.rows[posting.row as usize].is_some() {
                    let vector = stored.entry(posting.row).or_default();
                    vector.indices.push(term);
                    vector.values.push(posting.weight);
                }
            }
        }
        for (number, row) in (0..).zip(&self.rows) {
            if let Some(row) = row {
                assert_eq!(
                    stored.remove(&number).unwrap_or_default(),
                    row.vector,
                    "postings of row {number}"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(row: u64) -> SparseVector {
        let indices: Vec<u64> = (0..100).map(|term| term * 7 + row % 7).collect();
        SparseVector { values: vec![1.0; indices.len()], indices }
    }

    #[test]
    fn a_sweep_takes_several_calls_and_goes_on_beside_changes() {
        let mut index = Postings::new("learned", Scoring::Dot);
        let insert =
            |index: &mut Postings, row| index.insert(NewVector::Sparse(vector(row))).expect("a vector");
        (0..4000).for_each(|row| assert_eq!(u64::from(insert(&mut index, row)), row));
        (0..4000).step_by(2).for_each(|row| index.free(row));
        assert!(index.tidy().is_none());
        assert!(index.sweep.is_some(), "400,000 postings are too many for one call");
        index.check();
        assert_eq!(insert(&mut index, 3), 4000, "no number is used again before its postings are gone");
        index.free(1);
        let mut calls = 1;
        while index.sweep.is_some() {
            index.tidy();
            index.check();
            calls += 1;
        }
        assert!((4..=8).contains(&calls), "{calls} calls");
        assert_eq!((index.clean.len(), index.freed.as_slice()), (2000, [1].as_slice()));
        assert!(insert(&mut index, 5) < 4000, "a number is used again");
        index.check();
        let probe = Probe::Sparse { terms: vec![(5, 1.0)], length_mean: 0.0 };
        let visible = RowSet::all(index.len());
        let (found, scanned) = (index.search(&probe, &visible, 1), index.scan(&probe, &visible));
        let sorted = |found: Result<Found, IndexError>| {
            let mut rows: Vec<Row> =
                found.expect("a probe that fits").hits.iter().map(|hit| hit.row).collect();
            rows.sort_unstable();
            rows
        };
        assert_eq!(sorted(found), sorted(scanned));
    }
}
