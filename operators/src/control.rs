//! Stop signal, failures and wishes, shared by the workers of a process.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};

use crate::causes::with_causes;
use crate::snapshot::Outcome;

/// Where a run stands; phases only go forward.
#[derive(Debug, Default)]
pub struct Control {
    phase: AtomicU8,
    failure: Mutex<Option<String>>,
    /// Who asks for a snapshot.
    cuts: Mutex<Vec<Sender<Outcome>>>,
}

const RUNNING: u8 = 0;
/// No new queries; those in flight are answered.
const DRAINING: u8 = 1;
/// No new documents; the dataflow ends.
const STOPPING: u8 = 2;

impl Control {
    /// No new queries from now on.
    pub fn drain(&self) {
        self.phase.fetch_max(DRAINING, Ordering::SeqCst);
    }

    /// The end: sources give up their capabilities, and who waits for a snapshot hears that none comes.
    pub fn stop(&self) {
        self.phase.fetch_max(STOPPING, Ordering::SeqCst);
        self.cuts.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Whether queries are still read.
    pub fn draining(&self) -> bool {
        self.phase.load(Ordering::SeqCst) >= DRAINING
    }

    /// Whether documents are still read.
    pub fn stopping(&self) -> bool {
        self.phase.load(Ordering::SeqCst) >= STOPPING
    }

    /// Whether nothing has asked for an end.
    pub fn running(&self) -> bool {
        self.phase.load(Ordering::SeqCst) == RUNNING
    }

    /// Asks the run for a snapshot at once. What comes back says what became of it; nothing, if the run ends before.
    pub fn cut_now(&self) -> Receiver<Outcome> {
        let (sender, outcome) = channel();
        let mut cuts = self.cuts.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock, so that what is put there is seen by whoever stops.
        if !self.stopping() {
            cuts.push(sender);
        }
        outcome
    }

    /// Who has asked for a snapshot since this was called last.
    pub fn cuts_asked(&self) -> Vec<Sender<Outcome>> {
        std::mem::take(&mut *self.cuts.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends the run because the world outside failed; the first failure is kept.
    pub fn fail(&self, error: &dyn std::error::Error) {
        if let Ok(mut failure) = self.failure.lock() {
            failure.get_or_insert_with(|| with_causes(error));
        }
        self.stop();
    }

    /// What failed, if anything.
    pub fn failure(&self) -> Option<String> {
        self.failure.lock().ok().and_then(|failure| failure.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::TryRecvError;

    use super::*;

    #[test]
    fn who_waits_for_a_snapshot_hears_of_the_end() {
        let control = Control::default();
        let before = control.cut_now();
        assert_eq!(before.try_recv().err(), Some(TryRecvError::Empty));
        control.stop();
        assert_eq!(before.try_recv().err(), Some(TryRecvError::Disconnected));
        assert_eq!(control.cut_now().try_recv().err(), Some(TryRecvError::Disconnected));
    }
}
