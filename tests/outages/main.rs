//! Kafka's bad days, as the pipeline lives through them or ends because of them: the binary itself, on brokers that are
//! slow, away, killed, or refuse, and on topics that change under it.
//!
//! Tests skip by name without KAFKA_BOOTSTRAP_SERVERS, or fail where `CI` is set. Those that do harm to brokers start some
//! of their own.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]

mod brokers;
mod cluster;
mod proxy;
mod refused;
mod stage;
mod topics;

/// The broker of the test run, which no test may harm.
fn broker(test: &str) -> Option<String> {
    let address = std::env::var("KAFKA_BOOTSTRAP_SERVERS").ok();
    if address.is_none() {
        assert!(std::env::var_os("CI").is_none(), "{test}: KAFKA_BOOTSTRAP_SERVERS is not set");
        eprintln!("SKIPPED {test}: KAFKA_BOOTSTRAP_SERVERS is not set");
    }
    address
}
