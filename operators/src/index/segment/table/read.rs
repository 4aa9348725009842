//! Tables into segments.

mod lists;
mod vectors;

use std::collections::BTreeSet;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, ListArray, RecordBatch, StringArray, UInt32Array};
use arrow::datatypes::{ArrowPrimitiveType, Int32Type, Int64Type, TimestampMillisecondType};
use bytes::Bytes;
use freshet_schemas::VectorKind;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use serde::de::IgnoredAny;

use super::schema::{self, Columns};
use super::source::{self, Source, Window};
use super::{TableError, guarded};
use crate::index::segment::{Begun, BuiltField, Field, Order, Restore, Room, Segment, SegmentSpec, Wanted};
use crate::index::{FieldSpec, Time};
use vectors::{Next, Vectors};

/// Most rows decoded at once.
const BATCH_ROWS: usize = 1024;
/// Bytes decoded at once, about, as Parquet counts them.
const BATCH_BYTES: usize = 8 << 20;
/// Key under which Arrow keeps its own schema.
const KEY_ARROW: &str = "ARROW:schema";

/// A table that was read.
pub struct Table {
    /// The segment.
    pub segment: Segment,
    /// What else the metadata says: what `about` was when it was written.
    pub about: Vec<(String, String)>,
}

/// Reads a table back: a segment of the same versions and vectors, with the same search results. What was sealed is sealed,
/// what was a head is to be sealed by who has the time. `built`: what `built` gave for the segment that was written; what is
/// missing of a sealed segment is built anew.
///
/// # Errors
/// Bytes that are torn, or a table or something built of another segment.
pub fn read<S: Source>(mut from: S, spec: &SegmentSpec, built: Vec<BuiltField>) -> Result<Table, TableError> {
    let columns = Columns::of(spec);
    let read = source::metadata(&mut from)?;
    let (order, about) = metadata(&read, spec)?;
    let footer = guarded(|| ArrowReaderMetadata::try_new(read, ArrowReaderOptions::new()))?;
    check_columns(&columns, &footer)?;
    let restore = Segment::restore(spec, order, built, &room(footer.metadata(), from.size()))?;
    let mut rows = Rows { columns: &columns, fields: &spec.fields, restore, chunk: 0, row: 0 };
    let leaves = leaves(&footer, &columns, &spec.fields, rows.restore.fields());
    let mask = ProjectionMask::leaves(footer.parquet_schema(), leaves);
    let batch_rows = batch_rows(footer.metadata());
    let (mut from_byte, mut bytes) = (0, Bytes::new());
    for group in 0..footer.metadata().num_row_groups() {
        // Nobody else holds the bytes of the group before any more: their room is used again.
        let room = Vec::from(std::mem::take(&mut bytes));
        let window = Window::read(&mut from, footer.metadata(), group, &mut from_byte, room)?;
        bytes = window.bytes();
        let mut vectors = rows.vectors(&window, footer.metadata(), group)?;
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(window, footer.clone());
        let builder = builder.with_row_groups(vec![group]).with_projection(mask.clone());
        let mut reader = guarded(|| builder.with_batch_size(batch_rows).build())?;
        while let Some(batch) = guarded(|| reader.next().transpose().map_err(ParquetError::from))? {
            rows.batch(&batch, &mut vectors)?;
        }
    }
    Ok(Table { segment: rows.restore.finish()?, about })
}

/// Checks that all columns that are read are there, and of the right types.
fn check_columns(columns: &Columns, footer: &ArrowReaderMetadata) -> Result<(), TableError> {
    for wanted in &columns.schema.fields()[..columns.read] {
        let wrong = |what| TableError::Column { column: wanted.name().clone(), what };
        let Some((_, found)) = footer.schema().fields().find(wanted.name()) else {
            let found: Vec<&str> =
                footer.schema().fields().iter().map(|field| field.name().as_str()).collect();
            return Err(wrong(format!("is missing, there are \"{}\"", found.join("\", \""))));
        };
        if found.data_type() != wanted.data_type() {
            let (found, wanted) = (found.data_type(), wanted.data_type());
            return Err(wrong(format!("is of type {found}, must be {wanted}")));
        }
    }
    Ok(())
}

/// The leaves of the columns that Arrow reads: not those of lists of numbers, nor those that are in what was built.
fn leaves(footer: &ArrowReaderMetadata, columns: &Columns, fields: &[FieldSpec], to: &[Field]) -> Vec<usize> {
    let names = columns.schema.fields()[..columns.read].iter().map(|column| column.name().as_str());
    let mut read: BTreeSet<&str> = names.collect();
    for (names, (spec, field)) in columns.vectors.iter().zip(fields.iter().zip(to)) {
        if spec.kind != VectorKind::Multi || field.wanted() == Wanted::Scales {
            read.remove(names.name.as_str());
        }
    }
    let leaves = footer.parquet_schema().columns().iter().enumerate();
    let leaves = leaves
        .filter(|(_, leaf)| leaf.path().parts().first().is_some_and(|root| read.contains(root.as_str())));
    leaves.map(|(number, _)| number).collect()
}

