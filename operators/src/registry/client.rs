//! Asks a schema registry over HTTP, on a thread of its own.
//!
//! A registry that is away, or that answers with what no registry says, is asked again with growing pauses: nothing is lost
//! by waiting. A schema that it does not have is a fault of the records that name it. Wrong credentials end the run.
//! Neither credentials nor addresses are logged, but the host.

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use freshet_config::Registry;
use freshet_schemas::{Fault, FaultCode, WireSchema};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use ureq::Agent;
use ureq::http::StatusCode;

use super::cache::{Cache, Found};
use crate::metrics::RunMetrics;
use crate::remote::{agent, backoff, host, unreachable};

/// Longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 16 << 20;
/// Most schemas that one schema names, directly or through others.
const REFERENCES_MAX: usize = 256;
/// Longest pause before the registry is asked again.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// The schemas of a run. Dropping it ends its thread after the current request.
pub struct Schemas {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    client: Client,
    metrics: RunMetrics,
    state: Mutex<State>,
    /// Signalled when a schema is wanted, or at the end.
    changed: Condvar,
}

/// Makes requests.
struct Client {
    registry: Registry,
    /// Host and port, for messages.
    host: String,
    agent: Agent,
}

#[derive(Default)]
struct State {
    cache: Cache,
    failure: Option<String>,
    ended: bool,
}

/// Why there is no schema.
enum Trouble {
    /// The registry has it not, or it cannot be read: as the end of a sentence.
    Refused(String),
    /// It may pass.
    Passing(String),
    /// It does not pass while the configuration is as it is.
    Lasting(String),
}

/// What a registry says of a schema.
#[derive(Deserialize)]
struct Answer {
    schema: String,
    #[serde(default, rename = "schemaType")]
    kind: Option<String>,
    #[serde(default)]
    references: Vec<Reference>,
}

/// A version of another schema.
#[derive(Clone, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
struct Reference {
    subject: String,
    version: i64,
}

/// What a registry says where there is no schema.
#[derive(Deserialize)]
struct Refusal {
    error_code: u32,
}

impl Schemas {
    /// Starts the thread; nothing is asked until a schema is wanted.
    ///
    /// # Errors
    /// A thread that cannot be started.
    pub fn start(registry: &Registry, metrics: RunMetrics) -> std::io::Result<Self> {
        let (state, changed) = (Mutex::default(), Condvar::new());
        let shared = Arc::new(Shared { client: Client::new(registry), metrics, state, changed });
        let working = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("schemas".into()).spawn(move || working.work())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// The schema, if it is known; otherwise it is asked for.
    pub fn find(&self, number: u32) -> Option<Found> {
        let found = self.shared.lock().cache.find(number, Instant::now());
        if found.is_none() {
            self.shared.changed.notify_one();
        }
        found
    }

    /// What ends the run.
    pub fn failure(&self) -> Option<String> {
        self.shared.lock().failure.clone()
    }
}

impl Drop for Schemas {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.changed.notify_all();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that asks the schema registry has panicked");
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut failed = 0;
        while let Some(number) = self.next() {
            let trouble = match self.client.schema(number) {
                Ok(schema) => {
                    self.count("ok");
                    self.put(number, Ok(Arc::new(schema)), &mut failed);
                    continue;
                }
                Err(trouble) => trouble,
            };
            match trouble {
                Trouble::Refused(what) => {
                    self.count("refused");
                    let message = format!("schema {number} {what}");
                    tracing::warn!(
                        registry = self.client.host,
                        "{message}; records that name it become dead letters"
                    );
                    self.put(number, Err(Fault::whole(FaultCode::UnknownSchema, message)), &mut failed);
                }
                Trouble::Passing(why) => {
                    self.count("unreachable");
                    if failed == 0 {
                        tracing::warn!(
                            registry = self.client.host,
                            schema = number,
                            "{why}; documents wait until the schema registry answers"
                        );
                    }
                    // It may be this schema alone.
                    self.lock().cache.later(number);
                    self.pause(backoff(failed, PAUSE_MAX));
                    failed += 1;
                }
                Trouble::Lasting(why) => {
                    self.lock().failure = Some(why);
                    return;
                }
            }
        }
    }

    fn put(&self, number: u32, found: Found, failed: &mut u32) {
        if std::mem::take(failed) > 0 {
            tracing::info!(registry = self.client.host, "the schema registry answers again");
        }
        self.lock().cache.put(number, found, Instant::now());
    }

