//! The ends of the documents topic, asked for outside the worker thread.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use freshet_schemas::{DocumentTopics, Offset, Partition};
use timely::scheduling::SyncActivator;

use crate::connect::{Connector, topics};
use crate::message::Ticket;

/// Where to ask.
#[derive(Clone)]
pub struct EndOffsets {
    /// System of topics.
    pub connector: Arc<dyn Connector>,
    /// Documents topics.
    pub topics: DocumentTopics,
}

/// Last offset per partition that a query needs, −1 for none.
type Needs = BTreeMap<Partition, Offset>;

/// Questions under way. Its thread ends when this is dropped.
pub(crate) struct Asker {
    questions: Sender<Ticket>,
    answers: Receiver<(Ticket, Needs)>,
}

/// Pause before a broker that failed to answer is asked again.
const RETRY: Duration = Duration::from_millis(250);

impl EndOffsets {
    /// Starts the thread; it wakes the operator with each answer.
    pub(crate) fn start(self, activator: SyncActivator) -> Asker {
        let (questions, inbox) = channel::<Ticket>();
        let (outbox, answers) = channel();
        let ask = move || {
            while let Ok(first) = inbox.recv() {
                // All that wait now are served by one look at the topic, which is later than each of them.
                let mut tickets = vec![first];
                tickets.extend(inbox.try_iter());
                let ends = loop {
                    match topics::end_offsets(&*self.connector, &self.topics) {
                        Ok(ends) => break ends,
                        Err(error) => {
                            tracing::warn!(%error, topics = ?self.topics.names(), "end offsets not known, asking again");
                            // Queries time out meanwhile; a closed channel says that nobody waits any more.
                            match inbox.recv_timeout(RETRY) {
                                Ok(ticket) => tickets.push(ticket),
                                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {}
                                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return,
                            }
                        }
                    }
                };
                let needs: Needs = ends.into_iter().map(|(partition, end)| (partition, end - 1)).collect();
                for ticket in tickets {
                    if outbox.send((ticket, needs.clone())).is_err() {
                        return;
                    }
                }
                // An operator that is gone needs no waking.
                let _ = activator.activate();
            }
        };
        std::thread::Builder::new().name("end-offsets".into()).spawn(ask).expect("a thread can be started");
        Asker { questions, answers }
    }
}

impl Asker {
    pub(crate) fn ask(&self, ticket: Ticket) {
        // The thread ends only after this sender is dropped, or with the process.
        let _ = self.questions.send(ticket);
    }

    pub(crate) fn answered(&mut self) -> impl Iterator<Item = (Ticket, Needs)> + '_ {
        self.answers.try_iter()
    }
}
