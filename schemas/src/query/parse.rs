//! The top of a query: id, freshness, what hits carry, and text or plan.

use serde_json::Value;

use super::node::{self, NOT_YET as NODE_NOT_YET};
use super::select::is_selector;
use super::shape;
use super::{Ask, Consistency, Node, Query, QueryFault, QueryLimits, WithPayload, WithVectors};
use crate::document::{too_large, value_bytes_max};
use crate::identity::{id_in_value, identify, identify_by_key};
use crate::json::{Fields, Object, describe, element, invalid, join, list, parse_object, quote};
use crate::{AsOf, Fault, FaultCode, Partition, Record};

/// Field of the query's id.
const ID: &str = "id";

/// Fields of a query.
const KNOWN: [&str; 22] = [
    ID,
    "text",
    "plan",
    "prefetch",
    "query",
    "using",
    "limit",
    "params",
    "filter",
    "with_payload",
    "consistency",
    "standing",
    "explain",
    "offset",
    "with_vector",
    "with_vectors",
    "count",
    "group_by",
    "group_size",
    "page",
    "cursor",
    "score_threshold",
];

/// Fields of Qdrant's points/query and points/query/groups that stand at the top only and are not served yet.
const NOT_YET: [&str; 2] = ["shard_key", "with_lookup"];

impl Query {
    /// Reads a record of the queries topic.
    ///
    /// Fields that are `null` are read as absent.
    ///
    /// # Errors
    /// The first thing that is wrong, with its field, and the query's id as far as it is known.
    pub fn parse(record: &Record, limits: &QueryLimits) -> Result<Self, QueryFault> {
        let key = record.key.as_deref();
        let object =
            read(record, limits).map_err(|fault| QueryFault { id: identify_by_key(ID, key).ok(), fault })?;
        let id = identify(&object, ID, key).map_err(|fault| {
            let of_value = id_in_value(&object, ID).ok().flatten();
            QueryFault { id: of_value.or_else(|| identify_by_key(ID, key).ok()), fault }
        })?;
        match Self::of(&object, id.clone(), limits) {
            Ok(query) => Ok(query),
            Err(fault) => Err(QueryFault { id: Some(id), fault }),
        }
    }

    fn of(object: &Object, id: String, limits: &QueryLimits) -> Result<Self, Fault> {
        let fields = Fields::new(object, "");
        let not_yet: Vec<&str> = NODE_NOT_YET.iter().chain(&NOT_YET).copied().collect();
        fields.only(&KNOWN, &not_yet)?;
        harmless(&fields, "standing", |value| value == &Value::Bool(false))?;
        let ask = ask(&fields, limits)?;
        let (limit, filter, score_threshold) = match &ask {
            Ask::Plan(root) => (root.limit, None, None),
            Ask::Text { .. } | Ask::Count | Ask::Page(_) => {
                (node::limit(&fields, limits)?, node::filter(&fields)?, node::score_threshold(&fields)?)
            }
        };
        Ok(Self {
            id,
            ask,
            filter,
            limit,
            consistency: consistency(&fields)?,
            with_payload: with_payload(&fields)?,
            explain: fields.bool("explain")?.unwrap_or(true),
            group: shape::grouping(&fields, limit, limits)?,
            page: shape::page(&fields, limits)?,
            offset: offset(&fields, limit, limits)?,
            score_threshold,
            with_vectors: with_vectors(&fields)?,
        })
    }
}

fn read(record: &Record, limits: &QueryLimits) -> Result<Object, Fault> {
    let Some(value) = &record.value else {
        let message = "the record has no value; a query is a JSON object";
        return Err(Fault::whole(FaultCode::NotJson, message));
    };
    let max = value_bytes_max(limits.text_bytes_max);
    if value.len() > max {
        return Err(too_large("record", value.len(), max, None));
    }
    parse_object(value)
}

/// Accepts a field that is not served yet where its value asks for nothing.
fn harmless(fields: &Fields<'_>, field: &str, asks_nothing: impl Fn(&Value) -> bool) -> Result<(), Fault> {
    match fields.get(field) {
        Some(value) if !asks_nothing(value) => Err(fields.not_supported(field)),
        _ => Ok(()),
    }
}

fn ask(fields: &Fields<'_>, limits: &QueryLimits) -> Result<Ask, Fault> {
    if let Some(page) = shape::cursor(fields)? {
        return Ok(page);
    }
    if shape::is_count(fields)? {
        return Ok(Ask::Count);
    }
    let Some(text) = fields.str("text")? else {
        if fields.get("plan").is_some() {
            return Err(invalid("plan", "a named plan needs \"text\""));
        }
        return Node::of_query(fields, limits).map(Ask::Plan);
    };
    for other in ["prefetch", "query", "using", "params"] {
        if fields.get(other).is_some() {
            let message = format!(
                "\"text\" runs a configured plan and cannot stand beside \"{other}\"; \
                 put it into the query: {{\"query\": {{\"text\": …}}, \"using\": …}}"
            );
            return Err(invalid("text", message));
        }
    }
    node::check_text(text, "text", limits)?;
    let plan = fields.str("plan")?.map(str::to_owned);
    Ok(Ask::Text { text: text.to_owned(), plan })
}

