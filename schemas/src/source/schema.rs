//! Schemas of the wire format: a zero, four bytes of a number, data.

use serde_json::Value;

use super::avro::AvroSchema;
use crate::{Fault, FaultCode};

/// Bytes before the data: the magic byte and the number of the schema.
const HEAD_BYTES: usize = 5;

/// The number of a schema, and the data behind it.
///
/// # Errors
/// Bytes that are not in the wire format.
pub fn frame(bytes: &[u8]) -> Result<(u32, &[u8]), Fault> {
    let foreign = |what: String| {
        let message =
            format!("{what}: not in the wire format of a schema registry (a zero, four bytes, data)");
        Fault::whole(FaultCode::NotDecoded, message)
    };
    match bytes {
        [0, a, b, c, d, data @ ..] => Ok((u32::from_be_bytes([*a, *b, *c, *d]), data)),
        [0, ..] => Err(foreign(format!("{} bytes, fewer than {HEAD_BYTES}", bytes.len()))),
        [first, ..] => Err(foreign(format!("first byte {first:#04x}"))),
        [] => Err(foreign("no bytes".to_owned())),
    }
}

/// A schema that data is read by.
#[derive(Debug)]
pub struct WireSchema(AvroSchema);

impl WireSchema {
    /// Reads an Avro schema. `references` are the schemas whose types it names, in any order.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence.
    pub fn avro(text: &str, references: &[String]) -> Result<Self, String> {
        AvroSchema::parse(text, references).map(Self)
    }

    /// Data as JSON.
    ///
    /// # Errors
    /// Data that does not follow the schema, with the field and the byte.
    pub fn read(&self, data: &[u8]) -> Result<Value, Fault> {
        self.0.read(data)
    }
}
