//! Recall of the approximate index while everything is replaced under it.

use super::script::Random;
use super::{Later, dense_put, dense_row, field, open_with, search, settle};
use crate::index::{FieldSpec, Probe, ShardChange};
use freshet_schemas::VectorKind;

const DIM: usize = 32;
const DOCUMENTS: u64 = 12_000;

/// Vectors of unit length around some hundred centres.
struct Clusters {
    random: Random,
    centres: Vec<Vec<f32>>,
}

impl Clusters {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let zero = vec![0.0; DIM];
        let centres = (0..200).map(|_| around(&mut random, &zero)).collect();
        Self { random, centres }
    }

    fn vector(&mut self) -> Vec<f32> {
        let centre = self.random.below(self.centres.len() as u64) as usize;
        around(&mut self.random, &self.centres[centre])
    }
}

/// A vector of unit length near a centre.
fn around(random: &mut Random, centre: &[f32]) -> Vec<f32> {
    // The sum of four uniform numbers is about normal.
    let mut noise = || (0..4).map(|_| random.below(2001) as f32 / 1000.0 - 1.0).sum::<f32>() * 0.12;
    let vector: Vec<f32> = centre.iter().map(|value| value + noise()).collect();
    let norm = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    vector.into_iter().map(|value| value / norm).collect()
}

/// Every document is replaced three times in random order, some leave and come back; builds run between the ticks. Recall
/// is measured through the shard against its own plain scan.
#[test]
fn recall_holds_while_every_document_is_replaced_three_times() {
    let spec = FieldSpec {
        factory: freshet_config::defaults::INDEX.into(),
        ..field("dense", VectorKind::Dense, DIM)
    };
    let (mut shard, later) = open_with(vec![spec], 1024).expect("a field");
    let mut clusters = Clusters::new(5);
    let probes: Vec<Probe> = (0..100).map(|_| Probe::Dense(clusters.vector())).collect();
    let mut time = 0;
    for round in 0..4u64 {
        let mut order: Vec<u64> = (0..DOCUMENTS).collect();
        for place in (1..order.len()).rev() {
            order.swap(place, clusters.random.below(place as u64 + 1) as usize);
        }
        for (step, numbers) in order.chunks(400).enumerate() {
            time += 1;
            let put = |number: &u64| dense_put(&format!("d{number:05}"), vec![dense_row(&clusters.vector())]);
            let mut changes: Vec<ShardChange> = numbers.iter().map(put).collect();
            if round > 0 && step % 5 == 4 {
                // Put into the same tick's place: the document leaves, and comes back with its next replacement.
                changes.truncate(300);
                let leaves = |number: &u64| ShardChange::Remove { id: format!("d{number:05}") };
                changes.extend(
                    numbers[300..].iter().filter(|n| shard.origin(&format!("d{n:05}")).is_some()).map(leaves),
                );
            }
            shard.apply(time, changes).expect("changes that fit");
            work(&later, step % 3);
            shard.compact(time).expect("builds");
        }
        let found = recall(&shard, time, &probes);
        assert!(found >= 0.95, "round {round}: recall@10 {found}, {:?}", shard.counters());
    }
    time += 10_000;
    settle(&mut shard, &later, time);
    let found = recall(&shard, time, &probes);
    assert!(found >= 0.95, "settled: recall@10 {found}, {:?}", shard.counters());
    assert_eq!(shard.counters().segments, 2, "one sealed segment and the head");
}

fn work(later: &Later, jobs: usize) {
    for _ in 0..jobs {
        later.work();
    }
}

fn recall(shard: &crate::index::shard::Shard, time: u64, probes: &[Probe]) -> f64 {
    let mut right = 0;
    for probe in probes {
        let ids = |exact| -> Vec<String> {
            let hits = search(shard, time, 0, probe, 10, exact).expect("a probe that fits");
            hits.into_iter().map(|hit| hit.id).collect()
        };
        let expected = ids(true);
        right += ids(false).iter().filter(|id| expected.contains(id)).count();
    }
    right as f64 / (10 * probes.len()) as f64
}
