//! Drives the upsert by hand: `cargo run --release -p freshet-operators --example upsert`.
//!
//! Records go in at ticks; what comes out is what each of them changed. An update names the chunks that it keeps, so that
//! nothing is embedded twice, and a record that repeats its document changes nothing.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::cell::RefCell;
use std::rc::Rc;

use freshet_operators::index::Time;
use freshet_operators::message::{DocumentRecord, Origin};
use freshet_operators::upsert::{SplitText, upsert};
use freshet_schemas::{DocumentChange, DocumentSpec, Record};
use timely::dataflow::operators::vec::ToStream;
use timely::dataflow::operators::{Input, Inspect, Probe};
use timely::dataflow::{InputHandle, ProbeHandle};

/// A chunk is a line.
fn lines(text: &str) -> Vec<(usize, usize)> {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    let mut from = 0;
    for line in text.split_inclusive('\n') {
        ranges.push((from, from + line.len()));
        from += line.len();
    }
    if ranges.is_empty() { vec![(0, 0)] } else { ranges }
}

fn record(offset: i64, value: Option<&str>) -> DocumentRecord {
    let value = value.map(|text| format!("{{\"id\": \"a\", \"text\": {text:?}}}").into_bytes());
    let record = Record { offset, key: Some(b"a".to_vec()), value, ..Record::default() };
    let spec = DocumentSpec {
        id: "id".to_owned(),
        text: vec!["text".to_owned()],
        title: None,
        payload: None,
        text_bytes_max: 1 << 20,
        vectors: std::collections::BTreeMap::new(),
        source: freshet_schemas::SourceSpec::default(),
    };
    let document = match DocumentChange::parse(&record, &spec) {
        Ok(DocumentChange::Put(document)) => Some(document),
        Ok(DocumentChange::Delete(_)) => None,
        Err(fault) => panic!("the example is wrong: {fault}"),
    };
    DocumentRecord {
        origin: Origin { worker: 0, partition: 0, offset },
        id: "a".to_owned(),
        document,
        record,
    }
}

/// Per tick what changed: chunks kept and chunks new, or `None` where the document left.
pub fn changes() -> Vec<(Time, Option<(usize, usize)>)> {
    timely::execute_directly(move |worker| {
        let told = Rc::new(RefCell::new(Vec::new()));
        let seen = Rc::clone(&told);
        let mut input = InputHandle::new();
        let probe = ProbeHandle::new();
        worker.dataflow::<Time, _, _>(|scope| {
            let split: SplitText = Rc::new(lines);
            let before = std::iter::empty().to_stream(scope);
            let deltas = upsert(scope.input_from(&mut input), split, before);
            let tell = move |tick: &Time, delta: &freshet_operators::message::DocumentDelta| {
                let chunks = delta.put.as_ref().map(|put| {
                    let kept = put.kept.iter().flatten().count();
                    (kept, put.chunks.len() - kept)
                });
                seen.borrow_mut().push((*tick, chunks));
            };
            deltas.inspect_time(tell).probe_with(&probe);
        });
        let texts = [Some("one\ntwo\n"), Some("one\ntwo\n"), Some("one\nthree\nfour\n"), None];
        for (tick, text) in (1..).zip(texts) {
            input.advance_to(tick);
            input.send(record(tick as i64, text));
            input.advance_to(tick + 1);
            while probe.less_than(input.time()) {
                worker.step();
            }
        }
        told.take()
    })
}

/// Shows them.
pub fn main() {
    for (tick, change) in changes() {
        match change {
            Some((kept, new)) => println!("tick {tick}: {kept} chunks kept, {new} to be embedded"),
            None => println!("tick {tick}: the document left"),
        }
    }
}
