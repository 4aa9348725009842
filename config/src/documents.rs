//! `[documents]`: what a document is, how its records are encoded, and what becomes of their fields.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::Duration;

use freshet_schemas::{DocumentTopics, Envelope, Format, Mapping, VECTORS_FIELD};
use serde_json::Value as Json;
use toml::{Table, Value};

use crate::problems::list;
use crate::section::{Section, describe};
use crate::sections::COUNT_MAX;
use crate::{Documents, Secret, defaults};

/// How the records of a documents topic are read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// `format` of values. Default JSON.
    pub format: Format,
    /// `key_format`. Default: text; with an envelope, the format of the values.
    pub key_format: Option<Format>,
    /// `envelope`. Default none.
    pub envelope: Envelope,
    /// `headers`, `rename` and `defaults`.
    pub mapping: Mapping,
    /// `id_prefix`: what every id begins with. Default: nothing; with several topics, the name of the topic and a slash.
    pub id_prefix: Option<String>,
}

impl Reading {
    /// The encoding of keys.
    pub fn key_format(&self) -> Format {
        self.key_format.unwrap_or(match self.envelope {
            Envelope::None => Format::Text,
            Envelope::Debezium => self.format,
        })
    }

    /// Whether keys or values have this encoding.
    pub fn reads(&self, format: Format) -> bool {
        self.format == format || self.key_format() == format
    }
}

/// `[documents.topics.NAME]`: what one of several topics has for itself, and the rest from `[documents]`.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicDocuments {
    /// `id`
    pub id: String,
    /// `text`
    pub text: Vec<String>,
    /// How its records are read.
    pub reading: Reading,
}

/// `[documents.schema_registry]`
#[derive(Clone, Debug, PartialEq)]
pub struct Registry {
    /// `url`: `http://` or `https://`; `/schemas/ids/…` is added to it.
    pub url: String,
    /// `user` and `password`, for HTTP's basic authentication.
    pub user: Option<(Secret, Secret)>,
    /// `token`, sent as a bearer token.
    pub token: Option<Secret>,
    /// `timeout` of one request. Default 5 s.
    pub timeout: Duration,
}

const REGISTRY_TIMEOUT: Duration = Duration::from_secs(5);
const FORMATS: [(&str, Format); 4] = [
    ("json", Format::Json),
    ("text", Format::Text),
    ("avro", Format::Avro),
    ("json_schema", Format::JsonSchema),
];

/// Reads the section. `named` are the documents topics, of which each may have a table of its own.
pub(crate) fn read(mut section: Section<'_>, named: &DocumentTopics) -> Documents {
    let base = Documents::default();
    let id = section.string("id").unwrap_or(base.id);
    let text = section.strings("text").unwrap_or(base.text);
    check_fields(&mut section, &id, &text);
    let title = section.string("title");
    if let Some(title) = &title {
        if *title == id {
            section.report("title", format!("\"{title}\" is the field of the id"));
        } else if title == VECTORS_FIELD {
            section.report("title", format!("\"{VECTORS_FIELD}\" holds the vectors of a document"));
        }
    }
    let payload = section.string("payload");
    if let Some(payload) = &payload {
        if *payload == id {
            section.report("payload", format!("\"{payload}\" is the field of the id"));
        } else if payload == VECTORS_FIELD {
            section.report("payload", format!("\"{VECTORS_FIELD}\" holds the vectors of a document"));
        } else if text.contains(payload) || title.as_ref() == Some(payload) {
            section.report("payload", format!("\"{payload}\" is a field of the text"));
        }
    }
    let text_bytes_max = section.size("text_bytes_max").unwrap_or(base.text_bytes_max);
    let tokens = section.integer("chunk_tokens", 0..=COUNT_MAX as u64);
    let tokens = tokens.map_or(defaults::CHUNK_TOKENS, |tokens| tokens as usize);
    let overlap = section.integer("chunk_overlap", 0..=COUNT_MAX as u64);
    let overlap = overlap.map_or(defaults::chunk_overlap(tokens), |overlap| overlap as usize);
    if tokens > 0 && overlap >= tokens {
        section.report("chunk_overlap", format!("{overlap} is not less than chunk_tokens, {tokens}"));
    }
    let reading = reading(&mut section, &base.reading);
    check_text(&mut section, &reading, &text, title.as_deref());
    let base = TopicDocuments { id, text, reading };
    let topics = topics(section.section("topics"), named, &base, title.as_deref());
    let read =
        |format| base.reading.reads(format) || topics.values().any(|topic| topic.reading.reads(format));
    let registry = registry(&mut section, read(Format::Avro));
    section.finish();
    let TopicDocuments { id, text, reading } = base;
    let chunk_tokens = NonZeroUsize::new(tokens);
    let chunk_overlap = if tokens == 0 { 0 } else { overlap };
    Documents {
        id,
        text,
        title,
        payload,
        text_bytes_max,
        chunk_tokens,
        chunk_overlap,
        reading,
        topics,
        registry,
    }
}

