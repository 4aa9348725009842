//! A head: postings as they come.

use freshet_schemas::SparseVector;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::forward::Forward;
use super::weigh::Weighing;
use crate::index::rows::{Row, RowHit, RowSet};

/// No posting before.
const NONE: u32 = u32::MAX;

/// A posting, chained to the one of the same term before it.
#[derive(Clone, Copy, Debug)]
struct Posting {
    row: Row,
    weight: f32,
    before: u32,
}

/// Rows and chains of postings, the newest first. Terms have numbers in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Head {
    pub(super) forward: Forward,
    pub(super) terms: Vec<u64>,
    /// Per term its newest posting.
    newest: Vec<u32>,
    /// Numbers of terms, by their hash.
    numbers: HashTable<u32>,
    postings: Vec<Posting>,
}

/// Terms are hashes or small numbers: spreads the latter (Fibonacci hashing).
pub(super) fn hash(term: u64) -> u64 {
    term.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(32)
}

impl Head {
    pub(super) fn push(&mut self, vector: &SparseVector) {
        let row = self.forward.len() as Row;
        let Self { forward, terms, newest, numbers, postings } = self;
        let number = |term: u64, weight: f32| {
            let number = match numbers.entry(
                hash(term),
                |&number| terms[number as usize] == term,
                |&number| hash(terms[number as usize]),
            ) {
                Entry::Occupied(entry) => *entry.get(),
                Entry::Vacant(entry) => {
                    let number = newest.len() as u32;
                    entry.insert(number);
                    newest.push(NONE);
                    number
                }
            };
            if number as usize == terms.len() {
                terms.push(term);
            }
            let before = std::mem::replace(&mut newest[number as usize], postings.len() as u32);
            postings.push(Posting { row, weight, before });
            (number, weight)
        };
        let mut number = number;
        forward.push(vector.iter().map(|(term, weight)| number(term, weight)));
    }

    /// Calls with row and weight of each posting of a term.
    fn postings(&self, term: u64, mut each: impl FnMut(Row, f32)) {
        let found = self.numbers.find(hash(term), |&number| self.terms[number as usize] == term);
        let mut next = found.map_or(NONE, |&number| self.newest[number as usize]);
        while let Some(&Posting { row, weight, before }) = self.postings.get(next as usize) {
            each(row, weight);
            next = before;
        }
    }

    /// Every visible row that matches.
    pub(super) fn matches(
        &self,
        terms: &[(u64, f64)],
        weighing: &Weighing,
        visible: &RowSet<'_>,
    ) -> Vec<RowHit> {
        let mut scores = vec![f64::NAN; self.forward.len()];
        let mut touched = Vec::new();
        for &(term, query_weight) in terms {
            self.postings(term, |row, weight| {
                let score = &mut scores[row as usize];
                if score.is_nan() {
                    touched.push(row);
                    *score = 0.0;
                }
                *score += query_weight * weighing.share(f64::from(weight), self.forward.length(row));
            });
        }
        touched.retain(|&row| visible.contains(row));
        touched.into_iter().map(|row| RowHit { row, score: scores[row as usize] }).collect()
    }

    pub(super) fn bytes(&self) -> usize {
        self.forward.bytes()
            + self.terms.capacity() * size_of::<u64>()
            + self.newest.capacity() * size_of::<u32>()
            + self.numbers.allocation_size()
            + self.postings.capacity() * size_of::<Posting>()
    }

    pub(super) fn check(&self) {
        assert_eq!(self.terms.len(), self.newest.len(), "terms have chains");
        assert_eq!(self.postings.len(), self.forward.terms.len(), "a posting per term and row");
    }
}
