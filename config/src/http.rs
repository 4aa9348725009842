//! `[http]`: the server beside the pipeline.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use crate::Secret;
use crate::section::Section;

/// `[http]`
#[derive(Clone, Debug, PartialEq)]
pub struct Http {
    /// `listen`: address and port. Default `127.0.0.1:6333`.
    pub listen: String,
    /// `api_key`: whoever has it may do everything. Without one, everybody may.
    pub api_key: Option<Secret>,
    /// `read_only_api_key`: whoever has it may ask, but not write. Only beside `api_key`.
    pub read_only_api_key: Option<Secret>,
    /// `tls`: `{ certificate, key }`, files in PEM; connections are private then. Default none.
    pub tls: Option<Tls>,
    /// `cors_origins`: sites whose pages may call the server from a browser; `*` is any. Default none.
    pub cors_origins: Vec<String>,
    /// `body_bytes_max`: largest body of a request. Default 16 MiB.
    pub body_bytes_max: NonZeroUsize,
    /// `bodies_bytes_max`: bytes of bodies that all requests being served may hold together; a body that does not fit is
    /// refused. At least `body_bytes_max`. Default 256 MiB.
    pub bodies_bytes_max: NonZeroUsize,
    /// `requests_max`: requests of the API being served at once; more are refused. Default 256.
    pub requests_max: NonZeroUsize,
    /// `connections_max`: open connections; more wait until they are accepted. Default 1024.
    pub connections_max: NonZeroUsize,
    /// `request_timeout`: longest time until a request is answered. Default 60 s.
    pub request_timeout: Duration,
    /// `idle_timeout`: longest time that a client may take to send a header or a body, to read some of its answer, or
    /// to do nothing. Default 30 s.
    pub idle_timeout: Duration,
}

/// `http.tls`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// `certificate`: that of the server, with those that vouch for it behind it.
    pub certificate: PathBuf,
    /// `key`: the private one.
    pub key: PathBuf,
}

/// Most requests and connections: more are slips of the keyboard.
const COUNT_MAX: usize = 1 << 20;

pub(crate) fn http(mut section: Section<'_>) -> Http {
    let base = Http::default();
    let http = Http {
        listen: section.string("listen").unwrap_or(base.listen),
        api_key: section.string("api_key").map(Secret::from),
        read_only_api_key: section.string("read_only_api_key").map(Secret::from),
        tls: tls(&mut section),
        cors_origins: section.strings("cors_origins").unwrap_or(base.cors_origins),
        body_bytes_max: section.size("body_bytes_max").unwrap_or(base.body_bytes_max),
        bodies_bytes_max: section.size("bodies_bytes_max").unwrap_or(base.bodies_bytes_max),
        requests_max: section.count("requests_max", COUNT_MAX).unwrap_or(base.requests_max),
        connections_max: section.count("connections_max", COUNT_MAX).unwrap_or(base.connections_max),
        request_timeout: section.duration("request_timeout").unwrap_or(base.request_timeout),
        idle_timeout: section.duration("idle_timeout").unwrap_or(base.idle_timeout),
    };
    if !is_address(&http.listen) {
        let message = format!("\"{}\" is not HOST:PORT, such as \"127.0.0.1:6333\"", http.listen);
        section.report("listen", message);
    }
    if http.bodies_bytes_max < http.body_bytes_max {
        let (all, one) = (http.bodies_bytes_max, http.body_bytes_max);
        let message =
            format!("{all} bytes is less than body_bytes_max, {one}: the largest body would never fit");
        section.report("bodies_bytes_max", message);
    }
    if http.read_only_api_key.is_some() && !section.was_given("api_key") {
        section.report("read_only_api_key", "needs api_key beside it: nobody could write otherwise");
    }
    if http.read_only_api_key.is_some() && http.read_only_api_key == http.api_key {
        section.report("read_only_api_key", "is the same as api_key: who reads could write");
    }
    for (index, origin) in http.cors_origins.iter().enumerate() {
        if !is_origin(origin) {
            let message = format!("\"{origin}\" is not an origin such as \"https://example.com\", nor \"*\"");
            section.report_at(format!("http.cors_origins[{index}]"), message);
        }
    }
    section.finish();
    http
}

fn tls(section: &mut Section<'_>) -> Option<Tls> {
    if !section.has("tls") {
        return None;
    }
    let mut tls = section.section("tls");
    let files = [tls.string("certificate"), tls.string("key")].map(|path| path.map(PathBuf::from));
    for (name, path) in ["certificate", "key"].into_iter().zip(&files) {
        if path.is_none() && !tls.was_given(name) {
            tls.report(name, "missing: a file in PEM");
        }
    }
    tls.finish();
    match files {
        [Some(certificate), Some(key)] => Some(Tls { certificate, key }),
        _ => None,
    }
}

fn is_address(listen: &str) -> bool {
    let parts = listen.rsplit_once(':');
    parts.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

/// Scheme, host and port, as a browser sends it: no path, no slash at the end.
fn is_origin(origin: &str) -> bool {
    let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
    let is_host = |host: &str| !host.is_empty() && host.bytes().all(|b| b.is_ascii_graphic() && b != b'/');
    origin == "*" || host.is_some_and(is_host)
}
