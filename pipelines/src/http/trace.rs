//! The trace that a request is a part of: from its headers into those of the records it makes.

use axum::extract::Request;
use axum::http::HeaderMap;
use axum::middleware::Next;
use axum::response::Response;
use freshet_operators::trace::{TRACEPARENT, TRACESTATE};
use freshet_schemas::Headers;

tokio::task_local! {
    /// Headers of the request that this task serves.
    static CARRIED: Headers;
}

/// Remembers where in a trace a request stands, as long as it is served.
pub(super) async fn carry(request: Request, next: Next) -> Response {
    let headers = trace_headers(request.headers());
    match headers.is_empty() {
        true => next.run(request).await,
        false => CARRIED.scope(headers, next.run(request)).await,
    }
}

/// The headers of a request that speak of its trace.
fn trace_headers(headers: &HeaderMap) -> Headers {
    let mut found = Headers::new();
    for name in [TRACEPARENT, TRACESTATE] {
        let values = headers.get_all(name).into_iter();
        found.extend(values.map(|value| (name.to_owned(), Some(value.as_bytes().to_vec()))));
    }
    found
}

/// Headers for the records that the request makes which is being served.
pub(super) fn carried() -> Headers {
    CARRIED.try_with(|headers| headers.clone()).unwrap_or_default()
}
