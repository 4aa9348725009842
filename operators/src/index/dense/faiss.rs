//! Rows in FAISS, made safe.

use std::cell::Cell;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr::{NonNull, null, null_mut};

// Keeps the static libraries of FAISS on the link line, before the shim's needs.
use faiss_sys as _;

use crate::index::bits::Bits;
use crate::index::rows::Row;
use crate::index::{IndexError, Metric};

/// Room for the text of an error.
const ERROR_BYTES: usize = 512;

#[link(name = "freshet_faiss", kind = "static")]
unsafe extern "C" {
    fn freshet_rows_new(
        out: *mut *mut c_void,
        dim: i64,
        euclid: c_int,
        factory: *const c_char,
        error: *mut c_char,
        room: usize,
    ) -> c_int;
    fn freshet_rows_free(rows: *mut c_void);
    fn freshet_rows_add(
        rows: *mut c_void,
        n: i64,
        vectors: *const f32,
        error: *mut c_char,
        room: usize,
    ) -> c_int;
    fn freshet_rows_build(rows: *mut c_void, ef: c_int, error: *mut c_char, room: usize) -> c_int;
    fn freshet_rows_data(rows: *const c_void) -> *const f32;
    fn freshet_rows_len(rows: *const c_void) -> i64;
    fn freshet_rows_scan(
        rows: *const c_void,
        probe: *const f32,
        k: i64,
        bits: *const u8,
        bytes: usize,
        distances: *mut f32,
        labels: *mut i64,
        error: *mut c_char,
        room: usize,
    ) -> c_int;
    fn freshet_rows_near(
        rows: *const c_void,
        probe: *const f32,
        k: i64,
        bits: *const u8,
        bytes: usize,
        ef: c_int,
        nprobe: i64,
        distances: *mut f32,
        labels: *mut i64,
        error: *mut c_char,
        room: usize,
    ) -> c_int;
    fn freshet_rows_compare(
        rows: *const c_void,
        probe: *const f32,
        n: usize,
        which: *const u32,
        to: *mut f32,
    );
    /// libgomp's: sets the number of threads of parallel regions that the calling thread starts.
    fn omp_set_num_threads(threads: c_int);
}

thread_local! {
    static SINGLE_THREADED: Cell<bool> = const { Cell::new(false) };
}

/// Keeps FAISS on the calling thread: parallelism belongs to timely, and graphs built by several threads differ from
/// run to run. The setting is per thread.
fn stay_on_this_thread() {
    if !SINGLE_THREADED.replace(true) {
        // SAFETY: no preconditions; libgomp is linked by faiss-sys.
        unsafe { omp_set_num_threads(1) }
    }
}

/// Calls the shim with room for an error.
fn guarded(call: impl FnOnce(*mut c_char, usize) -> c_int) -> Result<(), IndexError> {
    stay_on_this_thread();
    let mut error = [0u8; ERROR_BYTES];
    if call(error.as_mut_ptr().cast(), ERROR_BYTES) == 0 {
        return Ok(());
    }
    let text = CStr::from_bytes_until_nul(&error).map(CStr::to_string_lossy).unwrap_or_default();
    Err(IndexError::Faiss(text.into_owned()))
}

// Room for rows, and rows as bytes.
#[link(name = "freshet_faiss", kind = "static")]
unsafe extern "C" {
    fn freshet_rows_reserve(rows: *mut c_void, n: usize, error: *mut c_char, room: usize) -> c_int;
    fn freshet_rows_attach(
        rows: *mut c_void,
        data: *const u8,
        len: usize,
        error: *mut c_char,
        room: usize,
    ) -> c_int;
    fn freshet_rows_write(
        rows: *const c_void,
        out: *mut *mut c_void,
        data: *mut *const u8,
        len: *mut usize,
        error: *mut c_char,
        room: usize,
    ) -> c_int;
    fn freshet_bytes_free(bytes: *mut c_void);
    fn freshet_rows_read(
        out: *mut *mut c_void,
        dim: i64,
        euclid: c_int,
        data: *const u8,
        len: usize,
        error: *mut c_char,
        room: usize,
    ) -> c_int;
}

/// How the approximate index is searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Effort {
    /// Candidates a graph keeps.
    pub(super) ef: usize,
    /// Cells searched.
    pub(super) nprobe: usize,
}

