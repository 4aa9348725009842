//! Changes of points, read from Qdrant's JSON.

use serde_json::{Map, Value};

use super::edit::JsonPath;
use super::{Problem, ids};
use crate::collections::{Collection, Layout};

/// Most points of one request.
const POINTS_MAX: usize = 100_000;

/// A point as it came.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Point {
    pub(super) id: String,
    pub(super) vector: Value,
    pub(super) payload: Map<String, Value>,
}

/// Which points.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Chosen {
    Ids(Vec<String>),
    /// In Qdrant's JSON.
    Filter(Value),
}

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Change {
    Upsert(Vec<Point>),
    Delete(Chosen),
    /// Puts fields into payloads, at a path if there is one.
    SetPayload {
        of: Chosen,
        fields: Map<String, Value>,
        at: Option<JsonPath>,
    },
    OverwritePayload {
        of: Chosen,
        payload: Map<String, Value>,
    },
    DeletePayload {
        of: Chosen,
        paths: Vec<JsonPath>,
    },
    ClearPayload(Chosen),
    /// New vectors of points that are there; those that are not named stay.
    UpdateVectors(Vec<Point>),
    DeleteVectors {
        of: Chosen,
        names: Vec<String>,
    },
}

/// Kinds of change, by their names in a batch.
const KINDS: [&str; 8] = [
    "upsert",
    "delete",
    "set_payload",
    "overwrite_payload",
    "delete_payload",
    "clear_payload",
    "update_vectors",
    "delete_vectors",
];

/// Reads the operations of a batch.
pub(super) fn batch(collection: &Collection, body: &Value) -> Result<Vec<Change>, Problem> {
    let operations = body["operations"].as_array();
    let operations = operations.ok_or_else(|| Problem::format("missing field `operations`"))?;
    let one = |operation: &Value| {
        let object = operation.as_object().filter(|object| object.len() == 1);
        let named = object.and_then(|object| object.iter().next());
        let named = named.ok_or_else(|| Problem::format("an operation has one name"))?;
        change(collection, named.0, named.1)
    };
    operations.iter().map(one).collect()
}

/// Reads one change; `kind` is its name in a batch.
pub(super) fn change(collection: &Collection, kind: &str, body: &Value) -> Result<Change, Problem> {
    let object = body.as_object();
    for key in ["shard_key", "update_filter"] {
        if body.get(key).is_some_and(|value| !value.is_null()) {
            return Err(Problem::wrong(format!("`{key}` is not supported")));
        }
    }
    if body.get("update_mode").is_some_and(|mode| !mode.is_null() && mode != "upsert") {
        return Err(Problem::wrong("`update_mode` is not supported but for \"upsert\""));
    }
    let object = object.ok_or_else(|| Problem::format("expected an object"))?;
    let of = || chosen(collection, object);
    let names = |key: &str| -> Result<Vec<String>, Problem> {
        let names = body[key].as_array().ok_or_else(|| Problem::format(format!("missing field `{key}`")))?;
        let name = |name: &Value| name.as_str().map(str::to_owned);
        names
            .iter()
            .map(name)
            .collect::<Option<_>>()
            .ok_or_else(|| Problem::format(format!("{key}: not a name")))
    };
    Ok(match kind {
        "upsert" => Change::Upsert(points(collection, object)?),
        "delete" => Change::Delete(of()?),
        "set_payload" => {
            let at = match body.get("key").filter(|key| !key.is_null()) {
                None => None,
                Some(key) => Some(path(key.as_str().unwrap_or_default())?),
            };
            Change::SetPayload { of: of()?, fields: payload(object)?, at }
        }
        "overwrite_payload" => Change::OverwritePayload { of: of()?, payload: payload(object)? },
        "delete_payload" => {
            let paths = names("keys")?.iter().map(|key| path(key)).collect::<Result<_, _>>()?;
            Change::DeletePayload { of: of()?, paths }
        }
        "clear_payload" => Change::ClearPayload(of()?),
        "update_vectors" => Change::UpdateVectors(listed(collection, object)?),
        "delete_vectors" => Change::DeleteVectors { of: of()?, names: names("vector")? },
        other => {
            return Err(Problem::format(format!("unknown operation `{other}`; known: {}", KINDS.join(", "))));
        }
    })
}

impl Change {
    /// Whether it needs to know the points as they are.
    pub(super) fn reads(&self) -> bool {
        match self {
            Self::Upsert(_) | Self::Delete(Chosen::Ids(_)) => false,
            Self::Delete(Chosen::Filter(_))
            | Self::SetPayload { .. }
            | Self::OverwritePayload { .. }
            | Self::DeletePayload { .. }
            | Self::ClearPayload(_)
            | Self::UpdateVectors(_)
            | Self::DeleteVectors { .. } => true,
        }
    }
}

