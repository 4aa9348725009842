//! FAISS as its own C API gives it.

use std::ffi::CString;
use std::ptr::null_mut;

use faiss_sys as ffi;
use freshet_operators::index::Probe;
use freshet_operators::index::bits::Bits;
use freshet_operators::index::rows::Row;

unsafe extern "C" {
    /// libgomp's: threads of the parallel regions that the calling thread starts.
    fn omp_set_num_threads(threads: std::ffi::c_int);
}

/// An `HNSW32` index.
pub(super) struct Raw(*mut ffi::FaissIndex);

impl Raw {
    /// Of all vectors, added at once, on one thread.
    pub(super) fn hnsw(vectors: &[Vec<f32>]) -> Self {
        let (dim, mut index) = (vectors[0].len(), null_mut());
        let flat = vectors.concat();
        // SAFETY: the index is written by the first call; FAISS copies rows · dim values.
        unsafe {
            omp_set_num_threads(1);
            let (name, metric) = (c"HNSW32".as_ptr(), ffi::FaissMetricType_METRIC_INNER_PRODUCT);
            assert_eq!(ffi::faiss_index_factory(&raw mut index, dim as i32, name, metric), 0);
            assert_eq!(ffi::faiss_Index_add(index, vectors.len() as i64, flat.as_ptr()), 0);
        }
        Self(index)
    }

    fn set_ef(&self, ef: u32) {
        let mut space = null_mut();
        let text = CString::new(format!("efSearch={ef}")).expect("no zero byte");
        // SAFETY: the space is made, used and freed here.
        unsafe {
            assert_eq!(ffi::faiss_ParameterSpace_new(&raw mut space), 0);
            assert_eq!(ffi::faiss_ParameterSpace_set_index_parameters(space, self.0, text.as_ptr()), 0);
            ffi::faiss_ParameterSpace_free(space);
        }
    }

    /// The nearest rows.
    pub(super) fn search(&self, probe: &Probe, want: usize, ef: u32) -> Vec<Row> {
        self.run(probe, want, ef, None)
    }

    /// The nearest rows of a set, by a selector inside the search.
    pub(super) fn selected(&self, probe: &Probe, want: usize, ef: u32, allowed: &Bits) -> Vec<Row> {
        self.run(probe, want, ef, Some(allowed))
    }

    fn run(&self, probe: &Probe, want: usize, ef: u32, allowed: Option<&Bits>) -> Vec<Row> {
        let Probe::Dense(probe) = probe else { return Vec::new() };
        self.set_ef(ef);
        let (mut scores, mut labels) = (vec![0f32; want], vec![-1i64; want]);
        let (to, rows) = (scores.as_mut_ptr(), labels.as_mut_ptr());
        // SAFETY: one probe; `want` scores and labels are written; the selector is freed after the search.
        unsafe {
            let mut selector = null_mut();
            let mut params = null_mut();
            if let Some(bits) = allowed {
                let (len, bytes) = (size_of_val(bits.words()), bits.words().as_ptr().cast());
                assert_eq!(ffi::faiss_IDSelectorBitmap_new(&raw mut selector, len, bytes), 0);
                assert_eq!(ffi::faiss_SearchParameters_new(&raw mut params, selector.cast()), 0);
            }
            let code = match allowed {
                None => ffi::faiss_Index_search(self.0, 1, probe.as_ptr(), want as i64, to, rows),
                Some(_) => ffi::faiss_Index_search_with_params(
                    self.0,
                    1,
                    probe.as_ptr(),
                    want as i64,
                    params,
                    to,
                    rows,
                ),
            };
            assert_eq!(code, 0);
            if allowed.is_some() {
                ffi::faiss_SearchParameters_free(params);
                ffi::faiss_IDSelectorBitmap_free(selector);
            }
        }
        labels.into_iter().filter_map(|row| Row::try_from(row).ok()).collect()
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // SAFETY: owned, freed once.
        unsafe { ffi::faiss_Index_free(self.0) }
    }
}