fn check_fields(section: &mut Section<'_>, id: &str, text: &[String]) {
    if id == VECTORS_FIELD {
        section.report("id", format!("\"{VECTORS_FIELD}\" holds the vectors of a document"));
    }
    for (index, field) in text.iter().enumerate() {
        if field == VECTORS_FIELD {
            section.report("text", format!("\"{VECTORS_FIELD}\" holds the vectors of a document"));
        } else if text[..index].contains(field) {
            section.report("text", format!("\"{field}\" stands twice"));
        }
    }
}

/// A text has to become a field of the text.
fn check_text(section: &mut Section<'_>, reading: &Reading, text: &[String], title: Option<&str>) {
    if reading.format != Format::Text {
        return;
    }
    if reading.envelope != Envelope::None {
        section.report("envelope", "a text has none: choose another format, or envelope = \"none\"");
    }
    if text.iter().all(|field| Some(field.as_str()) == title) {
        section.report(
            "format",
            "\"text\" becomes the first field of documents.text that is not the title: name one",
        );
    }
}

/// The keys that topics may have for themselves, beside id and text; what is not there is as in `base`.
fn reading(section: &mut Section<'_>, base: &Reading) -> Reading {
    let format = section.word("format", &FORMATS).unwrap_or(base.format);
    let envelopes = [("none", Envelope::None), ("debezium", Envelope::Debezium)];
    let headers = paths(section, "headers", false);
    let rename = paths(section, "rename", true);
    Reading {
        format,
        key_format: section.word("key_format", &FORMATS).or(base.key_format),
        envelope: section.word("envelope", &envelopes).unwrap_or(base.envelope),
        mapping: Mapping {
            headers: headers.unwrap_or_else(|| base.mapping.headers.clone()),
            rename: rename.unwrap_or_else(|| base.mapping.rename.clone()),
            defaults: default_values(section).unwrap_or_else(|| base.mapping.defaults.clone()),
        },
        id_prefix: section.text("id_prefix").or_else(|| base.id_prefix.clone()),
    }
}

fn topics(
    mut section: Section<'_>,
    named: &DocumentTopics,
    base: &TopicDocuments,
    title: Option<&str>,
) -> BTreeMap<String, TopicDocuments> {
    let mut topics = BTreeMap::new();
    for (name, value) in section.take_all() {
        if !named.names().contains(&name) {
            let known = list(named.names().iter().map(String::as_str));
            section.report(&name, format!("is not one of topics.documents: {known}"));
            continue;
        }
        let Some(mut section) = section.named(&name, value) else { continue };
        let id = section.string("id").unwrap_or_else(|| base.id.clone());
        let text = section.strings("text").unwrap_or_else(|| base.text.clone());
        check_fields(&mut section, &id, &text);
        if text.is_empty() && !base.text.is_empty() {
            section.report("text", "is empty");
        }
        let reading = reading(&mut section, &base.reading);
        check_text(&mut section, &reading, &text, title);
        section.finish();
        topics.insert(name, TopicDocuments { id, text, reading });
    }
    topics
}

