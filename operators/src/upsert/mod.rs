//! Documents → exact changes: last write per id wins.
//!
//! ```text
//!  documents ─▶ Latest ─┬─ (id, state) ─▶ arrange_from_upsert ─ ±(id, state) ─▶ Delta ─▶ changes
//!            by id, per └─ bodies ────────────────────────────────────────────▶   ▲
//!            closed tick   (text, chunks)                                    pairs at each closed tick
//! ```
//! Differential holds [`DocumentState`] per id: hashes only. Texts pass beside it and are dropped with their tick.
//! Time rule: a change has the tick of its record, and leaves once that tick is closed. A record that repeats the
//! state of its document leaves nothing.

mod logic;

pub use logic::{Body, DigestError, DocumentState, Latest, delta};

use std::collections::BTreeMap;
use std::rc::Rc;

use differential_dataflow::hashable::Hashable;
use differential_dataflow::operators::arrange::upsert::arrange_from_upsert;
use differential_dataflow::trace::implementations::{ValBuilder, ValSpine};
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::generic::operator::Operator;
use timely::dataflow::operators::{Capability, Concat};

use crate::index::Time;
use crate::message::{DocumentDelta, DocumentRecord};

/// Splits a text into chunks: byte ranges, in order, never empty as a list.
pub type SplitText = Rc<dyn Fn(&str) -> Vec<(usize, usize)>>;

/// What a document is from a time on: `None` if it is gone.
pub type Upsert = (String, Option<DocumentState>, Time);
type Update = ((String, DocumentState), Time, isize);

/// Turns documents into the exact changes of the collection of documents, which begins with those of `restored`, at time 0.
pub fn upsert<'scope>(
    documents: StreamVec<'scope, Time, DocumentRecord>,
    split: SplitText,
    restored: StreamVec<'scope, Time, Upsert>,
) -> StreamVec<'scope, Time, DocumentDelta> {
    let (bodies, upserts) = latest(documents, split);
    // At time 0, which no record has: they are there before the first one, and leave no change.
    let upserts = upserts.concat(restored);
    let arranged = arrange_from_upsert::<
        ValBuilder<String, DocumentState, Time, isize>,
        ValSpine<String, DocumentState, Time, isize>,
        _,
        _,
    >(upserts, "Upsert");
    let updates = arranged.as_collection(|id, state| (id.clone(), state.clone())).inner;
    deltas(bodies, updates)
}

/// The last record per id and closed tick: once as body, once as upsert.
fn latest<'scope>(
    documents: StreamVec<'scope, Time, DocumentRecord>,
    split: SplitText,
) -> (StreamVec<'scope, Time, Body>, StreamVec<'scope, Time, Upsert>) {
    let mut builder = OperatorBuilder::new("Latest".into(), documents.scope());
    // The same hash as the arrangement: bodies and updates of an id meet on one worker.
    let by_id = Exchange::new(|record: &DocumentRecord| record.id.hashed());
    let mut input = builder.new_input(documents, by_id);
    let (bodies_out, bodies) = builder.new_output();
    let (upserts_out, upserts) = builder.new_output();
    let mut bodies_out = OutputBuilder::from(bodies_out);
    let mut upserts_out = OutputBuilder::from(upserts_out);
    builder.build(move |_| {
        let mut open: BTreeMap<Time, (Capability<Time>, Capability<Time>, Latest)> = BTreeMap::new();
        move |frontiers| {
            input.for_each(|cap, records| {
                let (.., latest) = open
                    .entry(*cap.time())
                    .or_insert_with(|| (cap.retain(0), cap.retain(1), Latest::default()));
                records.drain(..).for_each(|record| latest.push(record));
            });
            while let Some(entry) = open.first_entry().filter(|e| !frontiers[0].less_equal(e.key())) {
                let (bodies_cap, upserts_cap, latest) = entry.remove();
                let time = *bodies_cap.time();
                let bodies: Vec<Body> = latest.into_records().map(|record| body(record, &split)).collect();
                let upserts = bodies.iter().map(|body| {
                    let state =
                        body.document.as_ref().map(|(document, chunks)| DocumentState::of(document, chunks));
                    (body.id.clone(), state, time)
                });
                upserts_out.activate().session(&upserts_cap).give_iterator(upserts);
                bodies_out.activate().session(&bodies_cap).give_iterator(bodies.into_iter());
            }
        }
    });
    (bodies, upserts)
}

fn body(record: DocumentRecord, split: &SplitText) -> Body {
    let document = record.document.map(|document| {
        let chunks = split(&document.text);
        (document, chunks)
    });
    Body { origin: record.origin, id: record.id, document, record: record.record }
}

/// What is known of a tick: bodies by id, and old and new state by id.
#[derive(Default)]
struct Pairs {
    bodies: Vec<Body>,
    states: BTreeMap<String, (Option<DocumentState>, Option<DocumentState>)>,
}

impl Pairs {
    fn deltas(mut self) -> impl Iterator<Item = DocumentDelta> {
        self.bodies.into_iter().filter_map(move |body| {
            // No update for the id: its state is what it was.
            let (old, new) = self.states.remove(&body.id)?;
            delta(body, old.as_ref(), new.as_ref())
        })
    }
}

fn deltas<'scope>(
    bodies: StreamVec<'scope, Time, Body>,
    updates: StreamVec<'scope, Time, Update>,
) -> StreamVec<'scope, Time, DocumentDelta> {
    bodies.binary_frontier(updates, Pipeline, Pipeline, "Delta", |_, _| {
        let mut open: BTreeMap<Time, (Capability<Time>, Pairs)> = BTreeMap::new();
        move |(bodies, bodies_frontier), (updates, updates_frontier), output| {
            bodies.for_each(|cap, data| {
                let (_, pairs) = open.entry(*cap.time()).or_insert_with(|| (cap.retain(0), Pairs::default()));
                pairs.bodies.append(data);
            });
            updates.for_each(|cap, data| {
                for ((id, state), time, diff) in data.drain(..) {
                    let (_, pairs) =
                        open.entry(time).or_insert_with(|| (cap.delayed(&time, 0), Pairs::default()));
                    let (old, new) = pairs.states.entry(id).or_default();
                    *(if diff < 0 { old } else { new }) = Some(state);
                }
            });
            let closed = |t: &Time| !bodies_frontier.less_equal(t) && !updates_frontier.less_equal(t);
            while let Some(entry) = open.first_entry().filter(|e| closed(e.key())) {
                let (cap, pairs) = entry.remove();
                output.session(&cap).give_iterator(pairs.deltas());
            }
        }
    })
}
