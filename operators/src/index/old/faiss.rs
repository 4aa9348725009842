//! FAISS' flat index through its C API, made safe.

use std::cell::Cell;
use std::ffi::{CStr, c_int};
use std::ptr::{NonNull, null_mut};

use faiss_sys as ffi;

use super::{IndexError, Metric};

unsafe extern "C" {
    /// libgomp's: sets the number of threads of parallel regions that the calling thread starts.
    fn omp_set_num_threads(threads: c_int);
}

thread_local! {
    static SINGLE_THREADED: Cell<bool> = const { Cell::new(false) };
}

/// Keeps FAISS on the calling thread: parallelism belongs to timely. The setting is per thread.
fn stay_on_this_thread() {
    if !SINGLE_THREADED.replace(true) {
        // SAFETY: no preconditions; libgomp is linked by faiss-sys.
        unsafe { omp_set_num_threads(1) }
    }
}

fn checked(code: c_int) -> Result<(), IndexError> {
    if code == 0 {
        return Ok(());
    }
    // SAFETY: the message, if any, is a C string that stays until the next call of FAISS on this thread.
    let message = unsafe {
        let message = ffi::faiss_get_last_error();
        if message.is_null() { None } else { Some(CStr::from_ptr(message).to_string_lossy().into_owned()) }
    };
    Err(IndexError::Faiss(message.unwrap_or_else(|| format!("error code {code}"))))
}

/// Vectors scanned exactly. Invariant: rows are numbered from 0 in the order they were added, and keep their numbers.
pub(super) struct Flat {
    raw: NonNull<ffi::FaissIndex>,
    dim: usize,
    rows: usize,
}

// SAFETY: the index is owned, holds no thread-local state, and FAISS allows searches from many threads at once; all
// that changes it takes `&mut self`.
unsafe impl Send for Flat {}
// SAFETY: as above.
unsafe impl Sync for Flat {}

impl Flat {
    /// No vectors yet.
    pub(super) fn new(dim: usize, metric: Metric) -> Result<Self, IndexError> {
        let size = i64::try_from(dim).map_err(|_| IndexError::Faiss(format!("{dim} dimensions")))?;
        let mut raw = null_mut();
        // SAFETY: `raw` is written by the call, and only if it succeeds.
        checked(unsafe {
            match metric {
                Metric::Dot => ffi::faiss_IndexFlatIP_new_with(&raw mut raw, size),
                Metric::Euclid => ffi::faiss_IndexFlatL2_new_with(&raw mut raw, size),
            }
        })?;
        let raw = NonNull::new(raw).ok_or_else(|| IndexError::Faiss("made no index".into()))?;
        Ok(Self { raw, dim, rows: 0 })
    }

    /// Rows.
    pub(super) fn len(&self) -> usize {
        self.rows
    }

    /// Adds rows at the end. `vectors`: row-major `[rows, dim]`.
    pub(super) fn add(&mut self, vectors: &[f32]) -> Result<(), IndexError> {
        assert_eq!(vectors.len() % self.dim, 0, "whole rows");
        stay_on_this_thread();
        let rows = vectors.len() / self.dim;
        // SAFETY: FAISS copies exactly rows · dim values from `vectors`.
        checked(unsafe { ffi::faiss_Index_add(self.raw.as_ptr(), rows as i64, vectors.as_ptr()) })?;
        self.rows += rows;
        Ok(())
    }

    fn data(&self) -> *mut f32 {
        let (mut data, mut values) = (null_mut(), 0);
        // SAFETY: the index is a flat one; the call only reads where its data lies.
        unsafe { ffi::faiss_IndexFlat_xb(self.raw.as_ptr(), &raw mut data, &raw mut values) };
        debug_assert_eq!(values, self.rows * self.dim);
        data
    }

    /// A row: `[dim]`.
    pub(super) fn row(&self, row: usize) -> &[f32] {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        // SAFETY: FAISS holds rows · dim values there, unchanged while `self` is borrowed.
        unsafe { std::slice::from_raw_parts(self.data().add(row * self.dim), self.dim) }
    }

