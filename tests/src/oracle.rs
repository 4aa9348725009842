//! Answers from scratch: the log up to an offset vector, and nothing that an index or an operator does.
//!
//! Only decoding, embedding and splitting are shared with the product; they are tested on their own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::channel;

use freshet::setup::Setup;
use freshet_config::Reranker;
use freshet_operators::embed::fields::{FieldSource, VectorField};
use freshet_operators::embed::{EmbedJob, Embedding, Priority, Wants};
use freshet_schemas::{
    AsOf, Ask, Document, DocumentChange, Filter, Fusion, Node, NodeQuery, Query, Record, VectorKind,
    VectorValue, with_title,
};

/// A hit: id and score.
pub type Scored = (String, f64);

/// Knows the whole log of documents.
pub struct Oracle<'a> {
    setup: &'a Setup,
    log: Vec<Record>,
}

impl<'a> Oracle<'a> {
    /// For a log of documents.
    pub fn new(setup: &'a Setup, log: Vec<Record>) -> Self {
        Self { setup, log }
    }

    /// The documents at an offset vector (inclusive).
    pub fn documents(&self, as_of: &AsOf) -> BTreeMap<String, Document> {
        let spec = self.setup.document_specs().remove(0);
        let mut documents = BTreeMap::new();
        let mut log: Vec<&Record> = self.log.iter().collect();
        log.sort_by_key(|record| (record.partition, record.offset));
        for record in log {
            if as_of.get(&record.partition).is_none_or(|last| record.offset > *last) {
                continue;
            }
            match DocumentChange::parse(record, &spec) {
                Ok(DocumentChange::Put(document)) => drop(documents.insert(document.id.clone(), document)),
                Ok(DocumentChange::Delete(id)) => drop(documents.remove(&id)),
                Err(_) => {}
            }
        }
        documents
    }

    /// The hits of a query at an offset vector, best first.
    pub fn answer(&self, query: &Query, as_of: &AsOf) -> Vec<Scored> {
        let documents = self.documents(as_of);
        let (node, text) = match &query.ask {
            Ask::Plan(node) => (node.clone(), String::new()),
            Ask::Count | Ask::Page(_) => panic!("the oracle finds hits"),
            Ask::Text { text, plan } => {
                let name = plan.as_deref().unwrap_or("default");
                (self.setup.config.plans[name].clone(), text.clone())
            }
        };
        let mut list = self.node(&node, &text, &documents, query.filter.as_ref());
        list.truncate(query.limit);
        list
    }

    fn node(
        &self,
        node: &Node,
        text: &str,
        documents: &BTreeMap<String, Document>,
        above: Option<&Filter>,
    ) -> Vec<Scored> {
        let filter = Filter::both(above, node.filter.as_ref());
        let legs: Vec<Vec<Scored>> = node
            .prefetch
            .iter()
            .map(|child| {
                let mut list = self.node(child, text, documents, filter.as_ref());
                list.truncate(child.limit);
                list
            })
            .collect();
        if let Some(NodeQuery::Fusion(fusion)) = &node.query {
            return fused(fusion, &legs);
        }
        let candidates: BTreeMap<String, Document> = if legs.is_empty() {
            let payload = |document: &Document| serde_json::from_str(&document.payload).expect("JSON");
            let passes = |id: &str, document: &Document| {
                filter.as_ref().is_none_or(|filter| filter.matches(id, &payload(document)))
            };
            let passing = documents.iter().filter(|(id, document)| passes(id, document));
            passing.map(|(id, document)| (id.clone(), document.clone())).collect()
        } else {
            let found = |id: &String| legs.iter().flatten().any(|(hit, _)| hit == id);
            documents.iter().filter(|(id, _)| found(id)).map(|(id, d)| (id.clone(), d.clone())).collect()
        };
        let name = node.using.as_deref().unwrap_or_default();
        if let Some(reranker) = self.setup.config.rerankers.get(name) {
            let text = match &node.query {
                Some(NodeQuery::Text(own)) => own,
                _ => text,
            };
            return self.reread(reranker, text, &legs, documents);
        }
        let field = self.setup.fields.iter().find(|field| field.spec.name == name).expect("a known field");
        let mut list = self.scores(field, node.query.as_ref(), text, &candidates, documents);
        sort(&mut list);
        list
    }

