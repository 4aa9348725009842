//! Tables into segments.

use std::ops::Range;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, FixedSizeListArray, ListArray, RecordBatch, StringArray,
    UInt32Array,
};
use arrow::datatypes::ArrowPrimitiveType;
use arrow::datatypes::{Float32Type, Int8Type, Int32Type, Int64Type, TimestampMillisecondType, UInt64Type};
use freshet_schemas::{SparseVector, VectorKind};
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
use crate::index::segment::{NewVersion, Order, Restore, Segment, SegmentSpec};
use crate::index::{Chunk, FieldSpec, RowVector, Time, TokenMatrix};

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
/// what was a head is to be sealed by who has the time. `indexes`: what `indexes` gave for the segment that was written; dense
/// fields of a sealed segment without are built anew.
///
/// # Errors
/// Bytes that are torn, or a table or an index of another segment.
pub fn read<S: Source>(
    mut from: S,
    spec: &SegmentSpec,
    indexes: Vec<(usize, Vec<u8>)>,
) -> Result<Table, TableError> {
    let columns = Columns::of(spec);
    let read = source::metadata(&mut from)?;
    let (order, about) = metadata(&read, spec)?;
    let footer = guarded(|| ArrowReaderMetadata::try_new(read, ArrowReaderOptions::new()))?;
    let mut roots = Vec::with_capacity(columns.read);
    for wanted in &columns.schema.fields()[..columns.read] {
        let wrong = |what| TableError::Column { column: wanted.name().clone(), what };
        let Some((root, found)) = footer.schema().fields().find(wanted.name()) else {
            let found: Vec<&str> =
                footer.schema().fields().iter().map(|field| field.name().as_str()).collect();
            return Err(wrong(format!("is missing, there are \"{}\"", found.join("\", \""))));
        };
        if found.data_type() != wanted.data_type() {
            let (found, wanted) = (found.data_type(), wanted.data_type());
            return Err(wrong(format!("is of type {found}, must be {wanted}")));
        }
        roots.push(root);
    }
    let mask = ProjectionMask::roots(footer.parquet_schema(), roots);
    let batch_rows = batch_rows(footer.metadata());
    let mut rows = Rows {
        columns: &columns,
        fields: &spec.fields,
        restore: Segment::restore(spec, order, indexes)?,
        open: None,
        row: 0,
    };
    let mut from_byte = 0;
    for group in 0..footer.metadata().num_row_groups() {
        let window = Window::read(&mut from, footer.metadata(), group, &mut from_byte)?;
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(window, footer.clone());
        let builder = builder.with_row_groups(vec![group]).with_projection(mask.clone());
        let mut reader = guarded(|| builder.with_batch_size(batch_rows).build())?;
        while let Some(batch) = guarded(|| reader.next().transpose().map_err(ParquetError::from))? {
            rows.batch(&batch)?;
        }
    }
    rows.close()?;
    Ok(Table { segment: rows.restore.finish()?, about })
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

/// Rows on their way from Parquet: those of the version being read, and how many have come.
struct Rows<'a> {
    columns: &'a Columns,
    fields: &'a [FieldSpec],
    restore: Restore,
    open: Option<Open>,
    /// Number of the next row.
    row: usize,
}

/// A version of which all rows so far have been read.
struct Open {
    version: NewVersion,
    born: Time,
    rows: usize,
}