    /// Writes a vector over a row. Flat indexes keep nothing derived from their vectors.
    pub(super) fn overwrite(&mut self, row: usize, vector: &[f32]) {
        assert!(row < self.rows && vector.len() == self.dim, "row {row} of {}", self.rows);
        // SAFETY: as in `row`; nobody else reads, for `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.data().add(row * self.dim), self.dim) }
            .copy_from_slice(vector);
    }

    /// The `k` best rows among those whose bit is set (`None`: all), with FAISS' scores: inner products or squared
    /// distances. Fewer if there are fewer, or if scores are not finite.
    pub(super) fn search(
        &self,
        query: &[f32],
        k: usize,
        bits: Option<&[u8]>,
    ) -> Result<Vec<(u32, f32)>, IndexError> {
        assert!(query.len() == self.dim && k > 0, "a query of {} dimensions", query.len());
        stay_on_this_thread();
        let (mut scores, mut rows) = (vec![0f32; k], vec![-1i64; k]);
        let (k, query) = (k as i64, query.as_ptr());
        let (to, labels) = (scores.as_mut_ptr(), rows.as_mut_ptr());
        match bits {
            // SAFETY: one query of dim values; k scores and k labels are written.
            None => checked(unsafe { ffi::faiss_Index_search(self.raw.as_ptr(), 1, query, k, to, labels) })?,
            Some(bits) => {
                let params = Params::new(bits)?;
                // SAFETY: as above; the parameters and the bits they point to outlive the call.
                checked(unsafe {
                    ffi::faiss_Index_search_with_params(
                        self.raw.as_ptr(),
                        1,
                        query,
                        k,
                        params.raw,
                        to,
                        labels,
                    )
                })?;
            }
        }
        let found = rows.into_iter().zip(scores);
        Ok(found.filter_map(|(row, score)| Some((u32::try_from(row).ok()?, score))).collect())
    }

    /// Inner products or squared distances of given rows, in their order.
    pub(super) fn compare(&self, query: &[f32], rows: &[u32]) -> Result<Vec<f32>, IndexError> {
        assert!(query.len() == self.dim, "a query of {} dimensions", query.len());
        stay_on_this_thread();
        let labels: Vec<i64> = rows.iter().map(|&row| i64::from(row)).collect();
        assert!(rows.iter().all(|&row| (row as usize) < self.rows), "known rows");
        let mut scores = vec![0f32; labels.len()];
        // SAFETY: one query of dim values; as many scores are written as there are labels, all of them rows.
        checked(unsafe {
            let (index, count) = (self.raw.as_ptr(), labels.len() as i64);
            let to = scores.as_mut_ptr();
            ffi::faiss_IndexFlat_compute_distance_subset(index, 1, query.as_ptr(), count, to, labels.as_ptr())
        })?;
        Ok(scores)
    }
}

impl Drop for Flat {
    fn drop(&mut self) {
        // SAFETY: owned, freed once.
        unsafe { ffi::faiss_Index_free(self.raw.as_ptr()) }
    }
}

/// Search parameters with a selector over borrowed bits. Both are freed on drop: FAISS owns neither.
struct Params<'a> {
    raw: *mut ffi::FaissSearchParameters,
    selector: *mut ffi::FaissIDSelectorBitmap,
    _bits: &'a [u8],
}

impl<'a> Params<'a> {
    fn new(bits: &'a [u8]) -> Result<Self, IndexError> {
        let mut params = Self { raw: null_mut(), selector: null_mut(), _bits: bits };
        // SAFETY: the selector keeps a pointer to `bits`, which outlives it; what was made is freed by `drop`.
        unsafe {
            checked(ffi::faiss_IDSelectorBitmap_new(&raw mut params.selector, bits.len(), bits.as_ptr()))?;
            checked(ffi::faiss_SearchParameters_new(&raw mut params.raw, params.selector.cast()))?;
        }
        Ok(params)
    }
}

impl Drop for Params<'_> {
    fn drop(&mut self) {
        // SAFETY: each was made by FAISS or is null, and is freed once.
        unsafe {
            if !self.raw.is_null() {
                ffi::faiss_SearchParameters_free(self.raw);
            }
            if !self.selector.is_null() {
                ffi::faiss_IDSelectorBitmap_free(self.selector);
            }
        }
    }
}