fn path(key: &str) -> Result<JsonPath, Problem> {
    JsonPath::parse(key).ok_or_else(|| Problem::format(format!("{key:?} is not a path of a payload")))
}

fn payload(object: &Map<String, Value>) -> Result<Map<String, Value>, Problem> {
    let payload = object.get("payload").and_then(Value::as_object);
    payload.cloned().ok_or_else(|| Problem::format("missing field `payload`"))
}

fn chosen(collection: &Collection, object: &Map<String, Value>) -> Result<Chosen, Problem> {
    let given = |key: &str| object.get(key).filter(|value| !value.is_null());
    match (given("points"), given("filter")) {
        (Some(points), _) => Ok(Chosen::Ids(ids_of(collection, points)?)),
        (None, Some(filter)) => Ok(Chosen::Filter(filter.clone())),
        (None, None) => Err(Problem::format("either `points` or `filter` is needed")),
    }
}

fn ids_of(collection: &Collection, value: &Value) -> Result<Vec<String>, Problem> {
    let list = value.as_array().ok_or_else(|| Problem::format("points: not a list of ids"))?;
    let mut list: Vec<String> =
        list.iter().map(|id| ids::to_text(id, &collection.layout)).collect::<Result<_, _>>()?;
    list.sort_unstable();
    list.dedup();
    Ok(list)
}

fn points(collection: &Collection, object: &Map<String, Value>) -> Result<Vec<Point>, Problem> {
    match object.get("batch") {
        Some(batch) => columns(collection, batch),
        None => listed(collection, object),
    }
}

/// Points one by one.
fn listed(collection: &Collection, object: &Map<String, Value>) -> Result<Vec<Point>, Problem> {
    let list = object.get("points").and_then(Value::as_array);
    let list = list.ok_or_else(|| Problem::format("missing field `points`"))?;
    check_count(list.len())?;
    let point = |point: &Value| {
        let id = point.get("id").ok_or_else(|| Problem::format("missing field `id`"))?;
        let vector = point.get("vector").cloned().unwrap_or(Value::Null);
        let payload = as_payload(point.get("payload").unwrap_or(&Value::Null))?;
        Ok(Point { id: ids::to_text(id, &collection.layout)?, vector, payload })
    };
    list.iter().map(point).collect()
}

/// Points as lists of ids, vectors and payloads.
fn columns(collection: &Collection, batch: &Value) -> Result<Vec<Point>, Problem> {
    let list = batch["ids"].as_array().ok_or_else(|| Problem::format("missing field `ids`"))?;
    check_count(list.len())?;
    let (vectors, payloads) = (&batch["vectors"], &batch["payloads"]);
    let long = |column: &Value| column.as_array().is_some_and(|column| column.len() == list.len());
    let fits = vectors.as_object().map_or_else(|| long(vectors), |named| named.values().all(long));
    if !fits || !(payloads.is_null() || long(payloads)) {
        return Err(Problem::wrong("number of ids, vectors and payloads must be equal"));
    }
    let point = |(number, id): (usize, &Value)| {
        let vector = match vectors.as_object() {
            Some(named) => {
                let named = named.iter().map(|(name, column)| (name.clone(), column[number].clone()));
                Value::Object(named.filter(|(_, vector)| !vector.is_null()).collect())
            }
            None => vectors[number].clone(),
        };
        let id = ids::to_text(id, &collection.layout)?;
        Ok(Point { id, vector, payload: as_payload(&payloads[number])? })
    };
    list.iter().enumerate().map(point).collect()
}

fn as_payload(value: &Value) -> Result<Map<String, Value>, Problem> {
    if value.is_null() {
        return Ok(Map::new());
    }
    let payload = value.as_object().cloned();
    payload.ok_or_else(|| Problem::format(format!("payload: {value} is not an object")))
}

fn check_count(count: usize) -> Result<(), Problem> {
    if count > POINTS_MAX {
        return Err(Problem::wrong(format!("{count} points; at most {POINTS_MAX} are taken at once")));
    }
    Ok(())
}

/// What a pipeline of the configuration cannot do: the text of its documents is not kept whole.
pub(super) fn check_layout(collection: &Collection, change: &Change) -> Result<(), Problem> {
    let whole = matches!(change, Change::Upsert(_) | Change::Delete(_));
    if whole || collection.layout == Layout::Wrapped {
        return Ok(());
    }
    let name = &collection.name;
    Err(Problem::wrong(format!(
        "`{name}` is the pipeline of the configuration: it takes whole points, so upsert them"
    )))
}
