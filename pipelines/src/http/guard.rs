//! What stands before every handler: counting, keys, limits, time, and a net under panics.

use std::sync::Arc;
use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use freshet_config::{Http, Secret};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use prometheus::IntGauge;
use subtle::ConstantTimeEq;

use super::App;
use super::bodies::{NoRoom, Share};
use super::refusal::Refusal;

/// Counts a request under the route that serves it.
pub(super) async fn count(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let method = request.method().clone();
    let path = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let _serving = Counted::one(&app.metrics.in_flight);
    let response = next.run(request).await;
    let route = path.as_deref().unwrap_or("unmatched");
    app.metrics.answered(route, &method, response.status(), begun.elapsed().as_secs_f64());
    response
}

/// One more in a gauge, as long as it lives.
pub(super) struct Counted(IntGauge);

impl Counted {
    pub(super) fn one(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Lets a request of the API through if its key may do it, there is room for it, and it is answered in time.
pub(super) async fn admit(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let writes = matched(&request).starts_with("/api/documents");
    admitted(&app, request, next, writes).await.unwrap_or_else(IntoResponse::into_response)
}

/// The route of a request.
pub(super) fn matched(request: &Request) -> String {
    request.extensions().get::<MatchedPath>().map_or_else(String::new, |path| path.as_str().to_owned())
}

/// The response to a request, if its key may do it, and there is room for it.
pub(super) async fn admitted(
    app: &App,
    request: Request,
    next: Next,
    writes: bool,
) -> Result<Response, Refusal> {
    check_key(&app.http, request.headers(), writes)?;
    let Ok(_slot) = app.slots.try_acquire() else {
        let message = format!("{} requests are being served, as many as may be", app.http.requests_max);
        return Err(Refusal::later("overloaded", message));
    };
    let (request, _share) =
        Share::of(&app.bodies, request, app.http.body_bytes_max.get()).map_err(no_room)?;
    Ok(in_time(&app.http, next.run(request)).await)
}

fn no_room(error: NoRoom) -> Refusal {
    Refusal::later("overloaded", format!("{error}; http.bodies_bytes_max is how much"))
}

/// As [`admit`], for what is read while the server is full: keys only.
pub(super) async fn admit_always(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    match check_key(&app.http, request.headers(), false) {
        Ok(()) => in_time(&app.http, next.run(request)).await,
        Err(refusal) => refusal.into_response(),
    }
}

async fn in_time(http: &Http, response: impl Future<Output = Response>) -> Response {
    tokio::time::timeout(http.request_timeout, response).await.unwrap_or_else(|_| {
        let message = format!("not answered within {:?}", http.request_timeout);
        Refusal::new(StatusCode::GATEWAY_TIMEOUT, "timeout", message).into_response()
    })
}

/// Whether the key that a request brings may read, or write.
fn check_key(http: &Http, headers: &HeaderMap, writes: bool) -> Result<(), Refusal> {
    let Some(key) = &http.api_key else { return Ok(()) };
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().as_bytes())
    });
    let given = headers.get("api-key").map(|value| value.as_bytes()).or(bearer);
    let is = |key: &Secret| given.is_some_and(|given| bool::from(given.ct_eq(key.reveal().as_bytes())));
    let reads = http.read_only_api_key.as_ref().is_some_and(is);
    match (is(key), reads, given) {
        (true, _, _) => Ok(()),
        (false, true, _) if !writes => Ok(()),
        (false, true, _) => {
            let message = "this key may ask, but not write";
            Err(Refusal::new(StatusCode::FORBIDDEN, "forbidden", message))
        }
        (false, false, given) => {
            let message = match given {
                Some(_) => "the key is not known",
                None => "send a key in the header \"api-key\", or as a bearer token in \"Authorization\"",
            };
            Err(Refusal::new(StatusCode::UNAUTHORIZED, "unauthorized", message))
        }
    }
}

/// A body, if it is not too large and comes in time.
pub(super) async fn read_body(http: &Http, body: Body) -> Result<Bytes, Refusal> {
    let max = http.body_bytes_max.get();
    let reading = tokio::time::timeout(http.idle_timeout, Limited::new(body, max).collect());
    match reading.await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let message = format!("the body has more than {max} bytes; send less at once");
            Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message))
        }
        Ok(Err(error)) if is_no_room(&*error) => Err(no_room(NoRoom)),
        Ok(Err(error)) => {
            let message = format!("the body could not be read: {error}");
            Err(Refusal::new(StatusCode::BAD_REQUEST, "broken_body", message))
        }
        Err(_) => {
            let message = format!("the body did not come within {:?}", http.idle_timeout);
            Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "timeout", message))
        }
    }
}

/// Whether that is what lies behind an error.
fn is_no_room(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|error| error.is::<NoRoom>())
}

/// The answer to a request whose handler panicked.
pub(super) fn panicked(panic: Box<dyn std::any::Any + Send>) -> Response {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no text");
    tracing::error!(panic = text, "a request made the server panic; this is a bug");
    let message = "a bug of the server, which has logged it";
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message).into_response()
}

/// The answer to a path that nothing serves.
pub(super) async fn not_found(request: Request) -> Refusal {
    let message = format!("nothing is at {}; /docs shows what there is", request.uri().path());
    Refusal::new(StatusCode::NOT_FOUND, "not_found", message)
}

/// The answer to a method that a path does not have.
pub(super) async fn wrong_method(method: Method, path: MatchedPath) -> Refusal {
    let message = format!("{} does not take {method}; /docs shows what it takes", path.as_str());
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
}
