//! The ids seen last.

use std::collections::{BTreeSet, VecDeque};

/// A bounded set of ids; the oldest is forgotten first. Invariant: `order` and `ids` hold the same ids.
#[derive(Debug)]
pub struct Recent {
    order: VecDeque<String>,
    ids: BTreeSet<String>,
    max: usize,
}

impl Recent {
    /// Remembers at most `max` ids.
    pub fn new(max: usize) -> Self {
        Self { order: VecDeque::new(), ids: BTreeSet::new(), max }
    }

    /// Whether the id is new; remembers it.
    pub fn insert(&mut self, id: &str) -> bool {
        if !self.ids.insert(id.to_owned()) {
            return false;
        }
        self.order.push_back(id.to_owned());
        if self.order.len() > self.max
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgets_the_oldest() {
        let mut recent = Recent::new(2);
        assert!(recent.insert("a") && recent.insert("b"));
        assert!(!recent.insert("a"));
        assert!(recent.insert("c"));
        assert!(recent.insert("a"), "a was the oldest");
        assert!(!recent.insert("c"));
    }
}