fn consistency(fields: &Fields<'_>) -> Result<Consistency, Fault> {
    const EXPECTED: &str = "\"latest\", \"strong\" or {\"documents\": {PARTITION: OFFSET}}";
    match fields.get("consistency") {
        None => Ok(Consistency::Latest),
        Some(Value::String(word)) if word == "latest" => Ok(Consistency::Latest),
        Some(Value::String(word)) if word == "strong" => Ok(Consistency::Strong),
        Some(Value::Object(topics)) if !topics.is_empty() => {
            let named = |(name, offsets): (&String, &Value)| {
                let path = join("consistency", name);
                Ok((name.clone(), consistency_offsets(offsets, &path)?))
            };
            topics.iter().map(named).collect::<Result<_, Fault>>().map(Consistency::Documents)
        }
        Some(other) => Err(fields.unlike("consistency", other, EXPECTED)),
    }
}

/// Offsets by partition. −1 asks for nothing of a partition, so that an answer's `as_of` can be sent as it is.
fn consistency_offsets(value: &Value, path: &str) -> Result<AsOf, Fault> {
    let fields = Fields::of(value, path)?;
    let mut offsets = AsOf::new();
    for name in fields.names() {
        let partition = name.parse::<Partition>().ok();
        // "+1" and "01" would be second spellings of a partition.
        let Some(partition) = partition.filter(|number| *number >= 0 && number.to_string() == name) else {
            let message = format!("{} is not the number of a partition", quote(name));
            return Err(invalid(fields.path(name), message));
        };
        let Some(value) = fields.get(name) else { continue };
        let Some(offset) = value.as_i64().filter(|offset| *offset >= -1) else {
            return Err(fields.unlike(name, value, "an offset"));
        };
        offsets.insert(partition, offset);
    }
    Ok(offsets)
}

fn with_payload(fields: &Fields<'_>) -> Result<WithPayload, Fault> {
    const FIELD: &str = "with_payload";
    match fields.get(FIELD) {
        None | Some(Value::Bool(true)) => Ok(WithPayload::All),
        Some(Value::Bool(false)) => Ok(WithPayload::None),
        Some(Value::Array(items)) => paths(items, FIELD).map(WithPayload::Include),
        Some(value @ Value::Object(object)) => {
            let choice = Fields::of(value, FIELD)?;
            choice.only(&["include", "exclude"], &[])?;
            let list_of = |field: &str| match choice.get(field) {
                Some(Value::Array(items)) => paths(items, &choice.path(field)),
                Some(other) => Err(choice.unlike(field, other, "an array of field names")),
                None => Ok(Vec::new()),
            };
            match (object.get("include"), object.get("exclude")) {
                (Some(_), None) => list_of("include").map(WithPayload::Include),
                (None, Some(_)) => list_of("exclude").map(WithPayload::Exclude),
                _ => {
                    let message = format!("takes one of {}", list(["include", "exclude"]));
                    Err(invalid(FIELD, message))
                }
            }
        }
        Some(other) => Err(fields.unlike(FIELD, other, "true, false or an array of field names")),
    }
}

/// Paths of payload fields.
fn paths(items: &[Value], path: &str) -> Result<Vec<String>, Fault> {
    let names = names(items, path)?;
    match names.iter().position(|name| !is_selector(name)) {
        None => Ok(names),
        Some(index) => {
            let message = format!(
                "{} is not a path such as \"city\", \"address.city\", \"offers[].price\" or, in quotes, \
                 \"\\\"a.b\\\"\"",
                quote(&names[index])
            );
            Err(invalid(element(path, index), message))
        }
    }
}

/// Hits passed over: so many of them and of the answer's are found first.
fn offset(fields: &Fields<'_>, limit: usize, limits: &QueryLimits) -> Result<usize, Fault> {
    let Some(value) = fields.get("offset") else { return Ok(0) };
    let Some(offset) = value.as_u64() else {
        return Err(fields.unlike("offset", value, "an integer of at least 0"));
    };
    if offset > 0 && fields.get("group_by").is_some() {
        return Err(invalid(
            fields.path("offset"),
            "groups are not passed over: leave it out beside \"group_by\"",
        ));
    }
    let max = limits.limit_max;
    match usize::try_from(offset).ok().filter(|offset| offset.saturating_add(limit) <= max) {
        Some(offset) => Ok(offset),
        None => {
            let message = format!("offset {offset} and limit {limit} are more than {max} together");
            Err(invalid(fields.path("offset"), message))
        }
    }
}

/// Qdrant's HTTP API has `with_vector`, its clients `with_vectors`.
fn with_vectors(fields: &Fields<'_>) -> Result<WithVectors, Fault> {
    let read = |field: &str| match fields.get(field) {
        None => Ok(None),
        Some(Value::Bool(false)) => Ok(Some(WithVectors::None)),
        Some(Value::Bool(true)) => Ok(Some(WithVectors::All)),
        Some(Value::Array(items)) => names(items, field).map(|names| Some(WithVectors::Of(names))),
        Some(other) => Err(fields.unlike(field, other, "true, false or an array of vector names")),
    };
    match (read("with_vector")?, read("with_vectors")?) {
        (Some(one), Some(other)) if one != other => {
            Err(invalid("with_vectors", "is not what \"with_vector\" says: give one of them"))
        }
        (one, other) => Ok(one.or(other).unwrap_or_default()),
    }
}

fn names(items: &[Value], path: &str) -> Result<Vec<String>, Fault> {
    let name = |(index, item): (usize, &Value)| {
        item.as_str()
            .map(str::to_owned)
            .ok_or_else(|| invalid(element(path, index), format!("{} is not a field name", describe(item))))
    };
    items.iter().enumerate().map(name).collect()
}
