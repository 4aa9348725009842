//! Ends runs that take too long: a text may drive a model into a loop, and nothing else would ever stop it.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A limit that clocks cannot hold is as good as none.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// What ends a run, from another thread.
pub(super) type End = Box<dyn FnOnce() + Send>;

/// One thread that watches all runs of a process's models.
pub(super) struct Watchdog {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    /// Signalled when the next deadline may have changed.
    wake: Condvar,
}

#[derive(Default)]
struct State {
    /// By deadline, and a number that tells those of one moment apart.
    runs: BTreeMap<(Instant, u64), End>,
    number: u64,
    ended: bool,
}

/// A run that is watched until this is dropped.
pub(super) struct Watched<'a> {
    shared: &'a Shared,
    key: (Instant, u64),
}

impl Watchdog {
    pub(super) fn start() -> std::io::Result<Self> {
        let shared = Arc::new(Shared { state: Mutex::default(), wake: Condvar::new() });
        let watching = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("embed-watchdog".into());
        Ok(Self { thread: Some(thread.spawn(move || watching.watch())?), shared })
    }

    /// Calls `end` unless the returned value is dropped within the limit.
    pub(super) fn watch(&self, limit: Duration, end: End) -> Watched<'_> {
        let mut state = self.shared.lock();
        state.number += 1;
        let now = Instant::now();
        let key = (now.checked_add(limit).unwrap_or(now + FAR), state.number);
        let first = state.runs.keys().next().is_none_or(|next| key < *next);
        state.runs.insert(key, end);
        drop(state);
        // Only the nearest deadline is slept for.
        if first {
            self.shared.wake.notify_one();
        }
        Watched { shared: &self.shared, key }
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        self.shared.lock().runs.remove(&self.key);
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.wake.notify_one();
        // A panic of the thread has been reported by its own hook.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&self) {
        let mut state = self.lock();
        while !state.ended {
            let next = state.runs.keys().next().map(|(deadline, _)| *deadline);
            let left = next.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            state = match left {
                None => self.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => {
                    if let Some((_, end)) = state.runs.pop_first() {
                        end();
                    }
                    state
                }
                Some(left) => self.wake.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn runs_that_take_too_long_are_ended_and_others_are_not() {
        let watchdog = Watchdog::start().expect("a thread");
        let (send, ended) = channel();
        let end = |name: &'static str| -> End {
            let send = send.clone();
            Box::new(move || send.send(name).expect("the test listens"))
        };
        let hour = Duration::from_secs(3600);
        let _patient = watchdog.watch(hour, end("patient"));
        drop(watchdog.watch(hour / 2, end("done")));
        let _slow = watchdog.watch(Duration::from_millis(1), end("slow"));
        let _slower = watchdog.watch(Duration::from_millis(2), end("slower"));
        assert_eq!(ended.iter().take(2).collect::<Vec<_>>(), ["slow", "slower"]);
        assert_eq!(watchdog.shared.lock().runs.len(), 1, "only the patient one is still watched");
    }
}
