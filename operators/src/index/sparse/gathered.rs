//! Rows that come to be sealed and are not searched before: no postings as they come, no second copy of the vectors.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::forward::Forward;
use super::head::hash;
use super::sealed::Sealed;
use super::{Form, SparseRows, postings};
use crate::index::rows::ROWS_MAX;
use crate::index::{FieldSpec, IndexError, check};

/// Rows so far.
pub struct Gathered {
    spec: FieldSpec,
    forward: Forward,
    terms: Terms,
}

enum Terms {
    /// They come with the rows, and have numbers in the order in which they came.
    Coming {
        terms: Vec<u64>,
        /// Numbers of terms, by their hash.
        numbers: HashTable<u32>,
    },
    /// They are in these bytes, which `SparseRows::write` gave of the same rows: weights alone come.
    Written(Vec<u8>),
}

impl Gathered {
    /// None yet. `written`: what `SparseRows::write` gave of the rows that are to come.
    pub fn new(spec: &FieldSpec, written: Option<Vec<u8>>) -> Self {
        let coming = || Terms::Coming { terms: Vec::new(), numbers: HashTable::new() };
        let terms = written.map_or_else(coming, Terms::Written);
        Self { spec: spec.clone(), forward: Forward::default(), terms }
    }

    /// Adds a row: its weights and, unless they have been written, its terms.
    ///
    /// # Errors
    /// What does not fit the field, or too many rows; nothing is stored then.
    pub fn push(&mut self, of_row: Option<&[u64]>, weights: &[f32]) -> Result<(), String> {
        if self.forward.len() >= ROWS_MAX {
            return Err("finds the index full".into());
        }
        match (&mut self.terms, of_row) {
            (Terms::Written(_), _) => {
                check::weights(&self.spec, weights)?;
                self.forward.push_weights(weights);
            }
            (Terms::Coming { .. }, None) => return Err("has no terms".into()),
            (Terms::Coming { terms, numbers }, Some(of_row)) => {
                check::sparse(&self.spec, of_row, weights)?;
                let row = of_row.iter().zip(weights);
                self.forward.push(row.map(|(&term, &weight)| (number(terms, numbers, term), weight)));
            }
        }
        Ok(())
    }

    /// Rows so far.
    pub fn len(&self) -> usize {
        self.forward.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All rows, sealed: as if they had been pushed to a head, which was sealed.
    ///
    /// # Errors
    /// What was written is torn, or of other rows.
    pub fn seal(self) -> Result<SparseRows, IndexError> {
        let Self { spec, forward, terms } = self;
        let sealed = match terms {
            Terms::Coming { terms, numbers } => {
                drop(numbers);
                Sealed::of(spec.scoring, forward, terms)
            }
            Terms::Written(bytes) => postings::read(forward, &bytes)
                .map_err(|what| IndexError::Field { field: spec.name.clone(), what })?,
        };
        Ok(SparseRows { spec, form: Form::Sealed(Box::new(sealed)) })
    }
}

/// The number of a term, which may be new.
fn number(terms: &mut Vec<u64>, numbers: &mut HashTable<u32>, term: u64) -> u32 {
    let place = numbers.entry(
        hash(term),
        |&number| terms[number as usize] == term,
        |&number| hash(terms[number as usize]),
    );
    match place {
        Entry::Occupied(entry) => *entry.get(),
        Entry::Vacant(entry) => {
            let number = terms.len() as u32;
            entry.insert(number);
            terms.push(term);
            number
        }
    }
}
