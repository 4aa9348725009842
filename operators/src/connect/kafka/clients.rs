//! How librdkafka's clients are set up, and what they report beside records: log lines, outages, errors.
//!
//! Properties come from three layers, each over the one before it: Freshet's defaults, the configuration's
//! `properties`, and what Freshet's guarantees rest on. Values of properties are never logged nor put into
//! errors: they may be secrets.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use super::super::{ConnectError, lock};

/// What readers cannot be told otherwise.
const READER_MUST: &[(&str, &str)] = &[
    // Offsets are committed when the answers are written, and by nothing else.
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    // Ends of partitions show where transaction markers and compacted records are skipped.
    ("enable.partition.eof", "true"),
    // Records of open or aborted transactions are no input.
    ("isolation.level", "read_committed"),
    // Records that are gone are an error, not a reason to jump to either end.
    ("auto.offset.reset", "error"),
    ("allow.auto.create.topics", "false"),
];

/// What writers cannot be told otherwise: retried writes leave neither duplicates nor another order.
const WRITER_MUST: &[(&str, &str)] = &[("enable.idempotence", "true"), ("acks", "all")];

/// What no client can be told otherwise: statistics that nobody takes pile up.
const MUST: &[(&str, &str)] = &[("statistics.interval.ms", "0")];

/// Typed settings, other names of those and of the above, and what the sink does not do.
const NOT_PROPERTIES: &[&str] =
    &["bootstrap.servers", "metadata.broker.list", "group.id", "request.required.acks", "transactional.id"];

/// Defaults of every client.
const DEFAULTS: &[(&str, &str)] = &[
    ("client.id", "freshet"),
    ("socket.keepalive.enable", "true"),
    // Librdkafka's default of 10 s would be noticed after every restart of a broker.
    ("reconnect.backoff.max.ms", "2000"),
    ("log.connection.close", "false"),
    // A client that has come to know only brokers that are gone asks the configured ones again; librdkafka waits 300 s.
    ("metadata.recovery.rebootstrap.trigger.ms", "10000"),
];

/// Defaults of readers. Memory: 8 MiB queued and as much in a response, and what the inbox holds.
const READER_DEFAULTS: &[(&str, &str)] = &[
    ("queued.max.messages.kbytes", "8192"),
    ("queued.min.messages", "10000"),
    ("fetch.message.max.bytes", "1048576"),
    // The end of a partition behind a transaction marker is known after this time.
    ("fetch.wait.max.ms", "100"),
    // Librdkafka's default of 1 s makes readers with small queues stutter.
    ("fetch.queue.backoff.ms", "20"),
    ("fetch.error.backoff.ms", "200"),
];

/// Defaults of writers. Memory: 32 MiB of records waiting.
const WRITER_DEFAULTS: &[(&str, &str)] = &[
    ("queue.buffering.max.kbytes", "32768"),
    // A record is tried until it is written or refused: brokers that are away fill the queue, and that holds back.
    ("message.timeout.ms", "0"),
    ("linger.ms", "1"),
    ("compression.type", "lz4"),
    // Places keys as Kafka's Java client does.
    ("partitioner", "murmur2_random"),
];

/// Time after which brokers abort a transaction that nobody ends: until then the answers of others in the same topic are
/// hidden from readers, too. A live pipeline that is kept from its brokers for longer begins its transaction again.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest life of a connection of the producer of transactions that nobody uses.
///
/// Librdkafka keeps who coordinates the group, also after that broker has left the cluster, and asks for the new coordinator
/// only when a connection to some broker comes or goes: in a cluster that is quiet otherwise a transaction would wait for
/// ever. Connections that end while it waits make it ask, early enough for the transaction to go on.
const IDLE: &str = "connections.max.idle.ms";
/// Such lives in the time that a transaction may last.
const IDLE_PER_TRANSACTION: u32 = 3;
/// Least of such lives. Librdkafka ends a connection that was idle for that long also while a request waits to be sent on it,
/// and asks for the coordinator of transactions half a second after it has made a connection for that: were lives no longer,
/// each question would end with its connection, and a transaction would wait for ever.
const IDLE_MIN: Duration = Duration::from_secs(2);

