//! Many texts in one piece of memory.

/// Texts, numbered from 0. Invariants: `ends` ascend, on boundaries of characters of `text`.
#[derive(Debug, Default)]
pub(super) struct Strings {
    text: String,
    ends: Vec<usize>,
}

impl Strings {
    /// Room for some texts, exactly.
    pub(super) fn reserve_of<'a>(&mut self, texts: impl Iterator<Item = &'a str>) {
        let (mut count, mut bytes) = (0, 0);
        texts.for_each(|text| (count, bytes) = (count + 1, bytes + text.len()));
        self.text.reserve_exact(bytes);
        self.ends.reserve_exact(count);
    }

    /// Adds a text.
    pub(super) fn push(&mut self, text: &str) {
        self.text.push_str(text);
        self.ends.push(self.text.len());
    }

    /// A text that is there.
    pub(super) fn get(&self, number: usize) -> &str {
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start..self.ends[number]]
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        self.text.capacity() + self.ends.capacity() * size_of::<usize>()
    }
}