    /// One list, read by a cross-encoder. Documents are read whole: they are to be shorter than a chunk.
    fn reread(
        &self,
        reranker: &Reranker,
        text: &str,
        legs: &[Vec<Scored>],
        documents: &BTreeMap<String, Document>,
    ) -> Vec<Scored> {
        let [leg] = legs else { panic!("{} lists to be read, the oracle knows one", legs.len()) };
        let model = reranker.kind.model().expect("a cross-encoder");
        let service = self.setup.service.as_ref().expect("a service");
        let is_it = |number: &usize| service.info(*number).name == model;
        let number = (0..self.setup.models()).find(is_it).expect("a loaded model");
        let read = leg.iter().take(reranker.documents_max.get());
        let texts: Vec<String> = read.clone().map(|(id, _)| documents[id].whole().into_owned()).collect();
        let scores = self.run(number, Priority::Query, Some(text), texts);
        let scored =
            read.zip(scores).map(|((id, _), made)| (id.clone(), made.score.expect("a score").into()));
        let mut list: Vec<Scored> = scored.collect();
        sort(&mut list);
        list
    }

    fn scores(
        &self,
        field: &VectorField,
        query: Option<&NodeQuery>,
        text: &str,
        candidates: &BTreeMap<String, Document>,
        all: &BTreeMap<String, Document>,
    ) -> Vec<Scored> {
        let text = match query {
            Some(NodeQuery::Text(own)) => own,
            _ => text,
        };
        match (&field.source, query) {
            (FieldSource::Given, Some(NodeQuery::Dense(vector))) => candidates
                .iter()
                .filter_map(|(id, document)| match document.vectors.get(&field.spec.name)? {
                    VectorValue::Dense(other) => Some((id.clone(), dot(vector, other))),
                    VectorValue::Sparse(_) | VectorValue::Multi(_) => None,
                })
                .collect(),
            (FieldSource::Terms(analyzer), _) => {
                bm25(&analyzer.query(text), candidates, all, |text| analyzer.document(text))
            }
            (FieldSource::Model(model), _) => {
                let query = self.embed(*model, Priority::Query, vec![text.to_owned()]).remove(0);
                candidates
                    .iter()
                    .filter_map(|(id, document)| {
                        let split = self.setup.splitter();
                        let chunks = split(&document.text);
                        let chunks = chunks
                            .into_iter()
                            .map(|(from, to)| with_title(&document.title, &document.text[from..to]));
                        let chunks = chunks.map(std::borrow::Cow::into_owned).collect();
                        let rows = self.embed(*model, Priority::Document, chunks);
                        let scores = rows.iter().filter_map(|row| similarity(field, &query, row));
                        Some((id.clone(), scores.max_by(f64::total_cmp)?))
                    })
                    .collect()
            }
            (source, query) => panic!(
                "{query:?} does not fit field {} ({})",
                field.spec.name,
                matches!(source, FieldSource::Given)
            ),
        }
    }

    fn embed(&self, model: usize, priority: Priority, texts: Vec<String>) -> Vec<Embedding> {
        self.run(model, priority, None, texts)
    }

    fn run(
        &self,
        model: usize,
        priority: Priority,
        against: Option<&str>,
        texts: Vec<String>,
    ) -> Vec<Embedding> {
        let (sender, receiver) = channel();
        let job = EmbedJob {
            model,
            priority,
            wants: Wants::Rows,
            against: against.map(Arc::from),
            texts,
            reply: Box::new(move |embeddings| sender.send(embeddings).expect("the oracle waits")),
        };
        let service = self.setup.service.as_ref().expect("a service");
        assert!(Arc::clone(service).submit(job).is_ok(), "the queue has room");
        let embeddings = receiver.recv().expect("an answer of the service");
        embeddings.into_iter().map(|embedding| embedding.expect("a text that can be embedded")).collect()
    }
}

fn sort(list: &mut [Scored]) {
    list.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
}

