//! What it costs to count what operators do, and to trace every query.

use std::sync::Arc;
use std::time::{Duration, Instant};

use freshet::setup::Setup;
use freshet_config::Http;
use freshet_schemas::Record;
use freshet_tests::drive::{self, LIMIT};
use freshet_tests::site::Site;
use serde_json::{Value, json};

/// Queries per second at some concurrency.
fn measure(concurrency: usize, ask: impl Fn() -> Box<dyn FnMut() + Send> + Sync) -> f64 {
    const FOR: Duration = Duration::from_secs(3);
    let begun = Instant::now();
    let asked: usize = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..concurrency)
            .map(|_| {
                let mut ask = ask();
                scope.spawn(move || {
                    let mut asked = 0;
                    while begun.elapsed() < FOR {
                        ask();
                        asked += 1;
                    }
                    asked
                })
            })
            .collect();
        asking.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    asked as f64 / begun.elapsed().as_secs_f64()
}

/// A question that comes from within the process, again and again.
fn in_process(site: &Site, query: &[u8]) -> impl Fn() -> Box<dyn FnMut() + Send> + Sync {
    let gateway = Arc::clone(site.setup.gateway.as_ref().unwrap());
    let query = query.to_vec();
    move || {
        let (gateway, query) = (Arc::clone(&gateway), query.clone());
        Box::new(move || {
            let (sender, answer) = std::sync::mpsc::channel();
            let record = Record { value: Some(query.clone()), ..Record::default() };
            gateway.ask(record, Box::new(move |answer| drop(sender.send(answer)))).unwrap();
            assert!(answer.recv_timeout(LIMIT).unwrap().error.is_none());
        })
    }
}

fn documents() -> Value {
    let words = ["harbour", "berth", "invoice", "refund", "door", "badge", "coach", "report"];
    let text = |n: usize| format!("{} {} {}", words[n % 8], words[n / 8 % 8], words[n / 64 % 8]);
    (0..2000).map(|n| json!({"id": format!("d{n}"), "text": text(n), "stars": n % 5})).collect()
}

fn question() -> Vec<u8> {
    json!({"id": "q", "text": "berth of the coach", "plan": "bm25"}).to_string().into_bytes()
}

/// `cargo test --release --locked -p freshet-tests -- --ignored figures_of_watching --nocapture`
#[test]
#[ignore = "measures; takes a minute and a half of a quiet machine"]
fn figures_of_watching() {
    const TURNS: usize = 5;
    // Nobody listens there: spans are made, queued and lost.
    let collector = "http://127.0.0.1:1";
    let site = |observe: bool, endpoint: Option<&str>| {
        let mut config = drive::config(2);
        config.pipeline.observe = observe;
        config.telemetry.otlp_endpoint = endpoint.map(str::to_owned);
        let http = Http { listen: "127.0.0.1:0".to_owned(), ..Http::default() };
        let setup = Setup::load(config).unwrap().with_traces().unwrap();
        let site = Site::with(setup, &http, drive::topics());
        site.documents(&documents());
        site
    };
    let sites = [
        ("neither", site(false, None)),
        ("operators counted", site(true, None)),
        ("every query traced", site(false, Some(collector))),
    ];
    for concurrency in [1, 8] {
        let mut rates = vec![Vec::new(); sites.len()];
        for _ in 0..TURNS {
            for (rates, (_, site)) in rates.iter_mut().zip(&sites) {
                rates.push(measure(concurrency, in_process(site, &question())));
            }
        }
        for (rates, (name, _)) in rates.iter_mut().zip(&sites) {
            rates.sort_by(f64::total_cmp);
            println!("{name:>20} at {concurrency}: {:.0} queries/s, of {rates:.0?}", rates[TURNS / 2]);
        }
    }
    sites.into_iter().for_each(|(_, site)| site.finish());
}
