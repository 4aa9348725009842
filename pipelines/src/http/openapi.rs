//! The OpenAPI 3.1 document: routes by hand, records from the JSON Schemas that the topics have.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::refusal::json_response;
use super::{App, qdrant};

/// A documented route.
pub(super) struct Route {
    /// Lower case, as OpenAPI writes it.
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) summary: &'static str,
}

pub(super) const fn route(method: &'static str, path: &'static str, summary: &'static str) -> Route {
    Route { method, path, summary }
}

/// Every route but the pages.
pub(super) const ROUTES: [Route; 11] = [
    route(
        "post",
        "/api/query",
        "Answers a query, or many: the JSON of a record of the queries topic; the id may be left out.",
    ),
    route(
        "get",
        "/api/search",
        "Answers a question in the address. Other parameters are fields of the payload: city=Berlin,Hamburg must match one of them, stars.gte=4 is a bound.",
    ),
    route("post", "/api/documents", "Writes documents to their topic: one, an array, or one per line."),
    route("put", "/api/documents", "The same as POST: a document replaces the one with its id."),
    route("delete", "/api/documents/{id}", "Deletes a document."),
    route("get", "/api/status", "What is indexed, and what can be asked."),
    route("get", "/api/dataflow", "What each operator of the dataflow has done since the run began."),
    route("get", "/healthz", "Whether the process lives."),
    route("get", "/readyz", "Whether queries are answered."),
    route("get", "/metrics", "What is counted, in Prometheus' text format."),
    route("get", "/openapi.json", "This document."),
];

/// `GET /openapi.json`
pub(super) async fn get(State(app): State<Arc<App>>) -> Response {
    json_response(StatusCode::OK, document(app.collections.is_some(), app.http.api_key.is_some()).to_string())
}

/// The document; with the routes of Qdrant's protocol where it is spoken, and with keys where they are asked for.
pub(super) fn document(collections: bool, keys: bool) -> Value {
    let mut paths = Map::new();
    for route in &ROUTES {
        let operations = paths.entry(route.path).or_insert_with(|| json!({}));
        operations[route.method] = operation(route);
        operations[route.method]["operationId"] = json!(operation_id(route.method, route.path));
    }
    for route in qdrant::ROUTES.iter().filter(|_| collections) {
        let operations = paths.entry(route.path).or_insert_with(|| json!({}));
        operations[route.method] = qdrant::operation(route);
        operations[route.method]["operationId"] = json!(operation_id(route.method, route.path));
    }
    let schema = |name: &str, text: &str| (name.to_owned(), component(name, text));
    let mut schemas = Map::from_iter([
        schema("Query", include_str!("../../../schemas/query.json")),
        schema("Answer", include_str!("../../../schemas/answer.json")),
        schema("Document", include_str!("../../../schemas/document.json")),
    ]);
    schemas.extend([("Error".to_owned(), error_schema()), ("Written".to_owned(), written_schema())]);
    if collections {
        schemas.extend(qdrant::components());
    }
    let security = if keys { json!([{"api-key": []}, {"bearer": []}]) } else { json!([]) };
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Freshet",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Streaming hybrid search. Every answer says in as_of which documents it reflects.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "api-key": {"type": "apiKey", "in": "header", "name": "api-key"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
        },
        "security": security,
    })
}

