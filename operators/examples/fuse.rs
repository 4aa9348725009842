//! Fuses the lists of two legs by hand: `cargo run --release -p freshet-operators --example fuse`.
//!
//! Fusion knows nothing of timely: lists go in, a list comes out, and each hit says what each leg contributed.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use freshet_operators::fuse::fuse;
use freshet_operators::index::Hit;
use freshet_schemas::Fusion;

fn leg(hits: &[(&str, f64)]) -> Vec<Hit> {
    hits.iter().map(|&(id, score)| Hit { id: id.to_owned(), chunk: 0, score }).collect()
}

/// Ids, best first, with what each leg contributed.
pub fn fused(fusion: &Fusion) -> Vec<(String, Vec<Option<f64>>)> {
    let dense = leg(&[("refunds", 0.81), ("invoices", 0.79), ("berths", 0.40)]);
    let bm25 = leg(&[("invoices", 7.2), ("refunds", 3.9)]);
    fuse(fusion, &[dense, bm25]).into_iter().map(|hit| (hit.id, hit.contributions)).collect()
}

/// Shows both fusions.
pub fn main() {
    for (name, fusion) in [("rrf", Fusion::Rrf { k: 2.0, weights: vec![] }), ("dbsf", Fusion::Dbsf)] {
        println!("{name}:");
        for (id, contributions) in fused(&fusion) {
            println!("  {id:10} {contributions:.3?}");
        }
    }
}
