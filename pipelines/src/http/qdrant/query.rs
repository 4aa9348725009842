//! Qdrant's JSON of a query → Freshet's, node by node.
//!
//! The forms are nearly the same. What differs: a vector without a name has one in Freshet; a bare string or integer is the
//! id of a point and never a text; texts are embedded here; scores of Euclidean fields are distances in Qdrant, and
//! ascend; hits carry nothing unless asked.

use freshet_config::{Distance, Modifier};
use freshet_operators::embed::Priority;
use freshet_schemas::VectorKind;
use serde_json::{Map, Value, json};

use super::vectors::{Given, Texts};
use super::{Problem, ids, vectors};
use crate::collections::{Collection, Field, Inference, Layout, Text};

/// Keys of a node.
const NODE: [&str; 7] = ["prefetch", "query", "using", "filter", "params", "score_threshold", "limit"];
/// Keys that stand at the top of a query beside those of a node.
const ROOT: [&str; 6] = ["offset", "with_payload", "with_vector", "with_vectors", "group_by", "group_size"];
/// Keys that ask for what Freshet does not do.
const REFUSED: [&str; 3] = ["lookup_from", "with_lookup", "shard_key"];
/// Parameters of a search that Freshet has; the others say how Qdrant may save work.
const PARAMS: [&str; 2] = ["exact", "hnsw_ef"];
/// Parameters that change no answer of Freshet.
const PARAMS_HARMLESS: [&str; 3] = ["quantization", "indexed_only", "acorn"];
/// Deepest nesting that is looked into; Freshet's own limits are far below.
const DEPTH_MAX: usize = 64;

/// A query in Freshet's JSON.
#[derive(Debug)]
pub(super) struct Translated {
    pub(super) query: Value,
    /// Scores are distances.
    pub(super) distances: bool,
}

/// Translates the body of `points/query` or `points/query/groups`.
pub(super) async fn translate(
    collection: &Collection,
    inference: &std::sync::Arc<Inference>,
    body: &Value,
) -> Result<Translated, Problem> {
    let mut translator = Translator { collection, texts: Texts::default(), distances: false };
    let mut query = translator.node(body, "", 0)?;
    for (place, vector) in translator.texts.embed(inference, Priority::Query).await? {
        if let Some(slot) = query.pointer_mut(&place) {
            *slot = vector;
        }
    }
    Ok(Translated { query, distances: translator.distances })
}

/// What hits carry, with Qdrant's defaults, and nothing about their way through the stages.
pub(super) fn carried(
    collection: &Collection,
    body: &Value,
    payload: bool,
    query: &mut Map<String, Value>,
) -> Result<(), Problem> {
    let with_payload = body.get("with_payload").filter(|value| !value.is_null());
    query.insert("with_payload".to_owned(), with_payload.cloned().unwrap_or(Value::Bool(payload)));
    let with_vector = body.get("with_vector").or(body.get("with_vectors")).filter(|value| !value.is_null());
    let with_vector = match with_vector {
        Some(Value::Array(names)) => {
            let name = |name: &Value| {
                let name = name.as_str().ok_or_else(|| Problem::format("with_vector: not a name"))?;
                vectors::field(&collection.schema, name).map(|field| Value::from(field.name.as_str()))
            };
            Some(Value::Array(names.iter().map(name).collect::<Result<_, _>>()?))
        }
        other => other.cloned(),
    };
    if let Some(with_vector) = with_vector.filter(|value| value != &Value::Bool(false)) {
        query.insert("with_vector".to_owned(), with_vector);
    }
    query.insert("explain".to_owned(), Value::Bool(false));
    Ok(())
}

/// A filter with ids and names of vectors as Freshet has them.
pub(super) fn filter(collection: &Collection, value: &Value) -> Result<Value, Problem> {
    conditions(collection, value, 0)
}

/// Whatever stands anywhere below, `has_id` and `has_vector` mean the same.
fn conditions(collection: &Collection, value: &Value, depth: usize) -> Result<Value, Problem> {
    if depth > DEPTH_MAX {
        return Err(Problem::wrong("the filter is nested too deep"));
    }
    match value {
        Value::Object(object) => {
            let entry = |(key, value): (&String, &Value)| {
                let value = match (key.as_str(), value) {
                    ("has_id", Value::Array(ids)) => {
                        let id = |id| ids::to_text(id, &collection.layout).map(Value::from);
                        Value::Array(ids.iter().map(id).collect::<Result<_, _>>()?)
                    }
                    ("has_vector", Value::String(name)) => {
                        vectors::field(&collection.schema, name)?.name.as_str().into()
                    }
                    // What a field is compared with is no condition, whatever it holds.
                    ("match" | "range", other) => other.clone(),
                    (_, other) => conditions(collection, other, depth + 1)?,
                };
                Ok((key.clone(), value))
            };
            object.iter().map(entry).collect::<Result<Map<_, _>, Problem>>().map(Value::Object)
        }
        Value::Array(items) => items
            .iter()
            .map(|item| conditions(collection, item, depth + 1))
            .collect::<Result<_, _>>()
            .map(Value::Array),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(value.clone()),
    }
}

