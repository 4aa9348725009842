//! Reading what indexes have written of themselves.

use xxhash_rust::xxh3::xxh3_64;

/// Bytes behind their sum, for `Bytes::summed`. `body`: begins with as many bytes of no use as a sum has, see `unsummed`.
pub(super) fn sum(mut body: Vec<u8>) -> Vec<u8> {
    let sum = xxh3_64(&body[size_of::<u64>()..]);
    body[..size_of::<u64>()].copy_from_slice(&sum.to_le_bytes());
    body
}

/// The beginning of bytes that are to be summed: the place of their sum.
pub(super) fn unsummed() -> Vec<u8> {
    vec![0; size_of::<u64>()]
}

/// Bytes that are read from their beginning.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl<'a> Bytes<'a> {
    /// What is behind a sum; `None` if it is not that of the bytes.
    pub(super) fn summed(bytes: &'a [u8]) -> Option<Self> {
        let mut bytes = Self(bytes);
        let sum = u64::from_le_bytes(bytes.take()?);
        (xxh3_64(bytes.0) == sum).then_some(bytes)
    }

    /// The next bytes.
    #[inline]
    pub(super) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    /// The next bytes, a fixed number of them.
    #[inline]
    pub(super) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.first_chunk().copied()
    }

    /// The next number in LEB128.
    #[inline]
    pub(super) fn varint(&mut self) -> Option<u32> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        if first < 0x80 { Some(first.into()) } else { self.longer(first) }
    }

    /// The rest of a number of several bytes.
    fn longer(&mut self, first: u8) -> Option<u32> {
        let mut value = u32::from(first & 0x7F);
        for shift in (7..u32::BITS).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u32::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }
}
