//! Dense vectors in FAISS: heads are scanned, sealed rows have an approximate index beside the vectors themselves.
//!
//! Every score comes from one kernel over the `f32` vectors (FAISS' `fvec_inner_product` or `fvec_L2sqr`), so that a
//! row scores the same to the last bit wherever it is stored and however it is found; what an approximate index says of
//! its candidates is only used to choose them.

mod factory;
mod faiss;
#[cfg(test)]
mod tests;

use freshet_schemas::{Params, VectorKind};

use super::bytes::{Bytes, sum, unsummed};
use super::check;
use super::rows::{Found, Pick, ROWS_MAX, Row, RowHit, RowIndex, RowSet, Search, best};
use super::{FieldSpec, IndexError, Metric, Probe};
use factory::Factory;
use faiss::{Effort, Vectors};

/// Candidates that a graph keeps unless the query says.
const EF: usize = 64;
/// Candidates that a graph keeps while it is built, for each row. FAISS' 40 leaves groups of rows that no walk reaches: of
/// 100,000 clustered vectors of 384 dimensions, recall@10 is 0.953 at 64 candidates and 0.98 takes 648 of them; with 80 it is
/// 0.984, and 56 do. Building takes longer by about three quarters.
const EF_BUILD: usize = 80;
/// Rows that a graph compares per candidate it keeps, as dear as rows of a scan; see `Plan`.
const GRAPH_ROWS: usize = 16;
/// Rows added at once: bounds the copy of them.
const BLOCK_ROWS: usize = 4096;
/// Rows compared at once in a plain scan.
const SCAN_ROWS: usize = 16_384;
/// A scan of fewer than one row in so many goes by row number, of more by FAISS' scan with a selector.
const SPARSE: usize = 4;

/// Dense rows of one field.
///
/// Scores: the inner product, or −√(squared distance). Products that overflow `f32` count as its largest or smallest
/// value.
///
/// Invariants: a head has no `near`; `vectors` holds an approximate index of all rows exactly if `near` says which.
pub struct DenseRows {
    spec: FieldSpec,
    vectors: Vectors,
    near: Option<Factory>,
    sealed: bool,
}

/// How a search goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    /// Over the visible rows, exactly.
    Scan,
    /// By the approximate index.
    Near(Effort),
}

