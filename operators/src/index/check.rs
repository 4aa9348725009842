//! What may be stored in a field, and what may be asked of it.

use freshet_schemas::{SparseVector, VectorKind};

use super::{FieldSpec, Probe, RowVector, Scoring};

/// Says what of a row's vector does not fit a field, with both sizes.
///
/// # Errors
/// What does not fit.
pub fn fits(spec: &FieldSpec, vector: &RowVector) -> Result<(), String> {
    match (spec.kind, vector) {
        (VectorKind::Dense, RowVector::Dense(vector)) => dense(spec, vector),
        (VectorKind::Multi, RowVector::Multi(matrix)) if matrix.dim != spec.size => {
            Err(format!("has {} dimensions, index has {}", matrix.dim, spec.size))
        }
        (VectorKind::Multi, RowVector::Multi(matrix)) => multi(spec, &matrix.codes, &matrix.scales),
        (VectorKind::Sparse, RowVector::Sparse(vector)) => fits_sparse(spec, vector),
        (VectorKind::Dense | VectorKind::Sparse | VectorKind::Multi, _) => Err(unlike(spec)),
    }
}

/// Says what of a sparse vector does not fit a field.
///
/// # Errors
/// What does not fit.
pub fn fits_sparse(spec: &FieldSpec, vector: &SparseVector) -> Result<(), String> {
    sparse(spec, &vector.indices, &vector.values)
}

/// Says what of the terms and weights of a sparse vector does not fit a field.
///
/// # Errors
/// What does not fit.
pub fn sparse(spec: &FieldSpec, indices: &[u64], values: &[f32]) -> Result<(), String> {
    if spec.kind != VectorKind::Sparse {
        return Err(unlike(spec));
    }
    if indices.len() != values.len() {
        return Err(format!("has {} indices and {} values", indices.len(), values.len()));
    }
    if !indices.is_sorted_by(|a, b| a < b) {
        return Err("has indices that do not ascend".into());
    }
    weights(spec, values)
}

/// Says what of the weights of a sparse vector does not fit a field.
///
/// # Errors
/// What does not fit.
pub fn weights(spec: &FieldSpec, values: &[f32]) -> Result<(), String> {
    let counts = matches!(spec.scoring, Scoring::Bm25 { .. });
    match are_finite(values) && !(counts && values.iter().fold(false, |odd, value| odd | (*value < 0.0))) {
        true => Ok(()),
        false if counts => Err("has a count that is negative or not finite".into()),
        false => Err("has a value that is not finite".into()),
    }
}

/// Says what of a probe does not fit a field, with both sizes.
///
/// # Errors
/// What does not fit.
pub fn suits(spec: &FieldSpec, probe: &Probe) -> Result<(), String> {
    match (spec.kind, probe) {
        (VectorKind::Dense, Probe::Dense(vector)) => dense(spec, vector),
        (VectorKind::Sparse, Probe::Sparse { terms, length_mean }) => {
            let finite = length_mean.is_finite() && terms.iter().all(|(_, weight)| weight.is_finite());
            match (terms.is_sorted_by(|(a, _), (b, _)| a < b), finite) {
                (false, _) => Err("has terms that do not ascend".into()),
                (true, false) => Err("has a weight that is not finite".into()),
                (true, true) => Ok(()),
            }
        }
        (VectorKind::Multi, Probe::Multi(tokens)) => {
            if let Some(token) = tokens.iter().find(|token| token.len() != spec.size) {
                return Err(format!("has {} dimensions, index has {}", token.len(), spec.size));
            }
            match tokens.iter().flatten().all(|value| value.is_finite()) {
                true => Ok(()),
                false => Err("has a value that is not finite".into()),
            }
        }
        (VectorKind::Dense | VectorKind::Sparse | VectorKind::Multi, _) => Err(unlike(spec)),
    }
}

fn unlike(spec: &FieldSpec) -> String {
    match spec.kind {
        VectorKind::Dense => "is not dense, field is",
        VectorKind::Sparse => "is not sparse, field is",
        VectorKind::Multi => "is not a multi-vector, field is",
    }
    .into()
}

fn dense(spec: &FieldSpec, vector: &[f32]) -> Result<(), String> {
    if vector.len() != spec.size {
        return Err(format!("has {} dimensions, index has {}", vector.len(), spec.size));
    }
    match are_finite(vector) {
        true => Ok(()),
        false => Err("has a value that is not finite".into()),
    }
}

/// Whether all values are finite; many are looked at at once.
pub fn are_finite(values: &[f32]) -> bool {
    const EXPONENT: u32 = 0x7F80_0000;
    !values.iter().fold(false, |odd, value| odd | (value.to_bits() & EXPONENT == EXPONENT))
}

/// Says what of the codes and scales of some tokens does not fit a field.
///
/// # Errors
/// What does not fit.
pub fn multi(spec: &FieldSpec, codes: &[i8], scales: &[f32]) -> Result<(), String> {
    if codes.len() != scales.len() * spec.size {
        let (values, tokens) = (codes.len(), scales.len());
        return Err(format!("has {values} values for {tokens} tokens of {} dimensions", spec.size));
    }
    match scales.iter().all(|scale| scale.is_finite() && *scale >= 0.0) && !codes.contains(&i8::MIN) {
        true => Ok(()),
        false => Err("has a scale that is negative or not finite, or a code of −128".into()),
    }
}
