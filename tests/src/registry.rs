//! A schema registry as a small HTTP server on this machine.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use serde_json::json;

/// What the server has, and how it behaves.
#[derive(Default)]
struct State {
    schemas: Mutex<BTreeMap<u32, String>>,
    /// Answered with this status, whatever is asked.
    status: Mutex<Option<&'static str>>,
    asked: AtomicUsize,
    ended: AtomicBool,
}

/// A registry that runs until it is dropped.
pub struct Registry {
    state: Arc<State>,
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl Registry {
    /// Starts one with these schemas.
    pub fn start(schemas: &[(u32, &str)]) -> Self {
        Self::at("127.0.0.1:0".parse().expect("an address"), schemas)
    }

    /// Starts one at an address.
    pub fn at(address: SocketAddr, schemas: &[(u32, &str)]) -> Self {
        let listener = TcpListener::bind(address).expect("a free address");
        let address = listener.local_addr().expect("bound");
        let state = Arc::new(State::default());
        schemas
            .iter()
            .for_each(|(number, schema)| drop(lock(&state.schemas).insert(*number, (*schema).to_owned())));
        let serving = Arc::clone(&state);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if serving.ended.load(Ordering::SeqCst) {
                    return;
                }
                answer(stream.expect("a connection"), &serving);
            }
        });
        Self { state, address, thread: Some(thread) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers everything with this status from now on.
    pub fn refuse(&self, status: &'static str) {
        *lock(&self.state.status) = Some(status);
    }

    /// Requests so far.
    pub fn asked(&self) -> usize {
        self.state.asked.load(Ordering::SeqCst)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::SeqCst);
        // Wakes it, so that it sees the end.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            thread.join().expect("no panic");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn answer(mut stream: TcpStream, state: &State) {
    let reader = BufReader::new(stream.try_clone().expect("a socket"));
    let head: Vec<String> =
        reader.lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    state.asked.fetch_add(1, Ordering::SeqCst);
    let number =
        head.first().and_then(|line| line.split(' ').nth(1)?.strip_prefix("/schemas/ids/")?.parse().ok());
    let schema = number.and_then(|number: u32| lock(&state.schemas).get(&number).cloned());
    let refused = *lock(&state.status);
    let lists = head.first().is_some_and(|line| line.starts_with("GET /subjects "));
    let (status, body) = match (refused, schema) {
        (None, None) if lists => {
            let subjects: Vec<String> =
                lock(&state.schemas).keys().map(|number| format!("of-{number}")).collect();
            ("200 OK", json!(subjects))
        }
        (Some(status), _) => (status, json!({"error_code": 40101, "message": "no"})),
        (None, Some(schema)) => ("200 OK", json!({"schema": schema})),
        (None, None) => ("404 Not Found", json!({"error_code": 40403, "message": "Schema not found"})),
    };
    let body = body.to_string();
    let length = body.len();
    // Who asked may have gone.
    let _ =
        write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
}