impl DenseRows {
    fn query<'a>(&self, probe: &'a Probe) -> Result<&'a [f32], IndexError> {
        let refused = |what| IndexError::Probe { field: self.spec.name.clone(), what };
        check::suits(&self.spec, probe).map_err(refused)?;
        match probe {
            Probe::Dense(vector) => Ok(vector),
            Probe::Sparse { .. } | Probe::Multi(_) => Err(refused("is not dense, field is".into())),
        }
    }

    fn hit(&self, (row, raw): (Row, f32)) -> RowHit {
        let raw = match raw.is_nan() {
            true => f64::from(f32::MIN),
            false => f64::from(raw.clamp(f32::MIN, f32::MAX)),
        };
        let score = match self.spec.metric {
            Metric::Dot => raw + 0.0,
            Metric::Euclid => 0.0 - raw.abs().sqrt(),
        };
        RowHit { row, score }
    }

    fn scores(&self, probe: &[f32], rows: &[Row]) -> Vec<RowHit> {
        let scores = self.vectors.compare(probe, rows);
        rows.iter().copied().zip(scores).map(|scored| self.hit(scored)).collect()
    }

    fn scan_visible(&self, probe: &[f32], visible: &RowSet<'_>) -> Vec<RowHit> {
        visible.to_vec().chunks(SCAN_ROWS).flat_map(|rows| self.scores(probe, rows)).collect()
    }

    /// The `want` best visible rows and all that tie with the last.
    fn exact(&self, probe: &[f32], visible: &RowSet<'_>, want: usize) -> Result<Vec<RowHit>, IndexError> {
        let mut ask = want.saturating_add(1);
        // Keeping the best of most rows costs FAISS more than giving all.
        while ask < visible.count() / 4 && visible.count() >= self.len() / SPARSE {
            let found = self.vectors.scan(probe, ask, visible.bits())?;
            let hits: Vec<RowHit> = found.into_iter().map(|found| self.hit(found)).collect();
            // FAISS leaves out rows whose score is not finite.
            if hits.len() < ask {
                break;
            }
            if hits[ask - 1].score < hits[want - 1].score {
                return Ok(hits);
            }
            ask = ask.saturating_mul(4);
        }
        Ok(self.scan_visible(probe, visible))
    }

    /// Decides between a scan and the approximate index, and how hard that is to look.
    ///
    /// A graph is walked past rows that are not visible, so that to see as many visible ones it must keep 1 ÷ share
    /// times the candidates: it costs `ef · GRAPH_ROWS ÷ share` rows, a scan costs `share · rows`.
    /// Cells are the same: the nearest visible rows are spread over 1 ÷ share times as many.
    fn plan(&self, near: &Factory, visible: &RowSet<'_>, want: usize, params: &Params) -> Plan {
        let (rows, count) = (self.len(), visible.count().max(1));
        let default = near.effort();
        let per_share = |n: usize| (n.saturating_mul(rows)).div_ceil(count);
        if near.is_graph() {
            let asked = params.hnsw_ef.map_or(default.ef, |ef| ef as usize).max(near.candidates(want));
            match per_share(asked).saturating_mul(GRAPH_ROWS) >= count {
                true => Plan::Scan,
                false => Plan::Near(Effort { ef: asked.max(widened(asked, rows, count)), ..default }),
            }
        } else {
            let nprobe = per_share(params.nprobe.map_or(default.nprobe, |cells| cells as usize).max(1));
            match nprobe >= near.cells() {
                true => Plan::Scan,
                false => Plan::Near(Effort { nprobe, ..default }),
            }
        }
    }

    /// Makes sure that FAISS can make what the field asks for.
    fn factory(spec: &FieldSpec) -> Result<Factory, IndexError> {
        let refused = |what| IndexError::Field { field: spec.name.clone(), what };
        if spec.kind != VectorKind::Dense || spec.size == 0 {
            return Err(refused(format!("is {} of {} dimensions, not dense", spec.kind.as_str(), spec.size)));
        }
        let factory = Factory::parse(&spec.factory).map_err(refused)?;
        if let Some(dim) = factory.widest().filter(|&dim| dim > spec.size) {
            return Err(refused(format!(
                "has the index \"{}\", whose transform makes {dim} dimensions of {}; it may make fewer, such as \"PCA{}\"",
                spec.factory,
                spec.size,
                spec.size.div_ceil(2)
            )));
        }
        let made = Vectors::new(spec.size, spec.metric, Some(&factory.text()));
        made.map(|_| factory).map_err(|error| {
            refused(format!(
                "has the index \"{}\", which FAISS cannot make for {} dimensions: PQ's parts and PCA's dimensions \
                 must suit these, as in \"HNSW32\", \"HNSW32,SQ8\", \"IVF256,Flat\" ({error})",
                spec.factory, spec.size
            ))
        })
    }

    /// The approximate index as bytes, for `seal_with`; `None` without one.
    ///
    /// # Errors
    /// FAISS failing.
    pub fn write(&self) -> Result<Option<Vec<u8>>, IndexError> {
        let Some(near) = self.near.as_ref().map(Factory::text) else { return Ok(None) };
        let mut bytes = unsummed();
        bytes.push(Written::NEAR);
        bytes.extend((near.len() as u32).to_le_bytes());
        bytes.extend(near.as_bytes());
        bytes.extend(self.vectors.write()?);
        Ok(Some(sum(bytes)))
    }

    /// Makes room for so many more rows, about.
    ///
    /// # Errors
    /// No memory.
    pub fn reserve(&mut self, rows: usize) -> Result<(), IndexError> {
        self.vectors.reserve(rows)
    }

    /// Adds rows, which have been checked, to a head: row-major `[rows, size]`.
    ///
    /// # Errors
    /// FAISS failing, or too many rows.
    pub fn extend(&mut self, vectors: &[f32]) -> Result<(), IndexError> {
        if self.len() + vectors.len() / self.spec.size > ROWS_MAX || self.sealed {
            return Err(IndexError::Faiss("the index is full".into()));
        }
        self.vectors.add(vectors)
    }

    /// All rows of a head, sealed, with the approximate index that was written of them.
    ///
    /// # Errors
    /// Bytes that are torn, of other rows, or of another index than sealing so many rows makes now.
    pub fn seal_with(mut self, bytes: &[u8]) -> Result<Self, IndexError> {
        let (rows, field) = (self.len(), self.spec.name.clone());
        let refused = |what| IndexError::Field { field: field.clone(), what };
        let torn = || refused("has an index that is torn".to_owned());
        let of_others = || refused(format!("has {rows} rows, which are not those of the index"));
        let Written { kind, near, rest } = Written::of(bytes).ok_or_else(torn)?;
        let wanted = Self::factory(&self.spec)?.of_rows(rows);
        let wanted = wanted.as_ref().map_or_else(|| "Flat".to_owned(), Factory::text);
        let near = Factory::parse(near).ok().filter(|near| near.text() == wanted).ok_or_else(|| {
            refused(format!("has the index \"{wanted}\" with {rows} rows, written is \"{near}\""))
        })?;
        match kind {
            Written::NEAR => self.vectors.attach(rest).map_err(|_| of_others())?,
            Written::WHOLE => {
                let vectors = Vectors::read(self.spec.size, self.spec.metric, rest)?;
                let bits = |value: &f32| value.to_bits();
                if !vectors.all().iter().map(bits).eq(self.vectors.all().iter().map(bits)) {
                    return Err(of_others());
                }
                self.vectors = vectors;
            }
            _ => return Err(torn()),
        }
        Ok(Self { near: Some(near), sealed: true, ..self })
    }

    /// All rows of a head, sealed. Rows that are only scanned stay where they are.
    ///
    /// # Errors
    /// FAISS failing.
    pub fn seal_whole(self) -> Result<Self, IndexError> {
        let near = Self::factory(&self.spec)?.of_rows(self.len());
        if near.is_none() {
            return Ok(Self { sealed: true, ..self });
        }
        let picks: Vec<Pick> = (0..self.len() as Row).map(|row| Pick { from: 0, row }).collect();
        Self::seal(&self.spec, &[&self], &picks)
    }

    /// A row as it lies there: `[size]`.
    pub fn row(&self, row: Row) -> &[f32] {
        self.vectors.row(row)
    }
}

