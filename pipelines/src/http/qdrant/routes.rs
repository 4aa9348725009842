//! The routes of Qdrant's protocol, for the OpenAPI document.

use serde_json::{Value, json};

use crate::http::openapi::{Route, route};

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
    route("put", "/collections/{name}/index", "Remembers a payload index; filters find without it."),
    route("delete", "/collections/{name}/index/{field}", "Forgets a payload index."),
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

/// What is said of a route: bodies are those of Qdrant's own document.
pub(in crate::http) fn operation(route: &Route) -> Value {
    let named =
        ["name", "field", "id"].into_iter().filter(|name| route.path.contains(&format!("{{{name}}}")));
    let parameters =
        named.map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}));
    let content = |schema: Value| json!({"application/json": {"schema": schema}});
    let result = json!({"type": "object", "required": ["result", "status", "time"]});
    let refused = json!({"type": "object", "required": ["status", "time"]});
    let mut operation = json!({
        "summary": route.summary,
        "parameters": parameters.collect::<Vec<_>>(),
        "responses": {
            "200": {"description": "The result.", "content": content(result)},
            "default": {"description": "Why there is none.", "content": content(refused)},
        },
    });
    if matches!(route.method, "post" | "put" | "patch") {
        operation["requestBody"] = json!({"required": true, "content": content(json!({"type": "object"}))});
    }
    operation
}
