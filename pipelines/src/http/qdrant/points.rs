//! Routes that change points: records of the collection's documents topic, whole points each.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Query as Parameters, State};
use axum::response::Response;
use freshet_operators::embed::Priority;
use freshet_schemas::{DocumentChange, DocumentSpec, Fault, FaultCode, Record, VECTORS_FIELD};
use serde_json::{Map, Value, json};

use super::changes::{self, Change, Chosen, Point};
use super::envelope::{answer, take_object};
use super::vectors::{self, Given, Texts};
use super::{Problem, read};
use crate::collections::{Collection, Layout, PAYLOAD_FIELD};
use crate::http::App;

type Shared = State<Arc<App>>;
type Options = Parameters<BTreeMap<String, String>>;

/// A route for one kind of change.
macro_rules! route {
    ($(#[$doc:meta] $name:ident = $kind:literal;)*) => {
        $(#[$doc]
        pub(super) async fn $name(
            app: Shared, Path(name): Path<String>, Parameters(options): Options, body: Body,
        ) -> Response {
            changed(&app, &name, $kind, &options, body).await
        })*
    };
}

route! {
    /// `PUT /collections/{name}/points`
    upsert = "upsert";
    /// `POST /collections/{name}/points/delete`
    delete = "delete";
    /// `POST /collections/{name}/points/payload`
    set_payload = "set_payload";
    /// `PUT /collections/{name}/points/payload`
    overwrite_payload = "overwrite_payload";
    /// `POST /collections/{name}/points/payload/delete`
    delete_payload = "delete_payload";
    /// `POST /collections/{name}/points/payload/clear`
    clear_payload = "clear_payload";
    /// `PUT /collections/{name}/points/vectors`
    update_vectors = "update_vectors";
    /// `POST /collections/{name}/points/vectors/delete`
    delete_vectors = "delete_vectors";
}

async fn changed(
    app: &App,
    name: &str,
    kind: &str,
    options: &BTreeMap<String, String>,
    body: Body,
) -> Response {
    answer(async {
        let (collection, body) = read::read(app, name, body).await?;
        let change = changes::change(&collection, kind, &body)?;
        let mut results = apply(app, &collection, vec![change], is_true(options, "wait")).await?;
        Ok(results.pop().unwrap_or_default())
    })
    .await
}

/// `POST /collections/{name}/points/batch`
pub(super) async fn batch(
    State(app): Shared,
    Path(name): Path<String>,
    Parameters(options): Options,
    body: Body,
) -> Response {
    answer(async {
        let (collection, body) = read::read(&app, &name, body).await?;
        let changes = changes::batch(&collection, &body)?;
        Ok(apply(&app, &collection, changes, is_true(&options, "wait")).await?.into())
    })
    .await
}

fn is_true(options: &BTreeMap<String, String>, name: &str) -> bool {
    options.get(name).is_some_and(|value| value == "true")
}

/// Writes what changes mean, one after the other, and waits for the indexes where that is wished. What comes back says of
/// each change what became of it.
async fn apply(
    app: &App,
    collection: &Collection,
    changes: Vec<Change>,
    wait: bool,
) -> Result<Vec<Value>, Problem> {
    let status = if wait { "completed" } else { "acknowledged" };
    let mut results = Vec::with_capacity(changes.len());
    for change in changes {
        changes::check_layout(collection, &change)?;
        // Between the reading and the writing of a point nobody else may write it.
        let alone = if change.reads() { Some(collection.writes.write().await) } else { None };
        let records = records(app, collection, change).await?;
        let _together = if alone.is_none() { Some(collection.writes.read().await) } else { None };
        write(collection, records).await?;
        results.push(json!({"operation_id": collection.operation(), "status": status}));
    }
    if wait {
        collection.pipe.indexed().await?;
    }
    Ok(results)
}

/// Writes records; all of them are durable when it returns.
async fn write(collection: &Collection, records: Vec<Record>) -> Result<(), Problem> {
    if records.is_empty() {
        return Ok(());
    }
    let spec = spec(collection)?;
    let fates = collection.pipe.write(&spec.source.topic, records).await?;
    let refused = fates.into_iter().find_map(Result::err);
    refused
        .map_or(Ok(()), |reason| Err(Problem::internal(format!("the topic did not take a point: {reason}"))))
}

/// A point as records have it.
type Whole = (String, Map<String, Value>, Map<String, Value>);

/// Points with the vectors of their texts.
async fn embedded(app: &App, collection: &Collection, points: Vec<Point>) -> Result<Vec<Whole>, Problem> {
    let mut whole: Vec<Whole> = Vec::with_capacity(points.len());
    let mut texts: Texts<'_, (usize, String)> = Texts::default();
    for (number, Point { id, vector, payload }) in points.into_iter().enumerate() {
        let mut given = Map::new();
        for (field, vector) in vectors::of_point(&collection.schema, &vector)? {
            match vector {
                Given::Vector(vector) => drop(given.insert(field.name.clone(), vector)),
                Given::Text(text) => texts.push(field, text, (number, field.name.clone())),
            }
        }
        whole.push((id, payload, given));
    }
    for ((number, name), vector) in texts.embed(&app.list()?.inference, Priority::Document).await? {
        whole[number].2.insert(name, vector);
    }
    Ok(whole)
}

/// What records of points must look like.
fn spec(collection: &Collection) -> Result<&DocumentSpec, Problem> {
    let spec = collection.pipe.spec(None)?;
    spec.key("")?;
    if !spec.source.id_prefix.is_empty() {
        let message = "points of a topic with documents.id_prefix cannot be written here";
        return Err(Fault::whole(FaultCode::InvalidValue, message).into());
    }
    Ok(spec)
}

/// The record of a point, as the topic's readers will see it.
fn record(
    collection: &Collection,
    id: String,
    payload: Map<String, Value>,
    vectors: Map<String, Value>,
) -> Result<Record, Problem> {
    let value = match collection.layout {
        Layout::Wrapped => json!({PAYLOAD_FIELD: payload, VECTORS_FIELD: vectors}),
        Layout::Plain => {
            let mut document = payload;
            if !vectors.is_empty() {
                document.insert(VECTORS_FIELD.to_owned(), vectors.into());
            }
            document.into()
        }
    };
    let value = Some(value.to_string().into_bytes());
    let record = Record { key: Some(id.into_bytes()), value, ..Record::default() };
    DocumentChange::parse(&record, spec(collection)?)?;
    Ok(record)
}

fn tombstone(id: String) -> Record {
    Record { key: Some(id.into_bytes()), ..Record::default() }
}

/// The records that a change means. Where it must know points, they are as they are after all earlier writes.
async fn records(app: &App, collection: &Collection, change: Change) -> Result<Vec<Record>, Problem> {
    match change {
        Change::Upsert(points) => {
            let points = embedded(app, collection, points).await?.into_iter();
            points.map(|(id, payload, vectors)| record(collection, id, payload, vectors)).collect()
        }
        Change::Delete(Chosen::Ids(ids)) => Ok(ids.into_iter().map(tombstone).collect()),
        Change::Delete(Chosen::Filter(filter)) => {
            let nothing = json!({"with_payload": false});
            let found = read::by_filter(collection, &filter, &nothing).await?;
            Ok(found.iter().filter_map(|point| Some(tombstone(point["id"].as_str()?.to_owned()))).collect())
        }
        Change::SetPayload { of, fields, at } => {
            edited(collection, of, |payload, _| match &at {
                Some(path) => path.merge(payload, &fields),
                None => payload.extend(fields.clone()),
            })
            .await
        }
        Change::OverwritePayload { of, payload: new } => {
            edited(collection, of, |payload, _| payload.clone_from(&new)).await
        }
        Change::DeletePayload { of, paths } => {
            edited(collection, of, |payload, _| paths.iter().for_each(|path| path.remove(payload))).await
        }
        Change::ClearPayload(of) => edited(collection, of, |payload, _| payload.clear()).await,
        Change::UpdateVectors(points) => {
            let of = Chosen::Ids(points.iter().map(|point| point.id.clone()).collect());
            let new = embedded(app, collection, points).await?;
            let mut by_id: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
            for (id, _, vectors) in new {
                by_id.entry(id).or_default().extend(vectors);
            }
            rewrite(collection, of, |id, _, vectors| vectors.extend(by_id.remove(id).unwrap_or_default()))
                .await
        }
        Change::DeleteVectors { of, names } => {
            let names: Result<Vec<&str>, Problem> = (names.iter())
                .map(|name| Ok(vectors::field(&collection.schema, name)?.name.as_str()))
                .collect();
            let names = names?;
            edited(collection, of, |_, vectors| {
                names.iter().for_each(|name| drop(vectors.shift_remove(*name)))
            })
            .await
        }
    }
}

/// Points with another payload, or other vectors.
async fn edited(
    collection: &Collection,
    of: Chosen,
    mut edit: impl FnMut(&mut Map<String, Value>, &mut Map<String, Value>),
) -> Result<Vec<Record>, Problem> {
    rewrite(collection, of, |_, payload, vectors| edit(payload, vectors)).await
}

async fn rewrite(
    collection: &Collection,
    of: Chosen,
    mut edit: impl FnMut(&str, &mut Map<String, Value>, &mut Map<String, Value>),
) -> Result<Vec<Record>, Problem> {
    let whole = json!({"with_payload": true, "with_vector": true});
    let found: Vec<Value> = match of {
        Chosen::Filter(filter) => read::by_filter(collection, &filter, &whole).await?,
        Chosen::Ids(ids) => {
            let found = read::by_id(collection, &ids, &whole, "strong").await?;
            if let Some(missed) = ids.iter().find(|id| !found.contains_key(*id)) {
                return Err(Problem::not_found(format!("No point with id {missed} found")));
            }
            found.into_values().collect()
        }
    };
    let one = |mut point: Value| {
        let id = point["id"].as_str().unwrap_or_default().to_owned();
        let (mut payload, mut vectors) =
            (take_object(&mut point["payload"]), take_object(&mut point["vectors"]));
        edit(&id, &mut payload, &mut vectors);
        record(collection, id, payload, vectors)
    };
    found.into_iter().map(one).collect()
}
