//! The vectors by row.

use std::ops::Range;

use freshet_schemas::SparseVector;

use super::weigh::Weighing;
use crate::index::memory;
use crate::index::rows::Row;

/// Weights, small whole numbers where all are.
#[derive(Debug)]
pub(super) enum Weights {
    /// Counts below 256.
    Counts(Vec<u8>),
    /// Anything.
    Any(Vec<f32>),
}

impl Default for Weights {
    fn default() -> Self {
        Self::Counts(Vec::new())
    }
}

impl Weights {
    /// Adds weights; counts many at once.
    pub(super) fn extend(&mut self, weights: &[f32]) {
        match self {
            Self::Counts(counts) if weights.iter().fold(true, |all, &weight| all & is_count(weight)) => {
                counts.extend(weights.iter().map(|&weight| rounded(weight)));
            }
            Self::Any(all) => all.extend_from_slice(weights),
            Self::Counts(_) => weights.iter().for_each(|&weight| self.push(weight)),
        }
    }

    pub(super) fn push(&mut self, weight: f32) {
        match self {
            Self::Counts(counts) if is_count(weight) => counts.push(rounded(weight)),
            Self::Counts(counts) => {
                let mut any: Vec<f32> = counts.iter().map(|&count| f32::from(count)).collect();
                any.push(weight);
                *self = Self::Any(any);
            }
            Self::Any(weights) => weights.push(weight),
        }
    }

    pub(super) fn get(&self, place: usize) -> f32 {
        match self {
            Self::Counts(counts) => f32::from(counts[place]),
            Self::Any(weights) => weights[place],
        }
    }

    /// Adds some of them to others.
    pub(super) fn append(&self, range: Range<usize>, to: &mut Vec<f32>) {
        match self {
            Self::Counts(counts) => to.extend(counts[range].iter().map(|&count| f32::from(count))),
            Self::Any(weights) => to.extend_from_slice(&weights[range]),
        }
    }

    pub(super) fn shrink(&mut self) {
        match self {
            Self::Counts(counts) => counts.shrink_to_fit(),
            Self::Any(weights) => weights.shrink_to_fit(),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Counts(counts) => counts.capacity(),
            Self::Any(weights) => weights.capacity() * size_of::<f32>(),
        }
    }
}

/// Added to a number of less than 2²², it leaves the nearest whole number in the lowest bits: no conversion, so that many are
/// done at once.
const ROUNDS: f32 = (1 << 23) as f32 * 1.5;

/// The nearest whole number to one from 0 to 255.
#[allow(clippy::cast_possible_truncation, reason = "the lowest bits are wanted")]
fn rounded(weight: f32) -> u8 {
    (weight + ROUNDS).to_bits() as u8
}

/// Whether a weight is a count below 256. −0, which would come back as 0, is none.
fn is_count(weight: f32) -> bool {
    (weight + ROUNDS - ROUNDS == weight) & (weight < 256.0) & (weight.to_bits() >> 31 == 0)
}

/// Terms by number and weights of each row, in the order of the terms, and its length.
#[derive(Debug, Default)]
pub(super) struct Forward {
    ends: Vec<u32>,
    pub(super) terms: Vec<u32>,
    pub(super) weights: Weights,
    lengths: Vec<f64>,
}

impl Forward {
    /// Gives the terms other numbers: of number `n` the one at place `n`.
    pub(super) fn renumber(&mut self, numbers: &[u32]) {
        self.terms.iter_mut().for_each(|term| *term = numbers[*term as usize]);
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Adds a row.
    pub(super) fn push(&mut self, row: impl Iterator<Item = (u32, f32)>) {
        let mut length = 0.0;
        for (term, weight) in row {
            self.terms.push(term);
            self.weights.push(weight);
            length += f64::from(weight);
        }
        self.ends.push(self.terms.len() as u32);
        self.lengths.push(length);
    }

    /// Adds a row of which only the weights are known: the terms of all rows are to follow: see `places`.
    pub(super) fn push_weights(&mut self, weights: &[f32]) {
        self.weights.extend(weights);
        self.ends.push(self.ends.last().copied().unwrap_or(0) + weights.len() as u32);
        self.lengths.push(weights.iter().fold(0.0, |length, &weight| length + f64::from(weight)));
    }

    /// Places for the terms of all rows, which come term by term, ascending.
    pub(super) fn places(&mut self) -> Places<'_> {
        self.places_by(BUCKET)
    }

