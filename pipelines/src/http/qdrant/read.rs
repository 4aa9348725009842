//! Routes that read points: each is a query of the collection.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Query as Parameters, State};
use axum::response::Response;
use freshet_schemas::Answer;
use serde_json::{Map, Value, json};
use tokio::sync::oneshot;

use super::envelope::{answer, json_of, take_array};
use super::query::{self, Translated, translate};
use super::{Problem, Ready, ids, vectors};
use crate::collections::{Collection, Layout};
use crate::http::App;
use crate::http::guard::read_body;
use crate::http::refusal::Refusal;

/// Points of a scroll that names no limit, as in Qdrant.
const SCROLL_LIMIT: u64 = 10;
/// Points that are read at once where many are: their vectors may be long.
const PAGE: usize = 500;
/// Most queries of a batch, and those of one that are under way at once.
const BATCH_MAX: usize = 1000;
const BATCH_AT_ONCE: usize = 16;

type Shared = State<Arc<App>>;

/// `POST /collections/{name}/points/query`
pub(super) async fn query(State(app): Shared, Path(name): Path<String>, body: Body) -> Response {
    answer(async {
        let (collection, body) = read(&app, &name, body).await?;
        Ok(json!({"points": points(&app, &collection, &body).await?}))
    })
    .await
}

/// `POST /collections/{name}/points/query/batch`
pub(super) async fn query_batch(State(app): Shared, Path(name): Path<String>, body: Body) -> Response {
    answer(async {
        let lists = batch(&app, &name, body, |body| Ok(body.clone())).await?;
        Ok(lists.into_iter().map(|points| json!({"points": points})).collect())
    })
    .await
}

/// `POST /collections/{name}/points/query/groups`
pub(super) async fn groups(State(app): Shared, Path(name): Path<String>, body: Body) -> Response {
    answer(async {
        let (collection, body) = read(&app, &name, body).await?;
        grouped(&app, &collection, &body).await
    })
    .await
}

/// `POST /collections/{name}/points/search`
pub(super) async fn search(State(app): Shared, Path(name): Path<String>, body: Body) -> Response {
    answer(async {
        let (collection, body) = read(&app, &name, body).await?;
        points(&app, &collection, &query::of_search(&body)?).await
    })
    .await
}

/// `POST /collections/{name}/points/search/batch`
pub(super) async fn search_batch(State(app): Shared, Path(name): Path<String>, body: Body) -> Response {
    answer(async { Ok(batch(&app, &name, body, query::of_search).await?.into()) }).await
}

/// `POST /collections/{name}/points/search/groups`
pub(super) async fn search_groups(State(app): Shared, Path(name): Path<String>, body: Body) -> Response {
    answer(async {
        let (collection, body) = read(&app, &name, body).await?;
        grouped(&app, &collection, &query::of_search(&body)?).await
    })
    .await
}

/// `POST /collections/{name}/points/recommend`
pub(super) async fn recommend(State(app): Shared, Path(name): Path<String>, body: Body) -> Response {
    answer(async {
        let (collection, body) = read(&app, &name, body).await?;
        points(&app, &collection, &query::of_recommend(&body)?).await
    })
    .await
}

/// `POST /collections/{name}/points/recommend/batch`
pub(super) async fn recommend_batch(State(app): Shared, Path(name): Path<String>, body: Body) -> Response {
    answer(async { Ok(batch(&app, &name, body, query::of_recommend).await?.into()) }).await
}

/// `POST /collections/{name}/points`
pub(super) async fn retrieve(State(app): Shared, Path(name): Path<String>, body: Body) -> Response {
    answer(async {
        let (collection, body) = read(&app, &name, body).await?;
        let wanted = id_list(&collection, body.get("ids"))?;
        let mut found = by_id(&collection, &wanted, &body, "latest").await?;
        // In the order in which they are asked for, each once.
        Ok(wanted.iter().filter_map(|id| Some(record(&collection, found.remove(id)?))).collect())
    })
    .await
}

/// `GET /collections/{name}/points/{id}`
pub(super) async fn one(
    State(app): Shared,
    Path((name, id)): Path<(String, String)>,
    Parameters(_): Parameters<BTreeMap<String, String>>,
) -> Response {
    answer(async {
        let collection = app.ready(&name).await?;
        let id = ids::to_text(&ids::from_text(&id), &collection.layout)?;
        let body = json!({"with_payload": true, "with_vector": true});
        let mut found = by_id(&collection, std::slice::from_ref(&id), &body, "latest").await?;
        let point = found.remove(&id);
        let point =
            point.ok_or_else(|| Problem::not_found(format!("Point with id {id} does not exists!")))?;
        Ok(record(&collection, point))
    })
    .await
}

