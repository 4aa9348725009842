//! What requests to services over HTTP share.

use std::time::Duration;

use ureq::Agent;
use ureq::config::ConfigBuilder;
use ureq::typestate::AgentScope;
use xxhash_rust::xxh3::xxh3_64;

use crate::clock;

/// Pause before the first retry, at most; it doubles from retry to retry.
const BACKOFF: Duration = Duration::from_millis(50);

/// A random share of a pause that doubles from attempt to attempt ("full jitter").
pub(crate) fn backoff(attempt: u32, pause_max: Duration) -> Duration {
    let most = BACKOFF.saturating_mul(1 << attempt.min(16)).min(pause_max);
    let random = xxh3_64(&clock::now_us().to_le_bytes()) as f64 / u64::MAX as f64;
    most.mul_f64(random)
}

/// An agent to be: statuses are for the caller, and redirects are not followed, for whoever redirects is not who the keys are
/// for.
pub(crate) fn agent() -> ConfigBuilder<AgentScope> {
    Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(concat!("freshet/", env!("CARGO_PKG_VERSION")))
}

/// Host and port of an address: what may be told of it.
pub(crate) fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

/// Why a service cannot be reached. What the error itself prints may hold the address, and that may hold a secret.
#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "the others cannot come of a plain request, or say no more"
)]
pub(crate) fn unreachable(error: &ureq::Error, host: &str, timeout: Duration) -> String {
    match error {
        ureq::Error::Timeout(_) => format!("{host} did not answer within {timeout:.1?}"),
        ureq::Error::Io(error) => format!("cannot reach {host}: {}", error.kind()),
        ureq::Error::HostNotFound => format!("host {host} is not known"),
        ureq::Error::BodyExceedsLimit(bytes) => format!("{host} answered more than {bytes} bytes"),
        _ => format!("the request to {host} failed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_an_address_are_not_told() {
        for url in [
            "http://user:secret@127.0.0.1:1/v1?token=secret",
            "http://user:secret@nowhere.invalid/secret",
            "http://user:secret@:/",
        ] {
            let agent: Agent = agent().timeout_global(Some(Duration::from_secs(20))).build().into();
            let error = agent.get(url).call().expect_err("nobody answers");
            let told = unreachable(&error, host(url), Duration::from_secs(20));
            assert!(!told.contains("secret"), "{told}");
            assert!(told.contains(host(url)), "{told}");
        }
    }
}
