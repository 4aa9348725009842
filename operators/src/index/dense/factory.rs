//! FAISS factory strings: what they make, and what becomes of them for few rows.

use super::Effort;

/// Rows below which every index is a plain scan: a graph visits some thousand rows anyway.
pub(super) const FLAT_ROWS: usize = 2048;
/// Training rows per centroid below which FAISS calls k-means poor.
const TRAIN_ROWS: usize = 39;
/// Fewest cells that pay.
const CELLS_MIN: usize = 8;

/// What finds candidates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Flat,
    Hnsw { links: usize },
    Ivf { cells: usize },
}

/// How candidates are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Coding {
    /// As they are.
    Plain,
    /// A few bits per dimension: `SQ8`, `SQ4`.
    Scalar { bits: usize },
    /// Product quantisation.
    Product { bits: usize },
}

/// A factory string taken apart: transforms, family, coding, such as `"PCA64,IVF256_HNSW32,PQ32"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Factory {
    transforms: Vec<String>,
    family: Family,
    /// What follows the number of cells: the quantiser of an IVF index.
    quantiser: String,
    coding: Coding,
    /// The coding as it was written.
    code: String,
}

impl Factory {
    /// Takes a string apart.
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let bad = |what: &str| format!("has the index \"{text}\": {what}");
        let parts: Vec<&str> = text.split(',').collect();
        let transforms = parts.iter().take_while(|part| is_transform(part)).count();
        let (transforms, rest) = parts.split_at(transforms);
        let (head, code) = match rest {
            [head] => (*head, None),
            [head, code] => (*head, Some(*code)),
            _ => return Err(bad("not transforms, a family and a coding, such as \"HNSW32,SQ8\"")),
        };
        let (family, quantiser) = if head == "Flat" {
            (Family::Flat, "")
        } else if let Some(links) = head.strip_prefix("HNSW") {
            let links = number(links).filter(|links| (2..=512).contains(links));
            let links =
                links.ok_or_else(|| bad("HNSW needs its links per node, 2 to 512, such as \"HNSW32\""))?;
            (Family::Hnsw { links }, "")
        } else if let Some(cells) = head.strip_prefix("IVF") {
            let digits = cells.find(|c: char| !c.is_ascii_digit()).unwrap_or(cells.len());
            let (cells, quantiser) = cells.split_at(digits);
            let known = quantiser.is_empty() || quantiser.strip_prefix("_HNSW").and_then(number).is_some();
            let cells = number(cells).filter(|&cells| cells > 0 && known);
            (
                Family::Ivf {
                    cells: cells.ok_or_else(|| bad("IVF needs its cells, such as \"IVF256,Flat\""))?,
                },
                quantiser,
            )
        } else {
            return Err(bad(
                "not one of \"Flat\", \"HNSW32\", \"HNSW32,SQ8\", \"IVF256,Flat\", \"IVF256,PQ32\"",
            ));
        };
        let coding = match (family, code) {
            (Family::Flat, None) if transforms.is_empty() => Coding::Plain,
            (Family::Flat, _) => return Err(bad("\"Flat\" stands alone")),
            (Family::Ivf { .. }, None) => return Err(bad("IVF needs a coding, such as \"IVF256,Flat\"")),
            (Family::Hnsw { .. }, None) => Coding::Plain,
            (_, Some(code)) => {
                coding(code).ok_or_else(|| bad("the coding is not one of \"Flat\", \"SQ8\", \"PQ32\""))?
            }
        };
        Ok(Self {
            transforms: transforms.iter().map(ToString::to_string).collect(),
            family,
            quantiser: quantiser.to_owned(),
            coding,
            code: code.unwrap_or("Flat").to_owned(),
        })
    }

    /// What is built of so many rows: the same, with fewer cells, with plain vectors instead of codes that cannot be
    /// trained, or `None`: a plain scan.
    pub(super) fn of_rows(&self, rows: usize) -> Option<Self> {
        if rows < FLAT_ROWS || self.family == Family::Flat {
            return None;
        }
        let mut fitting = self.clone();
        if let Coding::Product { bits } = self.coding
            && rows < TRAIN_ROWS << bits
        {
            (fitting.coding, fitting.code) = (Coding::Plain, "Flat".into());
        }
        if let Family::Ivf { cells } = &mut fitting.family {
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
        let family = match self.family {
            Family::Flat => return "Flat".into(),
            Family::Hnsw { links } => format!("HNSW{links}"),
            Family::Ivf { cells } => format!("IVF{cells}{}", self.quantiser),
        };
        let parts = self.transforms.iter().map(String::as_str);
        parts.chain([family.as_str(), self.code.as_str()]).collect::<Vec<_>>().join(",")
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
        self.transforms.iter().filter_map(made).max()
    }

    /// Whether it is a graph.
    pub(super) fn is_graph(&self) -> bool {
        matches!(self.family, Family::Hnsw { .. })
    }

    /// Cells; 1 if it has none.
    pub(super) fn cells(&self) -> usize {
        match self.family {
            Family::Ivf { cells } => cells,
            Family::Flat | Family::Hnsw { .. } => 1,
        }
    }

    /// Bytes per row of `dim` values beside the vectors themselves, about.
    pub(super) fn row_bytes(&self, dim: usize) -> usize {
        let code = match (&self.coding, self.family) {
            (Coding::Plain, Family::Hnsw { .. }) if self.transforms.is_empty() => 0,
            (Coding::Plain, _) => dim * size_of::<f32>(),
            (Coding::Scalar { bits }, _) => dim * bits / 8,
            (Coding::Product { bits }, _) => {
                let parts = self.code.trim_start_matches("PQ").split('x').next();
                parts.and_then(number).unwrap_or(dim) * bits / 8
            }
        };
        match self.family {
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
        let plain = self.transforms.iter().all(|text| text.starts_with("RR"));
        match self.coding {
            Coding::Plain if plain => want,
            Coding::Scalar { bits: 8.. } if plain => want + want / 2 + 8,
            Coding::Plain | Coding::Scalar { .. } => 4 * want + 32,
            Coding::Product { .. } => 10 * want + 100,
        }
    }
}

fn number(text: &str) -> Option<usize> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

fn is_transform(part: &str) -> bool {
    let numbers = |text: &str| text.split('_').all(|part| number(part).is_some());
    ["PCA", "PCAR", "PCAW", "PCAWR", "OPQ", "RR"]
        .iter()
        .any(|name| part.strip_prefix(name).is_some_and(numbers))
}

fn coding(code: &str) -> Option<Coding> {
    if code == "Flat" {
        return Some(Coding::Plain);
    }
    if let Some(bits) = code.strip_prefix("SQ") {
        let bits = match bits {
            "fp16" | "bf16" => 16,
            bits => number(bits).filter(|bits| [4, 6, 8].contains(bits))?,
        };
        return Some(Coding::Scalar { bits });
    }
    let code = code.strip_prefix("PQ")?;
    let (parts, bits) = code.split_once('x').unwrap_or((code, "8"));
    number(parts).filter(|&parts| parts > 0)?;
    Some(Coding::Product { bits: number(bits).filter(|bits| (4..=12).contains(bits))? })
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
        for text in [
            "",
            "HNSW",
            "HNSW0",
            "HNSW+3",
            "IVF256",
            "IVF,Flat",
            "IVF256,PQ",
            "IVF256,SQ7",
            "LSH",
            "PCA64,Flat",
            "Flat,SQ8",
            "IVF256,PQ32,RFlat",
            "HNSW32,",
            "HNSW32\0",
        ] {
            assert!(Factory::parse(text).is_err(), "{text}");
        }
    }
}
