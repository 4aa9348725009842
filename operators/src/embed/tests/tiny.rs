//! Small ONNX models, written as the protocol buffers they are: a table of vectors looked up by token number.
//!
//! Field numbers are those of onnx/onnx.proto (IR version 8).

use std::path::Path;

use serde_json::json;

/// Size of the vectors.
pub(super) const DIM: usize = 3;
/// Vectors by token: `[PAD]`, `[CLS]`, `[SEP]`, `[UNK]`, `red`, `green`, `blue`. Padding would show in any mean.
pub(super) const TABLE: [[f32; DIM]; 7] = [
    [900.0, 900.0, 900.0],
    [0.0, 0.0, 0.0],
    [0.0, 0.0, 3.0],
    [0.5, 0.5, 0.5],
    [1.0, 0.0, 0.0],
    [0.0, 2.0, 0.0],
    [0.0, 0.0, 4.0],
];

/// What the model takes and gives.
pub(super) struct Shape {
    pub(super) inputs: Vec<&'static str>,
    pub(super) output: &'static str,
    /// Rank of the output: 3 for token vectors, 2 for numbers per token.
    pub(super) rank: usize,
}

impl Default for Shape {
    fn default() -> Self {
        Self { inputs: vec!["input_ids", "attention_mask"], output: "last_hidden_state", rank: 3 }
    }
}

/// Writes a folder with model, tokenizer and `freshet.json`.
pub(super) fn write(folder: &Path, shape: &Shape, manifest: &serde_json::Value) {
    std::fs::write(folder.join("model.onnx"), model(shape)).expect("a writable folder");
    std::fs::write(folder.join("tokenizer.json"), tokenizer().to_string()).expect("a writable folder");
    std::fs::write(folder.join("freshet.json"), manifest.to_string()).expect("a writable folder");
}

pub(super) fn manifest() -> serde_json::Value {
    json!({
        "name": "tiny", "source": "a test", "license": "Apache-2.0", "pooling": "mean", "normalize": false,
        "max_tokens": 5, "query_prefix": "red ", "passage_prefix": "", "file": "model.onnx",
    })
}

pub(super) fn tokenizer() -> serde_json::Value {
    let special = |id: u32, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true})
    };
    json!({
        "version": "1.0", "truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
        "padding": {"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0,
            "pad_type_id": 0, "pad_token": "[PAD]"},
        "added_tokens": [special(0, "[PAD]"), special(1, "[CLS]"), special(2, "[SEP]")],
        "normalizer": {"type": "Lowercase"}, "pre_tokenizer": {"type": "Whitespace"}, "decoder": null,
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1]},
        "model": {"type": "WordLevel", "unk_token": "[UNK]", "vocab": {
            "[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "[UNK]": 3, "red": 4, "green": 5, "blue": 6}},
    })
}

/// `output = Gather(table, input_ids)`; the other inputs are declared and not used.
pub(super) fn model(shape: &Shape) -> Vec<u8> {
    const FLOAT: u64 = 1;
    const INT64: u64 = 7;
    let columns = if shape.rank == 3 { DIM } else { 1 };
    let mut table = number(1, TABLE.len() as u64);
    if shape.rank == 3 {
        table.extend(number(1, columns as u64));
    }
    table.extend([number(2, FLOAT), bytes(8, b"table")].concat());
    let values: Vec<u8> =
        TABLE.iter().flat_map(|row| &row[..columns]).flat_map(|value| value.to_le_bytes()).collect();
    table.extend(bytes(9, &values));
    let node =
        [bytes(1, b"table"), bytes(1, b"input_ids"), bytes(2, shape.output.as_bytes()), bytes(4, b"Gather")];
    let mut graph = [bytes(1, &node.concat()), bytes(2, b"tiny"), bytes(5, &table)].concat();
    for input in &shape.inputs {
        graph.extend(bytes(11, &value(input, INT64, &[None, None])));
    }
    let sizes = [None, None, Some(DIM as u64)];
    graph.extend(bytes(12, &value(shape.output, FLOAT, &sizes[..shape.rank])));
    [number(1, 8), bytes(7, &graph), bytes(8, &number(2, 17))].concat()
}

/// A `ValueInfoProto` with sizes known or not.
fn value(name: &str, kind: u64, sizes: &[Option<u64>]) -> Vec<u8> {
    let dim = |(place, size): (usize, &Option<u64>)| match size {
        Some(size) => bytes(1, &number(1, *size)),
        None => bytes(1, &bytes(2, format!("d{place}").as_bytes())),
    };
    let dims: Vec<u8> = sizes.iter().enumerate().flat_map(dim).collect();
    let tensor = [number(1, kind), bytes(2, &dims)].concat();
    [bytes(1, name.as_bytes()), bytes(2, &bytes(1, &tensor))].concat()
}

fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

fn bytes(field: u64, value: &[u8]) -> Vec<u8> {
    [varint(field << 3 | 2), varint(value.len() as u64), value.to_vec()].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            out.push(low);
            return out;
        }
        out.push(low | 0x80);
    }
}
