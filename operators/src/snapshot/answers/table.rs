//! Rows of the table as Parquet.

use std::io::Cursor;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Array, Int32Array, ListArray, RecordBatch, StringArray, StructArray,
    TimestampMicrosecondArray, TimestampMillisecondArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields, Schema, TimeUnit};
use freshet_schemas::{Leg, Point, text_of};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use super::AnsweredQuery;
use crate::index::segment::table::TableError;

/// Version of the format.
pub(super) const FORMAT: &str = "1";
/// Key of the version.
pub(super) const KEY_FORMAT: &str = "freshet.answers.format";
/// Rows of a row group: as many as a reader can skip at once.
const GROUP_ROWS: usize = 4096;
/// Of zstd: 3 takes twice the time for a few percent.
const ZSTD_LEVEL: i32 = 1;

/// The UTC date of a microsecond: `2026-11-21`.
pub(super) fn date(us: u64) -> String {
    let at = i64::try_from(us).ok().and_then(|us| jiff::Timestamp::from_microsecond(us).ok());
    at.unwrap_or(jiff::Timestamp::MAX).strftime("%Y-%m-%d").to_string()
}

fn micros() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn millis() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}

/// The element of a list, named as Parquet's specification says; never null.
fn element(kind: DataType) -> Arc<Field> {
    Arc::new(Field::new("element", kind, false))
}

fn leg() -> Fields {
    Fields::from(vec![
        Field::new("name", DataType::Utf8, false),
        Field::new("rank", DataType::Int32, false),
        Field::new("score", DataType::Float64, false),
    ])
}

fn hit() -> Fields {
    Fields::from(vec![
        Field::new("rank", DataType::Int32, false),
        Field::new("id", DataType::Utf8, false),
        Field::new("chunk", DataType::Int32, false),
        Field::new("score", DataType::Float64, false),
        Field::new("fusion_rank", DataType::Int32, true),
        Field::new("fusion_score", DataType::Float64, true),
        Field::new("rerank_rank", DataType::Int32, true),
        Field::new("rerank_score", DataType::Float64, true),
        Field::new("legs", DataType::List(element(DataType::Struct(leg()))), false),
    ])
}

fn degraded() -> Fields {
    Fields::from(vec![
        Field::new("stage", DataType::Utf8, false),
        Field::new("reason", DataType::Utf8, false),
    ])
}

fn schema() -> Schema {
    Schema::new(vec![
        Field::new("id", DataType::Utf8, false),
        Field::new("asked", micros(), false),
        Field::new("text", DataType::Utf8, true),
        Field::new("plan", DataType::Utf8, true),
        Field::new("query", DataType::Utf8, false),
        Field::new("took_seconds", DataType::Float64, false),
        Field::new("time", millis(), true),
        Field::new("as_of", DataType::Utf8, false),
        Field::new("error_code", DataType::Utf8, true),
        Field::new("degraded", DataType::List(element(DataType::Struct(degraded()))), false),
        Field::new("hits", DataType::List(element(DataType::Struct(hit()))), false),
    ])
}

/// The bytes of a file; `about`: what else its metadata is to say.
pub(super) fn table(rows: &[AnsweredQuery], about: &[(&str, &str)]) -> Result<Vec<u8>, TableError> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .build();
    let mut bytes = Cursor::new(Vec::new());
    let mut writer = ArrowWriter::try_new(&mut bytes, Arc::new(schema()), Some(properties))?;
    for (key, value) in [(KEY_FORMAT, FORMAT)].iter().chain(about) {
        writer.append_key_value_metadata(KeyValue::new((*key).to_owned(), (*value).to_owned()));
    }
    for rows in rows.chunks(GROUP_ROWS) {
        writer.write(&batch(rows)?)?;
    }
    writer.close()?;
    Ok(bytes.into_inner())
}

/// What the JSON of a query says: its text, and the name of its plan.
fn said(query: &[u8]) -> (Option<String>, Option<String>) {
    let Ok(query) = serde_json::from_slice::<serde_json::Value>(query) else { return (None, None) };
    (text_of(&query).map(str::to_owned), query["plan"].as_str().map(str::to_owned))
}

