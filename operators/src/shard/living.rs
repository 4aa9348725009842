//! What the upsert and the statistics begin with: computed from the shards, so that it cannot contradict them.

use std::collections::VecDeque;
use std::sync::Arc;

use freshet_schemas::SparseVector;

use crate::index::IndexError;
use crate::index::bits::Bits;
use crate::index::rows::RowIndex;
use crate::index::segment::{FieldRows, Segment, SegmentField, Version};
use crate::message::Statistic;
use crate::upsert::DocumentState;

/// The documents that lived at one time, to be gone through once.
pub struct Living {
    /// Fields whose statistics are kept.
    counted: Vec<Counted>,
    parts: VecDeque<(Arc<Segment>, Bits)>,
    /// The next version of the first part.
    next: Version,
}

/// What the upsert remembers of some documents, and more of what all of them have in the statistics.
pub(super) type Known = (Vec<(String, DocumentState)>, Vec<(Statistic, isize)>);

impl Living {
    /// Parts of shards, and which of their versions live.
    pub(super) fn new(counted: Vec<Counted>, parts: impl Iterator<Item = (Arc<Segment>, Bits)>) -> Self {
        Self { counted, parts: parts.collect(), next: 0 }
    }

    /// What is known of the next documents, `count` at most; `None` when there are no more. The statistics of a part come
    /// whole, with its first document.
    pub(super) fn next(&mut self, count: usize) -> Option<Result<Known, IndexError>> {
        let (mut states, mut statistics) = (Vec::with_capacity(count), Vec::new());
        while let Some((segment, live)) = self.parts.front() {
            let versions = segment.versions();
            if self.next == 0 {
                self.counted.iter().for_each(|&counted| count_part(&mut statistics, counted, segment, live));
            }
            while (self.next as usize) < versions.len() && states.len() < count {
                let version = self.next;
                self.next += 1;
                if !live.contains(version) {
                    continue;
                }
                let id = versions.id(version).to_owned();
                let (digest, payload) = (versions.digest(version), versions.payload(version));
                match DocumentState::restore(digest, payload, versions.chunks(version)) {
                    Ok(state) => states.push((id, state)),
                    Err(error) => return Some(Err(IndexError::Unknown { id, what: error.to_string() })),
                }
            }
            if states.len() == count {
                break;
            }
            self.parts.pop_front();
            self.next = 0;
        }
        sum_up(&mut statistics);
        (!states.is_empty()).then_some(Ok((states, statistics)))
    }
}

/// One entry per statistic.
fn sum_up(statistics: &mut Vec<(Statistic, isize)>) {
    statistics.sort_unstable();
    statistics.dedup_by(|(other, more), (statistic, sum)| {
        let same = other == statistic;
        if same {
            *sum += *more;
        }
        same
    });
    statistics.retain(|(_, sum)| *sum != 0);
}

/// A field whose statistics are kept.
#[derive(Clone, Copy)]
pub(super) struct Counted {
    pub(super) field: u16,
    /// Its weights are term counts, whose sum is a length.
    pub(super) lengths: bool,
}

/// Adds the living versions of a part to the statistics: of a sealed one the lengths of its lists are the counts of all, from
/// which the dead are taken away.
fn count_part(statistics: &mut Vec<(Statistic, isize)>, of: Counted, segment: &Segment, live: &Bits) {
    let SegmentField { layout, rows } = &segment.fields()[usize::from(of.field)];
    let FieldRows::Sparse(rows) = rows else { return };
    let sealed = rows.frequencies().map(|lists| {
        let lists = lists.map(|(term, rows)| (Statistic::Term(of.field, term), rows as isize));
        statistics.extend(lists);
        let lengths = (0..rows.len() as u32).map(|row| whole(rows.length(row)));
        statistics.push((Statistic::Documents(of.field), rows.len() as isize));
        statistics.extend(of.lengths.then(|| (Statistic::Length(of.field), lengths.sum())));
    });
    let wanted = |version: &Version| live.contains(*version) == sealed.is_none();
    let sign = if sealed.is_some() { -1 } else { 1 };
    for version in (0..segment.versions().len() as Version).filter(wanted) {
        for row in layout.rows(version) {
            let (mut terms, mut weights) = (Vec::new(), Vec::new());
            rows.append(row, &mut terms, &mut weights);
            count(statistics, of, &SparseVector { indices: terms, values: weights }, sign);
        }
    }
}

/// Adds a document vector to the statistics, or takes it away. Lengths are term counts: whole numbers.
pub(super) fn count(
    statistics: &mut Vec<(Statistic, isize)>,
    of: Counted,
    vector: &SparseVector,
    sign: isize,
) {
    let Counted { field, lengths } = of;
    statistics.push((Statistic::Documents(field), sign));
    if lengths {
        statistics.push((Statistic::Length(field), sign * whole(f64::from(vector.sum()))));
    }
    statistics.extend(vector.indices.iter().map(|&term| (Statistic::Term(field, term), sign)));
}

/// A length, which is a whole number.
#[allow(clippy::cast_possible_truncation, reason = "a sum of term counts, far below 2^63")]
fn whole(length: f64) -> isize {
    length.round() as isize
}
