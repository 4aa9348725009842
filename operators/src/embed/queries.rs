//! Admitted queries → queries whose texts are vectors. One job per query and model; queries go before documents.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use freshet_schemas::{Fault, FaultCode, VectorKind, VectorValue};
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use crate::connect::Wake;
use crate::embed::fields::{FieldSource, VectorField};
use crate::embed::{EmbedJob, Embedding, EmbeddingService, Priority, Wants};
use crate::index::{Probe, Scoring, Time};
use crate::message::{AdmittedQuery, AnswerRecord, Prepared, PreparedQuery, Ticket};
use crate::plan::InputValue;

/// Results of one job: the query, the numbers of its inputs, their embeddings.
type Done = (Ticket, Vec<usize>, Vec<Result<Embedding, String>>);

/// A query whose texts are under way.
struct Pending {
    capabilities: (Capability<Time>, Capability<Time>),
    query: AdmittedQuery,
    inputs: Vec<Option<Prepared>>,
    failure: Option<String>,
}

/// Embeds the texts of queries; those the model fails on are answered with an error.
pub fn embed_queries<'scope>(
    queries: StreamVec<'scope, Time, AdmittedQuery>,
    fields: Vec<VectorField>,
    service: Option<Arc<EmbeddingService>>,
) -> (StreamVec<'scope, Time, PreparedQuery>, StreamVec<'scope, Time, AnswerRecord>) {
    let scope = queries.scope();
    let mut builder = OperatorBuilder::new("Embed(queries)".into(), scope);
    let info = builder.operator_info();
    let activator = scope.activator_for(info.address.clone());
    let sync = scope.worker().sync_activator_for(info.address.to_vec());
    // An operator that is gone needs no waking.
    let wake: Wake = Arc::new(move || {
        let _ = sync.activate();
    });
    let mut input = builder.new_input(queries, Pipeline);
    let (ready_out, ready) = builder.new_output();
    let (refused_out, refused) = builder.new_output();
    let mut ready_out = OutputBuilder::from(ready_out);
    let mut refused_out = OutputBuilder::from(refused_out);
    builder.build(move |_| {
        let mut desk =
            Desk { fields, wake, results: channel(), unsent: VecDeque::new(), pending: BTreeMap::new() };
        move |_frontiers| {
            let mut touched = Vec::new();
            input.for_each(|cap, data| {
                for query in data.drain(..) {
                    touched.push(query.planned.ticket);
                    desk.open((cap.retain(0), cap.retain(1)), query);
                }
            });
            touched.extend(desk.collect());
            if desk.submit(service.as_deref()) {
                activator.activate_after(RETRY);
            }
            for ticket in touched {
                let Some(pending) = desk.take_complete(ticket) else { continue };
                let (ready_cap, refused_cap) = &pending.capabilities;
                match pending.failure {
                    None => {
                        let inputs = pending.inputs.into_iter().flatten().collect();
                        let query = PreparedQuery { admitted: pending.query, inputs };
                        ready_out.activate().session(ready_cap).give(query);
                    }
                    Some(reason) => {
                        refused_out.activate().session(refused_cap).give(failed(pending.query, reason));
                    }
                }
            }
        }
    });
    (ready, refused)
}

/// Pause before a full service is asked again; it also wakes this operator with every result.
const RETRY: Duration = Duration::from_millis(2);

fn failed(query: AdmittedQuery, reason: String) -> AnswerRecord {
    query.planned.refused(Fault::field(FaultCode::ModelFailed, "query", reason))
}

struct Desk {
    fields: Vec<VectorField>,
    wake: Wake,
    results: (Sender<Done>, Receiver<Done>),
    unsent: VecDeque<EmbedJob>,
    pending: BTreeMap<Ticket, Pending>,
}

