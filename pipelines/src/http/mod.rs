//! The HTTP server beside a pipeline: queries, documents, health, metrics, and pages to look at.
//!
//! ```text
//! connection ─▶ count ─▶ catch panics ─▶ CORS ─▶ key · room · time ─▶ handler ─▶ Gateway ─▶ dataflow
//!                                                                       └──────▶ documents topic
//! ```
//! Two threads serve all connections and never block: queries wait in the dataflow, documents are written by a thread of
//! their own. Limits: connections, requests, bytes of a body and of all bodies, and the time that anything may take.

mod assets;
mod bodies;
mod dataflow;
mod documents;
mod guard;
mod health;
mod metrics;
mod openapi;
mod patience;
pub(crate) mod pipe;
mod qdrant;
mod query;
pub(crate) mod refusal;
mod search;
mod serve;
mod tls;
mod trace;
pub(crate) mod writer;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::routing::{delete, get, post};
use axum::{Router, middleware};
use freshet_config::Http;
use freshet_operators::connect::{ConnectError, Connector};
use freshet_operators::control::Control;
use freshet_operators::embed::EmbedError;
use freshet_operators::observe::OperatorMetrics;
use prometheus::Registry;
use prometheus::process_collector::ProcessCollector;
use tokio::sync::{Semaphore, watch};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};

use self::bodies::Bodies;
pub(crate) use self::metrics::HttpMetrics;
use self::pipe::Pipe;
use crate::collections::{Collection, Collections};
use crate::setup::Setup;

