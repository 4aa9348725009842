//! Fusion of ranked lists into one: the global lists of some legs → one list with what each leg contributed.
//!
//! Only for lists that have been gathered: ranks and distributions mean nothing within a shard.

mod logic;

pub use logic::{Fused, Leg, dbsf, fuse, fuse_legs, rrf};

#[cfg(test)]
mod tests;
