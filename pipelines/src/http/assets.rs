//! The pages: files that are part of the binary and load nothing from elsewhere.

use axum::http::{HeaderValue, header};
use axum::response::Response;

/// Nothing but what this server sends, and nothing written into the page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

fn asset(kind: &'static str, text: &'static str) -> Response {
    let mut response = Response::new(text.into());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // A new version of the program has new pages.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// `GET /`: the search page.
pub(super) async fn page() -> Response {
    asset(HTML, include_str!("pages/search.html"))
}

/// `GET /search.js`
pub(super) async fn page_script() -> Response {
    asset(SCRIPT, include_str!("pages/search.js"))
}

/// `GET /flow.js`: the picture of how hits moved.
pub(super) async fn flow_script() -> Response {
    asset(SCRIPT, include_str!("pages/flow.js"))
}

/// `GET /dataflow`: the picture of the dataflow.
pub(super) async fn dataflow() -> Response {
    asset(HTML, include_str!("pages/dataflow.html"))
}

/// `GET /dataflow.js`
pub(super) async fn dataflow_script() -> Response {
    asset(SCRIPT, include_str!("pages/dataflow.js"))
}

/// `GET /style.css`
pub(super) async fn style() -> Response {
    asset(STYLE, include_str!("pages/style.css"))
}

/// `GET /docs`: the routes, to be read and tried.
pub(super) async fn docs() -> Response {
    asset(HTML, include_str!("pages/docs.html"))
}

/// `GET /docs.js`
pub(super) async fn docs_script() -> Response {
    asset(SCRIPT, include_str!("pages/docs.js"))
}
