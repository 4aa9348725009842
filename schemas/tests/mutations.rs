//! Queries and documents as nobody would write them: the samples, changed at random.
//!
//! Whatever comes, it is read or refused with a reason, in little time and without a panic. `FRESHET_MUTATIONS` is how many are
//! tried; a failure names the seed and the bytes.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]
#![allow(clippy::wildcard_enum_match_arm, reason = "any value may stand anywhere")]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use common::{limits, plan_spec, record, spec};
use freshet_schemas::{Ask, DocumentChange, Query, Record};
use serde_json::{Value, json};

const MUTATIONS: u64 = 20_000;

/// A small generator of numbers (xorshift64*, Vigna 2016).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// The samples of a kind.
fn samples(kind: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.file_name().unwrap().to_string_lossy().starts_with(kind));
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// Every value within a value.
fn parts(value: &Value, found: &mut Vec<Value>) {
    found.push(value.clone());
    match value {
        Value::Array(items) => items.iter().for_each(|item| parts(item, found)),
        Value::Object(fields) => fields.values().for_each(|field| parts(field, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn odd(random: &mut Random, known: &[Value]) -> Value {
    let nested = |depth: usize, name: &str| (0..depth).fold(json!(1), |inner, _| json!({ name: [inner] }));
    match random.below(16) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(-1),
        3 => json!(u64::MAX),
        4 => json!(1e308),
        5 => json!(-0.0),
        6 => json!(""),
        7 => json!("\u{0}\u{202e}𝔘"),
        8 => json!([]),
        9 => json!({}),
        10 => json!("x".repeat(5000)),
        11 => Value::Array(vec![json!(0.5); 3000]),
        12 => nested(100, ["must", "prefetch", "sum", "filter", "nested"][random.below(5)]),
        _ => known[random.below(known.len())].clone(),
    }
}

/// Changes one place in a value.
fn change(value: &mut Value, random: &mut Random, known: &[Value]) {
    let deeper = random.below(4) > 0;
    match value {
        Value::Array(items) if deeper && !items.is_empty() => {
            let at = random.below(items.len());
            match random.below(8) {
                0 => drop(items.remove(at)),
                1 => items.push(items[at].clone()),
                _ => change(&mut items[at], random, known),
            }
        }
        Value::Object(fields) if deeper && !fields.is_empty() => {
            let name = fields.keys().nth(random.below(fields.len())).unwrap().clone();
            match random.below(10) {
                0 => drop(fields.remove(&name)),
                1 => {
                    let other = known[random.below(known.len())].as_str().unwrap_or("query").to_owned();
                    let value = fields.remove(&name).unwrap();
                    fields.insert(other, value);
                }
                2 => {
                    let names = [
                        "query",
                        "prefetch",
                        "filter",
                        "formula",
                        "recommend",
                        "mmr",
                        "group_by",
                        "page",
                        "vectors",
                    ];
                    fields.insert(names[random.below(names.len())].to_owned(), odd(random, known));
                }
                _ => change(fields.get_mut(&name).unwrap(), random, known),
            }
        }
        place => *place = odd(random, known),
    }
}

/// Changes bytes, whatever they mean.
fn garble(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        match random.below(5) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, random.next() as u8),
            2 => {
                let piece = bytes[at..(at + random.below(40)).min(bytes.len())].to_vec();
                bytes.splice(at..at, piece);
            }
            _ if bytes.is_empty() => {}
            _ => bytes[at] = [b'"', b'{', b'[', b'\\', b'9', b'e', b'-', 0, 0xff, b','][random.below(10)],
        }
        if bytes.is_empty() {
            return;
        }
    }
}

fn mutate(kind: &str, mut read: impl FnMut(&Record)) {
    let samples = samples(kind);
    let mut known = Vec::new();
    samples
        .iter()
        .filter_map(|bytes| serde_json::from_slice(bytes).ok())
        .for_each(|value| parts(&value, &mut known));
    let count =
        std::env::var("FRESHET_MUTATIONS").ok().and_then(|count| count.parse().ok()).unwrap_or(MUTATIONS);
    for seed in 1..=count {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut bytes = samples[random.below(samples.len())].clone();
        if random.below(4) > 0
            && let Ok(mut value) = serde_json::from_slice::<Value>(&bytes)
        {
            for _ in 0..=random.below(5) {
                change(&mut value, &mut random, &known);
            }
            bytes = value.to_string().into_bytes();
        } else {
            garble(&mut bytes, &mut random);
        }
        let record = Record { value: Some(bytes.clone()), ..record(Some("key"), None) };
        let text = || String::from_utf8_lossy(&bytes).chars().take(2000).collect::<String>();
        catch_unwind(AssertUnwindSafe(|| read(&record)))
            .unwrap_or_else(|_| panic!("seed {seed}: {}", text()));
    }
}

#[test]
fn queries_are_read_or_refused() {
    let (limits, plan) = (limits(), plan_spec());
    let (mut read, mut refused) = (0, 0);
    mutate("query", |record| match Query::parse(record, &limits) {
        Ok(query) => {
            read += 1;
            assert!(query.limit <= limits.limit_max && !query.id.is_empty());
            if let Ask::Plan(node) = &query.ask {
                // Fits the fields or does not: either way it is said.
                drop(node.check_fields(&plan));
            }
        }
        Err(refusal) => {
            refused += 1;
            assert!(
                !refusal.fault.message.is_empty() && refusal.fault.message.len() < 4000,
                "{}",
                refusal.fault
            );
        }
    });
    assert!(read > 500 && refused > 500, "{read} read, {refused} refused");
}

#[test]
fn documents_are_read_or_refused() {
    let spec = spec();
    let (mut read, mut refused) = (0, 0);
    mutate("document", |record| match DocumentChange::parse(record, &spec) {
        Ok(change) => {
            read += 1;
            assert!(!change.id().is_empty());
            if let DocumentChange::Put(document) = change {
                assert!(document.text.len() <= spec.text_bytes_max);
                let payload: Value = serde_json::from_str(&document.payload).unwrap();
                assert!(payload.is_object());
            }
        }
        Err(fault) => {
            refused += 1;
            assert!(!fault.message.is_empty() && fault.message.len() < 4000, "{fault}");
        }
    });
    assert!(read > 200 && refused > 500, "{read} read, {refused} refused");
}
