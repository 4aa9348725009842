//! Rerankers behind HTTP, against a server that is good, wrong, slow, refusing and cut off, as its script says.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use freshet_config::{Endpoint, RerankerKind};

use super::{HttpReranker, RerankJob, RerankMetrics, Reranker};

/// Longest wait for something that comes soon; only a failing test waits this long.
const LIMIT: Duration = Duration::from_secs(60);
const GOOD: &str =
    r#"{"results": [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.2}]}"#;
const KEY: &str = "sk-very-secret";

/// What a server does with a request.
enum Reply {
    /// Status line and headers, body.
    Text(&'static str, String),
    /// Promises more than it sends.
    CutOff,
    /// Says nothing until the other end of this is dropped.
    Hang(Receiver<()>),
}

fn good() -> Reply {
    Reply::Text("200 OK", GOOD.to_owned())
}

/// A server that plays a script, a request per connection, then is gone. Its address, and what it was asked.
fn server(script: Vec<Reply>) -> (String, Receiver<(String, String)>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://user:{KEY}@{}/v1/rerank?key={KEY}", listener.local_addr().expect("bound"));
    let (asked, requests) = channel();
    std::thread::spawn(move || {
        for reply in script {
            let (stream, _) = listener.accept().expect("a connection");
            answer(stream, reply, &asked);
        }
    });
    (url, requests)
}

fn answer(mut stream: TcpStream, reply: Reply, asked: &Sender<(String, String)>) {
    let mut reader = BufReader::new(stream.try_clone().expect("a socket"));
    let head: Vec<String> =
        reader.by_ref().lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    let length =
        head.iter().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).expect("a whole body");
    // Some tests do not listen.
    let _ = asked.send((head.join("\n"), String::from_utf8(body).expect("JSON")));
    let text = match reply {
        Reply::Text(head, body) => {
            format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
        }
        Reply::CutOff => format!("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{GOOD}"),
        Reply::Hang(until) => {
            until.recv().expect_err("nobody sends");
            return;
        }
    };
    // The client may have gone; that is its affair.
    let _ = stream.write_all(text.as_bytes());
}

fn endpoint(url: String) -> Endpoint {
    let positive = |value| NonZeroUsize::new(value).expect("positive");
    Endpoint {
        url,
        model: Some("some-model".to_owned()),
        api_key: Some(KEY.to_owned().into()),
        timeout: Duration::from_secs(20),
        retries: 2,
        connections: positive(1),
        failures_max: positive(100),
        pause: Duration::from_secs(3600),
    }
}

fn remote(endpoint: Endpoint) -> HttpReranker {
    let metrics = RerankMetrics::new().expect("metrics");
    let started = HttpReranker::start("remote", &RerankerKind::Remote(endpoint), metrics);
    started.expect("threads").expect("a kind behind HTTP")
}

type Scores = Result<Vec<f64>, String>;

fn job(within: Duration) -> (RerankJob, Receiver<Scores>) {
    let (send, scores) = channel();
    let job = RerankJob {
        query: "which?".into(),
        texts: vec!["this".into(), "that".into()],
        deadline: Instant::now() + within,
        reply: Box::new(move |scores| send.send(scores).expect("the test listens")),
    };
    (job, scores)
}

fn ask(reranker: &HttpReranker) -> Scores {
    let (mut job, scores) = job(LIMIT);
    while let Err(back) = reranker.submit(job) {
        assert!(Instant::now() < back.deadline, "there is room in time");
        job = back;
        std::thread::yield_now();
    }
    scores.recv_timeout(LIMIT).expect("scores, or a reason")
}

#[test]
fn texts_are_scored_and_the_key_goes_to_the_service_alone() {
    let (url, requests) = server(vec![good()]);
    let endpoint = endpoint(url);
    assert!(!format!("{:?}", endpoint.api_key).contains(KEY));
    assert_eq!(ask(&remote(endpoint)), Ok(vec![0.2, 0.9]));
    let (head, body) = requests.recv().expect("a request");
    assert!(head.contains(&format!("Bearer {KEY}")), "{head}");
    let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((&body["model"], &body["documents"][1]), (&"some-model".into(), &"that".into()));
}

