//! Up to which time each operator is done: the frontier of what it may still give.
//!
//! Timely tells where times are still held (by messages under way to an input, by capabilities of an output), and which outputs
//! an input leads to. What follows from that for every operator is worked out when somebody looks, not when it changes.

use std::collections::{BTreeMap, BTreeSet};

use timely::progress::frontier::MutableAntichain;
use timely::progress::operate::Connectivity;
use timely::progress::reachability::logging::TrackerEvent;

use super::Address;
use crate::index::Time;

/// An input or an output of an operator: its place, and the number of the port.
pub(super) type Port = (Address, usize);

/// Where times are held in the scopes of a worker. Timely tells each worker of all of them: one log is enough.
#[derive(Debug, Default)]
pub(super) struct Frontiers {
    /// Outputs that each input leads to, by the number of the operator.
    leads: BTreeMap<usize, Vec<Vec<usize>>>,
    /// Times of messages, by scope, operator in it and input.
    messages: BTreeMap<(usize, usize, usize), MutableAntichain<Time>>,
    /// Times of capabilities, by scope, operator in it and output.
    capabilities: BTreeMap<(usize, usize, usize), MutableAntichain<Time>>,
}

/// What connects operators, as the log of a worker knows it.
pub(super) struct Graph<'a> {
    /// Place of an operator by its number; of a scope, too.
    pub(super) places: BTreeMap<usize, &'a Address>,
    /// Outputs and the inputs they lead to.
    pub(super) channels: Vec<(&'a Port, &'a Port)>,
}

impl Frontiers {
    /// An operator's inputs lead to these of its outputs.
    pub(super) fn connects(&mut self, operator: usize, connectivity: &Connectivity<Time>) {
        let outputs = |input: &timely::progress::operate::PortConnectivity<Time>| {
            input.iter_ports().map(|(output, _)| output).collect()
        };
        self.leads.insert(operator, connectivity.iter().map(outputs).collect());
    }

    /// Times come to be held, or are let go.
    pub(super) fn take(&mut self, event: TrackerEvent<Time>) {
        let (held, scope, updates) = match event {
            TrackerEvent::TargetUpdate(event) => (&mut self.messages, event.tracker_id, event.updates),
            TrackerEvent::SourceUpdate(event) => (&mut self.capabilities, event.tracker_id, event.updates),
        };
        for (operator, port, time, change) in updates {
            // What changes is read later, when the frontier is asked for.
            drop(held.entry((scope, operator, port)).or_default().update_iter(Some((time, change))));
        }
    }

    /// The first time that each operator may still give, or take if it gives nothing; `None`: it has given all.
    pub(super) fn of(&self, graph: &Graph) -> BTreeMap<Address, Option<Time>> {
        let first = |held: &BTreeMap<(usize, usize, usize), MutableAntichain<Time>>| {
            let place =
                |(&(scope, operator, port), times): (&(usize, usize, usize), &MutableAntichain<Time>)| {
                    let mut place = (*graph.places.get(&scope)?).clone();
                    place.push(operator);
                    Some(((place, port), times.frontier().first().copied()?))
                };
            held.iter().filter_map(place).collect::<BTreeMap<Port, Time>>()
        };
        let (mut inputs, mut outputs) = (first(&self.messages), first(&self.capabilities));
        // The first time only falls, to one that is held somewhere: this ends, also where there are loops.
        let mut moved = true;
        while std::mem::take(&mut moved) {
            for &(from, to) in &graph.channels {
                moved |= outputs.get(from).is_some_and(|&time| lower(&mut inputs, to, time));
            }
            for (operator, leads) in &self.leads {
                let Some(&place) = graph.places.get(operator) else { continue };
                for (input, leads) in leads.iter().enumerate() {
                    let Some(&time) = inputs.get(&(place.clone(), input)) else { continue };
                    for &output in leads {
                        moved |= lower(&mut outputs, &(place.clone(), output), time);
                    }
                }
            }
        }
        let giving: BTreeSet<&Address> = graph.channels.iter().map(|((from, _), _)| from).collect();
        let least = |ports: &BTreeMap<Port, Time>, place: &Address| {
            let of_place = (place.clone(), 0)..=(place.clone(), usize::MAX);
            ports.range(of_place).map(|(_, &time)| time).min()
        };
        let frontier = |&place: &&Address| {
            let ports = if giving.contains(place) { &outputs } else { &inputs };
            (place.clone(), least(ports, place))
        };
        graph.places.values().map(frontier).collect()
    }
}

/// Notes a time if it is before the one that is known; whether it was.
fn lower(times: &mut BTreeMap<Port, Time>, port: &Port, time: Time) -> bool {
    if times.get(port).is_some_and(|&known| known <= time) {
        return false;
    }
    times.insert(port.clone(), time);
    true
}
