//! The events of one worker, summed up as they come.

use std::time::Duration;

use timely::logging::{ParkEvent, StartStop, TimelyEvent};

use super::frontiers::Graph;
use super::{Address, DataflowSummary};

/// An operator of a worker.
#[derive(Debug)]
struct Operator {
    address: Address,
    name: String,
    busy: Duration,
    activations: u64,
    /// When it was started, while it runs.
    since: Option<Duration>,
}

/// One end of a way between operators: where records leave, or where they arrive.
#[derive(Debug)]
struct Channel {
    /// With the number of the output.
    from: (Address, usize),
    /// With the number of the input.
    to: (Address, usize),
    sent: u64,
    received: u64,
}

/// What one worker has told. Its numbers of operators and channels are small and dense.
#[derive(Debug, Default)]
pub(super) struct WorkerLog {
    operators: Vec<Option<Operator>>,
    channels: Vec<Option<Channel>>,
    parked: Duration,
    parked_since: Option<Duration>,
}

/// Puts an element at a number.
fn put<T>(list: &mut Vec<Option<T>>, number: usize, element: T) {
    if list.len() <= number {
        list.resize_with(number + 1, || None);
    }
    list[number] = Some(element);
}

fn get<T>(list: &mut [Option<T>], number: usize) -> Option<&mut T> {
    list.get_mut(number)?.as_mut()
}

impl WorkerLog {
    pub(super) fn take(&mut self, time: Duration, event: TimelyEvent) {
        match event {
            TimelyEvent::Operates(event) => {
                let operator = Operator {
                    address: event.addr,
                    name: event.name,
                    busy: Duration::ZERO,
                    activations: 0,
                    since: None,
                };
                put(&mut self.operators, event.id, operator);
            }
            TimelyEvent::Channels(event) => {
                let end = |(operator, port)| ([event.scope_addr.as_slice(), &[operator]].concat(), port);
                let (from, to) = (end(event.source), end(event.target));
                put(&mut self.channels, event.id, Channel { from, to, sent: 0, received: 0 });
            }
            TimelyEvent::Messages(event) => {
                let count = u64::try_from(event.record_count).unwrap_or(0);
                if let Some(channel) = get(&mut self.channels, event.channel) {
                    match event.is_send {
                        true => channel.sent += count,
                        false => channel.received += count,
                    }
                }
            }
            TimelyEvent::Schedule(event) => {
                if let Some(operator) = get(&mut self.operators, event.id) {
                    match event.start_stop {
                        StartStop::Start => operator.since = Some(time),
                        StartStop::Stop => {
                            operator.activations += 1;
                            let since = operator.since.take();
                            operator.busy += since.map_or(Duration::ZERO, |since| time.saturating_sub(since));
                        }
                    }
                }
            }
            TimelyEvent::Park(ParkEvent::Park(_)) => self.parked_since = Some(time),
            TimelyEvent::Park(ParkEvent::Unpark) => {
                let since = self.parked_since.take();
                self.parked += since.map_or(Duration::ZERO, |since| time.saturating_sub(since));
            }
            TimelyEvent::PushProgress(_)
            | TimelyEvent::Shutdown(_)
            | TimelyEvent::CommChannels(_)
            | TimelyEvent::Text(_) => {}
        }
    }

    /// Adds what this worker has done.
    pub(super) fn add_to(&self, summary: &mut DataflowSummary) {
        summary.parked += self.parked;
        for operator in self.operators.iter().flatten() {
            let sum = summary.operators.entry(operator.address.clone()).or_default();
            sum.name.clone_from(&operator.name);
            sum.busy += operator.busy;
            sum.activations += operator.activations;
        }
        for channel in self.channels.iter().flatten() {
            let sum = summary.channels.entry((channel.from.0.clone(), channel.to.0.clone())).or_default();
            sum.sent += channel.sent;
            sum.received += channel.received;
        }
    }

    /// The operators and scopes, and what connects them: the same on every worker.
    pub(super) fn graph(&self) -> Graph<'_> {
        let operators = self.operators.iter().enumerate();
        let channels = self.channels.iter().flatten();
        Graph {
            places: operators.filter_map(|(id, operator)| Some((id, &operator.as_ref()?.address))).collect(),
            channels: channels.map(|channel| (&channel.from, &channel.to)).collect(),
        }
    }
}