/// What the metadata says is about to come; no more than so many bytes may become.
fn room(of: &ParquetMetaData, bytes: u64) -> Room {
    /// Texts are some three times as long as what zstd makes of them.
    const LONGER_MAX: usize = 16;
    let most = usize::try_from(bytes).unwrap_or(usize::MAX);
    let rows = usize::try_from(of.file_metadata().num_rows()).unwrap_or(0).min(most);
    let long = |name| {
        let columns = of.row_groups().iter().flat_map(|group| group.columns());
        let columns = columns.filter(|column| column.column_path().parts() == [name]);
        let sizes = columns.map(|column| usize::try_from(column.uncompressed_size()).unwrap_or(0));
        sizes.fold(0, usize::saturating_add).min(most.saturating_mul(LONGER_MAX))
    };
    Room { rows, ids: long(schema::ID), payloads: long(schema::PAYLOAD), texts: long(schema::TEXT) }
}

/// Checks what the metadata says; the order of versions, and what is not ours.
fn metadata(of: &ParquetMetaData, spec: &SegmentSpec) -> Result<(Order, Vec<(String, String)>), TableError> {
    let pairs = of.file_metadata().key_value_metadata().map_or(&[][..], Vec::as_slice);
    let wrong = |key, what| TableError::Metadata { key, what };
    let get = |key: &'static str| {
        let pair = pairs.iter().find(|pair| pair.key == key);
        pair.and_then(|pair| pair.value.as_deref()).ok_or_else(|| wrong(key, "is missing".into()))
    };
    let format = get(schema::KEY_FORMAT)?;
    if format != schema::FORMAT {
        let what = format!("is \"{format}\", this version reads \"{}\"", schema::FORMAT);
        return Err(wrong(schema::KEY_FORMAT, what));
    }
    let refused = |what| wrong(schema::KEY_FIELDS, what);
    let found: Vec<FieldSpec> = serde_json::from_str(get(schema::KEY_FIELDS)?)
        .map_err(|error| refused(format!("is no list of vector fields: {error}")))?;
    if found != spec.fields {
        let (found, wanted) = (schema::fields_text(&found), schema::fields_text(&spec.fields));
        let (found, wanted) = (found.map_err(refused)?, wanted.map_err(refused)?);
        return Err(refused(format!("is {found}, must be {wanted}")));
    }
    let order = match get(schema::KEY_ORDER)? {
        "id" => Order::Id,
        "birth" => Order::Birth,
        other => {
            let what = format!("is \"{other}\", must be \"id\" or \"birth\"");
            return Err(wrong(schema::KEY_ORDER, what));
        }
    };
    let ours = [schema::KEY_FORMAT, schema::KEY_FIELDS, schema::KEY_PAYLOAD, schema::KEY_ORDER, KEY_ARROW];
    let others = pairs.iter().filter(|pair| !ours.contains(&pair.key.as_str()));
    let about = others.map(|pair| (pair.key.clone(), pair.value.clone().unwrap_or_default()));
    Ok((order, about.collect()))
}

/// Rows to decode at once.
fn batch_rows(of: &ParquetMetaData) -> usize {
    let bytes: i64 =
        of.row_groups().iter().map(|group| group.total_byte_size().max(0)).fold(0, i64::saturating_add);
    let rows: i64 = of.row_groups().iter().map(|group| group.num_rows().max(0)).fold(0, i64::saturating_add);
    let per_row = (bytes / rows.max(1)).max(1) as usize;
    (BATCH_BYTES / per_row).clamp(1, BATCH_ROWS)
}

/// Rows on their way from Parquet.
struct Rows<'a> {
    columns: &'a Columns,
    fields: &'a [FieldSpec],
    restore: Restore,
    /// Number that the next row has in its version, unless it begins one.
    chunk: i32,
    /// Number of the next row.
    row: usize,
}

impl Rows<'_> {
    /// Where the vectors of a row group come from.
    fn vectors(
        &mut self,
        window: &Window,
        metadata: &ParquetMetaData,
        group: usize,
    ) -> Result<Vec<Vectors>, TableError> {
        let group = metadata.row_group(group);
        let fields = self.columns.vectors.iter().zip(self.fields).zip(self.restore.fields());
        let vectors =
            fields.map(|((names, spec), field)| Vectors::open(window, group, names, spec, field.wanted()));
        vectors.collect()
    }

    fn batch(&mut self, columns: &RecordBatch, vectors: &mut [Vectors]) -> Result<(), TableError> {
        let batch = Batch::of(columns)?;
        for row in 0..batch.rows {
            let at = self.row + row;
            match batch.chunks[row] {
                0 => self.restore.begin(batch.begun(row, at)?)?,
                chunk if chunk != self.chunk || self.chunk == 0 => {
                    let what = format!("is {chunk}, must be {} or 0", self.chunk);
                    return Err(wrong(at, schema::CHUNK, what));
                }
                _ => {}
            }
            self.chunk = batch.chunks[row].saturating_add(1);
            self.text(&batch, row, at)?;
        }
        let next = Next { row: self.row, chunks: batch.chunks, batch: columns };
        let fields = self.fields.iter().zip(self.restore.fields());
        for ((vectors, names), (spec, field)) in vectors.iter_mut().zip(&self.columns.vectors).zip(fields) {
            vectors.add(&next, names, spec, field)?;
        }
        self.row += batch.rows;
        Ok(())
    }

    /// Adds the text of a row to its version.
    fn text(&mut self, batch: &Batch<'_>, row: usize, at: usize) -> Result<(), TableError> {
        let (found, wanted) = (batch.ids.value(row), self.restore.last_id().unwrap_or_default());
        if found != wanted {
            return Err(wrong(at, schema::ID, format!("is \"{found}\", must be \"{wanted}\" as in chunk 0")));
        }
        if batch.texts.is_null(row) {
            return Ok(());
        }
        let before = self.restore.last_chunks();
        follows(before, batch.chunks[row]).map_err(|what| wrong(at, schema::TEXT, what))?;
        if batch.starts.is_null(row) {
            return Err(wrong(at, schema::START, "is null, must be there with the text".into()));
        }
        Ok(self.restore.chunk(batch.starts.value(row), batch.texts.value(row))?)
    }
}

