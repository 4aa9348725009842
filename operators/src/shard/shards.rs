//! Several shards, by number.

use std::collections::BTreeMap;
use std::sync::Arc;

use freshet_schemas::VectorKind;

use super::living::{Counted, Living, count};
use crate::index::segment::SegmentSpec;
use crate::index::shard::{Builder, Examples, HeadLimit, PartCut, RestoredPart, Shard, ShardCounters};
use crate::index::{FieldPut, IndexError, Scoring, ShardChange, Time};
use crate::message::{ShardReply, ShardRequest, Statistic, Task, TaskReply};

/// The shards of one worker. A shard comes to be with its first change; until then it answers like an empty one.
pub struct Shards {
    spec: Arc<SegmentSpec>,
    limit: HeadLimit,
    builder: Arc<dyn Builder>,
    /// Fields whose statistics are kept.
    counted: Vec<Counted>,
    shards: BTreeMap<u32, Shard>,
}

impl Shards {
    /// No shards yet, of these fields, with heads up to a limit and segments built by `builder`.
    pub fn new(spec: Arc<SegmentSpec>, limit: HeadLimit, builder: Arc<dyn Builder>) -> Self {
        let counted = (0u16..).zip(&spec.fields).filter(|(_, f)| f.scoring.is_counted());
        let counted = counted
            .filter(|(_, f)| f.kind == VectorKind::Sparse)
            .map(|(number, f)| Counted { field: number, lengths: matches!(f.scoring, Scoring::Bm25 { .. }) });
        let counted = counted.collect();
        Self { spec, limit, builder, counted, shards: BTreeMap::new() }
    }

