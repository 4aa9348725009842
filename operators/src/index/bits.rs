//! Sets of rows as bits.

/// Bits of a word.
const WORD: usize = u64::BITS as usize;

/// A set of numbers below `len`. Invariants: `words` has exactly the words that `len` bits need; bits from `len` on are
/// zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bits {
    words: Vec<u64>,
    len: usize,
}

impl Bits {
    /// No number below `len`.
    pub fn none(len: usize) -> Self {
        Self { words: vec![0; len.div_ceil(WORD)], len }
    }

    /// Every number below `len`.
    pub fn all(len: usize) -> Self {
        let mut bits = Self { words: vec![u64::MAX; len.div_ceil(WORD)], len };
        bits.clear_tail();
        bits
    }

    /// The numbers given, all below `len`.
    pub fn of(numbers: impl IntoIterator<Item = u32>, len: usize) -> Self {
        let mut bits = Self::none(len);
        numbers.into_iter().for_each(|number| bits.insert(number));
        bits
    }

    /// End of the numbers that can be in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no number can be in it.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many are in it.
    pub fn count(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether a number is in it.
    pub fn contains(&self, number: u32) -> bool {
        let number = number as usize;
        self.words.get(number / WORD).is_some_and(|word| word >> (number % WORD) & 1 == 1)
    }

    /// Adds a number below `len`.
    pub fn insert(&mut self, number: u32) {
        debug_assert!((number as usize) < self.len, "{number} of {}", self.len);
        self.words[number as usize / WORD] |= 1 << (number as usize % WORD);
    }

    /// Takes a number away.
    pub fn remove(&mut self, number: u32) {
        if let Some(word) = self.words.get_mut(number as usize / WORD) {
            *word &= !(1 << (number as usize % WORD));
        }
    }

    /// Makes room for one more number, and puts it in or leaves it out.
    pub fn push(&mut self, member: bool) {
        if self.len.is_multiple_of(WORD) {
            self.words.push(0);
        }
        self.len += 1;
        if member {
            self.insert((self.len - 1) as u32);
        }
    }

    /// Keeps what is also in the other, of the same length.
    pub fn and(&mut self, other: &Self) {
        debug_assert_eq!(self.len, other.len);
        self.words.iter_mut().zip(&other.words).for_each(|(word, other)| *word &= other);
    }

    /// Adds what is in the other, of the same length.
    pub fn or(&mut self, other: &Self) {
        debug_assert_eq!(self.len, other.len);
        self.words.iter_mut().zip(&other.words).for_each(|(word, other)| *word |= other);
    }

    /// Takes away what is in the other, of the same length.
    pub fn and_not(&mut self, other: &Self) {
        debug_assert_eq!(self.len, other.len);
        self.words.iter_mut().zip(&other.words).for_each(|(word, other)| *word &= !other);
    }

    /// Makes it what it was not.
    pub fn not(&mut self) {
        self.words.iter_mut().for_each(|word| *word = !*word);
        self.clear_tail();
    }

    /// What is in it, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0u32..).zip(&self.words).flat_map(|(place, &word)| {
            let next = |rest: &u64| Some(rest & (rest - 1)).filter(|&rest| rest != 0);
            std::iter::successors(Some(word).filter(|&word| word != 0), next)
                .map(move |rest| place * u64::BITS + rest.trailing_zeros())
        })
    }

    /// Its words: bit `n % 64` of word `n / 64`. On little-endian machines the bytes are what FAISS reads as a bitmap.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.words.capacity() * size_of::<u64>()
    }

    fn clear_tail(&mut self) {
        if let Some(last) = self.words.last_mut().filter(|_| !self.len.is_multiple_of(WORD)) {
            *last &= (1 << (self.len % WORD)) - 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bits_are_a_set(len in 1usize..200, a in prop::collection::btree_set(0u32..200, 0..60), b in prop::collection::btree_set(0u32..200, 0..60)) {
            let fits = |set: &BTreeSet<u32>| set.iter().copied().filter(|n| (*n as usize) < len).collect::<BTreeSet<u32>>();
            let (a, b) = (fits(&a), fits(&b));
            let (bits, other) = (Bits::of(a.iter().copied(), len), Bits::of(b.iter().copied(), len));
            let set = |bits: &Bits| { assert_eq!(bits.count(), bits.iter().count()); bits.iter().collect::<BTreeSet<u32>>() };
            prop_assert_eq!(set(&bits), a.clone());
            let mut changed = bits.clone();
            changed.and(&other);
            prop_assert_eq!(set(&changed), a.intersection(&b).copied().collect());
            changed = bits.clone();
            changed.or(&other);
            prop_assert_eq!(set(&changed), a.union(&b).copied().collect());
            changed = bits.clone();
            changed.and_not(&other);
            prop_assert_eq!(set(&changed), a.difference(&b).copied().collect());
            changed = bits.clone();
            changed.not();
            prop_assert_eq!(set(&changed), (0..len as u32).filter(|n| !a.contains(n)).collect());
            let mut grown = Bits::default();
            (0..len as u32).for_each(|n| grown.push(a.contains(&n)));
            prop_assert_eq!(grown, bits);
            prop_assert_eq!(Bits::all(len).count(), len);
        }
    }
}
