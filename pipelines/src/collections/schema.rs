//! What a collection holds: Qdrant's body of a creation → vector fields.
//!
//! Settings that only tell Qdrant how to spend memory and time are accepted, kept and shown; those that would change
//! answers are refused.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use freshet_config::{Config, Distance, Modifier, PayloadKind, VectorField};
use freshet_schemas::{VectorKind, is_path};
use serde_json::{Map, Value, json};

/// Name within Freshet of the vector that has none in Qdrant.
const UNNAMED: &str = "default";
/// Largest dimension, as in Qdrant.
const SIZE_MAX: u64 = 65_536;
/// Most vector fields of a collection.
const FIELDS_MAX: usize = 64;
/// Longest name of a field within Freshet.
const NAME_CHARS_MAX: usize = 64;
/// Largest number of links of a graph's node.
const LINKS_MAX: u64 = 256;

/// Keys of a creation that change how Qdrant stores things, and no answer.
const HARMLESS: [&str; 9] = [
    "shard_number",
    "replication_factor",
    "write_consistency_factor",
    "on_disk_payload",
    "hnsw_config",
    "wal_config",
    "optimizers_config",
    "quantization_config",
    "metadata",
];
/// Keys of a dense vector that change how Qdrant stores it, and no answer.
const VECTOR_HARMLESS: [&str; 4] = ["hnsw_config", "quantization_config", "on_disk", "memory"];

/// What Qdrant's payload indexes are in Freshet: those of the others tell no filter anything, and are remembered alone.
pub(super) fn payload_fields(indexes: &Map<String, Value>) -> BTreeMap<String, PayloadKind> {
    let kind = |schema: &Value| match schema.get("type").unwrap_or(schema).as_str()? {
        "keyword" | "uuid" => Some(PayloadKind::Keyword),
        "integer" => Some(PayloadKind::Integer),
        "float" => Some(PayloadKind::Float),
        "bool" => Some(PayloadKind::Bool),
        "datetime" => Some(PayloadKind::Datetime),
        "text" => Some(PayloadKind::Text),
        _ => None,
    };
    let field =
        |(path, schema): (&String, &Value)| Some((path.clone(), kind(schema).filter(|_| is_path(path))?));
    indexes.iter().filter_map(field).collect()
}

/// One vector field.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Field {
    /// Name in Qdrant; empty for the unnamed vector.
    pub(crate) shown: String,
    /// Name within Freshet.
    pub(crate) name: String,
    pub(crate) kind: VectorKind,
    /// Dimension; `None` for sparse vectors, and where a model tells it.
    pub(crate) size: Option<usize>,
    pub(crate) distance: Distance,
    pub(crate) modifier: Modifier,
    /// FAISS factory string, if the creation says something about graphs.
    index: Option<String>,
}

/// The vector fields of a collection.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Schema {
    /// In the order of their names in Qdrant.
    pub(crate) fields: Vec<Field>,
    /// The creation as it is shown: `vectors` and `sparse_vectors` and the harmless rest.
    pub(crate) body: Map<String, Value>,
}

impl Schema {
    /// Reads the body of a creation.
    ///
    /// # Errors
    /// What Qdrant's clients are told: the first thing that is wrong or would change answers.
    pub(crate) fn parse(body: &Value) -> Result<Self, String> {
        let body = body.as_object().ok_or("Format error in JSON body: expected an object")?;
        let mut fields = Vec::new();
        for (key, value) in body.iter().filter(|(_, value)| !value.is_null()) {
            match key.as_str() {
                "vectors" => dense_fields(value, &mut fields)?,
                "sparse_vectors" => {
                    for (name, params) in object(value, key)? {
                        fields.push(sparse_field(name, params)?);
                    }
                }
                "sharding_method" if value == "auto" => {}
                "strict_mode_config" if value["enabled"] != true => {}
                "strict_mode_config" | "sharding_method" => {
                    return Err(unsupported(key, value));
                }
                key if HARMLESS.contains(&key) => {}
                key => return Err(format!("Format error in JSON body: unknown field `{key}`")),
            }
        }
        if fields.len() > FIELDS_MAX {
            return Err(format!("{} vectors; a collection has at most {FIELDS_MAX}", fields.len()));
        }
        let graph = index_of(body.get("hnsw_config"))?;
        for field in fields.iter_mut().filter(|field| field.index.is_none()) {
            field.index.clone_from(&graph);
        }
        fields.sort_by(|a, b| a.shown.cmp(&b.shown));
        if let Some(pair) = fields.windows(2).find(|pair| pair[0].shown == pair[1].shown) {
            return Err(format!("Vector name `{}` stands twice", pair[0].shown));
        }
        name(&mut fields);
        let body = body.iter().filter(|(_, value)| !value.is_null());
        Ok(Self { fields, body: body.map(|(key, value)| (key.clone(), value.clone())).collect() })
    }

