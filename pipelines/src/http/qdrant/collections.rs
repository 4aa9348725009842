//! Routes of collections, aliases and payload indexes.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Query as Parameters, State};
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::envelope::{answer, json_of};
use super::{Problem, read};
use crate::collections::{AliasChange, Collection, CollectionError, Collections};
use crate::http::App;
use crate::http::guard::read_body;

type Shared = State<Arc<App>>;

/// Keys of an update that change no answer.
const UPDATES: [&str; 7] = [
    "optimizers_config",
    "params",
    "hnsw_config",
    "quantization_config",
    "vectors",
    "sparse_vectors",
    "metadata",
];

/// `GET /collections`
pub(super) async fn list(State(app): Shared) -> Response {
    answer(async {
        let own = app.own.as_ref().map(|own| own.name.clone());
        let mut names = app.list()?.names();
        names.extend(own);
        names.sort_unstable();
        let collections: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
        Ok(json!({"collections": collections}))
    })
    .await
}

/// `PUT /collections/{name}`
pub(super) async fn create(State(app): Shared, Path(name): Path<String>, body: Body) -> Response {
    answer(async {
        let body = json_of(&read_body(&app.http, body).await?)?;
        blocking(&app, move |list| list.create(&name, &body).map(|()| Value::Bool(true))).await
    })
    .await
}

/// `PATCH /collections/{name}`: what may be given there changes no answer.
pub(super) async fn update(State(app): Shared, Path(name): Path<String>, body: Body) -> Response {
    answer(async {
        app.collection(&name)?;
        let body = json_of(&read_body(&app.http, body).await?)?;
        let object = body.as_object().ok_or_else(|| Problem::format("expected an object"))?;
        match object.iter().find(|(key, value)| !UPDATES.contains(&key.as_str()) && !value.is_null()) {
            Some((key, _)) => Err(Problem::wrong(format!("`{key}` cannot be changed"))),
            None => Ok(Value::Bool(true)),
        }
    })
    .await
}

/// `DELETE /collections/{name}`
pub(super) async fn delete(State(app): Shared, Path(name): Path<String>) -> Response {
    answer(async { blocking(&app, move |list| list.delete(&name).map(Value::Bool)).await }).await
}

/// `GET /collections/{name}/exists`
pub(super) async fn exists(State(app): Shared, Path(name): Path<String>) -> Response {
    answer(async { Ok(json!({"exists": app.collection(&name).is_ok()})) }).await
}

/// `GET /collections/{name}`
pub(super) async fn info(State(app): Shared, Path(name): Path<String>) -> Response {
    answer(async {
        let collection = app.collection(&name)?;
        let points = match collection.obstacle() {
            None => read::counted(&collection, None).await?,
            Some(_) => Value::Null,
        };
        Ok(shown(&collection, points, &app.list()?.indexes(&collection.name)))
    })
    .await
}

/// What clients read about a collection.
fn shown(collection: &Collection, points: Value, indexes: &Map<String, Value>) -> Value {
    let (status, optimizer) = match collection.obstacle() {
        None => ("green", json!("ok")),
        Some(_) if collection.replaced() => ("yellow", json!("ok")),
        Some(_) if collection.pipe.control.running() => match collection.failed_before() {
            None => ("yellow", json!("ok")),
            Some(why) => ("yellow", json!({"error": format!("started again after a failure: {why}")})),
        },
        Some(why) => ("red", json!({"error": why})),
    };
    let body = &collection.schema.body;
    let or = |key: &str, default: Value| body.get(key).cloned().unwrap_or(default);
    let with = |key: &str, mut default: Value| {
        if let (Some(Value::Object(given)), Some(shown)) = (body.get(key), default.as_object_mut()) {
            shown.extend(
                given.iter().filter(|(_, value)| !value.is_null()).map(|(k, v)| (k.clone(), v.clone())),
            );
        }
        default
    };
    let mut params = json!({
        "vectors": or("vectors", json!({})),
        "shard_number": collection.pipe.setup.config.pipeline.shards,
        "replication_factor": or("replication_factor", json!(1)),
        "write_consistency_factor": or("write_consistency_factor", json!(1)),
        "on_disk_payload": or("on_disk_payload", json!(true)),
    });
    if let Some(sparse) = body.get("sparse_vectors") {
        params["sparse_vectors"] = sparse.clone();
    }
    let mut config = json!({
        "params": params,
        "hnsw_config": with("hnsw_config", json!({"m": 16, "ef_construct": 100, "full_scan_threshold": 10_000})),
        "optimizer_config": with("optimizers_config", json!({"default_segment_number": 0, "flush_interval_sec": 5})),
        "wal_config": with("wal_config", json!({"wal_capacity_mb": 32, "wal_segments_ahead": 0})),
        "quantization_config": or("quantization_config", Value::Null),
    });
    if let Some(metadata) = body.get("metadata") {
        config["metadata"] = metadata.clone();
    }
    let schema = indexes.iter().map(|(key, schema)| (key.clone(), index_shown(schema, &points)));
    json!({
        "status": status,
        "optimizer_status": optimizer,
        "points_count": points,
        "indexed_vectors_count": points,
        "segments_count": 1,
        "config": config,
        "payload_schema": schema.collect::<Map<_, _>>(),
    })
}

