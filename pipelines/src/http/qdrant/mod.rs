//! Qdrant's REST protocol: its clients work when only their address changes.
//!
//! ```text
//! body ─▶ ids · vectors (texts are embedded here) ─▶ records of the collection's documents topic
//!      └▶ query, in Freshet's JSON ─▶ the collection's gateway ─▶ answer ─▶ Qdrant's points
//! ```
//! Everything is translated: there is no second way to search or to write. What Freshet does not do is refused in
//! Qdrant's shape of an error.

mod changes;
mod collections;
mod edit;
mod envelope;
mod ids;
mod points;
mod query;
mod read;
mod routes;
mod schemas;
mod service;
mod vectors;

use std::ops::Deref;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::Method;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use tokio::sync::OwnedRwLockReadGuard;

pub(super) use self::envelope::Problem;
pub(super) use self::routes::{ROUTES, operation};
pub(super) use self::schemas::components;
pub(super) use self::service::root;
use super::{App, guard};
use crate::collections::{Collection, Collections};

/// All routes of collections.
pub(super) fn router(app: &Arc<App>) -> Router<Arc<App>> {
    Router::new()
        .route("/collections", get(collections::list))
        .route("/collections/aliases", post(collections::change_aliases))
        .route("/aliases", get(collections::aliases))
        .route(
            "/collections/{name}",
            get(collections::info)
                .put(collections::create)
                .patch(collections::update)
                .delete(collections::delete),
        )
        .route("/collections/{name}/exists", get(collections::exists))
        .route("/collections/{name}/aliases", get(collections::aliases_of))
        .route("/collections/{name}/index", put(collections::create_index))
        .route("/collections/{name}/index/{field}", delete(collections::delete_index))
        .route("/collections/{name}/points", post(read::retrieve).put(points::upsert))
        .route("/collections/{name}/points/{id}", get(read::one))
        .route("/collections/{name}/points/delete", post(points::delete))
        .route("/collections/{name}/points/payload", post(points::set_payload).put(points::overwrite_payload))
        .route("/collections/{name}/points/payload/delete", post(points::delete_payload))
        .route("/collections/{name}/points/payload/clear", post(points::clear_payload))
        .route("/collections/{name}/points/vectors", put(points::update_vectors))
        .route("/collections/{name}/points/vectors/delete", post(points::delete_vectors))
        .route("/collections/{name}/points/batch", post(points::batch))
        .route("/collections/{name}/points/scroll", post(read::scroll))
        .route("/collections/{name}/points/count", post(read::count))
        .route("/collections/{name}/points/query", post(read::query))
        .route("/collections/{name}/points/query/batch", post(read::query_batch))
        .route("/collections/{name}/points/query/groups", post(read::groups))
        .route("/collections/{name}/points/search", post(read::search))
        .route("/collections/{name}/points/search/batch", post(read::search_batch))
        .route("/collections/{name}/points/search/groups", post(read::search_groups))
        .route("/collections/{name}/points/recommend", post(read::recommend))
        .route("/collections/{name}/points/recommend/batch", post(read::recommend_batch))
        .route("/telemetry", get(service::telemetry))
        .route_layer(middleware::from_fn_with_state(Arc::clone(app), admit))
        .route("/livez", get(service::live))
}

/// Ends of the routes that only read, although something is posted to them.
const READS: [&str; 12] = [
    "/points",
    "/scroll",
    "/count",
    "/query",
    "/query/batch",
    "/query/groups",
    "/search",
    "/search/batch",
    "/search/groups",
    "/recommend",
    "/recommend/batch",
    "/facet",
];

/// Whether a route that is posted to only reads.
fn is_read(path: &str) -> bool {
    READS.iter().any(|end| path.ends_with(end))
}

/// As for the other routes, with Qdrant's shape of a refusal.
async fn admit(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let path = guard::matched(&request);
    let reads = match *request.method() {
        Method::GET | Method::HEAD => true,
        Method::POST => is_read(&path),
        _ => false,
    };
    match guard::admitted(&app, request, next, !reads).await {
        Ok(response) => response,
        Err(refusal) => Problem::from(refusal).into_response(),
    }
}

impl App {
    /// The collections, which are there where these routes are.
    fn list(&self) -> Result<&Arc<Collections>, Problem> {
        self.collections.as_ref().ok_or_else(|| Problem::not_found("collections are not enabled"))
    }

    /// The collection of a name or an alias.
    fn collection(&self, name: &str) -> Result<Arc<Collection>, Problem> {
        let list = self.list()?;
        let resolved = list.resolve(name);
        let own = self.own.as_ref().filter(|own| own.name == resolved).cloned();
        own.or_else(|| list.get(&resolved)).ok_or_else(|| Problem::no_collection(name))
    }

    /// The same, if it can be asked and written. Where another run takes its place, once that is there.
    async fn ready(&self, name: &str) -> Result<Ready, Problem> {
        let mut replaced = self.list()?.watch_replaced();
        loop {
            let collection = self.collection(name)?;
            if let Some(request) = collection.enter().await {
                return match collection.obstacle() {
                    None => Ok(Ready { collection, _request: request }),
                    Some(why) => Err(Problem::later(why)),
                };
            }
            // It ends with the list of collections, which is the server's.
            replaced.changed().await.map_err(Problem::internal)?;
        }
    }
}

/// A collection that goes on until the request that has this is answered. A request has one at a time.
struct Ready {
    collection: Arc<Collection>,
    _request: OwnedRwLockReadGuard<()>,
}

impl Deref for Ready {
    type Target = Collection;

    fn deref(&self) -> &Collection {
        &self.collection
    }
}