    /// That of a configured pipeline; `sizes` are the dimensions of vectors by field.
    pub(crate) fn of_config(config: &Config, sizes: &BTreeMap<String, usize>) -> Self {
        let field = |(name, of): (&String, &VectorField)| Field {
            shown: name.clone(),
            name: name.clone(),
            kind: of.kind,
            size: sizes.get(name).copied(),
            distance: of.distance,
            modifier: of.modifier,
            index: None,
        };
        let fields: Vec<Field> = config.vectors.iter().map(field).collect();
        let mut body = Map::new();
        let params = |kinds: &dyn Fn(VectorKind) -> bool| -> Map<String, Value> {
            let chosen = fields.iter().filter(|field| kinds(field.kind));
            chosen.map(|field| (field.shown.clone(), field.params())).collect()
        };
        body.insert("vectors".to_owned(), params(&|kind| kind != VectorKind::Sparse).into());
        body.insert("sparse_vectors".to_owned(), params(&|kind| kind == VectorKind::Sparse).into());
        Self { fields, body }
    }

    /// The field of a name in Qdrant.
    pub(crate) fn field(&self, shown: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.shown == shown)
    }

    /// The field of a name within Freshet.
    pub(crate) fn named(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// The fields as the configuration of a pipeline has them.
    pub(crate) fn vectors(&self) -> BTreeMap<String, VectorField> {
        let field = |field: &Field| {
            let size = field.size.and_then(NonZeroUsize::new);
            let base = VectorField::of_size(field.kind, size);
            let index = field.index.clone().filter(|_| field.kind == VectorKind::Dense);
            let configured = VectorField {
                distance: field.distance,
                modifier: field.modifier,
                index: index.unwrap_or_else(|| base.index.clone()),
                ..base
            };
            (field.name.clone(), configured)
        };
        self.fields.iter().map(field).collect()
    }
}

impl Field {
    /// As Qdrant shows it.
    fn params(&self) -> Value {
        match self.kind {
            VectorKind::Sparse if self.modifier == Modifier::Idf => json!({"modifier": "idf"}),
            VectorKind::Sparse => json!({}),
            VectorKind::Dense => json!({"size": self.size, "distance": distance_name(self.distance)}),
            VectorKind::Multi => json!({
                "size": self.size, "distance": "Cosine", "multivector_config": {"comparator": "max_sim"},
            }),
        }
    }
}

fn distance_name(distance: Distance) -> &'static str {
    match distance {
        Distance::Cosine => "Cosine",
        Distance::Dot => "Dot",
        Distance::Euclid => "Euclid",
    }
}

fn object<'a>(value: &'a Value, key: &str) -> Result<&'a Map<String, Value>, String> {
    value.as_object().ok_or_else(|| format!("Format error in JSON body: `{key}` is not an object"))
}

/// `vectors`: the parameters of the unnamed vector, or those of each name.
fn dense_fields(value: &Value, fields: &mut Vec<Field>) -> Result<(), String> {
    let params = object(value, "vectors")?;
    if params.get("size").is_some_and(Value::is_number) {
        fields.push(dense_field("", value)?);
        return Ok(());
    }
    for (name, params) in params {
        fields.push(dense_field(name, params)?);
    }
    Ok(())
}

