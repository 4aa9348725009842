//! A collector of traces: takes OTLP over HTTP, in JSON.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use serde_json::Value;

use crate::drive::LIMIT;

/// A span as it came.
#[derive(Clone, Debug)]
pub struct Span {
    /// Its name.
    pub name: String,
    /// Id of its trace, in hexadecimal digits.
    pub trace: String,
    /// Its id.
    pub id: String,
    /// Id of the span it is a part of; empty without one.
    pub parent: String,
    /// OTLP's number of its kind.
    pub kind: u64,
    /// Begin and end, nanoseconds since the epoch.
    pub times: (u64, u64),
    /// What is known of it; numbers as text.
    pub attributes: BTreeMap<String, String>,
    /// All of it.
    pub json: Value,
}

/// Listens until the process ends.
pub struct Collector {
    address: SocketAddr,
    spans: Receiver<Span>,
}

impl Collector {
    /// Starts one on a free port.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let (sender, spans) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut reader = BufReader::new(stream.expect("a connection"));
                // A connection is kept for the next request; one at a time is enough here.
                while let Some(body) = request(&mut reader) {
                    let body: Value = serde_json::from_slice(&body).expect("JSON");
                    let found = body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().cloned();
                    let sent = found.expect("spans").iter().all(|json| sender.send(span(json)).is_ok());
                    let answer =
                        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
                    if !sent || reader.get_mut().write_all(answer).is_err() {
                        return;
                    }
                }
            }
        });
        Self { address, spans }
    }

    /// What `telemetry.otlp_endpoint` is to be.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Waits for a whole that has this name and fulfils a condition; returns it behind its parts.
    pub fn trace(&self, name: &str, wanted: impl Fn(&Span) -> bool) -> Vec<Span> {
        let until = Instant::now() + LIMIT;
        let mut seen: Vec<Span> = Vec::new();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let span = self.spans.recv_timeout(left).unwrap_or_else(|_| panic!("{name} comes: {seen:#?}"));
            let found = span.name == name && wanted(&span);
            seen.push(span.clone());
            if found {
                seen.retain(|part| {
                    part.trace == span.trace && (part.parent == span.id || part.id == span.id)
                });
                return seen;
            }
        }
    }

    /// All that has come and was not waited for.
    pub fn others(&self) -> Vec<Span> {
        self.spans.try_iter().collect()
    }
}

/// The body of the next request of a connection.
fn request(reader: &mut BufReader<std::net::TcpStream>) -> Option<Vec<u8>> {
    let mut length = 0;
    let mut first = String::new();
    reader.read_line(&mut first).ok().filter(|read| *read > 0)?;
    assert!(first.starts_with("POST /v1/traces HTTP/1.1"), "{first}");
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a number");
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(body)
}

fn span(json: &Value) -> Span {
    let text = |key: &str| json[key].as_str().unwrap_or_default().to_owned();
    let nanos = |key: &str| text(key).parse().expect("nanoseconds");
    let attribute = |attribute: &Value| {
        let value = attribute["value"].as_object().expect("typed").values().next().expect("a value");
        (attribute["key"].as_str().expect("a name").to_owned(), value.as_str().expect("text").to_owned())
    };
    Span {
        name: text("name"),
        trace: text("traceId"),
        id: text("spanId"),
        parent: text("parentSpanId"),
        kind: json["kind"].as_u64().expect("a kind"),
        times: (nanos("startTimeUnixNano"), nanos("endTimeUnixNano")),
        attributes: json["attributes"].as_array().expect("a list").iter().map(attribute).collect(),
        json: json.clone(),
    }
}
