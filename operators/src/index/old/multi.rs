//! Token matrices for late interaction, scored by MaxSim.

use super::maxsim::Query;
use super::rows::{Found, NO_ROW, NewVector, Row, RowHit, RowIndex, RowSet, VectorRef};
use super::{IndexError, Probe, RowVector, TokenMatrix};

/// Token matrices, scanned. A row without tokens matches nothing, nor does a probe without tokens.
///
/// Invariants: `rows` is `None` for freed rows, which are the numbers in `freed`, each once.
pub struct TokenRows {
    name: String,
    dim: usize,
    rows: Vec<Option<TokenMatrix>>,
    freed: Vec<Row>,
}

impl TokenRows {
    /// No rows yet; tokens are of `dim` values.
    pub fn new(name: &str, dim: usize) -> Self {
        Self { name: name.to_owned(), dim, rows: Vec::new(), freed: Vec::new() }
    }

    fn query(&self, probe: &Probe) -> Result<Query, IndexError> {
        self.suits(probe).map_err(|what| IndexError::Probe { field: self.name.clone(), what })?;
        match probe {
            Probe::Multi(tokens) => Ok(Query::new(tokens, self.dim)),
            Probe::Dense(_) | Probe::Sparse { .. } => Ok(Query::new(&[], self.dim)),
        }
    }

    fn max_sim(&self, query: &Query, row: Row) -> Option<f64> {
        self.rows[row as usize].as_ref().and_then(|document| query.max_sim(document))
    }

    fn misfit(&self, what: &str) -> IndexError {
        IndexError::Misfit { id: String::new(), field: self.name.clone(), what: what.to_owned() }
    }
}

impl RowIndex for TokenRows {
    fn fits(&self, vector: VectorRef<'_>) -> Result<(), String> {
        let VectorRef::Multi(matrix) = vector else { return Err("is not a multi-vector, field is".into()) };
        if matrix.dim != self.dim {
            return Err(format!("has {} dimensions, index has {}", matrix.dim, self.dim));
        }
        if matrix.codes.len() != matrix.scales.len() * self.dim {
            let (values, tokens) = (matrix.codes.len(), matrix.scales.len());
            return Err(format!("has {values} values for {tokens} tokens of {} dimensions", self.dim));
        }
        match matrix.scales.iter().all(|scale| scale.is_finite() && *scale >= 0.0)
            && !matrix.codes.contains(&i8::MIN)
        {
            true => Ok(()),
            false => Err("has a scale that is negative or not finite, or a code of −128".into()),
        }
    }

    fn suits(&self, probe: &Probe) -> Result<(), String> {
        let Probe::Multi(tokens) = probe else { return Err("is not a multi-vector, field is".into()) };
        if let Some(token) = tokens.iter().find(|token| token.len() != self.dim) {
            return Err(format!("has {} dimensions, index has {}", token.len(), self.dim));
        }
        match tokens.iter().flatten().all(|value| value.is_finite()) {
            true => Ok(()),
            false => Err("has a value that is not finite".into()),
        }
    }

    fn insert(&mut self, vector: NewVector) -> Result<Row, IndexError> {
        self.fits(vector.as_ref()).map_err(|what| self.misfit(&what))?;
        let NewVector::Row(RowVector::Multi(mut matrix)) = vector else {
            return Err(self.misfit("is not a multi-vector"));
        };
        matrix.codes.shrink_to_fit();
        if let Some(row) = self.freed.pop() {
            self.rows[row as usize] = Some(matrix);
            return Ok(row);
        }
        let row = Row::try_from(self.rows.len()).ok().filter(|&row| row != NO_ROW);
        let row = row.ok_or_else(|| self.misfit("finds the index full"))?;
        self.rows.push(Some(matrix));
        Ok(row)
    }

    fn free(&mut self, row: Row) {
        self.rows[row as usize] = None;
        self.freed.push(row);
    }

    fn search(&self, probe: &Probe, visible: &RowSet, _want: usize) -> Result<Found, IndexError> {
        self.scan(probe, visible)
    }

    fn scan(&self, probe: &Probe, visible: &RowSet) -> Result<Found, IndexError> {
        let query = self.query(probe)?;
        let hit = |row| Some(RowHit { row, score: self.max_sim(&query, row)? });
        Ok(Found { hits: visible.iter().filter_map(hit).collect(), floor: None })
    }

    fn score(&self, probe: &Probe, rows: &[Row]) -> Result<Vec<Option<f64>>, IndexError> {
        let query = self.query(probe)?;
        Ok(rows.iter().map(|&row| self.max_sim(&query, row)).collect())
    }

    fn vector(&self, row: Row) -> VectorRef<'_> {
        static EMPTY: TokenMatrix = TokenMatrix { dim: 0, codes: Vec::new(), scales: Vec::new() };
        VectorRef::Multi(self.rows[row as usize].as_ref().unwrap_or(&EMPTY))
    }

    /// Freed rows leave nothing behind: their memory is given back at once.
    fn tidy(&mut self) -> Option<Vec<Row>> {
        None
    }

    fn len(&self) -> usize {
        self.rows.len()
    }

    fn bytes(&self) -> usize {
        self.rows
            .iter()
            .flatten()
            .map(|matrix| matrix.codes.len() + matrix.scales.len() * size_of::<f32>())
            .sum()
    }

    fn check(&self) {
        let mut freed = self.freed.clone();
        freed.sort_unstable();
        let gone = (0..).zip(&self.rows).filter(|(_, row)| row.is_none()).map(|(number, _)| number);
        assert!(gone.eq(freed), "freed rows are those that are gone");
    }
}
