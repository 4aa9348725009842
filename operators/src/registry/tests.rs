//! The client against a server that has schemas, has them not, is slow, broken, away, and refuses.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read as _, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use freshet_config::Registry;
use serde_json::json;

use super::*;
use crate::connect::{Connector, Memory, Share, topics};
use crate::metrics::RunMetrics;

/// Longest wait for something that comes soon; only a failing test waits this long.
const LIMIT: Duration = Duration::from_secs(60);
const SECRET: &str = "very-secret";

/// What a server does with a request.
enum Reply {
    Text(&'static str, String),
    /// Says nothing until the other end of this is dropped.
    Hang(Receiver<()>),
}

fn schema(text: &str) -> Reply {
    Reply::Text("200 OK", json!({"schema": text}).to_string())
}

/// Plays a script, a request per connection, then is gone. What it was asked: path and authorization.
fn play(listener: TcpListener, script: Vec<Reply>) -> Receiver<(String, String)> {
    let (asked, requests) = channel();
    std::thread::spawn(move || {
        for reply in script {
            let (stream, _) = listener.accept().expect("a connection");
            answer(stream, reply, &asked);
        }
    });
    requests
}

fn answer(mut stream: TcpStream, reply: Reply, asked: &Sender<(String, String)>) {
    let mut reader = BufReader::new(stream.try_clone().expect("a socket"));
    let head: Vec<String> =
        reader.by_ref().lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    let path = head[0].split(' ').nth(1).expect("a path").to_owned();
    let key =
        head.iter().find_map(|line| line.to_lowercase().starts_with("authorization").then(|| line.clone()));
    // Some tests do not listen.
    let _ = asked.send((path, key.unwrap_or_default()));
    match reply {
        Reply::Text(head, body) => {
            let length = body.len();
            // The client may have gone; that is its affair.
            let _ = write!(
                stream,
                "HTTP/1.1 {head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
        }
        Reply::Hang(until) => drop(until.recv().expect_err("nobody sends")),
    }
}

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    (listener, address)
}

fn registry(address: SocketAddr) -> Registry {
    Registry {
        url: format!("http://user:{SECRET}@{address}/api"),
        user: None,
        token: Some(SECRET.to_owned().into()),
        timeout: Duration::from_secs(20),
    }
}

struct Client {
    schemas: Schemas,
    metrics: RunMetrics,
}

impl Client {
    fn of(registry: &Registry) -> Self {
        let metrics = RunMetrics::new().expect("metrics");
        Self { schemas: Schemas::start(registry, metrics.clone()).expect("a thread"), metrics }
    }

    /// Waits until something is known of a schema.
    fn find(&self, number: u32) -> Result<Found, String> {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(found) = self.schemas.find(number) {
                return Ok(found);
            }
            if let Some(failure) = self.schemas.failure() {
                return Err(failure);
            }
            assert!(Instant::now() < deadline, "schema {number} is not found in time");
            std::thread::yield_now();
        }
    }

    fn refused(&self, number: u32) -> String {
        self.find(number).expect("it goes on").map(drop).expect_err("refused").message
    }

    fn counted(&self, outcome: &str) -> u64 {
        self.metrics.schema_requests.with_label_values(&[outcome]).get()
    }
}

#[test]
fn a_schema_is_asked_for_once_with_what_it_names() {
    let (listener, address) = listen();
    let visit =
        json!({"type": "record", "name": "Visit", "fields": [{"name": "at", "type": "shared.Place"}]});
    let place = json!({"type": "record", "name": "Place", "namespace": "shared",
        "fields": [{"name": "of", "type": "shared.Owner"}]});
    let owner = json!({"type": "enum", "name": "Owner", "namespace": "shared", "symbols": ["A"]});
    let of = |schema: &serde_json::Value, names: &[(&str, i64)]| {
        let names: Vec<_> = names
            .iter()
            .map(|(subject, version)| json!({"name": "x", "subject": subject, "version": version}))
            .collect();
        let body = json!({"schema": schema.to_string(), "schemaType": "AVRO", "references": names});
        Reply::Text("200 OK", body.to_string())
    };
    let script = vec![of(&visit, &[("a place", 3)]), of(&place, &[("owner/x", 1)]), of(&owner, &[])];
    let requests = play(listener, script);
    let client = Client::of(&registry(address));
    for _ in 0..2 {
        let schema = client.find(7).unwrap().unwrap();
        assert_eq!(schema.read(&[0]), Ok(json!({"at": {"of": "A"}})));
    }
    let asked: Vec<_> = requests.iter().collect();
    let paths: Vec<_> = asked.iter().map(|(path, _)| path.as_str()).collect();
    let versions = ["/api/subjects/a%20place/versions/3", "/api/subjects/owner%2Fx/versions/1"];
    assert_eq!(paths, ["/api/schemas/ids/7", versions[0], versions[1]]);
    assert!(asked.iter().all(|(_, key)| key.to_lowercase() == format!("authorization: bearer {SECRET}")));
    assert_eq!(client.counted("ok"), 1);
}

