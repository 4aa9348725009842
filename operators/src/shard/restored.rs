//! What is there before the first document: states of the upsert and statistics of the restored shards, at time 0.
//!
//! They are computed from the segments, some documents at a time. Until the last one is out, the operator holds time 0, so
//! that no tick closes, and nothing is applied to the shards, before.

use std::sync::Arc;

use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Scope, StreamVec};

use super::living::Living;
use crate::control::Control;
use crate::index::Time;
use crate::message::Statistic;
use crate::upsert::Upsert;

/// Documents that are read at once.
const DOCUMENTS: usize = 1024;

/// What the upsert and the statistics begin with.
pub struct Restored<'scope> {
    /// States by document id.
    pub states: StreamVec<'scope, Time, Upsert>,
    /// Counts.
    pub statistics: StreamVec<'scope, Time, (Statistic, Time, isize)>,
}

/// Emits what is known of the documents that live.
pub fn restored<'scope>(
    scope: Scope<'scope, Time>,
    living: Living,
    control: Arc<Control>,
) -> Restored<'scope> {
    let mut builder = OperatorBuilder::new("Restored".into(), scope);
    let activator = scope.activator_for(builder.operator_info().address.clone());
    let (states_out, states) = builder.new_output();
    let (statistics_out, statistics) = builder.new_output();
    let mut states_out = OutputBuilder::from(states_out);
    let mut statistics_out = OutputBuilder::from(statistics_out);
    builder.build(move |mut capabilities| {
        let statistics_cap = capabilities.pop();
        let states_cap = capabilities.pop();
        // The segments are let go with it, once all is told.
        let mut held = states_cap.zip(statistics_cap).map(|caps| (caps, living));
        move |_frontiers| {
            if control.stopping() {
                held = None;
            }
            let Some(((states_cap, statistics_cap), living)) = held.as_mut() else { return };
            match living.next(DOCUMENTS) {
                Some(Ok((states, counts))) => {
                    let states = states.into_iter().map(|(id, state)| (id, Some(state), 0));
                    states_out.activate().session(states_cap).give_iterator(states);
                    let counts = counts.into_iter().map(|(statistic, count)| (statistic, 0, count));
                    statistics_out.activate().session(statistics_cap).give_iterator(counts);
                    activator.activate();
                }
                Some(Err(error)) => control.fail(&error),
                None => held = None,
            }
        }
    });
    Restored { states, statistics }
}
