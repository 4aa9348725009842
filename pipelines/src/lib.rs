//! The pipelines of Freshet: the dataflow from topic to topic, and what the command line does with it.

pub mod ask;
pub mod collections;
pub mod dataflow;
mod delivery;
pub mod doctor;
pub mod eval;
mod gauges;
pub mod http;
pub mod load;
pub mod overlay;
pub mod reference;
pub mod render;
pub mod replay;
pub mod restore;
pub mod run;
pub mod setup;
pub mod status;