/// Threads that serve all connections.
const THREADS: usize = 2;
/// Longest time for what blocks, such as a look at a topic, once the server ends.
const END_WITHIN: Duration = Duration::from_secs(1);

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// The address is taken, or is none of this machine.
    #[error("http.listen: cannot listen on \"{listen}\"")]
    Listen {
        /// The address.
        listen: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// A certificate or key that cannot be used.
    #[error("{key}: \"{}\" {problem}", path.display())]
    Tls {
        /// Key of the configuration.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The system gives no threads.
    #[error("cannot start the threads of the HTTP server")]
    Threads(#[source] std::io::Error),
    /// The documents topic cannot be written.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Metrics that are shown already: a bug.
    #[error("metrics cannot be shown")]
    Metrics(#[from] prometheus::Error),
    /// Metrics of the embedding service that are shown already: a bug.
    #[error(transparent)]
    Embedding(#[from] EmbedError),
}

/// What handlers share.
struct App {
    http: Http,
    /// The pipeline of the configuration.
    pipe: Arc<Pipe>,
    /// Those that are made while the process runs.
    collections: Option<Arc<Collections>>,
    /// The pipeline of the configuration, as one of them.
    own: Option<Arc<Collection>>,
    registry: Registry,
    metrics: HttpMetrics,
    operators: OperatorMetrics,
    /// Requests of the API that may still be taken.
    slots: Semaphore,
    bodies: Arc<Bodies>,
}

/// A server that runs; it ends when it is dropped.
pub struct Server {
    address: SocketAddr,
    end: watch::Sender<bool>,
    serving: Option<tokio::task::JoinHandle<()>>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Server {
    /// Listens, and serves the run of a setup that has a gateway: before the run begins, so that it can be watched.
    ///
    /// # Errors
    /// An address that cannot be listened on, a documents topic that cannot be written.
    pub fn start(
        http: &Http,
        setup: &Setup,
        connector: &Arc<dyn Connector>,
        control: &Arc<Control>,
    ) -> Result<Self, HttpError> {
        Self::with_collections(http, setup, connector, control, None)
    }

    /// The same, with collections for Qdrant's clients.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn with_collections(
        http: &Http,
        setup: &Setup,
        connector: &Arc<dyn Connector>,
        control: &Arc<Control>,
        collections: Option<Arc<Collections>>,
    ) -> Result<Self, HttpError> {
        let failed = |source| HttpError::Listen { listen: http.listen.clone(), source };
        let acceptor = tls::acceptor(http)?;
        let listener = TcpListener::bind(&http.listen).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        if http.api_key.is_none() && !address.ip().is_loopback() {
            tracing::warn!(%address, "whoever reaches this address may read and write; set http.api_key");
        }
        let registry = Registry::new();
        setup.metrics.register(&registry)?;
        setup.snapshot_metrics.register(&registry)?;
        setup.rerank_metrics.register(&registry)?;
        setup.trace_metrics.register(&registry)?;
        if let Some(service) = &setup.service {
            service.metrics().register(&registry)?;
        }
        connector.register(&registry)?;
        registry.register(Box::new(ProcessCollector::for_self()))?;
        let pipe = Arc::new(Pipe::start(setup, connector, control)?);
        let own = collections.as_ref().map(|_| Arc::new(Collection::of_pipe(Arc::clone(&pipe))));
        let metrics = HttpMetrics::register(&registry)?;
        let app = Arc::new(App {
            pipe,
            collections,
            own,
            bodies: Arc::new(Bodies::new(http.bodies_bytes_max.get(), metrics.bodies.clone())),
            metrics,
            operators: OperatorMetrics::register(&registry)?,
            slots: Semaphore::new(http.requests_max.get()),
            http: http.clone(),
            registry,
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("http")
            .enable_all()
            .build()
            .map_err(HttpError::Threads)?;
        let (end, ended) = watch::channel(false);
        let router = router(&app);
        let listener = {
            let _in_runtime = runtime.enter();
            tokio::net::TcpListener::from_std(listener).map_err(failed)?
        };
        let serving = Some(runtime.spawn(serve::serve((listener, acceptor), router, app, ended)));
        tracing::info!(%address, "listening");
        Ok(Self { address, end, serving, runtime: Some(runtime) })
    }

    /// Where it listens; the port is known here also where the configuration leaves it to the system.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    /// Lets requests under way be answered, for a while.
    fn drop(&mut self) {
        self.end.send_replace(true);
        let Some(runtime) = self.runtime.take() else { return };
        if let Some(Err(error)) = self.serving.take().map(|serving| runtime.block_on(serving)) {
            tracing::error!(%error, "the HTTP server ended early");
        }
        runtime.shutdown_timeout(END_WITHIN);
    }
}

/// All routes; [`openapi::ROUTES`] names those that are documented.
fn router(app: &Arc<App>) -> Router {
    let guarded = Router::new()
        .route("/api/query", post(query::post))
        .route("/api/search", get(query::get))
        .route("/api/documents", post(documents::put).put(documents::put))
        .route("/api/documents/{id}", delete(documents::delete))
        .route_layer(middleware::from_fn_with_state(Arc::clone(app), guard::admit));
    let watched = Router::new()
        .route("/api/status", get(health::status))
        .route("/api/dataflow", get(dataflow::get))
        .route("/metrics", get(health::metrics))
        .route_layer(middleware::from_fn_with_state(Arc::clone(app), guard::admit_always));
    let open = Router::new()
        .route("/healthz", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/openapi.json", get(openapi::get))
        .route("/docs", get(assets::docs))
        .route("/docs.js", get(assets::docs_script))
        .route("/search.js", get(assets::page_script))
        .route("/flow.js", get(assets::flow_script))
        .route("/dataflow", get(assets::dataflow))
        .route("/dataflow.js", get(assets::dataflow_script))
        .route("/style.css", get(assets::style));
    let router = guarded.merge(watched).merge(open);
    let router = match &app.collections {
        None => router.route("/", get(assets::page)),
        Some(_) => router.route("/", get(qdrant::root)).merge(qdrant::router(app)),
    };
    let router = router.fallback(guard::not_found).method_not_allowed_fallback(guard::wrong_method);
    let router = match &app.pipe.setup.tracer {
        None => router,
        Some(_) => router.layer(middleware::from_fn(trace::carry)),
    };
    router
        .layer(cors(&app.http.cors_origins))
        .layer(CatchPanicLayer::custom(guard::panicked))
        .layer(middleware::from_fn_with_state(Arc::clone(app), guard::count))
        .with_state(Arc::clone(app))
}

/// Which pages may call from a browser: without origins, only those of the server.
fn cors(origins: &[String]) -> CorsLayer {
    let allowed = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        // The configuration has checked that origins are what browsers send.
        AllowOrigin::list(origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()))
    };
    CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers([header::CONTENT_TYPE, header::AUTHORIZATION, HeaderName::from_static("api-key")])
}
