//! Random changes that fit, the same for the same seed.

use std::collections::BTreeMap;

use freshet_schemas::SparseVector;

use crate::index::{Chunk, DocumentPut, FieldPut, Probe, RowPut, RowVector, ShardChange, Time, TokenMatrix};

/// splitmix64: the same sequence everywhere.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % end
    }
}

/// What vectors are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Values {
    /// −2..=2: scores are exact and often tie.
    Small,
    /// Of −1..1.
    Random,
}

/// Makes changes, and remembers of each document how many rows it has per field, to keep some.
pub(super) struct Script {
    pub(super) random: Random,
    pub(super) time: Time,
    size: usize,
    documents: u64,
    values: Values,
    rows: BTreeMap<String, Vec<u32>>,
}

impl Script {
    pub(super) fn new(seed: u64, size: usize, documents: u64, values: Values) -> Self {
        Self { random: Random::new(seed), time: 0, size, documents, values, rows: BTreeMap::new() }
    }

    /// The changes of the next time: some documents, each once.
    pub(super) fn changes(&mut self) -> Vec<ShardChange> {
        self.time += 1 + self.random.below(3);
        let mut changes = Vec::new();
        for number in 0..self.documents {
            let id = format!("d{number:03}");
            match self.random.below(10) {
                0..5 => {}
                5..7 if self.rows.remove(&id).is_some() => changes.push(ShardChange::Remove { id }),
                _ => changes.push(ShardChange::Put(Box::new(self.put(id)))),
            }
        }
        if self.random.below(2) == 0 {
            changes.reverse();
        }
        changes
    }

    fn put(&mut self, id: String) -> DocumentPut {
        let before = self.rows.get(&id).cloned();
        let payload_only = before.is_some() && self.random.below(3) == 0;
        let mut rows = Vec::new();
        let mut fields = Vec::new();
        for field in 0..5 {
            let had = before.as_ref().map_or(0, |rows| rows[field]);
            let put = if payload_only { Self::same(field, had) } else { self.field(field, had) };
            rows.push(match &put {
                FieldPut::None => 0,
                FieldPut::Rows(rows) => rows.len() as u32,
                FieldPut::Sparse(_) | FieldPut::KeepSparse => 1,
            });
            fields.push(put);
        }
        self.rows.insert(id.clone(), rows);
        let payload = format!("{{\"version\":{}}}", self.random.below(1000));
        let chunk = |number| {
            let text = format!("{id} {number} – at {}", self.time);
            Chunk { start: 3 * u32::try_from(number).unwrap_or(0), text }
        };
        let chunks = (0..self.random.below(4)).map(chunk).collect();
        DocumentPut { id, origin: (0, self.time as i64), payload, digest: Vec::new(), chunks, fields }
    }

    /// A field of a payload-only update.
    fn same(field: usize, had: u32) -> FieldPut {
        match (field, had) {
            (_, 0) => FieldPut::None,
            (2, _) => FieldPut::KeepSparse,
            _ => FieldPut::Rows((0..had).map(RowPut::Keep).collect()),
        }
    }

    fn field(&mut self, field: usize, had: u32) -> FieldPut {
        if self.random.below(8) == 0 {
            return FieldPut::None;
        }
        if field == 2 {
            return match had > 0 && self.random.below(3) == 0 {
                true => FieldPut::KeepSparse,
                false => FieldPut::Sparse(self.sparse()),
            };
        }
        let row = |script: &mut Self| match had > 0 && script.random.below(3) == 0 {
            true => RowPut::Keep(script.random.below(u64::from(had)) as u32),
            false if field == 3 => RowPut::New(RowVector::Sparse(script.sparse())),
            false if field == 4 => RowPut::New(RowVector::Multi(script.matrix())),
            false => RowPut::New(RowVector::Dense(script.vector())),
        };
        FieldPut::Rows((0..self.random.below(5)).map(|_| row(self)).collect())
    }

    fn value(&mut self) -> f32 {
        match self.values {
            Values::Small => self.random.below(5) as f32 - 2.0,
            Values::Random => self.random.below(2_000_001) as f32 / 1_000_000.0 - 1.0,
        }
    }

    fn vector(&mut self) -> Vec<f32> {
        (0..self.size).map(|_| self.value()).collect()
    }

    /// A token of a probe: of unit length unless made of small integers.
    fn token(&mut self) -> Vec<f32> {
        let vector = self.vector();
        let length = match self.values {
            Values::Small => 1.0,
            Values::Random => vector.iter().map(|value| value * value).sum::<f32>().sqrt(),
        };
        vector.into_iter().map(|value| value / length).collect()
    }

    fn matrix(&mut self) -> TokenMatrix {
        let tokens = self.random.below(4) as usize;
        let (codes, scale) = match self.values {
            Values::Small => (5, 1.0),
            // About of unit length.
            Values::Random => (255, 0.0028),
        };
        let code = |random: &mut Random| (random.below(codes) as i64 - codes as i64 / 2) as i8;
        TokenMatrix {
            dim: self.size,
            codes: (0..tokens * self.size).map(|_| code(&mut self.random)).collect(),
            scales: vec![scale; tokens],
        }
    }

    fn sparse(&mut self) -> SparseVector {
        let mut vector = SparseVector::default();
        for term in 0..12 {
            if self.random.below(3) == 0 {
                vector.indices.push(term * 1_000_000_007);
                vector.values.push(self.random.below(3) as f32 + 1.0);
            }
        }
        vector
    }

    /// A probe of a field.
    pub(super) fn probe(&mut self, field: usize) -> Probe {
        match field {
            2 | 3 => {
                let terms = self.sparse();
                let terms = terms.iter().map(|(term, weight)| (term, f64::from(weight) * 0.5)).collect();
                Probe::Sparse { terms, length_mean: 1.0 + self.random.below(9) as f64 }
            }
            4 => Probe::Multi((0..self.random.below(4)).map(|_| self.token()).collect()),
            _ => Probe::Dense(self.vector()),
        }
    }

    /// Ids of some documents, also of some that are not there.
    pub(super) fn ids(&mut self) -> Vec<String> {
        let documents = self.documents + 3;
        (0..self.random.below(8)).map(|_| format!("d{:03}", self.random.below(documents))).collect()
    }
}
