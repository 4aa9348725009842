//! `[payload]`: the payload fields that are indexed for filters.

use std::collections::BTreeMap;

use freshet_schemas::is_path;
use toml::{Table, Value};

use crate::PayloadKind;
use crate::problems::{did_you_mean, list};
use crate::section::{Section, describe};

/// Kinds by name.
const KINDS: [(&str, PayloadKind); 6] = [
    ("keyword", PayloadKind::Keyword),
    ("integer", PayloadKind::Integer),
    ("float", PayloadKind::Float),
    ("bool", PayloadKind::Bool),
    ("datetime", PayloadKind::Datetime),
    ("text", PayloadKind::Text),
];

/// Most fields.
const FIELDS_MAX: usize = 256;

/// Reads the section. A table within it is a field with fields: `address.city = "keyword"`.
pub(crate) fn read(mut section: Section<'_>) -> BTreeMap<String, PayloadKind> {
    let mut fields = BTreeMap::new();
    let table = section.take_all();
    read_table(&mut section, "", table, &mut fields);
    if fields.len() > FIELDS_MAX {
        let message = format!("{} fields, at most {FIELDS_MAX} are accepted", fields.len());
        section.report_at("payload".to_owned(), message);
    }
    fields
}

fn read_table(
    section: &mut Section<'_>,
    above: &str,
    table: Table,
    fields: &mut BTreeMap<String, PayloadKind>,
) {
    for (key, value) in table {
        let path = if above.is_empty() { key } else { format!("{above}.{key}") };
        if !is_path(&path) {
            let message = "is not a path such as \"city\", \"address.city\" or \"offers[].price\"";
            section.report(&path, message);
            continue;
        }
        if let Value::Table(below) = value {
            read_table(section, &path, below, fields);
            continue;
        }
        let names = || KINDS.iter().map(|(name, _)| *name);
        let Some(name) = value.as_str() else {
            section.report(&path, format!("{} is not one of {}", describe(&value), list(names())));
            continue;
        };
        let Some((_, kind)) = KINDS.iter().find(|(known, _)| *known == name) else {
            let near = did_you_mean(name, names());
            section.report(&path, format!("\"{name}\" is not one of {}{near}", list(names())));
            continue;
        };
        if fields.insert(path.clone(), *kind).is_some() {
            section.report(&path, "stands twice");
        }
    }
}