/// Vectors, scanned exactly or by an approximate index over them. Rows are numbered in the order they were added.
pub(super) struct Vectors {
    raw: NonNull<c_void>,
    dim: usize,
}

// SAFETY: the rows are owned, hold no thread-local state, and FAISS allows searches from many threads at once; all that
// changes them takes `&mut self`.
unsafe impl Send for Vectors {}
// SAFETY: as above.
unsafe impl Sync for Vectors {}

impl Vectors {
    /// No vectors yet. `factory`: of the approximate index, if there is to be one.
    pub(super) fn new(dim: usize, metric: Metric, factory: Option<&str>) -> Result<Self, IndexError> {
        let factory =
            factory.map(CString::new).transpose().map_err(|error| IndexError::Faiss(error.to_string()))?;
        let text = factory.as_ref().map_or(null(), |factory| factory.as_ptr());
        let mut raw = null_mut();
        // SAFETY: `raw` is written if the call succeeds; the text outlives the call.
        guarded(|error, room| unsafe {
            freshet_rows_new(&raw mut raw, dim as i64, euclid(metric), text, error, room)
        })?;
        Self::owned(raw, dim)
    }

    fn owned(raw: *mut c_void, dim: usize) -> Result<Self, IndexError> {
        let raw = NonNull::new(raw).ok_or_else(|| IndexError::Faiss("made no index".into()))?;
        Ok(Self { raw, dim })
    }

    /// Rows.
    pub(super) fn len(&self) -> usize {
        // SAFETY: only reads.
        unsafe { freshet_rows_len(self.raw.as_ptr()) as usize }
    }

    /// Adds rows at the end. `vectors`: row-major `[rows, dim]`.
    pub(super) fn add(&mut self, vectors: &[f32]) -> Result<(), IndexError> {
        let rows = (vectors.len() / self.dim) as i64;
        // SAFETY: FAISS copies rows · dim values, no more than `vectors` has.
        guarded(|error, room| unsafe {
            freshet_rows_add(self.raw.as_ptr(), rows, vectors.as_ptr(), error, room)
        })
    }

    /// Makes room for so many more rows, about.
    pub(super) fn reserve(&mut self, rows: usize) -> Result<(), IndexError> {
        // SAFETY: `self` is borrowed mutably.
        guarded(|error, room| unsafe { freshet_rows_reserve(self.raw.as_ptr(), rows, error, room) })
    }

    /// All rows: row-major `[rows, dim]`.
    pub(super) fn all(&self) -> &[f32] {
        // SAFETY: there are len · dim values, unchanged while `self` is borrowed; none at all lie nowhere.
        match self.len() {
            0 => &[],
            rows => unsafe {
                std::slice::from_raw_parts(freshet_rows_data(self.raw.as_ptr()), rows * self.dim)
            },
        }
    }

    /// Makes the approximate index of all rows, a graph with `ef` candidates per row.
    pub(super) fn build(&mut self, ef: usize) -> Result<(), IndexError> {
        let ef = c_int::try_from(ef).unwrap_or(c_int::MAX);
        // SAFETY: `self` is borrowed mutably.
        guarded(|error, room| unsafe { freshet_rows_build(self.raw.as_ptr(), ef, error, room) })
    }

    /// A row: `[dim]`.
    pub(super) fn row(&self, row: Row) -> &[f32] {
        assert!((row as usize) < self.len(), "row {row} of {}", self.len());
        // SAFETY: there are len · dim values, unchanged while `self` is borrowed.
        unsafe {
            let data = freshet_rows_data(self.raw.as_ptr());
            std::slice::from_raw_parts(data.add(row as usize * self.dim), self.dim)
        }
    }

    /// The `k` best rows among those in the set (`None`: all), with inner products or squared distances; fewer if there
    /// are fewer, or if these are not finite.
    pub(super) fn scan(
        &self,
        probe: &[f32],
        k: usize,
        allowed: Option<&Bits>,
    ) -> Result<Vec<(Row, f32)>, IndexError> {
        self.search(probe, k, allowed, None)
    }

    /// About the `k` best rows among those in the set (`None`: all), by the approximate index, which must be there; fewer
    /// if it finds no more.
    pub(super) fn near(
        &self,
        probe: &[f32],
        k: usize,
        allowed: Option<&Bits>,
        effort: Effort,
    ) -> Result<Vec<Row>, IndexError> {
        Ok(self.search(probe, k, allowed, Some(effort))?.into_iter().map(|(row, _)| row).collect())
    }