/// `POST /collections/{name}/points/scroll`
pub(super) async fn scroll(State(app): Shared, Path(name): Path<String>, body: Body) -> Response {
    answer(async {
        let (collection, body) = read(&app, &name, body).await?;
        let given = |key: &str| body.get(key).filter(|value| !value.is_null());
        let limit = match given("limit") {
            None => SCROLL_LIMIT,
            Some(limit) => limit.as_u64().filter(|limit| *limit > 0).ok_or_else(|| {
                Problem::wrong("Validation error in JSON body: [limit: value must be at least 1]")
            })?,
        };
        let mut asked = Map::new();
        let ordered = match (given("order_by"), given("offset")) {
            (Some(_), Some(_)) => {
                return Err(Problem::wrong("Cannot use an `offset` when using `order_by`."));
            }
            (Some(order), None) => {
                asked.insert("query".to_owned(), json!({"order_by": order}));
                true
            }
            (None, offset) => {
                let from = offset.map(|id| ids::to_text(id, &collection.layout)).transpose()?;
                asked.insert("query".to_owned(), json!({"list": {"order": "number", "from": from}}));
                false
            }
        };
        if let Some(filter) = given("filter") {
            asked.insert("filter".to_owned(), query::filter(&collection, filter)?);
        }
        // One more tells whether there is a next page, and where it begins. A page may be shorter than asked for.
        let limit_max = collection.pipe.setup.config.queries.limits.limit_max;
        let limit =
            usize::try_from(limit).unwrap_or(usize::MAX).min((limit_max - usize::from(!ordered)).max(1));
        asked.insert("limit".to_owned(), json!(limit + usize::from(!ordered)));
        query::carried(&collection, &body, true, &mut asked)?;
        let mut found = hits(ask(&collection, &asked.into()).await?);
        let next = match found.get(limit).filter(|_| !ordered) {
            Some(next) => next["id"].as_str().map(ids::from_text),
            None => None,
        };
        found.truncate(limit);
        let points: Vec<Value> = found.into_iter().map(|point| record(&collection, point)).collect();
        Ok(json!({"points": points, "next_page_offset": next}))
    })
    .await
}

/// `POST /collections/{name}/points/count`
pub(super) async fn count(State(app): Shared, Path(name): Path<String>, body: Body) -> Response {
    answer(async {
        let (collection, body) = read(&app, &name, body).await?;
        Ok(json!({"count": counted(&collection, body.get("filter")).await?}))
    })
    .await
}

/// How many points there are, or pass a filter.
pub(super) async fn counted(collection: &Collection, filter: Option<&Value>) -> Result<Value, Problem> {
    let mut asked = json!({"count": true});
    if let Some(filter) = filter.filter(|filter| !filter.is_null()) {
        asked["filter"] = query::filter(collection, filter)?;
    }
    Ok(ask(collection, &asked).await?["count"].take())
}

/// Hits of the points with some ids as Freshet has them, by id.
pub(super) async fn by_id(
    collection: &Collection,
    wanted: &[String],
    body: &Value,
    consistency: &str,
) -> Result<BTreeMap<String, Value>, Problem> {
    let mut found = BTreeMap::new();
    for some in wanted.chunks(page_size(collection)) {
        let mut asked = json!({
            "query": {"list": {}}, "filter": {"must": [{"has_id": some}]}, "limit": some.len(),
            "consistency": consistency,
        });
        if let Some(asked) = asked.as_object_mut() {
            query::carried(collection, body, true, asked)?;
        }
        for point in hits(ask(collection, &asked).await?) {
            if let Some(id) = point["id"].as_str() {
                found.insert(id.to_owned(), point);
            }
        }
    }
    Ok(found)
}

/// Hits of all points that pass a filter of Qdrant, at one time or later, by id.
pub(super) async fn by_filter(
    collection: &Collection,
    filter: &Value,
    body: &Value,
) -> Result<Vec<Value>, Problem> {
    let limit = page_size(collection);
    let filter = query::filter(collection, filter)?;
    let mut found: Vec<Value> = Vec::new();
    let mut from = Value::Null;
    loop {
        let mut asked = json!({
            "query": {"list": {"from": from}}, "filter": filter, "limit": limit, "consistency": "strong",
        });
        if let Some(asked) = asked.as_object_mut() {
            query::carried(collection, body, true, asked)?;
        }
        let page = hits(ask(collection, &asked).await?);
        let full = page.len() == limit;
        // Each page begins with the last one of the page before.
        let skip = usize::from(!from.is_null() && page.first().is_some_and(|first| first["id"] == from));
        let last = page.last().map(|last| last["id"].clone());
        found.extend(page.into_iter().skip(skip));
        match last.filter(|last| full && *last != from) {
            Some(last) => from = last,
            None => return Ok(found),
        }
    }
}

/// How many points are read at once: two at least, for each page begins with the last point of the one before.
fn page_size(collection: &Collection) -> usize {
    PAGE.min(collection.pipe.setup.config.queries.limits.limit_max).max(2)
}

/// Ids of a list, as Freshet has them.
pub(super) fn id_list(collection: &Collection, value: Option<&Value>) -> Result<Vec<String>, Problem> {
    let ids = value.and_then(Value::as_array).ok_or_else(|| Problem::format("missing a list of ids"))?;
    ids.iter().map(|id| ids::to_text(id, &collection.layout)).collect()
}

