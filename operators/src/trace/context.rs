//! Trace contexts as W3C's Trace Context has them in headers.

use std::fmt;

use freshet_schemas::{Header, Headers};

/// The header that says of which trace and span a record or a request is a part.
pub const TRACEPARENT: &str = "traceparent";
/// The header with what others note of the trace; passed on as it is.
pub const TRACESTATE: &str = "tracestate";

/// Longest `tracestate` that is passed on, as the standard asks for at least.
const STATE_BYTES_MAX: usize = 512;
/// The flag of a trace that is sampled.
const SAMPLED: u8 = 1;

/// A place in a trace. Neither id is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// Id of the trace.
    pub trace: u128,
    /// Id of the span.
    pub span: u64,
    /// Whether somebody keeps the trace.
    pub sampled: bool,
}

/// A `traceparent` of version 00.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.sampled) * SAMPLED)
    }
}

/// Hexadecimal digits in lower case, and nothing else.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (text.len() == digits && text.bytes().all(is_hex)).then(|| u128::from_str_radix(text, 16).ok())?
}

impl TraceContext {
    /// Reads a `traceparent`; `None` where it is malformed. Of later versions the parts that this one has are read.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(5, '-');
        let mut part = |digits| hex(parts.next()?, digits);
        let (version, trace, span, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
        let more = parts.next().is_some();
        if version == 0xff || (version == 0 && more) || trace == 0 || span == 0 {
            return None;
        }
        Some(Self { trace, span: span as u64, sampled: flags as u8 & SAMPLED != 0 })
    }

    /// That of a record; `None` without one, with a malformed one, and with several.
    pub fn of(headers: &Headers) -> Option<Self> {
        let mut found = values(headers, TRACEPARENT);
        let (first, more) = (found.next()?, found.next());
        let text = std::str::from_utf8(first).ok()?;
        if more.is_some() { None } else { Self::parse(text.trim()) }
    }
}

/// Values of the headers of a name, whatever its case.
fn values<'a>(headers: &'a Headers, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
    let named = move |header: &&Header| header.0.eq_ignore_ascii_case(name);
    headers.iter().filter(named).map(|(_, value)| value.as_deref().unwrap_or_default())
}

/// The `tracestate` beside a `traceparent`; several are one, as the standard says.
pub(super) fn state(headers: &Headers) -> Option<String> {
    let parts: Vec<&str> =
        values(headers, TRACESTATE).filter_map(|part| std::str::from_utf8(part).ok()).collect();
    let state = parts.join(",");
    (!state.is_empty() && state.len() <= STATE_BYTES_MAX).then_some(state)
}

/// The headers that an answer carries: those of the query, with this place in the trace instead of the caller's. What stands
/// beside a `traceparent` that was no part of the trace goes with it.
pub fn carried(mut headers: Headers, context: TraceContext) -> Headers {
    let same = TraceContext::of(&headers).is_some_and(|caller| caller.trace == context.trace);
    headers.retain(|(name, _)| {
        !name.eq_ignore_ascii_case(TRACEPARENT) && (same || !name.eq_ignore_ascii_case(TRACESTATE))
    });
    headers.push((TRACEPARENT.to_owned(), Some(context.to_string().into_bytes())));
    headers
}
