//! The nodes of a plan: prefetches, searches, rescoring and fusions.

use serde_json::Value;

use super::list::{list, order_by};
use super::{
    Example, Formula, Fusion, LIMIT_DEFAULT, List, Node, NodeQuery, Params, QueryLimits, RRF_K_DEFAULT,
};
use crate::document::too_large;
use crate::json::{Fields, describe, element, invalid, join};
use crate::{Fault, FaultCode, Filter, VectorValue};

/// Fields of a node below the top.
const KNOWN: [&str; 7] = ["prefetch", "query", "using", "limit", "params", "filter", "score_threshold"];
/// Fields of Qdrant's nodes that are not served yet.
pub(super) const NOT_YET: [&str; 1] = ["lookup_from"];
/// Queries of Qdrant that are not served yet.
const QUERIES_NOT_YET: [&str; 2] = ["sample", "relevance_feedback"];
/// Search parameters of Qdrant that are not served yet.
const PARAMS_NOT_YET: [&str; 3] = ["quantization", "indexed_only", "acorn"];
/// Forms of a query, for messages.
const FORMS: &str = "a text, a vector, {\"text\": …}, {\"id\": …}, {\"nearest\": …}, {\"recommend\": …}, \
    {\"discover\": …}, {\"context\": …}, {\"fusion\": …}, {\"rrf\": …}, {\"list\": …}, {\"order_by\": …} or \
    {\"formula\": …}";

/// Where a plan comes from, and so what it may hold.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// A query record: every node says what it searches for.
    Query,
    /// The config: a node without a query searches the query's text, and vectors make no sense.
    Config,
}

/// Reads the nodes of one plan.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    source: Source,
    pub(super) limits: &'a QueryLimits,
}

impl Node {
    /// The plan at the top of a query, whose other fields the caller has checked.
    pub(super) fn of_query(fields: &Fields<'_>, limits: &QueryLimits) -> Result<Self, Fault> {
        check_extent(fields, "", limits)?;
        Reader { source: Source::Query, limits }.node(fields)
    }

    /// Reads a configured plan, which stands at `path`.
    ///
    /// As in a query, but a leaf or a rescoring node may do without `query` (it then searches the text of the query
    /// that runs the plan), vectors are refused, and the root takes its limit from the query.
    ///
    /// # Errors
    /// The first thing that is wrong, with its field below `path`.
    pub fn parse_plan(value: &Value, limits: &QueryLimits, path: &str) -> Result<Self, Fault> {
        let fields = Fields::of(value, path)?;
        check_extent(&fields, path, limits)?;
        fields.only(&KNOWN, &NOT_YET)?;
        if fields.get("limit").is_some() {
            let message = "the limit of a plan comes from the query; only its prefetches have one";
            return Err(invalid(fields.path("limit"), message));
        }
        Reader { source: Source::Config, limits }.node(&fields)
    }
}

