//! Tests of whole pipelines: one binary.

mod bad_input;
mod budget;
mod documents;
mod freshness;
mod kafka;
mod oracle;
