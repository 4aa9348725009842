//! Requests as nobody should send them, to every route: the server refuses them, and goes on.

use serde_json::{Value, json};

use super::Server;

/// Requests that are right, in an order in which they work: method, path, body.
fn right() -> Vec<(&'static str, &'static str, Value)> {
    let point = json!({"id": 1, "vector": {"d": [1.0, 0.0], "s": {"indices": [3], "values": [0.5]}}, "payload": {"a": [1]}});
    vec![
        (
            "PUT",
            "/collections/c",
            json!({"vectors": {"d": {"size": 2, "distance": "Cosine"}}, "sparse_vectors": {"s": {"modifier": "idf"}}}),
        ),
        ("PUT", "/collections/c/points?wait=true", json!({"points": [point]})),
        ("PUT", "/collections/c/index", json!({"field_name": "a", "field_schema": "integer"})),
        (
            "POST",
            "/collections/aliases",
            json!({"actions": [{"create_alias": {"collection_name": "c", "alias_name": "b"}}]}),
        ),
        ("POST", "/collections/c/points", json!({"ids": [1], "with_payload": ["a"], "with_vector": true})),
        (
            "POST",
            "/collections/c/points/scroll",
            json!({"limit": 3, "offset": 1, "filter": {"must": [{"key": "a", "match": {"value": 1}}]}}),
        ),
        (
            "POST",
            "/collections/c/points/count",
            json!({"filter": {"should": [{"key": "a", "range": {"gte": 0}}]}, "exact": true}),
        ),
        (
            "POST",
            "/collections/c/points/query",
            json!({"prefetch": [{"query": [1.0, 0.0], "using": "d", "limit": 3}], "query": {"fusion": "rrf"}, "limit": 2, "params": {"exact": true}}),
        ),
        (
            "POST",
            "/collections/c/points/query/batch",
            json!({"searches": [{"query": [1.0, 0.0], "using": "d"}]}),
        ),
        (
            "POST",
            "/collections/c/points/query/groups",
            json!({"query": [1.0, 0.0], "using": "d", "group_by": "a", "group_size": 2}),
        ),
        (
            "POST",
            "/collections/c/points/search",
            json!({"vector": {"name": "d", "vector": [1.0, 0.0]}, "limit": 2}),
        ),
        (
            "POST",
            "/collections/c/points/recommend",
            json!({"positive": [1], "negative": [], "using": "d", "limit": 2}),
        ),
        ("POST", "/collections/c/points/payload?wait=true", json!({"payload": {"b": 1}, "points": [1]})),
        (
            "PUT",
            "/collections/c/points/payload?wait=true",
            json!({"payload": {"b": 1}, "filter": {"must": []}}),
        ),
        ("POST", "/collections/c/points/payload/delete?wait=true", json!({"keys": ["b"], "points": [1]})),
        (
            "PUT",
            "/collections/c/points/vectors?wait=true",
            json!({"points": [{"id": 1, "vector": {"d": [0.0, 1.0]}}]}),
        ),
        (
            "POST",
            "/collections/c/points/batch?wait=true",
            json!({"operations": [{"upsert": {"points": [point]}}]}),
        ),
        ("POST", "/collections/c/points/delete?wait=true", json!({"points": [7]})),
        (
            "POST",
            "/api/query",
            json!({"text": "refund", "plan": "bm25", "limit": 2, "filter": {"must": [{"key": "stars", "range": {"gte": 1}}]}}),
        ),
        ("POST", "/api/documents", json!({"id": "x", "text": "refund", "stars": 3})),
    ]
}

/// Values that stand where others should.
fn odd() -> Vec<Value> {
    let nested = (0..200).fold(json!(1), |inner, _| json!([inner]));
    vec![
        Value::Null,
        json!(true),
        json!(-1),
        json!(1e300),
        json!(u64::MAX),
        json!(""),
        json!("\u{0}/../%00"),
        json!([]),
        json!({}),
        json!("x".repeat(3000)),
        nested,
    ]
}

/// Pointers to every place in a value.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(n, item)| places(item, &format!("{at}/{n}"), found))
        }
        Value::Object(fields) => {
            fields.iter().for_each(|(name, field)| places(field, &format!("{at}/{name}"), found))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn requests_that_make_no_sense_are_refused_and_harm_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let topics = folder.path().join("topics");
    std::fs::create_dir_all(&topics).unwrap();
    let server =
        Server::start(folder.path(), &format!("kind = \"files\"\ndirectory = \"{}\"", topics.display()));
    let mut sent = 0;
    let mut send = |method: &str, path: &str, body: &[u8]| {
        let answer = server.request(method, path, None, body);
        // 503 is for what is not there yet; what was asked must never be the server's fault.
        assert!(answer.status < 500, "{method} {path} {}: {}", String::from_utf8_lossy(body), answer.body);
        serde_json::from_str::<Value>(&answer.body)
            .unwrap_or_else(|_| panic!("{method} {path}: {}", answer.body));
        sent += 1;
        answer.status
    };
    let right = right();
    for (method, path, body) in &right {
        let status = send(method, path, body.to_string().as_bytes());
        assert!([200, 202].contains(&status), "{method} {path} {body}: {status}");
    }
    for (method, path, body) in &right {
        let mut all = Vec::new();
        places(body, "", &mut all);
        for place in &all {
            for odd in odd() {
                let mut changed = body.clone();
                *changed.pointer_mut(place).unwrap() = odd;
                // Collections of other names would pile up.
                let path = if *path == "/collections/c" { "/collections/d" } else { path };
                send(method, path, changed.to_string().as_bytes());
                if path == "/collections/d" {
                    send("DELETE", path, b"");
                }
            }
        }
        let text = body.to_string();
        for cut in [0, 1, text.len() / 2, text.len() - 1] {
            send(method, path, &text.as_bytes()[..cut]);
        }
        send(method, path, b"\xff\xfe{}");
    }
    for path in [
        "/collections/%00",
        "/collections/..%2f..",
        "/collections/none/points/1",
        "/collections/c/points/-1",
        "/collections/c/points/not-a-uuid",
        "/collections/c/points/99999999999999999999999",
        "/api/search?limit=-1&q=a",
        "/api/search?q=%ff",
        "/api/search",
        "/nowhere",
    ] {
        for method in ["GET", "DELETE", "POST", "PATCH"] {
            send(method, path, b"{}");
        }
    }
    // It is still there, and so is what was written rightly.
    assert_eq!(server.request("GET", "/readyz", None, b"").status, 200);
    assert!(sent > 1500, "{sent}");
    server.finish();
}
