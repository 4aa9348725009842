//! How a codebook is made: k-means, without chance, on one thread, in the same way on every machine.

use std::ops::Range;

use super::codebook::{Codebook, WORDS, Words, length};
use super::maxsim::Tokens;

/// Tokens that a codebook is made from, about.
pub(super) const SAMPLE: usize = 65_536;
/// Tokens that the words are made from: 128 for each.
const SAMPLE_WORDS: usize = 32_768;
const ROUNDS_CENTROIDS: usize = 6;
const ROUNDS_WORDS: usize = 8;
const CENTROIDS_MIN: usize = 64;
const CENTROIDS_MAX: usize = 4096;
/// Most bytes of the centroids of very long vectors, unless they are fewer than the fewest.
const CENTROIDS_BYTES: usize = 1 << 22;

/// Some tokens: row-major `[_, size]`, none of them zero.
pub(super) struct Sample {
    /// Dimensions.
    pub(super) size: usize,
    codes: Vec<i8>,
}

impl Sample {
    pub(super) fn new(size: usize) -> Self {
        Self { size, codes: Vec::new() }
    }

    /// Whether the token of a number, of so many, is taken. Not every n-th: rows of one length would then give tokens of
    /// one place.
    pub(super) fn takes(number: usize, of: usize) -> bool {
        let mut hash =
            (number as u64).wrapping_add(0x9E37_79B9_7F4A_7C15).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        hash ^= hash >> 31;
        // The high part of the product is even in 0..of.
        (u128::from(hash) * of as u128) >> 64 < SAMPLE as u128
    }

    /// Adds those of a row's tokens that are taken; the row's first one has this number, of so many.
    pub(super) fn add(&mut self, tokens: Tokens<'_>, first: usize, of: usize) {
        for (token, number) in tokens.codes.chunks_exact(self.size).zip(first..) {
            if Self::takes(number, of) && token.iter().any(|&code| code != 0) {
                self.codes.extend_from_slice(token);
            }
        }
    }

    /// The tokens, all of one length, which is as large as bytes allow; and that length.
    #[allow(clippy::cast_possible_truncation, reason = "within ±127")]
    pub(super) fn on_grid(mut self) -> Option<(Vec<i8>, f32)> {
        let largest = |row: &[i8]| row.iter().map(|code| code.unsigned_abs()).max().map_or(0.0, f32::from);
        let rows = || self.codes.chunks_exact(self.size);
        let most = rows().map(|row| largest(row) / length(row)).fold(0.0, f32::max);
        if most == 0.0 {
            return None;
        }
        let unit = 127.0 / most;
        for row in self.codes.chunks_exact_mut(self.size) {
            let times = unit / length(row);
            row.iter_mut().for_each(|code| *code = (f32::from(*code) * times).round() as i8);
        }
        Some((self.codes, unit))
    }
}

/// Gives a codebook its centroids, by k-means of directions (Dhillon & Modha 2001); whose each point is comes back.
pub(super) fn centroids(book: &mut Codebook, points: &[i8], tokens: usize) -> Vec<u16> {
    let (size, count) = (book.size(), points.len() / book.size());
    let room = (CENTROIDS_BYTES / size).max(CENTROIDS_MIN);
    let wanted = (4 * tokens.max(1).isqrt()).clamp(CENTROIDS_MIN, CENTROIDS_MAX.min(room));
    let number = (1 << wanted.ilog2()).min(count);
    let first = |place: usize| &points[place * count / number * size..][..size];
    book.set_centroids((0..number).flat_map(first).copied().collect());
    for _ in 0..ROUNDS_CENTROIDS {
        let owners = book.nearest(points);
        let means = means(points, &owners, book.take_centroids(), size);
        book.set_centroids(means);
    }
    book.nearest(points)
}

/// The mean of each centroid's points; where there are none, the centroid as it was.
#[allow(clippy::cast_possible_truncation, reason = "means of bytes")]
fn means(points: &[i8], owners: &[u16], mut centroids: Vec<i8>, size: usize) -> Vec<i8> {
    let mut sums = vec![0i32; centroids.len()];
    let mut counts = vec![0i32; centroids.len() / size];
    for (point, &owner) in points.chunks_exact(size).zip(owners) {
        let owner = usize::from(owner);
        counts[owner] += 1;
        sums[owner * size..][..size].iter_mut().zip(point).for_each(|(sum, value)| *sum += i32::from(*value));
    }
    for ((row, sums), count) in centroids.chunks_exact_mut(size).zip(sums.chunks_exact(size)).zip(counts) {
        if count > 0 {
            row.iter_mut()
                .zip(sums)
                .for_each(|(mean, sum)| *mean = (*sum as f32 / count as f32).round() as i8);
        }
    }
    centroids
}

/// The words of one part of the residuals, by k-means.
#[allow(clippy::cast_possible_truncation, reason = "limited to ±127")]
pub(super) fn words(
    points: &[i8],
    owners: &[u16],
    centroids: &[i8],
    size: usize,
    part: Range<usize>,
) -> Vec<Vec<i8>> {
    let step = owners.len().div_ceil(SAMPLE_WORDS).max(1);
    let residual = |(point, &owner): (&[i8], &u16)| -> Vec<f32> {
        let centroid = &centroids[usize::from(owner) * size..][..size];
        let left = |(value, centroid): (&i8, &i8)| f32::from(*value) - f32::from(*centroid);
        point[part.clone()].iter().zip(&centroid[part.clone()]).map(left).collect()
    };
    let residuals: Vec<Vec<f32>> =
        points.chunks_exact(size).zip(owners).step_by(step).map(residual).collect();
    let mut words: Vec<Vec<f32>> =
        (0..WORDS).map(|word| residuals[word * residuals.len() / WORDS].clone()).collect();
    for _ in 0..ROUNDS_WORDS {
        improve(&mut words, &residuals);
    }
    words
        .iter()
        .map(|word| word.iter().map(|value| value.round().clamp(-127.0, 127.0) as i8).collect())
        .collect()
}

/// One round of k-means. A word that is nobody's nearest becomes the vector that is worst off.
fn improve(words: &mut [Vec<f32>], vectors: &[Vec<f32>]) {
    let turned = Words::new(words);
    let mut sums = vec![vec![0f32; words.first().map_or(0, Vec::len)]; words.len()];
    let mut counts = vec![0u32; words.len()];
    let mut far = Vec::with_capacity(vectors.len());
    for (place, vector) in vectors.iter().enumerate() {
        let (word, near) = turned.nearest(vector);
        counts[usize::from(word)] += 1;
        sums[usize::from(word)].iter_mut().zip(vector).for_each(|(sum, value)| *sum += value);
        far.push((vector.iter().map(|value| value * value).sum::<f32>() / 2.0 - near, place));
    }
    if counts.contains(&0) {
        far.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    }
    let mut worst = far.into_iter();
    for ((word, sum), count) in words.iter_mut().zip(sums).zip(counts) {
        if count > 0 {
            word.iter_mut().zip(sum).for_each(|(value, sum)| *value = sum / count as f32);
        } else if let Some((_, place)) = worst.next() {
            word.clone_from(&vectors[place]);
        }
    }
}
