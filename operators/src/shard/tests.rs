use std::sync::Arc;

use freshet_schemas::{Params, SparseVector, VectorKind};

use super::Shards;
use crate::index::segment::SegmentSpec;
use crate::index::shard::{BuildPool, HeadLimit};
use crate::index::{
    DocumentPut, FieldPut, FieldSpec, IndexError, Metric, Probe, Scoring, ShardChange, Time, TokenCoding,
};
use crate::message::{ShardRequest, Statistic, Task, TaskReply, Ticket};

const HARBOUR: u64 = 3;
const BERTH: u64 = 5;

fn shards() -> Shards {
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
    let limit = HeadLimit { versions: 100, bytes: 1 << 20 };
    Shards::new(Arc::new(spec), limit, Arc::new(BuildPool::new(1).expect("a thread")))
}

fn put(id: &str, terms: &[(u64, f32)]) -> ShardChange {
    let (indices, values) = terms.iter().copied().unzip();
    ShardChange::Put(Box::new(DocumentPut {
        id: id.to_owned(),
        origin: (0, 0),
        payload: "{}".to_owned(),
        digest: vec![],
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
