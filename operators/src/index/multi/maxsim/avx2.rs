//! The kernel for x86-64 with AVX2: sixteen 16-bit products at a time, summed in pairs.
//!
//! LLVM multiplies 32-bit integers where the plain kernel is written, and takes five times as long.

use std::arch::x86_64::{
    __m256i, _mm_add_epi32, _mm_loadu_si128, _mm_storeu_si128, _mm256_add_epi32, _mm256_castsi256_si128,
    _mm256_cvtepi8_epi16, _mm256_extracti128_si256, _mm256_hadd_epi32, _mm256_loadu_si256, _mm256_madd_epi16,
    _mm256_setzero_si256,
};

use super::{TILE, Tokens, best_of};

/// Document tokens per pass: with `TILE` query tokens, 8 running sums in registers.
const PAIR: usize = 2;

/// Codes per step.
const STEP: usize = 16;

/// For each query token of a tile its best dot product with a token of the document.
#[target_feature(enable = "avx2")]
pub(super) fn best_dots(tile: &[i16], document: Tokens<'_>) -> [f32; TILE] {
    let dim = tile.len() / TILE;
    let mut best = [f32::NEG_INFINITY; TILE];
    for (codes, scales) in document.codes.chunks(PAIR * dim).zip(document.scales.chunks(PAIR)) {
        let (first, second) = codes.split_at(dim);
        // A last token without a partner is its own; `scales` holds it once.
        let pair = [first, if second.is_empty() { first } else { second }];
        for (dots, scale) in dots(tile, pair).into_iter().zip(scales) {
            best_of(&mut best, dots, *scale);
        }
    }
    best
}

/// Dot products of two document tokens with the query tokens of a tile: exact.
#[inline]
#[target_feature(enable = "avx2")]
fn dots(tile: &[i16], pair: [&[i8]; PAIR]) -> [[i32; TILE]; PAIR] {
    let dim = pair[0].len();
    assert!(
        tile.len() == TILE * dim && pair[1].len() == dim,
        "a tile of {} codes, tokens of {dim}",
        tile.len()
    );
    let whole = dim / STEP * STEP;
    let mut sums = [[_mm256_setzero_si256(); PAIR]; TILE];
    for i in (0..whole).step_by(STEP) {
        // SAFETY: each token has `dim` codes, and i + STEP ≤ dim.
        let codes = unsafe { [step(pair[0].as_ptr().add(i)), step(pair[1].as_ptr().add(i))] };
        for (query, sums) in sums.iter_mut().enumerate() {
            // SAFETY: the tile has TILE · dim codes, query < TILE, and i + STEP ≤ dim.
            let query = unsafe { _mm256_loadu_si256(tile.as_ptr().add(query * dim + i).cast()) };
            for (sum, codes) in sums.iter_mut().zip(codes) {
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(query, codes));
            }
        }
    }
    // By name: closures would keep the sums in memory.
    let [[a, e], [b, f], [c, g], [d, h]] = sums;
    let mut dots = [totals([a, b, c, d]), totals([e, f, g, h])];
    for (dots, token) in dots.iter_mut().zip(pair).filter(|_| whole < dim) {
        for (query, dot) in dots.iter_mut().enumerate() {
            let rest = tile[query * dim..][whole..dim].iter().zip(&token[whole..]);
            *dot += rest.map(|(query, code)| i32::from(*query) * i32::from(*code)).sum::<i32>();
        }
    }
    dots
}

/// `STEP` codes, widened.
///
/// # Safety
/// As many can be read.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn step(codes: *const i8) -> __m256i {
    // SAFETY: the caller's promise; the load needs no alignment.
    unsafe { _mm256_cvtepi8_epi16(_mm_loadu_si128(codes.cast())) }
}

/// The sums of the eight integers of each.
#[inline]
#[target_feature(enable = "avx2")]
fn totals([a, b, c, d]: [__m256i; TILE]) -> [i32; TILE] {
    let halves = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
    let totals = _mm_add_epi32(_mm256_castsi256_si128(halves), _mm256_extracti128_si256::<1>(halves));
    let mut array = [0; TILE];
    // SAFETY: four 32-bit integers are written to an array of four.
    unsafe { _mm_storeu_si128(array.as_mut_ptr().cast(), totals) };
    array
}
