//! Sparse vectors: postings with block maxima, exact top-k.
//!
//! Scores, summed over the terms that probe and row share, terms ascending, in f64; rows that share none do not match:
//! - `Dot`: Σ weight(probe) · weight(row).
//! - `Bm25`: Σ weight(probe) · tf / (tf + k1 · (1 − b + b · length / mean length)), Robertson & Zaragoza 2009, §3.4,
//!   where the probe's weight already holds count · idf · (k1 + 1), and a row's length is the sum of its weights.
//!
//! ```text
//! head ── forward vectors + chains of postings: grows, every match is scored
//! sealed ── forward vectors + packed blocks of postings with their greatest shares: MaxScore, window by window
//! ```
//! Whatever is pruned, a row that is returned has been scored by its forward vector: the same bits everywhere.

mod cursor;
mod forward;
mod gathered;
mod head;
mod levels;
mod pack;
mod postings;
mod sealed;
#[cfg(test)]
mod tests;
mod top;
mod weigh;

use freshet_schemas::SparseVector;

use super::bits::Bits;
use super::check;
use super::rows::{Found, Pick, ROWS_MAX, Row, RowHit, RowIndex, RowSet, Search, best};
use super::{FieldSpec, IndexError, Probe};
pub use gathered::Gathered;
use head::Head;
use sealed::Sealed;
use weigh::Weighing;

/// Sparse rows of one field.
pub struct SparseRows {
    spec: FieldSpec,
    form: Form,
}

enum Form {
    Head(Head),
    Sealed(Box<Sealed>),
}

impl SparseRows {
    /// The lists of sealed rows as bytes, for [`Gathered`]; `None` of a head, which has none.
    ///
    /// # Errors
    /// Zstd failing.
    pub fn write(&self) -> Result<Option<Vec<u8>>, IndexError> {
        match &self.form {
            Form::Head(_) => Ok(None),
            Form::Sealed(sealed) => match postings::write(sealed) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(error) => Err(IndexError::Build(format!("postings cannot be packed: {error}"))),
            },
        }
    }

    /// Adds the terms and weights of a row to others.
    pub fn append(&self, row: Row, terms: &mut Vec<u64>, weights: &mut Vec<f32>) {
        let (forward, numbered) = match &self.form {
            Form::Head(head) => (&head.forward, &head.terms),
            Form::Sealed(sealed) => (&sealed.forward, &sealed.terms),
        };
        let range = forward.range(row);
        terms.extend(forward.terms[range.clone()].iter().map(|&number| numbered[number as usize]));
        forward.weights.append(range, weights);
    }

    /// Sum of a row's weights.
    pub fn length(&self, row: Row) -> f64 {
        match &self.form {
            Form::Head(head) => head.forward.length(row),
            Form::Sealed(sealed) => sealed.forward.length(row),
        }
    }

    /// Terms of sealed rows and how many rows have each, ascending; `None` of a head.
    pub fn frequencies(&self) -> Option<impl Iterator<Item = (u64, u32)> + '_> {
        match &self.form {
            Form::Head(_) => None,
            Form::Sealed(sealed) => {
                let counts = sealed.lists.iter().map(|list| list.count);
                Some(sealed.terms.iter().copied().zip(counts))
            }
        }
    }

    fn weighing<'a>(&self, probe: &'a Probe) -> Result<(&'a [(u64, f64)], Weighing), IndexError> {
        let refused = |what| IndexError::Probe { field: self.spec.name.clone(), what };
        check::suits(&self.spec, probe).map_err(refused)?;
        match probe {
            Probe::Sparse { terms, length_mean } => {
                Ok((terms, Weighing::new(self.spec.scoring, *length_mean)))
            }
            Probe::Dense(_) | Probe::Multi(_) => Err(refused("is not sparse, field is".into())),
        }
    }

    /// Every visible row that matches, by the postings.
    fn matches(&self, terms: &[(u64, f64)], weighing: Weighing, visible: &RowSet<'_>) -> Vec<RowHit> {
        match &self.form {
            Form::Head(head) => head.matches(terms, &weighing, visible),
            Form::Sealed(sealed) => {
                let mut matched = Bits::none(self.len());
                for (number, _) in sealed.locate(terms) {
                    sealed.postings(number).for_each(|row, _| matched.insert(row));
                }
                let score = self.scorer(terms, weighing);
                let rows = matched.iter().filter(|&row| visible.contains(row));
                rows.filter_map(|row| score(row).map(|score| RowHit { row, score })).collect()
            }
        }
    }

    /// Scores rows by their vectors. The terms of the probe are looked up once.
    fn scorer(&self, terms: &[(u64, f64)], weighing: Weighing) -> impl Fn(Row) -> Option<f64> {
        let located = match &self.form {
            Form::Head(_) => Vec::new(),
            Form::Sealed(sealed) => sealed.locate(terms),
        };
        move |row| match &self.form {
            Form::Head(head) => head.forward.score(&head.terms, terms, &weighing, row),
            Form::Sealed(sealed) => sealed.forward.score_located(&located, &weighing, row),
        }
    }
}