/// Walks through the nodes of one query.
struct Translator<'c> {
    collection: &'c Collection,
    /// Texts, with the place in the translated query where their vectors go.
    texts: Texts<'c, String>,
    distances: bool,
}

impl<'c> Translator<'c> {
    /// `at` is the place of the node in what comes of it.
    fn node(&mut self, body: &Value, at: &str, depth: usize) -> Result<Value, Problem> {
        let object = body.as_object().ok_or_else(|| Problem::format("a query is an object"))?;
        if depth > DEPTH_MAX {
            return Err(Problem::wrong("prefetch is nested too deep"));
        }
        let root = depth == 0;
        let given = |key: &str| object.get(key).filter(|value| !value.is_null());
        let mut node = Map::new();
        for key in object.keys().filter(|key| given(key.as_str()).is_some()) {
            if REFUSED.contains(&key.as_str()) {
                return Err(Problem::wrong(format!("`{key}` is not supported")));
            }
            let known = NODE.contains(&key.as_str()) || root && ROOT.contains(&key.as_str());
            if !known {
                return Err(Problem::format(format!("unknown field `{key}`")));
            }
        }
        for key in ["limit", "offset", "group_by", "group_size"] {
            if let Some(value) = given(key) {
                node.insert(key.to_owned(), value.clone());
            }
        }
        if let Some(value) = given("filter") {
            node.insert("filter".to_owned(), filter(self.collection, value)?);
        }
        if let Some(value) = given("params") {
            node.insert("params".to_owned(), params(value)?);
        }
        let prefetch = match given("prefetch") {
            None => Vec::new(),
            Some(Value::Array(stages)) => stages.iter().collect(),
            Some(stage) => vec![stage],
        };
        if !prefetch.is_empty() {
            let stages = prefetch.iter().enumerate();
            let stages: Result<Vec<Value>, Problem> = stages
                .map(|(number, stage)| self.node(stage, &format!("{at}/prefetch/{number}"), depth + 1))
                .collect();
            node.insert("prefetch".to_owned(), Value::Array(stages?));
        }
        self.query(given("query"), given("using"), (&mut node, &format!("{at}/query")), prefetch.is_empty())?;
        let distances = std::mem::take(&mut self.distances);
        if let Some(threshold) = given("score_threshold") {
            let number =
                threshold.as_f64().ok_or_else(|| Problem::format("score_threshold: not a number"))?;
            node.insert("score_threshold".to_owned(), json!(if distances { -number } else { number }));
        }
        // That of the node at the top, which is the last one to get here, stays.
        self.distances = distances;
        if root {
            carried(self.collection, body, false, &mut node)?;
        }
        Ok(Value::Object(node))
    }

    fn query(
        &mut self,
        query: Option<&Value>,
        using: Option<&Value>,
        (node, at): (&mut Map<String, Value>, &str),
        leaf: bool,
    ) -> Result<(), Problem> {
        self.distances = false;
        let Some(query) = query else {
            if !leaf {
                let message = "A query is needed to merge the prefetches. Can't have prefetches without defining a query.";
                return Err(Problem::wrong(message));
            }
            node.insert("query".to_owned(), json!({"list": {"order": "number"}}));
            return Ok(());
        };
        let has = |form: &str| query.get(form).is_some_and(|value| !value.is_null());
        if ["fusion", "rrf", "order_by", "sample", "formula"].iter().any(|form| has(form)) {
            // Conditions may stand in a formula.
            node.insert("query".to_owned(), conditions(self.collection, query, 0)?);
            return Ok(());
        }
        let name = match using {
            None => "",
            Some(using) => using.as_str().ok_or_else(|| Problem::format("using: not a name"))?,
        };
        let field = vectors::field(&self.collection.schema, name)?;
        node.insert("using".to_owned(), field.name.as_str().into());
        if ["recommend", "discover", "context"].iter().any(|form| has(form)) {
            check_modifier(field)?;
        }
        let euclid = field.kind == VectorKind::Dense && field.distance == Distance::Euclid;
        let translated = if has("nearest") {
            self.distances = euclid;
            let mut form =
                json!({"nearest": self.example(field, &query["nearest"], &format!("{at}/nearest"))?});
            if has("mmr") {
                form["mmr"] = query["mmr"].clone();
            }
            form
        } else if has("recommend") {
            let strategy = query["recommend"]["strategy"].as_str();
            self.distances = euclid && strategy.is_none_or(|strategy| strategy == "average_vector");
            json!({"recommend": self.examples(field, &query["recommend"], &format!("{at}/recommend"), 0)?})
        } else if has("discover") {
            json!({"discover": self.examples(field, &query["discover"], &format!("{at}/discover"), 0)?})
        } else if has("context") {
            json!({"context": self.examples(field, &query["context"], &format!("{at}/context"), 0)?})
        } else {
            self.distances = euclid;
            self.example(field, query, at)?
        };
        node.insert("query".to_owned(), translated);
        Ok(())
    }

