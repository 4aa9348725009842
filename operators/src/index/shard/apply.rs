//! Changes of one time: checked whole, then done.

use std::collections::BTreeSet;
use std::sync::Arc;

use freshet_schemas::VectorKind;

use super::{Part, Place, Shard};
use crate::index::check;
use crate::index::rows::Row;
use crate::index::segment::{NewVersion, Version};
use crate::index::{DocumentPut, FieldPut, IndexError, RowPut, RowVector, ShardChange, Time};

impl Shard {
    /// Applies the changes of a time. Times ascend strictly; a document changes once per time. Then takes in what has
    /// been built meanwhile, and begins what is to be built next.
    ///
    /// # Errors
    /// A change that does not fit what is there: nothing has changed then. FAISS or a build failing: the shard is of no
    /// use then.
    pub fn apply(&mut self, time: Time, changes: Vec<ShardChange>) -> Result<(), IndexError> {
        if let Some(applied) = self.applied.filter(|&applied| applied >= time) {
            return Err(IndexError::Order { time, applied });
        }
        let living = self.validate(&changes)?;
        let mut size = self.documents();
        for (change, living) in changes.into_iter().zip(living) {
            match change {
                ShardChange::Remove { .. } => size -= 1,
                ShardChange::Put(put) => {
                    size += usize::from(living.is_none());
                    let version = self.version(*put, living)?;
                    self.write(&version, time)?;
                }
            }
            if let Some((part, version)) = living {
                self.parts[part].end(version, time);
            }
        }
        self.sizes.push_back((time, size));
        self.applied = Some(time);
        self.upkeep(false)
    }

    /// Checks changes; where the living version of each document is.
    fn validate(&self, changes: &[ShardChange]) -> Result<Vec<Option<Place>>, IndexError> {
        let mut seen = BTreeSet::new();
        let mut living = Vec::with_capacity(changes.len());
        for change in changes {
            let id = match change {
                ShardChange::Remove { id } => id,
                ShardChange::Put(put) => &put.id,
            };
            let unknown = |what: &str| IndexError::Unknown { id: id.clone(), what: what.into() };
            if !seen.insert(id) {
                return Err(unknown("changes twice at one time"));
            }
            let place = self.living(id);
            match change {
                ShardChange::Remove { .. } if place.is_none() => {
                    return Err(unknown("is to be removed and not there"));
                }
                ShardChange::Remove { .. } => {}
                ShardChange::Put(put) => self.validate_put(put, place)?,
            }
            living.push(place);
        }
        Ok(living)
    }

    fn validate_put(&self, put: &DocumentPut, living: Option<Place>) -> Result<(), IndexError> {
        let misfit =
            |field: &str, what: String| IndexError::Misfit { id: put.id.clone(), field: field.into(), what };
        if put.fields.len() != self.spec.fields.len() {
            let what =
                format!("comes with {} fields, index has {}", put.fields.len(), self.spec.fields.len());
            return Err(misfit("*", what));
        }
        for (number, (spec, change)) in self.spec.fields.iter().zip(&put.fields).enumerate() {
            let unfit = |what| misfit(&spec.name, what);
            match change {
                FieldPut::None => {}
                FieldPut::Sparse(vector) => check::fits_sparse(spec, vector).map_err(unfit)?,
                FieldPut::KeepSparse if spec.kind != VectorKind::Sparse => {
                    check::fits_sparse(spec, &Default::default()).map_err(unfit)?;
                }
                FieldPut::KeepSparse => self.kept(&put.id, living, number, 0).map(drop)?,
                FieldPut::Rows(rows) => {
                    for row in rows {
                        match row {
                            RowPut::Keep(old) => drop(self.kept(&put.id, living, number, *old)?),
                            RowPut::New(vector) => check::fits(spec, vector).map_err(unfit)?,
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Where the vector lies that a document's living version has for a chunk: part and row.
    fn kept(
        &self,
        id: &str,
        living: Option<Place>,
        field: usize,
        number: u32,
    ) -> Result<(usize, Row), IndexError> {
        let found = living.and_then(|(part, version)| {
            let row = self.parts[part].segment.fields()[field].layout.rows(version).nth(number as usize)?;
            Some((part, row))
        });
        found.ok_or_else(|| IndexError::Unknown {
            id: id.to_owned(),
            what: format!(
                "shall keep row {number} of field \"{}\", which it does not have",
                self.spec.fields[field].name
            ),
        })
    }

    /// A new version with all its vectors, those it keeps copied from the version before.
    fn version(&self, put: DocumentPut, living: Option<Place>) -> Result<NewVersion, IndexError> {
        let DocumentPut { id, origin, payload, digest, chunks, fields } = put;
        let copy = |field: usize, old: u32| -> Result<RowVector, IndexError> {
            let (part, row) = self.kept(&id, living, field, old)?;
            Ok(self.parts[part].segment.fields()[field].rows.vector(row))
        };
        let mut vectors = Vec::with_capacity(fields.len());
        for (field, change) in fields.into_iter().enumerate() {
            vectors.push(match change {
                FieldPut::None => Vec::new(),
                FieldPut::Sparse(vector) => vec![RowVector::Sparse(vector)],
                FieldPut::KeepSparse => vec![copy(field, 0)?],
                FieldPut::Rows(rows) => {
                    let row = |row| match row {
                        RowPut::Keep(old) => copy(field, old),
                        RowPut::New(vector) => Ok(vector),
                    };
                    rows.into_iter().map(row).collect::<Result<_, _>>()?
                }
            });
        }
        Ok(NewVersion { id, origin, payload, digest, chunks, fields: vectors })
    }

    /// Writes a version to the head.
    fn write(&mut self, version: &NewVersion, time: Time) -> Result<Version, IndexError> {
        if self.head_is_full() {
            self.freeze()?;
        }
        let Some(Part { segment, marks, passed, bytes, .. }) = self.parts.last_mut() else {
            return Err(IndexError::Build("a shard without a head".into()));
        };
        let Some(head) = Arc::get_mut(segment) else {
            return Err(IndexError::Build("a head that is being read elsewhere".into()));
        };
        let number = head.push(version, time)?;
        marks.push(time);
        passed.forget();
        *bytes += version.bytes();
        Ok(number)
    }
}
