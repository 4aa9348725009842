//! A short code for token vectors: the nearest of some directions, and by parts what is left over it.
//!
//! A token of unit length is approximated by centroid + residual, the residual being cut into parts of a few dimensions,
//! each of which is replaced by the nearest of 256 words (Santhanam et al. 2021, ColBERTv2,
//! <https://arxiv.org/abs/2112.01488>, sec. 3.3, for the centroids; Jégou et al. 2011, product quantization,
//! <https://inria.hal.science/inria-00514462>, for the parts). A code is two bytes of centroid, two of length and one per
//! part: at most 36 bytes for any dimension.
//!
//! Centroids and words lie on one grid of bytes. A token is decoded by adding bytes to bytes, and what comes out is what
//! MaxSim multiplies. The grid is about ten times finer than what the parts leave over, so nothing is lost by it.

use std::ops::Range;

use xxhash_rust::xxh3::Xxh3;

use super::maxsim::{DIM_MAX, Kernel, Query, Tokens};
use super::train::{self, Sample};
use crate::index::bytes::Bytes;

/// Most parts of a residual; fewer where there are fewer dimensions.
const PARTS: usize = 32;
/// Words of a part, so that a byte names one.
pub(super) const WORDS: usize = 256;
/// Bytes of a code before those of its parts: centroid and length.
const FRONT: usize = 4;
/// Tokens compared with the centroids at once: so many stay in the first cache.
const BATCH: usize = 64;
/// Centroids of which only the best is known before they are looked at one by one.
const BLOCK: usize = 32;

/// Centroids and words. Never changes once it is made.
///
/// Invariants: `centroids` is row-major `[_, size]`, `inverse` has one per centroid; `starts` has the first dimension of
/// each part; `words` is `[parts, WORDS, stride]`, a word being padded with zeros to `stride`; |value| ≤ 127.
pub(super) struct Codebook {
    size: usize,
    /// Hash of all that decodes: books that are read from several files may be one.
    name: u128,
    made_from: usize,
    /// Length of a token of length 1 on the grid.
    unit: f32,
    centroids: Vec<i8>,
    /// 1 / length.
    inverse: Vec<f32>,
    starts: Vec<u32>,
    stride: usize,
    words: Vec<i8>,
}

impl Codebook {
    /// Made from a sample of so many tokens, always the same; `None` if all of them are zero.
    pub(super) fn train(sample: Sample, tokens: usize) -> Option<Self> {
        let size = sample.size;
        let (points, unit) = sample.on_grid()?;
        let mut book = Self {
            size,
            name: 0,
            made_from: tokens,
            unit,
            centroids: Vec::new(),
            inverse: Vec::new(),
            starts: parts(size).map(|part| part.start as u32).collect(),
            stride: 0,
            words: Vec::new(),
        };
        let owners = train::centroids(&mut book, &points, tokens);
        book.stride = stride(size);
        for part in parts(size) {
            for word in train::words(&points, &owners, &book.centroids, size, part) {
                book.words.extend_from_slice(&word);
                book.words.resize(book.words.len() + book.stride - word.len(), 0);
            }
        }
        book.name = book.hash();
        Some(book)
    }

    fn hash(&self) -> u128 {
        let mut hash = Xxh3::new();
        for codes in [&self.centroids, &self.words] {
            hash.update(&(codes.len() as u64).to_le_bytes());
            codes.chunks(BATCH * self.size).for_each(|codes| {
                hash.update(&codes.iter().map(|code| code.cast_unsigned()).collect::<Vec<u8>>());
            });
        }
        hash.digest128()
    }

    /// Whether codes of one are codes of the other.
    pub(super) fn is(&self, other: &Self) -> bool {
        (self.name, self.size) == (other.name, other.size)
    }

    /// All of it as bytes, for `read`: dimensions, tokens it was made from, unit, how many centroids; centroids and words.
    pub(super) fn write(&self, to: &mut Vec<u8>) {
        to.extend((self.size as u32).to_le_bytes());
        to.extend((self.made_from as u64).to_le_bytes());
        to.extend(self.unit.to_le_bytes());
        to.extend((self.inverse.len() as u32).to_le_bytes());
        to.extend(self.centroids.iter().chain(&self.words).map(|code| code.cast_unsigned()));
    }

