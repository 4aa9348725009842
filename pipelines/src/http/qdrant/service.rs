//! What clients ask of the server itself.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use serde_json::{Value, json};

use super::envelope::answer;
use crate::http::refusal::json_response;
use crate::http::{App, assets};

/// The version of Qdrant whose protocol this is; clients compare it with their own.
const QDRANT_VERSION: &str = "1.20.0";

/// `GET /`: the search page for people, a version for clients.
pub(in crate::http) async fn root(headers: HeaderMap) -> Response {
    let accepts = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    if accepts.is_some_and(|accepts| accepts.contains("text/html")) {
        return assets::page().await;
    }
    json_response(StatusCode::OK, version().to_string())
}

fn version() -> Value {
    json!({
        "title": "Freshet, with the protocol of Qdrant",
        "version": QDRANT_VERSION,
        "freshet": env!("CARGO_PKG_VERSION"),
    })
}

/// `GET /livez`: as Kubernetes calls it.
pub(super) async fn live() -> Response {
    json_response(StatusCode::OK, r#"{"status":"ok"}"#)
}

/// `GET /telemetry`: what clients look for, and nothing about users.
pub(super) async fn telemetry(State(app): State<Arc<App>>) -> Response {
    answer(async {
        let list = app.list()?;
        Ok(json!({
            "app": {"name": "freshet", "version": env!("CARGO_PKG_VERSION")},
            "collections": {"number_of_collections": list.names().len() + usize::from(app.own.is_some())},
        }))
    })
    .await
}