    fn places_by(&mut self, bucket: usize) -> Places<'_> {
        let (rows, postings) = (self.ends.len(), self.postings());
        self.terms = Vec::new();
        memory::reserve(&mut self.terms, postings);
        self.terms.resize(postings, 0);
        let of_row = (postings / rows.max(1)).max(1);
        let shift = (bucket / of_row).clamp(1, 1 << u16::BITS).ilog2();
        let starts = (0..rows).step_by(1 << shift).map(|row| self.range(row as Row).start as u32);
        let next = starts.collect();
        Places { ends: &self.ends, terms: &mut self.terms, rows: vec![0; postings], shift, next }
    }

    /// Postings of all rows, whether their terms are known or not.
    pub(super) fn postings(&self) -> usize {
        self.ends.last().copied().unwrap_or(0) as usize
    }

    /// Mean length of the rows; 0 without any.
    pub(super) fn length_mean(&self) -> f64 {
        let lengths: f64 = self.lengths.iter().sum();
        if self.lengths.is_empty() { 0.0 } else { lengths / self.lengths.len() as f64 }
    }

    pub(super) fn range(&self, row: Row) -> Range<usize> {
        let row = row as usize;
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        start as usize..self.ends[row] as usize
    }

    /// Terms and weights of a row.
    pub(super) fn row(&self, row: Row) -> impl Iterator<Item = (u32, f32)> + '_ {
        self.range(row).map(|place| (self.terms[place], self.weights.get(place)))
    }

    pub(super) fn length(&self, row: Row) -> f64 {
        self.lengths[row as usize]
    }

    /// The row as it came.
    pub(super) fn vector(&self, terms: &[u64], row: Row) -> SparseVector {
        let (indices, values) = self.row(row).map(|(term, weight)| (terms[term as usize], weight)).unzip();
        SparseVector { indices, values }
    }

    /// Score of a row whose terms ascend by value, not by number.
    pub(super) fn score(
        &self,
        terms: &[u64],
        probe: &[(u64, f64)],
        weighing: &Weighing,
        row: Row,
    ) -> Option<f64> {
        let range = self.range(row);
        let length = self.length(row);
        let mut score = None;
        for &(term, query_weight) in probe {
            let of_row = &self.terms[range.clone()];
            let Ok(place) = of_row.binary_search_by_key(&term, |&number| terms[number as usize]) else {
                continue;
            };
            let weight = f64::from(self.weights.get(range.start + place));
            score = Some(score.unwrap_or(0.0) + query_weight * weighing.share(weight, length));
        }
        score
    }

    /// Score of a row whose terms ascend by number: `located` are numbers and query weights, ascending.
    pub(super) fn score_located(&self, located: &[(u32, f64)], weighing: &Weighing, row: Row) -> Option<f64> {
        let range = self.range(row);
        let length = self.length(row);
        let mut rest = &self.terms[range.clone()];
        let mut start = range.start;
        let mut score = None;
        for &(term, query_weight) in located {
            let before = if rest.len() <= 64 {
                rest.iter().position(|&other| other >= term).unwrap_or(rest.len())
            } else {
                rest.partition_point(|&other| other < term)
            };
            (start, rest) = (start + before, &rest[before..]);
            if rest.first() == Some(&term) {
                let weight = f64::from(self.weights.get(start));
                score = Some(score.unwrap_or(0.0) + query_weight * weighing.share(weight, length));
            }
        }
        score
    }

    pub(super) fn shrink(&mut self) {
        self.ends.shrink_to_fit();
        self.terms.shrink_to_fit();
        self.weights.shrink();
        self.lengths.shrink_to_fit();
    }

    pub(super) fn bytes(&self) -> usize {
        (self.ends.capacity() + self.terms.capacity()) * size_of::<u32>()
            + self.weights.bytes()
            + self.lengths.capacity() * size_of::<f64>()
    }
}

/// Postings of a bucket, about: they stay in a core's own cache while each gets to its row.
const BUCKET: usize = 32 << 10;

/// Places for the terms of rows. They come in no order of rows, and most rows' places are far from a core: what comes is
/// gathered in buckets of as many neighbouring rows as lie near each other, and put in its rows in the end.
pub(super) struct Places<'a> {
    ends: &'a [u32],
    /// In the places of a bucket's rows: its terms as they came.
    terms: &'a mut [u32],
    /// Their rows, from the first one of the bucket.
    rows: Vec<u16>,
    /// Of the rows of a bucket, which are a power of two.
    shift: u32,
    /// Per bucket the next free place.
    next: Vec<u32>,
}

