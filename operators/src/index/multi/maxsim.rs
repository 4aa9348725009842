//! MaxSim: how well the tokens of a query are each met by the tokens of a document.
//!
//! MaxSim(q, d) = Σ over query tokens i of max over document tokens j of q_i · d_j
//! (Khattab & Zaharia 2020, ColBERT, <https://arxiv.org/abs/2004.12832>, eq. 3).
//!
//! Document tokens are int8 with a scale each, and so are query tokens. The products are integers, their sums are exact in
//! any order, and every kernel gives the same bits. Rounding a query token moves its dot products by about 10⁻³ of their
//! size; tokens of small integers or halves are not rounded at all.

use std::cell::RefCell;
use std::sync::OnceLock;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;

/// Largest number of dimensions for which sums of products cannot overflow: 65 536 · 255 · 127 < 2³¹.
pub const DIM_MAX: usize = 65_536;

/// Query tokens scored in one pass over the document's by the kernels that widen to 16 bits.
const TILE: usize = 4;

/// The largest code.
const LIMIT: f64 = 127.0;

/// Tokens of a document: row i is `codes[i·dim..][..dim] · scales[i]`.
#[derive(Clone, Copy, Debug)]
pub struct Tokens<'a> {
    /// Row-major `[tokens, dim]`, −127..=127.
    pub codes: &'a [i8],
    /// `[tokens]`
    pub scales: &'a [f32],
}

/// A query's tokens, rounded. Invariants: `codes` is row-major [tokens rounded up to `TILE`, dim], the rows added being
/// zero; `scales` is `[tokens]`; |code| ≤ 127.
#[derive(Debug)]
pub struct Query {
    dim: usize,
    codes: Vec<i16>,
    #[cfg(target_arch = "x86_64")]
    bytes: avx512::Bytes,
    scales: Vec<f64>,
    /// Per query token its best dot product with the document under way.
    best: RefCell<Vec<f32>>,
}

impl Query {
    /// Rounds tokens: `[tokens][dim]`, finite.
    pub fn new(tokens: &[Vec<f32>], dim: usize) -> Self {
        let rows = tokens.len().next_multiple_of(TILE);
        let mut codes = Vec::with_capacity(rows * dim);
        let mut scales = Vec::with_capacity(tokens.len());
        for token in tokens {
            assert_eq!(token.len(), dim, "dimensions of a query token");
            let scale = scale_of(token);
            codes.extend(token.iter().map(|&value| rounded(f64::from(value) / scale)));
            scales.push(scale);
        }
        codes.resize(rows * dim, 0);
        Self::of(codes, scales, dim)
    }

    /// Of tokens that are codes already, row-major `[_, dim]`, −127..=127; all of scale 1.
    pub(super) fn of_codes(codes: &[i8], dim: usize) -> Self {
        let tokens = codes.len() / dim;
        let mut codes: Vec<i16> = codes.iter().map(|&code| i16::from(code)).collect();
        codes.resize(tokens.next_multiple_of(TILE) * dim, 0);
        Self::of(codes, vec![1.0; tokens], dim)
    }

    fn of(codes: Vec<i16>, scales: Vec<f64>, dim: usize) -> Self {
        let rows = scales.len().next_multiple_of(TILE);
        Self {
            dim,
            #[cfg(target_arch = "x86_64")]
            bytes: avx512::Bytes::new(&codes, dim),
            codes,
            scales,
            best: RefCell::new(vec![0.0; rows]),
        }
    }

    /// Whether there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.scales.is_empty()
    }

    /// Calls with the best dot product of each token, before its scale, with a token of a document that has some.
    pub(super) fn with_best_dots(&self, document: Tokens<'_>, call: impl FnOnce(&[f32])) {
        let mut best = self.best.borrow_mut();
        Kernel::best().best_dots(self, document, &mut best);
        call(&best);
    }

    /// MaxSim with a document; `None` if either has no tokens.
    pub fn max_sim(&self, document: Tokens<'_>) -> Option<f64> {
        self.max_sim_by(Kernel::best(), document)
    }

    /// As [`Query::max_sim`], by a given kernel.
    pub fn max_sim_by(&self, kernel: Kernel, document: Tokens<'_>) -> Option<f64> {
        assert_eq!(document.codes.len(), document.scales.len() * self.dim, "dimensions of a document");
        if self.is_empty() || document.scales.is_empty() {
            return None;
        }
        let mut best = self.best.borrow_mut();
        kernel.best_dots(self, document, &mut best);
        // Sums begin at −0, which would order below 0.
        Some(
            0.0 + self
                .scales
                .iter()
                .zip(best.iter())
                .map(|(scale, dot)| scale * f64::from(*dot))
                .sum::<f64>(),
        )
    }
}

