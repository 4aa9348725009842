//! Token vectors for late interaction, scored by MaxSim.

pub mod maxsim;
#[cfg(test)]
mod tests;

use super::check;
use super::rows::{Found, Pick, ROWS_MAX, Row, RowHit, RowIndex, RowSet, Search, best};
use super::{FieldSpec, IndexError, Probe, TokenMatrix};
use maxsim::{DIM_MAX, Query, Tokens};

/// A search keeps at most so many times what is wanted.
const KEEP_TIMES: usize = 4;

/// Token vectors of one field. A row without tokens matches nothing, nor does a probe without tokens.
///
/// Invariants: `ends` ascend, in tokens; `codes` has `size` codes per token, `scales` one.
pub struct TokenRows {
    spec: FieldSpec,
    codes: Vec<i8>,
    scales: Vec<f32>,
    ends: Vec<u64>,
    sealed: bool,
}

impl TokenRows {
    fn empty(spec: &FieldSpec, sealed: bool) -> Self {
        Self { spec: spec.clone(), codes: Vec::new(), scales: Vec::new(), ends: Vec::new(), sealed }
    }

    fn query(&self, probe: &Probe) -> Result<Query, IndexError> {
        let refused = |what| IndexError::Probe { field: self.spec.name.clone(), what };
        check::suits(&self.spec, probe).map_err(refused)?;
        match probe {
            Probe::Multi(tokens) => Ok(Query::new(tokens, self.spec.size)),
            Probe::Dense(_) | Probe::Sparse { .. } => Err(refused("is not a multi-vector, field is".into())),
        }
    }

    fn tokens(&self, row: Row) -> Tokens<'_> {
        let row = row as usize;
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before]) as usize;
        let (end, size) = (self.ends[row] as usize, self.spec.size);
        Tokens { codes: &self.codes[start * size..end * size], scales: &self.scales[start..end] }
    }

    fn add(&mut self, tokens: Tokens<'_>) {
        self.codes.extend_from_slice(tokens.codes);
        self.scales.extend_from_slice(tokens.scales);
        self.ends.push(self.scales.len() as u64);
    }
}

impl RowIndex for TokenRows {
    type Vector = TokenMatrix;

    fn head(spec: &FieldSpec) -> Result<Self, IndexError> {
        let wrong = |what: String| IndexError::Field { field: spec.name.clone(), what };
        match spec.size {
            0 => Err(wrong("has no dimensions".into())),
            size if size > DIM_MAX => {
                Err(wrong(format!("has {size} dimensions, multi-vectors may have {DIM_MAX}")))
            }
            _ => Ok(Self::empty(spec, false)),
        }
    }

    fn push(&mut self, matrix: &TokenMatrix) -> Result<(), IndexError> {
        if self.ends.len() >= ROWS_MAX || matrix.codes.len() != matrix.scales.len() * self.spec.size {
            let what = format!("has {} values, or finds the index full", matrix.codes.len());
            return Err(IndexError::Misfit { id: String::new(), field: self.spec.name.clone(), what });
        }
        self.add(Tokens { codes: &matrix.codes, scales: &matrix.scales });
        Ok(())
    }

    fn seal(spec: &FieldSpec, from: &[&Self], picks: &[Pick]) -> Result<Self, IndexError> {
        let mut sealed = Self::empty(spec, true);
        let tokens: usize =
            picks.iter().map(|pick| from[pick.from as usize].tokens(pick.row).scales.len()).sum();
        sealed.codes.reserve_exact(tokens * spec.size);
        sealed.scales.reserve_exact(tokens);
        sealed.ends.reserve_exact(picks.len());
        picks.iter().for_each(|pick| sealed.add(from[pick.from as usize].tokens(pick.row)));
        Ok(sealed)
    }

    fn search(&self, search: &Search<'_>) -> Result<Found, IndexError> {
        let query = self.query(search.probe)?;
        let keep = search.want.saturating_mul(KEEP_TIMES);
        let mut hits = Vec::new();
        let mut matched = 0;
        search.visible.for_each(|row| {
            let Some(score) = query.max_sim(self.tokens(row)).filter(|score| *score >= search.above) else {
                return;
            };
            matched += 1;
            hits.push(RowHit { row, score });
            if hits.len() > keep && self.sealed {
                best(&mut hits, search.want, false);
            }
        });
        best(&mut hits, search.want, !self.sealed);
        Ok(Found { all: hits.len() == matched, hits })
    }

    fn scan(&self, probe: &Probe, visible: &RowSet<'_>) -> Result<Vec<RowHit>, IndexError> {
        let query = self.query(probe)?;
        let mut hits = Vec::new();
        visible.for_each(|row| {
            hits.extend(query.max_sim(self.tokens(row)).map(|score| RowHit { row, score }));
        });
        Ok(hits)
    }

    fn score(&self, probe: &Probe, rows: &[Row]) -> Result<Vec<Option<f64>>, IndexError> {
        let query = self.query(probe)?;
        Ok(rows.iter().map(|&row| query.max_sim(self.tokens(row))).collect())
    }

    fn vector(&self, row: Row) -> TokenMatrix {
        let Tokens { codes, scales } = self.tokens(row);
        TokenMatrix { dim: self.spec.size, codes: codes.to_vec(), scales: scales.to_vec() }
    }

    fn len(&self) -> usize {
        self.ends.len()
    }

    fn bytes(&self) -> usize {
        self.codes.capacity()
            + self.scales.capacity() * size_of::<f32>()
            + self.ends.capacity() * size_of::<u64>()
    }

    fn check(&self) {
        assert!(self.ends.is_sorted(), "rows follow each other");
        assert_eq!(self.ends.last().copied().unwrap_or(0), self.scales.len() as u64, "tokens have rows");
        assert_eq!(self.codes.len(), self.scales.len() * self.spec.size, "codes of all tokens");
    }
}
