//! Whether the process lives and answers, what it counts, and what the search page shows of it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use freshet_schemas::AsOf;
use prometheus::proto::MetricFamily;
use prometheus::{Encoder, TextEncoder};
use serde_json::json;

use super::App;
use super::refusal::{Refusal, json_response};

/// `GET /healthz`: the process lives.
pub(super) async fn live() -> Response {
    json_response(StatusCode::OK, r#"{"status":"ok"}"#)
}

/// `GET /readyz`: queries are answered; 503 with the reason where they are not.
pub(super) async fn ready(State(app): State<Arc<App>>) -> Response {
    let starting = app.collections.iter().flat_map(|list| list.all()).find_map(|collection| {
        // One that has failed says so itself, also while it is started again; the others go on.
        let running = collection.pipe.control.running() && collection.failed_before().is_none();
        let why = collection.pipe.phase().obstacle().filter(|_| running);
        why.map(|why| format!("collection \"{}\": {why}", collection.name))
    });
    match app.pipe.phase().obstacle().map(str::to_owned).or(starting) {
        None => json_response(StatusCode::OK, r#"{"status":"ready"}"#),
        Some(why) => json_response(
            StatusCode::SERVICE_UNAVAILABLE,
            json!({"status": "not ready", "reason": why}).to_string(),
        ),
    }
}

/// `GET /metrics`: in Prometheus' text format.
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Result<Response, Refusal> {
    app.operators.show(&app.pipe.setup.dataflow.summary());
    let mut text = Vec::new();
    let encoder = TextEncoder::new();
    encoder.encode(&families(&app), &mut text).map_err(|error| {
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", format!("metrics not written: {error}"))
    })?;
    let mut response = Response::new(text.into());
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

/// All that is counted, by name; what belongs to a collection has its name as a label.
fn families(app: &App) -> Vec<MetricFamily> {
    app.pipe.show_waiting();
    let own = app.registry.gather().into_iter().map(|family| (family.name().to_owned(), family));
    let mut families: BTreeMap<String, MetricFamily> = own.collect();
    for collection in app.collections.iter().flat_map(|list| list.all()) {
        collection.pipe.show_waiting();
        for mut family in collection.registry.gather() {
            match families.entry(family.name().to_owned()) {
                Entry::Occupied(mut known) => known.get_mut().mut_metric().extend(family.take_metric()),
                Entry::Vacant(free) => drop(free.insert(family)),
            }
        }
    }
    families.into_values().collect()
}

/// `GET /api/status`: what is indexed, and what can be asked.
pub(super) async fn status(State(app): State<Arc<App>>) -> Response {
    let config = &app.pipe.setup.config;
    let indexed = app.pipe.setup.status.watch_indexed();
    let as_of: AsOf = indexed.borrow().iter().map(|(partition, next)| (*partition, next - 1)).collect();
    let phase = app.pipe.phase();
    let metrics = &app.pipe.setup.metrics;
    let body = json!({
        "pipeline": config.pipeline.name,
        "ready": phase.obstacle().is_none(),
        "reason": phase.obstacle(),
        "documents": metrics.documents(),
        "documents_applied": metrics.documents_applied.get(),
        "applied_lag_seconds": metrics.applied_lag_seconds.get(),
        "queries_in_flight": metrics.in_flight.get(),
        "as_of": config.topics.documents.by_name(&as_of),
        "plans": config.plans.keys().collect::<Vec<_>>(),
        "vectors": config.vectors.keys().collect::<Vec<_>>(),
        "rerankers": config.rerankers.keys().collect::<Vec<_>>(),
    });
    json_response(StatusCode::OK, body.to_string())
}