/// Whether so many before it make a text or vector the one of a chunk.
fn follows(before: usize, chunk: i32) -> Result<(), String> {
    match usize::try_from(chunk) == Ok(before) {
        true => Ok(()),
        false => Err(format!("is there, but chunk {before} has none")),
    }
}

/// The columns of some rows.
struct Batch<'a> {
    ids: &'a StringArray,
    chunks: &'a [i32],
    starts: &'a UInt32Array,
    texts: &'a StringArray,
    payloads: &'a StringArray,
    partitions: &'a [i32],
    offsets: &'a [i64],
    births: &'a [i64],
    digests: &'a BinaryArray,
    rows: usize,
}

impl<'a> Batch<'a> {
    fn of(batch: &'a RecordBatch) -> Result<Self, TableError> {
        let column = |name: &str| {
            let missing = || column_is(name, "is missing");
            batch.column_by_name(name).ok_or_else(missing)
        };
        let full = |name: &str| match column(name)? {
            column if column.null_count() > 0 => Err(column_is(name, "has nulls, may have none")),
            column => Ok(column),
        };
        let texts = |name: &'static str, column: &'a ArrayRef| {
            column.as_string_opt::<i32>().ok_or_else(|| column_is(name, "is not of texts"))
        };
        let bytes = |column: &'a ArrayRef| {
            column.as_binary_opt::<i32>().ok_or_else(|| column_is(schema::DIGEST, "is not of bytes"))
        };
        Ok(Self {
            ids: texts(schema::ID, full(schema::ID)?)?,
            chunks: primitive::<Int32Type>(schema::CHUNK, full(schema::CHUNK)?)?,
            starts: column(schema::START)?
                .as_primitive_opt()
                .ok_or_else(|| column_is(schema::START, "is not of numbers as wanted"))?,
            texts: texts(schema::TEXT, column(schema::TEXT)?)?,
            payloads: texts(schema::PAYLOAD, full(schema::PAYLOAD)?)?,
            partitions: primitive::<Int32Type>(schema::PARTITION, full(schema::PARTITION)?)?,
            offsets: primitive::<Int64Type>(schema::OFFSET, full(schema::OFFSET)?)?,
            births: primitive::<TimestampMillisecondType>(schema::BORN, full(schema::BORN)?)?,
            digests: bytes(column(schema::DIGEST)?)?,
            rows: batch.num_rows(),
        })
    }

    /// The version that begins in a row.
    fn begun(&self, row: usize, at: usize) -> Result<Begun<'a>, TableError> {
        let payload = self.payloads.value(row);
        if let Err(error) = serde_json::from_str::<IgnoredAny>(payload) {
            return Err(wrong(at, schema::PAYLOAD, format!("is no JSON: {error}")));
        }
        if self.digests.is_null(row) {
            return Err(wrong(at, schema::DIGEST, "is null, must be there in chunk 0".into()));
        }
        let born = self.births[row];
        let born = Time::try_from(born).map_err(|_| {
            wrong(at, schema::BORN, format!("is {born} ms since the epoch, must not be negative"))
        })?;
        let origin = (self.partitions[row], self.offsets[row]);
        Ok(Begun { id: self.ids.value(row), born, origin, payload, digest: self.digests.value(row) })
    }
}

fn list<'a>(name: &str, column: &'a ArrayRef) -> Result<&'a ListArray, TableError> {
    column.as_list_opt::<i32>().ok_or_else(|| column_is(name, "is not of lists"))
}

fn primitive<'a, T: ArrowPrimitiveType>(
    name: &str,
    column: &'a ArrayRef,
) -> Result<&'a [T::Native], TableError> {
    match column.as_primitive_opt::<T>() {
        Some(values) => Ok(values.values()),
        None => Err(column_is(name, "is not of numbers as wanted")),
    }
}

fn column_is(name: &str, what: &str) -> TableError {
    TableError::Column { column: name.to_owned(), what: what.to_owned() }
}

fn wrong(row: usize, column: &str, what: String) -> TableError {
    TableError::Value { row, column: column.to_owned(), what }
}
