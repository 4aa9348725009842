//! When to seal a head, and what to merge.
//!
//! Sizes of sealed segments are kept apart: what is merged next takes in every sealed segment that is not larger than
//! what has been gathered so far. So each sealed segment is larger than all smaller ones together when it is made, their
//! number is logarithmic in the number of documents, and a document is moved at most that often. A quiet shard merges
//! more eagerly: then the work delays nobody, and one segment is searched faster than several.

/// What the policy knows of a part of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PartSize {
    /// Versions, dead ones included.
    pub(super) versions: usize,
    /// Versions that no time sees any more.
    pub(super) expired: usize,
    /// Whether it is sealed; if not, it is a frozen head, which is searched exactly.
    pub(super) sealed: bool,
    /// Whether it is a head that ended before it was full, and can wait for more.
    pub(super) early: bool,
}

impl PartSize {
    fn kept(self) -> usize {
        self.versions - self.expired
    }

    /// Whether expired versions take too much: memory and answers must stay close to those of an index without them.
    fn is_wasteful(self) -> bool {
        self.expired * WASTE_PART > self.versions
    }
}

/// A segment is made anew when more than one of so many versions has expired.
const WASTE_PART: usize = 4;

/// While changes come, a segment is merged when the smaller ones together reach its size.
const GROWTH_BUSY: usize = 1;

/// In a quiet shard, when they reach one part in so many.
const GROWTH_QUIET: usize = 8;

/// How large a head gets.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimit {
    /// Document versions.
    pub versions: usize,
    /// Bytes of memory.
    pub bytes: usize,
}

impl Default for HeadLimit {
    /// Scanning so many vectors of 384 dimensions costs about as much as one search of a graph of a hundred thousand.
    fn default() -> Self {
        Self { versions: 4096, bytes: 64 << 20 }
    }
}

impl HeadLimit {
    /// Whether a head is to be frozen: full, or mostly of dead versions.
    pub fn reached(&self, versions: usize, expired: usize, bytes: usize) -> bool {
        versions >= self.versions || bytes >= self.bytes || (versions >= 64 && expired * 3 > versions)
    }
}

/// The parts to be made one, by number; empty if all is well. Only parts that nobody is working on come in.
pub(super) fn plan(parts: &[PartSize], quiet: bool) -> Vec<usize> {
    let (mut sealed, mut frozen): (Vec<usize>, Vec<usize>) =
        (0..parts.len()).partition(|&part| parts[part].sealed);
    if !quiet && frozen.iter().all(|&part| parts[part].early) {
        frozen.clear();
    }
    sealed.sort_by_key(|&part| (parts[part].kept(), part));
    let growth = if quiet { GROWTH_QUIET } else { GROWTH_BUSY };
    let mut smaller: usize = frozen.iter().map(|&part| parts[part].kept()).sum();
    let mut taken = 0;
    for (place, &part) in sealed.iter().enumerate() {
        if parts[part].kept() <= smaller.saturating_mul(growth) {
            taken = place + 1;
        }
        smaller += parts[part].kept();
    }
    if frozen.is_empty() && taken < 2 {
        // Nothing to merge: at most something to clean, the largest first.
        return sealed.into_iter().rev().find(|&part| parts[part].is_wasteful()).into_iter().collect();
    }
    sealed.truncate(taken);
    [frozen, sealed].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sealed(kept: usize, expired: usize) -> PartSize {
        PartSize { versions: kept + expired, expired, sealed: true, early: false }
    }

    fn frozen(kept: usize) -> PartSize {
        PartSize { sealed: false, ..sealed(kept, 0) }
    }

    #[test]
    fn merges_take_in_what_is_not_larger() {
        assert_eq!(plan(&[sealed(100, 0), frozen(10)], false), [1]);
        assert_eq!(plan(&[sealed(100, 0), sealed(10, 0), frozen(10)], false), [2, 1]);
        assert_eq!(plan(&[sealed(20, 0), sealed(10, 0), frozen(10)], false), [2, 1, 0]);
        assert_eq!(plan(&[sealed(100, 0), frozen(20)], true), [1, 0]);
        assert_eq!(plan(&[sealed(1000, 0), sealed(100, 0)], true), [] as [usize; 0]);
        assert_eq!(plan(&[sealed(800, 0), sealed(100, 0)], true), [1, 0]);
    }

    #[test]
    fn heads_that_ended_early_wait() {
        let early = |kept| PartSize { early: true, ..frozen(kept) };
        assert_eq!(plan(&[sealed(100, 0), early(10), early(20)], false), [] as [usize; 0]);
        assert_eq!(plan(&[sealed(100, 0), early(10), early(20)], true), [1, 2, 0]);
        assert_eq!(plan(&[sealed(100, 0), early(10), frozen(20)], false), [1, 2]);
        assert_eq!(plan(&[sealed(100, 40), early(10)], false), [0]);
    }

    #[test]
    fn waste_is_cleaned() {
        assert_eq!(plan(&[sealed(1000, 300), sealed(100, 0)], false), [] as [usize; 0]);
        assert_eq!(plan(&[sealed(1000, 400), sealed(100, 50)], false), [0]);
    }

    proptest! {
        /// However heads come, the sealed segments stay few and each document is moved seldom.
        #[test]
        fn segments_stay_few(heads in prop::collection::vec(1usize..50, 1..300)) {
            let (mut parts, mut moved) = (Vec::new(), 0);
            for head in &heads {
                parts.push(frozen(*head));
                loop {
                    let chosen = plan(&parts, false);
                    if chosen.is_empty() { break }
                    let kept = chosen.iter().map(|&part| parts[part].kept()).sum();
                    moved += kept;
                    let mut number = 0;
                    parts.retain(|_| { number += 1; !chosen.contains(&(number - 1)) });
                    parts.push(sealed(kept, 0));
                }
            }
            let total: usize = heads.iter().sum();
            let bound = total.ilog2() as usize + 2;
            prop_assert!(parts.len() <= bound, "{} parts of {total} documents", parts.len());
            prop_assert!(moved <= total * 2 * bound, "{moved} moves of {total} documents");
        }
    }
}
