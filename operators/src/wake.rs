//! Wakes an operator that does not exist yet when its source or sink is opened.

use std::sync::{Arc, OnceLock};

use timely::scheduling::SyncActivator;

use crate::connect::Wake;

/// A wake that does nothing until the operator is known.
#[derive(Clone, Default)]
pub struct LateWake(Arc<OnceLock<SyncActivator>>);

impl LateWake {
    /// What the source or sink calls.
    pub fn wake(&self) -> Wake {
        let wake = self.clone();
        Arc::new(move || wake.now())
    }

    /// Wakes the operator, if it is known.
    pub fn now(&self) {
        if let Some(activator) = self.0.get() {
            // An operator that is gone needs no waking.
            let _ = activator.activate();
        }
    }

    /// The operator to wake; the first one stays.
    pub fn bind(&self, activator: SyncActivator) {
        let _ = self.0.set(activator);
    }
}
