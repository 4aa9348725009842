//! The vector fields of a pipeline and where their vectors come from.

use std::sync::Arc;

use freshet_schemas::{VectorKind, VectorValue};

use crate::embed::{Embedding, quantize};
use crate::index::{FieldSpec, Probe, RowVector};
use crate::text::Analyzer;

/// A vector field.
#[derive(Clone)]
pub struct VectorField {
    /// Shape and scoring; its number is its place in the list of fields.
    pub spec: FieldSpec,
    /// Dense vectors are brought to unit length, document and query alike.
    pub normalised: bool,
    /// What makes its vectors.
    pub source: FieldSource,
}

/// What makes the vectors of a field.
#[derive(Clone)]
pub enum FieldSource {
    /// A model of the embedding service, by number.
    Model(usize),
    /// Terms of the text.
    Terms(Arc<Analyzer>),
    /// Nothing: they come with the document and the query.
    Given,
}

impl VectorField {
    /// Number of the model that makes this field's vectors.
    pub fn model(&self) -> Option<usize> {
        match self.source {
            FieldSource::Model(model) => Some(model),
            FieldSource::Terms(_) | FieldSource::Given => None,
        }
    }

    /// The vector of one chunk from its embedding.
    pub fn row(&self, embedding: &Embedding) -> RowVector {
        match self.spec.kind {
            VectorKind::Multi => RowVector::Multi(embedding.tokens.clone().unwrap_or_default()),
            VectorKind::Dense => RowVector::Dense(self.fitted(embedding.dense.clone())),
            VectorKind::Sparse => RowVector::Sparse(embedding.sparse.clone().unwrap_or_default()),
        }
    }

    /// The row of a vector that came with the document; `None` for sparse vectors.
    pub fn given_row(&self, vector: &VectorValue) -> Option<RowVector> {
        match vector {
            VectorValue::Dense(vector) => Some(RowVector::Dense(self.fitted(vector.clone()))),
            VectorValue::Multi(rows) => {
                Some(RowVector::Multi(quantize(unit_rows(rows).into_iter(), self.spec.size)))
            }
            VectorValue::Sparse(_) => None,
        }
    }

    /// What a vector that came with the query searches with.
    pub fn given_probe(&self, vector: VectorValue) -> Probe {
        match vector {
            VectorValue::Dense(vector) => Probe::Dense(self.fitted(vector)),
            VectorValue::Multi(rows) => Probe::Multi(unit_rows(&rows)),
            VectorValue::Sparse(_) => Self::raw_probe(vector),
        }
    }

    /// A vector as it came, of whatever length.
    pub fn raw_probe(vector: VectorValue) -> Probe {
        match vector {
            VectorValue::Dense(vector) => Probe::Dense(vector),
            VectorValue::Multi(rows) => Probe::Multi(rows),
            VectorValue::Sparse(vector) => {
                let terms = vector.iter().map(|(term, weight)| (term, f64::from(weight))).collect();
                Probe::Sparse { terms, length_mean: 0.0 }
            }
        }
    }

    fn fitted(&self, vector: Vec<f32>) -> Vec<f32> {
        if self.normalised { unit(vector) } else { vector }
    }
}

fn unit_rows(rows: &[Vec<f32>]) -> Vec<Vec<f32>> {
    rows.iter().cloned().map(unit).collect()
}

/// Brings a vector to length 1; the zero vector stays.
pub fn unit(mut vector: Vec<f32>) -> Vec<f32> {
    let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    if norm > 0.0 {
        vector.iter_mut().for_each(|x| *x /= norm);
    }
    vector
}