/// Asks a query in Freshet's JSON.
pub(super) async fn ask(collection: &Collection, query: &Value) -> Result<Value, Problem> {
    answered(put(collection, query)?).await
}

fn put(collection: &Collection, query: &Value) -> Result<oneshot::Receiver<Answer>, Problem> {
    let pipe = &collection.pipe;
    Ok(pipe.ask(pipe.named(query.to_string().into_bytes()))?)
}

async fn answered(pending: oneshot::Receiver<Answer>) -> Result<Value, Problem> {
    let answer = pending.await.map_err(|_| Problem::from(Refusal::ended()))?;
    match answer.error {
        Some(fault) => Err(fault.into()),
        None => serde_json::to_value(&answer).map_err(Problem::internal),
    }
}

/// The hits of an answer.
pub(super) fn hits(mut answer: Value) -> Vec<Value> {
    take_array(&mut answer["points"])
}

/// What a request asks, and of which collection.
pub(super) async fn read(app: &App, name: &str, body: Body) -> Result<(Ready, Value), Problem> {
    // One that is not there, or not ready, needs no body. One that is there waits for no body.
    drop(app.ready(name).await?);
    let body = json_of(&read_body(&app.http, body).await?)?;
    Ok((app.ready(name).await?, body))
}

async fn points(app: &App, collection: &Collection, body: &Value) -> Result<Value, Problem> {
    let translated = translate(collection, &app.list()?.inference, body).await?;
    let answer = ask(collection, &translated.query).await?;
    Ok(scored_all(collection, hits(answer), translated.distances))
}

async fn grouped(app: &App, collection: &Collection, body: &Value) -> Result<Value, Problem> {
    if body.get("group_by").is_none_or(Value::is_null) {
        return Err(Problem::format("missing field `group_by`"));
    }
    let Translated { query, distances } = translate(collection, &app.list()?.inference, body).await?;
    let mut answer = ask(collection, &query).await?;
    let groups = take_array(&mut answer["groups"]);
    let shown = |mut group: Value| {
        let hits = take_array(&mut group["hits"]);
        json!({"id": group["id"], "hits": scored_all(collection, hits, distances)})
    };
    Ok(json!({"groups": groups.into_iter().map(shown).collect::<Vec<_>>()}))
}

/// The lists of many queries, in their order.
async fn batch(
    app: &App,
    name: &str,
    body: Body,
    as_query: impl Fn(&Value) -> Result<Value, Problem>,
) -> Result<Vec<Value>, Problem> {
    let (collection, body) = read(app, name, body).await?;
    let searches = body["searches"].as_array().ok_or_else(|| Problem::format("missing field `searches`"))?;
    if searches.len() > BATCH_MAX {
        let message = format!("{} searches; at most {BATCH_MAX} are taken at once", searches.len());
        return Err(Problem::wrong(message));
    }
    let mut lists = Vec::with_capacity(searches.len());
    for some in searches.chunks(BATCH_AT_ONCE) {
        let mut under_way = Vec::with_capacity(some.len());
        for search in some {
            let query = as_query(search)?;
            let Translated { query, distances } =
                translate(&collection, &app.list()?.inference, &query).await?;
            under_way.push((put(&collection, &query)?, distances));
        }
        for (pending, distances) in under_way {
            lists.push(scored_all(&collection, hits(answered(pending).await?), distances));
        }
    }
    Ok(lists)
}

fn scored_all(collection: &Collection, points: Vec<Value>, distances: bool) -> Value {
    points.into_iter().map(|point| scored(collection, point, distances)).collect()
}

/// A hit of a search, with its score.
fn scored(collection: &Collection, point: Value, distances: bool) -> Value {
    let score = point["score"].as_f64().unwrap_or(0.0);
    let mut shown = record(collection, point);
    shown["version"] = json!(0);
    shown["score"] = json!(if distances { -score } else { score });
    shown
}

/// A point without a score.
fn record(collection: &Collection, mut point: Value) -> Value {
    let mut shown = json!({"id": point["id"].as_str().map(ids::from_text)});
    let mut payload = point["payload"].take();
    if let (Layout::Plain, Some(payload)) = (&collection.layout, payload.as_object_mut())
        && let Some(text) = collection.pipe.setup.config.documents.text.last()
        && point["text"].is_string()
    {
        // The chunk that was found, under the name that the text has in documents.
        payload.entry(text.as_str()).or_insert(point["text"].take());
    }
    if !payload.is_null() {
        shown["payload"] = payload;
    }
    if let Some(vectors) = point.get("vectors") {
        shown["vector"] = vectors::shown(&collection.schema, vectors).unwrap_or(Value::Null);
    }
    if let Some(value) = point.get("order_value").filter(|value| !value.is_null()) {
        shown["order_value"] = value.clone();
    }
    shown
}