    /// What `write` gave; `None` of other bytes.
    pub(super) fn read(from: &mut Bytes<'_>) -> Option<Self> {
        let size = u32::from_le_bytes(from.take()?) as usize;
        let made_from = usize::try_from(u64::from_le_bytes(from.take()?)).ok()?;
        let unit = f32::from_le_bytes(from.take()?);
        let centroids = u32::from_le_bytes(from.take()?) as usize;
        if !(1..=DIM_MAX).contains(&size) || !unit.is_finite() {
            return None;
        }
        let starts: Vec<u32> = parts(size).map(|part| part.start as u32).collect();
        let codes = |bytes: &[u8]| bytes.iter().map(|code| code.cast_signed()).collect::<Vec<i8>>();
        let of_centroids = codes(from.bytes(centroids.checked_mul(size)?)?);
        let words = codes(from.bytes(starts.len() * WORDS * stride(size))?);
        if of_centroids.contains(&i8::MIN) || words.contains(&i8::MIN) {
            return None;
        }
        let (centroids, inverse) = (Vec::new(), Vec::new());
        let mut book =
            Self { size, name: 0, made_from, unit, centroids, inverse, starts, stride: stride(size), words };
        book.set_centroids(of_centroids);
        book.name = book.hash();
        Some(book)
    }

    /// Whether codes are those of tokens.
    pub(super) fn knows(&self, codes: &[u8]) -> bool {
        let mut tokens = codes.chunks(self.code_bytes());
        tokens.all(|code| {
            let known = |number: &[u8; 2]| usize::from(u16::from_le_bytes(*number)) < self.inverse.len();
            code.len() == self.code_bytes() && code.first_chunk().is_some_and(known)
        })
    }

    /// Tokens that there were when it was made.
    pub(super) fn made_from(&self) -> usize {
        self.made_from
    }

    /// Bytes of a token's code.
    pub(super) fn code_bytes(&self) -> usize {
        FRONT + self.starts.len()
    }

    /// Bytes of memory, about.
    pub(super) fn bytes(&self) -> usize {
        self.centroids.capacity()
            + self.words.capacity()
            + (self.inverse.capacity() + self.starts.capacity()) * size_of::<f32>()
    }

    /// Dimensions.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// The centroids, which are gone then.
    pub(super) fn take_centroids(&mut self) -> Vec<i8> {
        std::mem::take(&mut self.centroids)
    }

    /// Replaces the centroids.
    pub(super) fn set_centroids(&mut self, centroids: Vec<i8>) {
        // A centroid without a direction is nobody's nearest.
        let inverse = |row: &[i8]| match length(row) {
            0.0 => 0.0,
            length => length.recip(),
        };
        self.inverse = centroids.chunks_exact(self.size).map(inverse).collect();
        self.centroids = centroids;
    }

    /// The number of the centroid nearest in direction to each token, the first one if several are; `tokens` is row-major
    /// `[_, size]`.
    pub(super) fn nearest(&self, tokens: &[i8]) -> Vec<u16> {
        tokens.chunks(BATCH * self.size).flat_map(|batch| self.nearest_of_batch(batch)).collect()
    }

    fn nearest_of_batch(&self, batch: &[i8]) -> Vec<u16> {
        let query = Query::of_codes(batch, self.size);
        let mut best = vec![(f32::NEG_INFINITY, 0); batch.len() / self.size];
        let blocks = self.centroids.chunks(BLOCK * self.size).zip(self.inverse.chunks(BLOCK));
        for (block, (codes, scales)) in blocks.enumerate() {
            query.with_best_dots(Tokens { codes, scales }, |dots| {
                for (best, dot) in best.iter_mut().zip(dots) {
                    if *dot > best.0 {
                        *best = (*dot, block);
                    }
                }
            });
        }
        // The kernel tells the best of a block, not which one it was.
        let within = |(token, (top, block)): (&[i8], (f32, usize))| {
            let first = block * BLOCK;
            let rows =
                self.centroids[first * self.size..].chunks_exact(self.size).zip(&self.inverse[first..]);
            let place = rows.take(BLOCK).position(|(row, scale)| dot(row, token) as f32 * scale == top);
            (first + place.unwrap_or(0)) as u16
        };
        batch.chunks_exact(self.size).zip(best).map(within).collect()
    }

    /// The centroid of a number.
    fn centroid(&self, number: u16) -> &[i8] {
        &self.centroids[usize::from(number) * self.size..][..self.size]
    }

