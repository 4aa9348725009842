//! Groups of what a search or a listing finds, exact over several shards in two trips.
//!
//! ```text
//! first trip:  each shard's first groups, by their best hit ─▶ the first groups of all
//! second trip: each shard's best hits of each of these      ─▶ the best hits of each
//! ```
//! A group that is among the first `n` of all has its best hit in some shard, and is among the first `n` there; so the
//! first trip misses none. A shard looks wider until it has `n` groups or has seen all that match, so that one large group
//! does not hide the others.

use std::collections::BTreeSet;

use freshet_schemas::{Condition, Filter, MatchValue, Params, Test, values};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Shard;
use super::list::{Found, Listing};
use crate::index::{Hit, IndexError, Probe, Time, by_rank};

/// Hits looked at first for each group that is wanted.
const HITS_PER_GROUP: usize = 8;
/// How much wider each further look is.
const WIDER: usize = 4;

/// What finds documents, each once, in an order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Finding {
    /// A search.
    Search {
        /// Field number.
        field: u16,
        /// What to search with.
        probe: Probe,
        /// Search parameters.
        params: Params,
    },
    /// A list.
    List(Listing),
}

/// The best hit of groups that no better hit is in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupHead {
    /// The hit.
    pub found: Found,
    /// All groups that it is in, in the order of its payload.
    pub groups: Vec<MatchValue>,
}

impl Finding {
    /// Which document comes first.
    pub fn compare(&self, a: &Found, b: &Found) -> std::cmp::Ordering {
        match self {
            Self::Search { .. } => by_rank(&a.hit, &b.hit),
            Self::List(listing) => listing.compare(a, b),
        }
    }
}

/// The groups that a payload is in: the strings and integers at a path, each once, in its order. As in Qdrant there are
/// none if any value there is something else.
pub fn groups_of(payload: &Value, path: &str) -> Vec<MatchValue> {
    let mut groups: Vec<MatchValue> = Vec::new();
    let found = values(payload, path);
    let elements =
        found.iter().flat_map(|value| value.as_array().map_or(std::slice::from_ref(*value), Vec::as_slice));
    for element in elements {
        let text = element.as_str().map(|text| MatchValue::String(text.to_owned()));
        let Some(group) = text.or_else(|| element.as_i64().map(MatchValue::Integer)) else {
            return Vec::new();
        };
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    groups
}

/// Of documents in their order those that come first in some group, until `count` groups are known; and whether they are.
pub fn heads(ranked: impl Iterator<Item = GroupHead>, count: usize) -> (Vec<GroupHead>, bool) {
    let (mut known, mut heads) = (BTreeSet::new(), Vec::new());
    for head in ranked {
        if known.len() >= count {
            break;
        }
        let before = known.len();
        known.extend(head.groups.iter().cloned());
        if known.len() > before {
            heads.push(head);
        }
    }
    let enough = known.len() >= count;
    (heads, enough)
}

impl Shard {
    /// The hits that come first in the first `count` groups, of the documents visible at a time that a filter lets through.
    ///
    /// # Errors
    /// As `search`.
    pub fn group_heads(
        &self,
        time: Time,
        finding: &Finding,
        by: &str,
        count: usize,
        filter: Option<&Filter>,
    ) -> Result<Vec<GroupHead>, IndexError> {
        let mut k = count.saturating_mul(HITS_PER_GROUP);
        loop {
            let found = self.find(time, finding, k, filter)?;
            let all = found.len() < k;
            let ranked = found.into_iter().map(|found| {
                let groups = self.groups(time, &found.hit.id, by);
                GroupHead { found, groups }
            });
            let (heads, enough) = heads(ranked, count);
            if enough || all {
                return Ok(heads);
            }
            k = k.saturating_mul(WIDER);
        }
    }

    /// The `size` best of each of some groups, of the documents visible at a time that a filter lets through.
    ///
    /// # Errors
    /// As `search`.
    pub fn group_members(
        &self,
        time: Time,
        finding: &Finding,
        by: &str,
        groups: &[MatchValue],
        size: usize,
        filter: Option<&Filter>,
    ) -> Result<Vec<Vec<Found>>, IndexError> {
        let members = |group: &MatchValue| {
            let test = Test::Value(group.clone());
            let of_group = Condition::Field { key: by.to_owned(), test };
            let of_group = Filter { must: vec![of_group], ..Filter::default() };
            let filter = Filter::both(filter, Some(&of_group));
            let mut k = size;
            loop {
                let mut found = self.find(time, finding, k, filter.as_ref())?;
                let all = found.len() < k;
                // A value of another kind beside that of the group keeps a document out of all groups.
                found.retain(|found| self.groups(time, &found.hit.id, by).contains(group));
                if found.len() >= size || all {
                    found.truncate(size);
                    return Ok(found);
                }
                k = k.saturating_mul(WIDER);
            }
        };
        groups.iter().map(members).collect()
    }

    fn find(
        &self,
        time: Time,
        finding: &Finding,
        k: usize,
        filter: Option<&Filter>,
    ) -> Result<Vec<Found>, IndexError> {
        match finding {
            Finding::Search { field, probe, params } => {
                let hits = self.search(time, usize::from(*field), probe, k, params, filter)?;
                Ok(hits.into_iter().map(|hit: Hit| Found { hit, value: None }).collect())
            }
            Finding::List(listing) => Ok(self.list(time, listing, k, filter, false)),
        }
    }

    fn groups(&self, time: Time, id: &str, by: &str) -> Vec<MatchValue> {
        let payload = self.payload(time, id).and_then(|payload| serde_json::from_str(payload).ok());
        payload.map(|payload: Value| groups_of(&payload, by)).unwrap_or_default()
    }
}
