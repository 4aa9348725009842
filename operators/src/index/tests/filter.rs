//! Filtered searches are what the unfiltered, exact ones leave when they are filtered.

use std::collections::BTreeMap;

use freshet_schemas::Filter;
use serde_json::json;

use super::*;
use crate::index::payload::{PayloadField, PayloadKind};

#[test]
fn filtered_searches_are_the_unfiltered_ones_restricted() {
    let field_of = |path: &str, kind| PayloadField { path: path.to_owned(), kind };
    let payload =
        [("n", PayloadKind::Integer), ("tag", PayloadKind::Keyword), ("list[].n", PayloadKind::Integer)];
    let payload = payload.map(|(path, kind)| field_of(path, kind)).to_vec();
    let spec = SegmentSpec { fields: vec![field("dense", VectorKind::Dense, 4)], payload };
    let later = Arc::new(Later::default());
    let limit = HeadLimit { versions: 40, ..HeadLimit::default() };
    let mut shard = Shard::new(Arc::new(spec), limit, Arc::<Later>::clone(&later)).expect("fields");
    let filters = [
        json!({"must": {"key": "n", "range": {"gte": 3, "lt": 9}}}),
        json!({"must": {"key": "tag", "match": {"any": ["a", "c"]}}}),
        json!({"must_not": [{"key": "tag", "match": {"value": "b"}}, {"key": "n", "match": {"value": 4}}]}),
        json!({"should": [{"key": "free", "match": {"text": "two"}}, {"has_id": ["d003", "d011"]}]}),
        json!({"must": {"nested": {"key": "list", "filter": {"must": [
            {"key": "n", "range": {"lt": 4}}, {"key": "tag", "match": {"value": "a"}},
        ]}}}}),
        json!({"must": [{"is_empty": {"key": "tag"}}, {"key": "n", "match": {"except": [1, 2]}}]}),
    ];
    let filters = filters.map(|filter| Filter::parse(&filter, "").expect("a filter"));
    let mut random = Random::new(3);
    let mut payloads: BTreeMap<String, serde_json::Value> = BTreeMap::new();
    for time in 1..60 {
        let earlier = payloads.clone();
        let mut changes: BTreeMap<String, ShardChange> = BTreeMap::new();
        for _ in 0..12 {
            let id = format!("d{:03}", random.below(150));
            let vector: Vec<f32> = (0..4).map(|_| random.below(9) as f32 - 4.0).collect();
            let free = ["one", "two three"][random.below(2) as usize];
            let object = |random: &mut Random| {
                let tag = ["a", "b"][random.below(2) as usize];
                json!({"n": random.below(8), "tag": tag})
            };
            let list = [object(&mut random), object(&mut random)];
            let mut payload = json!({"n": random.below(12), "free": free, "list": list});
            match random.below(5) {
                0 => payload["tag"] = json!("a"),
                1 => payload["tag"] = json!(["b", "c"]),
                2 => payload["tag"] = json!({"odd": 1}),
                3 => payload["n"] = json!(3.5),
                _ => {}
            }
            let mut change = dense_put(&id, vec![dense_row(&vector)]);
            if let ShardChange::Put(put) = &mut change {
                put.payload = payload.to_string();
            }
            payloads.insert(id.clone(), payload);
            changes.insert(id, change);
        }
        shard.apply(time, changes.into_values().collect()).expect("puts");
        shard.compact(time.saturating_sub(1)).expect("builds");
        if time % 3 == 0 {
            later.work();
        }
        let probe = Probe::Dense((0..4).map(|_| random.below(9) as f32 - 4.0).collect());
        for filter in &filters {
            // In turns, so that what is kept of one question is there when the other is asked.
            for (time, payloads) in [(time, &payloads), (time - 1, &earlier), (time, &payloads)] {
                for (k, exact) in [(7, false), (7, true), (1000, false)] {
                    let mut expected = search(&shard, time, 0, &probe, 1000, true).expect("hits");
                    expected.retain(|hit| filter.matches(&hit.id, &payloads[&hit.id]));
                    expected.truncate(k);
                    let params = Params { exact, ..Params::default() };
                    let found = shard.search(time, 0, &probe, k, &params, Some(filter)).expect("hits");
                    assert_eq!(found, expected, "time {time}, {filter:?}");
                }
            }
        }
    }
    assert!(shard.counters().segments > 1, "some segments are sealed");
}