    fn search(
        &self,
        probe: &[f32],
        k: usize,
        allowed: Option<&Bits>,
        near: Option<Effort>,
    ) -> Result<Vec<(Row, f32)>, IndexError> {
        assert!(probe.len() == self.dim && k > 0, "a probe of {} dimensions", probe.len());
        assert!(allowed.is_none_or(|bits| bits.len() == self.len()), "a bit per row");
        let (mut scores, mut labels) = (vec![0f32; k], vec![-1i64; k]);
        let (to, rows) = (scores.as_mut_ptr(), labels.as_mut_ptr());
        let (bits, bytes) = allowed
            .map_or((null(), 0), |bits| (bits.words().as_ptr().cast::<u8>(), size_of_val(bits.words())));
        let (raw, probe, k) = (self.raw.as_ptr(), probe.as_ptr(), k as i64);
        // SAFETY: one probe of dim values; k scores and k labels are written; the bits outlive the call.
        guarded(|error, room| unsafe {
            match near {
                None => freshet_rows_scan(raw, probe, k, bits, bytes, to, rows, error, room),
                Some(Effort { ef, nprobe }) => {
                    let ef = c_int::try_from(ef).unwrap_or(c_int::MAX);
                    let nprobe = nprobe as i64;
                    freshet_rows_near(raw, probe, k, bits, bytes, ef, nprobe, to, rows, error, room)
                }
            }
        })?;
        let found = labels.into_iter().zip(scores);
        Ok(found.filter_map(|(row, score)| Some((Row::try_from(row).ok()?, score))).collect())
    }

    /// Inner products or squared distances of given rows, in their order: as `scan` gives them.
    pub(super) fn compare(&self, probe: &[f32], rows: &[Row]) -> Vec<f32> {
        assert_eq!(probe.len(), self.dim, "dimensions of a probe");
        let len = self.len();
        assert!(rows.iter().all(|&row| (row as usize) < len), "known rows");
        let mut scores = vec![0f32; rows.len()];
        // SAFETY: one probe of dim values; as many scores are written as there are rows, all of them known.
        unsafe {
            let to = scores.as_mut_ptr();
            freshet_rows_compare(self.raw.as_ptr(), probe.as_ptr(), rows.len(), rows.as_ptr(), to);
        }
        scores
    }

    /// The approximate index as bytes; of a graph that shares its vectors with the rows the links alone.
    pub(super) fn write(&self) -> Result<Vec<u8>, IndexError> {
        let (mut bytes, mut data, mut len) = (null_mut(), null(), 0);
        // SAFETY: the three are written if the call succeeds.
        guarded(|error, room| unsafe {
            freshet_rows_write(self.raw.as_ptr(), &raw mut bytes, &raw mut data, &raw mut len, error, room)
        })?;
        // SAFETY: `len` bytes lie at `data` until `bytes` is freed, once.
        unsafe {
            let copy = std::slice::from_raw_parts(data, len).to_vec();
            freshet_bytes_free(bytes);
            Ok(copy)
        }
    }

    /// Gives rows without an approximate index what `write` gave of the same rows.
    pub(super) fn attach(&mut self, bytes: &[u8]) -> Result<(), IndexError> {
        // SAFETY: `self` is borrowed mutably; no more than `bytes` is read.
        guarded(|error, room| unsafe {
            freshet_rows_attach(self.raw.as_ptr(), bytes.as_ptr(), bytes.len(), error, room)
        })
    }

    /// Rows with their index, as earlier versions wrote them, for the same field.
    pub(super) fn read(dim: usize, metric: Metric, bytes: &[u8]) -> Result<Self, IndexError> {
        let mut raw = null_mut();
        // SAFETY: `raw` is written if the call succeeds; no more than `bytes` is read.
        guarded(|error, room| unsafe {
            let (data, len) = (bytes.as_ptr(), bytes.len());
            freshet_rows_read(&raw mut raw, dim as i64, euclid(metric), data, len, error, room)
        })?;
        Self::owned(raw, dim)
    }
}

fn euclid(metric: Metric) -> c_int {
    (metric == Metric::Euclid).into()
}

impl Drop for Vectors {
    fn drop(&mut self) {
        // SAFETY: owned, freed once.
        unsafe { freshet_rows_free(self.raw.as_ptr()) }
    }
}