impl RowIndex for SparseRows {
    type Vector = SparseVector;

    fn head(spec: &FieldSpec) -> Result<Self, IndexError> {
        Ok(Self { spec: spec.clone(), form: Form::Head(Head::default()) })
    }

    fn push(&mut self, vector: &SparseVector) -> Result<(), IndexError> {
        let misfit =
            |what: String| IndexError::Misfit { id: String::new(), field: self.spec.name.clone(), what };
        check::fits_sparse(&self.spec, vector).map_err(misfit)?;
        match &mut self.form {
            Form::Head(head) if head.forward.len() < ROWS_MAX => {
                head.push(vector);
                Ok(())
            }
            Form::Head(_) | Form::Sealed(_) => Err(misfit("finds the index full".into())),
        }
    }

    fn seal(spec: &FieldSpec, from: &[&Self], picks: &[Pick]) -> Result<Self, IndexError> {
        Ok(Self {
            spec: spec.clone(),
            form: Form::Sealed(Box::new(Sealed::build(spec.scoring, from, picks))),
        })
    }

    fn search(&self, search: &Search<'_>) -> Result<Found, IndexError> {
        let (terms, weighing) = self.weighing(search.probe)?;
        if let Form::Sealed(sealed) = &self.form
            && let Some(hits) = top::search(sealed, terms, &weighing, search)
        {
            return Ok(Found { all: hits.len() < search.want, hits });
        }
        let mut hits = self.matches(terms, weighing, search.visible);
        let all = hits.len() <= search.want;
        best(&mut hits, search.want, matches!(self.form, Form::Head(_)));
        Ok(Found { hits, all })
    }

    fn scan(&self, probe: &Probe, visible: &RowSet<'_>) -> Result<Vec<RowHit>, IndexError> {
        let (terms, weighing) = self.weighing(probe)?;
        let score = self.scorer(terms, weighing);
        let mut hits = Vec::new();
        visible.for_each(|row| hits.extend(score(row).map(|score| RowHit { row, score })));
        Ok(hits)
    }

    fn score(&self, probe: &Probe, rows: &[Row]) -> Result<Vec<Option<f64>>, IndexError> {
        let (terms, weighing) = self.weighing(probe)?;
        let score = self.scorer(terms, weighing);
        Ok(rows.iter().map(|&row| score(row)).collect())
    }

    fn vector(&self, row: Row) -> SparseVector {
        match &self.form {
            Form::Head(head) => head.forward.vector(&head.terms, row),
            Form::Sealed(sealed) => sealed.forward.vector(&sealed.terms, row),
        }
    }

    fn len(&self) -> usize {
        match &self.form {
            Form::Head(head) => head.forward.len(),
            Form::Sealed(sealed) => sealed.forward.len(),
        }
    }

    fn bytes(&self) -> usize {
        match &self.form {
            Form::Head(head) => head.bytes(),
            Form::Sealed(sealed) => sealed.bytes(),
        }
    }

    fn check(&self) {
        match &self.form {
            Form::Head(head) => head.check(),
            Form::Sealed(sealed) => sealed.check(),
        }
    }
}
