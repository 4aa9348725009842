//! Segments into tables.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryBuilder, BooleanBuilder, FixedSizeListArray, Float32Array, Float64Builder,
    Int8Array, Int32Builder, Int64Builder, ListArray, NullBufferBuilder, RecordBatch, StringBuilder,
    StructArray, TimestampMicrosecondBuilder, TimestampMillisecondBuilder, UInt32Builder, UInt64Array,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::DataType;
use freshet_schemas::{VectorKind, microseconds, values};
use parquet::arrow::ArrowWriter;
use parquet::file::metadata::KeyValue;
use serde_json::Value;

use super::TableError;
use super::schema::{self, Columns};
use crate::index::FieldSpec;
use crate::index::payload::PayloadKind;
use crate::index::rows::Row;
use crate::index::segment::{BuiltField, FieldRows, Segment, SegmentField, SegmentSpec, Version};

/// Rows given to Parquet at once.
const BATCH_ROWS: usize = 1024;
/// Bytes given to Parquet at once, about: token vectors take some twenty times as much while they are taken apart.
const BATCH_BYTES: usize = 4 << 20;

/// What has been written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Versions of documents.
    pub versions: usize,
    /// Rows of the table.
    pub rows: usize,
    /// Bytes of the table.
    pub bytes: usize,
}

/// Writes all versions of a segment, in their order, as Parquet. `about`: what else its metadata is to say.
///
/// # Errors
/// A birth later than Parquet can say, more than 2 GiB in one row, or a failure to write.
pub fn write<W: Write + Send>(
    segment: &Segment,
    spec: &SegmentSpec,
    about: &[(String, String)],
    to: W,
) -> Result<Written, TableError> {
    let columns = Columns::of(spec);
    let versions = segment.versions().len();
    let total: usize = (0..versions as Version).map(|version| rows_of(segment, version)).sum();
    let properties = columns.properties(total > versions, segment.is_sealed())?;
    let mut writer = ArrowWriter::try_new(to, Arc::clone(&columns.schema), Some(properties))?;
    for (key, value) in metadata(segment, spec)? {
        writer.append_key_value_metadata(KeyValue::new(key.to_owned(), value));
    }
    for (key, value) in about {
        writer.append_key_value_metadata(KeyValue::new(key.clone(), value.clone()));
    }
    let mut rows = Rows::new(spec, &columns);
    for version in 0..versions as Version {
        let payload = match spec.payload.is_empty() {
            true => Value::Null,
            false => serde_json::from_str(segment.versions().payload(version)).unwrap_or_default(),
        };
        for row in 0..rows_of(segment, version) {
            let chunk = segment.versions().chunk(version, row as u32);
            rows.push(segment, version, (row, chunk), &payload)?;
            if rows.count >= BATCH_ROWS || rows.bytes >= BATCH_BYTES {
                writer.write(&rows.take(spec, &columns)?)?;
            }
        }
    }
    if rows.count > 0 {
        writer.write(&rows.take(spec, &columns)?)?;
    }
    writer.finish()?;
    Ok(Written { versions, rows: total, bytes: writer.bytes_written() })
}

/// What was built of a segment's fields of at least so many rows, for `read`. Heads have none.
///
/// # Errors
/// The library below failing.
pub fn built(segment: &Segment, rows_min: usize) -> Result<Vec<BuiltField>, TableError> {
    let mut built = Vec::new();
    for (field, SegmentField { rows, .. }) in segment.fields().iter().enumerate() {
        if rows.len() >= rows_min
            && let Some(bytes) = rows.write()?
        {
            built.push(BuiltField { field, bytes });
        }
    }
    Ok(built)
}

