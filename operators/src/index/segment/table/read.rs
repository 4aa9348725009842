//! Tables into segments.

use std::collections::BTreeSet;
use std::ops::Range;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, FixedSizeListArray, ListArray, RecordBatch, StringArray,
    UInt32Array,
};
use arrow::datatypes::ArrowPrimitiveType;
use arrow::datatypes::{Float32Type, Int8Type, Int32Type, Int64Type, TimestampMillisecondType, UInt64Type};
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
    let leaves = leaves(&footer, &columns, rows.restore.fields());
    let mask = ProjectionMask::leaves(footer.parquet_schema(), leaves);
    let batch_rows = batch_rows(footer.metadata());
    let (mut from_byte, mut bytes) = (0, Bytes::new());
    for group in 0..footer.metadata().num_row_groups() {
        // Nobody else holds the bytes of the group before any more: their room is used again.
        let room = Vec::from(std::mem::take(&mut bytes));
        let window = Window::read(&mut from, footer.metadata(), group, &mut from_byte, room)?;
        bytes = window.bytes();
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(window, footer.clone());
        let builder = builder.with_row_groups(vec![group]).with_projection(mask.clone());
        let mut reader = guarded(|| builder.with_batch_size(batch_rows).build())?;
        while let Some(batch) = guarded(|| reader.next().transpose().map_err(ParquetError::from))? {
            rows.batch(&batch)?;
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

/// The leaves of the columns that are read, without what is in what was built.
fn leaves(footer: &ArrowReaderMetadata, columns: &Columns, fields: &[Field]) -> Vec<usize> {
    let read: BTreeSet<&str> =
        columns.schema.fields()[..columns.read].iter().map(|column| column.name().as_str()).collect();
    let mut left = BTreeSet::new();
    for (names, field) in columns.vectors.iter().zip(fields) {
        match field.wanted() {
            Wanted::Vectors => {}
            Wanted::Weights => drop(left.insert((names.name.as_str(), schema::TERM))),
            Wanted::Scales => drop(left.insert((names.name.as_str(), schema::ELEMENT))),
        }
    }
    let leaves = footer.parquet_schema().columns().iter().enumerate().filter(|(_, leaf)| {
        let path = leaf.path().parts();
        let (root, last) = (path.first().map_or("", String::as_str), path.last().map_or("", String::as_str));
        read.contains(root) && !left.contains(&(root, last))
    });
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
    fn batch(&mut self, batch: &RecordBatch) -> Result<(), TableError> {
        let batch = Batch::of(self.columns, self.fields, batch)?;
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
        for ((vectors, names), (spec, field)) in
            batch.vectors.iter().zip(&self.columns.vectors).zip(self.fields.iter().zip(self.restore.fields()))
        {
            let wrong = |row, what| wrong(self.row + row, names.name.as_str(), what);
            vectors.add(batch.chunks, spec, field).map_err(|(row, what)| wrong(row, what))?;
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
    vectors: Vec<Vectors<'a>>,
    rows: usize,
}

/// The vectors of a field.
enum Vectors<'a> {
    Dense {
        lists: &'a FixedSizeListArray,
        values: &'a [f32],
    },
    Sparse {
        lists: &'a ListArray,
        /// None where they are not wanted.
        terms: Option<&'a [u64]>,
        weights: &'a [f32],
    },
    Multi {
        /// None where they are not wanted.
        tokens: Option<Tokens<'a>>,
        scales: &'a ListArray,
        each: &'a [f32],
    },
}

/// The codes of token vectors.
struct Tokens<'a> {
    /// Tokens of a row.
    lists: &'a ListArray,
    /// Codes of a token.
    codes: &'a ListArray,
    values: &'a [i8],
}

impl<'a> Batch<'a> {
    fn of(columns: &Columns, fields: &[FieldSpec], batch: &'a RecordBatch) -> Result<Self, TableError> {
        let column = |name: &str| {
            let missing = || column_is(name, "is missing");
            batch.column_by_name(name).ok_or_else(missing)
        };
        let full = |name: &str| match column(name)? {
            column if column.null_count() > 0 => Err(column_is(name, "has nulls, may have none")),
            column => Ok(column),
        };
        let mut vectors = Vec::with_capacity(fields.len());
        for (field, names) in fields.iter().zip(&columns.vectors) {
            let name = names.name.as_str();
            vectors.push(match (field.kind, &names.scales) {
                (VectorKind::Dense, _) => {
                    let unlike = || column_is(name, "is not of dense vectors");
                    let lists = column(name)?.as_fixed_size_list_opt().ok_or_else(unlike)?;
                    Vectors::Dense { lists, values: primitive::<Float32Type>(name, lists.values())? }
                }
                (VectorKind::Sparse, _) => {
                    let lists = list(name, column(name)?)?;
                    let unlike = || column_is(name, "is not of sparse vectors");
                    let pairs = lists.values().as_struct_opt().ok_or_else(unlike)?;
                    let terms = pairs.column_by_name(schema::TERM);
                    let terms = terms.map(|terms| primitive::<UInt64Type>(name, terms)).transpose()?;
                    let weights = pairs.column_by_name(schema::WEIGHT).ok_or_else(unlike)?;
                    Vectors::Sparse { lists, terms, weights: primitive::<Float32Type>(name, weights)? }
                }
                (VectorKind::Multi, scales) => {
                    let tokens = batch.column_by_name(name);
                    let tokens = tokens.map(|column| Tokens::of(name, column)).transpose()?;
                    let name = scales.as_deref().unwrap_or_default();
                    let scales = list(name, column(name)?)?;
                    let each = primitive::<Float32Type>(name, scales.values())?;
                    Vectors::Multi { tokens, scales, each }
                }
            });
        }
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
            vectors,
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

impl<'a> Tokens<'a> {
    fn of(name: &str, column: &'a ArrayRef) -> Result<Self, TableError> {
        let lists = list(name, column)?;
        let codes = list(name, lists.values())?;
        Ok(Self { lists, codes, values: primitive::<Int8Type>(name, codes.values())? })
    }

    /// The codes of a row, which has so many scales.
    fn row(&self, row: usize, scales: usize, size: usize) -> Result<&'a [i8], String> {
        let tokens = range(self.lists, row);
        if self.lists.is_null(row) || tokens.len() != scales {
            return Err(format!("has {} tokens and {scales} scales, or one of both is null", tokens.len()));
        }
        let mut sizes = tokens.clone().map(|token| range(self.codes, token).len());
        if let Some(odd) = sizes.find(|codes| *codes != size) {
            return Err(format!("has a token of {odd} codes, must be {size}"));
        }
        let offsets = self.codes.value_offsets();
        Ok(&self.values[offsets[tokens.start] as usize..offsets[tokens.end] as usize])
    }
}

/// What is wrong with a row.
type Wrong = (usize, String);

impl Vectors<'_> {
    /// Gives the vectors of some rows, which have those numbers in their versions, to their field.
    fn add(&self, chunks: &[i32], spec: &FieldSpec, to: &mut Field) -> Result<(), Wrong> {
        let nulls = match self {
            Self::Dense { lists, .. } => lists.nulls(),
            Self::Sparse { lists, .. } => lists.nulls(),
            Self::Multi { scales, .. } => scales.nulls(),
        };
        // Dense rows that lie together are added together.
        let mut together = 0..0;
        for (row, &chunk) in chunks.iter().enumerate() {
            if chunk == 0 {
                to.begin();
            }
            if nulls.is_some_and(|nulls| nulls.is_null(row)) {
                match self {
                    Self::Multi { tokens: Some(tokens), .. } if tokens.lists.is_valid(row) => {
                        return Err((row, "has tokens and no scales".to_owned()));
                    }
                    Self::Dense { .. } | Self::Sparse { .. } | Self::Multi { .. } => continue,
                }
            }
            follows(to.open() as usize, chunk).map_err(|what| (row, what))?;
            to.row();
            if together.end != row {
                self.add_dense(together.clone(), spec, to)?;
                together.start = row;
            }
            together.end = row + 1;
            self.add_row(row, spec, to).map_err(|what| (row, what))?;
        }
        self.add_dense(together, spec, to)
    }

    fn add_dense(&self, rows: Range<usize>, spec: &FieldSpec, to: &mut Field) -> Result<(), Wrong> {
        let Self::Dense { values, .. } = self else { return Ok(()) };
        let vectors = &values[rows.start * spec.size..rows.end * spec.size];
        to.dense(vectors).map_err(|what| {
            let odd = vectors.iter().position(|value| !value.is_finite()).unwrap_or(0);
            (rows.start + odd / spec.size.max(1), what)
        })
    }

    fn add_row(&self, row: usize, spec: &FieldSpec, to: &mut Field) -> Result<(), String> {
        match self {
            Self::Dense { .. } => Ok(()),
            Self::Sparse { lists, terms, weights } => {
                let at = range(lists, row);
                to.sparse(terms.map(|terms| &terms[at.clone()]), &weights[at])
            }
            Self::Multi { tokens, scales, each } => {
                let scales = &each[range(scales, row)];
                let codes = tokens.as_ref().map(|tokens| tokens.row(row, scales.len(), spec.size));
                to.multi(codes.transpose()?, scales)
            }
        }
    }
}

/// Where the elements of a list are.
fn range(lists: &ListArray, row: usize) -> Range<usize> {
    let offsets = lists.value_offsets();
    offsets[row] as usize..offsets[row + 1] as usize
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
