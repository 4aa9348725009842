use std::collections::BTreeSet;
use std::sync::Arc;

use freshet_schemas::{Params, SparseVector, VectorKind};

use super::Shards;
use crate::index::segment::SegmentSpec;
use crate::index::shard::{Builder, HeadLimit, Job};
use crate::index::{
    DocumentPut, FieldPut, FieldSpec, IndexError, Metric, Probe, Scoring, ShardChange, Time, TokenCoding,
};
use crate::message::{ShardRequest, Statistic, Task, TaskReply, Ticket};

const HARBOUR: u64 = 3;
const BERTH: u64 = 5;

/// Builds at once.
struct Here;

impl Builder for Here {
    fn submit(&self, job: Job) {
        job();
    }
}

fn shards() -> Shards {
    shards_of(100)
}

/// Shards whose heads hold so many versions.
fn shards_of(versions: usize) -> Shards {
    let field = FieldSpec {
        name: "bm25".to_owned(),
        kind: VectorKind::Sparse,
        size: 0,
        scoring: Scoring::Bm25 { k1: 1.2, b: 0.75 },
        metric: Metric::Dot,
        factory: String::new(),
        coding: TokenCoding::Int8,
    };
    let spec = SegmentSpec { fields: vec![field], payload: vec![] };
    Shards::new(Arc::new(spec), HeadLimit { versions, bytes: 1 << 20 }, Arc::new(Here))
}

fn put(id: &str, terms: &[(u64, f32)]) -> ShardChange {
    let (indices, values) = terms.iter().copied().unzip();
    ShardChange::Put(Box::new(DocumentPut {
        id: id.to_owned(),
        origin: (0, 0),
        payload: "{}".to_owned(),
        digest: vec![0; 32],
        chunks: vec![],
        fields: vec![FieldPut::Sparse(SparseVector { indices, values })],
    }))
}

fn found(shards: &Shards, time: Time, shard: u32) -> Vec<String> {
    let probe = Probe::Sparse { terms: vec![(HARBOUR, 1.0)], length_mean: 1.0 };
    let params = Params::default();
    let task = Task::Search { field: 0, probe, k: 9, params, filter: None };
    let request = ShardRequest { ticket: Ticket { worker: 0, number: 7 }, shard, tasks: vec![(4, task)] };
    let reply = shards.serve(time, request).expect("it fits");
    assert_eq!(reply.ticket.number, 7);
    match &reply.replies[..] {
        [(4, TaskReply::Hits(hits))] => hits.iter().map(|hit| hit.id.clone()).collect(),
        other => panic!("{other:?}"),
    }
}

/// What a change does to the statistics, without what cancels.
fn sums(mut changes: Vec<(Statistic, isize)>) -> Vec<(Statistic, isize)> {
    changes.sort_unstable();
    let groups = changes.chunk_by(|a, b| a.0 == b.0);
    let sum = |group: &[(Statistic, isize)]| (group[0].0, group.iter().map(|(_, change)| change).sum());
    groups.map(sum).filter(|(_, sum)| *sum != 0).collect()
}

#[test]
fn statistics_are_what_changes_do_to_them() {
    let mut shards = shards();
    let (documents, length) = (Statistic::Documents(0), Statistic::Length(0));
    let term = |term| Statistic::Term(0, term);
    let first = shards.apply(1, 1, vec![put("a", &[(HARBOUR, 2.0), (BERTH, 1.0)])]).expect("it fits");
    assert_eq!(sums(first), [(documents, 1), (length, 3), (term(HARBOUR), 1), (term(BERTH), 1)]);
    let changed = shards.apply(1, 2, vec![put("a", &[(BERTH, 1.0)])]).expect("it fits");
    assert_eq!(sums(changed), [(length, -2), (term(HARBOUR), -1)]);
    let gone = shards.apply(1, 3, vec![ShardChange::Remove { id: "a".to_owned() }]).expect("it is there");
    assert_eq!(sums(gone), [(documents, -1), (length, -1), (term(BERTH), -1)]);
}

/// What a start computes from the shards is what the changes of all their documents have come to: of heads, of sealed segments,
/// and of those of which some documents are gone.
#[test]
fn statistics_of_what_lives_are_those_of_all_changes() {
    let mut shards = shards_of(40);
    let mut there = BTreeSet::new();
    let (mut all, mut sealed) = (Vec::new(), 0);
    for time in 1..400u64 {
        let id = format!("d{}", time * 37 % 150);
        let gone = time % 7 == 0 && there.remove(&id);
        let change = match gone {
            true => ShardChange::Remove { id },
            false => put(&id, &[(time % 11, 1.0 + (time % 3) as f32), (20 + time % 50, 1.0)]),
        };
        if let ShardChange::Put(put) = &change {
            there.insert(put.id.clone());
        }
        all.extend(shards.apply(1, time, vec![change]).expect("it fits"));
        shards.compact(time).expect("segments");
        if time % 20 == 0 {
            let mut living = shards.living();
            let mut counted = Vec::new();
            while let Some(known) = living.next(7) {
                let (states, statistics) = known.expect("states");
                assert!(!states.is_empty() && states.len() <= 7);
                counted.extend(statistics);
            }
            assert_eq!(sums(counted), sums(all.clone()), "at {time}");
            sealed = shards.counters().sealed.max(sealed);
        }
    }
    assert!(sealed > 0, "nothing was sealed");
}

#[test]
fn a_shard_is_asked_at_a_time_and_comes_to_be_with_its_first_change() {
    let mut shards = shards();
    assert_eq!(found(&shards, 9, 1), [""; 0], "it answers like an empty one");
    shards.apply(1, 2, vec![put("a", &[(HARBOUR, 1.0)])]).expect("it fits");
    shards.apply(2, 2, vec![put("b", &[(HARBOUR, 1.0)])]).expect("it fits");
    shards.apply(1, 4, vec![ShardChange::Remove { id: "a".to_owned() }]).expect("it is there");
    assert_eq!((found(&shards, 1, 1), found(&shards, 3, 1)), (vec![], vec!["a".to_owned()]));
    assert_eq!((found(&shards, 4, 1), found(&shards, 4, 2)), (vec![], vec!["b".to_owned()]));
    assert_eq!((shards.documents(3), shards.documents(4)), (2, 1));
    assert_eq!(shards.counters().documents, 1);
}

#[test]
fn a_change_that_does_not_fit_is_an_error() {
    let refused = shards().apply(1, 1, vec![ShardChange::Remove { id: "nobody".to_owned() }]);
    assert!(matches!(refused, Err(IndexError::Unknown { id, .. }) if id == "nobody"));
}