/// A payload index as it was asked for: the name of a type, or an object with one.
fn index_shown(schema: &Value, points: &Value) -> Value {
    match schema.as_object() {
        Some(params) => json!({"data_type": params.get("type"), "params": params, "points": points}),
        None => json!({"data_type": schema, "points": points}),
    }
}

/// `GET /aliases`
pub(super) async fn aliases(State(app): Shared) -> Response {
    answer(async { Ok(aliases_shown(&app.list()?.aliases(), None)) }).await
}

/// `GET /collections/{name}/aliases`
pub(super) async fn aliases_of(State(app): Shared, Path(name): Path<String>) -> Response {
    answer(async {
        let collection = app.collection(&name)?;
        Ok(aliases_shown(&app.list()?.aliases(), Some(&collection.name)))
    })
    .await
}

fn aliases_shown(aliases: &[(String, String)], only: Option<&str>) -> Value {
    let aliases = aliases.iter().filter(|(_, of)| only.is_none_or(|only| only == of));
    let aliases = aliases.map(|(alias, of)| json!({"alias_name": alias, "collection_name": of}));
    json!({"aliases": aliases.collect::<Vec<_>>()})
}

/// `POST /collections/aliases`
pub(super) async fn change_aliases(State(app): Shared, body: Body) -> Response {
    answer(async {
        let body = json_of(&read_body(&app.http, body).await?)?;
        let actions = body["actions"].as_array().ok_or_else(|| Problem::format("missing field `actions`"))?;
        let changes = actions.iter().map(alias_change).collect::<Result<Vec<_>, _>>()?;
        blocking(&app, move |list| list.change_aliases(changes).map(|()| Value::Bool(true))).await
    })
    .await
}

fn alias_change(action: &Value) -> Result<AliasChange, Problem> {
    let name = |of: &str, key: &str| {
        let name = action[of][key].as_str().map(str::to_owned);
        name.ok_or_else(|| Problem::format(format!("missing field `{key}`")))
    };
    for of in ["create_alias", "delete_alias", "rename_alias"] {
        if action.get(of).is_none() {
            continue;
        }
        return Ok(match of {
            "create_alias" => {
                AliasChange::Create { alias: name(of, "alias_name")?, of: name(of, "collection_name")? }
            }
            "delete_alias" => AliasChange::Delete { alias: name(of, "alias_name")? },
            _ => AliasChange::Rename { from: name(of, "old_alias_name")?, to: name(of, "new_alias_name")? },
        });
    }
    Err(Problem::format("an action is create_alias, delete_alias or rename_alias"))
}

/// `PUT /collections/{name}/index`: filters find without it, and faster with it.
pub(super) async fn create_index(State(app): Shared, Path(name): Path<String>, body: Body) -> Response {
    answer(async {
        let collection = app.collection(&name)?;
        let body = json_of(&read_body(&app.http, body).await?)?;
        let key = body["field_name"].as_str().ok_or_else(|| Problem::format("missing field `field_name`"))?;
        let schema = body.get("field_schema").filter(|schema| !schema.is_null());
        let schema = schema.cloned().unwrap_or_else(|| json!("keyword"));
        index(&app, &collection, key.to_owned(), Some(schema)).await
    })
    .await
}

/// `DELETE /collections/{name}/index/{field}`
pub(super) async fn delete_index(
    State(app): Shared,
    Path((name, field)): Path<(String, String)>,
    Parameters(_): Parameters<BTreeMap<String, String>>,
) -> Response {
    answer(async {
        let collection = app.collection(&name)?;
        index(&app, &collection, field, None).await
    })
    .await
}

async fn index(
    app: &App,
    collection: &Collection,
    key: String,
    schema: Option<Value>,
) -> Result<Value, Problem> {
    if app.own.as_ref().is_some_and(|own| own.name == collection.name) {
        return Err(Problem::wrong("the pipeline of the configuration has its indexes in [payload]"));
    }
    let (name, number) = (collection.name.clone(), collection.operation());
    blocking(app, move |list| {
        list.index(&name, &key, schema)?;
        Ok(json!({"operation_id": number, "status": "completed"}))
    })
    .await
}

/// Changes the list away from the threads that serve connections: it waits for topics and threads.
async fn blocking(
    app: &App,
    work: impl FnOnce(&Collections) -> Result<Value, CollectionError> + Send + 'static,
) -> Result<Value, Problem> {
    let list = Arc::clone(app.list()?);
    let done = tokio::task::spawn_blocking(move || work(&list)).await;
    Ok(done.map_err(Problem::internal)??)
}