impl Reader<'_> {
    fn node(self, fields: &Fields<'_>) -> Result<Node, Fault> {
        let limit = limit(fields, self.limits)?;
        let params = params(fields)?;
        let filter = filter(fields)?;
        let score_threshold = score_threshold(fields)?;
        let prefetch = self.prefetch(fields)?;
        let query = match fields.get("query") {
            Some(value) => Some(self.query(value, &fields.path("query"), prefetch.len())?),
            None if self.source == Source::Config => None,
            // Nothing to search for and nothing to make it of: all there is.
            None if prefetch.is_empty() && fields.get("using").is_none() => {
                Some(NodeQuery::List(List::default()))
            }
            None => {
                let message = format!("missing: give {FORMS}");
                return Err(invalid(fields.path("query"), message));
            }
        };
        let using = using(fields, query.as_ref(), !prefetch.is_empty())?;
        Ok(Node { prefetch, query, using, limit, params, filter, score_threshold })
    }

    fn prefetch(self, fields: &Fields<'_>) -> Result<Vec<Node>, Fault> {
        let nested = |value: &Value, path: &str| {
            let below = Fields::of(value, path)?;
            below.only(&KNOWN, &NOT_YET)?;
            self.node(&below)
        };
        let path = fields.path("prefetch");
        match fields.get("prefetch") {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => {
                items.iter().enumerate().map(|(index, item)| nested(item, &element(&path, index))).collect()
            }
            Some(value @ Value::Object(_)) => Ok(vec![nested(value, &path)?]),
            Some(other) => Err(fields.unlike("prefetch", other, "an object or an array of objects")),
        }
    }

    fn query(self, value: &Value, path: &str, prefetches: usize) -> Result<NodeQuery, Fault> {
        let Value::Object(object) = value else { return self.example(value, path).map(NodeQuery::from) };
        let fields = Fields::of(value, path)?;
        if let Some(form) = QUERIES_NOT_YET.iter().find(|form| object.contains_key(**form)) {
            return Err(fields.not_supported(form));
        }
        let listed = if object.contains_key("list") {
            Some(NodeQuery::List(list(&fields)?))
        } else if object.contains_key("order_by") {
            Some(NodeQuery::OrderBy(order_by(&fields)?))
        } else {
            None
        };
        if let Some(listed) = listed {
            let message =
                "a list begins with all documents and takes no \"prefetch\": give it to the stage above";
            return if prefetches == 0 { Ok(listed) } else { Err(invalid(path, message)) };
        }
        if object.contains_key("formula") {
            let formula = Formula::of(&fields)?;
            let message = "a formula needs \"prefetch\": the hits that it scores";
            return if prefetches > 0 {
                Ok(NodeQuery::Formula(Box::new(formula)))
            } else {
                Err(invalid(path, message))
            };
        }
        let has = |form: &str| object.contains_key(form);
        let fusion = if has("fusion") {
            fields.only(&["fusion"], &[])?;
            fusion(&fields)?
        } else if has("rrf") {
            fields.only(&["rrf"], &[])?;
            rrf(&fields, prefetches)?
        } else if has("recommend") {
            return self.recommend(&fields);
        } else if has("discover") {
            return self.discover(&fields);
        } else if has("context") {
            return self.context(&fields);
        } else if fields.get("mmr").is_some() {
            return self.mmr(&fields);
        } else if has("nearest") || has("mmr") {
            fields.only(&["nearest", "mmr"], &[])?;
            return match fields.get("nearest") {
                Some(value) => self.example(value, &fields.path("nearest")).map(NodeQuery::from),
                None => Err(invalid(fields.path("nearest"), "missing: give a text or a vector")),
            };
        } else {
            return self.example(value, path).map(NodeQuery::from);
        };
        if prefetches == 0 {
            return Err(invalid(path, "a fusion needs \"prefetch\": the lists to fuse"));
        }
        Ok(NodeQuery::Fusion(fusion))
    }

    /// Whether it reads the configuration.
    pub(super) fn is_config(self) -> bool {
        self.source == Source::Config
    }

    /// Refuses what makes sense in a query alone.
    pub(super) fn of_query(self, path: &str, what: &str) -> Result<(), Fault> {
        if self.is_config() {
            let message = format!("a configured plan cannot hold {what}: it searches the query's text");
            return Err(invalid(path, message));
        }
        Ok(())
    }

    /// A text, a vector, or the id of a document.
    pub(super) fn example(self, value: &Value, path: &str) -> Result<Example, Fault> {
        match value {
            Value::String(text) => self.text(text, path),
            Value::Number(_) => self.document(value, path),
            Value::Object(object) if object.contains_key("id") => self.document(value, path),
            Value::Object(object) if object.contains_key("text") => {
                let fields = Fields::of(value, path)?;
                // The model is that of the field; naming it is Qdrant's way to ask for inference.
                fields.only(&["text", "model"], &["options"])?;
                fields.str("model")?;
                let Some(text) = fields.str("text")? else {
                    return Err(invalid(fields.path("text"), "null is not a string"));
                };
                self.text(text, &fields.path("text"))
            }
            Value::Object(object) if !object.contains_key("indices") && !object.contains_key("values") => {
                let fields = Fields::of(value, path)?;
                let forms =
                    ["text", "model", "id", "nearest", "mmr", "recommend", "discover", "context", "list"];
                let known: Vec<&str> = forms
                    .into_iter()
                    .chain(["order_by", "formula", "fusion", "rrf", "indices", "values"])
                    .collect();
                fields.only(&known, &[])?;
                Err(invalid(path, format!("the query says nothing: give {FORMS}")))
            }
            Value::Object(_) | Value::Array(_) => {
                let vector = VectorValue::parse(value, path)?;
                self.of_query(path, "a vector")?;
                Ok(Example::Vector(vector))
            }
            Value::Null | Value::Bool(_) => Err(invalid(path, format!("{} is not {FORMS}", describe(value)))),
        }
    }

    fn text(self, text: &str, path: &str) -> Result<Example, Fault> {
        check_text(text, path, self.limits)?;
        Ok(Example::Text(text.to_owned()))
    }
}

