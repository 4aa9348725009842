//! The kernel for x86-64 with AVX-512 BW and VNNI: 64 products of bytes in one instruction.
//!
//! Sixteen document tokens at a time are turned, four dimensions by four, so that each of the sixteen lanes of a register
//! belongs to one token: then nothing is summed across lanes. `vpdpbusd` multiplies unsigned by signed bytes: document
//! codes have 128 added, and 128 · Σ codes of the query token is taken away at the end.

use std::arch::x86_64::{
    __m512, __m512i, _MM_HINT_T0, _mm_prefetch, _mm512_cvtepi32_ps, _mm512_dpbusd_epi32, _mm512_mask_max_ps,
    _mm512_maskz_loadu_epi8, _mm512_maskz_loadu_ps, _mm512_mul_ps, _mm512_reduce_max_ps, _mm512_set1_epi8,
    _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_si512, _mm512_shuffle_i32x4, _mm512_sub_epi32,
    _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
    _mm512_xor_si512,
};
use std::cell::RefCell;

use super::Tokens;

/// Document tokens at a time: lanes of a register.
const LANES: usize = 16;

/// Dimensions that a product of one lane sums.
const GROUP: usize = 4;

/// Dimensions turned at a time: a register of each token.
const STEP: usize = LANES * GROUP;

/// Query tokens at a time: as many sums stay in registers.
const TILE: usize = 8;

/// Bytes that memory is fetched by.
const LINE: usize = 64;

/// A query's codes as bytes. Invariants: `codes` is row-major [tokens rounded up to `TILE`, dim rounded up to `STEP`],
/// what was added being zero; `biases` is 128 · the sum of each row.
#[derive(Debug)]
pub(super) struct Bytes {
    dim: usize,
    codes: Vec<i8>,
    biases: Vec<i32>,
    /// The document tokens under way, turned: [groups of dimensions], each lane a token.
    turned: RefCell<Vec<__m512i>>,
    /// Per query token and lane the best dot product so far.
    tops: RefCell<Vec<__m512>>,
}

impl Bytes {
    /// From codes of a byte each, row-major `[_, dim]`.
    #[allow(clippy::cast_possible_truncation, reason = "codes are within ±127")]
    pub(super) fn new(codes: &[i16], dim: usize) -> Self {
        let width = dim.next_multiple_of(STEP);
        let rows = codes.len() / dim.max(1);
        let mut bytes = Vec::with_capacity(rows.next_multiple_of(TILE) * width);
        for row in codes.chunks_exact(dim.max(1)) {
            bytes.extend(row.iter().map(|&code| code as i8));
            bytes.resize(bytes.len().next_multiple_of(width), 0);
        }
        bytes.resize(rows.next_multiple_of(TILE) * width, 0);
        let bias = |row: &[i8]| 128 * row.iter().map(|&code| i32::from(code)).sum::<i32>();
        let biases = bytes.chunks_exact(width.max(1)).map(bias).collect();
        Self { dim, codes: bytes, biases, turned: RefCell::default(), tops: RefCell::default() }
    }
}

/// For each query token its best dot product with a token of the document.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) fn best_dots(query: &Bytes, document: Tokens<'_>, best: &mut [f32]) {
    let width = query.dim.next_multiple_of(STEP);
    let mut turned = query.turned.borrow_mut();
    turned.resize(width / GROUP, _mm512_setzero_si512());
    let mut tops = query.tops.borrow_mut();
    tops.clear();
    tops.resize(query.biases.len(), _mm512_set1_ps(f32::NEG_INFINITY));
    let blocks = document.codes.chunks(LANES * query.dim).zip(document.scales.chunks(LANES));
    for (codes, scales) in blocks {
        turn(codes, query.dim, &mut turned);
        let there = u16::MAX >> (LANES - scales.len());
        // SAFETY: reads as many scales as the mask has bits.
        let scales = unsafe { _mm512_maskz_loadu_ps(there, scales.as_ptr()) };
        let tiles = query.codes.chunks_exact(TILE * width).zip(query.biases.chunks_exact(TILE));
        // The next block comes while this one is worked on, a share with each tile.
        let lines = turned.len().div_ceil((query.biases.len() / TILE).max(1));
        let mut next = codes.as_ptr().wrapping_add(codes.len());
        for ((tile, biases), tops) in tiles.zip(tops.as_chunks_mut::<TILE>().0) {
            let sums = sums(tile, width, &turned, next, lines);
            next = next.wrapping_add(lines * LINE);
            for ((sum, bias), top) in sums.into_iter().zip(biases).zip(tops) {
                let dots = _mm512_cvtepi32_ps(_mm512_sub_epi32(sum, _mm512_set1_epi32(*bias)));
                *top = _mm512_mask_max_ps(*top, there, *top, _mm512_mul_ps(dots, scales));
            }
        }
    }
    best.iter_mut().zip(tops.iter()).for_each(|(best, top)| *best = _mm512_reduce_max_ps(*top));
}

