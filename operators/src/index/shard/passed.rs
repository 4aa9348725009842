//! What filters let through, kept while it is asked for again: by the legs of one query, by the queries of one time.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

use freshet_schemas::Filter;

use crate::index::Time;
use crate::index::bits::Bits;

/// Most filters whose rows are kept, per part.
const KEPT_MAX: usize = 8;

/// The versions that a filter lets through.
#[derive(Debug)]
pub(super) struct Passed {
    /// Those visible at the time of the question.
    pub(super) versions: Bits,
    /// How many they are.
    pub(super) count: usize,
}

/// Who sees which versions of a part: those of the newest state all the same, at whatever time they ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// Whoever lives now.
    Newest,
    /// As of an earlier time.
    At(Time),
}

/// The last filters asked of a part, the newest question first. Invariant: all of it is of the part as it is now: whoever
/// adds a version or ends one calls `forget`.
#[derive(Debug, Default)]
pub(super) struct PassedFilters(RefCell<VecDeque<(Sight, Filter, Arc<Passed>)>>);

impl PassedFilters {
    /// The versions that a filter lets through, found by `select` unless they are kept.
    pub(super) fn of(&self, sight: Sight, filter: &Filter, select: impl FnOnce() -> Bits) -> Arc<Passed> {
        let mut kept = self.0.borrow_mut();
        let known = kept.iter().position(|(of, other, _)| *of == sight && other == filter);
        if let Some(entry) = known.and_then(|place| kept.remove(place)) {
            let passed = Arc::clone(&entry.2);
            kept.push_front(entry);
            return passed;
        }
        let versions = select();
        let passed = Arc::new(Passed { count: versions.count(), versions });
        kept.truncate(KEPT_MAX - 1);
        kept.push_front((sight, filter.clone(), Arc::clone(&passed)));
        passed
    }

    /// The part has changed.
    pub(super) fn forget(&mut self) {
        self.0.get_mut().clear();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn filter(number: usize) -> Filter {
        Filter::parse(&json!({"must": {"key": "n", "match": {"value": number}}}), "").unwrap()
    }

    #[test]
    fn a_filter_is_evaluated_once_per_state_and_the_oldest_question_goes() {
        let mut passed = PassedFilters::default();
        let evaluated = RefCell::new(Vec::new());
        let ask = |passed: &PassedFilters, sight, number: usize| {
            let select = || {
                evaluated.borrow_mut().push((sight, number));
                Bits::of([number as u32], 100)
            };
            let found = passed.of(sight, &filter(number), select);
            assert_eq!((found.versions.iter().collect::<Vec<_>>(), found.count), (vec![number as u32], 1));
        };
        for number in [1, 2, 1] {
            ask(&passed, Sight::Newest, number);
        }
        ask(&passed, Sight::At(7), 1);
        ask(&passed, Sight::At(7), 1);
        ask(&passed, Sight::At(8), 1);
        let expected = vec![(Sight::Newest, 1), (Sight::Newest, 2), (Sight::At(7), 1), (Sight::At(8), 1)];
        assert_eq!(evaluated.take(), expected);
        // As many others as there is room for, but the last of which the first filter is asked again.
        (10..10 + KEPT_MAX - 1).for_each(|number| ask(&passed, Sight::Newest, number));
        evaluated.take();
        ask(&passed, Sight::At(8), 1);
        ask(&passed, Sight::Newest, 2);
        assert_eq!(evaluated.take(), [(Sight::Newest, 2)]);
        passed.forget();
        ask(&passed, Sight::Newest, 2);
        assert_eq!(evaluated.take(), [(Sight::Newest, 2)]);
    }
}