#[test]
fn a_schema_that_is_not_there_or_is_none_is_a_fault_and_others_go_on() {
    let (listener, address) = listen();
    let unknown = || {
        Reply::Text("404 Not Found", json!({"error_code": 40403, "message": "Schema not found"}).to_string())
    };
    let other = json!({"schema": "syntax = \"proto3\";", "schemaType": "PROTOBUF"}).to_string();
    let naming =
        json!({"schema": "\"string\"", "references": [{"name": "x", "subject": "gone", "version": 9}]});
    let script = vec![
        unknown(),
        Reply::Text("200 OK", other),
        schema("{\"type\": \"nonsense\"}"),
        Reply::Text("200 OK", naming.to_string()),
        unknown(),
        schema("\"string\""),
    ];
    let requests = play(listener, script);
    let user = Some(("me".to_owned().into(), SECRET.to_owned().into()));
    let client = Client::of(&Registry { user, token: None, ..registry(address) });
    assert_eq!(client.refused(1), format!("schema 1 is not in the schema registry at {address}"));
    assert_eq!(client.refused(1), format!("schema 1 is not in the schema registry at {address}"));
    assert_eq!(client.refused(2), "schema 2 is of type PROTOBUF, but the format is \"avro\"");
    assert!(client.refused(3).starts_with("schema 3 is not an Avro schema"));
    assert!(
        client
            .refused(4)
            .starts_with("schema 4 names version 9 of \"gone\", which is not in the schema registry")
    );
    assert!(client.find(5).unwrap().is_ok());
    assert_eq!((client.counted("ok"), client.counted("refused")), (1, 4));
    assert!(requests.iter().all(|(_, key)| key.to_lowercase().starts_with("authorization: basic ")));
}

#[test]
fn a_registry_that_is_away_slow_or_talks_nonsense_is_asked_until_it_answers() {
    let (listener, address) = listen();
    let (hanging, until) = channel();
    // Nobody listens at first.
    drop(listener);
    let client = Client::of(&Registry { timeout: Duration::from_millis(200), ..registry(address) });
    assert!(client.schemas.find(7).is_none());
    let deadline = Instant::now() + LIMIT;
    while client.counted("unreachable") == 0 {
        assert!(Instant::now() < deadline, "it is tried in time");
        std::thread::yield_now();
    }
    let listener = TcpListener::bind(address).expect("the same port");
    let html = || "<html>not found</html>".to_owned();
    let script = vec![
        Reply::Text("503 Service Unavailable", String::new()),
        Reply::Text("200 OK", html()),
        Reply::Text("404 Not Found", html()),
        Reply::Text("302 Found\r\nLocation: http://127.0.0.1:1/", String::new()),
        Reply::Hang(until),
        schema("\"string\""),
    ];
    let requests = play(listener, script);
    // The script goes on once the hanging request has timed out.
    std::thread::spawn(move || {
        let asked = requests.iter().take(5).count();
        drop(hanging);
        asked
    });
    assert!(client.find(7).unwrap().is_ok());
    assert!(client.counted("unreachable") >= 5, "{}", client.counted("unreachable"));
    assert_eq!((client.counted("ok"), client.counted("refused")), (1, 0));
}

