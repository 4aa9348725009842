//! Avro's binary encoding → JSON.
//!
//! Schemas are read by `apache-avro`. Its decoder is not used: it reads texts and unions that are cut off as null, keeps
//! maps in the order of hashes, and has no bound on the depth of recursive types. Here the schema becomes a list of
//! nodes that name each other by number, and data is read by these once, from left to right.

use std::collections::BTreeMap;

use apache_avro::Schema;
use apache_avro::schema::{InnerDecimalSchema, NamespaceRef, UuidSchema};

use super::decimal::decimal;

mod read;

const MILLIS: i64 = 1_000;
const MICROS: i64 = 1_000_000;
const NANOS: i64 = 1_000_000_000;

/// A schema that data is read by. Invariant: every number in `nodes`, and `root`, is a place in `nodes`.
#[derive(Debug)]
pub(crate) struct AvroSchema {
    nodes: Vec<Node>,
    root: usize,
}

/// A type; other types by their numbers.
#[derive(Debug)]
enum Node {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Fixed(usize),
    Enum(Vec<String>),
    Array(usize),
    Map(usize),
    Union(Vec<usize>),
    Record(Vec<(String, usize)>),
    /// Bytes, or so many of them, and the scale.
    Decimal(Option<usize>, usize),
    BigDecimal,
    /// 16 bytes behind their count, or without it.
    UuidBytes {
        counted: bool,
    },
    Date,
    /// Of the day, in int or long, in so many units per second.
    TimeInt(i64),
    TimeLong(i64),
    /// In so many units per second; with the zone UTC, or without one.
    Timestamp {
        units: i64,
        zone: bool,
    },
    Duration,
}

impl AvroSchema {
    /// Reads a schema whose named types may be defined in others.
    pub(crate) fn parse(text: &str, references: &[String]) -> Result<Self, String> {
        let (main, others) = Schema::parse_str_with_list(text, references)
            .map_err(|error| format!("is not an Avro schema: {error}"))?;
        let mut compiling = Compiling::default();
        for schema in others.iter().chain([&main]) {
            compiling.collect(schema, None);
        }
        let root = compiling.node(&main, None)?;
        Ok(Self { nodes: compiling.nodes, root })
    }
}

/// A schema on its way into nodes.
#[derive(Default)]
struct Compiling<'a> {
    nodes: Vec<Node>,
    /// Definitions of named types, by full name.
    defined: BTreeMap<String, (&'a Schema, Option<String>)>,
    /// Those that have a node.
    placed: BTreeMap<String, usize>,
}

impl<'a> Compiling<'a> {
    /// Finds the definitions of all named types.
    fn collect(&mut self, schema: &'a Schema, space: NamespaceRef<'_>) {
        if let (Some(name), false) = (schema.name(), matches!(schema, Schema::Ref { .. })) {
            let full = name.fullname(space);
            let own = name.fully_qualified_name(space).namespace().map(str::to_owned);
            self.defined.entry(full).or_insert((schema, space.map(str::to_owned)));
            if let Schema::Record(record) = schema {
                record.fields.iter().for_each(|field| self.collect(&field.schema, own.as_deref()));
            }
            return;
        }
        #[allow(clippy::wildcard_enum_match_arm, reason = "all others hold no types")]
        match schema {
            Schema::Array(array) => self.collect(&array.items, space),
            Schema::Map(map) => self.collect(&map.types, space),
            Schema::Union(union) => union.variants().iter().for_each(|schema| self.collect(schema, space)),
            _ => {}
        }
    }

    /// The number of a type's node.
    fn node(&mut self, schema: &'a Schema, space: NamespaceRef<'_>) -> Result<usize, String> {
        let Some(name) = schema.name() else {
            let node = self.unnamed(schema, space)?;
            self.nodes.push(node);
            return Ok(self.nodes.len() - 1);
        };
        let full = name.fullname(space);
        if let Some(&number) = self.placed.get(&full) {
            return Ok(number);
        }
        let Some((schema, space)) = self.defined.get(&full).cloned() else {
            return Err(format!("names the type \"{full}\", which is nowhere defined"));
        };
        // Placed before its fields are: they may name it.
        let number = self.nodes.len();
        self.nodes.push(Node::Null);
        self.placed.insert(full, number);
        self.nodes[number] = self.named(schema, space.as_deref())?;
        Ok(number)
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "named types stand elsewhere")]
    fn unnamed(&mut self, schema: &'a Schema, space: NamespaceRef<'_>) -> Result<Node, String> {
        Ok(match schema {
            Schema::Null => Node::Null,
            Schema::Boolean => Node::Boolean,
            Schema::Int => Node::Int,
            Schema::Long => Node::Long,
            Schema::Float => Node::Float,
            Schema::Double => Node::Double,
            Schema::Bytes => Node::Bytes,
            Schema::String | Schema::Uuid(UuidSchema::String) => Node::String,
            Schema::Uuid(UuidSchema::Bytes) => Node::UuidBytes { counted: true },
            Schema::Array(array) => Node::Array(self.node(&array.items, space)?),
            Schema::Map(map) => Node::Map(self.node(&map.types, space)?),
            Schema::Union(union) => {
                let types = union.variants().iter().map(|schema| self.node(schema, space));
                Node::Union(types.collect::<Result<_, _>>()?)
            }
            Schema::Decimal(decimal) => Node::Decimal(None, decimal.scale),
            Schema::BigDecimal => Node::BigDecimal,
            Schema::Date => Node::Date,
            Schema::TimeMillis => Node::TimeInt(MILLIS),
            Schema::TimeMicros => Node::TimeLong(MICROS),
            Schema::TimestampMillis => Node::Timestamp { units: MILLIS, zone: true },
            Schema::TimestampMicros => Node::Timestamp { units: MICROS, zone: true },
            Schema::TimestampNanos => Node::Timestamp { units: NANOS, zone: true },
            Schema::LocalTimestampMillis => Node::Timestamp { units: MILLIS, zone: false },
            Schema::LocalTimestampMicros => Node::Timestamp { units: MICROS, zone: false },
            Schema::LocalTimestampNanos => Node::Timestamp { units: NANOS, zone: false },
            other => return Err(format!("has a type that is not read: {other:?}")),
        })
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "types without a name stand elsewhere")]
    fn named(&mut self, schema: &'a Schema, space: NamespaceRef<'_>) -> Result<Node, String> {
        Ok(match schema {
            Schema::Record(record) => {
                let own = record.name.fully_qualified_name(space).namespace().map(str::to_owned);
                let field = |field: &'a apache_avro::schema::RecordField| {
                    Ok((field.name.clone(), self.node(&field.schema, own.as_deref())?))
                };
                Node::Record(record.fields.iter().map(field).collect::<Result<_, String>>()?)
            }
            Schema::Enum(symbols) => Node::Enum(symbols.symbols.clone()),
            Schema::Fixed(fixed) => Node::Fixed(fixed.size),
            Schema::Duration(_) => Node::Duration,
            Schema::Uuid(UuidSchema::Fixed(_)) => Node::UuidBytes { counted: false },
            Schema::Decimal(decimal) => match &decimal.inner {
                InnerDecimalSchema::Fixed(fixed) => Node::Decimal(Some(fixed.size), decimal.scale),
                InnerDecimalSchema::Bytes => Node::Decimal(None, decimal.scale),
            },
            other => return Err(format!("has a type that is not read: {other:?}")),
        })
    }
}
