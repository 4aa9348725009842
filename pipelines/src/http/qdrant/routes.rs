//! The routes of Qdrant's protocol, for the OpenAPI document.

use serde_json::{Value, json};

use super::schemas;
use crate::http::openapi::{Route, operation_id, retry_after, route};

/// Every route of collections.
pub(in crate::http) const ROUTES: [Route; 33] = [
    route(
        "get",
        "/collections",
        "Names of the collections; the pipeline of the configuration is one of them.",
    ),
    route("post", "/collections/aliases", "Makes, renames and removes aliases."),
    route("get", "/aliases", "All aliases."),
    route("get", "/collections/{name}", "Settings of a collection, and how many points it has."),
    route("put", "/collections/{name}", "Makes a collection: a pipeline with topics of its own."),
    route("patch", "/collections/{name}", "Accepts settings that change no answer."),
    route("delete", "/collections/{name}", "Removes a collection with its topics and snapshots."),
    route("get", "/collections/{name}/exists", "Whether there is such a collection."),
    route("get", "/collections/{name}/aliases", "Aliases of a collection."),
    route(
        "put",
        "/collections/{name}/index",
        "Makes a payload index; filters find without it, and faster with it.",
    ),
    route("delete", "/collections/{name}/index/{field}", "Removes a payload index."),
    route("put", "/collections/{name}/points", "Writes points; with wait=true, until they are found."),
    route("post", "/collections/{name}/points", "Points by their ids."),
    route("get", "/collections/{name}/points/{id}", "One point."),
    route("post", "/collections/{name}/points/delete", "Removes points by ids or a filter."),
    route("post", "/collections/{name}/points/payload", "Puts fields into payloads."),
    route("put", "/collections/{name}/points/payload", "Replaces payloads."),
    route("post", "/collections/{name}/points/payload/delete", "Removes fields of payloads."),
    route("post", "/collections/{name}/points/payload/clear", "Empties payloads."),
    route("put", "/collections/{name}/points/vectors", "Replaces vectors of points."),
    route("post", "/collections/{name}/points/vectors/delete", "Removes vectors of points."),
    route("post", "/collections/{name}/points/batch", "Many changes, one after the other."),
    route("post", "/collections/{name}/points/scroll", "Points page by page, by id or by a value."),
    route("post", "/collections/{name}/points/count", "How many points pass a filter."),
    route("post", "/collections/{name}/points/query", "Searches, fuses, rescores."),
    route("post", "/collections/{name}/points/query/batch", "Many queries."),
    route("post", "/collections/{name}/points/query/groups", "A query whose hits are put into groups."),
    route("post", "/collections/{name}/points/search", "The older form of a search."),
    route("post", "/collections/{name}/points/search/batch", "Many of them."),
    route("post", "/collections/{name}/points/search/groups", "One of them in groups."),
    route("post", "/collections/{name}/points/recommend", "The older form of a recommendation."),
    route("post", "/collections/{name}/points/recommend/batch", "Many of them."),
    route("get", "/telemetry", "What clients look for."),
];

impl Route {
    /// Whether points stay as they are.
    fn is_read(&self) -> bool {
        self.method == "get" || self.method == "post" && super::is_read(self.path)
    }
}

/// What is said of a route, with the shapes that Qdrant's own document gives.
pub(in crate::http) fn operation(route: &Route) -> Value {
    let named =
        ["name", "field", "id"].into_iter().filter(|name| route.path.contains(&format!("{{{name}}}")));
    let mut parameters: Vec<Value> = named
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}))
        .collect();
    let body = schemas::body(route.method, route.path);
    if route.path.contains("/points") && !route.is_read() {
        let wait = "Answer once the points are found.";
        parameters
            .push(json!({"name": "wait", "in": "query", "description": wait, "schema": {"type": "boolean"}}));
    }
    let content = |schema: Value| json!({"application/json": {"schema": schema}});
    let time = json!({"type": "number", "minimum": 0});
    let result = json!({
        "type": "object", "required": ["result", "status", "time"],
        "properties": {"result": schemas::result(route.method, route.path), "status": {"const": "ok"}, "time": time},
    });
    let error = json!({"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}});
    let refused = json!({
        "type": "object", "required": ["status", "time"], "properties": {"status": error, "time": time},
    });
    let later = json!({
        "description": "Not ready, or no room: try again after the time in Retry-After.",
        "headers": retry_after(),
        "content": content(refused.clone()),
    });
    let mut operation = json!({
        "summary": route.summary,
        "parameters": parameters,
        "responses": {
            "200": {"description": "The result.", "content": content(result)},
            "503": later,
            "default": {"description": "Why there is none.", "content": content(refused)},
        },
    });
    if let Some(schema) = body {
        operation["requestBody"] = json!({"required": true, "content": content(schema)});
    }
    if let Some(links) = links(route) {
        operation["responses"]["200"]["links"] = links;
    }
    operation
}

/// Where a client may go from here.
fn links(route: &Route) -> Option<Value> {
    let same = |method: &str, path: &str| json!({"operationId": operation_id(method, path), "parameters": {"name": "$request.path.name"}});
    match (route.method, route.path) {
        ("put", "/collections/{name}") => Some(json!({
            "settings": same("get", "/collections/{name}"),
            "points": same("put", "/collections/{name}/points"),
            "list": same("post", "/collections/{name}/points/scroll"),
            "removal": same("delete", "/collections/{name}"),
        })),
        ("put", "/collections/{name}/points") => Some(json!({
            "search": same("post", "/collections/{name}/points/query"),
            "change": same("post", "/collections/{name}/points/payload"),
        })),
        ("delete", "/collections/{name}") => Some(json!({"gone": same("get", "/collections/{name}/exists")})),
        _ => None,
    }
}
