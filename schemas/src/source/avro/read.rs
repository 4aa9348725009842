//! Data → JSON, by the nodes of a schema.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::civil::{Date, Time};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Number, Value};

use super::{AvroSchema, Node, decimal};
use crate::json::{element, join};
use crate::{Fault, FaultCode};

/// Deepest nesting, as in JSON.
const DEPTH_MAX: usize = 127;
/// Values that a record may have beyond one per byte: some take no byte at all.
const VALUES_MAX: usize = 1 << 20;
const DAY_SECONDS: i64 = 24 * 60 * 60;

impl AvroSchema {
    /// Reads data to its end.
    pub(crate) fn read(&self, data: &[u8]) -> Result<Value, Fault> {
        let values_left = data.len().saturating_add(VALUES_MAX);
        let mut reader = Reader { nodes: &self.nodes, data, at: 0, values_left, path: Vec::new() };
        let value = reader.value(self.root)?;
        if reader.at < data.len() {
            let left = data.len() - reader.at;
            return Err(reader.fault(format!("ends, but {left} bytes are left")));
        }
        Ok(value)
    }
}

/// Where a value stands in the one around it.
enum Step<'a> {
    Field(&'a str),
    Key(String),
    Element(usize),
}

/// Reads from left to right. Invariant: `at` ≤ length of `data`.
struct Reader<'a> {
    nodes: &'a [Node],
    data: &'a [u8],
    at: usize,
    values_left: usize,
    path: Vec<Step<'a>>,
}

impl<'a> Reader<'a> {
    fn value(&mut self, node: usize) -> Result<Value, Fault> {
        let Some(values_left) = self.values_left.checked_sub(1) else {
            return Err(self.fault("has more values than bytes"));
        };
        self.values_left = values_left;
        if self.path.len() > DEPTH_MAX {
            let message = format!("nested more than {DEPTH_MAX} deep");
            return Err(Fault::whole(FaultCode::TooDeep, message));
        }
        Ok(match &self.nodes[node] {
            Node::Null => Value::Null,
            Node::Boolean => match self.take(1)? {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                other => return Err(self.fault(format!("{other:?} is not a truth value"))),
            },
            Node::Int => Value::from(self.int()?),
            Node::Long => Value::from(self.long()?),
            Node::Float => {
                let float = f32::from_le_bytes(self.array()?);
                // The shortest text names the same number without the noise of more digits.
                self.number(float.to_string().parse().unwrap_or(f64::from(float)))?
            }
            Node::Double => {
                let double = f64::from_le_bytes(self.array()?);
                self.number(double)?
            }
            Node::Bytes => Value::String(STANDARD.encode(self.counted()?)),
            Node::String => Value::String(self.text()?),
            Node::Fixed(size) => Value::String(STANDARD.encode(self.take(*size)?)),
            Node::Enum(symbols) => {
                let number = self.long()?;
                match usize::try_from(number).ok().and_then(|number| symbols.get(number)) {
                    Some(symbol) => Value::String(symbol.clone()),
                    None => return Err(self.fault(format!("has no symbol {number}"))),
                }
            }
            Node::Array(items) => self.array_of(*items)?,
            Node::Map(values) => self.map_of(*values)?,
            Node::Union(types) => {
                let number = self.long()?;
                match usize::try_from(number).ok().and_then(|number| types.get(number)) {
                    // No type of a union is a union, so the depth grows in what is below.
                    Some(of) => self.value(*of)?,
                    None => return Err(self.fault(format!("has no type {number} in its union"))),
                }
            }
            Node::Record(fields) => {
                let mut object = Map::new();
                for (name, of) in fields {
                    let value = self.below(Step::Field(name), *of)?;
                    object.insert(name.clone(), value);
                }
                Value::Object(object)
            }
            Node::Decimal(size, scale) => {
                let unscaled = match size {
                    Some(size) => self.take(*size)?,
                    None => self.counted()?,
                };
                self.decimal(unscaled, *scale)?
            }
            Node::BigDecimal => self.big_decimal()?,
            Node::UuidBytes { counted } => {
                let bytes = if *counted { self.counted()? } else { self.take(16)? };
                self.uuid(bytes)?
            }
            Node::Date => self.date()?,
            Node::TimeInt(units) => {
                let time = self.int()?;
                self.time(i64::from(time), *units)?
            }
            Node::TimeLong(units) => {
                let time = self.long()?;
                self.time(time, *units)?
            }
            Node::Timestamp { units, zone } => self.timestamp(*units, *zone)?,
            Node::Duration => {
                let mut part = || Ok(u32::from_le_bytes(self.array()?));
                let (months, days, millis) = (part()?, part()?, part()?);
                Value::String(format!("P{months}M{days}DT{}.{:03}S", millis / 1000, millis % 1000))
            }
        })
    }

    fn below(&mut self, step: Step<'a>, node: usize) -> Result<Value, Fault> {
        self.path.push(step);
        let value = self.value(node)?;
        self.path.pop();
        Ok(value)
    }

    /// Items of the next block of an array or a map; 0 at its end.
    fn block(&mut self) -> Result<usize, Fault> {
        let mut count = self.long()?;
        if count < 0 {
            // A negative count is followed by the bytes of the block, for those who skip it.
            self.long()?;
            count = count.checked_neg().unwrap_or(i64::MAX);
        }
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }

