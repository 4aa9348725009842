//! What an answer is made of beside its hits: a count, groups, pages.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::list::checked;
use super::{Ask, Cursor, QueryLimits};
use crate::Fault;
use crate::json::{Fields, invalid};

/// Hits of a group unless given, as in Qdrant.
pub const GROUP_SIZE_DEFAULT: usize = 3;

/// How the final list is put into groups; the limit of the query is that of the groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grouping {
    /// Path of the payload field whose values name the groups.
    pub by: String,
    /// Most hits of a group, at least 1.
    pub size: usize,
}

/// Fields that cannot stand beside a count.
const NOT_WITH_COUNT: [&str; 13] = [
    "text",
    "plan",
    "prefetch",
    "query",
    "using",
    "limit",
    "params",
    "group_by",
    "group_size",
    "page",
    "with_payload",
    "explain",
    "offset",
];

/// Whether documents are counted and not found.
pub(super) fn is_count(fields: &Fields<'_>) -> Result<bool, Fault> {
    if !fields.bool("count")?.unwrap_or(false) {
        return Ok(false);
    }
    match NOT_WITH_COUNT.iter().find(|other| fields.get(other).is_some()) {
        Some(other) => {
            Err(invalid("count", format!("a count takes a \"filter\" and cannot stand beside \"{other}\"")))
        }
        None => Ok(true),
    }
}

/// The groups that are asked for.
pub(super) fn grouping(
    fields: &Fields<'_>,
    groups: usize,
    limits: &QueryLimits,
) -> Result<Option<Grouping>, Fault> {
    let size = at_most(fields, "group_size", limits.limit_max)?;
    match (fields.str("group_by")?, size) {
        (None, None) => Ok(None),
        (None, Some(_)) => {
            Err(invalid("group_by", "missing: name the payload field whose values make the groups"))
        }
        (Some(by), size) => {
            let size = size.unwrap_or(GROUP_SIZE_DEFAULT);
            let hits = groups.saturating_mul(size);
            if hits > limits.limit_max {
                let message = format!(
                    "{groups} groups of {size} hits are {hits}, at most {} are accepted",
                    limits.limit_max
                );
                return Err(invalid(fields.path("group_size"), message));
            }
            Ok(Some(Grouping { by: checked(fields, "group_by", by)?, size }))
        }
    }
}

/// Hits of a page, where an answer is to be read page by page.
pub(super) fn page(fields: &Fields<'_>, limits: &QueryLimits) -> Result<Option<usize>, Fault> {
    let Some(value) = fields.get("page") else { return Ok(None) };
    if fields.get("group_by").is_some() {
        return Err(invalid("page", "groups have no pages: leave out \"page\" or \"group_by\""));
    }
    let page = Fields::of(value, "page")?;
    page.only(&["size"], &[])?;
    match at_most(&page, "size", limits.limit_max)? {
        Some(size) => Ok(Some(size)),
        None => Err(invalid(page.path("size"), "missing: how many hits a page has")),
    }
}

/// The next page of an earlier query.
pub(super) fn cursor(fields: &Fields<'_>) -> Result<Option<Ask>, Fault> {
    let Some(text) = fields.str("cursor")? else { return Ok(None) };
    if let Some(other) =
        fields.names().find(|name| !matches!(*name, "id" | "cursor") && fields.get(name).is_some())
    {
        let message = format!("a cursor goes on with its query as it was asked: leave out \"{other}\"");
        return Err(invalid("cursor", message));
    }
    let cursor = Cursor::parse(text);
    let unlike = || fields.unlike("cursor", &Value::from(text), "the \"next\" of an answer");
    cursor.map(|cursor| Some(Ask::Page(cursor))).ok_or_else(unlike)
}

fn at_most(fields: &Fields<'_>, name: &str, max: usize) -> Result<Option<usize>, Fault> {
    let Some(value) = fields.get(name) else { return Ok(None) };
    let count = value.as_u64().and_then(|count| usize::try_from(count).ok());
    count
        .filter(|count| (1..=max).contains(count))
        .map(Some)
        .ok_or_else(|| fields.unlike(name, value, &format!("an integer from 1 to {max}")))
}
