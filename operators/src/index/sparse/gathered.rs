//! Rows that come to be sealed and are not searched before: no postings as they come, no second copy of the vectors.

use freshet_schemas::SparseVector;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::forward::Forward;
use super::head::hash;
use super::sealed::Sealed;
use super::{Form, SparseRows};
use crate::index::rows::ROWS_MAX;
use crate::index::{FieldSpec, IndexError, check};

/// Rows so far. Terms have numbers in the order in which they came.
pub struct Gathered {
    spec: FieldSpec,
    forward: Forward,
    terms: Vec<u64>,
    /// Numbers of terms, by their hash.
    numbers: HashTable<u32>,
}

impl Gathered {
    /// None yet.
    pub fn new(spec: &FieldSpec) -> Self {
        let (forward, terms, numbers) = (Forward::default(), Vec::new(), HashTable::new());
        Self { spec: spec.clone(), forward, terms, numbers }
    }

    /// Adds a row.
    ///
    /// # Errors
    /// A vector that does not fit, or too many rows; nothing is stored then.
    pub fn push(&mut self, vector: &SparseVector) -> Result<(), IndexError> {
        let misfit =
            |what: String| IndexError::Misfit { id: String::new(), field: self.spec.name.clone(), what };
        check::fits_sparse(&self.spec, vector).map_err(misfit)?;
        if self.forward.len() >= ROWS_MAX {
            return Err(misfit("finds the index full".into()));
        }
        let Self { forward, terms, numbers, .. } = self;
        let mut number = |term: u64| {
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
        };
        forward.push(vector.iter().map(|(term, weight)| (number(term), weight)));
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
    pub fn seal(self) -> SparseRows {
        let Self { spec, forward, terms, numbers } = self;
        drop(numbers);
        let sealed = Sealed::of(spec.scoring, forward, terms);
        SparseRows { spec, form: Form::Sealed(Box::new(sealed)) }
    }
}
