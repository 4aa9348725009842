//! Groups of the final list.
//!
//! What a fusion or a rerank before has found is grouped as it stands, whole: groups never change what it saw. A search or
//! a list without stages before it is asked for groups in two trips (see [`crate::index::shard::Finding`]), so that its
//! groups are full however large one of them is.

use freshet_schemas::{Condition, Filter, Group, Grouping, MatchValue, Point};
use serde_json::Value;

use super::execution::{Execution, Ranked};
use crate::index::shard::{Finding, Found, groups_of, heads};
use crate::message::Task;
use crate::plan::{Stage, Work};

/// Whether a hit of a leaf scores more than is asked for.
fn is_above(found: &Found, threshold: Option<f64>) -> bool {
    threshold.is_none_or(|threshold| found.hit.score > threshold)
}

impl Execution {
    /// How a stage is grouped that is the only one before the groups.
    pub(super) fn grouping_of(&self, number: u16) -> Option<&Grouping> {
        let last = self.plan().stages.last()?;
        let Work::Group { grouping } = &last.work else { return None };
        let is_leaf = self.plan().stages[usize::from(number)].from.is_empty();
        (is_leaf && last.from == [number]).then_some(grouping)
    }

    /// What finds the hits of a leaf, and which documents it may find.
    fn finding(&self, stage: &Stage) -> Option<(Finding, Option<Filter>)> {
        match &stage.work {
            Work::Search { field, input, params, filter, without } => {
                let probe = self.probes[usize::from(*input)].clone();
                let left_out = (!without.is_empty()).then(|| Filter {
                    must_not: vec![Condition::HasId(without.clone())],
                    ..Filter::default()
                });
                let filter = Filter::both(filter.as_ref(), left_out.as_ref());
                Some((Finding::Search { field: *field, probe, params: *params }, filter))
            }
            Work::List { listing, filter, .. } => Some((Finding::List(listing.clone()), filter.clone())),
            Work::Rescore { .. }
            | Work::Rerank { .. }
            | Work::Fuse(_)
            | Work::Count { .. }
            | Work::Formula(_)
            | Work::Examples { .. }
            | Work::Diversify { .. }
            | Work::Group { .. } => None,
        }
    }

    /// What a leaf is asked in the place of its hits.
    pub(super) fn heads_task(&self, number: u16) -> Option<Task> {
        let grouping = self.grouping_of(number)?;
        let stage = &self.plan().stages[usize::from(number)];
        let (finding, filter) = self.finding(stage)?;
        Some(Task::GroupHeads { finding, by: grouping.by.clone(), count: stage.limit, filter })
    }

    /// Chooses the groups of a leaf.
    pub(super) fn choose_groups(&mut self, number: u16) {
        let stage = &self.plan().stages[usize::from(number)];
        let (threshold, count) = (stage.threshold, stage.limit);
        let Some((finding, _)) = self.finding(stage) else { return };
        let mut found = std::mem::take(&mut self.beside.heads);
        found.retain(|head| is_above(&head.found, threshold));
        found.sort_by(|a, b| finding.compare(&a.found, &b.found));
        let mut chosen: Vec<MatchValue> = Vec::new();
        for group in heads(found.into_iter(), count).0.into_iter().flat_map(|head| head.groups) {
            if !chosen.contains(&group) {
                chosen.push(group);
            }
        }
        chosen.truncate(count);
        self.beside.chosen = chosen;
    }

    /// What the shards are asked for the groups: their hits, or what a list that is there holds.
    pub(super) fn group_task(&self, grouping: &Grouping, stage: &Stage) -> Task {
        let from = stage.from[0];
        let leaf = self.grouping_of(from).and_then(|_| self.finding(&self.plan().stages[usize::from(from)]));
        match leaf {
            Some((finding, filter)) => Task::GroupMembers {
                finding,
                by: grouping.by.clone(),
                groups: self.beside.chosen.clone(),
                size: grouping.size,
                filter,
            },
            None => Task::Payloads(self.list(from).iter().map(|ranked| ranked.hit.id.clone()).collect()),
        }
    }

    /// Makes the groups; the hits that are in them, each once.
    pub(super) fn grouped(&mut self, number: u16) -> Vec<Ranked> {
        let stage = self.plan().stages[usize::from(number)].clone();
        let Work::Group { grouping } = &stage.work else { return Vec::new() };
        let from = stage.from[0];
        let leaf = self.grouping_of(from).and_then(|_| self.finding(&self.plan().stages[usize::from(from)]));
        let groups = match leaf {
            Some((finding, _)) => {
                let threshold = self.plan().stages[usize::from(from)].threshold;
                self.full_groups(&finding, grouping.size, threshold)
            }
            None => self.groups_of_list(number, from, grouping, stage.limit),
        };
        let mut known = std::collections::BTreeSet::new();
        let hits = groups.iter().flat_map(|(_, hits)| hits);
        let hits = hits.filter(|ranked| known.insert(ranked.hit.id.clone())).cloned().collect();
        self.beside.groups = Some(groups);
        hits
    }

    fn full_groups(
        &mut self,
        finding: &Finding,
        size: usize,
        threshold: Option<f64>,
    ) -> Vec<(MatchValue, Vec<Ranked>)> {
        let members = std::mem::take(&mut self.beside.members);
        let groups = self.beside.chosen.drain(..).zip(members).map(|(group, mut found)| {
            found.retain(|found| is_above(found, threshold));
            found.sort_by(|a, b| finding.compare(a, b));
            found.truncate(size);
            (group, found.into_iter().map(Ranked::from).collect::<Vec<_>>())
        });
        // An approximate index may miss in the second trip what it found in the first.
        groups.filter(|(_, hits)| !hits.is_empty()).collect()
    }

    fn groups_of_list(
        &mut self,
        number: u16,
        from: u16,
        grouping: &Grouping,
        limit: usize,
    ) -> Vec<(MatchValue, Vec<Ranked>)> {
        let mut groups: Vec<(MatchValue, Vec<Ranked>)> = Vec::new();
        let mut places = std::collections::BTreeMap::new();
        for ranked in self.list(from) {
            for group in groups_of(&self.beside.payload(number, &ranked.hit.id), &grouping.by) {
                let place = match places.get(&group) {
                    Some(&place) => place,
                    None if groups.len() >= limit => continue,
                    None => {
                        places.insert(group.clone(), groups.len());
                        groups.push((group, Vec::new()));
                        groups.len() - 1
                    }
                };
                if groups[place].1.len() < grouping.size {
                    groups[place].1.push(ranked.clone());
                }
            }
        }
        self.beside.forget(number);
        groups
    }

    /// The groups of the answer, made of its points.
    pub(super) fn answered_groups(&self, point: impl Fn(&Ranked) -> Point) -> Option<Vec<Group>> {
        let groups = self.beside.groups.as_ref()?;
        let group = |(id, hits): &(MatchValue, Vec<Ranked>)| {
            let id = match id {
                MatchValue::String(text) => Value::from(text.as_str()),
                MatchValue::Integer(integer) => Value::from(*integer),
                MatchValue::Bool(truth) => Value::from(*truth),
            };
            Group { id, hits: hits.iter().map(&point).collect() }
        };
        Some(groups.iter().map(group).collect())
    }
}