/// An approximate index as bytes: their sum, a byte that says which kind they are, the factory string behind its length.
struct Written<'a> {
    kind: u8,
    near: &'a str,
    /// As FAISS writes it.
    rest: &'a [u8],
}

impl<'a> Written<'a> {
    /// Rows and index: up to format 3 of snapshots.
    const WHOLE: u8 = 1;
    /// The index alone.
    const NEAR: u8 = 2;

    fn of(bytes: &'a [u8]) -> Option<Self> {
        let mut from = Bytes::summed(bytes)?;
        let [kind] = from.take()?;
        let len = u32::from_le_bytes(from.take()?);
        let near = from.bytes(len as usize)?;
        Some(Self { kind, near: std::str::from_utf8(near).ok()?, rest: from.0 })
    }
}

/// Candidates for a graph of which `count` of `rows` may be found. FAISS keeps only those that may, so that the share is
/// partly made up for already: its root is enough (100,000 vectors of 384 dimensions, ef 64: without it recall@10 falls to
/// 0.948 where half are kept and to 0.944 where a fifth is).
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of candidates")]
fn widened(ef: usize, rows: usize, count: usize) -> usize {
    (ef as f64 * (rows as f64 / count as f64).sqrt()).ceil() as usize
}

impl RowIndex for DenseRows {
    type Vector = Vec<f32>;

