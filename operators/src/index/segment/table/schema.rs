//! Columns of a table, and what its metadata says.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use freshet_schemas::VectorKind;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use serde_json::{Value, json};

use crate::index::FieldSpec;
use crate::index::payload::{PayloadField, PayloadKind};
use crate::index::segment::SegmentSpec;

/// Version of the format.
pub(super) const FORMAT: &str = "2";
/// Key of the version.
pub(super) const KEY_FORMAT: &str = "freshet.format";
/// Key of the vector fields.
pub(super) const KEY_FIELDS: &str = "freshet.fields";
/// Key of the declared payload fields.
pub(super) const KEY_PAYLOAD: &str = "freshet.payload";
/// Key of the order of versions: `id` or `birth`.
pub(super) const KEY_ORDER: &str = "freshet.order";

/// Rows of a row group: as many as a reader can skip at once.
const GROUP_ROWS: usize = 8192;
/// Bytes of a row group while it is being written.
const GROUP_BYTES: usize = 64 << 20;
/// Of zstd: 3 takes twice the time for a few percent.
const ZSTD_LEVEL: i32 = 1;

/// Columns that every table has, in this order.
pub(super) const ID: &str = "id";
pub(super) const CHUNK: &str = "chunk";
pub(super) const START: &str = "start";
pub(super) const TEXT: &str = "text";
pub(super) const PAYLOAD: &str = "payload";
pub(super) const PARTITION: &str = "partition";
pub(super) const OFFSET: &str = "offset";
pub(super) const BORN: &str = "born";
pub(super) const DIGEST: &str = "digest";
/// Of a sparse vector: its terms, and their weights.
pub(super) const TERM: &str = "term";
pub(super) const WEIGHT: &str = "weight";
/// Of a list: its elements.
pub(super) const ELEMENT: &str = "element";
/// How many columns every table has.
const OWN: usize = 9;

/// The columns of a vector field.
#[derive(Clone, Debug)]
pub(super) struct VectorColumns {
    /// Of the vectors, or of the codes of token vectors.
    pub(super) name: String,
    /// Of the scales of token vectors.
    pub(super) scales: Option<String>,
}

/// The columns of a table. Their names depend on the vector fields first, so that the vectors are found whatever payload
/// fields are declared.
pub(super) struct Columns {
    /// Per vector field.
    pub(super) vectors: Vec<VectorColumns>,
    /// All, in their order.
    pub(super) schema: SchemaRef,
    /// How many of them are read: the others repeat what the payload says.
    pub(super) read: usize,
}

/// Names that are free. Some readers do not tell upper case from lower.
#[derive(Default)]
struct Names(BTreeSet<String>);

impl Names {
    /// The first free name, with as many prefixes as that takes. `with`: its suffixes, which must be free too.
    fn take(&mut self, name: &str, prefix: &str, with: &[&str]) -> String {
        let mut name = name.to_owned();
        let all = |name: &str| with.iter().map(|suffix| format!("{name}{suffix}").to_lowercase()).collect();
        let mut wanted: Vec<String> = all(&name);
        while wanted.iter().any(|wanted| self.0.contains(wanted)) {
            name.insert_str(0, prefix);
            wanted = all(&name);
        }
        self.0.extend(wanted);
        name
    }
}

impl Columns {
    /// The columns of a segment's table.
    pub(super) fn of(spec: &SegmentSpec) -> Self {
        let born = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
        let mut fields = vec![
            Field::new(ID, DataType::Utf8, false),
            Field::new(CHUNK, DataType::Int32, false),
            Field::new(START, DataType::UInt32, true),
            Field::new(TEXT, DataType::Utf8, true),
            Field::new(PAYLOAD, DataType::Utf8, false),
            Field::new(PARTITION, DataType::Int32, false),
            Field::new(OFFSET, DataType::Int64, false),
            Field::new(BORN, born, false),
            Field::new(DIGEST, DataType::Binary, true),
        ];
        let mut names = Names(fields.iter().map(|field| field.name().clone()).collect());
        let mut vectors = Vec::with_capacity(spec.fields.len());
        for field in &spec.fields {
            let suffixes: &[&str] = if field.kind == VectorKind::Multi { &["", "_scales"] } else { &[""] };
            let name = names.take(&field.name, "vector_", suffixes);
            fields.push(Field::new(&name, vector(field), true));
            let scales = (field.kind == VectorKind::Multi).then(|| format!("{name}_scales"));
            fields.extend(scales.iter().map(|scales| Field::new(scales, list(DataType::Float32), true)));
            vectors.push(VectorColumns { name, scales });
        }
        let read = fields.len();
        for field in &spec.payload {
            fields.push(Field::new(names.take(&field.path, "payload_", &[""]), scalar(field.kind), true));
        }
        Self { vectors, schema: Arc::new(Schema::new(fields)), read }
    }

