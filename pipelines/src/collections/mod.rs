//! Collections: pipelines that are made while the process runs, for the server's users.
//!
//! ```text
//! PIPELINE.collections (newest record per name) ── start ──▶ Collections ── create, delete, alias ──▶ the same topic
//!                                                               │ one each
//!                                     connector · setup · run on threads of its own · gateway · writer of documents
//!                                     PIPELINE.NAME.documents, .queries, .answers · snapshots in collections/NAME
//! ```
//! A collection is a pipeline like that of the configuration: same dataflow, same guarantees, topics of its own. What
//! collections exist is a log, too; a restart makes them anew from it. Changes to the list are made one at a time, and are
//! durable before they show.

mod again;
mod inference;
mod log;
mod running;
mod schema;

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use freshet_config::{Config, Connector as ConnectorConfig, Kafka};
use freshet_operators::connect::{self, ConnectError, Connector};
use freshet_operators::snapshot::Outcome;
use freshet_operators::trace::Tracer;
use serde_json::{Map, Value};
use tokio::sync::watch;

use self::again::Event;
pub(crate) use self::inference::{Inference, InferenceError, Text};
pub use self::log::LogError;
use self::log::{Entry, Log, Made};
pub use self::running::store_of;
pub(crate) use self::running::{Collection, Layout, PAYLOAD_FIELD};
pub(crate) use self::schema::{Field, Schema};
use crate::setup::{Setup, SetupError};

/// Longest name: topics have their own limit, and put something before and behind it.
const NAME_CHARS_MAX: usize = 128;
/// Most payload indexes that are remembered of a collection.
const INDEXES_MAX: usize = 256;

/// Opens the connector of a group of offsets.
pub type Opener = Box<dyn Fn(&str) -> Result<Arc<dyn Connector>, ConnectError> + Send + Sync>;

/// Why a collection is not made, changed or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CollectionError {
    /// There is none of this name.
    #[error("Collection `{0}` doesn't exist!")]
    NotFound(String),
    /// The name is taken.
    #[error("Collection `{0}` already exists!")]
    Exists(String),
    /// What was asked for cannot be done.
    #[error("{0}")]
    Wrong(String),
    /// A model or an index that does not fit.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// Topics that cannot be read or written.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The topic that says which collections there are.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Metrics that are shown already: a bug.
    #[error("metrics cannot be shown")]
    Metrics(#[from] prometheus::Error),
    /// The run ended early.
    #[error("the collection did not start: {0}")]
    Run(String),
}

/// What the creation of a collection is made of: names and settings of the pipeline of the configuration.
pub struct Collections {
    base: Config,
    topic: String,
    /// Of the process.
    tracer: Option<Tracer>,
    open: Opener,
    log: Log,
    /// Makes vectors of texts.
    pub(crate) inference: Arc<Inference>,
    /// Held while the list is changed.
    changes: Mutex<()>,
    state: Mutex<State>,
    /// Told when a run has taken the place of another.
    replaced: watch::Sender<()>,
    /// Where failures are told, and the thread that starts collections again.
    failures: Sender<Event>,
    again: Mutex<Option<JoinHandle<()>>>,
}

/// Invariant: a name is in `entries` once its record is durable, and in `running` while it is served.
#[derive(Default)]
struct State {
    entries: BTreeMap<String, Entry>,
    running: BTreeMap<String, Arc<Collection>>,
}

/// One change of the aliases.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum AliasChange {
    Create { alias: String, of: String },
    Delete { alias: String },
    Rename { from: String, to: String },
}

/// Opens topics beside those of a configuration, which may always be created.
pub fn opener(config: &ConnectorConfig) -> Opener {
    let config = match config {
        ConnectorConfig::Kafka(kafka) => {
            ConnectorConfig::Kafka(Kafka { create_topics: true, ..kafka.clone() })
        }
        files @ ConnectorConfig::Files { .. } => files.clone(),
    };
    Box::new(move |group| connect::open(&config, group))
}

