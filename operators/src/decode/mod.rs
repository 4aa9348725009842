//! Records → documents and queries. What does not fit becomes a dead letter or an error answer; nothing is dropped.

use std::collections::BTreeMap;
use std::rc::Rc;

use freshet_schemas::{
    DocumentChange, DocumentSpec, DocumentTopics, Fault, Offset, Partition, Query, QueryLimits, Record,
    dead_letter,
};
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use crate::index::Time;
use crate::message::{DeadLetter, DocumentRecord, Origin, QueryRecord};
use crate::registry::ReadRecord;

/// Suffix of a dead-letter topic.
pub const DEAD_LETTER_SUFFIX: &str = ".dlq";

/// Makes dead letters of records.
#[derive(Clone, Debug)]
pub struct DeadLetters {
    topics: DocumentTopics,
    /// Records before these offsets were refused and written by an earlier run.
    written: Rc<BTreeMap<Partition, Offset>>,
}

impl DeadLetters {
    /// For records of these topics; those before `written` are not written again.
    pub fn new(topics: DocumentTopics, written: BTreeMap<Partition, Offset>) -> Self {
        Self { topics, written: Rc::new(written) }
    }

    /// The dead letter, unless an earlier run has written it.
    pub fn letter(&self, origin: Origin, record: &Record, stage: &str, fault: &Fault) -> Option<DeadLetter> {
        if self.written.get(&origin.partition).is_some_and(|&next| origin.offset < next) {
            return None;
        }
        let (topic, partition) = self.topics.name(record.partition);
        Some(DeadLetter {
            origin,
            topic: format!("{topic}{DEAD_LETTER_SUFFIX}"),
            record: dead_letter(Record { partition, ..record.clone() }, topic, stage, fault),
        })
    }
}

/// Decodes documents by the specs of their topics; refused records leave on the second stream.
pub fn decode_documents<'scope>(
    records: StreamVec<'scope, Time, (Origin, ReadRecord)>,
    specs: Vec<DocumentSpec>,
    letters: DeadLetters,
) -> (StreamVec<'scope, Time, DocumentRecord>, StreamVec<'scope, Time, DeadLetter>) {
    decode(
        records,
        "Decode(documents)",
        move |(origin, ReadRecord { record, schemas }): (Origin, ReadRecord)| {
            let (topic, _) = DocumentTopics::split(record.partition);
            match DocumentChange::read(&record, &schemas, &specs[topic]) {
                Ok(DocumentChange::Put(document)) => {
                    Ok(DocumentRecord { origin, id: document.id.clone(), document: Some(document), record })
                }
                Ok(DocumentChange::Delete(id)) => Ok(DocumentRecord { origin, id, document: None, record }),
                Err(fault) => Err(letters.letter(origin, &record, "decode", &fault).map(Box::new)),
            }
        },
    )
}

/// Decodes queries. A faulty query with a known id goes on to its error answer; one without becomes a dead letter, unless
/// it came through the gateway.
pub fn decode_queries<'scope>(
    records: StreamVec<'scope, Time, (Origin, u64, Record)>,
    limits: QueryLimits,
    letters: DeadLetters,
) -> (StreamVec<'scope, Time, QueryRecord>, StreamVec<'scope, Time, DeadLetter>) {
    decode(records, "Decode(queries)", move |(origin, read_at_us, record): (Origin, u64, Record)| {
        let (id, query) = match Query::parse(&record, &limits) {
            Ok(query) => (query.id.clone(), Ok(query)),
            Err(refusal) => match refusal.id {
                Some(id) => (id, Err(refusal.fault)),
                // Who asked waits for an answer, whatever it is named.
                None if origin.is_gateway() => {
                    (format!("unnamed-{}-{}", origin.worker, origin.offset), Err(refusal.fault))
                }
                None => return Err(letters.letter(origin, &record, "decode", &refusal.fault).map(Box::new)),
            },
        };
        Ok(QueryRecord { origin, id, headers: record.headers.clone(), read_at_us, query, record })
    })
}

/// Decodes record by record; what is refused leaves by the second output, unless its letter is written already.
fn decode<'scope, D: 'static, R: 'static>(
    records: StreamVec<'scope, Time, D>,
    name: &str,
    mut decode: impl FnMut(D) -> Result<R, Option<Box<DeadLetter>>> + 'static,
) -> (StreamVec<'scope, Time, R>, StreamVec<'scope, Time, DeadLetter>) {
    let mut builder = OperatorBuilder::new(name.to_owned(), records.scope());
    let mut input = builder.new_input(records, Pipeline);
    let (decoded_out, decoded) = builder.new_output();
    let (letters_out, letters) = builder.new_output();
    let mut decoded_out = OutputBuilder::from(decoded_out);
    let mut letters_out = OutputBuilder::from(letters_out);
    builder.build(move |_| {
        move |_frontiers| {
            let (mut decoded_out, mut letters_out) = (decoded_out.activate(), letters_out.activate());
            input.for_each(|cap, data| {
                let mut refused = Vec::new();
                let mut session = decoded_out.session(&cap);
                for record in data.drain(..) {
                    match decode(record) {
                        Ok(decoded) => session.give(decoded),
                        Err(letter) => refused.extend(letter.map(|letter| *letter)),
                    }
                }
                drop(session);
                if !refused.is_empty() {
                    letters_out.session(&cap).give_iterator(refused.into_iter());
                }
            });
        }
    });
    (decoded, letters)
}

#[cfg(test)]
mod tests;
