//! Documents → their topic, on a thread of its own: sinks neither block nor wait.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use freshet_operators::connect::{ConnectError, Connector, Sink};
use freshet_schemas::Record;
use tokio::sync::oneshot;

use super::refusal::Refusal;

/// Bytes of records that may wait to be written.
const WAITING_BYTES_MAX: usize = 64 << 20;
/// Time after which a sink that has something under way is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What became of each record: written, or why not.
pub(crate) type Fates = Vec<Result<(), String>>;

enum Event {
    Write(String, Vec<Record>, oneshot::Sender<Fates>),
    /// The sink has something to tell.
    Settled,
    End,
}

/// Hands records to its thread.
pub(crate) struct DocumentWriter {
    events: Sender<Event>,
    waiting_bytes: Arc<AtomicUsize>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl DocumentWriter {
    /// Starts the thread that writes.
    pub(crate) fn start(connector: &dyn Connector) -> Result<Self, ConnectError> {
        let (events, inbox) = channel();
        let told = Arc::new(AtomicBool::new(false));
        let (wakes, tell) = (events.clone(), Arc::clone(&told));
        let sink = connector.sink(Arc::new(move || {
            if !tell.swap(true, Ordering::SeqCst) {
                // A thread that is gone needs no telling.
                let _ = wakes.send(Event::Settled);
            }
        }))?;
        let waiting_bytes = Arc::new(AtomicUsize::new(0));
        let writing = Writing {
            sink,
            told,
            waiting_bytes: Arc::clone(&waiting_bytes),
            waiting: VecDeque::new(),
            under_way: BTreeMap::new(),
            jobs: BTreeMap::new(),
            next: 0,
        };
        let thread = std::thread::Builder::new().name("http documents".into()).spawn(|| writing.run(inbox));
        let failed = |error| {
            let what = "cannot start a thread to write documents".to_owned();
            ConnectError::World { what, source: Some(Box::new(error)), retry: false }
        };
        Ok(Self { events, waiting_bytes, thread: Mutex::new(Some(thread.map_err(failed)?)) })
    }

    /// Writes records to a topic; what comes back says what became of each, once all fates are known.
    pub(crate) fn write(
        &self,
        topic: &str,
        records: Vec<Record>,
    ) -> Result<oneshot::Receiver<Fates>, Refusal> {
        let bytes = size_bytes(&records);
        // One request fits, however large; its size is bounded by that of bodies.
        let before = self.waiting_bytes.fetch_add(bytes, Ordering::SeqCst);
        if before > 0 && before + bytes > WAITING_BYTES_MAX {
            self.waiting_bytes.fetch_sub(bytes, Ordering::SeqCst);
            return Err(Refusal::later("overloaded", "too many documents wait to be written"));
        }
        let (reply, fates) = oneshot::channel();
        self.events.send(Event::Write(topic.to_owned(), records, reply)).map_err(|_| Refusal::ended())?;
        Ok(fates)
    }

    /// Ends the thread and its sink; what comes later is refused.
    pub(crate) fn end(&self) {
        // A thread that is gone needs no telling.
        let _ = self.events.send(Event::End);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Err(_)) = thread.map(JoinHandle::join) {
            tracing::error!("the thread that wrote documents panicked");
        }
    }
}

impl Drop for DocumentWriter {
    fn drop(&mut self) {
        self.end();
    }
}

fn size_bytes(records: &[Record]) -> usize {
    records.iter().map(Record::size_bytes).sum()
}

struct Writing {
    sink: Box<dyn Sink>,
    /// A wake is on its way.
    told: Arc<AtomicBool>,
    waiting_bytes: Arc<AtomicUsize>,
    /// Job, place in it, and record: not yet taken by the sink.
    waiting: VecDeque<(u64, usize, Record)>,
    /// Job and place, by the sink's token.
    under_way: BTreeMap<u64, (u64, usize)>,
    jobs: BTreeMap<u64, Job>,
    /// Number of the next job, and token of the next record.
    next: u64,
}

struct Job {
    reply: oneshot::Sender<Fates>,
    fates: Vec<Option<Result<(), String>>>,
    open: usize,
    bytes: usize,
    topic: String,
}

impl Writing {
    fn run(mut self, inbox: Receiver<Event>) {
        loop {
            let idle = self.jobs.is_empty();
            let event = match inbox.recv_timeout(if idle { Duration::MAX } else { LOOK_AGAIN }) {
                Ok(Event::End) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(event) => event,
                Err(RecvTimeoutError::Timeout) => Event::Settled,
            };
            match event {
                Event::Write(topic, records, reply) => self.begin(topic, records, reply),
                Event::Settled => self.told.store(false, Ordering::SeqCst),
                Event::End => return,
            }
            self.send();
            self.settle();
        }
    }

    fn begin(&mut self, topic: String, records: Vec<Record>, reply: oneshot::Sender<Fates>) {
        let number = self.token();
        let (open, bytes) = (records.len(), size_bytes(&records));
        self.jobs.insert(number, Job { reply, fates: vec![None; open], open, bytes, topic });
        let places = records.into_iter().enumerate();
        self.waiting.extend(places.map(|(place, record)| (number, place, record)));
        self.end_if_complete(number);
    }

    fn token(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Hands over what the sink takes, in order.
    fn send(&mut self) {
        while let Some((job, place, record)) = self.waiting.pop_front() {
            let token = self.token();
            // A job ends once all of its records are settled.
            let Some(topic) = self.jobs.get(&job).map(|job| &job.topic) else { continue };
            if let Err(record) = self.sink.send(topic, record, token) {
                self.waiting.push_front((job, place, record));
                return;
            }
            self.under_way.insert(token, (job, place));
        }
    }

    fn settle(&mut self) {
        for (token, fate) in self.sink.settled() {
            let Some((number, place)) = self.under_way.remove(&token) else { continue };
            if let Some(job) = self.jobs.get_mut(&number) {
                job.fates[place] = Some(fate);
                job.open -= 1;
            }
            self.end_if_complete(number);
        }
    }

    fn end_if_complete(&mut self, number: u64) {
        if self.jobs.get(&number).is_none_or(|job| job.open > 0) {
            return;
        }
        if let Some(job) = self.jobs.remove(&number) {
            self.waiting_bytes.fetch_sub(job.bytes, Ordering::SeqCst);
            // Who sent them may have gone; they are written all the same.
            let _ = job.reply.send(job.fates.into_iter().flatten().collect());
        }
    }
}
