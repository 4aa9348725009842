//! The vectors by row.

use freshet_schemas::SparseVector;

use super::weigh::Weighing;
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
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let next = starts.take(self.ends.len()).collect();
        self.terms = vec![0; self.postings()];
        Places { ends: &self.ends, terms: &mut self.terms, next }
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

    pub(super) fn range(&self, row: Row) -> std::ops::Range<usize> {
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

/// Places for the terms of rows.
pub(super) struct Places<'a> {
    ends: &'a [u32],
    terms: &'a mut [u32],
    /// Per row the next free place.
    next: Vec<u32>,
}

impl Places<'_> {
    /// Puts a term of some rows, which is greater than those before; whether there are places for it.
    pub(super) fn put(&mut self, rows: &[Row], term: u32) -> bool {
        rows.iter().all(|&row| {
            let Some(next) = self.next.get_mut(row as usize) else { return false };
            // Beyond the row's end it is another row's, which is noticed in the end.
            let Some(place) = self.terms.get_mut(*next as usize) else { return false };
            *place = term;
            *next += 1;
            true
        })
    }

    /// Whether every row has all its terms, and no more.
    pub(super) fn are_full(&self) -> bool {
        self.next == self.ends
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
