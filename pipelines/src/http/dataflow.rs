//! What the operators of the dataflow do: as JSON, and as a picture that lives.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use freshet_operators::observe::Address;
use serde_json::json;

use super::App;
use super::refusal::json_response;

/// An operator's place as text, which names it in the answer.
fn place(address: &Address) -> String {
    address.iter().map(usize::to_string).collect::<Vec<_>>().join(".")
}

/// `GET /api/dataflow`: what each operator has done since the run began.
pub(super) async fn get(State(app): State<Arc<App>>) -> Response {
    let summary = app.pipe.setup.dataflow.summary();
    let operators = summary.operators.iter().map(|(address, operator)| {
        json!({
            "id": place(address),
            "name": operator.name,
            "busy_seconds": operator.busy.as_secs_f64(),
            "activations": operator.activations,
            "records_in": operator.records_in,
            "records_out": operator.records_out,
            "queued": operator.queued,
            "frontier": operator.frontier,
            "frontier_lag_seconds": summary.lag(operator).as_secs_f64(),
        })
    });
    let channels = summary.channels.iter().map(|((from, to), channel)| {
        json!({"from": place(from), "to": place(to), "records": channel.sent, "queued": channel.queued()})
    });
    let metrics = &app.pipe.setup.metrics;
    let body = json!({
        "observed": app.pipe.setup.config.pipeline.observe,
        "workers": summary.workers,
        "parked_seconds": summary.parked.as_secs_f64(),
        "applied_lag_seconds": metrics.applied_lag_seconds.get(),
        "operators": operators.collect::<Vec<_>>(),
        "channels": channels.collect::<Vec<_>>(),
    });
    json_response(StatusCode::OK, body.to_string())
}
