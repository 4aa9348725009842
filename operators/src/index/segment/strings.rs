//! Many texts in one piece of memory.

/// Texts, numbered from 0. Invariants: `ends` ascend, on boundaries of characters of `text`.
#[derive(Debug, Default)]
pub struct Strings {
    text: String,
    ends: Vec<usize>,
}

impl Strings {
    /// Room for some texts, exactly.
    pub fn reserve_of<'a>(&mut self, texts: impl Iterator<Item = &'a str>) {
        let (mut count, mut bytes) = (0, 0);
        texts.for_each(|text| (count, bytes) = (count + 1, bytes + text.len()));
        self.text.reserve_exact(bytes);
        self.ends.reserve_exact(count);
    }

    /// Adds a text.
    pub fn push(&mut self, text: &str) {
        self.text.push_str(text);
        self.ends.push(self.text.len());
    }

    /// A text that is there.
    pub fn get(&self, number: usize) -> &str {
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start..self.ends[number]]
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// How many texts at the start satisfy a condition that none behind them does.
    pub fn partition_point(&self, holds: impl Fn(&str) -> bool) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            if holds(self.get(middle)) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.text.capacity() + self.ends.capacity() * size_of::<usize>()
    }
}