fn operation(route: &Route) -> Value {
    let mut operation = json!({"summary": route.summary});
    let (parameters, body, responses) = match (route.method, route.path) {
        ("post", "/api/query") => {
            let many = json!({"type": "object", "required": ["queries"], "additionalProperties": false,
                "properties": {"queries": {"type": "array", "maxItems": 1000, "items": of("Query")}}});
            let answers = json!({"type": "object", "required": ["answers"],
                "properties": {"answers": {"type": "array", "items": of("Answer")}}});
            let body = json!({"anyOf": [of("Query"), many]});
            (json!([]), Some(body), answered(&json!({"anyOf": [of("Answer"), answers]})))
        }
        (_, "/api/search") => (search_parameters(), None, answered(&of("Answer"))),
        (_, "/api/documents") => {
            let body = json!({"anyOf": [of("Document"), {"type": "array", "items": of("Document")}]});
            (write_parameters(&[]), Some(body), written())
        }
        (_, "/api/documents/{id}") => {
            let id = json!({"name": "id", "in": "path", "required": true, "schema": {"type": "string"}});
            (write_parameters(&[id]), None, written())
        }
        (_, "/metrics") => {
            let text =
                json!({"description": "Metrics.", "content": {"text/plain": {"schema": {"type": "string"}}}});
            (json!([]), None, json!({"200": text}))
        }
        (_, "/readyz") => {
            let state = |description: &str| content(description, &json!({"type": "object"}));
            (json!([]), None, json!({"200": state("It answers."), "503": state("Not yet, or no more: why.")}))
        }
        _ => (json!([]), None, json!({"200": content("It is so.", &json!({"type": "object"}))})),
    };
    operation["parameters"] = parameters;
    operation["responses"] = responses;
    if let Some(schema) = body {
        operation["requestBody"] =
            json!({"required": true, "content": {"application/json": {"schema": schema}}});
        if route.path == "/api/documents" {
            let lines = json!({"schema": {"type": "string", "description": "One document per line."}});
            operation["requestBody"]["content"]["application/x-ndjson"] = lines;
        }
    }
    if ["/healthz", "/readyz", "/openapi.json"].contains(&route.path) {
        operation["security"] = json!([]);
    }
    operation
}