    /// Waits for a number that is wanted; `None` at the end.
    fn next(&self) -> Option<u32> {
        let state = self.lock();
        let idle = |state: &mut State| !state.ended && state.cache.next().is_none();
        let state = self.changed.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner);
        if state.ended { None } else { state.cache.next() }
    }

    fn pause(&self, time: Duration) {
        let waiting = self.changed.wait_timeout_while(self.lock(), time, |state| !state.ended);
        drop(waiting.unwrap_or_else(PoisonError::into_inner));
    }

    fn count(&self, outcome: &str) {
        self.metrics.schema_requests.with_label_values(&[outcome]).inc();
    }
}

/// Host and port of a registry: what may be told of its address.
pub fn host_of(registry: &Registry) -> &str {
    host(&registry.url)
}

/// How many subjects a registry has: whether it can be reached, and takes the credentials.
///
/// # Errors
/// What is wrong, for people.
pub fn subjects(registry: &Registry) -> Result<usize, String> {
    match Client::new(registry).get::<Vec<String>>("/subjects") {
        Ok(subjects) => Ok(subjects.len()),
        Err(Trouble::Refused(why) | Trouble::Passing(why) | Trouble::Lasting(why)) => Err(why),
    }
}

impl Client {
    fn new(registry: &Registry) -> Self {
        let agent = agent().timeout_global(Some(registry.timeout)).build().into();
        Self { host: host(&registry.url).to_owned(), registry: registry.clone(), agent }
    }

    /// A schema with all that it names.
    fn schema(&self, number: u32) -> Result<WireSchema, Trouble> {
        let answer: Answer = self.get(&format!("/schemas/ids/{number}"))?;
        let kind = answer.kind.as_deref().unwrap_or("AVRO");
        if kind != "AVRO" {
            return Err(Trouble::Refused(format!("is of type {kind}, but the format is \"avro\"")));
        }
        let (mut waiting, mut seen) = (answer.references, BTreeSet::new());
        let mut references = Vec::new();
        while let Some(reference) = waiting.pop() {
            if !seen.insert(reference.clone()) {
                continue;
            }
            if seen.len() > REFERENCES_MAX {
                return Err(Trouble::Refused(format!("names more than {REFERENCES_MAX} other schemas")));
            }
            let path = format!("/subjects/{}/versions/{}", escaped(&reference.subject), reference.version);
            let answer: Answer = self.get(&path).map_err(|trouble| match trouble {
                Trouble::Refused(what) => Trouble::Refused(format!(
                    "names version {} of \"{}\", which {what}",
                    reference.version, reference.subject
                )),
                other @ (Trouble::Passing(_) | Trouble::Lasting(_)) => other,
            })?;
            waiting.extend(answer.references);
            references.push(answer.schema);
        }
        WireSchema::avro(&answer.schema, &references).map_err(Trouble::Refused)
    }

    /// One request.
    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Trouble> {
        let mut request = self.agent.get(format!("{}{path}", self.registry.url));
        request = request.header("accept", "application/vnd.schemaregistry.v1+json, application/json");
        if let Some((user, password)) = &self.registry.user {
            let both = STANDARD.encode(format!("{}:{}", user.reveal(), password.reveal()));
            request = request.header("authorization", format!("Basic {both}"));
        } else if let Some(token) = &self.registry.token {
            request = request.header("authorization", format!("Bearer {}", token.reveal()));
        }
        let answered = request.call().and_then(|mut response| {
            let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec()?;
            Ok((response.status(), body))
        });
        let host = &self.host;
        let (status, body) =
            answered.map_err(|error| Trouble::Passing(unreachable(&error, host, self.registry.timeout)))?;
        match status {
            StatusCode::OK => serde_json::from_slice(&body).map_err(|error| {
                let what = format!("{host} answered with what no registry says: {error}");
                Trouble::Passing(format!("{what}; check documents.schema_registry.url"))
            }),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Trouble::Lasting(format!(
                "the schema registry at {host} answered {status}: check documents.schema_registry.user and \
                 password, or token, and what they may read"
            ))),
            StatusCode::NOT_FOUND if serde_json::from_slice::<Refusal>(&body).is_ok_and(is_unknown) => {
                Err(Trouble::Refused(format!("is not in the schema registry at {host}")))
            }
            _ => Err(Trouble::Passing(format!(
                "{host} answered {status}; check documents.schema_registry.url if that lasts"
            ))),
        }
    }
}

/// Codes of a subject, a version or a schema that is not there.
fn is_unknown(Refusal { error_code }: Refusal) -> bool {
    (40_401..=40_499).contains(&error_code)
}

/// A name as a part of a path.
fn escaped(name: &str) -> String {
    name.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