/// Names under which librdkafka knows a default's property too; one that the configuration uses stands.
const ALIASES: &[(&str, &str)] = &[
    ("linger.ms", "queue.buffering.max.ms"),
    ("message.timeout.ms", "delivery.timeout.ms"),
    ("compression.type", "compression.codec"),
    ("fetch.message.max.bytes", "max.partition.fetch.bytes"),
];

/// Least size of a response to a reader.
const FETCH_BYTES_MAX: u64 = 8 << 20;

/// Mechanisms of authentication.
const MECHANISMS: [&str; 5] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "GSSAPI"];

/// What a client is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Reads partitions, asks for metadata, commits.
    Reader,
    /// Writes.
    Writer,
    /// Creates topics.
    Admin,
}

/// Makes clients of one cluster for one group.
pub(super) struct Clients {
    /// `host:port`, for messages.
    pub(super) servers: String,
    properties: BTreeMap<String, String>,
    /// Named after the pipeline.
    pub(super) group: String,
    pub(super) outage: Arc<Outage>,
}

impl Clients {
    pub(super) fn new(config: &freshet_config::Kafka, group: &str) -> Self {
        let properties = config.properties.iter().filter(|(name, _)| !is_fixed(name));
        Self {
            servers: config.bootstrap_servers.clone(),
            properties: properties.map(|(name, value)| (name.clone(), value.clone())).collect(),
            group: group.to_owned(),
            outage: Arc::default(),
        }
    }

    /// The properties of a client.
    pub(super) fn config(&self, role: Role) -> ClientConfig {
        let (defaults, must): (&[_], &[_]) = match role {
            Role::Reader => (READER_DEFAULTS, READER_MUST),
            Role::Writer => (WRITER_DEFAULTS, WRITER_MUST),
            Role::Admin => (&[], &[]),
        };
        let mut config = ClientConfig::new();
        config.set_log_level(RDKafkaLogLevel::Info);
        for (name, value) in DEFAULTS.iter().chain(defaults) {
            let alias = ALIASES.iter().find(|(of, _)| of == name);
            if !alias.is_some_and(|(_, alias)| self.properties.contains_key(*alias)) {
                config.set(*name, *value);
            }
        }
        if role == Role::Reader {
            let message = self.properties.get("message.max.bytes").and_then(|value| value.parse().ok());
            config.set("fetch.max.bytes", message.unwrap_or(0).max(FETCH_BYTES_MAX).to_string());
        }
        config.extend(self.properties.clone());
        for (name, value) in MUST.iter().chain(must) {
            config.set(*name, *value);
        }
        config.set("bootstrap.servers", &self.servers);
        if role == Role::Reader {
            config.set("group.id", &self.group);
        }
        config
    }

    /// The properties of the producer of transactions, and the time after which brokers abort one.
    pub(super) fn transactional(&self) -> (ClientConfig, Duration) {
        let mut config = self.config(Role::Writer);
        // A record is tried as long as its transaction may last, and then in the next one.
        config.remove("message.timeout.ms").remove("delivery.timeout.ms");
        config.set("transactional.id", &self.group);
        let millis =
            |name| self.property(name).and_then(|value| value.parse().ok()).map(Duration::from_millis);
        // Librdkafka wants a request to end before its transaction does.
        let timeout = millis("transaction.timeout.ms")
            .unwrap_or_else(|| TRANSACTION_TIMEOUT.max(millis("socket.timeout.ms").unwrap_or_default()));
        config.set("transaction.timeout.ms", timeout.as_millis().to_string());
        if self.property(IDLE).is_none() {
            let idle = (timeout / IDLE_PER_TRANSACTION).max(IDLE_MIN);
            config.set(IDLE, idle.as_millis().to_string());
        }
        (config, timeout)
    }

