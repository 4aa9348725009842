//! Tests of whole pipelines: one binary.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]

mod bad_input;
mod budget;
mod documents;
mod exactly_once;
mod filters;
mod freshness;
mod gateway;
mod http;
mod http_figures;
mod kafka;
mod models;
mod oracle;
mod page;
mod snapshots;
mod stores;
