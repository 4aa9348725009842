//! Documents: written to their topic, which stays the truth, and waited for where it is wished.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query as Parameters, State};
use axum::http::StatusCode;
use axum::response::Response;
use freshet_schemas::{DocumentChange, DocumentSpec, Fault, FaultCode, Record};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::App;
use super::guard::read_body;
use super::refusal::{Refusal, json_response};

/// Parameters of both routes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Options {
    /// Answer once the indexes reflect the documents.
    #[serde(default)]
    wait: bool,
    /// Documents topic, where there are several.
    #[serde(default)]
    topic: Option<String>,
}

type Wished = Result<Parameters<Options>, QueryRejection>;

fn wished(options: Wished) -> Result<Options, Refusal> {
    let read =
        |error: QueryRejection| Refusal::invalid("wait", format!("{error}; known: wait=true, topic=NAME"));
    Ok(options.map_err(read)?.0)
}

/// `PUT` and `POST /api/documents`
pub(super) async fn put(
    State(app): State<Arc<App>>,
    options: Wished,
    body: Body,
) -> Result<Response, Refusal> {
    let Options { wait, topic } = wished(options)?;
    let spec = app.pipe.spec(topic.as_deref())?;
    let body = read_body(&app.http, body).await?;
    let values = split(&body)?;
    let checked = values.into_iter().map(|value| check(value, spec)).collect();
    write(&app, &spec.source.topic, checked, wait).await
}

/// `DELETE /api/documents/{id}`
pub(super) async fn delete(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
    options: Wished,
) -> Result<Response, Refusal> {
    let Path(id) = id.map_err(|error| Refusal::invalid("id", error.to_string()))?;
    let record = Record { key: Some(id.into_bytes()), ..Record::default() };
    let Options { wait, topic } = wished(options)?;
    let spec = app.pipe.spec(topic.as_deref())?;
    write(&app, &spec.source.topic, vec![keyed(record, spec)], wait).await
}

/// A document that can be written, under its id; or what is wrong with it, and its number in the request.
type Checked = Result<(String, Record), Fault>;

fn check(value: &[u8], spec: &DocumentSpec) -> Checked {
    keyed(Record { value: Some(value.to_vec()), ..Record::default() }, spec)
}

/// The record under the id of its document, as the topic's readers will see it.
fn keyed(record: Record, spec: &DocumentSpec) -> Checked {
    spec.key("")?;
    let change = DocumentChange::parse(&record, spec)?;
    let key = Some(spec.key(change.id())?.as_bytes().to_vec());
    Ok((change.id().to_owned(), Record { key, ..record }))
}

/// The JSON texts of a body: one document, an array of them, or one per line.
fn split(body: &[u8]) -> Result<Vec<&[u8]>, Refusal> {
    let text = body.trim_ascii();
    if text.first() == Some(&b'[') {
        return elements(text);
    }
    if text.is_empty() {
        return Err(Refusal::from(Fault::whole(FaultCode::NotJson, "the body is empty; send documents")));
    }
    if serde_json::from_slice::<IgnoredAny>(text).is_ok() {
        return Ok(vec![text]);
    }
    let lines: Vec<&[u8]> = text
        .split(|byte| *byte == b'\n')
        .map(|line| line.trim_ascii())
        .filter(|line| !line.is_empty())
        .collect();
    Ok(lines)
}

/// The texts of an array's elements, as they stand there: numbers keep every digit.
fn elements(text: &[u8]) -> Result<Vec<&[u8]>, Refusal> {
    let broken = |error: &dyn std::fmt::Display| {
        Refusal::from(Fault::whole(
            FaultCode::NotJson,
            format!("the array of documents is not JSON: {error}"),
        ))
    };
    serde_json::from_slice::<IgnoredAny>(text).map_err(|error| broken(&error))?;
    let mut elements = Vec::new();
    // Behind the bracket, and then behind each comma.
    let mut rest = text[1..].trim_ascii_start();
    while rest.first().is_some_and(|byte| *byte != b']') {
        let mut stream = serde_json::Deserializer::from_slice(rest).into_iter::<IgnoredAny>();
        match stream.next() {
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(broken(&error)),
            None => break,
        }
        let (element, behind) = rest.split_at(stream.byte_offset());
        elements.push(element);
        let behind = behind.trim_ascii_start();
        rest = behind.strip_prefix(b",").unwrap_or(behind).trim_ascii_start();
    }
    Ok(elements)
}

/// Writes what can be written and says what became of each document.
async fn write(app: &App, topic: &str, checked: Vec<Checked>, wait: bool) -> Result<Response, Refusal> {
    let mut results: Vec<Value> = Vec::with_capacity(checked.len());
    let mut records = Vec::new();
    let mut places = Vec::new();
    for (place, document) in checked.into_iter().enumerate() {
        match document {
            Ok((id, record)) => {
                records.push(record);
                places.push(place);
                results.push(json!({"id": id, "status": "written"}));
            }
            Err(fault) => results.push(json!({"id": null, "status": "refused", "error": fault})),
        }
    }
    let refused = results.len() - records.len();
    let written = !records.is_empty();
    let mut failed = 0;
    if written {
        let fates = app.pipe.write(topic, records).await?;
        for (place, fate) in places.into_iter().zip(fates) {
            if let Err(reason) = fate {
                failed += 1;
                results[place]["status"] = json!("not_written");
                let message = format!("the documents topic did not take it: {reason}");
                results[place]["error"] = json!(Fault::whole(FaultCode::NotWritten, message));
            }
        }
    }
    let mut body = json!({
        "written": results.len() - refused - failed, "refused": refused, "not_written": failed,
        "results": results,
    });
    let mut status = match (refused, failed) {
        (_, 1..) => StatusCode::INTERNAL_SERVER_ERROR,
        (0, 0) if wait => StatusCode::OK,
        (0, 0) => StatusCode::ACCEPTED,
        (_, 0) if written => StatusCode::MULTI_STATUS,
        (_, 0) => StatusCode::BAD_REQUEST,
    };
    if wait && written {
        match app.pipe.indexed().await {
            Ok(as_of) => body["as_of"] = json!(as_of),
            Err(refusal) => {
                status = refusal.status;
                body["error"] = refusal.to_json()["error"].take();
            }
        }
    }
    Ok(json_response(status, body.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(body: &str) -> Vec<&str> {
        let texts = split(body.as_bytes()).unwrap().into_iter();
        texts.map(|text| std::str::from_utf8(text).unwrap()).collect()
    }

    #[test]
    fn a_body_is_one_document_or_an_array_or_lines() {
        assert_eq!(texts(" {\n\"id\": 1\n}\n"), ["{\n\"id\": 1\n}"]);
        assert_eq!(texts("[]"), [""; 0]);
        assert_eq!(texts("[ {\"a\": [1, \"],\"]} ,\n{} ]"), ["{\"a\": [1, \"],\"]}", "{}"]);
        assert_eq!(texts("{\"a\": 1}\r\n\n{broken\n{}"), ["{\"a\": 1}", "{broken", "{}"]);
        // Digits that no machine number has stay.
        assert_eq!(
            texts("[{\"n\": 123456789012345678901234567890}]"),
            ["{\"n\": 123456789012345678901234567890}"]
        );
    }

    #[test]
    fn bodies_that_are_neither_are_refused() {
        for body in ["", "  ", "[{}", "[{} {}]", "[1,]"] {
            assert_eq!(split(body.as_bytes()).unwrap_err().status, StatusCode::BAD_REQUEST, "{body:?}");
        }
    }
}