/// Per query token of a tile and lane the sum of the products. Meanwhile so many lines from `next` on are fetched: sixteen
/// tokens side by side are more than the machine foresees by itself, and waiting for them takes as long as the products.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn sums(tile: &[i8], width: usize, turned: &[__m512i], next: *const i8, lines: usize) -> [__m512i; TILE] {
    assert!(tile.len() == TILE * width && turned.len() * GROUP == width, "a tile of {} codes", tile.len());
    let mut sums = [_mm512_setzero_si512(); TILE];
    let mut codes = tile.as_ptr();
    for (line, turned) in turned.chunks(turned.len().div_ceil(lines.max(1)).max(1)).enumerate() {
        // A hint, which reads nothing: what lies there need not belong to the process.
        _mm_prefetch::<_MM_HINT_T0>(next.wrapping_add(line * LINE));
        for tokens in turned {
            for (query, sum) in sums.iter_mut().enumerate() {
                // SAFETY: `codes` has moved by GROUP per register, of which there are width / GROUP, and query < TILE.
                let codes = unsafe { codes.add(query * width).cast::<i32>().read_unaligned() };
                *sum = _mm512_dpbusd_epi32(*sum, *tokens, _mm512_set1_epi32(codes));
            }
            codes = codes.wrapping_add(GROUP);
        }
    }
    sums
}

/// Turns up to sixteen tokens, with 128 added to their codes; lanes without a token get some value.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn turn(codes: &[i8], dim: usize, turned: &mut [__m512i]) {
    let sign = _mm512_set1_epi8(i8::MIN);
    let tokens = codes.len() / dim;
    for (step, turned) in turned.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        let start = step * STEP;
        let mask = u64::MAX >> (STEP - (dim - start).min(STEP));
        let mut rows = [_mm512_setzero_si512(); LANES];
        for (token, row) in rows.iter_mut().enumerate().take(tokens) {
            // SAFETY: reads only the bytes of the mask, which lie within the token.
            let bytes = unsafe { _mm512_maskz_loadu_epi8(mask, codes.as_ptr().add(token * dim + start)) };
            *row = _mm512_xor_si512(bytes, sign);
        }
        *turned = transposed(rows);
    }
}

/// The transpose of sixteen times sixteen integers.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn transposed(rows: [__m512i; LANES]) -> [__m512i; LANES] {
    let mut pairs = rows;
    for i in 0..LANES / 2 {
        pairs[2 * i] = _mm512_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
        pairs[2 * i + 1] = _mm512_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
    }
    // In each 128-bit lane l of quads[4q + c]: column 4l + c of rows 4q..4q + 4.
    let mut quads = pairs;
    for q in 0..LANES / 4 {
        for half in 0..2 {
            let (a, b) = (pairs[4 * q + half], pairs[4 * q + 2 + half]);
            quads[4 * q + 2 * half] = _mm512_unpacklo_epi64(a, b);
            quads[4 * q + 2 * half + 1] = _mm512_unpackhi_epi64(a, b);
        }
    }
    let mut columns = quads;
    for c in 0..4 {
        let [a, b, d, e] = [quads[c], quads[4 + c], quads[8 + c], quads[12 + c]];
        let (low, high) = (_mm512_shuffle_i32x4::<0x44>(a, b), _mm512_shuffle_i32x4::<0xEE>(a, b));
        let (low2, high2) = (_mm512_shuffle_i32x4::<0x44>(d, e), _mm512_shuffle_i32x4::<0xEE>(d, e));
        columns[c] = _mm512_shuffle_i32x4::<0x88>(low, low2);
        columns[4 + c] = _mm512_shuffle_i32x4::<0xDD>(low, low2);
        columns[8 + c] = _mm512_shuffle_i32x4::<0x88>(high, high2);
        columns[12 + c] = _mm512_shuffle_i32x4::<0xDD>(high, high2);
    }
    columns
}
