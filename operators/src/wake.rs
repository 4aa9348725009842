//! Wakes an operator that does not exist yet when its source or sink is opened; wakes a thread that waits for a future.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::thread::Thread;

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

/// Runs a future to its end on this thread, which sleeps until it is woken: for the few futures of libraries whose own
/// threads wake it, such as librdkafka's.
pub fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}
