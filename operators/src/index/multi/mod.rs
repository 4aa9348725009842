//! Token vectors for late interaction, scored by MaxSim.

mod codebook;
pub mod maxsim;
mod residual;
#[cfg(test)]
mod tests;
mod train;

use std::ops::Range;

use super::check;
use super::rows::{Found, Pick, ROWS_MAX, Row, RowHit, RowIndex, RowSet, Search, best};
use super::{FieldSpec, IndexError, Probe, TokenCoding, TokenMatrix};
use codebook::Scratch;
use maxsim::{DIM_MAX, Query, Tokens};
use residual::Coded;

/// A search keeps at most so many times what is wanted.
const KEEP_TIMES: usize = 4;

/// Token vectors of one field. A row without tokens matches nothing, nor does a probe without tokens.
///
/// Sealed rows of a field of `TokenCoding::Residual` are coded once there are enough of them, and their scores change by
/// that; within an index `search`, `scan` and `score` see the same decoded tokens. A row changes again if it comes under
/// another codebook, in a merge, or if a later version of its document takes it over through a head.
///
/// Invariants: `ends` ascend, in tokens.
pub struct TokenRows {
    spec: FieldSpec,
    held: Held,
    ends: Vec<u64>,
    sealed: bool,
}

/// The tokens of all rows.
enum Held {
    /// Invariant: `codes` has `size` codes per token, `scales` one.
    Bytes { codes: Vec<i8>, scales: Vec<f32> },
    /// Of sealed rows only.
    Coded(Coded),
}

impl TokenRows {
    fn empty(spec: &FieldSpec, sealed: bool) -> Self {
        let held = Held::Bytes { codes: Vec::new(), scales: Vec::new() };
        Self { spec: spec.clone(), held, ends: Vec::new(), sealed }
    }

    /// Adds a row, which has been checked, to a head: row-major `[tokens, size]`, and their scales.
    ///
    /// # Errors
    /// Too many rows, or no head.
    pub fn extend(&mut self, of_row: &[i8], of_tokens: &[f32]) -> Result<(), IndexError> {
        if self.ends.len() >= ROWS_MAX || of_row.len() != of_tokens.len() * self.spec.size {
            let what = format!("has {} values, or finds the index full", of_row.len());
            return Err(IndexError::Misfit { id: String::new(), field: self.spec.name.clone(), what });
        }
        let Held::Bytes { codes, scales } = &mut self.held else {
            return Err(IndexError::Build("rows are pushed to heads only".into()));
        };
        codes.extend_from_slice(of_row);
        scales.extend_from_slice(of_tokens);
        self.ends.push(scales.len() as u64);
        Ok(())
    }

    /// Adds the tokens of a row to others.
    pub fn append(&self, row: Row, codes: &mut Vec<i8>, scales: &mut Vec<f32>) {
        let mut scratch = Scratch::default();
        let tokens = self.tokens(row, &mut scratch);
        codes.extend_from_slice(tokens.codes);
        scales.extend_from_slice(tokens.scales);
    }

    /// Adds a row to a head of which only the number of tokens is known: the tokens are in what `seal_with` gets.
    ///
    /// # Errors
    /// Too many rows, or no head.
    pub fn extend_unknown(&mut self, tokens: usize) -> Result<(), IndexError> {
        if self.ends.len() >= ROWS_MAX || self.sealed {
            return Err(IndexError::Build("rows are pushed to heads only".into()));
        }
        self.ends.push((self.count() + tokens) as u64);
        Ok(())
    }

    /// Coded tokens as bytes, for `seal_with`; `None` where they are not coded.
    pub fn write(&self) -> Option<Vec<u8>> {
        match &self.held {
            Held::Bytes { .. } => None,
            Held::Coded(coded) => Some(coded.write()),
        }
    }

    /// Rows of a head whose tokens are not known, sealed with what `write` gave of them.
    ///
    /// # Errors
    /// Bytes that are torn or of other rows.
    pub fn seal_with(self, bytes: &[u8]) -> Result<Self, IndexError> {
        let refused = |what| IndexError::Field { field: self.spec.name.clone(), what };
        if self.spec.coding != TokenCoding::Residual {
            return Err(refused("has codes, and keeps none".to_owned()));
        }
        let coded = Coded::read(self.spec.size, bytes);
        let coded = coded.ok_or_else(|| refused("has codes that are torn".to_owned()))?;
        if coded.len() != self.count() {
            let (tokens, codes) = (self.count(), coded.len());
            return Err(refused(format!("has {tokens} tokens and codes of {codes}")));
        }
        Ok(Self { held: Held::Coded(coded), sealed: true, ..self })
    }

    /// All rows of a head, sealed. Bytes stay where they are.
    ///
    /// # Errors
    /// As of `seal`.
    pub fn seal_whole(mut self) -> Result<Self, IndexError> {
        match self.spec.coding {
            TokenCoding::Int8 => {
                if let Held::Bytes { codes, scales } = &mut self.held {
                    codes.shrink_to_fit();
                    scales.shrink_to_fit();
                }
                self.ends.shrink_to_fit();
                Ok(Self { sealed: true, ..self })
            }
            TokenCoding::Residual => {
                let picks: Vec<Pick> = (0..self.ends.len() as Row).map(|row| Pick { from: 0, row }).collect();
                Self::seal(&self.spec, &[&self], &picks)
            }
        }
    }

