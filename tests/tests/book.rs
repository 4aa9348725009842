//! The book: what of it is generated is up to date, and what it says of configurations and queries holds.
//!
//! `UPDATE_DOCS=1 cargo test --release -p freshet-tests book` writes the generated pages anew.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use freshet_config::Config;
use freshet_schemas::{Query, QueryLimits};
use freshet_tests::drive::query_record;
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Compares a generated page with what is there, or writes it.
fn generated(page: &str, text: &str) {
    let path = root().join("docs/reference").join(page);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, text).unwrap();
        return;
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == text,
        "docs/reference/{page} is out of date: run UPDATE_DOCS=1 cargo test --release -p freshet-tests book"
    );
}

/// Text of a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

#[test]
fn the_metrics_are_those_of_the_registry() {
    let mut text = "# Metrics\n\nGenerated from the program. `/metrics` shows them in Prometheus' format; those with labels appear with their first \
                    value. Process metrics (`process_*`) come with them. Times are seconds, sizes bytes.\n\n\
                    | name | kind | labels | what it says |\n|---|---|---|---|\n"
        .to_owned();
    for metric in freshet::reference::metrics().unwrap() {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        writeln!(
            text,
            "| `{}` | {} | {} | {} |",
            metric.name,
            metric.kind,
            labels.join(", "),
            cell(&metric.help)
        )
        .unwrap();
    }
    generated("metrics.md", &text);
}

#[test]
fn dashboard_alerts_and_pages_name_metrics_that_there_are() {
    let known: BTreeSet<String> =
        freshet::reference::metrics().unwrap().into_iter().map(|metric| metric.name).collect();
    let is_known = |name: &str| {
        let plain =
            ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name);
        known.contains(name) || known.contains(plain)
    };
    let mut named = BTreeSet::new();
    let others = ["config/grafana/dashboards/freshet.json", "config/prometheus/alerts.yml", "CHANGELOG.md"];
    let others = others.map(|file| (root().join(file), read(&root().join(file))));
    for (file, text) in pages().into_iter().chain(others) {
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        for name in words.filter(|word| word.starts_with("freshet_")) {
            let crate_name = text.contains(&format!("{name}::")) || text.contains(&format!("{name}="));
            assert!(is_known(name) || crate_name, "{} names {name}, which is no metric", file.display());
            named.insert(name.to_owned());
        }
    }
    assert!(named.len() > 20, "{named:?}");
    serde_json::from_str::<Value>(&read(&root().join("config/grafana/dashboards/freshet.json"))).unwrap();
}

/// A line of the default configuration.
struct Key {
    name: String,
    default: String,
    about: String,
}

/// Sections of the default configuration with their keys; a section or key that is commented out has no default.
fn sections() -> Vec<(String, Vec<Key>)> {
    let mut sections: Vec<(String, Vec<Key>)> = Vec::new();
    let text = read(&root().join("config/default.toml"));
    for line in text.lines() {
        let bare = line.strip_prefix("# ").unwrap_or(line).trim_end();
        let (before, about) = match bare.split_once(" # ") {
            Some((before, about)) => (before.trim_end(), about.trim()),
            None => (bare, ""),
        };
        if let Some(name) = before.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            sections.push((name.to_owned(), Vec::new()));
            if !about.is_empty() {
                let key = Key { name: String::new(), default: String::new(), about: about.to_owned() };
                sections.last_mut().unwrap().1.push(key);
            }
        } else if let Some((name, value)) =
            before.split_once(" = ").filter(|(name, _)| !name.contains(' ') || name.starts_with('"'))
            && let Some((_, keys)) = sections.last_mut()
        {
            let optional = line.starts_with('#');
            let default = if optional { format!("none; `{value}`") } else { format!("`{value}`") };
            keys.push(Key { name: name.to_owned(), default, about: about.to_owned() });
        } else if line.starts_with(' ') || line.starts_with("#  ") {
            // A comment that goes on.
            let more = line.trim_start_matches('#').trim().trim_start_matches("# ");
            if let Some(key) = sections.last_mut().and_then(|(_, keys)| keys.last_mut()) {
                key.about = format!("{} {more}", key.about).trim().to_owned();
            }
        }
    }
    sections
}

