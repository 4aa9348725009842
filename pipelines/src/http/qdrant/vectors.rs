//! Vectors of points and queries: named or not, given or to be made of a text.

use std::collections::BTreeMap;

use freshet_operators::embed::Priority;
use freshet_schemas::{VectorKind, VectorValue};
use serde_json::{Map, Value, json};

use super::Problem;
use crate::collections::{Field, Inference, Schema, Text};

/// A vector as it came.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Given {
    /// In Freshet's JSON, of the kind and size of its field.
    Vector(Value),
    /// To be embedded.
    Text(Text),
}

/// The vectors of a point, by field.
pub(super) fn of_point<'s>(schema: &'s Schema, value: &Value) -> Result<Vec<(&'s Field, Given)>, Problem> {
    if value.is_null() {
        return Ok(Vec::new());
    }
    match value.as_object().filter(|_| !is_text(value)) {
        Some(named) => named.iter().map(|(name, value)| one(schema, name, value)).collect(),
        None => Ok(vec![one(schema, "", value)?]),
    }
}

fn one<'s>(schema: &'s Schema, name: &str, value: &Value) -> Result<(&'s Field, Given), Problem> {
    let field = field(schema, name)?;
    Ok((field, given(field, value)?))
}

/// The field of a name in Qdrant.
pub(super) fn field<'s>(schema: &'s Schema, name: &str) -> Result<&'s Field, Problem> {
    schema.field(name).ok_or_else(|| Problem::wrong(format!("Not existing vector name error: {name}")))
}

/// Whether it is a document to be embedded, and not a vector named "text".
fn is_text(value: &Value) -> bool {
    value["text"].is_string() && value["model"].is_string()
}

/// A vector for a field, or a text to make one of.
pub(super) fn given(field: &Field, value: &Value) -> Result<Given, Problem> {
    if is_text(value) {
        return Text::of(value).map(Given::Text).ok_or_else(|| Problem::format("a document has a text"));
    }
    for (key, what) in [("image", "images"), ("object", "objects")] {
        if value.get(key).is_some() {
            return Err(Problem::wrong(format!("{what} are not embedded: send a vector, or a text")));
        }
    }
    let rows = value.as_array().is_some_and(|items| items.first().is_some_and(Value::is_array));
    match (field.kind, value) {
        (VectorKind::Dense, Value::Array(items)) if !rows => {
            check_size(field, items.len())?;
            Ok(Given::Vector(value.clone()))
        }
        (VectorKind::Multi, Value::Array(items)) => {
            // One vector is a list of one.
            let value = if rows { value.clone() } else { json!([items]) };
            for row in value.as_array().into_iter().flatten() {
                check_size(field, row.as_array().map_or(0, Vec::len))?;
            }
            Ok(Given::Vector(value))
        }
        (VectorKind::Sparse, Value::Object(_)) => Ok(Given::Vector(value.clone())),
        (kind, _) => {
            let name = &field.shown;
            Err(Problem::wrong(format!("vector \"{name}\" is {}, and what was sent is not", kind.as_str())))
        }
    }
}

fn check_size(field: &Field, found: usize) -> Result<(), Problem> {
    match field.size {
        Some(expected) if expected != found => {
            Err(Problem::wrong(format!("Vector dimension error: expected dim: {expected}, got {found}")))
        }
        _ => Ok(()),
    }
}

/// A vector as records and queries have it.
pub(super) fn to_json(vector: &VectorValue) -> Value {
    match vector {
        VectorValue::Dense(vector) => json!(vector),
        VectorValue::Sparse(vector) => json!({"indices": vector.indices, "values": vector.values}),
        VectorValue::Multi(rows) => json!(rows),
    }
}

/// Texts that are waiting for their vectors, with the place where each is wanted.
pub(super) struct Texts<'s, P> {
    /// By model, options and field: what one job embeds together.
    jobs: BTreeMap<(String, String, String), (&'s Field, Text, Vec<(P, String)>)>,
}

impl<P> Default for Texts<'_, P> {
    fn default() -> Self {
        Self { jobs: BTreeMap::new() }
    }
}

impl<'s, P> Texts<'s, P> {
    /// One more, wanted at a place.
    pub(super) fn push(&mut self, field: &'s Field, text: Text, place: P) {
        let key = (text.model.clone(), text.options.to_string(), field.name.clone());
        let (_, _, places) = self.jobs.entry(key).or_insert_with(|| (field, text.clone(), Vec::new()));
        places.push((place, text.text));
    }

    /// All vectors, each with its place.
    pub(super) async fn embed(
        self,
        inference: &std::sync::Arc<Inference>,
        priority: Priority,
    ) -> Result<Vec<(P, Value)>, Problem> {
        let mut made = Vec::new();
        for (field, of, wanted) in self.jobs.into_values() {
            let (places, texts): (Vec<P>, Vec<String>) = wanted.into_iter().unzip();
            let vectors = inference.embed(texts, &of, field, priority).await?;
            for (place, vector) in places.into_iter().zip(&vectors) {
                if let Some(found) = vector.size() {
                    check_size(field, found)?;
                }
                made.push((place, to_json(vector)));
            }
        }
        Ok(made)
    }
}

/// The vectors of a hit as Qdrant shows them: the unnamed one alone, others by name.
pub(super) fn shown(schema: &Schema, vectors: &Value) -> Option<Value> {
    let vectors = vectors.as_object()?;
    let named = vectors.iter().filter_map(|(name, vector)| Some((&schema.named(name)?.shown, vector)));
    let mut named: Map<String, Value> = named.map(|(name, vector)| (name.clone(), vector.clone())).collect();
    let only_unnamed = schema.fields.iter().all(|field| field.shown.is_empty());
    match named.remove("") {
        Some(vector) if only_unnamed => Some(vector),
        Some(vector) => {
            named.insert(String::new(), vector);
            Some(Value::Object(named))
        }
        None => Some(Value::Object(named)),
    }
}