    fn query(&self, probe: &Probe) -> Result<Query, IndexError> {
        let refused = |what| IndexError::Probe { field: self.spec.name.clone(), what };
        check::suits(&self.spec, probe).map_err(refused)?;
        match probe {
            Probe::Multi(tokens) => Ok(Query::new(tokens, self.spec.size)),
            Probe::Dense(_) | Probe::Sparse { .. } => Err(refused("is not a multi-vector, field is".into())),
        }
    }

    /// The numbers of a row's tokens.
    fn range(&self, row: Row) -> Range<usize> {
        let row = row as usize;
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before]) as usize;
        start..self.ends[row] as usize
    }

    /// The tokens of a row, decoded into `scratch` if they are coded.
    fn tokens<'a>(&'a self, row: Row, scratch: &'a mut Scratch) -> Tokens<'a> {
        let range = self.range(row);
        let size = self.spec.size;
        match &self.held {
            Held::Bytes { codes, scales } => {
                Tokens { codes: &codes[range.start * size..range.end * size], scales: &scales[range] }
            }
            Held::Coded(coded) => coded.tokens(range, scratch),
        }
    }

    /// How many tokens there are.
    fn count(&self) -> usize {
        self.ends.last().copied().unwrap_or(0) as usize
    }

    /// The picked rows as they are.
    fn copied(spec: &FieldSpec, from: &[&Self], picks: &[Pick]) -> Held {
        let tokens: usize = picks.iter().map(|pick| from[pick.from as usize].range(pick.row).len()).sum();
        let mut codes = Vec::with_capacity(tokens * spec.size);
        let mut scales = Vec::with_capacity(tokens);
        let mut scratch = Scratch::default();
        for pick in picks {
            let tokens = from[pick.from as usize].tokens(pick.row, &mut scratch);
            codes.extend_from_slice(tokens.codes);
            scales.extend_from_slice(tokens.scales);
        }
        Held::Bytes { codes, scales }
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
        self.extend(&matrix.codes, &matrix.scales)
    }

    fn seal(spec: &FieldSpec, from: &[&Self], picks: &[Pick]) -> Result<Self, IndexError> {
        let coded = match spec.coding {
            TokenCoding::Int8 => None,
            TokenCoding::Residual => residual::seal(spec.size, from, picks),
        };
        let held = coded.map_or_else(|| Self::copied(spec, from, picks), Held::Coded);
        let mut end = 0;
        let mut ends = Vec::with_capacity(picks.len());
        for pick in picks {
            end += from[pick.from as usize].range(pick.row).len() as u64;
            ends.push(end);
        }
        Ok(Self { spec: spec.clone(), held, ends, sealed: true })
    }

    fn search(&self, search: &Search<'_>) -> Result<Found, IndexError> {
        let query = self.query(search.probe)?;
        let keep = search.want.saturating_mul(KEEP_TIMES);
        let mut hits = Vec::new();
        let mut matched = 0;
        let mut scratch = Scratch::default();
        search.visible.for_each(|row| {
            let score = query.max_sim(self.tokens(row, &mut scratch));
            let Some(score) = score.filter(|score| *score >= search.above) else {
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
        let mut scratch = Scratch::default();
        visible.for_each(|row| {
            let score = query.max_sim(self.tokens(row, &mut scratch));
            hits.extend(score.map(|score| RowHit { row, score }));
        });
        Ok(hits)
    }

    fn score(&self, probe: &Probe, rows: &[Row]) -> Result<Vec<Option<f64>>, IndexError> {
        let query = self.query(probe)?;
        let mut scratch = Scratch::default();
        Ok(rows.iter().map(|&row| query.max_sim(self.tokens(row, &mut scratch))).collect())
    }

    fn vector(&self, row: Row) -> TokenMatrix {
        let mut scratch = Scratch::default();
        let Tokens { codes, scales } = self.tokens(row, &mut scratch);
        TokenMatrix { dim: self.spec.size, codes: codes.to_vec(), scales: scales.to_vec() }
    }

    fn len(&self) -> usize {
        self.ends.len()
    }

    fn bytes(&self) -> usize {
        let held = match &self.held {
            Held::Bytes { codes, scales } => codes.capacity() + scales.capacity() * size_of::<f32>(),
            Held::Coded(coded) => coded.bytes(),
        };
        held + self.ends.capacity() * size_of::<u64>()
    }

    fn check(&self) {
        assert!(self.ends.is_sorted(), "rows follow each other");
        match &self.held {
            Held::Bytes { codes, scales } => {
                assert_eq!(scales.len(), self.count(), "tokens have rows");
                assert_eq!(codes.len(), scales.len() * self.spec.size, "codes of all tokens");
            }
            Held::Coded(coded) => {
                assert!(self.sealed, "heads are not coded");
                assert_eq!(coded.len(), self.count(), "tokens have rows");
            }
        }
    }
}
