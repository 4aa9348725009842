//! Work off the worker: sealing and merging segments.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::background;

/// Work to be done once, somewhere.
pub type Job = Box<dyn FnOnce() + Send>;

/// Where jobs are done.
pub trait Builder: Send + Sync {
    /// Takes a job, and returns at once.
    fn submit(&self, job: Job);
}

/// Threads that do jobs in the order in which they came. One pool serves all shards of a process.
///
/// Threads are not joined: a process that ends does not wait for indexes nobody will ask.
pub struct BuildPool {
    queue: Arc<Queue>,
}

#[derive(Default)]
struct Queue {
    jobs: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    closed: bool,
}

impl BuildPool {
    /// Starts so many threads.
    ///
    /// # Errors
    /// The system refusing a thread.
    pub fn new(threads: usize) -> std::io::Result<Self> {
        let queue = Arc::new(Queue::default());
        for number in 0..threads {
            let queue = Arc::clone(&queue);
            background::spawn(format!("build-{number}"), move || queue.work())?;
        }
        Ok(Self { queue })
    }
}

impl Builder for BuildPool {
    fn submit(&self, job: Job) {
        self.queue.jobs.lock().unwrap_or_else(PoisonError::into_inner).jobs.push_back(job);
        self.queue.changed.notify_one();
    }
}

impl Drop for BuildPool {
    fn drop(&mut self) {
        self.queue.jobs.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.queue.changed.notify_all();
    }
}

impl Queue {
    fn work(&self) {
        while let Some(job) = self.next() {
            // A job that panics has dropped its channel: its shard sees that and fails.
            drop(catch_unwind(AssertUnwindSafe(job)));
        }
    }

    /// The next job; `None` once the pool is dropped.
    fn next(&self) -> Option<Job> {
        let state = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = |state: &mut State| state.jobs.is_empty() && !state.closed;
        let mut state = self.changed.wait_while(state, waits).unwrap_or_else(PoisonError::into_inner);
        if state.closed { None } else { state.jobs.pop_front() }
    }
}
