//! What an upsert changes: the difference between two states of a document.

use std::collections::BTreeMap;

use freshet_schemas::{Document, Record};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use crate::message::{DeltaPut, DocumentDelta, DocumentRecord, Origin};

/// All that is remembered of a document: hashes, never text or vectors.
///
/// The order of two states has no meaning; differential needs one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DocumentState {
    /// Hash of the text.
    pub text: u128,
    /// Hash of the title.
    pub title: u128,
    /// Hash of the payload.
    pub payload: u128,
    /// Hash per chunk of what models read of it, in order: the title and its text.
    pub chunks: Vec<u128>,
    /// Hash per precomputed vector, by field.
    pub vectors: BTreeMap<String, u128>,
}

impl DocumentState {
    /// The state of a document split at `chunks` (byte ranges of its text).
    pub fn of(document: &Document, chunks: &[(usize, usize)]) -> Self {
        let vectors = document.vectors.iter().map(|(name, vector)| {
            // Vectors are plain numbers: they always serialise.
            let bytes = serde_json::to_vec(vector).unwrap_or_default();
            (name.clone(), xxh3_128(&bytes))
        });
        let title = xxh3_128(document.title.as_bytes());
        Self {
            text: xxh3_128(document.text.as_bytes()),
            title,
            payload: xxh3_128(document.payload.as_bytes()),
            chunks: chunks.iter().map(|&(from, to)| chunk_hash(title, &document.text[from..to])).collect(),
            vectors: vectors.collect(),
        }
    }

    /// Whether text and title are as they were.
    fn reads_as(&self, other: &Self) -> bool {
        (self.text, self.title) == (other.text, other.title)
    }
}

/// Hash of what models read of a chunk.
fn chunk_hash(title: u128, text: &str) -> u128 {
    let mut hash = Xxh3::new();
    hash.update(&title.to_le_bytes());
    hash.update(text.as_bytes());
    hash.digest128()
}

/// A digest that is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a digest of {0} bytes is not one")]
pub struct DigestError(usize);

impl DocumentState {
    /// What cannot be computed again from payload and chunks: the hashes of text and title, 16 bytes each, then per
    /// precomputed vector the length of its field's name, the name, and its hash. Little-endian.
    pub fn digest(&self) -> Vec<u8> {
        let mut digest = self.text.to_le_bytes().to_vec();
        digest.extend_from_slice(&self.title.to_le_bytes());
        for (name, hash) in &self.vectors {
            // Names have at most 64 bytes: the configuration sees to it.
            digest.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
            digest.extend_from_slice(name.as_bytes());
            digest.extend_from_slice(&hash.to_le_bytes());
        }
        digest
    }

    /// The state of a version that is known by its digest, payload and chunks.
    ///
    /// # Errors
    /// A digest that is not one.
    pub fn restore<'a>(
        digest: &[u8],
        payload: &str,
        chunks: impl Iterator<Item = &'a str>,
    ) -> Result<Self, DigestError> {
        let wrong = DigestError(digest.len());
        let (text, rest) = digest.split_first_chunk().ok_or(wrong)?;
        let (title, mut rest) = rest.split_first_chunk().ok_or(wrong)?;
        let title = u128::from_le_bytes(*title);
        let mut vectors = BTreeMap::new();
        while let Some((&length, behind)) = rest.split_first() {
            let (name, behind) = behind.split_at_checked(usize::from(length)).ok_or(wrong)?;
            let (hash, behind) = behind.split_first_chunk().ok_or(wrong)?;
            let name = std::str::from_utf8(name).map_err(|_| wrong)?;
            vectors.insert(name.to_owned(), u128::from_le_bytes(*hash));
            rest = behind;
        }
        Ok(Self {
            text: u128::from_le_bytes(*text),
            title,
            payload: xxh3_128(payload.as_bytes()),
            chunks: chunks.map(|chunk| chunk_hash(title, chunk)).collect(),
            vectors,
        })
    }
}

/// The last record of each document within one tick.
///
/// Later offsets of a partition win. Records of one document in two partitions have no common order: the higher
/// partition wins within a tick, the later tick between ticks.
#[derive(Debug, Default)]
pub struct Latest {
    records: BTreeMap<String, DocumentRecord>,
}

impl Latest {
    /// Takes a record into account.
    pub fn push(&mut self, record: DocumentRecord) {
        let order = |origin: &Origin| (origin.partition, origin.offset);
        match self.records.get(&record.id) {
            Some(known) if order(&known.origin) > order(&record.origin) => {}
            _ => drop(self.records.insert(record.id.clone(), record)),
        }
    }

    /// The last record of each document, by id.
    pub fn into_records(self) -> impl Iterator<Item = DocumentRecord> {
        self.records.into_values()
    }
}

/// The new state of a document, with what its records said.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Body {
    /// Where the record was read.
    pub origin: Origin,
    /// Document id.
    pub id: String,
    /// Document and the byte ranges of its chunks; `None` for a delete.
    pub document: Option<(Document, Vec<(usize, usize)>)>,
    /// The record itself.
    pub record: Record,
}