#[test]
fn what_may_pass_is_tried_again_and_what_does_not_is_not() {
    let overloaded = || Reply::Text("503 Service Unavailable", "{}".into());
    let limited = || Reply::Text("429 Too Many Requests\r\nRetry-After: 0", "{}".into());
    let (url, _) = server(vec![overloaded(), limited(), good()]);
    assert_eq!(ask(&remote(endpoint(url))), Ok(vec![0.2, 0.9]));
    let (url, requests) = server(vec![Reply::CutOff, Reply::Text("200 OK", "<html>".into()), good()]);
    assert_eq!(ask(&remote(endpoint(url))), Ok(vec![0.2, 0.9]));
    assert_eq!(requests.iter().count(), 3);

    let (url, requests) = server(vec![Reply::Text("401 Unauthorized", "{}".into())]);
    let reason = ask(&remote(endpoint(url))).expect_err("the key is refused");
    assert!(reason.starts_with("127.0.0.1:") && reason.ends_with("answered 401 Unauthorized"), "{reason}");
    assert_eq!(requests.iter().count(), 1, "asked once");
    let (url, _) = server((0..3).map(|_| overloaded()).collect());
    let reason = ask(&remote(endpoint(url))).expect_err("it never recovers");
    assert!(reason.ends_with("answered 503 Service Unavailable"), "{reason}");
}

#[test]
fn reasons_name_the_host_and_hold_no_secret() {
    let (_keep, hangs) = channel();
    let (url, _) = server(vec![Reply::Hang(hangs)]);
    let slow = Endpoint { timeout: Duration::from_millis(50), retries: 0, ..endpoint(url) };
    let huge = Reply::Text("200 OK", "x".repeat(5 << 20));
    let (url, _) = server(vec![huge]);
    let huge = endpoint(url);
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound");
    let gone = Endpoint { retries: 0, ..endpoint(format!("http://{free}/?key={KEY}")) };
    let half = Reply::Text("200 OK", r#"{"results": [{"index": 0, "relevance_score": 1}]}"#.into());
    let (url, _) = server(vec![half]);
    let half = Endpoint { retries: 0, ..endpoint(url) };
    let expected =
        ["did not answer within", "answered more than", "cannot reach", "it did not score text 1 of 2"];
    for (endpoint, expected) in [slow, huge, gone, half].into_iter().zip(expected) {
        let reason = ask(&remote(endpoint)).expect_err("no scores");
        assert!(reason.contains(expected) && reason.contains("127.0.0.1:"), "{reason}");
        assert!(!reason.contains(KEY), "{reason}");
    }
}

#[test]
fn a_service_that_keeps_failing_is_left_alone() {
    let (url, requests) = server((0..2).map(|_| Reply::Text("500 Oh", String::new())).collect());
    let failures_max = NonZeroUsize::new(2).expect("positive");
    let reranker = remote(Endpoint { retries: 0, failures_max, ..endpoint(url) });
    for _ in 0..2 {
        assert!(ask(&reranker).expect_err("it fails").ends_with("500 Internal Server Error"));
    }
    let reason = ask(&reranker).expect_err("not asked");
    assert!(reason.contains("failed too often"), "{reason}");
    assert_eq!(requests.iter().count(), 2);
}

#[test]
fn a_full_queue_gives_the_job_back_and_late_jobs_are_dropped() {
    let (hang, hangs) = channel();
    let (url, requests) = server(vec![Reply::Hang(hangs), good()]);
    let reranker = remote(Endpoint { retries: 0, ..endpoint(url) });
    let (first, first_scores) = job(LIMIT);
    assert!(reranker.submit(first).is_ok(), "there is room");
    requests.recv_timeout(LIMIT).expect("the only connection is taken");
    let mut waiting = Vec::new();
    loop {
        let (job, scores) = job(Duration::ZERO);
        match reranker.submit(job) {
            Ok(()) => waiting.push(scores),
            Err(_) => break,
        }
        assert!(waiting.len() <= super::http::QUEUE_PER_CONNECTION, "the queue is bounded");
    }
    drop(hang);
    first_scores.recv_timeout(LIMIT).expect("a reason").expect_err("the connection was closed");
    assert_eq!(ask(&reranker), Ok(vec![0.2, 0.9]));
    assert!(waiting.iter().all(|scores| scores.try_recv().is_err()), "nobody waits for these");
}

#[test]
fn dropping_it_ends_a_pause_between_retries() {
    let later = Reply::Text("429 Too Many Requests\r\nRetry-After: 30", String::new());
    let (url, requests) = server(vec![later]);
    let reranker = remote(endpoint(url));
    let (job, scores) = job(LIMIT);
    assert!(reranker.submit(job).is_ok(), "there is room");
    requests.recv_timeout(LIMIT).expect("asked");
    let started = Instant::now();
    drop(reranker);
    assert!(started.elapsed() < Duration::from_secs(25), "it does not wait the pause out");
    assert!(scores.recv().is_err(), "dropped without a reply");
}