    /// How each column is written. `repeats`: ids and payloads come more than once. `stays`: the segment will be there for
    /// long; a head soon is part of one that is written anew.
    pub(super) fn properties(&self, repeats: bool, stays: bool) -> Result<WriterProperties, ParquetError> {
        let mut properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
            .set_max_row_group_row_count(Some(GROUP_ROWS))
            .set_max_row_group_bytes(Some(GROUP_BYTES))
            // Texts hardly repeat: a dictionary is filled in vain, then left.
            .set_column_dictionary_enabled(ColumnPath::from(TEXT), false)
            .set_column_dictionary_enabled(ColumnPath::from(DIGEST), false)
            .set_column_dictionary_enabled(ColumnPath::from(ID), repeats)
            .set_column_dictionary_enabled(ColumnPath::from(PAYLOAD), repeats)
            .set_column_dictionary_enabled(ColumnPath::from(OFFSET), false)
            .set_column_encoding(ColumnPath::from(OFFSET), Encoding::DELTA_BINARY_PACKED);
        for column in [TEXT, PAYLOAD, DIGEST] {
            let column = ColumnPath::from(column);
            properties = properties.set_column_statistics_enabled(column, EnabledStatistics::None);
        }
        for field in &self.schema.fields()[OWN..self.read] {
            let sparse = is_sparse(field.data_type());
            for (path, values) in leaves(vec![field.name().clone()], field.data_type()) {
                let path = ColumnPath::new(path);
                // Nobody looks for a vector by the range of its values.
                properties = properties.set_column_statistics_enabled(path.clone(), EnabledStatistics::None);
                // Weights of terms are often counts; other floats hardly repeat. Terms do, but to look all of them up takes more
                // than a quarter of the time to write a table.
                if (values == DataType::Float32 && !sparse) || (values == DataType::UInt64 && !stays) {
                    properties = properties.set_column_dictionary_enabled(path, false);
                }
            }
        }
        Ok(properties.build())
    }
}

/// Whether a column is of sparse vectors.
fn is_sparse(kind: &DataType) -> bool {
    matches!(kind, DataType::List(pairs) if matches!(pairs.data_type(), DataType::Struct(_)))
}

/// Paths in Parquet of the values below a column, with their types.
fn leaves(path: Vec<String>, kind: &DataType) -> Vec<(Vec<String>, DataType)> {
    let below = |names: &[&str], field: &Field| {
        let path = path.iter().cloned().chain(names.iter().map(|&name| name.to_owned()));
        leaves(path.chain([field.name().clone()]).collect(), field.data_type())
    };
    if let DataType::List(element) | DataType::FixedSizeList(element, _) = kind {
        below(&["list"], element)
    } else if let DataType::Struct(fields) = kind {
        fields.iter().flat_map(|field| below(&[], field)).collect()
    } else {
        vec![(path, kind.clone())]
    }
}

/// The type of a list of elements, which are named as Parquet's specification says.
pub(super) fn list(element: DataType) -> DataType {
    DataType::List(self::element(element))
}

/// The element of a list; never null.
pub(super) fn element(kind: DataType) -> Arc<Field> {
    Arc::new(Field::new(ELEMENT, kind, false))
}

/// A term of a sparse vector and its weight.
pub(super) fn weighted() -> Fields {
    Fields::from(vec![
        Field::new(TERM, DataType::UInt64, false),
        Field::new(WEIGHT, DataType::Float32, false),
    ])
}

fn vector(field: &FieldSpec) -> DataType {
    match field.kind {
        VectorKind::Dense => DataType::FixedSizeList(element(DataType::Float32), size(field)),
        VectorKind::Sparse => list(DataType::Struct(weighted())),
        VectorKind::Multi => list(list(DataType::Int8)),
    }
}

/// Dimensions, as Arrow counts them.
pub(super) fn size(field: &FieldSpec) -> i32 {
    i32::try_from(field.size).unwrap_or(i32::MAX)
}

fn scalar(kind: PayloadKind) -> DataType {
    match kind {
        PayloadKind::Keyword | PayloadKind::Text => DataType::Utf8,
        PayloadKind::Integer => DataType::Int64,
        PayloadKind::Float => DataType::Float64,
        PayloadKind::Bool => DataType::Boolean,
        PayloadKind::Datetime => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
    }
}

/// The vector fields, as JSON.
pub(super) fn fields_text(fields: &[FieldSpec]) -> Result<String, String> {
    serde_json::to_string(fields).map_err(|error| error.to_string())
}

/// The declared payload fields, as JSON.
pub(super) fn payload_text(fields: &[PayloadField]) -> String {
    let kind = |kind| match kind {
        PayloadKind::Keyword => "keyword",
        PayloadKind::Integer => "integer",
        PayloadKind::Float => "float",
        PayloadKind::Bool => "bool",
        PayloadKind::Datetime => "datetime",
        PayloadKind::Text => "text",
    };
    let field = |field: &PayloadField| json!({"path": field.path, "kind": kind(field.kind)});
    Value::Array(fields.iter().map(field).collect()).to_string()
}
