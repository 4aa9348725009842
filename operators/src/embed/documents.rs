//! Changes of documents → changes of shards: new texts become vectors, outside the worker thread, in order of ticks.
//!
//! ```text
//!   deltas ─▶ Embed(documents) ─▶ changes, by shard
//!                │  ▲        └──▶ dead letters: texts the model failed on
//!          jobs  ▼  │ results, wake
//!            embedding service
//! ```
//! Time rule: a tick leaves once it is closed and all its vectors are there; until then its capability is held.
//! Limit: what is here is bounded by the budget of the sources; what the service's queue does not take waits here.
//! A document the model fails on changes nothing: its version before stays, the record becomes a dead letter.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use freshet_schemas::{Fault, FaultCode};
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use crate::connect::Wake;
use crate::decode::DeadLetters;
use crate::embed::assemble::{Assembler, ModelRows};
use crate::embed::{EmbedJob, EmbeddingService, Priority};
use crate::index::Time;
use crate::message::{DeadLetter, DocumentDelta, RoutedChange};

/// Results of one job: document slot, model, vectors of its texts.
type Done = (u64, usize, ModelRows);

/// A document whose vectors are under way.
struct Pending {
    delta: DocumentDelta,
    /// Rows per model, as they come back.
    rows: BTreeMap<usize, ModelRows>,
    /// Jobs not back yet.
    missing: usize,
}

/// The documents of one tick, in the order they came.
struct Tick {
    changes: Capability<Time>,
    letters: Capability<Time>,
    slots: Vec<u64>,
}

/// Embeds what a delta brings and routes it to its shard.
pub fn embed_documents<'scope>(
    deltas: StreamVec<'scope, Time, DocumentDelta>,
    mut assembler: Assembler,
    service: Option<Arc<EmbeddingService>>,
    dead: DeadLetters,
) -> (StreamVec<'scope, Time, RoutedChange>, StreamVec<'scope, Time, DeadLetter>) {
    let scope = deltas.scope();
    let mut builder = OperatorBuilder::new("Embed(documents)".into(), scope);
    let info = builder.operator_info();
    let activator = scope.activator_for(info.address.clone());
    let sync = scope.worker().sync_activator_for(info.address.to_vec());
    // An operator that is gone needs no waking.
    let wake: Wake = Arc::new(move || {
        let _ = sync.activate();
    });
    let mut input = builder.new_input(deltas, Pipeline);
    let (changes_out, changes) = builder.new_output();
    let (letters_out, letters) = builder.new_output();
    let mut changes_out = OutputBuilder::from(changes_out);
    let mut letters_out = OutputBuilder::from(letters_out);
    builder.build(move |_| {
        let mut ticks: BTreeMap<Time, Tick> = BTreeMap::new();
        let mut desk = Desk::new(service, wake);
        move |frontiers| {
            input.for_each(|cap, data| {
                let tick = ticks.entry(*cap.time()).or_insert_with(|| Tick {
                    changes: cap.retain(0),
                    letters: cap.retain(1),
                    slots: Vec::new(),
                });
                tick.slots.extend(data.drain(..).map(|delta| desk.open(delta, &assembler)));
            });
            desk.collect();
            if desk.submit() {
                activator.activate_after(RETRY);
            }
            while let Some(entry) = ticks.first_entry().filter(|e| {
                !frontiers[0].less_equal(e.key()) && e.get().slots.iter().all(|slot| desk.complete(*slot))
            }) {
                let tick = entry.remove();
                for slot in tick.slots {
                    let Some(Pending { delta, rows, .. }) = desk.pending.remove(&slot) else { continue };
                    match assembler.assemble(&delta, rows) {
                        Ok(change) => {
                            changes_out.activate().session(&tick.changes).give_iterator(change.into_iter())
                        }
                        Err(reason) => {
                            let fault = Fault::whole(FaultCode::ModelFailed, reason);
                            let letter = dead.letter(delta.origin, &delta.record, "embed", &fault);
                            letters_out.activate().session(&tick.letters).give_iterator(letter.into_iter());
                        }
                    }
                }
            }
        }
    });
    (changes, letters)
}

/// Pause before a full service is asked again; it also wakes this operator with every result.
const RETRY: Duration = Duration::from_millis(5);

/// Jobs on their way to the service and back.
struct Desk {
    service: Option<Arc<EmbeddingService>>,
    wake: Wake,
    results: (Sender<Done>, Receiver<Done>),
    unsent: VecDeque<EmbedJob>,
    pending: BTreeMap<u64, Pending>,
    next: u64,
}

impl Desk {
    fn new(service: Option<Arc<EmbeddingService>>, wake: Wake) -> Self {
        let (unsent, pending) = (VecDeque::new(), BTreeMap::new());
        Self { service, wake, results: channel(), unsent, pending, next: 0 }
    }

    /// Takes a delta in; its new texts become jobs, one per model.
    fn open(&mut self, delta: DocumentDelta, assembler: &Assembler) -> u64 {
        let slot = self.next;
        self.next += 1;
        let wanted = assembler.wanted(&delta);
        let missing = wanted.len();
        for job in wanted {
            let (done, wake, model) = (self.results.0.clone(), Arc::clone(&self.wake), job.model);
            let numbers = job.numbers;
            self.unsent.push_back(EmbedJob {
                model,
                priority: Priority::Document,
                wants: job.wants,
                against: None,
                texts: job.texts,
                reply: Box::new(move |embeddings| {
                    let rows = numbers.into_iter().zip(embeddings).collect();
                    // The operator may be gone: then nobody waits.
                    let _ = done.send((slot, model, rows));
                    wake();
                }),
            });
        }
        self.pending.insert(slot, Pending { delta, rows: BTreeMap::new(), missing });
        slot
    }

    fn collect(&mut self) {
        for (slot, model, rows) in self.results.1.try_iter() {
            if let Some(pending) = self.pending.get_mut(&slot) {
                pending.rows.insert(model, rows);
                pending.missing -= 1;
            }
        }
    }

    /// Hands jobs over; true if some are left.
    fn submit(&mut self) -> bool {
        let Some(service) = &self.service else { return false };
        while let Some(job) = self.unsent.pop_front() {
            if let Err(job) = service.submit(job) {
                self.unsent.push_front(job);
                return true;
            }
        }
        false
    }

    fn complete(&self, slot: u64) -> bool {
        self.pending.get(&slot).is_none_or(|pending| pending.missing == 0)
    }
}