fn metadata(segment: &Segment, spec: &SegmentSpec) -> Result<[(&'static str, String); 4], TableError> {
    let wrong = |what| TableError::Metadata { key: schema::KEY_FIELDS, what };
    let order = if segment.is_sealed() { "id" } else { "birth" };
    Ok([
        (schema::KEY_FORMAT, schema::FORMAT.to_owned()),
        (schema::KEY_FIELDS, schema::fields_text(&spec.fields).map_err(wrong)?),
        (schema::KEY_PAYLOAD, schema::payload_text(&spec.payload)),
        (schema::KEY_ORDER, order.to_owned()),
    ])
}

/// Rows of a version in the table.
fn rows_of(segment: &Segment, version: Version) -> usize {
    let widest = segment.fields().iter().map(|field| field.layout.rows(version).len()).max();
    segment.versions().chunks(version).count().max(widest.unwrap_or(0)).max(1)
}

/// Rows on their way to Parquet, column by column.
struct Rows {
    ids: StringBuilder,
    chunks: Int32Builder,
    starts: UInt32Builder,
    texts: StringBuilder,
    payloads: StringBuilder,
    partitions: Int32Builder,
    offsets: Int64Builder,
    births: TimestampMillisecondBuilder,
    digests: BinaryBuilder,
    vectors: Vec<Vectors>,
    scalars: Vec<(String, Scalars)>,
    count: usize,
    bytes: usize,
}

impl Rows {
    fn new(spec: &SegmentSpec, columns: &Columns) -> Self {
        let born = columns.schema.field(7).data_type().clone();
        Self {
            ids: StringBuilder::new(),
            chunks: Int32Builder::new(),
            starts: UInt32Builder::new(),
            texts: StringBuilder::new(),
            payloads: StringBuilder::new(),
            partitions: Int32Builder::new(),
            offsets: Int64Builder::new(),
            births: TimestampMillisecondBuilder::new().with_data_type(born),
            digests: BinaryBuilder::new(),
            vectors: spec.fields.iter().map(Vectors::new).collect(),
            scalars: spec
                .payload
                .iter()
                .zip(&columns.schema.fields()[columns.read..])
                .map(|(field, column)| (field.path.clone(), Scalars::new(field.kind, column.data_type())))
                .collect(),
            count: 0,
            bytes: 0,
        }
    }

    fn push(
        &mut self,
        segment: &Segment,
        version: Version,
        (row, chunk): (usize, Option<(u32, &str)>),
        payload: &Value,
    ) -> Result<(), TableError> {
        let versions = segment.versions();
        let wrong = |column: &str, what: String| TableError::Column { column: column.to_owned(), what };
        let born = versions.born(version);
        let born = i64::try_from(born).map_err(|_| {
            wrong(schema::BORN, format!("cannot hold {born}, at most {} ms since the epoch", i64::MAX))
        })?;
        let number = i32::try_from(row)
            .map_err(|_| wrong(schema::CHUNK, format!("cannot hold {row}, at most {}", i32::MAX)))?;
        let text = chunk.map(|(_, text)| text);
        let digest = (row == 0).then(|| versions.digest(version));
        let (id, json) = (versions.id(version), versions.payload(version));
        let bytes = id.len() + json.len() + text.map_or(0, str::len) + digest.map_or(0, <[u8]>::len);
        // A batch ends when it is full, so that no column can be longer than this and one row.
        if i32::try_from(bytes + BATCH_BYTES).is_err() {
            return Err(wrong(
                schema::PAYLOAD,
                format!("cannot hold {bytes} bytes in one row with its text"),
            ));
        }
        let (partition, offset) = versions.origin(version);
        self.ids.append_value(id);
        self.chunks.append_value(number);
        self.starts.append_option(chunk.map(|(start, _)| start));
        self.texts.append_option(text);
        self.payloads.append_value(json);
        self.partitions.append_value(partition);
        self.offsets.append_value(offset);
        self.births.append_value(born);
        self.digests.append_option(digest);
        self.bytes += bytes + 40;
        for (vectors, field) in self.vectors.iter_mut().zip(segment.fields()) {
            self.bytes += vectors.push(&field.rows, field.layout.rows(version).nth(row));
        }
        for (path, scalars) in &mut self.scalars {
            // Several values are for the payload to show.
            let found = values(payload, path);
            scalars.push(if let [one] = found.as_slice() { Some(*one) } else { None });
        }
        self.count += 1;
        Ok(())
    }

    /// The rows so far, which are no longer here then.
    fn take(&mut self, spec: &SegmentSpec, columns: &Columns) -> Result<RecordBatch, TableError> {
        let mut arrays: Vec<ArrayRef> = vec![
            Arc::new(self.ids.finish()),
            Arc::new(self.chunks.finish()),
            Arc::new(self.starts.finish()),
            Arc::new(self.texts.finish()),
            Arc::new(self.payloads.finish()),
            Arc::new(self.partitions.finish()),
            Arc::new(self.offsets.finish()),
            Arc::new(self.births.finish()),
            Arc::new(self.digests.finish()),
        ];
        for (vectors, field) in self.vectors.iter_mut().zip(&spec.fields) {
            std::mem::replace(vectors, Vectors::new(field)).finish(&mut arrays)?;
        }
        arrays.extend(self.scalars.iter_mut().map(|(_, scalars)| scalars.finish()));
        (self.count, self.bytes) = (0, 0);
        Ok(RecordBatch::try_new(Arc::clone(&columns.schema), arrays)?)
    }
}

/// Vectors of a field, null where a row has none.
struct Vectors {
    kind: VectorKind,
    size: i32,
    nulls: NullBufferBuilder,
    /// Per row of a sparse or multi field how many terms or tokens it has.
    lengths: Vec<usize>,
    floats: Vec<f32>,
    terms: Vec<u64>,
    codes: Vec<i8>,
}

impl Vectors {
    fn new(field: &FieldSpec) -> Self {
        Self {
            kind: field.kind,
            size: schema::size(field),
            nulls: NullBufferBuilder::new(BATCH_ROWS),
            lengths: Vec::new(),
            floats: Vec::new(),
            terms: Vec::new(),
            codes: Vec::new(),
        }
    }

    /// Adds a row, or none where there is none; how many bytes that takes.
    fn push(&mut self, rows: &FieldRows, row: Option<Row>) -> usize {
        self.nulls.append(row.is_some());
        let before = (self.floats.len(), self.terms.len(), self.codes.len());
        match (rows, row) {
            (FieldRows::Dense(rows), Some(row)) => self.floats.extend_from_slice(rows.row(row)),
            (FieldRows::Dense(_), None) => self.floats.resize(before.0 + self.size as usize, 0.0),
            (FieldRows::Sparse(rows), Some(row)) => rows.append(row, &mut self.terms, &mut self.floats),
            (FieldRows::Multi(rows), Some(row)) => rows.append(row, &mut self.codes, &mut self.floats),
            (FieldRows::Sparse(_) | FieldRows::Multi(_), None) => {}
        }
        let (floats, terms, codes) =
            (self.floats.len() - before.0, self.terms.len() - before.1, self.codes.len() - before.2);
        self.lengths.push(floats);
        floats * size_of::<f32>() + terms * size_of::<u64>() + codes
    }

    fn finish(mut self, to: &mut Vec<ArrayRef>) -> Result<(), TableError> {
        let nulls = self.nulls.finish();
        let floats: ArrayRef = Arc::new(Float32Array::from(self.floats));
        let offsets = || OffsetBuffer::from_lengths(self.lengths.iter().copied());
        let of_floats = || schema::element(DataType::Float32);
        match self.kind {
            VectorKind::Dense => {
                to.push(Arc::new(FixedSizeListArray::try_new(of_floats(), self.size, floats, nulls)?));
            }
            VectorKind::Sparse => {
                let terms: ArrayRef = Arc::new(UInt64Array::from(self.terms));
                let pairs = StructArray::try_new(schema::weighted(), vec![terms, floats], None)?;
                let element = schema::element(pairs.data_type().clone());
                to.push(Arc::new(ListArray::try_new(element, offsets(), Arc::new(pairs), nulls)?));
            }
            VectorKind::Multi => {
                let each = OffsetBuffer::from_repeated_length(self.size as usize, floats.len());
                let codes: ArrayRef = Arc::new(Int8Array::from(self.codes));
                let tokens = ListArray::try_new(schema::element(DataType::Int8), each, codes, None)?;
                let element = schema::element(tokens.data_type().clone());
                let tokens = ListArray::try_new(element, offsets(), Arc::new(tokens), nulls.clone())?;
                to.push(Arc::new(tokens));
                to.push(Arc::new(ListArray::try_new(of_floats(), offsets(), floats, nulls)?));
            }
        }
        Ok(())
    }
}

/// Values of a declared payload field, null where it is missing, an array or of another type.
enum Scalars {
    Text(StringBuilder),
    Integer(Int64Builder),
    Float(Float64Builder),
    Bool(BooleanBuilder),
    Datetime(TimestampMicrosecondBuilder),
}

impl Scalars {
    fn new(kind: PayloadKind, column: &DataType) -> Self {
        match kind {
            PayloadKind::Keyword | PayloadKind::Text => Self::Text(StringBuilder::new()),
            PayloadKind::Integer => Self::Integer(Int64Builder::new()),
            PayloadKind::Float => Self::Float(Float64Builder::new()),
            PayloadKind::Bool => Self::Bool(BooleanBuilder::new()),
            PayloadKind::Datetime => {
                Self::Datetime(TimestampMicrosecondBuilder::new().with_data_type(column.clone()))
            }
        }
    }

    fn push(&mut self, value: Option<&Value>) {
        match self {
            Self::Text(texts) => texts.append_option(value.and_then(Value::as_str)),
            Self::Integer(numbers) => numbers.append_option(value.and_then(Value::as_i64)),
            Self::Float(numbers) => numbers.append_option(value.and_then(Value::as_f64)),
            Self::Bool(truths) => truths.append_option(value.and_then(Value::as_bool)),
            Self::Datetime(times) => {
                times.append_option(value.and_then(Value::as_str).and_then(microseconds));
            }
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Text(texts) => Arc::new(texts.finish()),
            Self::Integer(numbers) => Arc::new(numbers.finish()),
            Self::Float(numbers) => Arc::new(numbers.finish()),
            Self::Bool(truths) => Arc::new(truths.finish()),
            Self::Datetime(times) => Arc::new(times.finish()),
        }
    }
}