#[test]
fn credentials_that_are_refused_end_the_run_and_are_not_told() {
    for status in ["401 Unauthorized", "403 Forbidden"] {
        let (listener, address) = listen();
        let _requests = play(listener, vec![Reply::Text(status, json!({"error_code": 40101}).to_string())]);
        let client = Client::of(&registry(address));
        let failure = client.find(7).expect_err("it ends");
        assert!(failure.contains(status) && failure.contains("documents.schema_registry.user"), "{failure}");
        assert!(!failure.contains(SECRET) && failure.contains(&address.to_string()), "{failure}");
    }
}

fn avro_spec() -> DocumentSpec {
    DocumentSpec {
        id: "id".to_owned(),
        text: vec!["text".to_owned()],
        title: None,
        payload: None,
        text_bytes_max: 1000,
        vectors: BTreeMap::new(),
        source: SourceSpec { format: freshet_schemas::Format::Avro, ..SourceSpec::default() },
    }
}

#[test]
fn records_wait_for_their_schemas_in_order_and_positions_stay_before_them() {
    let memory = Memory::new();
    memory.create("documents", 2);
    let of = |number: u8, text: &str| {
        let text_bytes = text.as_bytes();
        let length = u8::try_from(text_bytes.len() * 2).unwrap();
        let value = [&[0, 0, 0, 0, number, length], text_bytes].concat();
        Record { value: Some(value), ..Record::default() }
    };
    for (partition, number, text) in [(0, 1, "a"), (0, 2, "b"), (0, 1, "c"), (1, 1, "d"), (0, 9, "e")] {
        memory.produce("documents", partition, of(number, text));
    }
    let (listener, address) = listen();
    let (hanging, until) = channel();
    let unknown = Reply::Text("404 Not Found", json!({"error_code": 40403}).to_string());
    let script = vec![schema("\"string\""), Reply::Hang(until), schema("\"string\""), unknown];
    let requests = play(listener, script);
    let schemas = Schemas::start(&registry(address), RunMetrics::new().unwrap()).unwrap();
    let share = Share { index: 0, peers: 1 };
    let connector: Arc<dyn Connector> = Arc::new(memory);
    let wake: crate::connect::Wake = Arc::new(|| {});
    let source =
        topics::follow(&*connector, &DocumentTopics::from("documents"), share, &BTreeMap::new(), &wake)
            .unwrap();
    let mut reader = Reader::new(source, Some(Arc::new(schemas)), &[avro_spec()]);
    assert_eq!(reader.poll(0, 0).unwrap().positions, BTreeMap::from([(0, 0), (1, 0)]));
    let mut seen: Vec<(Partition, Offset)> = Vec::new();
    let mut poll_until = |count: usize, reader: &mut Reader| {
        let deadline = Instant::now() + LIMIT;
        let mut last = BTreeMap::new();
        while seen.len() < count {
            assert!(Instant::now() < deadline, "only {seen:?}");
            let read = reader.poll(10, 1000).unwrap();
            for ReadRecord { record, schemas } in read.records {
                assert_eq!(schemas.value.unwrap().is_err(), record.offset == 3, "{record:?}");
                seen.push((record.partition, record.offset));
            }
            last = read.positions;
            for (partition, next) in &last {
                let handed = seen.iter().filter(|(of, _)| of == partition).count();
                assert_eq!(i64::try_from(handed).unwrap(), *next, "of partition {partition}");
            }
        }
        (seen.clone(), last)
    };
    // Schema 2 does not come: nothing of its partition passes it, the other partition goes on.
    let (mut first, positions) = poll_until(2, &mut reader);
    first.sort_unstable();
    assert_eq!(first, [(0, 0), (1, 0)]);
    assert_eq!(positions, BTreeMap::from([(0, 1), (1, 1)]));
    assert_eq!(requests.recv_timeout(LIMIT).unwrap().0, "/api/schemas/ids/1");
    assert_eq!(requests.recv_timeout(LIMIT).unwrap().0, "/api/schemas/ids/2");
    drop(hanging);
    let (all, positions) = poll_until(5, &mut reader);
    assert_eq!(all[2..], [(0, 1), (0, 2), (0, 3)]);
    assert_eq!(positions, BTreeMap::from([(0, 4), (1, 1)]));
}