/// Refuses a text that is blank or too long.
pub(super) fn check_text(text: &str, path: &str, limits: &QueryLimits) -> Result<(), Fault> {
    if text.trim().is_empty() {
        return Err(Fault::field(FaultCode::EmptyText, path, "the text is blank"));
    }
    if text.len() > limits.text_bytes_max {
        return Err(too_large("text", text.len(), limits.text_bytes_max, Some(path.to_owned())));
    }
    Ok(())
}

/// The limit of a query or of a node.
pub(super) fn limit(fields: &Fields<'_>, limits: &QueryLimits) -> Result<usize, Fault> {
    let Some(value) = fields.get("limit") else { return Ok(LIMIT_DEFAULT.min(limits.limit_max)) };
    let limit = value.as_u64().and_then(|limit| usize::try_from(limit).ok());
    limit
        .filter(|limit| (1..=limits.limit_max).contains(limit))
        .ok_or_else(|| fields.unlike("limit", value, &format!("an integer from 1 to {}", limits.limit_max)))
}

/// The filter of a query or of a node.
pub(super) fn filter(fields: &Fields<'_>) -> Result<Option<Filter>, Fault> {
    fields.get("filter").map(|value| Filter::parse(value, &fields.path("filter"))).transpose()
}

/// The score threshold of a query or of a node.
pub(super) fn score_threshold(fields: &Fields<'_>) -> Result<Option<f64>, Fault> {
    let number =
        |value: &Value| value.as_f64().ok_or_else(|| fields.unlike("score_threshold", value, "a number"));
    fields.get("score_threshold").map(number).transpose()
}

fn params(fields: &Fields<'_>) -> Result<Params, Fault> {
    let Some(value) = fields.get("params") else { return Ok(Params::default()) };
    let params = Fields::of(value, &fields.path("params"))?;
    params.only(&["exact", "hnsw_ef", "nprobe"], &PARAMS_NOT_YET)?;
    let width = |name: &str| match params.get(name) {
        None => Ok(None),
        Some(value) => {
            let width = value.as_u64().and_then(|width| u32::try_from(width).ok()).filter(|width| *width > 0);
            width.map(Some).ok_or_else(|| params.unlike(name, value, "an integer of at least 1"))
        }
    };
    Ok(Params {
        exact: params.bool("exact")?.unwrap_or(false),
        hnsw_ef: width("hnsw_ef")?,
        nprobe: width("nprobe")?,
    })
}

fn using(
    fields: &Fields<'_>,
    query: Option<&NodeQuery>,
    has_prefetch: bool,
) -> Result<Option<String>, Fault> {
    let using = fields.str("using")?;
    let path = fields.path("using");
    match (query, using) {
        (Some(NodeQuery::Fusion(_)), Some(_)) => {
            Err(invalid(path, "a fusion takes its prefetches as they are and has no \"using\""))
        }
        (Some(NodeQuery::List(_) | NodeQuery::OrderBy(_) | NodeQuery::Formula(_)), Some(_)) => {
            Err(invalid(path, "a list or a formula searches no vector field and has no \"using\""))
        }
        (
            Some(NodeQuery::Fusion(_) | NodeQuery::List(_) | NodeQuery::OrderBy(_) | NodeQuery::Formula(_)),
            None,
        ) => Ok(None),
        (_, Some(using)) => Ok(Some(using.to_owned())),
        (_, None) => {
            let message = if has_prefetch {
                "missing: name the vector field to rescore by, such as \"using\": \"colbert\", \
                 or fuse the prefetches with \"query\": {\"fusion\": \"dbsf\"}"
            } else {
                "missing: name the vector field to search, such as \"using\": \"dense\""
            };
            Err(invalid(path, message))
        }
    }
}

