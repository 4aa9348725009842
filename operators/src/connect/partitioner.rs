//! Key → partition, as Kafka's Java client and librdkafka's `murmur2_random` place it, so that a topic in memory
//! spreads keys as the same topic in Kafka does.

use freshet_schemas::Partition;

/// Partition of a key among `count` partitions; `count` is at least 1.
pub(super) fn partition_of(key: &[u8], count: usize) -> Partition {
    let positive = (murmur2(key) & 0x7fff_ffff) as usize;
    Partition::try_from(positive % count.max(1)).unwrap_or(0)
}

/// MurmurHash2, 32 bits, with the seed of Kafka's `Utils.murmur2`.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash: u32 = 0x9747_b28c ^ (data.len() as u32);
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        for (place, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * place);
        }
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of Kafka's own `UtilsTest.testMurmur2`.
    #[test]
    fn agrees_with_the_java_client() {
        let signed = |text: &str| murmur2(text.as_bytes()).cast_signed();
        assert_eq!(signed("21"), -973_932_308);
        assert_eq!(signed("foobar"), -790_332_482);
        assert_eq!(signed("a-little-bit-long-string"), -985_981_536);
        assert_eq!(signed("a-little-bit-longer-string"), -1_486_304_829);
        assert_eq!(signed("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8"), -58_897_971);
        assert_eq!(signed("abc"), 479_470_107);
    }

    #[test]
    fn stays_in_range() {
        for count in 1..7 {
            for n in 0..100u32 {
                let partition = partition_of(&n.to_be_bytes(), count);
                assert!((0..count as Partition).contains(&partition));
            }
        }
    }
}