/// The scale of a token's codes: a power of two where nothing is lost by that, else what uses all codes.
fn scale_of(token: &[f32]) -> f64 {
    let largest = f64::from(token.iter().fold(0f32, |largest, value| largest.max(value.abs())));
    if largest == 0.0 {
        return 1.0;
    }
    let power = (largest / LIMIT).log2().ceil().exp2();
    let whole = |value: &f32| (f64::from(*value) / power).fract() == 0.0;
    if largest / power <= LIMIT && token.iter().all(whole) { power } else { largest / LIMIT }
}

#[allow(clippy::cast_possible_truncation, reason = "within ±127")]
fn rounded(value: f64) -> i16 {
    value.round() as i16
}

/// The machine code that sums the products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// For any machine.
    Plain,
    /// For x86-64 with AVX2.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// For x86-64 with AVX-512 BW and VNNI.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Kernel {
    /// Those that run here, the fastest last.
    pub fn all() -> Vec<Self> {
        #[allow(unused_mut, reason = "there are more on x86-64")]
        let mut kernels = vec![Self::Plain];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") {
                kernels.push(Self::Avx2);
            }
            if is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vnni") {
                kernels.push(Self::Avx512);
            }
        }
        kernels
    }

    /// The fastest one that runs here.
    pub fn best() -> Self {
        static BEST: OnceLock<Kernel> = OnceLock::new();
        *BEST.get_or_init(|| Self::all().last().copied().unwrap_or(Self::Plain))
    }

    /// For each query token its best dot product with a token of the document.
    fn best_dots(self, query: &Query, document: Tokens<'_>, best: &mut [f32]) {
        let by_tile = |of_tile: &dyn Fn(&[i16]) -> [f32; TILE], best: &mut [f32]| {
            for (tile, best) in query.codes.chunks_exact(TILE * query.dim).zip(best.chunks_exact_mut(TILE)) {
                best.copy_from_slice(&of_tile(tile));
            }
        };
        match self {
            Self::Plain => by_tile(&|tile| best_dots(tile, document), best),
            // SAFETY: chosen only where the machine has AVX2.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => by_tile(&|tile| unsafe { avx2::best_dots(tile, document) }, best),
            // SAFETY: chosen only where the machine has AVX-512 BW and VNNI.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { avx512::best_dots(&query.bytes, document, best) },
        }
    }
}

fn best_dots(tile: &[i16], document: Tokens<'_>) -> [f32; TILE] {
    let dim = tile.len() / TILE;
    let mut best = [f32::NEG_INFINITY; TILE];
    for (token, scale) in document.codes.chunks_exact(dim).zip(document.scales) {
        best_of(&mut best, dots(tile, token), *scale);
    }
    best
}

/// Takes the dot products with a document token in, of the given scale, where they are better.
#[inline(always)]
fn best_of(best: &mut [f32; TILE], dots: [i32; TILE], scale: f32) {
    for (best, dot) in best.iter_mut().zip(dots) {
        let dot = dot as f32 * scale;
        *best = if dot > *best { dot } else { *best };
    }
}