fn dense_field(name: &str, value: &Value) -> Result<Field, String> {
    let params = object(value, name)?;
    let mut kind = VectorKind::Dense;
    for (key, value) in params.iter().filter(|(_, value)| !value.is_null()) {
        match key.as_str() {
            "size" | "distance" => {}
            "datatype" if value == "float32" || value == "float16" => {}
            "multivector_config" if value["comparator"] == "max_sim" => kind = VectorKind::Multi,
            "datatype" | "multivector_config" => return Err(unsupported(key, value)),
            key if VECTOR_HARMLESS.contains(&key) => {}
            key => return Err(format!("Format error in JSON body: unknown field `{key}`")),
        }
    }
    let size = params.get("size").and_then(Value::as_u64);
    let size = size.filter(|size| (1..=SIZE_MAX).contains(size)).ok_or_else(|| {
        format!("Validation error in JSON body: [vectors.size: value must be from 1 to {SIZE_MAX}]")
    })?;
    let distance = match params.get("distance").and_then(Value::as_str) {
        Some("Cosine") => Distance::Cosine,
        Some("Dot") => Distance::Dot,
        Some("Euclid") => Distance::Euclid,
        _ => return Err(unsupported("distance", params.get("distance").unwrap_or(&Value::Null))),
    };
    if kind == VectorKind::Multi && distance != Distance::Cosine {
        let message = "Multivectors are compared by Cosine: each of their vectors is kept at unit length";
        return Err(message.to_owned());
    }
    Ok(Field {
        shown: name.to_owned(),
        name: String::new(),
        kind,
        size: usize::try_from(size).ok(),
        distance,
        modifier: Modifier::None,
        index: index_of(params.get("hnsw_config"))?,
    })
}

fn sparse_field(name: &str, value: &Value) -> Result<Field, String> {
    let mut modifier = Modifier::None;
    for (key, value) in object(value, name)?.iter().filter(|(_, value)| !value.is_null()) {
        match key.as_str() {
            "index" if value["datatype"] != "uint8" => {}
            "modifier" if value == "idf" => modifier = Modifier::Idf,
            "modifier" if value == "none" => {}
            "index" | "modifier" => return Err(unsupported(key, value)),
            key => return Err(format!("Format error in JSON body: unknown field `{key}`")),
        }
    }
    Ok(Field {
        shown: name.to_owned(),
        name: String::new(),
        kind: VectorKind::Sparse,
        size: None,
        distance: Distance::Dot,
        modifier,
        index: None,
    })
}

fn unsupported(key: &str, value: &Value) -> String {
    format!("`{key}` = {value} is not supported: it would change answers")
}

/// The index that a graph of so many links is; none for `m = 0`, as in Qdrant.
fn index_of(hnsw: Option<&Value>) -> Result<Option<String>, String> {
    match hnsw.map(|hnsw| &hnsw["m"]) {
        None | Some(Value::Null) => Ok(None),
        Some(links) => match links.as_u64() {
            Some(0) => Ok(Some("Flat".to_owned())),
            Some(links @ 1..=LINKS_MAX) => Ok(Some(format!("HNSW{}", links.max(4)))),
            _ => Err(format!("Validation error in JSON body: [hnsw_config.m: not from 0 to {LINKS_MAX}]")),
        },
    }
}

