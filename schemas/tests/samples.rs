//! The JSON Schemas, the parsers and the writers agree, on the sample messages and on real ones.
//!
//! A sample is named `TYPE-WHAT.json`, one that must be refused `TYPE-WHAT.CODE.json` with the code of its fault.

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::{limits, plan_spec, record, spec};
use freshet_schemas::{
    Answer, Ask, DocumentChange, Fault, FaultCode, FusionScore, Group, Leg, Point, PointVector, Query,
    Record, RerankScore, SparseVector, StageSeconds, dead_letter,
};
use jsonschema::Validator;
use serde_json::{Value, json};

/// Faults that only the configuration can tell: a schema knows neither vector fields nor limits.
const BEYOND_SCHEMA: [&str; 2] = ["unknown_vector", "wrong_dimension"];

fn read(path: impl AsRef<Path>) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(path).expect("the file is there")
}

fn schema_of(name: &str) -> Value {
    serde_json::from_str(&read(format!("{name}.json"))).expect("a schema is JSON")
}

fn schema(name: &str) -> Validator {
    let schema = schema_of(name);
    assert!(jsonschema::meta::is_valid(&schema), "{name} is not a schema");
    jsonschema::draft202012::new(&schema).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The samples of a type: what they are called, the code of their fault, their text.
fn samples(of: &str) -> Vec<(String, Option<String>, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples");
    let entries = std::fs::read_dir(folder).expect("the folder is there");
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string());
    let mut names: Vec<String> = names.map(|name| name.expect("a UTF-8 name")).collect();
    names.sort();
    names.retain(|name| name.starts_with(&format!("{of}-")));
    let parts = |name: String| {
        let code = name.split('.').nth(1).filter(|part| *part != "json").map(str::to_owned);
        let text = read(format!("samples/{name}"));
        (name, code, text)
    };
    names.into_iter().map(parts).collect()
}

/// Compares parser and schema on every sample of a type.
fn agree(of: &str, parse: impl Fn(&Record) -> Result<(), Fault>) {
    let schema = schema(of);
    let samples = samples(of);
    assert!(samples.iter().any(|(_, code, _)| code.is_none()), "no valid {of}");
    assert!(samples.iter().any(|(_, code, _)| code.is_some()), "no invalid {of}");
    for (name, code, text) in samples {
        let value: Value = serde_json::from_str(&text).expect("a sample is JSON");
        let key = value.get("id").is_none().then_some("key");
        let fault = parse(&record(key, Some(&text))).err();
        let found = fault.as_ref().map(|fault| fault.code.as_str());
        assert_eq!(found, code.as_deref(), "{name}: {fault:?}");
        let fits = code.is_none_or(|code| BEYOND_SCHEMA.contains(&code.as_str()));
        let errors: Vec<_> = schema.iter_errors(&value).map(|error| error.to_string()).collect();
        assert_eq!(errors.is_empty(), fits, "{name}: {errors:?}");
    }
}

#[test]
fn documents_agree() {
    agree("document", |record| DocumentChange::parse(record, &spec()).map(drop));
}

#[test]
fn queries_agree_and_fit_the_fields() {
    agree("query", |record| {
        let query = Query::parse(record, &limits()).map_err(|refusal| refusal.fault)?;
        match query.ask {
            Ask::Plan(root) => root.check_fields(&plan_spec()),
            Ask::Text { .. } | Ask::Count | Ask::Page(_) => Ok(()),
        }
    });
}

#[test]
fn answers_of_the_samples_are_read_and_written() {
    let schema = schema("answer");
    let samples = samples("answer");
    assert_eq!(samples.len(), 5);
    for (name, _, text) in samples {
        let value: Value = serde_json::from_str(&text).expect("a sample is JSON");
        assert!(schema.is_valid(&value), "{name}");
        let answer = Answer::from_json(text.as_bytes()).expect("an answer");
        let written: Value = serde_json::from_slice(&answer.to_json()).expect("JSON");
        assert_eq!(written, value, "{name}");
    }
}

fn vectors() -> BTreeMap<String, PointVector> {
    let sparse = SparseVector { indices: vec![3, u64::from(u32::MAX)], values: vec![0.5, -2.0] };
    BTreeMap::from([
        ("dense".to_owned(), PointVector::Dense(vec![0.1, -1e-9])),
        ("sparse".to_owned(), PointVector::Sparse(sparse)),
        ("multi".to_owned(), PointVector::Multi(vec![vec![0.1], vec![1.0]])),
    ])
}