impl Desk {
    fn open(&mut self, capabilities: (Capability<Time>, Capability<Time>), query: AdmittedQuery) {
        let ticket = query.planned.ticket;
        let mut inputs = vec![None; query.planned.plan.inputs.len()];
        // Inputs by model and text: one run serves the dense and the token vectors of a text.
        let mut jobs: BTreeMap<usize, Vec<(usize, String)>> = BTreeMap::new();
        for (number, input) in query.planned.plan.inputs.iter().enumerate() {
            let field = &self.fields[usize::from(input.field)];
            match (&input.value, &field.source) {
                (InputValue::Vector(vector), _) => inputs[number] = Some(prepared(field, vector.clone())),
                (InputValue::Text(text), FieldSource::Terms(analyzer)) => {
                    inputs[number] = Some(Prepared::Terms(analyzer.query(text)));
                }
                (InputValue::Text(text), FieldSource::Model(model)) => {
                    jobs.entry(*model).or_default().push((number, text.clone()));
                }
                (InputValue::Raw(vector), _) => {
                    inputs[number] = Some(Prepared::Probe(VectorField::raw_probe(vector.clone())));
                }
                (InputValue::Document(_) | InputValue::Average { .. }, _) => {
                    inputs[number] = Some(Prepared::Later);
                }
                // Plans refuse text for a field without a model.
                (InputValue::Text(_), FieldSource::Given) => {}
            }
        }
        for (model, wanted) in jobs {
            self.job(ticket, model, wanted);
        }
        self.pending.insert(ticket, Pending { capabilities, query, inputs, failure: None });
    }

    fn job(&mut self, ticket: Ticket, model: usize, wanted: Vec<(usize, String)>) {
        let (done, wake) = (self.results.0.clone(), Arc::clone(&self.wake));
        let (numbers, all): (Vec<usize>, Vec<String>) = wanted.into_iter().unzip();
        let mut texts: Vec<String> = Vec::new();
        let places: Vec<usize> = all.into_iter().map(|text| place(&mut texts, text)).collect();
        self.unsent.push_back(EmbedJob {
            model,
            priority: Priority::Query,
            wants: Wants::Rows,
            against: None,
            texts,
            reply: Box::new(move |embeddings| {
                let embeddings = places.iter().map(|&place| embeddings[place].clone()).collect();
                // The operator may be gone: then nobody waits.
                let _ = done.send((ticket, numbers, embeddings));
                wake();
            }),
        });
    }

    fn collect(&mut self) -> Vec<Ticket> {
        let mut touched = Vec::new();
        for (ticket, numbers, embeddings) in self.results.1.try_iter() {
            let Some(pending) = self.pending.get_mut(&ticket) else { continue };
            touched.push(ticket);
            for (number, embedding) in numbers.into_iter().zip(embeddings) {
                let field = &self.fields[usize::from(pending.query.planned.plan.inputs[number].field)];
                match embedding {
                    Ok(embedding) => pending.inputs[number] = Some(embedded(field, embedding)),
                    Err(reason) => pending.failure = Some(reason),
                }
            }
        }
        touched
    }

    /// Hands jobs over; true if some are left.
    fn submit(&mut self, service: Option<&EmbeddingService>) -> bool {
        let Some(service) = service else { return false };
        while let Some(job) = self.unsent.pop_front() {
            if let Err(job) = service.submit(job) {
                self.unsent.push_front(job);
                return true;
            }
        }
        false
    }

    fn take_complete(&mut self, ticket: Ticket) -> Option<Pending> {
        let pending = self.pending.get(&ticket)?;
        let complete = pending.failure.is_some() || pending.inputs.iter().all(Option::is_some);
        complete.then(|| self.pending.remove(&ticket)).flatten()
    }
}

fn place(texts: &mut Vec<String>, text: String) -> usize {
    texts.iter().position(|known| *known == text).unwrap_or_else(|| {
        texts.push(text);
        texts.len() - 1
    })
}

fn embedded(field: &VectorField, embedding: Embedding) -> Prepared {
    match field.spec.kind {
        VectorKind::Multi => Prepared::Probe(Probe::Multi(embedding.rows.unwrap_or_default())),
        VectorKind::Dense => prepared(field, VectorValue::Dense(embedding.dense)),
        VectorKind::Sparse => prepared(field, VectorValue::Sparse(embedding.sparse.unwrap_or_default())),
    }
}

/// What a vector searches with; where terms are weighed by their rarity, that comes with the statistics.
fn prepared(field: &VectorField, vector: VectorValue) -> Prepared {
    match vector {
        VectorValue::Sparse(terms) if field.spec.scoring == Scoring::Idf => Prepared::Terms(terms),
        vector @ (VectorValue::Dense(_) | VectorValue::Sparse(_) | VectorValue::Multi(_)) => {
            Prepared::Probe(field.given_probe(vector))
        }
    }
}