    /// Decodes codes as tokens of a document: into `scratch`, which is made as large as needed.
    pub(super) fn decode<'a>(&self, codes: &[u8], scratch: &'a mut Scratch) -> Tokens<'a> {
        let code_bytes = self.code_bytes();
        let tokens = codes.len() / code_bytes;
        // Words are copied with their padding, which the next word or token overwrites.
        if scratch.codes.len() < tokens * self.size + self.stride {
            scratch.codes.resize(tokens * self.size + self.stride, 0);
        }
        scratch.scales.clear();
        scratch.scales.extend(
            codes.chunks_exact(code_bytes).map(|code| unpacked(u16::from_le_bytes([code[2], code[3]]))),
        );
        match Kernel::best() {
            Kernel::Plain => self.add_all(codes, &mut scratch.codes),
            // SAFETY: the machine has AVX2, which every kernel but the plain one needs.
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 | Kernel::Avx512 => unsafe { self.add_all_wide(codes, &mut scratch.codes) },
        }
        Tokens { codes: &scratch.codes[..tokens * self.size], scales: &scratch.scales }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn add_all_wide(&self, codes: &[u8], values: &mut [i8]) {
        self.add_all(codes, values);
    }

    #[inline(always)]
    fn add_all(&self, codes: &[u8], values: &mut [i8]) {
        match self.stride {
            4 => self.add_strided::<4>(codes, values),
            8 => self.add_strided::<8>(codes, values),
            16 => self.add_strided::<16>(codes, values),
            32 => self.add_strided::<32>(codes, values),
            stride => self.add(codes, values, |words, word, into| {
                into[..stride].copy_from_slice(&words[usize::from(word) * stride..][..stride]);
            }),
        }
    }

    #[inline(always)]
    fn add_strided<const N: usize>(&self, codes: &[u8], values: &mut [i8]) {
        self.add(codes, values, |words, word, into| {
            let word = &words.as_chunks::<N>().0[usize::from(word)];
            into[..N].copy_from_slice(word);
        });
    }

    /// Centroid + words, token by token.
    #[inline(always)]
    fn add(&self, codes: &[u8], values: &mut [i8], copy: impl Fn(&[i8], u8, &mut [i8])) {
        for (token, code) in codes.chunks_exact(self.code_bytes()).enumerate() {
            let values = &mut values[token * self.size..];
            let words = self.words.chunks_exact(WORDS * self.stride);
            for ((&word, words), &start) in code[FRONT..].iter().zip(words).zip(&self.starts) {
                copy(words, word, &mut values[start as usize..]);
            }
            let centroid = self.centroid(u16::from_le_bytes([code[0], code[1]]));
            for (value, of_centroid) in values.iter_mut().zip(centroid) {
                // The kernels take codes of −127 and more.
                *value = value.saturating_add(*of_centroid).max(-127);
            }
        }
    }
}

/// Memory for decoded tokens, used again and again.
#[derive(Default)]
pub(super) struct Scratch {
    codes: Vec<i8>,
    scales: Vec<f32>,
}

/// Bytes of a word of so many dimensions in all: a few widths that are copied in one instruction.
fn stride(size: usize) -> usize {
    let width = parts(size).map(|part| part.len()).max().unwrap_or(0);
    if width > 32 { width } else { width.next_power_of_two().max(4) }
}

/// The dimensions of each part: as even as can be.
fn parts(size: usize) -> impl Iterator<Item = Range<usize>> {
    let parts = size.min(PARTS);
    (0..parts).map(move |part| part * size / parts..(part + 1) * size / parts)
}

fn dot(a: &[i8], b: &[i8]) -> i32 {
    a.iter().zip(b).map(|(a, b)| i32::from(*a) * i32::from(*b)).sum()
}

/// The length of a vector of codes.
pub(super) fn length(codes: &[i8]) -> f32 {
    (dot(codes, codes) as f32).sqrt()
}

/// A positive number in two bytes: all of a float's exponent and eight bits of its fraction, without the sign.
fn packed(value: f32) -> u16 {
    const DROPPED: u32 = 15;
    /// The largest that is finite.
    const MOST: u32 = 0xFEFF;
    let bits = (value.abs().to_bits() + (1 << (DROPPED - 1))) >> DROPPED;
    bits.min(MOST) as u16
}

fn unpacked(packed: u16) -> f32 {
    f32::from_bits(u32::from(packed) << 15)
}

/// Encodes with a codebook; what it prepares is worth many tokens.
pub(super) struct Encoder<'a> {
    book: &'a Codebook,
    parts: Vec<(Range<usize>, Words)>,
    scratch: Scratch,
}

