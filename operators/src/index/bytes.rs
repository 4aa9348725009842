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

    /// The next number in LEB128: most have one byte or two.
    #[inline]
    pub(super) fn varint(&mut self) -> Option<u32> {
        match *self.0 {
            [first @ ..0x80, ref rest @ ..] => {
                self.0 = rest;
                Some(first.into())
            }
            [first, second @ ..0x80, ref rest @ ..] => {
                self.0 = rest;
                Some(u32::from(first & 0x7F) | u32::from(second) << 7)
            }
            _ => self.longer(),
        }
    }

    /// A number of any length.
    fn longer(&mut self) -> Option<u32> {
        let mut value = 0;
        for shift in (0..u32::BITS).step_by(7) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_and_torn_ones_are_noticed() {
        let encoded: [(u32, &[u8]); 8] = [
            (0, &[0]),
            (127, &[0x7F]),
            (128, &[0x80, 1]),
            (16_383, &[0xFF, 0x7F]),
            (16_384, &[0x80, 0x80, 1]),
            (2_097_151, &[0xFF, 0xFF, 0x7F]),
            (2_097_152, &[0x80, 0x80, 0x80, 1]),
            (u32::MAX, &[0xFF, 0xFF, 0xFF, 0xFF, 0x0F]),
        ];
        for (value, bytes) in encoded {
            let followed = [bytes, &[7]].concat();
            let mut from = Bytes(&followed);
            assert_eq!((from.varint(), from.0), (Some(value), &[7][..]));
            assert_eq!(Bytes(&bytes[..bytes.len() - 1]).varint(), None, "{value} torn");
        }
        assert_eq!(Bytes(&[0x80; 9]).varint(), None, "a number without end");
    }
}
