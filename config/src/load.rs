//! TOML → [`Config`]: parse, interpolate, read every section, compare them with each other.

use std::collections::BTreeMap;
use std::path::Path;

use freshet_schemas::{DocumentSpec, PlanSpec, SourceSpec, VectorSpec};
use toml::Table;

use crate::defaults::BM25;
use crate::interpolate::{Env, interpolate};
use crate::problems::Problems;
use crate::section::Section;
use crate::{
    Config, ConfigErrors, VectorField, connector, documents, payload, plans, rerankers, sections, vectors,
};

impl Config {
    /// Reads a file, with variables from the environment.
    ///
    /// # Errors
    /// All problems at once, each with its key.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ConfigErrors> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(|error| {
            ConfigErrors::single(path.display().to_string(), format!("cannot be read: {error}"))
        })?;
        Self::parse(&text, &|name| std::env::var(name).ok())
    }

    /// Reads TOML, with variables from `env`. Does no input or output.
    ///
    /// # Errors
    /// All problems at once, each with its key.
    pub fn parse(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigErrors> {
        let table: Table = text.parse().map_err(|error| not_toml(text, &error))?;
        let mut problems = Problems::default();
        let config = read(table, env, &mut problems);
        problems.or(config)
    }

    /// What documents of each topic must look like, in the order of the topics. `sizes` holds the dimensions of vectors that
    /// a model makes, by field.
    pub fn document_specs(&self, sizes: &BTreeMap<String, usize>) -> Vec<DocumentSpec> {
        let vectors = self.vector_specs(sizes);
        let topics = &self.topics.documents;
        let spec = |name: &String| {
            let documents = &self.documents;
            let (id, text, reading) = match documents.topics.get(name) {
                Some(own) => (&own.id, &own.text, &own.reading),
                None => (&documents.id, &documents.text, &documents.reading),
            };
            let prefix = || if topics.are_several() { format!("{name}/") } else { String::new() };
            DocumentSpec {
                id: id.clone(),
                text: text.clone(),
                title: documents.title.clone(),
                payload: documents.payload.clone(),
                text_bytes_max: documents.text_bytes_max.get(),
                vectors: vectors.clone(),
                source: SourceSpec {
                    topic: name.clone(),
                    format: reading.format,
                    key_format: reading.key_format(),
                    envelope: reading.envelope,
                    mapping: reading.mapping.clone(),
                    id_prefix: reading.id_prefix.clone().unwrap_or_else(prefix),
                },
            }
        };
        topics.names().iter().map(spec).collect()
    }

    /// What plans may name. `sizes` as in [`Config::document_specs`].
    pub fn plan_spec(&self, sizes: &BTreeMap<String, usize>) -> PlanSpec {
        PlanSpec {
            vectors: self.vector_specs(sizes),
            rerankers: self
                .rerankers
                .iter()
                .map(|(name, of)| (name.clone(), of.documents_max.get()))
                .collect(),
        }
    }

    /// The vector fields as documents and queries must fit them. `sizes` as in [`Config::document_specs`].
    pub fn vector_specs(&self, sizes: &BTreeMap<String, usize>) -> BTreeMap<String, VectorSpec> {
        let spec = |(name, field): (&String, &VectorField)| {
            let size = field.size.map(usize::from).or_else(|| sizes.get(name).copied());
            let from_text = field.model.is_some();
            let terms = field.model.as_deref() == Some(BM25);
            (name.clone(), VectorSpec { kind: field.kind, size, from_text, terms })
        };
        self.vectors.iter().map(spec).collect()
    }
}

fn not_toml(text: &str, error: &toml::de::Error) -> ConfigErrors {
    let start = error.span().map_or(0, |span| span.start.min(text.len()));
    let before = &text.as_bytes()[..start];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
    let message = format!("not TOML: {}", error.message().replace('\n', "; "));
    ConfigErrors::single(format!("line {line}, column {column}"), message)
}

fn read(mut table: Table, env: Env<'_>, problems: &mut Problems) -> Config {
    interpolate(&mut table, "", env, problems);
    let mut top = Section::new("", table, problems);
    let pipeline = sections::pipeline(top.section("pipeline"));
    let connector = connector::read(top.section("connector"));
    let topics = sections::topics(top.section("topics"));
    let documents = documents::read(top.section("documents"), &topics.documents);
    let payload = payload::read(top.section("payload"));
    let (vectors, broken) = vectors::read(top.section("vectors"));
    let embedding = sections::embedding(top.section("embedding"));
    let indexing = sections::indexing(top.section("indexing"));
    let queries = sections::queries(top.section("queries"));
    let (rerankers, named) = rerankers::read(top.section("rerankers"), &vectors, &broken);
    let plans = plans::read(top.section("plans"), &vectors, &broken, named, &queries.limits);
    let models = sections::models(top.section("models"));
    let snapshots = top.has("snapshots").then(|| sections::snapshots(top.section("snapshots")));
    let http = top.has("http").then(|| crate::http::http(top.section("http")));
    let collections = crate::collections::read(top.section("collections"), http.is_some());
    let telemetry = crate::telemetry::read(top.section("telemetry"));
    top.also_known(&["snapshots", "http"]);
    if documents.text.is_empty()
        && let Some((name, _)) = vectors.iter().find(|(_, field)| field.model.is_some())
    {
        let message = format!("is empty, but vectors.{name} is made from the text");
        top.report_at("documents.text".to_owned(), message);
    }
    top.finish();
    Config {
        pipeline,
        connector,
        topics,
        documents,
        payload,
        vectors,
        rerankers,
        plans,
        embedding,
        indexing,
        queries,
        models,
        snapshots,
        http,
        collections,
        telemetry,
    }
}
