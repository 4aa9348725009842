//! What a run gives → what is stored: pooled, normalised, quantised, weighed, scored.

use freshet_schemas::SparseVector;

use super::model::{Activation, Head, Pooling, Tokens};
use super::{Embedding, ModelInfo, TokenMatrix, Wants};

/// Largest code of a quantised value.
const CODE_MAX: f32 = 127.0;

/// Makes the embedding of one text from its rows, `[tokens, dim]`, padding left out.
pub(super) fn embedding(
    rows: &[f32],
    text: &Tokens,
    model: &ModelInfo,
    wants: Wants,
) -> Result<Embedding, String> {
    if !rows.iter().all(|value| value.is_finite()) {
        return Err("the model gave a value that is not finite".to_owned());
    }
    let mut embedding = Embedding::default();
    match model.head {
        Head::Dense { pooling, normalize: unit } => {
            embedding.dense = pooled(rows, model.dim, pooling);
            if unit {
                normalize(&mut embedding.dense);
            }
            token_vectors(&mut embedding, rows, text, model.dim, wants);
        }
        // Whatever is asked of it, token vectors are all that it gives.
        Head::LateInteraction(_) => token_vectors(&mut embedding, rows, text, model.dim, wants),
        Head::Sparse => embedding.sparse = Some(weights(rows, model.dim)),
        Head::CrossEncoder { activation } => {
            embedding.score = rows.first().map(|logit| score(*logit, activation))
        }
    }
    Ok(embedding)
}

/// Adds token vectors of unit length, as they are wanted.
fn token_vectors(to: &mut Embedding, rows: &[f32], text: &Tokens, dim: usize, wants: Wants) {
    let kept = |(place, row): (usize, &[f32])| {
        let mut unit = row.to_vec();
        normalize(&mut unit);
        text.skipped.binary_search(&place).is_err().then_some(unit)
    };
    let unit_rows = rows.chunks_exact(dim).enumerate().filter_map(kept);
    match wants {
        Wants::Dense => {}
        Wants::Tokens => to.tokens = Some(quantize(unit_rows, dim)),
        Wants::Rows => to.rows = Some(unit_rows.collect()),
    }
}

/// One vector of all rows.
fn pooled(rows: &[f32], dim: usize, pooling: Pooling) -> Vec<f32> {
    match pooling {
        Pooling::Cls => rows[..dim].to_vec(),
        Pooling::LastToken => rows[rows.len() - dim..].to_vec(),
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

/// SPLADE's weights: ln(1 + max(0, x)) grows with x, so that the greatest logit has the greatest weight.
fn weights(logits: &[f32], words: usize) -> SparseVector {
    let mut greatest = vec![0.0_f32; words];
    for row in logits.chunks_exact(words) {
        for (greatest, logit) in greatest.iter_mut().zip(row) {
            *greatest = greatest.max(*logit);
        }
    }
    let weighed = (0_u64..).zip(greatest).filter(|(_, logit)| *logit > 0.0);
    let (indices, values) = weighed.map(|(word, logit)| (word, logit.ln_1p())).unzip();
    SparseVector { indices, values }
}

fn score(logit: f32, activation: Activation) -> f32 {
    match activation {
        Activation::None => logit,
        Activation::Sigmoid => 1.0 / (1.0 + (-logit).exp()),
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
