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

/// Bytes of a packed block of rows.
pub(super) fn packed_bytes(bits: u8) -> usize {
    BitPacker4x::compressed_block_size(bits)
}

/// The inverse of [`pack_rows`].
pub(super) fn unpack_rows(from: &[u8], before: u32, bits: u8, rows: &mut [u32; BLOCK]) {
    BitPacker4x::new().decompress_sorted(before, from, rows, bits);
}
