//! Queries and the statistics they asked for → queries that can be sent to the shards.

use std::collections::BTreeMap;

use freshet_schemas::SparseVector;
use serde::{Deserialize, Serialize};
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use crate::index::{Probe, Scoring, Time};
use crate::message::{
    AdmittedQuery, Prepared, PreparedQuery, Statistic, StatisticAsk, StatisticReply, Ticket,
};
use crate::stats::{StatisticsTrace, lookup};

/// A query with everything it searches with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WeighedQuery {
    /// The query.
    pub admitted: AdmittedQuery,
    /// One per input of the plan; `None` for those that are made later.
    pub probes: Vec<Option<Probe>>,
}

/// Query weight of a BM25 term: `count · idf · (k1 + 1)`, idf = ln(1 + (N − df + 0.5)/(df + 0.5)).
///
/// Robertson & Zaragoza 2009, with the +1 inside the logarithm that Lucene uses, which keeps idf positive.
pub fn bm25_weight(count: f32, documents: i64, frequency: i64, k1: f32) -> f64 {
    let (n, df) = (documents as f64, frequency as f64);
    let idf = (1.0 + (n - df + 0.5) / (df + 0.5)).ln();
    f64::from(count) * idf * (f64::from(k1) + 1.0)
}

/// Weighs the terms of each query with the statistics at its time. `scoring` is per field.
pub fn weigh<'scope>(
    queries: StreamVec<'scope, Time, PreparedQuery>,
    trace: StatisticsTrace,
    scoring: Vec<Scoring>,
) -> StreamVec<'scope, Time, WeighedQuery> {
    let (queries, asks) = ask(queries);
    let replies = lookup(asks, trace);
    let mut builder = OperatorBuilder::new("Weigh".into(), queries.scope());
    let to_owner = Exchange::new(|reply: &StatisticReply| reply.ticket.worker as u64);
    let mut queries_in = builder.new_input(queries, Pipeline);
    let mut replies_in = builder.new_input(replies, to_owner);
    let (output, stream) = builder.new_output();
    let mut output = OutputBuilder::from(output);
    builder.build(move |_| {
        let mut waiting: BTreeMap<Ticket, Weighing> = BTreeMap::new();
        move |_frontiers| {
            let mut touched = Vec::new();
            queries_in.for_each(|cap, data| {
                for query in data.drain(..) {
                    let ticket = query.admitted.planned.ticket;
                    touched.push(ticket);
                    waiting.entry(ticket).or_default().query = Some((cap.retain(0), query));
                }
            });
            replies_in.for_each(|_, data| {
                for reply in data.drain(..) {
                    touched.push(reply.ticket);
                    waiting.entry(reply.ticket).or_default().known.insert(reply.statistic, reply.value);
                }
            });
            touched.sort_unstable();
            touched.dedup();
            for ticket in touched {
                if waiting.get(&ticket).is_some_and(Weighing::complete)
                    && let Some(Weighing { query: Some((cap, query)), known }) = waiting.remove(&ticket)
                {
                    output.activate().session(&cap).give(weighed(query, &known, &scoring));
                }
            }
        }
    });
    stream
}

#[derive(Default)]
struct Weighing {
    query: Option<(Capability<Time>, PreparedQuery)>,
    known: BTreeMap<Statistic, i64>,
}

impl Weighing {
    fn complete(&self) -> bool {
        self.query.as_ref().is_some_and(|(_, query)| asked(query).len() == self.known.len())
    }
}

/// The statistics a query needs, each once.
fn asked(query: &PreparedQuery) -> Vec<Statistic> {
    let inputs = &query.admitted.planned.plan.inputs;
    let mut asked = Vec::new();
    for (input, prepared) in inputs.iter().zip(&query.inputs) {
        if let Prepared::Terms(terms) = prepared {
            asked.extend([Statistic::Documents(input.field), Statistic::Length(input.field)]);
            asked.extend(terms.indices.iter().map(|&term| Statistic::Term(input.field, term)));
        }
    }
    asked.sort_unstable();
    asked.dedup();
    asked
}

fn weighed(query: PreparedQuery, known: &BTreeMap<Statistic, i64>, scoring: &[Scoring]) -> WeighedQuery {
    let value = |statistic| known.get(&statistic).copied().unwrap_or(0);
    let fields = query.admitted.planned.plan.inputs.iter().map(|input| input.field);
    let probes = fields.zip(query.inputs).map(|(field, prepared)| match prepared {
        Prepared::Probe(probe) => Some(probe),
        Prepared::Terms(terms) => Some(bm25_probe(field, &terms, value, scoring[usize::from(field)])),
        Prepared::Later => None,
    });
    let probes = probes.collect();
    WeighedQuery { admitted: query.admitted, probes }
}

fn bm25_probe(field: u16, terms: &SparseVector, value: impl Fn(Statistic) -> i64, scoring: Scoring) -> Probe {
    let documents = value(Statistic::Documents(field));
    let length_mean =
        if documents > 0 { value(Statistic::Length(field)) as f64 / documents as f64 } else { 0.0 };
    // Without saturation the formula is that of Qdrant's modifier.
    let k1 = match scoring {
        Scoring::Bm25 { k1, .. } => k1,
        Scoring::Dot | Scoring::Idf => 0.0,
    };
    // A term that no document holds finds nothing.
    let weights = terms.iter().filter_map(|(term, count)| {
        let frequency = value(Statistic::Term(field, term));
        (frequency > 0).then(|| (term, bm25_weight(count, documents, frequency, k1)))
    });
    Probe::Sparse { terms: weights.collect(), length_mean }
}

/// Splits off what each query asks of the statistics.
fn ask<'scope>(
    queries: StreamVec<'scope, Time, PreparedQuery>,
) -> (StreamVec<'scope, Time, PreparedQuery>, StreamVec<'scope, Time, StatisticAsk>) {
    let mut builder = OperatorBuilder::new("Ask".into(), queries.scope());
    let mut input = builder.new_input(queries, Pipeline);
    let (queries_out, queries) = builder.new_output();
    let (asks_out, asks) = builder.new_output();
    let mut queries_out = OutputBuilder::from(queries_out);
    let mut asks_out = OutputBuilder::from(asks_out);
    builder.build(move |_| {
        move |_frontiers| {
            input.for_each(|cap, data| {
                for query in data.iter() {
                    let ticket = query.admitted.planned.ticket;
                    let asks = asked(query).into_iter().map(|statistic| StatisticAsk { ticket, statistic });
                    asks_out.activate().session(&cap).give_iterator(asks);
                }
                queries_out.activate().session(&cap).give_container(data);
            });
        }
    });
    (queries, asks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_modifier_is_the_rarity_alone() {
        let terms = SparseVector { indices: vec![3, 5, 9], values: vec![2.0, -0.5, 1.0] };
        // 10 documents; term 3 is in 4 of them, 5 in 1, 9 in none.
        let value = |statistic| match statistic {
            Statistic::Documents(_) => 10,
            Statistic::Length(_) => 0,
            Statistic::Term(_, 3) => 4,
            Statistic::Term(_, 5) => 1,
            Statistic::Term(..) => 0,
        };
        let Probe::Sparse { terms, length_mean } = bm25_probe(0, &terms, value, Scoring::Idf) else {
            panic!("not sparse");
        };
        let idf = |df: f64| ((10.0 - df + 0.5) / (df + 0.5) + 1.0).ln();
        assert_eq!((terms, length_mean), (vec![(3, 2.0 * idf(4.0)), (5, -0.5 * idf(1.0))], 0.0));
    }
}
