//! Several shards, by number.

use std::collections::BTreeMap;

use std::sync::Arc;

use freshet_schemas::{SparseVector, VectorKind};

use crate::index::segment::{AnyVector, SegmentSpec};
use crate::index::shard::{Builder, HeadLimit, PartCut, RestoredPart, Shard};
use crate::index::{FieldPut, IndexError, Scoring, ShardChange, Time};
use crate::message::{ShardReply, ShardRequest, Statistic, Task, TaskReply};
use crate::upsert::DocumentState;

/// The shards of one worker. A shard comes to be with its first change; until then it answers like an empty one.
pub struct Shards {
    spec: Arc<SegmentSpec>,
    limit: HeadLimit,
    builder: Arc<dyn Builder>,
    /// Fields whose statistics are kept.
    counted: Vec<u16>,
    shards: BTreeMap<u32, Shard>,
}

impl Shards {
    /// No shards yet, of these fields, with heads up to a limit and segments built by `builder`.
    pub fn new(spec: Arc<SegmentSpec>, limit: HeadLimit, builder: Arc<dyn Builder>) -> Self {
        let counted = (0u16..).zip(&spec.fields).filter(|(_, f)| matches!(f.scoring, Scoring::Bm25 { .. }));
        let counted =
            counted.filter(|(_, f)| f.kind == VectorKind::Sparse).map(|(number, _)| number).collect();
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
        for &field in &self.counted {
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
                old.iter().for_each(|old| count(&mut statistics, field, old, -1));
                new.into_iter().for_each(|new| count(&mut statistics, field, new, 1));
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

    /// What the documents that live have in the statistics.
    pub fn statistics(&self) -> Vec<(Statistic, isize)> {
        let mut statistics = Vec::new();
        for shard in self.shards.values() {
            let mut of_shard = Vec::new();
            shard.each_living(|segment, version| {
                for &field in &self.counted {
                    for vector in segment.vectors(version, usize::from(field)) {
                        if let AnyVector::Sparse(vector) = vector {
                            count(&mut of_shard, field, &vector, 1);
                        }
                    }
                }
                // Summed up now and then, so that it stays small.
                if of_shard.len() > 2 * statistics.len() + (1 << 20) {
                    statistics.append(&mut of_shard);
                    sum_up(&mut statistics);
                }
            });
            statistics.append(&mut of_shard);
        }
        sum_up(&mut statistics);
        statistics
    }

    /// What the upsert remembers of the documents that live.
    ///
    /// # Errors
    /// A digest that is not one: the id of its document.
    pub fn states(&self) -> Result<Vec<(String, DocumentState)>, IndexError> {
        let mut states = Vec::new();
        let mut wrong = None;
        for shard in self.shards.values() {
            shard.each_living(|segment, version| {
                let versions = segment.versions();
                let (id, payload) = (versions.id(version), versions.payload(version));
                match DocumentState::restore(versions.digest(version), payload, versions.chunks(version)) {
                    Ok(state) => states.push((id.to_owned(), state)),
                    Err(error) => wrong = Some((id.to_owned(), error)),
                }
            });
        }
        match wrong {
            Some((id, error)) => Err(IndexError::Unknown { id, what: error.to_string() }),
            None => Ok(states),
        }
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
                (None, Task::Search { .. } | Task::Score { .. }) => TaskReply::Hits(Vec::new()),
                (None, Task::Fetch(_)) => TaskReply::Fetched(Vec::new()),
                (Some(shard), Task::Search { field, probe, k, params, filter }) => TaskReply::Hits(
                    shard.search(time, usize::from(field), &probe, k, &params, filter.as_ref())?,
                ),
                (Some(shard), Task::Score { field, probe, ids }) => {
                    TaskReply::Hits(shard.score(time, usize::from(field), &probe, &ids)?)
                }
                (Some(shard), Task::Fetch(wanted)) => TaskReply::Fetched(shard.fetch(time, &wanted)),
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

    /// Documents visible at a time.
    pub fn documents(&self, time: Time) -> usize {
        self.shards.values().map(|shard| shard.len_at(time)).sum()
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
}

/// Adds a document vector to the statistics, or takes it away. Lengths are term counts: whole numbers.
#[allow(clippy::cast_possible_truncation, reason = "a sum of term counts, far below 2^63")]
fn count(statistics: &mut Vec<(Statistic, isize)>, field: u16, vector: &SparseVector, sign: isize) {
    statistics.push((Statistic::Documents(field), sign));
    statistics.push((Statistic::Length(field), sign * vector.sum().round() as isize));
    statistics.extend(vector.indices.iter().map(|&term| (Statistic::Term(field, term), sign)));
}
