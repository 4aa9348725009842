//! Changes of one time: checked whole, then done whole.

use std::collections::{BTreeSet, VecDeque};

use super::{Document, NEVER, Shard, Version};
use crate::index::old::rows::{NewVector, Row, VectorRef};
use crate::index::{DocumentPut, FieldPut, IndexError, RowPut, ShardChange, Time};

/// Rows stored that no version names yet: field and row. Given back if what they belong to cannot be stored whole.
type Stored = Vec<(usize, Row)>;

impl Shard {
    /// Applies the changes of a time, removals first. Times ascend strictly; a document changes once per time. On an
    /// error nothing has changed.
    ///
    /// # Errors
    /// A change that does not fit what is there, or FAISS failing.
    pub fn apply(&mut self, time: Time, changes: Vec<ShardChange>) -> Result<(), IndexError> {
        if let Some(applied) = self.applied.filter(|&applied| applied >= time) {
            return Err(IndexError::Order { time, applied });
        }
        self.validate(&changes)?;
        let (mut removals, mut puts) = (Vec::new(), Vec::new());
        for change in changes {
            match change {
                ShardChange::Remove { id } => removals.push(id),
                ShardChange::Put(put) => puts.push(*put),
            }
        }
        let mut stored = Stored::new();
        let versions: Result<Vec<_>, _> =
            puts.into_iter().map(|put| self.version(time, put, &mut stored)).collect();
        let versions = match versions {
            Ok(versions) => versions,
            Err(error) => {
                stored.into_iter().for_each(|(field, row)| self.fields[field].index.free(row));
                return Err(error);
            }
        };
        let mut size = self.counters_documents();
        for id in removals {
            size -= usize::from(self.end(&id, time));
        }
        for (id, version) in versions {
            size += usize::from(!self.end(&id, time));
            self.begin(id, version);
        }
        self.sizes.push_back((time, size));
        self.applied = Some(time);
        Ok(())
    }

    fn counters_documents(&self) -> usize {
        self.sizes.back().map_or(0, |(_, size)| *size)
    }

    fn validate(&self, changes: &[ShardChange]) -> Result<(), IndexError> {
        let mut seen = BTreeSet::new();
        for change in changes {
            let id = match change {
                ShardChange::Remove { id } => id,
                ShardChange::Put(put) => &put.id,
            };
            if !seen.insert(id) {
                return Err(IndexError::Unknown { id: id.clone(), what: "changes twice at one time".into() });
            }
            match change {
                ShardChange::Remove { id } if self.newest(id).is_none() => {
                    return Err(IndexError::Unknown {
                        id: id.clone(),
                        what: "is to be removed and not there".into(),
                    });
                }
                ShardChange::Remove { .. } => {}
                ShardChange::Put(put) => self.validate_put(put)?,
            }
        }
        Ok(())
    }

