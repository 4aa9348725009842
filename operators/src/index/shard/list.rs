//! Documents without a search: listed by id or by a value of their payload, counted, read.

use std::cmp::Ordering;

use freshet_schemas::{Filter, IdOrder, List, OrderBy, OrderValue};
use serde::{Deserialize, Serialize};

use super::{Part, Shard};
use crate::index::rows::RowSet;
use crate::index::segment::Version;
use crate::index::{Hit, Time};

/// Which documents come first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Listing {
    /// By id.
    Id(List),
    /// By a value; those that have none are left out. Ties by id, in the order of its bytes.
    Value(OrderBy),
}

/// A document found or listed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// The document; a listed one has score 0.
    pub hit: Hit,
    /// The value it is listed by.
    pub value: Option<OrderValue>,
}

impl Listing {
    /// The order of listed documents.
    pub fn compare(&self, a: &Found, b: &Found) -> Ordering {
        self.order((&a.hit.id, a.value.as_ref()), (&b.hit.id, b.value.as_ref()))
    }

    fn order(&self, a: (&str, Option<&OrderValue>), b: (&str, Option<&OrderValue>)) -> Ordering {
        match self {
            Self::Id(list) => list.order.key(a.0).cmp(&list.order.key(b.0)),
            Self::Value(order) => {
                let values = a.1.zip(b.1);
                values.map_or(Ordering::Equal, |(a, b)| order.compare(a, b)).then_with(|| a.0.cmp(b.0))
            }
        }
    }

    /// Puts listed documents of several lists in order and keeps the `k` first. `each_value`: a document is listed once for
    /// each of its values, not only for the first of them.
    pub fn merge(&self, found: &mut Vec<Found>, k: usize, each_value: bool) {
        found.sort_by(|a, b| self.compare(a, b));
        if !each_value {
            let mut known = std::collections::BTreeSet::new();
            let first: Vec<bool> = found.iter().map(|found| known.insert(found.hit.id.as_str())).collect();
            let mut first = first.into_iter();
            found.retain(|_| first.next().unwrap_or(false));
        }
        found.truncate(k);
    }
}

/// A document listed in a part.
type Listed = (Version, Option<OrderValue>);

impl Shard {
    /// The `k` first documents visible at a time that a filter lets through, in the order of a listing.
    pub fn list(
        &self,
        time: Time,
        listing: &Listing,
        k: usize,
        filter: Option<&Filter>,
        each_value: bool,
    ) -> Vec<Found> {
        let mut found = Vec::new();
        for part in &self.parts {
            let versions = part.segment.versions();
            let listed = part.seen(time, filter, |seen| part.list(listing, k, seen));
            found.extend(listed.into_iter().map(|(version, value)| {
                let id = versions.id(version).to_owned();
                Found { hit: Hit { id, chunk: 0, score: 0.0 }, value }
            }));
        }
        listing.merge(&mut found, k, each_value);
        found
    }

    /// How many documents visible at a time a filter lets through.
    pub fn count(&self, time: Time, filter: Option<&Filter>) -> usize {
        self.parts.iter().map(|part| part.seen(time, filter, |seen| seen.count())).sum()
    }

    /// Payloads of those of some documents that live here and are visible at a time, in the order asked for.
    pub fn payloads(&self, time: Time, ids: &[String]) -> Vec<(String, String)> {
        let read = |id: &String| Some((id.clone(), self.payload(time, id)?.to_owned()));
        ids.iter().filter_map(read).collect()
    }

    /// The payload of a document that is visible at a time: compact JSON object text.
    pub(super) fn payload(&self, time: Time, id: &str) -> Option<&str> {
        let (part, version) = self.visible(id, time)?;
        Some(self.parts[part].segment.versions().payload(version))
    }
}

impl Part {
    /// Calls with the versions visible at a time that a filter lets through.
    fn seen<T>(&self, time: Time, filter: Option<&Filter>, call: impl FnOnce(&RowSet<'_>) -> T) -> T {
        match filter {
            None => call(&self.marks.visible(time, self.segment.versions().births())),
            Some(filter) => {
                let passed = self.passed(time, filter);
                call(&RowSet::counted(std::borrow::Cow::Borrowed(&passed.versions), passed.count))
            }
        }
    }

    /// At least the first entries of `k` documents, if there are so many.
    fn list(&self, listing: &Listing, k: usize, seen: &RowSet<'_>) -> Vec<Listed> {
        if k == 0 || seen.count() == 0 {
            return Vec::new();
        }
        match listing {
            Listing::Id(list) => {
                self.list_ids(list, k, seen).into_iter().map(|version| (version, None)).collect()
            }
            Listing::Value(order) => {
                let versions = self.segment.versions();
                let rows = self.segment.payload().ordered(order, versions, seen, k);
                rows.into_iter().map(|(version, value)| (version, Some(value))).collect()
            }
        }
    }

    fn list_ids(&self, list: &List, k: usize, seen: &RowSet<'_>) -> Vec<Version> {
        let versions = self.segment.versions();
        let key = |version: Version| list.order.key(versions.id(version));
        let from = list.from.as_deref().map(|from| list.order.key(from));
        let follows = |version: Version| from.is_none_or(|from| key(version) >= from);
        // A sealed segment is in the order of the ids' bytes, and no two visible versions have one id.
        if self.segment.is_sealed() && list.order == IdOrder::Text {
            let all = 0..versions.len() as Version;
            let start = match list.from {
                None => 0,
                Some(_) => partition(all.end, |version| !follows(version)),
            };
            return (start..all.end).filter(|&version| seen.contains(version)).take(k).collect();
        }
        let mut first = seen.to_vec();
        first.retain(|&version| follows(version));
        if first.len() > k {
            first.select_nth_unstable_by(k - 1, |&a, &b| key(a).cmp(&key(b)));
            first.truncate(k);
        }
        first
    }
}

/// The first number below `end` that is not `before`; those that are come first.
fn partition(end: Version, before: impl Fn(Version) -> bool) -> Version {
    let (mut from, mut to) = (0, end);
    while from < to {
        let middle = from.midpoint(to);
        if before(middle) {
            from = middle + 1;
        } else {
            to = middle;
        }
    }
    from
}