/// A table of names and paths; with `both`, the names are paths, too.
fn paths(section: &mut Section<'_>, key: &'static str, both: bool) -> Option<Vec<(String, String)>> {
    if !section.has(key) {
        section.also_known(&[key]);
        return None;
    }
    let mut section = section.section(key);
    let mut paths = Vec::new();
    for (name, value) in section.take_all() {
        match value.as_str() {
            Some(path) if is_path(path) && (!both || is_path(&name)) => paths.push((name, path.to_owned())),
            Some(path) => {
                let path = if both && !is_path(&name) { name.clone() } else { path.to_owned() };
                section.report(&name, not_a_path(&path));
            }
            None => section.report(&name, format!("{} is not the path of a field", describe(&value))),
        }
    }
    if both {
        check_rename(&mut section, &paths);
    }
    Some(paths)
}

fn not_a_path(path: &str) -> String {
    format!("{path:?} is not a path of fields, such as \"place.city\"")
}

fn is_path(path: &str) -> bool {
    path.split('.').all(|name| !name.trim().is_empty())
}

/// Whether a path is another one, or lies in it.
fn is_within(path: &str, other: &str) -> bool {
    path.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// What is renamed at once may not lie in each other.
fn check_rename(section: &mut Section<'_>, rename: &[(String, String)]) {
    for (index, (from, to)) in rename.iter().enumerate() {
        if from == to {
            section.report(from, "is its own new name");
        }
        for (other, other_to) in &rename[..index] {
            if is_within(from, other) || is_within(other, from) {
                section.report(from, format!("lies in \"{other}\", which is renamed too, or holds it"));
            }
            if is_within(to, other_to) || is_within(other_to, to) {
                let message = format!("\"{to}\" is also, or holds, or lies in, the new name of \"{other}\"");
                section.report(from, message);
            }
        }
    }
}

fn default_values(section: &mut Section<'_>) -> Option<Vec<(String, Json)>> {
    const KEY: &str = "defaults";
    if !section.has(KEY) {
        section.also_known(&[KEY]);
        return None;
    }
    let mut section = section.section(KEY);
    let mut values = Vec::new();
    for (path, value) in section.take_all() {
        if !is_path(&path) {
            section.report(&path, not_a_path(&path));
        } else if is_within(&path, VECTORS_FIELD) {
            section.report(&path, format!("\"{VECTORS_FIELD}\" holds the vectors of a document"));
        } else if let Some(value) = json(value) {
            values.push((path, value));
        } else {
            section.report(&path, "holds a number that is not finite");
        }
    }
    Some(values)
}

/// A value of the file as JSON; dates as their text. `None`: a number that JSON does not have.
fn json(value: Value) -> Option<Json> {
    Some(match value {
        Value::String(text) => Json::String(text),
        Value::Integer(number) => Json::from(number),
        Value::Float(number) => Json::Number(serde_json::Number::from_f64(number)?),
        Value::Boolean(value) => Json::Bool(value),
        Value::Datetime(time) => Json::String(time.to_string()),
        Value::Array(items) => Json::Array(items.into_iter().map(json).collect::<Option<_>>()?),
        Value::Table(table) => Json::Object(object(table)?),
    })
}

fn object(table: Table) -> Option<serde_json::Map<String, Json>> {
    table.into_iter().map(|(name, value)| Some((name, json(value)?))).collect()
}

fn registry(section: &mut Section<'_>, needed: bool) -> Option<Registry> {
    const KEY: &str = "schema_registry";
    if !section.has(KEY) {
        section.also_known(&[KEY]);
        if needed {
            section.report(KEY, "missing: Avro is read by the schemas of a registry; give its \"url\"");
        }
        return None;
    }
    if !needed {
        section.report(KEY, "nothing is read by it: no format or key_format is \"avro\"");
    }
    let mut section = section.section(KEY);
    let url = section.address("url", "http://localhost:8081");
    let (user, password) = (section.string("user"), section.string("password"));
    let token = section.string("token").map(Secret::from);
    if user.is_some() != password.is_some() {
        let missing = if user.is_some() { "password" } else { "user" };
        section.report(missing, "missing: user and password belong together");
    }
    if user.is_some() && token.is_some() {
        section.report("token", "give either a token, or user and password");
    }
    let user = user.zip(password).map(|(user, password)| (user.into(), password.into()));
    let timeout = section.duration("timeout").unwrap_or(REGISTRY_TIMEOUT);
    section.finish();
    Some(Registry { url: url?.trim_end_matches('/').to_owned(), user, token, timeout })
}
