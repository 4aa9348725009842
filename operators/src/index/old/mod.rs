//! The shard before segments.
#![allow(missing_docs)]
pub mod dense;
mod faiss;
pub mod multi;
pub mod rows;
pub mod shard;
pub mod sparse;
use super::*;
