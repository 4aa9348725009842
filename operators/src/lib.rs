//! The operators of Freshet, one folder each, in the order of the flow:
//! `connect` · `registry` · `consume` · `decode` · `upsert` · `embed` · `shard` (over `index`) · `stats` · `plan` · `admit` ·
//! `gather` (over `fuse` and `formula`) · `pages` · `produce`; `gateway`, `snapshot` and `trace` beside it.
//!
//! `mod.rs` of an operator is its timely part: capabilities, frontiers, exchange. What it decides is in plain structs
//! beside it, which never import timely and are tested alone.

pub mod admit;
mod background;
pub mod causes;
pub mod clock;
pub mod connect;
pub mod consume;
pub mod control;
pub mod crash;
pub mod decode;
pub mod embed;
pub mod formula;
pub mod fuse;
pub mod gateway;
pub mod gather;
pub mod index;
pub mod message;
pub mod metrics;
pub mod observe;
pub mod pages;
pub mod plan;
pub mod produce;
pub mod registry;
mod remote;
pub mod rerank;
pub mod shard;
pub mod snapshot;
pub mod stats;
pub mod text;
pub mod trace;
pub mod upsert;
pub mod wake;
