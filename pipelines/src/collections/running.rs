//! One collection that runs.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use freshet_config::{Config, Documents, Pipeline, Topics};
use freshet_operators::clock;
use freshet_operators::connect::Connector;
use freshet_operators::control::Control;
use freshet_operators::decode::DEAD_LETTER_SUFFIX;
use freshet_operators::snapshot::Store;
use freshet_operators::wake::block_on;
use prometheus::Registry;
use tokio::sync::{OwnedRwLockReadGuard, RwLock};

use super::log::Made;
use super::schema::payload_fields;
use super::{CollectionError, Schema};
use crate::http::pipe::Pipe;
use crate::run::{self, Progress, RunError, Until};
use crate::setup::Setup;
use crate::status::Phase;
use freshet_operators::causes::with_causes;

/// Field of a collection's records that holds the payload; the id is their key.
pub(crate) const PAYLOAD_FIELD: &str = "payload";

/// How a point stands in a record of the documents topic.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Layout {
    /// `{"payload": {…}, "vectors": {…}}`: any name may stand in the payload.
    Wrapped,
    /// The fields of the payload are those of the document, as in the topic of the configuration.
    Plain,
}

/// A collection that is served: one that was made, or the pipeline of the configuration.
pub(crate) struct Collection {
    pub(crate) name: String,
    pub(crate) pipe: Arc<Pipe>,
    pub(crate) schema: Schema,
    pub(crate) layout: Layout,
    /// What it counts, under its name; nothing of the pipeline of the configuration, which has its own.
    pub(crate) registry: Registry,
    /// Whoever reads points to write them anew has it alone.
    pub(crate) writes: RwLock<()>,
    /// Shared by all requests under way, from beginning to end; whoever ends the run for another one has it alone.
    requests: Arc<RwLock<()>>,
    /// Another run takes the place of this one, which is being ended for it.
    replaced: AtomicBool,
    /// Why the run before this one failed.
    failed_before: Option<String>,
    /// Numbers changes; greater than those of earlier runs.
    operations: AtomicU64,
    run: Mutex<Option<JoinHandle<Result<(), RunError>>>>,
}

impl Collection {
    /// Starts the run of a setup on threads of its own; `on_failure` is called if it fails.
    pub(super) fn start(
        name: &str,
        schema: Schema,
        setup: Setup,
        connector: Arc<dyn Connector>,
        failed_before: Option<String>,
        on_failure: impl FnOnce() + Send + 'static,
    ) -> Result<Arc<Self>, CollectionError> {
        let control = Arc::new(Control::default());
        let pipe = Arc::new(Pipe::start(&setup, &connector, &control)?);
        let registry = registry(name, &setup, &*connector)?;
        let shown = name.to_owned();
        let watched = move || {
            let progress = Arc::new(Progress::default());
            run::run(setup, connector, Until::Stopped, &control, &progress).inspect_err(|error| {
                tracing::error!(collection = shown, error = with_causes(error), "a collection has failed");
                // Also where it failed before there was a dataflow: who asks is told why.
                control.fail(error);
                on_failure();
            })
        };
        let thread = std::thread::Builder::new().name(format!("run {name}")).spawn(watched);
        let thread = thread.map_err(|error| CollectionError::Run(error.to_string()))?;
        let run = Mutex::new(Some(thread));
        let collection =
            Self { run, registry, failed_before, ..Self::of(name, pipe, schema, Layout::Wrapped) };
        Ok(Arc::new(collection))
    }

    /// The pipeline of the configuration, whose run is the caller's.
    pub(crate) fn of_pipe(pipe: Arc<Pipe>) -> Self {
        let config = &pipe.setup.config;
        let sizes: BTreeMap<String, usize> =
            pipe.vectors().iter().filter_map(|(name, spec)| Some((name.clone(), spec.size?))).collect();
        let (name, schema) = (config.pipeline.name.clone(), Schema::of_config(config, &sizes));
        let layout = match config.documents.payload.as_deref() {
            Some(PAYLOAD_FIELD) if config.documents.text.is_empty() => Layout::Wrapped,
            _ => Layout::Plain,
        };
        Self::of(&name, pipe, schema, layout)
    }

    fn of(name: &str, pipe: Arc<Pipe>, schema: Schema, layout: Layout) -> Self {
        Self {
            name: name.to_owned(),
            pipe,
            schema,
            layout,
            registry: Registry::new(),
            writes: RwLock::default(),
            requests: Arc::default(),
            replaced: AtomicBool::new(false),
            failed_before: None,
            operations: AtomicU64::new(clock::now_us()),
            run: Mutex::default(),
        }
    }

    /// Number of the next change.
    pub(crate) fn operation(&self) -> u64 {
        self.operations.fetch_add(1, Ordering::Relaxed)
    }

    /// Why it answers nothing, if so.
    pub(crate) fn obstacle(&self) -> Option<String> {
        match self.pipe.control.failure() {
            Some(failure) => Some(format!("the collection has failed: {failure}")),
            None => self.pipe.phase().obstacle().map(str::to_owned),
        }
    }