#[test]
fn the_configuration_is_that_of_the_defaults() {
    let mut text = "# Configuration\n\nGenerated from `config/default.toml`, whose values the tests compare with those in the program. TOML; strings \
                    take variables from the environment (`${NAME}`, `${NAME:default}`); unknown keys are refused; `freshet check` \
                    tells all problems at once.\n"
        .to_owned();
    let sections = sections();
    let names: BTreeSet<&str> = sections.iter().map(|(name, _)| name.as_str()).collect();
    for section in ["pipeline", "connector", "topics", "documents", "payload", "queries", "snapshots", "http"]
    {
        assert!(names.contains(section), "{section} in {names:?}");
    }
    for (section, keys) in sections {
        write!(text, "\n## `[{section}]`\n\n").unwrap();
        if let Some(about) = keys.iter().find(|key| key.name.is_empty()) {
            write!(text, "{}\n\n", about.about).unwrap();
        }
        text.push_str("| key | default, or an example | what it says |\n|---|---|---|\n");
        for key in keys.iter().filter(|key| !key.name.is_empty()) {
            writeln!(text, "| `{}` | {} | {} |", key.name, cell(&key.default), cell(&key.about)).unwrap();
        }
    }
    generated("config.md", &text);
}

/// What a schema allows, in words.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|name| name.strip_prefix("#/$defs/")) {
        return format!("[{name}](#{name})");
    }
    if let Some(list) = ["anyOf", "oneOf"].iter().find_map(|key| schema[*key].as_array()) {
        let kinds: Vec<String> = list.iter().filter(|one| one["type"] != "null").map(kind).collect();
        return kinds.join(" or ");
    }
    if let Some(values) = schema["enum"].as_array() {
        let values: Vec<String> =
            values.iter().filter(|value| !value.is_null()).map(|value| format!("`{value}`")).collect();
        return values.join(", ");
    }
    if schema.get("const").is_some() {
        return format!("`{}`", schema["const"]);
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => {
            several.iter().filter_map(Value::as_str).filter(|one| *one != "null").collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => vec![],
    };
    match types.as_slice() {
        ["array"] if schema["items"].is_object() => format!("array of {}", kind(&schema["items"])),
        types => types.join(" or "),
    }
}

fn table(text: &mut String, schema: &Value) {
    let Some(properties) = schema["properties"].as_object() else { return };
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    text.push_str("| field | takes | what it says |\n|---|---|---|\n");
    for (name, property) in
        properties.iter().filter(|(_, property)| property["$ref"] != "#/$defs/not_supported")
    {
        let must = if required.contains(&name.as_str()) { " (required)" } else { "" };
        let about = property["description"].as_str().unwrap_or_default();
        writeln!(text, "| `{name}`{must} | {} | {} |", cell(&kind(property)), cell(about)).unwrap();
    }
    text.push('\n');
}

#[test]
fn the_query_language_is_that_of_its_schema() {
    let schema: Value = serde_json::from_str(&read(&root().join("schemas/query.json"))).unwrap();
    let mut text = "# Queries\n\nGenerated from `schemas/query.json`. The same JSON is a record of the queries topic and the body of `POST /api/query`. It \
                    is that of Qdrant's `points/query` with some fields more; where answers differ on purpose is in \
                    [parity](../parity.md).\n\n"
        .to_owned();
    table(&mut text, &schema);
    for (name, definition) in schema["$defs"].as_object().unwrap() {
        if name == "not_supported" {
            continue;
        }
        write!(text, "## {name}\n\n").unwrap();
        if let Some(about) = definition["description"].as_str() {
            write!(text, "{about}\n\n").unwrap();
        }
        if definition["properties"].is_object() {
            table(&mut text, definition);
        } else if !kind(definition).is_empty() {
            write!(text, "Takes {}.\n\n", kind(definition)).unwrap();
        }
    }
    generated("query.md", &format!("{}\n", text.trim_end()));
}

/// Pages of the book and README, with their text.
fn pages() -> Vec<(PathBuf, String)> {
    let docs = root().join("docs");
    let mut paths = vec![root().join("README.md")];
    for folder in [docs.clone(), docs.join("how-to")] {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        paths.extend(entries.filter(|path| path.extension().is_some_and(|ending| ending == "md")));
    }
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), read(&path))).collect()
}

/// Blocks of a language in a page.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    let starts = text.match_indices(&fence).map(|(at, _)| at + fence.len());
    starts.map(|at| &text[at..at + text[at..].find("```").expect("a block ends")]).collect()
}