/// Dot products of a document token with the query tokens of a tile: exact.
fn dots(tile: &[i16], token: &[i8]) -> [i32; TILE] {
    let dim = token.len();
    let (a, b, c, d) = (&tile[..dim], &tile[dim..][..dim], &tile[2 * dim..][..dim], &tile[3 * dim..][..dim]);
    let mut sums = [0i32; TILE];
    for i in 0..dim {
        let code = i32::from(token[i]);
        sums[0] += i32::from(a[i]) * code;
        sums[1] += i32::from(b[i]) * code;
        sums[2] += i32::from(c[i]) * code;
        sums[3] += i32::from(d[i]) * code;
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::TokenMatrix;

    fn tokens_of(matrix: &TokenMatrix) -> Tokens<'_> {
        Tokens { codes: &matrix.codes, scales: &matrix.scales }
    }

    /// A small generator of numbers in −1..1.
    fn noise(seed: &mut u64) -> f32 {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((*seed >> 40) as f32 / (1u64 << 24) as f32).mul_add(2.0, -1.0)
    }

    fn unit(dim: usize, seed: &mut u64) -> Vec<f32> {
        let vector: Vec<f32> = (0..dim).map(|_| noise(seed)).collect();
        let norm = vector.iter().map(|v| v * v).sum::<f32>().sqrt();
        vector.into_iter().map(|value| value / norm).collect()
    }

    fn document(tokens: usize, dim: usize, seed: &mut u64) -> TokenMatrix {
        let mut matrix = TokenMatrix { dim, ..TokenMatrix::default() };
        for _ in 0..tokens {
            let row = unit(dim, seed);
            let scale = row.iter().fold(0f32, |largest, v| largest.max(v.abs())) / 127.0;
            matrix.codes.extend(row.iter().map(|v| (v / scale).round() as i8));
            matrix.scales.push(scale);
        }
        matrix
    }

    fn plainly(query: &[Vec<f32>], document: &TokenMatrix) -> f64 {
        let dot = |q: &[f32], codes: &[i8], scale: f32| {
            q.iter().zip(codes).map(|(q, c)| f64::from(*q) * f64::from(*c)).sum::<f64>() * f64::from(scale)
        };
        let best = |q: &Vec<f32>| {
            let tokens = document.codes.chunks_exact(document.dim).zip(&document.scales);
            tokens.map(|(codes, scale)| dot(q, codes, *scale)).fold(f64::NEG_INFINITY, f64::max)
        };
        query.iter().map(best).sum()
    }

    #[test]
    fn kernels_agree_to_the_bit_and_with_the_formula() {
        let mut seed = 7;
        for (dim, tokens, query) in
            [(1, 1, 1), (7, 3, 2), (64, 9, 5), (33, 8, 4), (384, 41, 16), (1024, 5, 4), (4100, 3, 3)]
        {
            let document = document(tokens, dim, &mut seed);
            let tokens: Vec<Vec<f32>> = (0..query).map(|_| unit(dim, &mut seed)).collect();
            let query = Query::new(&tokens, dim);
            let plain = query.max_sim_by(Kernel::Plain, super::tests::tokens_of(&document)).expect("tokens");
            for kernel in Kernel::all() {
                assert_eq!(
                    query.max_sim_by(kernel, super::tests::tokens_of(&document)),
                    Some(plain),
                    "{kernel:?}, {dim} dimensions"
                );
            }
            let expected = plainly(&tokens, &document);
            assert!(
                (plain - expected).abs() < 1e-3 * tokens.len() as f64,
                "{dim} dimensions: {plain} against {expected}"
            );
        }
    }

    #[test]
    fn nothing_overflows() {
        for dim in [1, 516, 517, 1024, 20_000, DIM_MAX] {
            let document = TokenMatrix { dim, codes: vec![-127; dim], scales: vec![1.0] };
            let query = Query::new(&[vec![-1.0; dim]], dim);
            let expected = 127.0 * dim as f64;
            for kernel in Kernel::all() {
                let found = query.max_sim_by(kernel, super::tests::tokens_of(&document)).expect("tokens");
                assert!((found - expected).abs() < 1e-3 * expected, "{dim} dimensions, {kernel:?}");
            }
        }
    }

    #[test]
    fn small_integers_are_exact() {
        let document = TokenMatrix { dim: 3, codes: vec![1, -2, 3, 2, 0, 0], scales: vec![1.0, 0.5] };
        let query = Query::new(&[vec![1.0, 1.0, 1.0], vec![0.5, -3.0, 0.0], vec![0.0; 3]], 3);
        assert_eq!(query.max_sim(tokens_of(&document)), Some(2.0 + 6.5 + 0.0));
        assert_eq!(query.max_sim(tokens_of(&TokenMatrix::default())), None);
        assert_eq!(Query::new(&[], 3).max_sim(tokens_of(&document)), None);
    }
}