impl<'a> Encoder<'a> {
    pub(super) fn new(book: &'a Codebook) -> Self {
        let rows = book.words.chunks_exact(WORDS * book.stride);
        let of_part = |(part, words): (Range<usize>, &[i8])| {
            let word = |word: &[i8]| word[..part.len()].iter().map(|&value| f32::from(value)).collect();
            let words: Vec<Vec<f32>> = words.chunks_exact(book.stride).map(word).collect();
            (part, Words::new(&words))
        };
        let parts = parts(book.size).zip(rows).map(of_part).collect();
        Self { book, parts, scratch: Scratch::default() }
    }

    /// Hands on the code of each token, in their order.
    pub(super) fn encode(&mut self, tokens: Tokens<'_>, mut each: impl FnMut(&[u8])) {
        let size = self.book.size;
        let nearest = self.book.nearest(tokens.codes);
        let mut residual = vec![0.0; size];
        let mut code = vec![0; self.book.code_bytes()];
        for ((token, scale), centroid) in tokens.codes.chunks_exact(size).zip(tokens.scales).zip(nearest) {
            let token_length = length(token);
            // A zero token has no direction: any code will do, its length is 0.
            let times = if token_length > 0.0 { self.book.unit / token_length } else { 0.0 };
            let of_centroid = self.book.centroid(centroid);
            for ((left, value), of_centroid) in residual.iter_mut().zip(token).zip(of_centroid) {
                *left = f32::from(*value) * times - f32::from(*of_centroid);
            }
            code[..2].copy_from_slice(&centroid.to_le_bytes());
            for ((part, words), byte) in self.parts.iter().zip(&mut code[FRONT..]) {
                *byte = words.nearest(&residual[part.clone()]).0;
            }
            // The length is kept. The one of least error, shorter by the cosine, ranks worse: on Cranfield nDCG@10 of a
            // scan is 0.330 instead of 0.384.
            let decoded = length(self.book.decode(&code, &mut self.scratch).codes);
            let scale = if decoded > 0.0 { scale * token_length / decoded } else { 0.0 };
            code[2..FRONT].copy_from_slice(&packed(scale).to_le_bytes());
            each(&code);
        }
    }
}

/// The words of a part, turned so that all are compared at once: `[dimensions][WORDS]`, and half their squared lengths.
pub(super) struct Words {
    turned: Vec<[f32; WORDS]>,
    halves: [f32; WORDS],
}

impl Words {
    /// From `WORDS` words of one length.
    pub(super) fn new(words: &[Vec<f32>]) -> Self {
        let mut turned = vec![[0.0; WORDS]; words.first().map_or(0, Vec::len)];
        let mut halves = [0.0; WORDS];
        for (number, word) in words.iter().enumerate() {
            halves[number] = word.iter().map(|value| value * value).sum::<f32>() / 2.0;
            turned.iter_mut().zip(word).for_each(|(row, value)| row[number] = *value);
        }
        Self { turned, halves }
    }

    /// The word nearest to a vector, the first one if several are, and how near: the higher, the nearer.
    pub(super) fn nearest(&self, vector: &[f32]) -> (u8, f32) {
        match Kernel::best() {
            Kernel::Plain => self.nearest_plain(vector),
            // SAFETY: the machine has AVX2, which every kernel but the plain one needs.
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 | Kernel::Avx512 => unsafe { self.nearest_wide(vector) },
        }
    }

    /// The same sums in the same order, more of them at once.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn nearest_wide(&self, vector: &[f32]) -> (u8, f32) {
        self.nearest_plain(vector)
    }

    #[inline(always)]
    fn nearest_plain(&self, vector: &[f32]) -> (u8, f32) {
        const LANES: usize = 16;
        let mut near = self.halves.map(|half| -half);
        for (value, row) in vector.iter().zip(&self.turned) {
            near.iter_mut().zip(row).for_each(|(near, word)| *near += value * word);
        }
        let mut tops = [f32::NEG_INFINITY; LANES];
        for lanes in near.as_chunks::<LANES>().0 {
            tops.iter_mut().zip(lanes).for_each(|(top, near)| *top = if near > top { *near } else { *top });
        }
        let top = tops.into_iter().fold(f32::NEG_INFINITY, f32::max);
        let place = near.iter().position(|near| *near == top).unwrap_or(0);
        (place as u8, top)
    }
}
