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
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be a small count")]
    pub(super) fn push(&mut self, weight: f32) {
        match self {
            // Not −0, which would come back as 0.
            Self::Counts(counts) if f32::from(weight as u8).to_bits() == weight.to_bits() => {
                counts.push(weight as u8);
            }
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
        weights.iter().for_each(|&weight| self.weights.push(weight));
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
    /// Puts a term of a row, which is greater than those before; whether there is a place for it.
    pub(super) fn put(&mut self, row: Row, term: u32) -> bool {
        let Some(next) = self.next.get_mut(row as usize).filter(|next| **next < self.ends[row as usize])
        else {
            return false;
        };
        self.terms[*next as usize] = term;
        *next += 1;
        true
    }
}
