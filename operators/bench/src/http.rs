//! What the server costs over the pipeline behind it: the same queries over loopback and through the gateway in the process,
//! while nothing else happens and while documents are written in bulk.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use freshet::http::Server;
use freshet::setup::Setup;
use freshet::status::Phase;
use freshet_config::{Config, Http};
use freshet_operators::connect::{Connector, Memory};
use freshet_operators::gateway::Gateway;
use freshet_operators::wake::block_on;
use freshet_schemas::Record;
use freshet_tests::drive::Pipeline;
use freshet_tests::http::Client;
use serde_json::{Value, json};

use crate::data::Random;
use crate::report::{Report, Row, per_second};

/// How long each way is measured.
const FOR: Duration = Duration::from_secs(5);
/// Longest wait for an answer.
const LIMIT: Duration = Duration::from_secs(60);
/// Documents of a request of the writer.
const BULK: usize = 500;

/// Measures.
pub(crate) fn run(report: &mut Report) {
    let text = "[pipeline]\nname = \"bench\"\nshards = 2\nworkers = 1\n[documents]\ntext = [\"text\"]\n\
                [vectors.bm25]\nkind = \"sparse\"\nmodel = \"bm25\"\n[plans.default]\nusing = \"bm25\"\n";
    let config = Config::parse(text, &|_| None).unwrap_or_else(|errors| panic!("{errors}"));
    let setup = Setup::load(config).expect("BM25 needs no model").with_gateway();
    let topics = Memory::new();
    for (topic, partitions) in [("documents", 2), ("queries", 1), ("answers", 1)] {
        topics.create(topic, partitions);
    }
    let connector: Arc<dyn Connector> = Arc::new(topics);
    let pipeline = Pipeline::start(&setup, &connector);
    let http = Http { listen: "127.0.0.1:0".to_owned(), ..Http::default() };
    let server = Server::start(&http, &setup, &connector, pipeline.control()).expect("a free port");
    let ready = block_on(setup.status.watch_phase().wait_for(|phase| *phase == Phase::Ready)).is_ok();
    assert!(ready, "the pipeline has a status as long as it runs");

    let mut random = Random::new(29);
    let mut client = Client::open(server.address());
    let count = report.scaled(50_000);
    for _ in 0..count.div_ceil(BULK) {
        assert_eq!(client.post("/api/documents?wait=true", &bulk(&mut random)).0, 200);
    }
    let gateway = Arc::clone(setup.gateway.as_ref().expect("a gateway"));
    for clients in [1, 8, 64] {
        at(report, clients, &server, &gateway, count, false);
    }
    for clients in [1, 8, 64] {
        at(report, clients, &server, &gateway, count, true);
    }
    drop(server);
    pipeline.finish();
}

fn words(random: &mut Random, count: usize) -> String {
    (0..count).map(|_| format!("word{}", random.below(5_000))).collect::<Vec<_>>().join(" ")
}

fn bulk(random: &mut Random) -> Vec<u8> {
    // Some are new, some are changed.
    let document = |_| {
        let id = random.below(100_000);
        json!({"id": format!("document-{id}"), "text": words(random, 40), "stars": id % 5})
    };
    let documents: Vec<Value> = (0..BULK).map(document).collect();
    Value::Array(documents).to_string().into_bytes()
}

/// Both ways at some concurrency.
fn at(
    report: &mut Report,
    clients: usize,
    server: &Server,
    gateway: &Arc<Gateway>,
    count: usize,
    busy: bool,
) {
    let query =
        json!({"id": "q", "text": "word17 word1999 word404", "with_payload": false}).to_string().into_bytes();
    let written = AtomicUsize::new(0);
    let (over_http, inside) = while_writing(busy.then(|| Client::open(server.address())), &written, || {
        let over_http = measure(clients, || {
            let (mut client, query) = (Client::open(server.address()), query.clone());
            Box::new(move || assert_eq!(client.post("/api/query", &query).0, 200))
        });
        let inside = measure(clients, || {
            let (gateway, query) = (Arc::clone(gateway), query.clone());
            Box::new(move || {
                let (sender, answer) = std::sync::mpsc::channel();
                let record = Record { value: Some(query.clone()), ..Record::default() };
                let asked = gateway.ask(record, Box::new(move |answer| drop(sender.send(answer))));
                asked.expect("there is room");
                let answer = answer.recv_timeout(LIMIT).expect("an answer");
                assert!(answer.error.is_none(), "{:?}", answer.error);
            })
        });
        (over_http, inside)
    });
    let (http, inside) = (over_http.rate, (inside.rate, inside.shown()));
    let documents = per_second(written.load(Ordering::SeqCst), FOR * 2);
    let while_what =
        if busy { format!("while {documents:.0} documents/s are written") } else { "idle".to_owned() };
    report.add(Row {
        group: "http",
        what: format!("{clients} clients, BM25, {count} documents, {while_what}"),
        value: http,
        unit: "queries/s",
        reference: Some((inside.0, "in the process")),
        bar: None,
        note: format!("{}; in the process {}", over_http.shown(), inside.1),
    });
}

/// Does something while a client writes documents in bulk, if there is one.
fn while_writing<T>(client: Option<Client>, written: &AtomicUsize, work: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        if let Some(mut client) = client {
            let (done, mut random) = (&done, Random::new(31));
            scope.spawn(move || {
                while !done.load(Ordering::SeqCst) {
                    assert_eq!(client.post("/api/documents?wait=true", &bulk(&mut random)).0, 200);
                    written.fetch_add(BULK, Ordering::SeqCst);
                }
            });
        }
        let result = work();
        done.store(true, Ordering::SeqCst);
        result
    })
}

/// Queries per second, and their times.
struct Times {
    rate: f64,
    p50: Duration,
    p99: Duration,
}

impl Times {
    fn shown(&self) -> String {
        format!("p50 {} µs, p99 {} µs", self.p50.as_micros(), self.p99.as_micros())
    }
}

fn measure(clients: usize, ask: impl Fn() -> Box<dyn FnMut() + Send> + Sync) -> Times {
    let begun = Instant::now();
    let mut times: Vec<Duration> = std::thread::scope(|scope| {
        let asking = |_| {
            let mut ask = ask();
            scope.spawn(move || {
                let mut times = Vec::new();
                while begun.elapsed() < FOR {
                    let asked = Instant::now();
                    ask();
                    times.push(asked.elapsed());
                }
                times
            })
        };
        let asking: Vec<_> = (0..clients).map(asking).collect();
        asking.into_iter().flat_map(|thread| thread.join().expect("a client")).collect()
    });
    times.sort_unstable();
    let rate = per_second(times.len(), begun.elapsed());
    Times { rate, p50: times[times.len() / 2], p99: times[times.len() * 99 / 100] }
}