    fn head(spec: &FieldSpec) -> Result<Self, IndexError> {
        Self::factory(spec)?;
        let vectors = Vectors::new(spec.size, spec.metric, None)?;
        Ok(Self { spec: spec.clone(), vectors, near: None, sealed: false })
    }

    fn push(&mut self, vector: &Vec<f32>) -> Result<(), IndexError> {
        let size = self.spec.size;
        if vector.len() != size {
            let what = format!("has {} dimensions, index has {size}", vector.len());
            return Err(IndexError::Misfit { id: String::new(), field: self.spec.name.clone(), what });
        }
        if self.len() >= ROWS_MAX || self.sealed {
            return Err(IndexError::Faiss("the index is full".into()));
        }
        self.vectors.add(vector)
    }

    fn seal(spec: &FieldSpec, from: &[&Self], picks: &[Pick]) -> Result<Self, IndexError> {
        if picks.len() > ROWS_MAX {
            return Err(IndexError::Faiss(format!("{} rows in one index", picks.len())));
        }
        let near = Self::factory(spec)?.of_rows(picks.len());
        let text = near.as_ref().map(Factory::text);
        let mut vectors = Vectors::new(spec.size, spec.metric, text.as_deref())?;
        let mut block = Vec::with_capacity(BLOCK_ROWS.min(picks.len()) * spec.size);
        for picks in picks.chunks(BLOCK_ROWS) {
            block.clear();
            picks.iter().for_each(|pick| block.extend(from[pick.from as usize].vectors.row(pick.row)));
            vectors.add(&block)?;
        }
        vectors.build(EF_BUILD)?;
        Ok(Self { spec: spec.clone(), vectors, near, sealed: true })
    }

    fn search(&self, search: &Search<'_>) -> Result<Found, IndexError> {
        let probe = self.query(search.probe)?;
        let count = search.visible.count();
        let want = search.want.min(count);
        if want == 0 {
            return Ok(Found { hits: Vec::new(), all: count == 0 });
        }
        let plan = self
            .near
            .as_ref()
            .map_or(Plan::Scan, |near| self.plan(near, search.visible, want, search.params));
        let mut hits = match (plan, &self.near) {
            (Plan::Near(effort), Some(near)) => {
                let candidates = near.candidates(want);
                let rows = self.vectors.near(probe, candidates, search.visible.bits(), effort)?;
                self.scores(probe, &rows)
            }
            _ => self.exact(probe, search.visible, want)?,
        };
        // A graph may come to an end before it has found enough.
        if hits.len() < want {
            hits = self.exact(probe, search.visible, want)?;
        }
        best(&mut hits, want, !self.sealed);
        hits.sort_unstable_by(|a, b| b.score.total_cmp(&a.score).then(a.row.cmp(&b.row)));
        Ok(Found { all: hits.len() == count, hits })
    }

    fn scan(&self, probe: &Probe, visible: &RowSet<'_>) -> Result<Vec<RowHit>, IndexError> {
        Ok(self.scan_visible(self.query(probe)?, visible))
    }

    fn score(&self, probe: &Probe, rows: &[Row]) -> Result<Vec<Option<f64>>, IndexError> {
        let hits = self.scores(self.query(probe)?, rows);
        Ok(hits.into_iter().map(|hit| Some(hit.score)).collect())
    }

    fn vector(&self, row: Row) -> Vec<f32> {
        self.vectors.row(row).to_vec()
    }

    fn len(&self) -> usize {
        self.vectors.len()
    }

    fn bytes(&self) -> usize {
        let size = self.spec.size;
        let near = self.near.as_ref().map_or(0, |near| near.row_bytes(size));
        self.len() * (size * size_of::<f32>() + near)
    }

    fn check(&self) {
        assert!(self.sealed || self.near.is_none(), "a head with an approximate index");
    }
}