/// The change from `old` to `new`; `None` if nothing changes.
///
/// A chunk is kept if a chunk of the old version has the same text under the same title, wherever it stood; each old chunk serves one new
/// chunk, the first come first.
pub fn delta(body: Body, old: Option<&DocumentState>, new: Option<&DocumentState>) -> Option<DocumentDelta> {
    let put = match (new, body.document) {
        (Some(new), Some((document, chunks))) => {
            let mut known: BTreeMap<u128, Vec<u32>> = BTreeMap::new();
            for (number, &hash) in (0u32..).zip(old.map_or(&[][..], |old| &old.chunks)) {
                known.entry(hash).or_default().push(number);
            }
            known.values_mut().for_each(|numbers| numbers.reverse());
            let kept = new.chunks.iter().map(|hash| known.get_mut(hash).and_then(Vec::pop)).collect();
            let unchanged = |(name, hash): (&String, &u128)| {
                (name.clone(), old.is_some_and(|old| old.vectors.get(name) == Some(hash)))
            };
            Some(Box::new(DeltaPut {
                chunks,
                kept,
                digest: new.digest(),
                text_kept: old.is_some_and(|old| old.reads_as(new)),
                vectors_kept: new.vectors.iter().map(unchanged).collect(),
                vectors_gone: old.map_or_else(Vec::new, |old| {
                    old.vectors.keys().filter(|name| !new.vectors.contains_key(*name)).cloned().collect()
                }),
                document,
            }))
        }
        _ => None,
    };
    if put.is_none() && old.is_none() {
        return None;
    }
    Some(DocumentDelta { origin: body.origin, id: body.id, existed: old.is_some(), put, record: body.record })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(text: &str, payload: &str) -> Document {
        Document {
            id: "a".into(),
            title: String::new(),
            text: text.into(),
            payload: payload.into(),
            vectors: BTreeMap::new(),
        }
    }

    fn record(partition: i32, offset: i64, text: &str) -> DocumentRecord {
        let origin = Origin { worker: 0, partition, offset };
        DocumentRecord {
            origin,
            id: "a".into(),
            document: Some(document(text, "{}")),
            record: Record::default(),
        }
    }

    fn body(document: Option<(Document, Vec<(usize, usize)>)>) -> Body {
        let origin = Origin { worker: 0, partition: 0, offset: 9 };
        Body { origin, id: "a".into(), document, record: Record::default() }
    }

    #[test]
    fn last_offset_wins_in_any_order_of_arrival() {
        for order in [[1, 2, 3], [3, 2, 1], [2, 3, 1]] {
            let mut latest = Latest::default();
            order.into_iter().for_each(|offset| latest.push(record(0, offset, &offset.to_string())));
            let found: Vec<_> = latest.into_records().map(|r| r.origin.offset).collect();
            assert_eq!(found, [3]);
        }
    }

    #[test]
    fn a_state_is_restored_from_what_a_version_keeps() {
        let mut document = document("one two ", r#"{"stars":1}"#);
        let vector = freshet_schemas::VectorValue::Dense(vec![1.0, 2.0]);
        document.vectors.insert("image".into(), vector);
        document.title = "Numbers".into();
        let state = DocumentState::of(&document, &[(0, 4), (4, 8)]);
        let digest = state.digest();
        let restore =
            |digest: &[u8]| DocumentState::restore(digest, &document.payload, ["one ", "two "].into_iter());
        assert_eq!(restore(&digest), Ok(state));
        for end in [0, 15, 17, 31, 33, digest.len() - 1] {
            assert_eq!(restore(&digest[..end]), Err(DigestError(end)));
        }
    }

    #[test]
    fn only_changed_chunks_are_new() {
        let (old, new) = (document("one two ", "{}"), document("two six one ", "{}"));
        let (old_chunks, new_chunks) = (vec![(0, 4), (4, 8)], vec![(0, 4), (4, 8), (8, 12)]);
        let (old_state, new_state) =
            (DocumentState::of(&old, &old_chunks), DocumentState::of(&new, &new_chunks));
        let change = delta(body(Some((new, new_chunks))), Some(&old_state), Some(&new_state)).unwrap();
        let put = change.put.unwrap();
        assert_eq!(put.kept, [Some(1), None, Some(0)]);
        assert!(!put.text_kept && change.existed);
    }

    #[test]
    fn another_title_keeps_nothing_that_was_read() {
        let chunks = vec![(0, 4), (4, 8)];
        let old = document("one two ", "{}");
        let new = Document { title: "Numbers".into(), ..old.clone() };
        let (old_state, new_state) = (DocumentState::of(&old, &chunks), DocumentState::of(&new, &chunks));
        let put = delta(body(Some((new, chunks))), Some(&old_state), Some(&new_state)).unwrap().put.unwrap();
        assert_eq!(put.kept, [None, None]);
        assert!(!put.text_kept);
    }

    #[test]
    fn payload_only_update_keeps_everything() {
        let chunks = vec![(0, 4)];
        let (old, new) = (document("one ", "{}"), document("one ", r#"{"stars":1}"#));
        let (old_state, new_state) = (DocumentState::of(&old, &chunks), DocumentState::of(&new, &chunks));
        assert_ne!(old_state, new_state);
        let put = delta(body(Some((new, chunks))), Some(&old_state), Some(&new_state)).unwrap().put.unwrap();
        assert!(put.text_kept);
        assert_eq!(put.kept, [Some(0)]);
    }

    #[test]
    fn deleting_what_is_not_there_changes_nothing() {
        assert!(delta(body(None), None, None).is_none());
    }
}
