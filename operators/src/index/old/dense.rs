//! Dense vectors in FAISS' flat index: exact.

use super::faiss::Flat;
use super::rows::{Found, NO_ROW, NewVector, Row, RowHit, RowIndex, RowSet, VectorRef};
use super::{IndexError, Metric, Probe, RowVector};

/// Freed rows below which an index is never rebuilt.
const FREED_MIN: usize = 4096;

/// Rows compared per call of FAISS in a plain scan: bounds what it allocates.
const SCAN_ROWS: usize = 16_384;

/// Dense rows, scanned by FAISS one probe at a time, so that results never depend on what else is asked.
///
/// Scores: the inner product, or −√(squared distance). Products that overflow `f32` count as its largest or smallest
/// value. Freed rows are written over by later ones; when more than half are free the index is rebuilt.
///
/// Invariants: `freed` holds each freed row once.
pub struct DenseFlat {
    name: String,
    dim: usize,
    metric: Metric,
    flat: Flat,
    freed: Vec<Row>,
}

impl DenseFlat {
    /// No rows yet; vectors are of `dim` values.
    ///
    /// # Errors
    /// FAISS failing.
    pub fn new(name: &str, dim: usize, metric: Metric) -> Result<Self, IndexError> {
        Ok(Self { name: name.to_owned(), dim, metric, flat: Flat::new(dim, metric)?, freed: Vec::new() })
    }

    fn query<'a>(&self, probe: &'a Probe) -> Result<&'a [f32], IndexError> {
        self.suits(probe).map_err(|what| IndexError::Probe { field: self.name.clone(), what })?;
        match probe {
            Probe::Dense(vector) => Ok(vector),
            Probe::Sparse { .. } | Probe::Multi(_) => Ok(&[]),
        }
    }

    fn score_of(&self, raw: f32) -> f64 {
        let raw = match raw.is_nan() {
            true => f64::from(f32::MIN),
            false => f64::from(raw.clamp(f32::MIN, f32::MAX)),
        };
        match self.metric {
            Metric::Dot => raw,
            Metric::Euclid => 0.0 - raw.abs().sqrt(),
        }
    }

    fn misfit(&self, what: &str) -> IndexError {
        IndexError::Misfit { id: String::new(), field: self.name.clone(), what: what.to_owned() }
    }

    fn rebuilt(&self, numbers: &mut [Row]) -> Result<Flat, IndexError> {
        let mut flat = Flat::new(self.dim, self.metric)?;
        for (old, number) in numbers.iter_mut().enumerate().filter(|(_, number)| **number != NO_ROW) {
            *number = Row::try_from(flat.len()).unwrap_or(NO_ROW);
            flat.add(self.flat.row(old))?;
        }
        Ok(flat)
    }
}

/// Why a dense vector does not fit an index of `dim` dimensions.
fn refuse(vector: &[f32], dim: usize) -> Result<(), String> {
    if vector.len() != dim {
        return Err(format!("has {} dimensions, index has {dim}", vector.len()));
    }
    match vector.iter().all(|value| value.is_finite()) {
        true => Ok(()),
        false => Err("has a value that is not finite".into()),
    }
}

impl RowIndex for DenseFlat {
    fn fits(&self, vector: VectorRef<'_>) -> Result<(), String> {
        match vector {
            VectorRef::Dense(vector) => refuse(vector, self.dim),
            VectorRef::Multi(_) | VectorRef::Sparse(_) => Err("is not dense, field is".into()),
        }
    }

    fn suits(&self, probe: &Probe) -> Result<(), String> {
        match probe {
            Probe::Dense(vector) => refuse(vector, self.dim),
            Probe::Sparse { .. } | Probe::Multi(_) => Err("is not dense, field is".into()),
        }
    }

    fn insert(&mut self, vector: NewVector) -> Result<Row, IndexError> {
        self.fits(vector.as_ref()).map_err(|what| self.misfit(&what))?;
        let NewVector::Row(RowVector::Dense(vector)) = vector else {
            return Err(self.misfit("is not dense"));
        };
        if let Some(row) = self.freed.pop() {
            self.flat.overwrite(row as usize, &vector);
            return Ok(row);
        }
        let row = Row::try_from(self.flat.len()).ok().filter(|&row| row != NO_ROW);
        let row = row.ok_or_else(|| IndexError::Faiss("index is full".into()))?;
        self.flat.add(&vector)?;
        Ok(row)
    }

    fn free(&mut self, row: Row) {
        self.freed.push(row);
    }

    fn search(&self, probe: &Probe, visible: &RowSet, want: usize) -> Result<Found, IndexError> {
        let query = self.query(probe)?;
        let want = want.min(visible.count());
        // Keeping the best of most rows costs FAISS more than giving all.
        if want >= visible.count() / 2 {
            return self.scan(probe, visible);
        }
        let found = self.flat.search(query, want.max(1), visible.bits())?;
        if found.len() < want {
            // FAISS leaves out rows whose score is not finite.
            return self.scan(probe, visible);
        }
        let hits = found.into_iter().map(|(row, raw)| RowHit { row, score: self.score_of(raw) });
        let hits: Vec<RowHit> = hits.collect();
        let floor = hits.iter().map(|hit| hit.score).min_by(f64::total_cmp);
        Ok(Found { hits, floor })
    }

    fn scan(&self, probe: &Probe, visible: &RowSet) -> Result<Found, IndexError> {
        let query = self.query(probe)?;
        let rows: Vec<Row> = visible.iter().collect();
        let mut hits = Vec::with_capacity(rows.len());
        for rows in rows.chunks(SCAN_ROWS) {
            let scores = self.flat.compare(query, rows)?;
            hits.extend(rows.iter().zip(scores).map(|(&row, raw)| RowHit { row, score: self.score_of(raw) }));
        }
        Ok(Found { hits, floor: None })
    }

    fn score(&self, probe: &Probe, rows: &[Row]) -> Result<Vec<Option<f64>>, IndexError> {
        let scores = self.flat.compare(self.query(probe)?, rows)?;
        Ok(scores.into_iter().map(|raw| Some(self.score_of(raw))).collect())
    }

    fn vector(&self, row: Row) -> VectorRef<'_> {
        VectorRef::Dense(self.flat.row(row as usize))
    }

    fn tidy(&mut self) -> Option<Vec<Row>> {
        if self.freed.len() < FREED_MIN || self.freed.len() <= self.flat.len() / 2 {
            return None;
        }
        let mut numbers = vec![0; self.flat.len()];
        self.freed.iter().for_each(|&row| numbers[row as usize] = NO_ROW);
        // Without memory for the new index the old one goes on: it is right, only larger than it need be.
        self.flat = self.rebuilt(&mut numbers).ok()?;
        self.freed = Vec::new();
        Some(numbers)
    }

    fn len(&self) -> usize {
        self.flat.len()
    }

    fn bytes(&self) -> usize {
        self.flat.len() * self.dim * size_of::<f32>()
    }

    fn check(&self) {
        let mut freed = self.freed.clone();
        freed.sort_unstable();
        freed.dedup();
        assert_eq!(freed.len(), self.freed.len(), "a row freed twice");
        assert!(
            freed.last().is_none_or(|&row| (row as usize) < self.flat.len()),
            "freed a row that is not there"
        );
    }
}
