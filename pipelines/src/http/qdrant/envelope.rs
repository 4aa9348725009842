//! What stands around every answer: `{"result", "status", "time"}`, and the shape of errors.

use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use freshet_schemas::{Fault, FaultCode};
use serde_json::{Map, Value, json};

use crate::collections::{CollectionError, InferenceError};
use crate::http::refusal::{Refusal, json_response};

/// Why there is no result.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::http) struct Problem {
    pub(super) status: StatusCode,
    pub(super) message: String,
}

impl Problem {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    /// Something is wrong with what was sent.
    pub(super) fn wrong(message: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, format!("Wrong input: {message}"))
    }

    /// The body is not of the shape that the route takes.
    pub(super) fn format(message: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, format!("Format error in JSON body: {message}"))
    }

    pub(super) fn not_found(what: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("Not found: {what}"))
    }

    pub(super) fn no_collection(name: &str) -> Self {
        Self::not_found(format!("Collection `{name}` doesn't exist!"))
    }

    pub(super) fn internal(message: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, format!("Service internal error: {message}"))
    }

    /// Not now, but soon.
    pub(super) fn later(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let message = refusal.told();
        match refusal.status {
            StatusCode::BAD_REQUEST => Self::wrong(message),
            StatusCode::NOT_FOUND => Self::not_found(message),
            status => Self::new(status, message),
        }
    }
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        if fault.code == FaultCode::MissingId {
            return Self::format(fault.message_with_field());
        }
        Self::from(Refusal::from(fault))
    }
}

impl From<CollectionError> for Problem {
    fn from(error: CollectionError) -> Self {
        match &error {
            CollectionError::NotFound(name) => Self::no_collection(name),
            CollectionError::Exists(_) => Self::new(StatusCode::CONFLICT, format!("Wrong input: {error}")),
            CollectionError::Wrong(message) => Self::wrong(message),
            CollectionError::Setup(_) => Self::wrong(&error),
            CollectionError::Connect(_)
            | CollectionError::Log(_)
            | CollectionError::Metrics(_)
            | CollectionError::Run(_) => Self::internal(freshet_operators::causes::with_causes(&error)),
        }
    }
}

impl From<InferenceError> for Problem {
    fn from(error: InferenceError) -> Self {
        match error {
            InferenceError::Wrong(message) => Self::wrong(message),
            InferenceError::Full => Self::later(error.to_string()),
            InferenceError::Failed(message) => Self::internal(message),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        failed(&self, Duration::ZERO)
    }
}

fn failed(problem: &Problem, took: Duration) -> Response {
    let body = json!({"status": {"error": problem.message}, "time": took.as_secs_f64()});
    let mut response = json_response(problem.status, body.to_string());
    if problem.status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(1));
    }
    response
}

/// Does the work of a request and puts the envelope around what comes of it.
pub(super) async fn answer(work: impl Future<Output = Result<Value, Problem>>) -> Response {
    let begun = Instant::now();
    match work.await {
        Ok(result) => {
            let body = json!({"result": result, "status": "ok", "time": begun.elapsed().as_secs_f64()});
            json_response(StatusCode::OK, body.to_string())
        }
        Err(problem) => failed(&problem, begun.elapsed()),
    }
}

/// Takes the elements out of an array; none out of anything else.
pub(super) fn take_array(value: &mut Value) -> Vec<Value> {
    value.as_array_mut().map(std::mem::take).unwrap_or_default()
}

/// Takes the fields out of an object; none out of anything else.
pub(super) fn take_object(value: &mut Value) -> Map<String, Value> {
    value.as_object_mut().map(std::mem::take).unwrap_or_default()
}

/// Reads a body as JSON.
pub(super) fn json_of(body: &Bytes) -> Result<Value, Problem> {
    serde_json::from_slice(body).map_err(Problem::format)
}