/// Numbers of ranks and chunks, which are small.
fn small(number: impl TryInto<i32>) -> i32 {
    number.try_into().unwrap_or(i32::MAX)
}

fn batch(rows: &[AnsweredQuery]) -> Result<RecordBatch, TableError> {
    let (texts, plans): (Vec<_>, Vec<_>) = rows.iter().map(|row| said(&row.query)).unzip();
    let asked = rows.iter().map(|row| i64::try_from(row.asked_us).unwrap_or(i64::MAX));
    let times = rows.iter().map(|row| row.answer.time.and_then(|time| i64::try_from(time).ok()));
    let as_of = |row: &AnsweredQuery| serde_json::to_string(&row.answer.as_of).unwrap_or_default();
    let code = |row: &AnsweredQuery| row.answer.error.as_ref().map(|error| error.code.as_str());
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.answer.id))),
        Arc::new(TimestampMicrosecondArray::from_iter_values(asked).with_timezone("UTC")),
        Arc::new(StringArray::from(texts)),
        Arc::new(StringArray::from(plans)),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| String::from_utf8_lossy(&row.query)))),
        Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.answer.took_seconds))),
        Arc::new(times.collect::<TimestampMillisecondArray>().with_timezone("UTC")),
        Arc::new(StringArray::from_iter_values(rows.iter().map(as_of))),
        Arc::new(rows.iter().map(code).collect::<StringArray>()),
        Arc::new(stages(rows)?),
        Arc::new(hits(rows)?),
    ];
    Ok(RecordBatch::try_new(Arc::new(schema()), columns)?)
}

fn stages(rows: &[AnsweredQuery]) -> Result<ListArray, TableError> {
    let all = || rows.iter().flat_map(|row| &row.answer.degraded);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(all().map(|one| &one.stage))),
        Arc::new(StringArray::from_iter_values(all().map(|one| &one.reason))),
    ];
    let lengths = rows.iter().map(|row| row.answer.degraded.len());
    list(degraded(), columns, lengths)
}

fn hits(rows: &[AnsweredQuery]) -> Result<ListArray, TableError> {
    let all = || rows.iter().flat_map(|row| &row.answer.points);
    let ranks = rows.iter().flat_map(|row| 1..=row.answer.points.len()).map(small);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from_iter_values(ranks)),
        Arc::new(StringArray::from_iter_values(all().map(|point| &point.id))),
        Arc::new(Int32Array::from_iter_values(all().map(|point| small(point.chunk)))),
        Arc::new(Float64Array::from_iter_values(all().map(|point| point.score))),
        Arc::new(all().map(|point| point.fusion.map(|at| small(at.rank))).collect::<Int32Array>()),
        Arc::new(all().map(|point| point.fusion.map(|at| at.score)).collect::<Float64Array>()),
        Arc::new(all().map(|point| point.rerank.map(|at| small(at.rank))).collect::<Int32Array>()),
        Arc::new(all().map(|point| point.rerank.map(|at| at.score)).collect::<Float64Array>()),
        Arc::new(legs(&all().collect::<Vec<_>>())?),
    ];
    list(hit(), columns, rows.iter().map(|row| row.answer.points.len()))
}

fn legs(points: &[&Point]) -> Result<ListArray, TableError> {
    let all = || points.iter().flat_map(|point| &point.legs);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(all().map(|leg: &Leg| &leg.name))),
        Arc::new(Int32Array::from_iter_values(all().map(|leg| small(leg.rank)))),
        Arc::new(Float64Array::from_iter_values(all().map(|leg| leg.score))),
    ];
    list(leg(), columns, points.iter().map(|point| point.legs.len()))
}

/// A list of structs per row, of so many each.
fn list(
    fields: Fields,
    columns: Vec<ArrayRef>,
    lengths: impl Iterator<Item = usize>,
) -> Result<ListArray, TableError> {
    let structs = StructArray::try_new(fields.clone(), columns, None)?;
    let element = element(DataType::Struct(fields));
    Ok(ListArray::try_new(element, OffsetBuffer::from_lengths(lengths), Arc::new(structs), None)?)
}