impl Rows<'_> {
    fn close(&mut self) -> Result<(), TableError> {
        match self.open.take() {
            Some(Open { version, born, rows: _ }) => Ok(self.restore.push(&version, born)?),
            None => Ok(()),
        }
    }

    fn batch(&mut self, batch: &RecordBatch) -> Result<(), TableError> {
        let batch = Batch::of(self.columns, self.fields, batch)?;
        for row in 0..batch.rows {
            let at = self.row;
            self.row += 1;
            let chunk = batch.chunks[row];
            if chunk == 0 {
                self.close()?;
                self.open = Some(batch.open(row, self.fields.len(), at)?);
            }
            let Some(open) = self.open.as_mut().filter(|open| usize::try_from(chunk) == Ok(open.rows)) else {
                let next = self.open.as_ref().map_or(0, |open| open.rows);
                return Err(wrong(at, schema::CHUNK, format!("is {chunk}, must be {next} or 0")));
            };
            batch.add(row, open, self.columns, self.fields, at)?;
        }
        Ok(())
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
        terms: &'a [u64],
        weights: &'a [f32],
    },
    Multi {
        tokens: &'a ListArray,
        codes: &'a ListArray,
        values: &'a [i8],
        scales: &'a ListArray,
        each: &'a [f32],
    },
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
                    let part = |part| pairs.column_by_name(part).ok_or_else(unlike);
                    let terms = primitive::<UInt64Type>(name, part("term")?)?;
                    Vectors::Sparse {
                        lists,
                        terms,
                        weights: primitive::<Float32Type>(name, part("weight")?)?,
                    }
                }
                (VectorKind::Multi, scales) => {
                    let tokens = list(name, column(name)?)?;
                    let codes = list(name, tokens.values())?;
                    let values = primitive::<Int8Type>(name, codes.values())?;
                    let name = scales.as_deref().unwrap_or_default();
                    let scales = list(name, column(name)?)?;
                    let each = primitive::<Float32Type>(name, scales.values())?;
                    Vectors::Multi { tokens, codes, values, scales, each }
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

    /// A version that begins in a row.
    fn open(&self, row: usize, fields: usize, at: usize) -> Result<Open, TableError> {
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
        let version = NewVersion {
            id: self.ids.value(row).to_owned(),
            origin: (self.partitions[row], self.offsets[row]),
            payload: payload.to_owned(),
            digest: self.digests.value(row).to_vec(),
            chunks: Vec::new(),
            fields: vec![Vec::new(); fields],
        };
        Ok(Open { version, born, rows: 0 })
    }

    /// Adds a row to its version.
    fn add(
        &self,
        row: usize,
        open: &mut Open,
        columns: &Columns,
        fields: &[FieldSpec],
        at: usize,
    ) -> Result<(), TableError> {
        let Open { version, rows, .. } = open;
        if self.ids.value(row) != version.id {
            let (found, wanted) = (self.ids.value(row), &version.id);
            return Err(wrong(at, schema::ID, format!("is \"{found}\", must be \"{wanted}\" as in chunk 0")));
        }
        let follows = |column: &str, before: usize| match before == *rows {
            true => Ok(()),
            false => Err(wrong(at, column, format!("is there, but chunk {before} has none"))),
        };
        if self.texts.is_valid(row) {
            follows(schema::TEXT, version.chunks.len())?;
            if self.starts.is_null(row) {
                return Err(wrong(at, schema::START, "is null, must be there with the text".into()));
            }
            let text = self.texts.value(row).to_owned();
            version.chunks.push(Chunk { start: self.starts.value(row), text });
        }
        for (((vectors, names), spec), to) in
            self.vectors.iter().zip(&columns.vectors).zip(fields).zip(&mut version.fields)
        {
            let name = names.name.as_str();
            let vector = vectors.get(row, spec).map_err(|what| wrong(at, name, what))?;
            if let Some(vector) = vector {
                follows(name, to.len())?;
                to.push(vector);
            }
        }
        *rows += 1;
        Ok(())
    }
}

impl Vectors<'_> {
    fn get(&self, row: usize, spec: &FieldSpec) -> Result<Option<RowVector>, String> {
        match self {
            Self::Dense { lists, values } => {
                let at = row * spec.size..(row + 1) * spec.size;
                Ok(lists.is_valid(row).then(|| RowVector::Dense(values[at].to_vec())))
            }
            Self::Sparse { lists, terms, weights } => {
                let at = range(lists, row);
                let vector =
                    || SparseVector { indices: terms[at.clone()].to_vec(), values: weights[at].to_vec() };
                Ok(lists.is_valid(row).then(|| RowVector::Sparse(vector())))
            }
            Self::Multi { tokens, codes, values, scales, each } => {
                let (of_tokens, of_scales) = (range(tokens, row), range(scales, row));
                if tokens.is_valid(row) != scales.is_valid(row) || of_tokens.len() != of_scales.len() {
                    let (tokens, scales) = (of_tokens.len(), of_scales.len());
                    return Err(format!("has {tokens} tokens and {scales} scales, or one of both is null"));
                }
                if let Some(odd) =
                    of_tokens.clone().map(|token| range(codes, token)).find(|at| at.len() != spec.size)
                {
                    return Err(format!("has a token of {} codes, must be {}", odd.len(), spec.size));
                }
                let (start, end) =
                    (codes.value_offsets()[of_tokens.start], codes.value_offsets()[of_tokens.end]);
                let matrix = || TokenMatrix {
                    dim: spec.size,
                    codes: values[start as usize..end as usize].to_vec(),
                    scales: each[of_scales].to_vec(),
                };
                Ok(tokens.is_valid(row).then(|| RowVector::Multi(matrix())))
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
