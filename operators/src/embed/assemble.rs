//! A document's delta and the vectors of its new texts → the change its shard applies.

use std::collections::{BTreeMap, BTreeSet};

use freshet_schemas::{VectorKind, VectorValue, with_title};
use xxhash_rust::xxh3::xxh3_64;

use crate::embed::fields::{FieldSource, VectorField};
use crate::embed::{Embedding, Wants};
use crate::index::{Chunk, DocumentPut, FieldPut, RowPut, ShardChange};
use crate::message::{DeltaPut, DocumentDelta, RoutedChange};
use crate::text::KnownTerms;

/// Vectors of chunks by number, or why the model failed.
pub type ModelRows = BTreeMap<u32, Result<Embedding, String>>;

/// Texts that one model shall embed.
#[derive(Debug, PartialEq)]
pub struct Wanted {
    /// Number of the model.
    pub model: usize,
    /// What is needed of it.
    pub wants: Wants,
    /// Numbers of the chunks.
    pub numbers: Vec<u32>,
    /// Their texts.
    pub texts: Vec<String>,
}

/// Knows the fields, the shards, and which documents lack the vectors that the upsert state believes them to have.
pub struct Assembler {
    fields: Vec<VectorField>,
    /// By field, for those of terms.
    terms: Vec<KnownTerms>,
    shards: u32,
    /// Documents the model failed on, and whether an older version of them is in the index.
    failed: BTreeMap<String, bool>,
}

/// The shard of a document: fixed for the life of a pipeline.
pub fn shard_of(id: &str, shards: u32) -> u32 {
    u32::try_from(xxh3_64(id.as_bytes()) % u64::from(shards)).unwrap_or(0)
}

impl Assembler {
    /// For these fields and so many shards.
    pub fn new(fields: Vec<VectorField>, shards: u32) -> Self {
        let terms = fields.iter().map(|_| KnownTerms::default()).collect();
        Self { fields, terms, shards, failed: BTreeMap::new() }
    }

    /// The texts of a delta that have no vector yet, per model.
    pub fn wanted(&self, delta: &DocumentDelta) -> Vec<Wanted> {
        let Some(put) = &delta.put else { return Vec::new() };
        let models: BTreeSet<usize> = self.fields.iter().filter_map(VectorField::model).collect();
        models.into_iter().filter_map(|model| self.wanted_of(model, delta, put)).collect()
    }

    fn wanted_of(&self, model: usize, delta: &DocumentDelta, put: &DeltaPut) -> Option<Wanted> {
        let fields = self.fields.iter().filter(|field| field.model() == Some(model));
        let fields: Vec<_> =
            fields.filter(|field| !put.document.vectors.contains_key(&field.spec.name)).collect();
        let whole = self.failed.contains_key(&delta.id);
        let missing = |number: usize| fields.iter().any(|field| kept(field, put, whole, number).is_none());
        let numbers: Vec<usize> = (0..put.chunks.len()).filter(|&number| missing(number)).collect();
        if fields.is_empty() || numbers.is_empty() {
            return None;
        }
        let tokens = fields.iter().any(|field| field.spec.kind == VectorKind::Multi);
        let title = &put.document.title;
        let texts =
            numbers.iter().map(|&number| with_title(title, chunk(put, number)).into_owned()).collect();
        Some(Wanted {
            model,
            wants: if tokens { Wants::Tokens } else { Wants::Dense },
            numbers: numbers.into_iter().map(|n| u32::try_from(n).unwrap_or(u32::MAX)).collect(),
            texts,
        })
    }

