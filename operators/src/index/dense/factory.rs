//! FAISS factory strings: what they make, and what becomes of them for few rows.

use freshet_config::factory::{Coding, Family, IndexFactory, number};

use super::Effort;

/// Rows below which every index is a plain scan: a graph visits some thousand rows anyway.
pub(super) const FLAT_ROWS: usize = 2048;
/// Training rows per centroid below which FAISS calls k-means poor.
const TRAIN_ROWS: usize = 39;
/// Fewest cells that pay.
const CELLS_MIN: usize = 8;

/// What a field's segments are built with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Factory(IndexFactory);

impl Factory {
    /// Takes a string apart.
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let factory = IndexFactory::parse(text);
        factory.map(Self).map_err(|what| format!("has the index \"{text}\": {what}"))
    }

    /// What is built of so many rows: the same, with fewer cells, with plain vectors instead of codes that cannot be
    /// trained, or `None`: a plain scan.
    pub(super) fn of_rows(&self, rows: usize) -> Option<Self> {
        if rows < FLAT_ROWS || self.0.family == Family::Flat {
            return None;
        }
        let mut fitting = self.clone();
        if let Coding::Product { bits } = self.0.coding
            && rows < TRAIN_ROWS << bits
        {
            (fitting.0.coding, fitting.0.code) = (Coding::Plain, "Flat".into());
        }
        if let Family::Ivf { cells } = &mut fitting.0.family {
            *cells = (*cells).min(rows / TRAIN_ROWS);
            if *cells < CELLS_MIN {
                return None;
            }
        }
        if fitting != *self {
            tracing::debug!(rows, wanted = self.text(), built = fitting.text(), "too few rows to train");
        }
        Some(fitting)
    }

    /// As FAISS reads it.
    pub(super) fn text(&self) -> String {
        self.0.text()
    }

    /// Most dimensions that a transform makes.
    pub(super) fn widest(&self) -> Option<usize> {
        let made = |text: &String| {
            let numbers = text.trim_start_matches(|c: char| c.is_ascii_uppercase());
            match text.starts_with("OPQ") {
                true => numbers.split_once('_').and_then(|(_, dim)| number(dim)),
                false => number(numbers),
            }
        };
        self.0.transforms.iter().filter_map(made).max()
    }

    /// Whether it is a graph.
    pub(super) fn is_graph(&self) -> bool {
        matches!(self.0.family, Family::Hnsw { .. })
    }

    /// Cells; 1 if it has none.
    pub(super) fn cells(&self) -> usize {
        match self.0.family {
            Family::Ivf { cells } => cells,
            Family::Flat | Family::Hnsw { .. } => 1,
        }
    }

    /// Bytes per row of `dim` values beside the vectors themselves, about.
    pub(super) fn row_bytes(&self, dim: usize) -> usize {
        let code = match (&self.0.coding, self.0.family) {
            (Coding::Plain, Family::Hnsw { .. }) if self.0.transforms.is_empty() => 0,
            (Coding::Plain, _) => dim * size_of::<f32>(),
            (Coding::Scalar { bits }, _) => dim * bits / 8,
            (Coding::Product { bits }, _) => {
                let parts = self.0.code.trim_start_matches("PQ").split('x').next();
                parts.and_then(number).unwrap_or(dim) * bits / 8
            }
        };
        match self.0.family {
            Family::Flat => 0,
            // On level 0 twice the links, above it one node of `links` has as many again; offsets and levels.
            Family::Hnsw { links } => code + links * 2 * size_of::<i32>() + size_of::<i32>() * 4,
            Family::Ivf { .. } => code + size_of::<i64>(),
        }
    }

    /// How hard to look unless the query says.
    pub(super) fn effort(&self) -> Effort {
        Effort { ef: super::EF, nprobe: (self.cells() / 8).max(8).min(self.cells()) }
    }

    /// How many candidates give `want` good ones, once these are scored with the vectors themselves.
    pub(super) fn candidates(&self, want: usize) -> usize {
        let plain = self.0.transforms.iter().all(|text| text.starts_with("RR"));
        match self.0.coding {
            Coding::Plain if plain => want,
            Coding::Scalar { bits: 8.. } if plain => want + want / 2 + 8,
            Coding::Plain | Coding::Scalar { .. } => 4 * want + 32,
            Coding::Product { .. } => 10 * want + 100,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_taken_apart_and_fitted() {
        for (text, rows, built) in [
            ("Flat", 1_000_000, None),
            ("HNSW32", 100, None),
            ("HNSW32", 10_000, Some("HNSW32,Flat")),
            ("HNSW16,SQ8", 10_000, Some("HNSW16,SQ8")),
            ("IVF256,Flat", 100_000, Some("IVF256,Flat")),
            ("IVF256,Flat", 3900, Some("IVF100,Flat")),
            ("IVF4,Flat", 100_000, None),
            ("IVF256,PQ32", 5000, Some("IVF128,Flat")),
            ("IVF256_HNSW32,PQ32x4", 100_000, Some("IVF256_HNSW32,PQ32x4")),
            ("PCA64,IVF64,SQ8", 100_000, Some("PCA64,IVF64,SQ8")),
            ("OPQ16_64,IVF64,PQ16", 100_000, Some("OPQ16_64,IVF64,PQ16")),
        ] {
            let factory = Factory::parse(text).unwrap();
            assert_eq!(factory.of_rows(rows).map(|factory| factory.text()).as_deref(), built, "{text}");
        }
        assert!(
            Factory::parse("IVF256").unwrap_err().starts_with("has the index \"IVF256\": IVF needs a coding")
        );
    }
}