fn of(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn content(description: &str, schema: &Value) -> Value {
    json!({"description": description, "content": {"application/json": {"schema": schema}}})
}

/// What any request of the API may be answered with, beside what it asks for.
fn refusals() -> Map<String, Value> {
    let refusals = [
        ("400", "Something in the request is wrong: code, message and field say what."),
        ("401", "No key, or one that is not known."),
        ("404", "The cursor is not known, or not any more."),
        ("408", "The body did not come in time."),
        ("413", "Too large."),
        ("500", "A model or the server failed."),
        ("503", "Not ready, or no room: try again after the time in Retry-After."),
        ("504", "The freshness asked for was not reached in time, or the request took too long."),
    ];
    let refusal = |(status, description): (&str, &str)| {
        let mut refusal = content(description, &of("Error"));
        if status == "503" {
            refusal["headers"] = retry_after();
        }
        (status.to_owned(), refusal)
    };
    refusals.into_iter().map(refusal).collect()
}

/// The header of a refusal that is none in a moment.
pub(super) fn retry_after() -> Value {
    json!({"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 0}}})
}

/// Name of an operation: its method and the words of its path.
pub(super) fn operation_id(method: &str, path: &str) -> String {
    let words = path.split('/').map(|part| part.trim_matches(['{', '}'])).filter(|part| !part.is_empty());
    words.fold(method.to_owned(), |id, word| format!("{id}_{}", word.replace('.', "_")))
}

fn answered(schema: &Value) -> Value {
    let mut responses = refusals();
    responses.insert("200".to_owned(), content("The answer.", schema));
    let missing = content("A document that the query searches by is not there.", &of("Error"));
    responses.insert("404".to_owned(), missing);
    Value::Object(responses)
}

fn written() -> Value {
    let mut responses = refusals();
    let written = [
        ("200", "Written, and in the indexes (with wait=true)."),
        ("202", "Written to the topic; the indexes will follow."),
        ("207", "Some are written, some are refused: see results."),
    ];
    let refused = json!({"anyOf": [of("Written"), of("Error")]});
    let all_refused = "All are refused: see results. Or the request is wrong as a whole: see error.";
    responses.insert("400".to_owned(), content(all_refused, &refused));
    for (status, what) in [
        ("500", "The topic did not take some: see results."),
        ("503", "Written and not seen in the indexes yet, or not ready, or no room."),
        ("504", "Written, and not in the indexes in time."),
    ] {
        responses[status]["description"] = json!(what);
        responses[status]["content"]["application/json"]["schema"] = refused.clone();
    }
    let response = |(status, what): (&str, &str)| (status.to_owned(), content(what, &of("Written")));
    responses.extend(written.into_iter().map(response));
    let forbidden = content("The key may ask, but not write.", &of("Error"));
    responses.insert("403".to_owned(), forbidden);
    Value::Object(responses)
}

fn search_parameters() -> Value {
    let parameter = |name: &str, description: &str, kind: &str| json!({"name": name, "in": "query", "description": description, "schema": {"type": kind}});
    let mut question = parameter("q", "What is searched for.", "string");
    question["required"] = json!(true);
    json!([
        question,
        parameter("limit", "Most hits; 10 unless given.", "integer"),
        parameter("offset", "Hits that are passed over before the first one; 0 unless given.", "integer"),
        parameter(
            "score_threshold",
            "Hits score more than this; those of a fusion at least as much.",
            "number"
        ),
        parameter("plan", "Name of a configured plan.", "string"),
        parameter("consistency", "latest or strong.", "string"),
        parameter("explain", "Whether hits carry ranks and scores of each stage.", "boolean"),
        parameter("with_payload", "Whether hits carry payload and text.", "boolean"),
    ])
}

fn write_parameters(others: &[Value]) -> Value {
    let description =
        "Answer once the indexes reflect all that the documents topics hold; as_of says what that is.";
    let wait =
        json!({"name": "wait", "in": "query", "description": description, "schema": {"type": "boolean"}});
    let description = "The documents topic that is written, where there are several.";
    let topic =
        json!({"name": "topic", "in": "query", "description": description, "schema": {"type": "string"}});
    Value::Array(others.iter().cloned().chain([wait, topic]).collect())
}

fn error_schema() -> Value {
    json!({
        "type": "object",
        "description": "What went wrong. Queries that reached the pipeline have id and points beside it.",
        "required": ["error"],
        "properties": {"error": {
            "type": "object",
            "required": ["code", "message", "field"],
            "properties": {
                "code": {"type": "string"},
                "message": {"type": "string"},
                "field": {"type": ["string", "null"]},
            },
        }},
    })
}

fn written_schema() -> Value {
    let count = json!({"type": "integer", "minimum": 0});
    json!({
        "type": "object",
        "required": ["written", "refused", "not_written", "results"],
        "properties": {
            "written": count, "refused": count, "not_written": count,
            "results": {"type": "array", "description": "One per document, in order.", "items": {
                "type": "object",
                "required": ["id", "status"],
                "properties": {
                    "id": {"type": ["string", "null"]},
                    "status": {"enum": ["written", "refused", "not_written"]},
                    "error": {"type": "object"},
                },
            }},
            "as_of": {"type": "object", "description": "With wait=true: what the indexes reflect; good as \"consistency\" of a query."},
            "error": {"type": "object", "description": "Why the indexes were not waited for to the end."},
        },
    })
}

/// A schema of `schemas/` as a component: what it refers to within itself is now below its name.
fn component(name: &str, text: &str) -> Value {
    // The files are part of the program and tested.
    let mut schema: Value = serde_json::from_str(text).unwrap_or_default();
    if let Some(schema) = schema.as_object_mut() {
        schema.shift_remove("$schema");
        schema.shift_remove("$id");
    }
    refer(&mut schema, &format!("#/components/schemas/{name}"));
    schema
}

fn refer(value: &mut Value, root: &str) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                if let Value::String(target) = &mut *value
                    && key == "$ref"
                    && target.starts_with('#')
                {
                    *target = format!("{root}{}", &target[1..]);
                } else {
                    refer(value, root);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| refer(item, root)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(object) => {
                for (key, value) in object {
                    match value.as_str().filter(|_| key == "$ref") {
                        Some(target) => found.push(target.to_owned()),
                        None => references(value, found),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document(true, true);
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 20, "{} references", found.len());
        for target in found {
            let pointer = target.strip_prefix('#').unwrap_or_else(|| panic!("{target} leads outside"));
            assert!(document.pointer(pointer).is_some(), "{target} leads nowhere");
        }
    }

    #[test]
    fn every_operation_says_what_it_answers() {
        let document = document(true, true);
        for route in ROUTES.iter().chain(&qdrant::ROUTES) {
            let operation = &document["paths"][route.path][route.method];
            let responses = operation["responses"].as_object().map_or(0, Map::len);
            assert!(responses > 0, "{} {}", route.method, route.path);
            let named = operation["parameters"].as_array().into_iter().flatten();
            let named = named.filter(|parameter| parameter["in"] == "path").count();
            assert_eq!(named, route.path.matches('{').count(), "{}", route.path);
        }
    }
}
