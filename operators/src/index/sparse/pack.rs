//! Blocks of postings, bit-packed.

use bitpacking::{BitPacker, BitPacker4x};

/// Postings of a whole block.
pub(super) const BLOCK: usize = BitPacker4x::BLOCK_LEN;

/// Packs ascending rows; `before` is the last row of the block before. Returns the bits per row.
pub(super) fn pack_rows(rows: &[u32; BLOCK], before: u32, to: &mut Vec<u8>) -> u8 {
    let packer = BitPacker4x::new();
    let bits = packer.num_bits_sorted(before, rows);
    let start = to.len();
    to.resize(start + BitPacker4x::compressed_block_size(bits), 0);
    packer.compress_sorted(before, rows, &mut to[start..], bits);
    bits
}

/// The inverse of [`pack_rows`]; the bytes read.
pub(super) fn unpack_rows(from: &[u8], before: u32, bits: u8, rows: &mut [u32; BLOCK]) -> usize {
    BitPacker4x::new().decompress_sorted(before, from, rows, bits)
}

/// Packs counts.
pub(super) fn pack_counts(counts: &[u32; BLOCK], to: &mut Vec<u8>) -> u8 {
    let packer = BitPacker4x::new();
    let bits = packer.num_bits(counts);
    let start = to.len();
    to.resize(start + BitPacker4x::compressed_block_size(bits), 0);
    packer.compress(counts, &mut to[start..], bits);
    bits
}

/// The inverse of [`pack_counts`]; the bytes read.
pub(super) fn unpack_counts(from: &[u8], bits: u8, counts: &mut [u32; BLOCK]) -> usize {
    BitPacker4x::new().decompress(from, counts, bits)
}