/// `None` for sparse vectors without a common word, and where nothing is left of a text.
fn similarity(field: &VectorField, query: &Embedding, row: &Embedding) -> Option<f64> {
    match field.spec.kind {
        VectorKind::Dense => Some(dot(&query.dense, &row.dense)),
        VectorKind::Sparse => {
            let (query, row) = (query.sparse.as_ref().expect("words"), row.sparse.as_ref().expect("words"));
            let weight = |word| row.iter().find(|(other, _)| *other == word).map(|(_, weight)| weight);
            let common = query.iter().filter_map(|(word, of)| Some(f64::from(of) * f64::from(weight(word)?)));
            common.fold(None, |sum, part| Some(sum.unwrap_or(0.0) + part))
        }
        VectorKind::Multi => {
            let (query, row) = (query.rows.as_ref().expect("rows"), row.rows.as_ref().expect("rows"));
            query.iter().map(|q| row.iter().map(|r| dot(q, r)).max_by(f64::total_cmp)).sum()
        }
    }
}

fn bm25(
    query: &freshet_schemas::SparseVector,
    candidates: &BTreeMap<String, Document>,
    all: &BTreeMap<String, Document>,
    terms: impl Fn(&str) -> freshet_schemas::SparseVector,
) -> Vec<Scored> {
    let vectors: BTreeMap<&String, _> =
        all.iter().map(|(id, document)| (id, terms(&document.whole()))).collect();
    let n = vectors.len() as f64;
    let mean = vectors.values().map(|vector| f64::from(vector.sum())).sum::<f64>() / n;
    let (k1, b) = (f64::from(1.2f32), f64::from(0.75f32));
    let mut scored = Vec::new();
    for id in candidates.keys() {
        let vector = &vectors[id];
        let mut score = None;
        for (term, count) in query.iter() {
            let Some((_, tf)) = vector.iter().find(|(other, _)| *other == term) else { continue };
            let df = vectors.values().filter(|vector| vector.indices.contains(&term)).count() as f64;
            let idf = (1.0 + (n - df + 0.5) / (df + 0.5)).ln();
            let (tf, length) = (f64::from(tf), f64::from(vector.sum()));
            let part = f64::from(count) * idf * (k1 + 1.0) * tf / (tf + k1 * (1.0 - b + b * length / mean));
            *score.get_or_insert(0.0) += part;
        }
        scored.extend(score.map(|score| (id.clone(), score)));
    }
    scored
}

fn fused(fusion: &Fusion, legs: &[Vec<Scored>]) -> Vec<Scored> {
    let mut sums: BTreeMap<String, f64> = BTreeMap::new();
    for (number, leg) in legs.iter().enumerate() {
        for (rank, (id, score)) in leg.iter().enumerate() {
            let part = match fusion {
                Fusion::Rrf { k, weights } => {
                    1.0 / ((rank as f64 + 1.0) / weights.get(number).copied().unwrap_or(1.0) + k - 1.0)
                }
                Fusion::Dbsf => dbsf(*score, leg),
            };
            *sums.entry(id.clone()).or_default() += part;
        }
    }
    let mut list: Vec<Scored> = sums.into_iter().collect();
    sort(&mut list);
    list
}

fn dbsf(score: f64, leg: &[Scored]) -> f64 {
    let n = leg.len() as f64;
    let mean = leg.iter().map(|(_, s)| s).sum::<f64>() / n;
    let variance = leg.iter().map(|(_, s)| (s - mean).powi(2)).sum::<f64>() / (n - 1.0);
    if leg.len() < 2 || leg.iter().all(|(_, s)| *s == leg[0].1) {
        return 0.5;
    }
    let sigma = variance.sqrt();
    (score - (mean - 3.0 * sigma)) / (6.0 * sigma)
}

/// Scores are sums of few products of small numbers: f32 keeps them to this.
const TOLERANCE: f64 = 1e-5;

/// Whether two lists are the same but for the rounding of scores: documents whose scores are as good as equal may stand in
/// either order, at the end of the list one in the place of the other.
pub fn agree(found: &[(String, f64)], expected: &[(String, f64)]) -> bool {
    let close = |a: f64, b: f64| (a - b).abs() <= TOLERANCE;
    let right: BTreeMap<&str, f64> = expected.iter().map(|(id, score)| (id.as_str(), *score)).collect();
    let last = expected.last().map_or(0.0, |(_, score)| *score);
    let ids: std::collections::BTreeSet<&str> = found.iter().map(|(id, _)| id.as_str()).collect();
    found.len() == expected.len()
        && ids.len() == found.len()
        && found.iter().zip(expected).all(|((id, score), (_, at_place))| {
            close(*score, *at_place) && close(*score, right.get(id.as_str()).copied().unwrap_or(last))
        })
}
