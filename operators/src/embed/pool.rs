//! Token vectors → what is stored: pooled, normalised, quantised.

use super::model::Pooling;
use super::{Embedding, ModelInfo, TokenMatrix, Wants};

/// Largest code of a quantised value.
const CODE_MAX: f32 = 127.0;

/// Makes the embedding of one text from its token vectors, row-major `[tokens, dim]`, padding left out.
pub(super) fn embedding(rows: &[f32], model: &ModelInfo, wants: Wants) -> Result<Embedding, String> {
    if !rows.iter().all(|value| value.is_finite()) {
        return Err("the model gave a value that is not finite".to_owned());
    }
    let mut dense = pooled(rows, model.dim, model.pooling);
    if model.normalize {
        normalize(&mut dense);
    }
    let unit_rows = || {
        rows.chunks_exact(model.dim).map(|row| {
            let mut unit = row.to_vec();
            normalize(&mut unit);
            unit
        })
    };
    let (tokens, rows) = match wants {
        Wants::Dense => (None, None),
        Wants::Tokens => (Some(quantize(unit_rows(), model.dim)), None),
        Wants::Rows => (None, Some(unit_rows().collect())),
    };
    Ok(Embedding { dense, tokens, rows })
}

/// One vector of all rows.
fn pooled(rows: &[f32], dim: usize, pooling: Pooling) -> Vec<f32> {
    match pooling {
        Pooling::Cls => rows[..dim].to_vec(),
        Pooling::Mean => {
            let mut mean = vec![0.0; dim];
            for row in rows.chunks_exact(dim) {
                for (sum, value) in mean.iter_mut().zip(row) {
                    *sum += value;
                }
            }
            let tokens = (rows.len() / dim) as f32;
            mean.iter_mut().for_each(|sum| *sum /= tokens);
            mean
        }
    }
}

/// Scales to unit length (L2); a vector of zeros stays as it is.
pub(super) fn normalize(vector: &mut [f32]) {
    let norm = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    if norm > 0.0 {
        vector.iter_mut().for_each(|value| *value /= norm);
    }
}

/// Quantises rows of `dim` finite values to 8 bits: code = round(value / scale), scale = max |value| / 127 of the row,
/// so that no value is off by more than half a scale. A row of zeros gets the smallest positive scale.
pub fn quantize(rows: impl Iterator<Item = Vec<f32>>, dim: usize) -> TokenMatrix {
    let mut matrix = TokenMatrix { dim, codes: Vec::new(), scales: Vec::new() };
    for row in rows {
        debug_assert_eq!(row.len(), dim);
        let largest = row.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        let scale = (largest / CODE_MAX).max(f32::MIN_POSITIVE);
        // In range by the choice of scale; the clamp only guards against rounding.
        let code = |value: &f32| (value / scale).round().clamp(-CODE_MAX, CODE_MAX) as i8;
        matrix.codes.extend(row.iter().map(code));
        matrix.scales.push(scale);
    }
    matrix
}