    /// The mechanism of authentication; what is no name of one may be a secret.
    fn mechanism(&self) -> &'static str {
        let configured = self.property("sasl.mechanism").or(self.property("sasl.mechanisms"));
        let known =
            MECHANISMS.iter().find(|known| configured.unwrap_or("GSSAPI").eq_ignore_ascii_case(known));
        known.copied().unwrap_or("unknown")
    }

    /// A property, where the configuration has it.
    pub(super) fn property(&self, name: &str) -> Option<&str> {
        self.properties.get(name).map(String::as_str)
    }

    /// What a client reports to.
    pub(super) fn reports(&self) -> Reports {
        Reports { outage: Arc::clone(&self.outage) }
    }

    /// An error that names the cluster and, where there is one, the last reason why it cannot be reached.
    pub(super) fn error(&self, what: &str, error: &KafkaError) -> ConnectError {
        let set_up = matches!(error, KafkaError::ClientConfig(..) | KafkaError::ClientCreation(_));
        let refused = self.outage.refused().then_some(Code::Authentication);
        let code = refused.or(code_of(error));
        let retry = !set_up && code.is_none_or(|code| !is_permanent(code));
        let why = self.outage.reason().map(|reason| format!(" ({reason})")).unwrap_or_default();
        let hint = code.map_or("", hint);
        let told = match refused {
            Some(_) => format!("authentication was refused, mechanism {}", self.mechanism()),
            None => describe(error),
        };
        let what = format!("cannot {what} at {}: {told}{why}{hint}", self.servers);
        ConnectError::World { what, source: None, retry }
    }
}

/// Whether the configuration's properties have no say in this one.
fn is_fixed(name: &str) -> bool {
    let must = [MUST, READER_MUST, WRITER_MUST].concat();
    must.iter().any(|(must, _)| *must == name) || NOT_PROPERTIES.contains(&name)
}

/// An error without values of properties.
pub(super) fn describe(error: &KafkaError) -> String {
    let KafkaError::ClientConfig(_, problem, name, value) = error else { return error.to_string() };
    let problem = if value.is_empty() { problem.clone() } else { problem.replace(value.as_str(), "…") };
    format!("property \"{name}\": {problem}")
}

/// The code of an error, of administration too.
pub(super) fn code_of(error: &KafkaError) -> Option<Code> {
    if let KafkaError::AdminOp(code) = error { Some(*code) } else { error.rdkafka_error_code() }
}

/// What to do about what brokers refuse: keys, never their values.
const HINTS: &[(Code, &str)] = &[
    (Code::Authentication, CREDENTIALS),
    (Code::SaslAuthenticationFailed, CREDENTIALS),
    (
        Code::TopicAuthorizationFailed,
        "; this principal lacks a right: it must be allowed to Describe and Read the documents and queries topics, and to \
         Describe and Write the answers topic and the topics of dead letters (and to Create those that are missing)",
    ),
    (
        Code::GroupAuthorizationFailed,
        "; this principal lacks a right: it must be allowed to Read the group that is named like the pipeline",
    ),
    (
        Code::TransactionalIdAuthorizationFailed,
        "; this principal lacks a right: it must be allowed to Describe and Write the transactional id that is named like \
         the pipeline",
    ),
    (
        Code::ClusterAuthorizationFailed,
        "; this principal lacks a right of the cluster, for example to create topics",
    ),
    (
        Code::OffsetMetadataTooLarge,
        "; the progress of queries with this many partitions of documents does not fit beside an offset: let brokers keep \
         more (offset.metadata.max.bytes), use fewer partitions, or queries.delivery = \"at_least_once\"",
    ),
];
const CREDENTIALS: &str = "; the brokers refuse these credentials: check \"sasl.mechanism\", \"sasl.username\" and \
    \"sasl.password\" in connector.properties, or what this mechanism uses instead";

/// What to do about an error, to be put behind it; empty if there is nothing to say.
pub(super) fn hint(code: Code) -> &'static str {
    HINTS.iter().find(|(known, _)| *known == code).map_or("", |(_, hint)| hint)
}

/// Whether an error stays however long one waits.
pub(super) fn is_permanent(code: Code) -> bool {
    matches!(
        code,
        Code::InvalidArgument
            | Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::TransactionalIdAuthorizationFailed
            | Code::InvalidTopic
            | Code::UnsupportedFeature
            | Code::UnsupportedSASLMechanism
            | Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::PolicyViolation
            | Code::InvalidPartitions
            | Code::InvalidReplicationFactor
    )
}