    /// Applies the changes of a tick to one shard and says what they do to the statistics.
    ///
    /// # Errors
    /// A change that does not fit the shard: a bug upstream.
    pub fn apply(
        &mut self,
        shard: u32,
        time: Time,
        changes: Vec<ShardChange>,
    ) -> Result<Vec<(Statistic, isize)>, IndexError> {
        let shard = match self.shards.entry(shard) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(Shard::new(Arc::clone(&self.spec), self.limit, Arc::clone(&self.builder))?)
            }
        };
        let mut statistics = Vec::new();
        for &counted in &self.counted {
            let field = counted.field;
            for change in &changes {
                let (id, new) = match change {
                    ShardChange::Remove { id } => (id, None),
                    ShardChange::Put(put) => match &put.fields[usize::from(field)] {
                        FieldPut::KeepSparse => continue,
                        FieldPut::Sparse(vector) => (&put.id, Some(vector)),
                        FieldPut::None | FieldPut::Rows(_) => (&put.id, None),
                    },
                };
                let old = shard.sparse(id, usize::from(field));
                old.iter().for_each(|old| count(&mut statistics, counted, old, -1));
                new.into_iter().for_each(|new| count(&mut statistics, counted, new, 1));
            }
        }
        shard.apply(time, changes)?;
        Ok(statistics)
    }

    /// Puts a shard there that was cut at a time.
    ///
    /// # Errors
    /// Parts that make no shard.
    pub fn restore(&mut self, shard: u32, time: Time, parts: Vec<RestoredPart>) -> Result<(), IndexError> {
        let (spec, builder) = (Arc::clone(&self.spec), Arc::clone(&self.builder));
        self.shards.insert(shard, Shard::restore(spec, self.limit, builder, time, parts)?);
        Ok(())
    }

    /// All parts of all shards at the last time applied.
    ///
    /// # Errors
    /// FAISS failing.
    pub fn cut(&mut self) -> Result<Vec<(u32, Vec<PartCut>)>, IndexError> {
        self.shards.iter_mut().map(|(&number, shard)| Ok((number, shard.cut()?))).collect()
    }

    /// The documents that live now, whatever becomes of the shards afterwards.
    pub fn living(&self) -> Living {
        let parts = self.shards.values().flat_map(Shard::all_living);
        Living::new(self.counted.clone(), parts)
    }

    /// Does what a request asks, at a time.
    ///
    /// # Errors
    /// A probe that does not fit its field, or FAISS failing.
    pub fn serve(&self, time: Time, request: ShardRequest) -> Result<ShardReply, IndexError> {
        let shard = self.shards.get(&request.shard);
        let mut replies = Vec::with_capacity(request.tasks.len());
        for (stage, task) in request.tasks {
            let reply = match (shard, task) {
                (None, Task::Search { .. } | Task::Score { .. } | Task::Examples { .. }) => {
                    TaskReply::Hits(Vec::new())
                }
                (None, Task::Fetch(_)) => TaskReply::Fetched(Vec::new()),
                (Some(shard), Task::Search { field, probe, k, params, filter }) => TaskReply::Hits(
                    shard.search(time, usize::from(field), &probe, k, &params, filter.as_ref())?,
                ),
                (Some(shard), Task::Score { field, probe, ids }) => {
                    TaskReply::Hits(shard.score(time, usize::from(field), &probe, &ids)?)
                }
                (Some(shard), Task::Fetch(wanted)) => TaskReply::Fetched(shard.fetch(time, &wanted)),
                (None, Task::List { .. }) => TaskReply::Listed(Vec::new()),
                (None, Task::Count { .. }) => TaskReply::Counted(0),
                (None, Task::Payloads(_)) => TaskReply::Payloads(Vec::new()),
                (None, Task::GroupHeads { .. }) => TaskReply::GroupHeads(Vec::new()),
                (None, Task::GroupMembers { .. }) => TaskReply::GroupMembers(Vec::new()),
                (Some(shard), Task::List { listing, k, filter, each_value }) => {
                    TaskReply::Listed(shard.list(time, &listing, k, filter.as_ref(), each_value))
                }
                (Some(shard), Task::Count { filter }) => {
                    TaskReply::Counted(shard.count(time, filter.as_ref()) as u64)
                }
                (Some(shard), Task::Payloads(ids)) => TaskReply::Payloads(shard.payloads(time, &ids)),
                (Some(shard), Task::GroupHeads { finding, by, count, filter }) => {
                    TaskReply::GroupHeads(shard.group_heads(time, &finding, &by, count, filter.as_ref())?)
                }
                (Some(shard), Task::GroupMembers { finding, by, groups, size, filter }) => {
                    let filter = filter.as_ref();
                    TaskReply::GroupMembers(shard.group_members(time, &finding, &by, &groups, size, filter)?)
                }
                (Some(shard), Task::Examples { field, probes, formula, k, filter, among }) => {
                    let examples = Examples { probes: &probes, formula };
                    let (filter, among) = (filter.as_ref(), among.as_deref());
                    TaskReply::Hits(shard.by_examples(
                        time,
                        usize::from(field),
                        examples,
                        k,
                        filter,
                        among,
                    )?)
                }
                (None, Task::Vectors { field, .. }) => TaskReply::Vectors { field, stored: Vec::new() },
                (Some(shard), Task::Vectors { field, wanted }) => {
                    TaskReply::Vectors { field, stored: shard.vectors(time, usize::from(field), &wanted) }
                }
            };
            replies.push((stage, reply));
        }
        Ok(ShardReply { ticket: request.ticket, replies })
    }

    /// No request will come for a time before `since`.
    ///
    /// # Errors
    /// A segment that could not be built.
    pub fn compact(&mut self, since: Time) -> Result<(), IndexError> {
        self.shards.values_mut().try_for_each(|shard| shard.compact(since))
    }

    /// What all shards hold together.
    pub fn counters(&self) -> ShardCounters {
        self.shards.values().map(Shard::counters).fold(ShardCounters::default(), |sum, one| ShardCounters {
            documents: sum.documents + one.documents,
            versions: sum.versions + one.versions,
            segments: sum.segments + one.segments,
            sealed: sum.sealed + one.sealed,
            bytes: sum.bytes + one.bytes,
            builds: sum.builds + one.builds,
        })
    }

    /// Documents visible at a time.
    pub fn documents(&self, time: Time) -> usize {
        self.shards.values().map(|shard| shard.len_at(time)).sum()
    }
}
