//! What a request costs over what its query costs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use freshet_schemas::Record;
use freshet_tests::drive::LIMIT;
use freshet_tests::http::Client;
use freshet_tests::site::Site;
use serde_json::{Value, json};

/// Queries per second and their times at some concurrency.
fn measure(
    concurrency: usize,
    ask: impl Fn() -> Box<dyn FnMut() + Send> + Sync,
) -> (f64, Duration, Duration) {
    const FOR: Duration = Duration::from_secs(3);
    let begun = Instant::now();
    let mut times: Vec<Duration> = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..concurrency)
            .map(|_| {
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
            })
            .collect();
        asking.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let rate = times.len() as f64 / begun.elapsed().as_secs_f64();
    times.sort_unstable();
    (rate, times[times.len() / 2], times[times.len() * 99 / 100])
}

/// `cargo test --release --locked -p freshet-tests -- --ignored figures_of_the_server --nocapture`
#[test]
#[ignore = "measures; takes half a minute of a quiet machine"]
fn figures_of_the_server() {
    let site = Site::start(|_| {});
    let words = ["harbour", "berth", "invoice", "refund", "door", "badge", "coach", "report"];
    let text = |n: usize| format!("{} {} {}", words[n % 8], words[n / 8 % 8], words[n / 64 % 8]);
    let documents: Vec<Value> =
        (0..2000).map(|n| json!({"id": format!("d{n}"), "text": text(n), "stars": n % 5})).collect();
    site.documents(&json!(documents));
    let query = json!({"id": "q", "text": "berth of the coach", "plan": "bm25"}).to_string().into_bytes();
    let gateway = Arc::clone(site.setup.gateway.as_ref().unwrap());
    println!("{:>12} {:>5} {:>10} {:>10} {:>10}", "way", "at", "queries/s", "p50 µs", "p99 µs");
    for concurrency in [1, 8, 64] {
        let over_http = measure(concurrency, || {
            let (mut client, query) = (Client::open(site.address()), query.clone());
            Box::new(move || assert_eq!(client.post("/api/query", &query).0, 200))
        });
        let in_process = measure(concurrency, || {
            let (gateway, query) = (Arc::clone(&gateway), query.clone());
            Box::new(move || {
                let (sender, answer) = std::sync::mpsc::channel();
                let record = Record { value: Some(query.clone()), ..Record::default() };
                gateway.ask(record, Box::new(move |answer| drop(sender.send(answer)))).unwrap();
                assert!(answer.recv_timeout(LIMIT).unwrap().error.is_none());
            })
        });
        for (way, (rate, p50, p99)) in [("HTTP", over_http), ("in-process", in_process)] {
            println!(
                "{way:>12} {concurrency:>5} {rate:>10.0} {:>10} {:>10}",
                p50.as_micros(),
                p99.as_micros()
            );
        }
    }
    site.finish();
}
