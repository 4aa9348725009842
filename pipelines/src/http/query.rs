//! Queries: a record of the queries topic as a body, many of them, or a question in the address.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query as Parameters, State};
use axum::http::StatusCode;
use axum::response::Response;
use freshet_schemas::{Answer, Fault, FaultCode, Record};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::App;
use super::guard::read_body;
use super::refusal::{Refusal, json_response, status_of};
use super::search;

/// Most queries of one request.
const BATCH_MAX: usize = 1000;
/// Queries of one request that are under way at once.
const BATCH_AT_ONCE: usize = 16;

/// What decides what a body is.
#[derive(Deserialize)]
struct Shape {
    id: Option<Value>,
    queries: Option<Vec<Value>>,
}

/// `POST /api/query`
pub(super) async fn post(State(app): State<Arc<App>>, body: Body) -> Result<Response, Refusal> {
    let body = read_body(&app.http, body).await?;
    // What is no such JSON is refused by whoever reads queries, in the same words as in a topic.
    match serde_json::from_slice::<Shape>(&body) {
        Ok(Shape { queries: Some(queries), id: None }) => batch(&app, queries).await,
        Ok(Shape { id: Some(id), .. }) if !id.is_null() => {
            one(&app, Record { value: Some(body.to_vec()), ..Record::default() }).await
        }
        _ => one(&app, app.pipe.named(body.to_vec())).await,
    }
}

/// `GET /api/search`
pub(super) async fn get(
    State(app): State<Arc<App>>,
    parameters: Result<Parameters<Vec<(String, String)>>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Parameters(parameters) =
        parameters.map_err(|error| Refusal::invalid("", format!("the address cannot be read: {error}")))?;
    let query = search::query(&parameters, &app.pipe.setup.config.payload)?;
    one(&app, app.pipe.named(query.to_string().into_bytes())).await
}

async fn one(app: &App, record: Record) -> Result<Response, Refusal> {
    let answer = answer(app.pipe.ask(record)?).await?;
    let status = answer.error.as_ref().map_or(StatusCode::OK, |fault| status_of(fault.code));
    Ok(json_response(status, answer.to_json()))
}

/// Answers in the order of the queries; each may have an error of its own.
async fn batch(app: &App, queries: Vec<Value>) -> Result<Response, Refusal> {
    if queries.len() > BATCH_MAX {
        let message = format!("{} queries; at most {BATCH_MAX} are taken at once", queries.len());
        return Err(Refusal::from(Fault::field(FaultCode::TooLarge, "queries", message)));
    }
    let mut under_way = VecDeque::new();
    let mut answers: Vec<Value> = Vec::with_capacity(queries.len());
    let to_value = |answer: Answer| serde_json::to_value(&answer).unwrap_or_default();
    for query in queries {
        if under_way.len() == BATCH_AT_ONCE
            && let Some(first) = under_way.pop_front()
        {
            answers.push(to_value(answer(first).await?));
        }
        let value = query.to_string().into_bytes();
        let has_id = query.get("id").is_some_and(|id| !id.is_null());
        let record =
            if has_id { Record { value: Some(value), ..Record::default() } } else { app.pipe.named(value) };
        under_way.push_back(app.pipe.ask(record)?);
    }
    for pending in under_way {
        answers.push(to_value(answer(pending).await?));
    }
    Ok(json_response(StatusCode::OK, json!({"answers": answers}).to_string()))
}

async fn answer(pending: oneshot::Receiver<Answer>) -> Result<Answer, Refusal> {
    pending.await.map_err(|_| Refusal::ended())
}