/// Whether the cluster does not answer as it should just now and the client tries again by itself.
pub(super) fn is_transient(code: Code) -> bool {
    matches!(
        code,
        Code::AllBrokersDown
            | Code::BrokerTransportFailure
            | Code::Resolve
            | Code::OperationTimedOut
            | Code::MessageTimedOut
            | Code::TimedOutQueue
            | Code::WaitingForCoordinator
            | Code::WaitCache
            | Code::Retry
            | Code::InProgress
            | Code::UnknownBroker
            | Code::LeaderNotAvailable
            | Code::NotLeaderForPartition
            | Code::RequestTimedOut
            | Code::BrokerNotAvailable
            | Code::ReplicaNotAvailable
            | Code::NetworkException
            | Code::CoordinatorLoadInProgress
            | Code::CoordinatorNotAvailable
            // What another process left open is being ended.
            | Code::ConcurrentTransactions
            | Code::UnstableOffsetCommit
            | Code::NotCoordinator
            | Code::NotEnoughReplicas
            | Code::NotEnoughReplicasAfterAppend
            | Code::KafkaStorageError
            | Code::FetchSessionIdNotFound
            | Code::InvalidFetchSessionEpoch
            | Code::FencedLeaderEpoch
            | Code::UnknownLeaderEpoch
            | Code::ListenerNotFound
            | Code::OffsetNotAvailable
            | Code::PreferredLeaderNotAvailable
    )
}

/// Whether the cluster is away; says so once per outage, however many clients notice.
#[derive(Default)]
pub(super) struct Outage {
    state: Mutex<OutageState>,
    /// Whether there is anything in `state` to be forgotten.
    troubled: AtomicBool,
}

#[derive(Default)]
struct OutageState {
    /// Whether it has been said that all brokers are away.
    away: bool,
    /// Why a connection failed last.
    reason: Option<String>,
    /// Whether it failed because brokers refuse the credentials.
    refused: bool,
}

impl Outage {
    /// All brokers are away.
    fn begin(&self, reason: &str) {
        let mut state = lock(&self.state);
        if !std::mem::replace(&mut state.away, true) {
            let reason = state.reason.as_deref().unwrap_or(reason);
            tracing::warn!(reason, "no broker answers; trying again until one does");
        }
        self.troubled.store(true, Ordering::Relaxed);
    }

    /// A connection failed; others may work.
    fn note(&self, reason: &str) {
        lock(&self.state).reason = Some(reason.to_owned());
        self.troubled.store(true, Ordering::Relaxed);
    }

    /// Brokers refuse the credentials.
    fn refuse(&self, reason: &str) {
        let mut state = lock(&self.state);
        state.reason = Some(reason.to_owned());
        state.refused = true;
        self.troubled.store(true, Ordering::Relaxed);
    }

    /// Whether brokers refuse the credentials: trying again is of no use.
    pub(super) fn refused(&self) -> bool {
        self.troubled.load(Ordering::Relaxed) && lock(&self.state).refused
    }

    /// A broker has answered.
    pub(super) fn end(&self) {
        if self.troubled.swap(false, Ordering::Relaxed) && std::mem::take(&mut *lock(&self.state)).away {
            // As loud as its beginning.
            tracing::warn!("a broker answers again");
        }
    }

    fn reason(&self) -> Option<String> {
        lock(&self.state).reason.clone()
    }
}

/// Receives what a client reports.
pub(super) struct Reports {
    pub(super) outage: Arc<Outage>,
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // Failed connections are reported once, by `error`; librdkafka repeats them with every attempt. CONFWARN is
        // about properties that this kind of client does not use.
        let repeated = matches!(facility, "FAIL" | "ERROR" | "CONFWARN" | "REQTMOUT" | "GETPID");
        if level as i32 <= RDKafkaLogLevel::Warning as i32 && !repeated {
            tracing::warn!(facility, message, "librdkafka");
        } else {
            tracing::debug!(facility, message, "librdkafka");
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        match code_of(&error) {
            Some(Code::PartitionEOF) => {}
            Some(Code::AllBrokersDown) if self.outage.refused() => {}
            Some(Code::AllBrokersDown) => self.outage.begin(reason),
            Some(Code::Authentication | Code::SaslAuthenticationFailed) => self.outage.refuse(reason),
            Some(code) if is_transient(code) => self.outage.note(reason),
            _ => {
                self.outage.note(reason);
                tracing::warn!(%error, reason, "a client of the cluster reports an error");
            }
        }
    }
}

impl ConsumerContext for Reports {}
