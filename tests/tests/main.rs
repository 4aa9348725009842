//! Tests of whole pipelines: one binary.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]

mod answers;
mod bad_input;
mod book;
mod budget;
mod by_hand;
mod chunks;
mod documents;
mod eval;
mod exactly_once;
mod examples;
mod filters;
mod freshness;
mod gateway;
mod http;
mod http_bodies;
mod kafka;
mod language;
mod layout;
mod lists;
mod models;
mod oracle;
mod page;
mod pages;
mod parity;
mod payload_parity;
mod replay;
mod snapshots;
mod sources;
mod stores;
mod traces;
mod watching;
mod watching_figures;