fn point(id: &str, whole: bool) -> Point {
    let leg = |name: &str, contribution| Leg { name: name.to_owned(), rank: 1, score: 0.5, contribution };
    Point {
        id: id.to_owned(),
        score: -1.25,
        chunk: 3,
        span: whole.then_some((7, 16)),
        text: whole.then(|| "a \"text\"\n".to_owned()),
        payload: whole.then(|| json!({"b": 1, "a": [null, 1.5]})),
        legs: if whole { vec![leg("dense", Some(0.1)), leg("bm25", None)] } else { Vec::new() },
        fusion: whole.then_some(FusionScore { rank: 2, score: 0.25 }),
        rerank: whole.then_some(RerankScore { rank: 1, score: 1e-9 }),
        order_value: whole.then(|| 17.into()),
        vectors: if whole { vectors() } else { BTreeMap::new() },
    }
}

#[test]
fn answers_that_are_written_fit_the_schema_and_come_back() {
    let schema = schema("answer");
    let answer = Answer {
        id: "q".to_owned(),
        points: vec![point("a", true), point("b", false)],
        as_of: BTreeMap::from([("documents".to_owned(), BTreeMap::from([(0, -1), (12, i64::MAX)]))]),
        time: Some(1_763_640_000_000),
        took_seconds: 0.0042,
        stage_seconds: Some(StageSeconds { embed: 0.003, ..StageSeconds::default() }),
        degraded: Vec::new(),
        error: None,
        count: Some(3),
        groups: Some(vec![
            Group { id: json!("x"), hits: vec![point("c", true)] },
            Group { id: json!(-4), hits: vec![point("d", false)] },
        ]),
        next: Some("a-0-1-14".to_owned()),
    };
    let refusal = Answer::refusal("q", Fault::whole(FaultCode::NotJson, "not JSON"), 0.5);
    assert!(refusal.points.is_empty());
    for answer in [answer, refusal] {
        let bytes = answer.to_json();
        let value: Value = serde_json::from_slice(&bytes).expect("JSON");
        let errors: Vec<_> = schema.iter_errors(&value).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?}");
        assert_eq!(Answer::from_json(&bytes), Ok(answer));
    }
    assert_eq!(Answer::from_json(b"{}").map_err(|fault| fault.code), Err(FaultCode::NotJson));
}

#[test]
fn dead_letters_fit_the_schema() {
    let schema = schema("dead_letter");
    for (name, _, text) in samples("dead_letter") {
        assert!(schema.is_valid(&serde_json::from_str(&text).expect("JSON")), "{name}");
    }
    let mut refused = record(Some("k"), Some("{"));
    refused.headers = vec![("trace".to_owned(), Some(b"1".to_vec())), ("none".to_owned(), None)];
    let fault = DocumentChange::parse(&refused, &spec()).expect_err("it is not JSON");
    let letter = dead_letter(refused.clone(), "documents", "decode", &fault);
    let headers: serde_json::Map<String, Value> = letter
        .headers
        .iter()
        .map(|(name, value)| {
            let value = value.as_ref().map(|value| String::from_utf8_lossy(value).into_owned());
            (name.clone(), Value::from(value))
        })
        .collect();
    let headers = Value::Object(headers);
    assert!(schema.is_valid(&headers), "{headers}");
    assert_eq!(letter.headers[..2], refused.headers);
    assert_eq!(headers["__connect.errors.topic"], "documents");
    assert_eq!(headers["__connect.errors.partition"], "3");
    assert_eq!(headers["__connect.errors.offset"], "17");
    assert_eq!(headers["__connect.errors.stage"], "decode");
    assert_eq!(headers["__connect.errors.exception.class.name"], "not_json");
    let message = "not JSON: EOF while parsing an object at line 1 column 1";
    assert_eq!(headers["__connect.errors.exception.message"], message);
    assert_eq!(Record { headers: refused.headers.clone(), ..letter }, refused);
}

#[test]
fn what_two_schemas_share_is_the_same() {
    let (document, query) = (schema_of("document"), schema_of("query"));
    for name in ["number", "dense", "sparse", "multi"] {
        assert_eq!(document["$defs"][name], query["$defs"][name], "{name}");
    }
    assert_eq!(schema_of("answer")["$defs"]["code"], schema_of("dead_letter")["$defs"]["code"]);
}

#[test]
fn the_schema_knows_every_code() {
    let codes: Vec<FaultCode> =
        serde_json::from_value(schema_of("answer")["$defs"]["code"]["enum"].clone()).expect("codes");
    let last = codes.iter().max().expect("there are codes");
    assert_eq!(*last as usize + 1, codes.len());
    for code in codes {
        assert_eq!(serde_json::to_value(code).expect("a string"), code.as_str());
    }
}