    /// The change of the shard. `None`: the shard never saw the document that is deleted.
    ///
    /// # Errors
    /// Why the model failed: the document stays as it is in its shard.
    pub fn assemble(
        &mut self,
        delta: &DocumentDelta,
        rows: BTreeMap<usize, ModelRows>,
    ) -> Result<Option<RoutedChange>, String> {
        let shard = shard_of(&delta.id, self.shards);
        let Some(put) = &delta.put else {
            let indexed = self.failed.remove(&delta.id).unwrap_or(delta.existed);
            return Ok(
                indexed.then(|| RoutedChange { shard, change: ShardChange::Remove { id: delta.id.clone() } })
            );
        };
        let failure = rows.values().flat_map(BTreeMap::values).find_map(|row| row.as_ref().err());
        if let Some(reason) = failure {
            self.failed.entry(delta.id.clone()).or_insert(delta.existed);
            return Err(reason.clone());
        }
        let whole = self.failed.remove(&delta.id).is_some();
        let fields = self.fields.iter().zip(&mut self.terms);
        let fields = fields.map(|(field, terms)| field_put(field, terms, put, whole, &rows)).collect();
        let document = DocumentPut {
            id: delta.id.clone(),
            origin: (delta.origin.partition, delta.origin.offset),
            payload: put.document.payload.clone(),
            digest: put.digest.clone(),
            chunks: chunks(put),
            fields,
        };
        Ok(Some(RoutedChange { shard, change: ShardChange::Put(Box::new(document)) }))
    }
}

/// Row of the version before that a chunk's vector is taken from. `whole`: the index lacks that version.
fn kept(field: &VectorField, put: &DeltaPut, whole: bool, number: usize) -> Option<u32> {
    if whole || put.vectors_gone.contains(&field.spec.name) {
        return None;
    }
    put.kept[number]
}

fn field_put(
    field: &VectorField,
    terms: &mut KnownTerms,
    put: &DeltaPut,
    whole: bool,
    rows: &BTreeMap<usize, ModelRows>,
) -> FieldPut {
    let name = &field.spec.name;
    if let Some(vector) = put.document.vectors.get(name) {
        let kept = !whole && put.vectors_kept.get(name).copied().unwrap_or(false);
        return match vector {
            VectorValue::Sparse(_) if kept => FieldPut::KeepSparse,
            VectorValue::Sparse(vector) => FieldPut::Sparse(vector.clone()),
            VectorValue::Dense(_) | VectorValue::Multi(_) if kept => FieldPut::Rows(vec![RowPut::Keep(0)]),
            VectorValue::Dense(_) | VectorValue::Multi(_) => {
                field.given_row(vector).map_or(FieldPut::None, |row| FieldPut::Rows(vec![RowPut::New(row)]))
            }
        };
    }
    match &field.source {
        FieldSource::Given => FieldPut::None,
        FieldSource::Terms(_) if put.text_kept && !whole && !put.vectors_gone.contains(name) => {
            FieldPut::KeepSparse
        }
        FieldSource::Terms(analyzer) => {
            FieldPut::Sparse(analyzer.next_document(&put.document.whole(), terms))
        }
        FieldSource::Model(model) => {
            let embedded = rows.get(model);
            let row = |number: usize| match kept(field, put, whole, number) {
                Some(old) => Some(RowPut::Keep(old)),
                None => {
                    let number = u32::try_from(number).ok()?;
                    let embedding = embedded?.get(&number)?.as_ref().ok()?;
                    Some(RowPut::New(field.row(embedding)))
                }
            };
            let rows: Option<Vec<RowPut>> = (0..put.chunks.len()).map(row).collect();
            rows.map_or(FieldPut::None, FieldPut::Rows)
        }
    }
}

/// All chunks, with the characters at which they start.
fn chunks(put: &DeltaPut) -> Vec<Chunk> {
    // Starts ascend: each is counted on from the one before.
    let (mut byte, mut start) = (0, 0usize);
    let chunk = |&(from, to): &(usize, usize)| {
        start += put.document.text[byte..from].chars().count();
        byte = from;
        let text = put.document.text[from..to].to_owned();
        Chunk { start: u32::try_from(start).unwrap_or(u32::MAX), text }
    };
    put.chunks.iter().map(chunk).collect()
}

fn chunk(put: &DeltaPut, number: usize) -> &str {
    let (from, to) = put.chunks[number];
    &put.document.text[from..to]
}
