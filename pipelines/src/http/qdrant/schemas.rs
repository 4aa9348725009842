//! Bodies and results of Qdrant's protocol as JSON Schemas, for the OpenAPI document: what Freshet reads and writes of them.

use serde_json::{Map, Value, json};

fn of(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// A list of something.
fn list(items: &Value) -> Value {
    json!({"type": "array", "items": items})
}

/// An object of which some fields are described; what else may stand there is the server's to refuse.
fn object(required: &[&str], properties: Value) -> Value {
    json!({"type": "object", "required": required, "properties": properties})
}

/// An object that may also be missing.
fn nullable(schema: &Value) -> Value {
    json!({"anyOf": [schema, {"type": "null"}]})
}

/// Schemas that others refer to, by name.
pub(in crate::http) fn components() -> Map<String, Value> {
    let id = json!({"anyOf": [
        {"type": "integer", "minimum": 0, "maximum": u64::MAX},
        {"type": "string", "format": "uuid"},
    ]});
    let numbers = list(&json!({"type": "number"}));
    let sparse = object(
        &["indices", "values"],
        json!({"indices": list(&json!({"type": "integer", "minimum": 0})), "values": numbers}),
    );
    let text = object(&["text", "model"], json!({"text": {"type": "string"}, "model": {"type": "string"}}));
    let vector = json!({"anyOf": [numbers, list(&numbers), sparse, text]});
    let named = json!({"type": "object", "additionalProperties": of("QdrantVector")});
    let point = object(
        &["id"],
        json!({
            "id": of("QdrantId"),
            "vector": {"anyOf": [of("QdrantVector"), named, {"type": "null"}]},
            "payload": {"type": ["object", "null"]},
        }),
    );
    let carried = json!({"anyOf": [{"type": ["boolean", "null"]}, list(&json!({"type": "string"})), {"type": "object"}]});
    let mut query = json!({
        "prefetch": {"anyOf": [of("QdrantQuery"), list(&of("QdrantQuery")), {"type": "null"}]},
        "query": {"description": "A vector, the id of a point, a text, or an object such as {\"fusion\": \"rrf\"}; without one, points are listed."},
        "using": {"type": ["string", "null"]},
        "filter": nullable(&of("QdrantFilter")),
        "params": {"type": ["object", "null"]},
        "score_threshold": {"type": ["number", "null"]},
        "limit": {"type": ["integer", "null"], "minimum": 1},
        "offset": {"type": ["integer", "null"], "minimum": 0},
    });
    query["with_payload"] = carried.clone();
    query["with_vector"] = carried;
    Map::from_iter([
        ("QdrantId".to_owned(), id),
        ("QdrantVector".to_owned(), vector),
        ("QdrantPoint".to_owned(), point),
        ("QdrantFilter".to_owned(), json!({"$ref": "#/components/schemas/Query/$defs/filter"})),
        ("QdrantQuery".to_owned(), json!({"type": "object", "properties": query})),
    ])
}

/// Which points a change is made to: ids, or a filter.
fn chosen(required: &[&str], mut properties: Value) -> Value {
    properties["points"] = list(&of("QdrantId"));
    properties["filter"] = of("QdrantFilter");
    let one = json!([{"required": ["points"]}, {"required": ["filter"]}]);
    json!({"type": "object", "required": required, "properties": properties, "anyOf": one})
}

/// The body of a route; `None` where there is none.
pub(super) fn body(method: &str, path: &str) -> Option<Value> {
    let payload = json!({"type": "object"});
    let names = list(&json!({"type": "string"}));
    let query = of("QdrantQuery");
    let end = path.strip_prefix("/collections").unwrap_or(path);
    let end = end.strip_prefix("/{name}").unwrap_or(end);
    let recommend = || {
        let examples = list(&json!({"anyOf": [of("QdrantId"), of("QdrantVector")]}));
        object(
            &["positive"],
            json!({"positive": examples, "negative": examples, "limit": {"type": "integer"}}),
        )
    };
    let search = || {
        let named =
            object(&["name", "vector"], json!({"name": {"type": "string"}, "vector": of("QdrantVector")}));
        let vector = json!({"anyOf": [of("QdrantVector"), named]});
        object(
            &["vector"],
            json!({"vector": vector, "filter": nullable(&of("QdrantFilter")), "limit": {"type": "integer", "minimum": 1}}),
        )
    };
    let many = |one: &Value| object(&["searches"], json!({"searches": list(one)}));
    Some(match (method, end) {
        ("put", "") => {
            object(&[], json!({"vectors": {"type": "object"}, "sparse_vectors": {"type": "object"}}))
        }
        ("patch", "") => json!({"type": "object"}),
        ("post", "/aliases") => object(&["actions"], json!({"actions": list(&json!({"type": "object"}))})),
        ("put", "/index") => object(
            &["field_name"],
            json!({"field_name": {"type": "string"}, "field_schema": {"anyOf": [
                {"enum": ["keyword", "integer", "float", "bool", "datetime", "text", "uuid", "geo"]},
                object(&["type"], json!({"type": {"type": "string"}})),
            ]}}),
        ),
        ("put", "/points") => object(&["points"], json!({"points": list(&of("QdrantPoint"))})),
        ("post", "/points") => object(&["ids"], json!({"ids": list(&of("QdrantId"))})),
        ("post", "/points/delete" | "/points/payload/clear") => chosen(&[], json!({})),
        ("post" | "put", "/points/payload") => chosen(&["payload"], json!({"payload": payload})),
        ("post", "/points/payload/delete") => chosen(&["keys"], json!({"keys": names})),
        ("put", "/points/vectors") => object(&["points"], json!({"points": list(&of("QdrantPoint"))})),
        ("post", "/points/vectors/delete") => chosen(&["vector"], json!({"vector": names})),
        ("post", "/points/batch") => object(
            &["operations"],
            json!({"operations": list(&json!({"type": "object", "minProperties": 1, "maxProperties": 1}))}),
        ),
        ("post", "/points/scroll") => object(
            &[],
            json!({
                "offset": nullable(&of("QdrantId")), "limit": {"type": ["integer", "null"], "minimum": 1},
                "filter": nullable(&of("QdrantFilter")), "order_by": {},
            }),
        ),
        ("post", "/points/count") => {
            object(&[], json!({"filter": nullable(&of("QdrantFilter")), "exact": {"type": "boolean"}}))
        }
        ("post", "/points/query") => query,
        ("post", "/points/query/batch") => many(&query),
        ("post", "/points/query/groups") => {
            let group = object(
                &["group_by"],
                json!({"group_by": {"type": "string"}, "group_size": {"type": "integer", "minimum": 1}}),
            );
            json!({"allOf": [query, group]})
        }
        ("post", "/points/search") => search(),
        ("post", "/points/search/batch") => many(&search()),
        ("post", "/points/search/groups") => {
            let group = object(&["group_by"], json!({"group_by": {"type": "string"}}));
            json!({"allOf": [search(), group]})
        }
        ("post", "/points/recommend") => recommend(),
        ("post", "/points/recommend/batch") => many(&recommend()),
        _ => return None,
    })
}

/// The `result` of a route.
pub(super) fn result(method: &str, path: &str) -> Value {
    let end = path.strip_prefix("/collections").unwrap_or(path);
    let end = end.strip_prefix("/{name}").unwrap_or(end);
    let record =
        object(&["id"], json!({"id": {"type": ["integer", "string"]}, "payload": {"type": "object"}}));
    let hit = object(
        &["id", "score", "version"],
        json!({"id": {"type": ["integer", "string"]}, "score": {"type": "number"}, "version": {"type": "integer"}}),
    );
    let hits = object(&["points"], json!({"points": list(&hit)}));
    let groups =
        object(&["groups"], json!({"groups": list(&object(&["id", "hits"], json!({"hits": list(&hit)})))}));
    let changed = object(
        &["operation_id", "status"],
        json!({"operation_id": {"type": "integer"}, "status": {"enum": ["acknowledged", "completed"]}}),
    );
    match (method, end) {
        ("get", "") if path == "/collections" => {
            object(&["collections"], json!({"collections": {"type": "array"}}))
        }
        ("get", "") => object(
            &["status", "optimizer_status", "config", "payload_schema"],
            json!({"status": {"enum": ["green", "yellow", "red"]}, "points_count": {"type": ["integer", "null"]}}),
        ),
        ("put" | "patch" | "delete", "") | ("post", "/aliases") => json!({"type": "boolean"}),
        ("get", "/exists") => object(&["exists"], json!({"exists": {"type": "boolean"}})),
        ("get", "/aliases") => object(&["aliases"], json!({"aliases": {"type": "array"}})),
        ("get", "/points/{id}") => record,
        ("post", "/points") => list(&record),
        ("post", "/points/scroll") => {
            object(&["points", "next_page_offset"], json!({"points": list(&record)}))
        }
        ("post", "/points/count") => object(&["count"], json!({"count": {"type": "integer", "minimum": 0}})),
        ("post", "/points/query") => hits,
        ("post", "/points/query/batch") => list(&hits),
        ("post", "/points/query/groups" | "/points/search/groups") => groups,
        ("post", "/points/search" | "/points/recommend") => list(&hit),
        ("post", "/points/search/batch" | "/points/recommend/batch") => list(&list(&hit)),
        ("post", "/points/batch") => list(&changed),
        ("put" | "delete", "/index" | "/index/{field}") => changed,
        ("put" | "post", end) if end.starts_with("/points") => changed,
        _ => json!({"type": "object"}),
    }
}
