//! FAISS factory strings: `[vectors.NAME] index`.

/// What finds candidates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// A scan of all.
    Flat,
    /// A graph.
    Hnsw {
        /// Links per node.
        links: usize,
    },
    /// Lists around centroids.
    Ivf {
        /// Lists.
        cells: usize,
    },
}

/// How candidates are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Coding {
    /// As they are.
    Plain,
    /// A few bits per dimension: `SQ8`, `SQ4`.
    Scalar {
        /// Per dimension.
        bits: usize,
    },
    /// Product quantisation, such as `PQ32`.
    Product {
        /// Per part.
        bits: usize,
    },
}

/// A factory string taken apart: transforms, family, coding, such as `"PCA64,IVF256_HNSW32,PQ32"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexFactory {
    /// What becomes of vectors first, such as `PCA64`.
    pub transforms: Vec<String>,
    /// What finds candidates.
    pub family: Family,
    /// What follows the number of cells: the quantiser of an IVF index.
    pub quantiser: String,
    /// How candidates are stored.
    pub coding: Coding,
    /// The coding as it was written.
    pub code: String,
}

impl IndexFactory {
    /// Takes a string apart.
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let bad = str::to_owned;
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

    /// As FAISS reads it.
    pub fn text(&self) -> String {
        let family = match self.family {
            Family::Flat => return "Flat".into(),
            Family::Hnsw { links } => format!("HNSW{links}"),
            Family::Ivf { cells } => format!("IVF{cells}{}", self.quantiser),
        };
        let parts = self.transforms.iter().map(String::as_str);
        parts.chain([family.as_str(), self.code.as_str()]).collect::<Vec<_>>().join(",")
    }
}

/// The number that some digits are.
pub fn number(text: &str) -> Option<usize> {
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
    fn strings_are_taken_apart_and_put_together() {
        for (text, whole) in [
            ("Flat", "Flat"),
            ("HNSW32", "HNSW32,Flat"),
            ("HNSW16,SQ8", "HNSW16,SQ8"),
            ("HNSW16,Flat", "HNSW16,Flat"),
            ("IVF256,Flat", "IVF256,Flat"),
            ("IVF64,SQfp16", "IVF64,SQfp16"),
            ("IVF256_HNSW32,PQ32x4", "IVF256_HNSW32,PQ32x4"),
            ("PCA64,IVF64,SQ8", "PCA64,IVF64,SQ8"),
            ("OPQ16_64,IVF64,PQ16", "OPQ16_64,IVF64,PQ16"),
        ] {
            let factory = IndexFactory::parse(text).expect(text);
            assert_eq!(factory.text(), whole, "{text}");
            assert_eq!(IndexFactory::parse(whole), Ok(factory), "{text}");
        }
        for text in [
            "",
            "Flat32",
            "HNSW",
            "HNSW0",
            "HNSW+3",
            "HNSWx,SQ8",
            "IVF256",
            "IVF,Flat",
            "IVF0,Flat",
            "IVF256,PQ",
            "IVF256,SQ7",
            "IVF256,LSH",
            "LSH",
            "PCA64,Flat",
            "Flat,SQ8",
            "IVF256,PQ32,RFlat",
            "HNSW32,",
            "HNSW32\0",
        ] {
            assert!(IndexFactory::parse(text).is_err(), "{text}");
        }
    }
}