    fn array_of(&mut self, items: usize) -> Result<Value, Fault> {
        let mut array = Vec::new();
        loop {
            let count = self.block()?;
            if count == 0 {
                return Ok(Value::Array(array));
            }
            for _ in 0..count {
                let item = self.below(Step::Element(array.len()), items)?;
                array.push(item);
            }
        }
    }

    fn map_of(&mut self, values: usize) -> Result<Value, Fault> {
        let mut map = Map::new();
        loop {
            let count = self.block()?;
            if count == 0 {
                return Ok(Value::Object(map));
            }
            for _ in 0..count {
                let key = self.text()?;
                let value = self.below(Step::Key(key.clone()), values)?;
                map.insert(key, value);
            }
        }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Fault> {
        let rest = &self.data[self.at..];
        match rest.get(..count) {
            Some(bytes) => {
                self.at += count;
                Ok(bytes)
            }
            None => Err(self.fault(format!("needs {count} bytes, {} are left", rest.len()))),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// Bytes behind their count.
    fn counted(&mut self) -> Result<&'a [u8], Fault> {
        let count = self.long()?;
        match usize::try_from(count) {
            Ok(count) => self.take(count),
            Err(_) => Err(self.fault(format!("has {count} bytes"))),
        }
    }

    fn text(&mut self) -> Result<String, Fault> {
        let bytes = self.counted()?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(self.fault("is not UTF-8")),
        }
    }

    /// A zig-zag number in groups of seven bits, the lowest first.
    fn long(&mut self) -> Result<i64, Fault> {
        let mut number = 0u64;
        for group in 0..10 {
            let [byte] = self.array()?;
            number |= u64::from(byte & 0x7f) << (7 * group);
            if byte & 0x80 == 0 {
                let magnitude = i64::try_from(number >> 1).unwrap_or(i64::MAX);
                return Ok(if number & 1 == 0 { magnitude } else { !magnitude });
            }
        }
        Err(self.fault("has a number of more than ten bytes"))
    }

    fn int(&mut self) -> Result<i32, Fault> {
        let number = self.long()?;
        i32::try_from(number).map_err(|_| self.fault(format!("{number} is not an int")))
    }

    fn number(&self, number: f64) -> Result<Value, Fault> {
        Number::from_f64(number).map(Value::Number).ok_or_else(|| {
            let message = format!("{number} is not a finite number");
            Fault { code: FaultCode::NotFinite, message, field: self.field() }
        })
    }

    fn decimal(&self, unscaled: &[u8], scale: usize) -> Result<Value, Fault> {
        let long = || self.fault(format!("has a decimal of {} bytes, scale {scale}", unscaled.len()));
        decimal(unscaled, scale).ok_or_else(long)
    }

    /// Bytes that hold the counted bytes of the unscaled number, and the scale.
    fn big_decimal(&mut self) -> Result<Value, Fault> {
        let inner = self.counted()?;
        let (data, at) = (std::mem::replace(&mut self.data, inner), std::mem::take(&mut self.at));
        let unscaled = self.counted();
        let scale = self.long();
        (self.data, self.at) = (data, at);
        match usize::try_from(scale?) {
            Ok(scale) => self.decimal(unscaled?, scale),
            Err(_) => Err(self.fault("has a decimal with a negative scale")),
        }
    }

    fn uuid(&self, bytes: &[u8]) -> Result<Value, Fault> {
        if bytes.len() != 16 {
            return Err(self.fault(format!("has a UUID of {} bytes", bytes.len())));
        }
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
        Ok(Value::String(parts.join("-")))
    }

    fn date(&mut self) -> Result<Value, Fault> {
        let days = self.int()?;
        let date = Date::constant(1970, 1, 1).checked_add(SignedDuration::from_hours(24 * i64::from(days)));
        let date = date.map_err(|_| self.fault(format!("has day {days}, which no calendar has")))?;
        Ok(Value::String(date.to_string()))
    }

    fn time(&self, time: i64, units: i64) -> Result<Value, Fault> {
        if !(0..DAY_SECONDS * units).contains(&time) {
            return Err(self.fault(format!("has time {time}, which no day has")));
        }
        let since = SignedDuration::from_nanos(time * (super::NANOS / units));
        let time = Time::midnight().checked_add(since);
        let time = time.map_err(|_| self.fault("has a time that no day has"))?;
        Ok(Value::String(time.to_string()))
    }

    fn timestamp(&mut self, units: i64, zone: bool) -> Result<Value, Fault> {
        let number = self.long()?;
        let nanos = i128::from(number) * i128::from(super::NANOS / units);
        let timestamp = Timestamp::from_nanosecond(nanos)
            .map_err(|_| self.fault(format!("has time {number}, which no calendar has")))?;
        let text = timestamp.to_string();
        Ok(Value::String(if zone { text } else { text.trim_end_matches('Z').to_owned() }))
    }

    fn field(&self) -> Option<String> {
        let path = self.path.iter().fold(String::new(), |path, step| match step {
            Step::Field(name) => join(&path, name),
            Step::Key(name) => join(&path, name),
            Step::Element(number) => element(&path, *number),
        });
        Some(path).filter(|path| !path.is_empty())
    }

    #[cold]
    fn fault(&self, what: impl AsRef<str>) -> Fault {
        let message = format!("not Avro of its schema: at byte {} the value {}", self.at, what.as_ref());
        Fault { code: FaultCode::NotDecoded, message, field: self.field() }
    }
}