impl Places<'_> {
    /// Adds a term of some rows, which is greater than those before; whether there are places for it.
    pub(super) fn add(&mut self, rows: &[Row], term: u32) -> bool {
        rows.iter().all(|&row| self.add_one(row, term))
    }

    #[inline]
    fn add_one(&mut self, row: Row, term: u32) -> bool {
        let Some(next) = self.next.get_mut((row >> self.shift) as usize) else { return false };
        // Beyond the bucket's end it is another one's, which is noticed in the end.
        let place = *next as usize;
        let (Some(to), Some(of)) = (self.terms.get_mut(place), self.rows.get_mut(place)) else {
            return false;
        };
        (*to, *of) = (term, (row & ((1 << self.shift) - 1)) as u16);
        *next += 1;
        true
    }

    /// Puts all terms in their rows; whether every row has all its terms, and no more.
    pub(super) fn fill(self) -> bool {
        let (mut came, mut next) = (Vec::new(), Vec::new());
        let mut start = 0;
        for (ends, &came_to) in self.ends.chunks(1 << self.shift).zip(&self.next) {
            let end = ends.last().map_or(start, |&end| end as usize);
            if came_to as usize != end {
                return false;
            }
            came.clear();
            came.extend_from_slice(&self.terms[start..end]);
            next.clear();
            next.push(start as u32);
            next.extend_from_slice(&ends[..ends.len() - 1]);
            for (&term, &row) in came.iter().zip(&self.rows[start..end]) {
                let Some(next) = next.get_mut(usize::from(row)) else { return false };
                // As above: another row's.
                let Some(place) = self.terms.get_mut(*next as usize) else { return false };
                *place = term;
                *next += 1;
            }
            if next != ends {
                return false;
            }
            start = end;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::{btree_set, vec};
    use proptest::prelude::*;

    use super::*;

    fn of_weights(rows: &[BTreeSet<u32>]) -> Forward {
        let mut forward = Forward::default();
        rows.iter().for_each(|row| forward.push_weights(&vec![1.0; row.len()]));
        forward
    }

    fn add_all(places: &mut Places<'_>, rows: &[BTreeSet<u32>]) -> bool {
        (0..20).all(|term| {
            let of_term = (0..).zip(rows).filter(|(_, row)| row.contains(&term));
            places.add(&of_term.map(|(row, _)| row).collect::<Vec<Row>>(), term)
        })
    }

    proptest! {
        /// However many rows are in a bucket, each gets its terms.
        #[test]
        fn terms_get_to_their_rows(rows in vec(btree_set(0u32..20, 0..8), 0..40), bucket in 1usize..200) {
            let mut forward = of_weights(&rows);
            let mut places = forward.places_by(bucket);
            prop_assert!(add_all(&mut places, &rows) && places.fill());
            let wanted: Vec<u32> = rows.iter().flatten().copied().collect();
            prop_assert_eq!(&forward.terms, &wanted);
        }

        /// A term of another row than the one that has a place for it is noticed.
        #[test]
        fn terms_of_other_rows_are_noticed(
            rows in vec(btree_set(0u32..20, 0..8), 2..40), bucket in 1usize..200, from: prop::sample::Index,
            to: prop::sample::Index,
        ) {
            let mut forward = of_weights(&rows);
            let (from, to) = (from.index(rows.len()), to.index(rows.len()));
            let mut others = rows;
            let moved = others[from].iter().copied().find(|term| !others[to].contains(term));
            prop_assume!(moved.is_some());
            moved.iter().for_each(|term| {
                others[from].remove(term);
                others[to].insert(*term);
            });
            let mut places = forward.places_by(bucket);
            prop_assert!(!(add_all(&mut places, &others) && places.fill()));
        }
    }

    #[test]
    fn counts_are_told_from_other_weights() {
        for count in 0..=255u8 {
            assert!(is_count(f32::from(count)) && rounded(f32::from(count)) == count);
        }
        let others =
            [-0.0, -1.0, 0.5, 254.99998, 255.5, 256.0, 1e-30, 4_194_304.0, 1e30, f32::INFINITY, f32::NAN];
        assert!(others.into_iter().all(|weight| !is_count(weight)));
        let mut weights = Weights::default();
        weights.extend(&[1.0, 255.0]);
        weights.extend(&[3.0, -0.0]);
        weights.extend(&[2.0]);
        let kept: Vec<u32> = (0..5).map(|place| weights.get(place).to_bits()).collect();
        assert_eq!(kept, [1.0f32, 255.0, 3.0, -0.0, 2.0].map(f32::to_bits));
    }
}