    fn validate_put(&self, put: &DocumentPut) -> Result<(), IndexError> {
        let misfit =
            |field: &str, what: String| IndexError::Misfit { id: put.id.clone(), field: field.into(), what };
        if put.fields.len() != self.fields.len() {
            let what = format!("comes with {} fields, index has {}", put.fields.len(), self.fields.len());
            return Err(misfit("*", what));
        }
        for (number, (field, change)) in self.fields.iter().zip(&put.fields).enumerate() {
            let fits = |vector| field.index.fits(vector).map_err(|what| misfit(&field.spec.name, what));
            let sparse = field.spec.kind == freshet_schemas::VectorKind::Sparse;
            match change {
                FieldPut::None => {}
                FieldPut::Sparse(vector) => fits(VectorRef::Sparse(vector))?,
                FieldPut::KeepSparse if !sparse => fits(VectorRef::Sparse(&Default::default()))?,
                FieldPut::KeepSparse => self.kept(&put.id, number, 0).map(drop)?,
                FieldPut::Rows(_) if sparse => {
                    return Err(misfit(&field.spec.name, "has rows, field is sparse".into()));
                }
                FieldPut::Rows(rows) => {
                    for row in rows {
                        match row {
                            RowPut::Keep(old) => drop(self.kept(&put.id, number, *old)?),
                            RowPut::New(vector) => fits(VectorRef::from(vector))?,
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// The row that a document's newest version has for a chunk.
    fn kept(&self, id: &str, field: usize, number: u32) -> Result<Row, IndexError> {
        let rows = self.newest(id).map(|version| &version.rows[field]);
        rows.and_then(|rows| rows.get(number as usize)).copied().ok_or_else(|| IndexError::Unknown {
            id: id.to_owned(),
            what: format!(
                "shall keep row {number} of field \"{}\", which it does not have",
                self.fields[field].spec.name
            ),
        })
    }

    /// Stores the new vectors of a document, without showing them yet.
    fn version(
        &mut self,
        time: Time,
        put: DocumentPut,
        stored: &mut Stored,
    ) -> Result<(String, Version), IndexError> {
        let mut rows = Vec::with_capacity(put.fields.len());
        for (number, change) in put.fields.into_iter().enumerate() {
            let changes = match change {
                FieldPut::None => Vec::new(),
                FieldPut::Rows(rows) => rows.into_iter().map(NewRow::from).collect(),
                FieldPut::Sparse(vector) => vec![NewRow::Store(NewVector::Sparse(vector))],
                FieldPut::KeepSparse => vec![NewRow::Keep(0)],
            };
            let mut of_field = Vec::with_capacity(changes.len());
            for change in changes {
                of_field.push(match change {
                    NewRow::Keep(old) => self.kept(&put.id, number, old)?,
                    NewRow::Store(vector) => {
                        let row = self.fields[number].index.insert(vector)?;
                        stored.push((number, row));
                        row
                    }
                });
            }
            rows.push(of_field);
        }
        let DocumentPut { id, origin, payload, chunks, .. } = put;
        Ok((id, Version { born: time, died: NEVER, origin, payload, chunks, rows }))
    }

    /// Ends a document's newest version, and the rows with it; false if there is none.
    fn end(&mut self, id: &str, time: Time) -> bool {
        let Some(&slot) = self.slots.get(id) else { return false };
        let newest =
            self.documents[slot as usize].versions.back_mut().filter(|version| version.died == NEVER);
        let Some(version) = newest else { return false };
        version.died = time;
        for (field, rows) in self.fields.iter_mut().zip(&version.rows) {
            rows.iter().for_each(|&row| field.table.end(row, time));
        }
        self.ended.push_back((time, slot));
        true
    }

    /// Shows a new version; the rows it shares with the one before live on.
    fn begin(&mut self, id: String, version: Version) {
        let slot = match self.slots.get(&id) {
            Some(&slot) => slot,
            None => self.place(id),
        };
        let before = self.documents[slot as usize].versions.back();
        for (number, field) in self.fields.iter_mut().enumerate() {
            let shared = before.map(|version| version.rows[number].as_slice()).unwrap_or_default();
            for &row in &version.rows[number] {
                match shared.contains(&row) {
                    true => field.table.end(row, NEVER),
                    false => field.table.claim(row, slot, version.born),
                }
            }
        }
        self.documents[slot as usize].versions.push_back(version);
    }

    /// A place for a new document.
    fn place(&mut self, id: String) -> u32 {
        let document = Document { id: id.clone(), versions: VecDeque::new() };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.documents[slot as usize] = document;
                slot
            }
            None => {
                self.documents.push(document);
                u32::try_from(self.documents.len() - 1).unwrap_or(u32::MAX)
            }
        };
        self.slots.insert(id, slot);
        slot
    }
}

/// A row of a new version.
enum NewRow {
    Keep(u32),
    Store(NewVector),
}

impl From<RowPut> for NewRow {
    fn from(put: RowPut) -> Self {
        match put {
            RowPut::Keep(old) => Self::Keep(old),
            RowPut::New(vector) => Self::Store(NewVector::Row(vector)),
        }
    }
}