#[test]
fn configurations_of_the_book_are_right() {
    let mut checked = 0;
    for (path, text) in pages() {
        for block in blocks(&text, "toml") {
            // Parts stand beside others: what they name elsewhere is given here.
            let with_vectors = if block.contains("[vectors.") || !block.contains("using =") {
                block.to_owned()
            } else {
                format!(
                    "{block}\n[vectors.dense]\nkind = \"dense\"\nmodel = \"all-MiniLM-L6-v2\"\n[vectors.bm25]\nkind = \"sparse\"\nmodel = \"bm25\"\n"
                )
            };
            let text = match block.contains("[snapshots.options]") && !block.contains("store =") {
                true => format!("[snapshots]\nstore = \"s3://bucket/prefix\"\n{with_vectors}"),
                false => with_vectors,
            };
            let secret = |name: &str| Some(format!("value-of-{name}"));
            Config::parse(&text, &secret)
                .unwrap_or_else(|errors| panic!("{}:\n{block}\n{errors}", path.display()));
            checked += 1;
        }
    }
    assert!(checked >= 10, "{checked} configurations");
}

#[test]
fn queries_of_the_book_are_right() {
    let limits = Config::default().queries.limits;
    let mut checked = 0;
    for (path, text) in pages() {
        for block in blocks(&text, "json") {
            for value in serde_json::Deserializer::from_str(block).into_iter::<Value>() {
                let Ok(value) = value else { break };
                if value["id"].is_string()
                    && ["text", "query", "prefetch"].iter().any(|field| value.get(*field).is_some())
                {
                    check(&value, &limits)
                        .unwrap_or_else(|fault| panic!("{}: {value}: {fault}", path.display()));
                    checked += 1;
                }
            }
        }
    }
    assert!(checked >= 3, "{checked} queries");
}

fn check(query: &Value, limits: &QueryLimits) -> Result<(), String> {
    Query::parse(&query_record(query), limits).map(drop).map_err(|refused| refused.fault.to_string())
}

#[test]
fn links_of_the_book_lead_somewhere() {
    let mut links = 0;
    for (path, text) in pages() {
        for (at, _) in text.match_indices("](") {
            let target = &text[at + 2..at + 2 + text[at + 2..].find(')').unwrap_or(0)];
            let target = target.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let to = path.parent().unwrap().join(target);
            assert!(to.exists(), "{} leads to {target}, which is not there", path.display());
            links += 1;
        }
    }
    assert!(links > 20, "{links} links");
}

#[test]
fn keys_that_pages_name_are_keys() {
    let sections = sections();
    let mut checked = 0;
    for (path, text) in
        pages().into_iter().chain([(root().join("CHANGELOG.md"), read(&root().join("CHANGELOG.md")))])
    {
        // Code within a line; blocks are checked whole.
        for line in text.split("```").step_by(2).flat_map(str::lines) {
            for code in line.split('`').skip(1).step_by(2) {
                let code = code.split([' ', '=']).next().unwrap_or_default();
                let Some((section, key)) = code.split_once('.') else { continue };
                let Some((_, keys)) = sections.iter().find(|(name, _)| name == section) else { continue };
                let file = ["jsonl", "dlq", "json", "toml", "parquet"].contains(&key);
                let below = sections.iter().any(|(name, _)| *name == code);
                let known = keys.iter().any(|own| own.name == key);
                assert!(file || below || known, "{}: `{code}` is no key of [{section}]", path.display());
                checked += usize::from(known);
            }
        }
    }
    assert!(checked > 10, "{checked} keys");
}

#[test]
fn the_changelog_begins_with_this_version() {
    let text = read(&root().join("CHANGELOG.md"));
    let headings: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let number = |heading: &str| -> Vec<u64> {
        let version = heading.split([' ', '-']).next().unwrap_or_default();
        version
            .split('.')
            .map(|part| part.parse().unwrap_or_else(|_| panic!("{heading} is no version")))
            .collect()
    };
    let newest = headings.iter().find(|heading| **heading != "Unreleased").expect("a version");
    assert_eq!(newest.split(' ').next(), Some(env!("CARGO_PKG_VERSION")), "as in Cargo.toml");
    let numbers: Vec<Vec<u64>> =
        headings.iter().filter(|heading| **heading != "Unreleased").map(|heading| number(heading)).collect();
    assert!(
        numbers.iter().all(|number| number.len() == 3) && numbers.is_sorted_by(|a, b| a > b),
        "{headings:?}"
    );
    for (heading, section) in headings.iter().zip(text.split("\n## ").skip(1)) {
        assert!(section.lines().any(|line| line.starts_with("- ")), "{heading} says nothing");
    }
}