fn fusion(fields: &Fields<'_>) -> Result<Fusion, Fault> {
    match fields.str("fusion")? {
        Some("rrf") => Ok(Fusion::Rrf { k: RRF_K_DEFAULT, weights: Vec::new() }),
        Some("dbsf") => Ok(Fusion::Dbsf),
        name => {
            let value = name.map_or(Value::Null, Value::from);
            Err(fields.unlike("fusion", &value, "\"rrf\" or \"dbsf\""))
        }
    }
}

fn rrf(fields: &Fields<'_>, prefetches: usize) -> Result<Fusion, Fault> {
    let Some(value) = fields.get("rrf") else {
        return Err(invalid(fields.path("rrf"), "null is not an object"));
    };
    let rrf = Fields::of(value, &fields.path("rrf"))?;
    rrf.only(&["k", "weights"], &[])?;
    let k = match rrf.get("k") {
        None => RRF_K_DEFAULT,
        Some(value) => value
            .as_f64()
            .filter(|k| *k >= 1.0)
            .ok_or_else(|| rrf.unlike("k", value, "a number of at least 1"))?,
    };
    let weights = match rrf.get("weights") {
        None => Vec::new(),
        Some(Value::Array(items)) => weights(items, &rrf.path("weights"), prefetches)?,
        Some(other) => return Err(rrf.unlike("weights", other, "an array of numbers")),
    };
    Ok(Fusion::Rrf { k, weights })
}

fn weights(items: &[Value], path: &str, prefetches: usize) -> Result<Vec<f64>, Fault> {
    if items.len() != prefetches {
        let message = format!("{} weights for {prefetches} prefetches", items.len());
        return Err(invalid(path, message));
    }
    let weight = |(index, item): (usize, &Value)| {
        item.as_f64().filter(|weight| *weight > 0.0).ok_or_else(|| {
            let message = format!("{} is not a positive number", describe(item));
            invalid(element(path, index), message)
        })
    };
    items.iter().enumerate().map(weight).collect()
}

/// Refuses a plan that is too deep or has too many nodes, before any of it is read.
fn check_extent(fields: &Fields<'_>, path: &str, limits: &QueryLimits) -> Result<(), Fault> {
    // To choose from what was found takes a trip to the shards of its own, like a level.
    let levels = |query: Option<&Value>| {
        let chooses = query.and_then(|query| query.get("mmr")).is_some_and(|mmr| !mmr.is_null());
        1 + usize::from(chooses)
    };
    let mut deepest = levels(fields.get("query"));
    let mut nodes = 1;
    // Values that stand where nodes are expected, with the levels above them; the nesting of JSON itself is bounded.
    let mut open: Vec<(&Value, usize)> =
        fields.get("prefetch").map(|below| (below, deepest)).into_iter().collect();
    while let Some((value, above)) = open.pop() {
        match value {
            Value::Array(items) => open.extend(items.iter().map(|item| (item, above))),
            Value::Object(node) => {
                nodes += 1;
                let depth = above + levels(node.get("query"));
                deepest = deepest.max(depth);
                open.extend(node.get("prefetch").map(|below| (below, depth)));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let beyond = [("levels", deepest, limits.depth_max), ("nodes", nodes, limits.nodes_max)];
    for (what, found, max) in beyond {
        if found > max {
            let message = format!("the plan has {found} {what}, at most {max} are accepted");
            return Err(Fault::field(FaultCode::TooDeep, join(path, "prefetch"), message));
        }
    }
    Ok(())
}
