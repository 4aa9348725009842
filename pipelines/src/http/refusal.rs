//! Why a request is not answered as asked: status, and JSON with code, message and field.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use freshet_operators::gateway::Refused;
use freshet_schemas::{Fault, FaultCode};
use serde_json::{Value, json};

/// Pause that a client is told to make when there is no room.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What a client is told in place of what it asked for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    code: &'static str,
    message: String,
    field: Option<String>,
    /// Whether the same request may succeed in a moment.
    retry: bool,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), field: None, retry: false }
    }

    /// Not now, but soon.
    pub(crate) fn later(code: &'static str, message: impl Into<String>) -> Self {
        Self { retry: true, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message) }
    }

    /// The run ended under the request.
    pub(crate) fn ended() -> Self {
        Self::later("ending", "the pipeline ended before there was an answer")
    }

    /// One thing wrong with what was sent.
    pub(crate) fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::from(Fault::field(FaultCode::InvalidValue, field, message))
    }

    /// The message, after the field if there is one.
    pub(crate) fn told(&self) -> String {
        match &self.field {
            Some(field) if !field.is_empty() => format!("{field}: {}", self.message),
            _ => self.message.clone(),
        }
    }

    /// The JSON beside the status.
    pub(crate) fn to_json(&self) -> Value {
        json!({"error": {"code": self.code, "message": self.message, "field": self.field}})
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        let Fault { code, message, field } = fault;
        Self { status: status_of(code), code: code.as_str(), message, field, retry: false }
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Full => Self::later("overloaded", refused.to_string()),
            Refused::Closed => Self::later("ending", refused.to_string()),
        }
    }
}

/// The status of an answer with this error.
pub(crate) fn status_of(code: FaultCode) -> StatusCode {
    match code {
        FaultCode::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        FaultCode::NotFound => StatusCode::NOT_FOUND,
        FaultCode::ConsistencyTimeout => StatusCode::GATEWAY_TIMEOUT,
        FaultCode::UnknownCursor => StatusCode::NOT_FOUND,
        FaultCode::ModelFailed | FaultCode::NotWritten => StatusCode::INTERNAL_SERVER_ERROR,
        FaultCode::NotUtf8
        | FaultCode::NotJson
        | FaultCode::NotDecoded
        | FaultCode::UnknownSchema
        | FaultCode::MissingId
        | FaultCode::IdMismatch
        | FaultCode::EmptyText
        | FaultCode::InvalidValue
        | FaultCode::WrongDimension
        | FaultCode::NotFinite
        | FaultCode::UnknownField
        | FaultCode::UnknownVector
        | FaultCode::UnknownPlan
        | FaultCode::TooDeep
        | FaultCode::DuplicateId
        | FaultCode::FormulaFailed => StatusCode::BAD_REQUEST,
    }
}

/// A response of JSON.
pub(crate) fn json_response(status: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = json_response(self.status, self.to_json().to_string());
        if self.retry {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER.as_secs()));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}