    /// Why its run has failed, if it has.
    pub(crate) fn failure(&self) -> Option<String> {
        self.pipe.control.failure()
    }

    /// Why the run before this one failed.
    pub(crate) fn failed_before(&self) -> Option<&str> {
        self.failed_before.as_deref()
    }

    /// Whether another run takes the place of this one: who asks may wait for it.
    pub(crate) fn replaced(&self) -> bool {
        self.replaced.load(Ordering::SeqCst)
    }

    /// Lets a request in, until the end of which the run goes on; `None` where another run takes its place.
    pub(crate) async fn enter(&self) -> Option<OwnedRwLockReadGuard<()>> {
        let request = Arc::clone(&self.requests).read_owned().await;
        (!self.replaced()).then_some(request)
    }

    /// Ends it for another run that takes its place, once the requests under way are answered. Blocks.
    pub(super) fn give_way(&self) {
        let _alone = self.requests.blocking_write();
        self.replaced.store(true, Ordering::SeqCst);
        self.pipe.control.drain();
        // What went wrong has been logged when it did; the next run tells whether it stays so.
        let _ = self.join();
        self.pipe.end();
    }

    /// It was to be replaced, and nothing came in its place.
    pub(super) fn stays_ended(&self, error: &CollectionError) {
        self.pipe.control.fail(error);
        self.replaced.store(false, Ordering::SeqCst);
    }

    /// Waits until queries are answered; what went wrong where they never will be.
    pub(super) fn wait_until_ready(&self) -> Result<(), String> {
        let mut phase = self.pipe.setup.status.watch_phase();
        // The status lives as long as the setup.
        let _ = block_on(phase.wait_for(|phase| *phase >= Phase::Ready));
        match self.obstacle() {
            None => Ok(()),
            Some(why) => Err(self.join().err().map_or(why, |error| with_causes(&error))),
        }
    }

    /// Ends it at once: what is under way is let go.
    pub(super) fn stop(&self) {
        self.pipe.control.stop();
        // It was wanted.
        let _ = self.join();
        self.pipe.end();
    }

    /// Waits for the end of the run.
    pub(super) fn join(&self) -> Result<(), RunError> {
        let thread = self.run.lock().unwrap_or_else(PoisonError::into_inner).take();
        match thread.map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(RunError::Failed("the run panicked".to_owned())),
        }
    }
}

/// Shows what a collection counts, labelled with its name.
fn registry(name: &str, setup: &Setup, connector: &dyn Connector) -> Result<Registry, CollectionError> {
    #[expect(clippy::disallowed_types, reason = "what the library takes; it holds one label")]
    let labels = std::collections::HashMap::from([("collection".to_owned(), name.to_owned())]);
    let registry = Registry::new_custom(None, Some(labels))?;
    setup.metrics.register(&registry)?;
    connector.register(&registry)?;
    Ok(registry)
}

/// The configuration of a collection beside that of the process.
pub(super) fn config(base: &Config, name: &str, schema: &Schema, made: Option<&Made>) -> Config {
    let shards = made.and_then(|made| made.shards.try_into().ok());
    let group = format!("{}.{name}", base.pipeline.name);
    let topic = |role: &str| format!("{group}.{role}");
    let mut snapshots = base.snapshots.clone();
    if let Some(snapshots) = &mut snapshots {
        snapshots.store = store_of(&snapshots.store, name);
    }
    Config {
        topics: Topics {
            documents: topic("documents").into(),
            queries: topic("queries"),
            answers: topic("answers"),
        },
        pipeline: Pipeline {
            name: group,
            shards: shards.unwrap_or(base.pipeline.shards),
            workers: base.collections.workers,
            ..base.pipeline.clone()
        },
        documents: Documents {
            text: Vec::new(),
            title: None,
            payload: Some(PAYLOAD_FIELD.to_owned()),
            ..Documents::default()
        },
        payload: made.map(|made| payload_fields(&made.index)).unwrap_or_default(),
        vectors: schema.vectors(),
        rerankers: BTreeMap::new(),
        plans: BTreeMap::new(),
        snapshots,
        http: None,
        collections: freshet_config::Collections::default(),
        ..base.clone()
    }
}

/// Where the snapshots of a collection lie, beside those of the pipeline.
pub fn store_of(store: &str, name: &str) -> String {
    format!("{}/collections/{name}", store.trim_end_matches('/'))
}

/// All topics of a collection.
pub(super) fn topics(topics: &Topics) -> Vec<String> {
    let inputs: Vec<String> = topics.documents.names().iter().chain([&topics.queries]).cloned().collect();
    let letters = inputs.iter().map(|topic| format!("{topic}{DEAD_LETTER_SUFFIX}"));
    letters.chain(inputs.iter().cloned()).chain([topics.answers.clone()]).collect()
}

/// Removes the snapshots of a collection.
pub(super) fn clear_snapshots(config: &Config) -> Result<(), CollectionError> {
    let Some(snapshots) = &config.snapshots else { return Ok(()) };
    let failed = |error| CollectionError::Wrong(with_causes(&error));
    let store = Store::create(&snapshots.store, &snapshots.options).map_err(failed)?;
    store.remove_all().map_err(failed)
}