/// Gives fields their names within Freshet, which are those in Qdrant where these are legal.
fn name(fields: &mut [Field]) {
    let is_legal = |shown: &str| {
        let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        (1..=NAME_CHARS_MAX).contains(&shown.len()) && shown != UNNAMED && shown.chars().all(legal)
    };
    let mut used: Vec<String> =
        fields.iter().filter(|field| is_legal(&field.shown)).map(|f| f.shown.clone()).collect();
    for field in fields {
        if is_legal(&field.shown) {
            field.name.clone_from(&field.shown);
            continue;
        }
        let base = if field.shown.is_empty() { UNNAMED } else { "vector" };
        let numbered = |number: usize| if number == 0 { base.to_owned() } else { format!("{base}-{number}") };
        // There are fewer names in use than numbers.
        field.name = (0..).map(numbered).find(|name| !used.contains(name)).unwrap_or_default();
        used.push(field.name.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(body: Value) -> Vec<(String, String)> {
        let schema = Schema::parse(&body).unwrap();
        schema.fields.into_iter().map(|field| (field.shown, field.name)).collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(shown, name)| ((*shown).to_owned(), (*name).to_owned())).collect()
    }

    #[test]
    fn every_vector_has_a_legal_name_of_its_own() {
        let vector = json!({"size": 4, "distance": "Cosine"});
        assert_eq!(names(json!({"vectors": vector})), pairs(&[("", "default")]));
        let several =
            json!({"vectors": {"fast-bge-1.5": vector, "default": vector, "vector": vector, "a/b": vector}});
        assert_eq!(
            names(several),
            pairs(&[
                ("a/b", "vector-1"),
                ("default", "vector-2"),
                ("fast-bge-1.5", "vector-3"),
                ("vector", "vector")
            ])
        );
        let both = json!({"vectors": {"": vector}, "sparse_vectors": {"text": {}}});
        assert_eq!(names(both), pairs(&[("", "default"), ("text", "text")]));
        assert_eq!(names(json!({})), []);
    }

    #[test]
    fn kinds_and_settings_become_fields() {
        let body = json!({
            "vectors": {
                "d": {"size": 8, "distance": "Euclid", "on_disk": true, "hnsw_config": {"m": 0}},
                "m": {"size": 4, "distance": "Cosine", "multivector_config": {"comparator": "max_sim"}},
            },
            "sparse_vectors": {"s": {"modifier": "idf"}},
            "hnsw_config": {"m": 24},
        });
        let schema = Schema::parse(&body).unwrap();
        let vectors = schema.vectors();
        assert_eq!((vectors["d"].kind, vectors["d"].distance), (VectorKind::Dense, Distance::Euclid));
        assert_eq!(vectors["d"].index, "Flat");
        assert_eq!((vectors["m"].kind, vectors["m"].index.as_str()), (VectorKind::Multi, "HNSW32"));
        assert_eq!((vectors["s"].kind, vectors["s"].modifier), (VectorKind::Sparse, Modifier::Idf));
        assert_eq!(Value::Object(schema.body), body);
    }

    #[test]
    fn payload_indexes_become_declared_fields() {
        let indexes = json!({
            "city": "keyword", "stars": {"type": "integer", "range": true}, "id": "uuid", "at": "datetime",
            "where": "geo", "not a [path": "keyword", "odd": 4, "list[].x": "text",
        });
        let fields = payload_fields(indexes.as_object().unwrap());
        let expected = [
            ("at", PayloadKind::Datetime),
            ("city", PayloadKind::Keyword),
            ("id", PayloadKind::Keyword),
            ("list[].x", PayloadKind::Text),
            ("stars", PayloadKind::Integer),
        ];
        assert_eq!(fields, expected.map(|(path, kind)| (path.to_owned(), kind)).into());
    }

    #[test]
    fn what_would_change_answers_is_refused() {
        let vector = |extra: Value| {
            let mut params = json!({"size": 4, "distance": "Cosine"});
            for (key, value) in extra.as_object().unwrap() {
                params[key] = value.clone();
            }
            json!({"vectors": params})
        };
        for (body, word) in [
            (vector(json!({"distance": "Manhattan"})), "Manhattan"),
            (vector(json!({"size": 0})), "size"),
            (vector(json!({"size": 70_000})), "size"),
            (vector(json!({"datatype": "uint8"})), "uint8"),
            (
                vector(json!({"distance": "Dot", "multivector_config": {"comparator": "max_sim"}})),
                "unit length",
            ),
            (vector(json!({"nonsense": 1})), "nonsense"),
            (json!({"sharding_method": "custom"}), "custom"),
            (json!({"strict_mode_config": {"enabled": true}}), "strict_mode_config"),
            (json!({"vectors": 4}), "vectors"),
            (json!({"vectors": {"a": {"size": 4, "distance": "Dot"}}, "sparse_vectors": {"a": {}}}), "twice"),
            (json!({"sparse_vectors": {"a": {"modifier": "odd"}}}), "odd"),
            (json!({"nonsense": 1}), "nonsense"),
            (json!([]), "object"),
        ] {
            let refused = Schema::parse(&body).unwrap_err();
            assert!(refused.contains(word), "{body}: {refused}");
        }
    }
}