impl Collections {
    /// Reads which collections there are and starts them all, beside the pipeline of a setup.
    ///
    /// # Errors
    /// Topics that cannot be read, and collections that cannot be started.
    pub fn open(setup: &Setup, open: Opener) -> Result<Arc<Self>, CollectionError> {
        let base = (*setup.config).clone();
        let topic = format!("{}.collections", base.pipeline.name);
        let connector = open(&topic)?;
        let (log, entries) = Log::open(&connector, &topic)?;
        let inference = Arc::new(Inference::new(setup));
        let state = State { entries, running: BTreeMap::new() };
        let (changes, state) = (Mutex::default(), Mutex::new(state));
        let (failures, events) = channel();
        let (replaced, again) = (watch::Sender::default(), Mutex::default());
        let tracer = setup.tracer.clone();
        let collections = Arc::new(Self {
            base,
            topic,
            tracer,
            open,
            log,
            inference,
            changes,
            state,
            replaced,
            failures,
            again,
        });
        let watched = Arc::downgrade(&collections);
        let thread = std::thread::Builder::new().name("collections".into());
        let thread = thread.spawn(move || again::watch(&watched, &events));
        let failed = |error: std::io::Error| CollectionError::Run(error.to_string());
        *collections.again.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread.map_err(failed)?);
        // Not under the lock, which is taken below.
        let entries = collections.lock().entries.clone();
        for (name, entry) in entries {
            if let Entry::Collection(made) = entry {
                let running = collections.start(&name, &made, None)?;
                collections.lock().running.insert(name, running);
            }
        }
        Ok(collections)
    }

    /// Makes a collection of Qdrant's body, and waits until it can be asked.
    pub(crate) fn create(&self, name: &str, body: &Value) -> Result<(), CollectionError> {
        let _changing = self.changing();
        check_name(name)?;
        if name == self.base.pipeline.name || self.lock().entries.contains_key(name) {
            return Err(CollectionError::Exists(name.to_owned()));
        }
        let max = self.base.collections.max.get();
        if self.lock().running.len() >= max {
            let message = format!("there are {max} collections already, as many as collections.max allows");
            return Err(CollectionError::Wrong(message));
        }
        // Before anything is removed.
        Schema::parse(body).map_err(CollectionError::Wrong)?;
        let (collection, shards) = (body.clone(), self.base.pipeline.shards.get());
        let made = Made { collection, shards, index: Map::new() };
        // What a process that was killed while it removed one of this name has left.
        self.clear(name)?;
        let running = self.start(name, &made, None)?;
        if let Err(error) = running
            .wait_until_ready()
            .map_err(CollectionError::Run)
            .and_then(|()| Ok(self.log.put(&self.topic, name, Some(&Entry::Collection(made.clone())))?))
        {
            running.stop();
            drop(running);
            self.clear(name)?;
            return Err(error);
        }
        let mut state = self.lock();
        state.entries.insert(name.to_owned(), Entry::Collection(made));
        state.running.insert(name.to_owned(), running);
        tracing::info!(name, "collection created");
        Ok(())
    }

    /// Ends a collection, with its topics, snapshots and aliases; whether there was one.
    pub(crate) fn delete(&self, name: &str) -> Result<bool, CollectionError> {
        let _changing = self.changing();
        self.refuse_own(name)?;
        let name = &self.resolve(name);
        if !self.lock().running.contains_key(name) {
            return Ok(false);
        }
        let aliases = self.aliases();
        for (alias, _) in aliases.iter().filter(|(_, of)| of == name) {
            self.forget(alias)?;
        }
        self.forget(name)?;
        let running = self.lock().running.remove(name);
        if let Some(running) = running {
            running.stop();
        }
        self.clear(name)?;
        tracing::info!(name, "collection deleted");
        Ok(true)
    }

    /// Makes a payload index, or removes it: the run is ended, and one that has it begins where it ended. What is asked
    /// and written meanwhile waits.
    pub(crate) fn index(&self, name: &str, key: &str, schema: Option<Value>) -> Result<(), CollectionError> {
        let _changing = self.changing();
        let name = self.resolve(name);
        let entry = self.lock().entries.get(&name).cloned();
        let Some(Entry::Collection(mut made)) = entry else {
            return Err(CollectionError::NotFound(name));
        };
        let before = schema::payload_fields(&made.index);
        match schema {
            Some(schema) => drop(made.index.insert(key.to_owned(), schema)),
            None => drop(made.index.remove(key)),
        }
        if made.index.len() > INDEXES_MAX {
            return Err(CollectionError::Wrong(format!("at most {INDEXES_MAX} payload indexes are kept")));
        }
        let entry = Entry::Collection(made.clone());
        self.log.put(&self.topic, &name, Some(&entry))?;
        self.lock().entries.insert(name.clone(), entry);
        if before == schema::payload_fields(&made.index) {
            return Ok(());
        }
        let Some(old) = self.get(&name) else { return Err(CollectionError::NotFound(name)) };
        old.give_way();
        let new = self.start(&name, &made, old.failure()).inspect_err(|error| {
            self.stays_ended(&old, error);
            // Nobody listens once the process ends.
            let _ = self.failures.send(Event::Failed(name.clone()));
        })?;
        let ready = new.wait_until_ready().map_err(CollectionError::Run);
        self.replace(&name, new);
        ready
    }

    /// Starts a collection again whose run has failed.
    fn revive(&self, name: &str) -> Result<(), CollectionError> {
        let _changing = self.changing();
        let Some(old) = self.get(name) else { return Ok(()) };
        let Some(Entry::Collection(made)) = self.lock().entries.get(name).cloned() else { return Ok(()) };
        let Some(failure) = old.failure() else { return Ok(()) };
        old.give_way();
        let new = self.start(name, &made, Some(failure));
        self.replace(name, new.inspect_err(|error| self.stays_ended(&old, error))?);
        tracing::info!(collection = name, "started again");
        Ok(())
    }

    /// Another run takes the place of one that has ended.
    fn replace(&self, name: &str, new: Arc<Collection>) {
        self.lock().running.insert(name.to_owned(), new);
        self.replaced.send_replace(());
    }

    /// Nothing takes the place of one that has ended.
    fn stays_ended(&self, old: &Collection, error: &CollectionError) {
        old.stays_ended(error);
        self.replaced.send_replace(());
    }

    /// Told of every run that takes the place of another from now on.
    pub(crate) fn watch_replaced(&self) -> watch::Receiver<()> {
        self.replaced.subscribe()
    }

    /// Asks all that answer for a snapshot at once, by name; as [`freshet_operators::control::Control::cut_now`].
    pub fn cut_now(&self) -> Vec<(String, Receiver<Outcome>)> {
        let ready = self.all().into_iter().filter(|collection| collection.obstacle().is_none());
        ready.map(|collection| (collection.name.clone(), collection.pipe.control.cut_now())).collect()
    }

    /// Payload indexes of a collection, as they were asked for.
    pub(crate) fn indexes(&self, name: &str) -> Map<String, Value> {
        match self.lock().entries.get(name) {
            Some(Entry::Collection(made)) => made.index.clone(),
            Some(Entry::Alias { .. }) | None => Map::new(),
        }
    }

    /// Changes aliases, one after the other.
    pub(crate) fn change_aliases(&self, changes: Vec<AliasChange>) -> Result<(), CollectionError> {
        let _changing = self.changing();
        for change in changes {
            match change {
                AliasChange::Create { alias, of } => self.alias(&alias, &of)?,
                AliasChange::Delete { alias } => {
                    self.alias_target(&alias)?;
                    self.forget(&alias)?;
                }
                AliasChange::Rename { from, to } => {
                    let of = self.alias_target(&from)?;
                    self.alias(&to, &of)?;
                    self.forget(&from)?;
                }
            }
        }
        Ok(())
    }

    /// Aliases with their collections, by name.
    pub(crate) fn aliases(&self) -> Vec<(String, String)> {
        let alias = |(name, entry): (&String, &Entry)| match entry {
            Entry::Alias { alias_of } => Some((name.clone(), alias_of.clone())),
            Entry::Collection(_) => None,
        };
        self.lock().entries.iter().filter_map(alias).collect()
    }

    /// Names of those that run.
    pub(crate) fn names(&self) -> Vec<String> {
        self.lock().running.keys().cloned().collect()
    }

    /// All that run.
    pub(crate) fn all(&self) -> Vec<Arc<Collection>> {
        self.lock().running.values().cloned().collect()
    }

    /// The collection that an alias stands for, or the name itself.
    pub(crate) fn resolve(&self, name: &str) -> String {
        match self.lock().entries.get(name) {
            Some(Entry::Alias { alias_of }) => alias_of.clone(),
            Some(Entry::Collection(_)) | None => name.to_owned(),
        }
    }

    /// The collection of a name that is no alias.
    pub(crate) fn get(&self, name: &str) -> Option<Arc<Collection>> {
        self.lock().running.get(name).cloned()
    }

    /// Lets all of them answer what they have taken.
    pub fn drain(&self) {
        self.all().iter().for_each(|collection| collection.pipe.control.drain());
    }

    /// Ends all of them at once.
    pub fn stop(&self) {
        self.all().iter().for_each(|collection| collection.pipe.control.stop());
    }

    /// Waits until all of them have ended; what they are and hold stays.
    pub fn finish(&self) {
        // Nobody listens where the thread has ended.
        let _ = self.failures.send(Event::End);
        let thread = self.again.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Err(_)) = thread.map(JoinHandle::join) {
            tracing::error!("the thread that starts collections again panicked");
        }
        let _changing = self.changing();
        self.drain();
        let running = std::mem::take(&mut self.lock().running);
        for collection in running.values() {
            // What went wrong has been logged when it did.
            let _ = collection.join();
            collection.pipe.end();
        }
        self.log.end();
    }

    /// Starts the run of a collection; `failed_before` says why the one before it failed.
    fn start(
        &self,
        name: &str,
        made: &Made,
        failed_before: Option<String>,
    ) -> Result<Arc<Collection>, CollectionError> {
        let schema = Schema::parse(&made.collection).map_err(CollectionError::Wrong)?;
        let config = running::config(&self.base, name, &schema, Some(made));
        let connector = (self.open)(&config.pipeline.name)?;
        let setup = Setup::with_models(config, Vec::new())?.with_tracer(self.tracer.clone()).with_gateway();
        let (failures, told) = (self.failures.clone(), name.to_owned());
        let on_failure = move || {
            // Nobody listens once the process ends.
            let _ = failures.send(Event::Failed(told));
        };
        Collection::start(name, schema, setup, connector, failed_before, on_failure)
    }

    /// Removes all that a collection has outside this process. It does not run.
    fn clear(&self, name: &str) -> Result<(), CollectionError> {
        let config = running::config(&self.base, name, &Schema::default(), None);
        let connector = (self.open)(&config.pipeline.name)?;
        let topics = running::topics(&config.topics);
        connector.remove(&topics.iter().map(String::as_str).collect::<Vec<_>>())?;
        running::clear_snapshots(&config)
    }

    fn alias(&self, alias: &str, of: &str) -> Result<(), CollectionError> {
        check_name(alias)?;
        let state = self.lock();
        let known = of == self.base.pipeline.name || state.running.contains_key(of);
        let taken = alias == self.base.pipeline.name || state.running.contains_key(alias);
        drop(state);
        if !known {
            return Err(CollectionError::NotFound(of.to_owned()));
        }
        if taken {
            return Err(CollectionError::Exists(alias.to_owned()));
        }
        let entry = Entry::Alias { alias_of: of.to_owned() };
        self.log.put(&self.topic, alias, Some(&entry))?;
        self.lock().entries.insert(alias.to_owned(), entry);
        Ok(())
    }

    fn alias_target(&self, alias: &str) -> Result<String, CollectionError> {
        match self.lock().entries.get(alias) {
            Some(Entry::Alias { alias_of }) => Ok(alias_of.clone()),
            Some(Entry::Collection(_)) | None => {
                Err(CollectionError::Wrong(format!("Alias {alias} does not exists!")))
            }
        }
    }

    fn forget(&self, name: &str) -> Result<(), CollectionError> {
        self.log.put(&self.topic, name, None)?;
        self.lock().entries.remove(name);
        Ok(())
    }

    fn refuse_own(&self, name: &str) -> Result<(), CollectionError> {
        if self.resolve(name) == self.base.pipeline.name {
            let message = format!("`{name}` is the pipeline of the configuration: it cannot be deleted");
            return Err(CollectionError::Wrong(message));
        }
        Ok(())
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state is whole between any two statements.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Names are parts of topics.
fn check_name(name: &str) -> Result<(), CollectionError> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if (1..=NAME_CHARS_MAX).contains(&name.len()) && name.chars().all(legal) {
        return Ok(());
    }
    let shown: String = name.chars().take(64).collect();
    Err(CollectionError::Wrong(format!(
        "collection name {shown:?} is no part of a topic: at most {NAME_CHARS_MAX} letters, digits, \".\", \"_\" or \"-\""
    )))
}