    /// A vector, the id of a point, or a text.
    fn example(&mut self, field: &'c Field, value: &Value, at: &str) -> Result<Value, Problem> {
        if let Value::Number(_) | Value::String(_) = value {
            check_modifier(field)?;
            return Ok(json!({"id": ids::to_text(value, &self.collection.layout)?}));
        }
        if let (Layout::Plain, Some(text)) = (&self.collection.layout, Text::of(value))
            && self.collection.pipe.vectors().get(&field.name).is_some_and(|spec| spec.from_text)
        {
            // The pipeline has a model of its own for the field.
            return Ok(json!({"text": text.text}));
        }
        match vectors::given(field, value)? {
            Given::Vector(vector) => Ok(vector),
            Given::Text(text) => {
                self.texts.push(field, text, at.to_owned());
                Ok(Value::Null)
            }
        }
    }

    /// Examples in lists and pairs under their names; what else stands there stays as it is.
    fn examples(
        &mut self,
        field: &'c Field,
        value: &Value,
        at: &str,
        depth: usize,
    ) -> Result<Value, Problem> {
        let Value::Object(object) = value else {
            let Value::Array(items) = value else { return Ok(value.clone()) };
            let pairs = items.iter().enumerate();
            let pairs: Result<Vec<Value>, Problem> = pairs
                .map(|(number, pair)| self.examples(field, pair, &format!("{at}/{number}"), depth + 1))
                .collect();
            return pairs.map(Value::Array);
        };
        let mut translated = Map::new();
        for (key, value) in object.iter().filter(|(_, value)| !value.is_null()) {
            let at = format!("{at}/{key}");
            let value = match (key.as_str(), value) {
                // Of a recommendation: many. Of a pair: one.
                ("positive" | "negative", Value::Array(items)) if depth == 0 => {
                    let items = items.iter().enumerate();
                    let items: Result<Vec<Value>, Problem> = items
                        .map(|(number, item)| self.example(field, item, &format!("{at}/{number}")))
                        .collect();
                    Value::Array(items?)
                }
                ("positive" | "negative" | "target", value) => self.example(field, value, &at)?,
                ("context", value) => self.examples(field, value, &at, depth + 1)?,
                (_, value) => value.clone(),
            };
            translated.insert(key.clone(), value);
        }
        Ok(Value::Object(translated))
    }
}

/// What is searched by what lies in the shards has no part of the statistics.
fn check_modifier(field: &Field) -> Result<(), Problem> {
    if field.modifier == Modifier::Idf {
        let message = format!(
            "vector \"{}\" has the modifier idf: search it with vectors or texts, not by ids",
            field.shown
        );
        return Err(Problem::wrong(message));
    }
    Ok(())
}

fn params(value: &Value) -> Result<Value, Problem> {
    let params = value.as_object().ok_or_else(|| Problem::format("params: not an object"))?;
    let mut kept = Map::new();
    for (key, value) in params.iter().filter(|(_, value)| !value.is_null()) {
        match key.as_str() {
            key if PARAMS.contains(&key) => drop(kept.insert(key.to_owned(), value.clone())),
            key if PARAMS_HARMLESS.contains(&key) => {}
            key => return Err(Problem::wrong(format!("params.{key} is not supported"))),
        }
    }
    Ok(Value::Object(kept))
}

/// The body of the older `points/search` as one of `points/query`.
pub(super) fn of_search(body: &Value) -> Result<Value, Problem> {
    let mut query = body.as_object().cloned().ok_or_else(|| Problem::format("a search is an object"))?;
    let vector = query.shift_remove("vector").unwrap_or(Value::Null);
    let (name, vector) = match vector.get("name").filter(|_| vector.is_object()) {
        Some(name) => (Some(name.clone()), vector["vector"].clone()),
        None => (None, vector),
    };
    if vector.is_null() {
        return Err(Problem::format("missing field `vector`"));
    }
    query.insert("query".to_owned(), json!({"nearest": vector}));
    if let Some(name) = name {
        query.insert("using".to_owned(), name);
    }
    Ok(Value::Object(query))
}

/// The body of the older `points/recommend` as one of `points/query`.
pub(super) fn of_recommend(body: &Value) -> Result<Value, Problem> {
    let mut query =
        body.as_object().cloned().ok_or_else(|| Problem::format("a recommendation is an object"))?;
    let mut recommend = Map::new();
    for key in ["positive", "negative", "strategy"] {
        if let Some(value) = query.shift_remove(key) {
            recommend.insert(key.to_owned(), value);
        }
    }
    query.insert("query".to_owned(), json!({"recommend": recommend}));
    Ok(Value::Object(query))
}
