use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value as Json;

use super::*;

const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn header(name: &str, value: &str) -> (String, Option<Vec<u8>>) {
    (name.to_owned(), Some(value.as_bytes().to_vec()))
}

fn config(endpoint: &str) -> Telemetry {
    Telemetry {
        otlp_endpoint: Some(endpoint.to_owned()),
        timeout: Duration::from_secs(20),
        ..Telemetry::default()
    }
}

fn tracer(endpoint: &str, ratio: f64) -> (Tracer, TraceMetrics) {
    let metrics = TraceMetrics::new().expect("names");
    let config = Telemetry { sample_ratio: ratio, ..config(endpoint) };
    let tracer = Tracer::start(&config, &Connector::default(), &metrics).expect("a thread");
    (tracer.expect("an endpoint"), metrics)
}

/// An address at which nobody listens.
const NOBODY: &str = "http://127.0.0.1:1";

fn span(tracer: &Tracer, name: &'static str) -> Span {
    let open = tracer.begin(&vec![header(TRACEPARENT, CALLER)]).expect("sampled");
    open.end(name, SpanKind::Internal, (1_000_001, 1_000_500))
}

/// Serves so many requests, each with this status and body; what came.
fn collector(requests: usize, status: &'static str, answer: &'static str) -> (String, JoinHandle<Vec<Json>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}/", listener.local_addr().expect("bound"));
    let serve = move || {
        let serve = |_| {
            let (stream, _) = listener.accept().expect("a request");
            let mut reader = BufReader::new(stream);
            let (mut head, mut length) = (String::new(), 0);
            while !head.ends_with("\r\n\r\n") {
                let before = head.len();
                reader.read_line(&mut head).expect("a line");
                let line = head[before..].to_ascii_lowercase();
                if let Some(value) = line.strip_prefix("content-length:") {
                    length = value.trim().parse().expect("a number");
                }
            }
            assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
            let mut body = vec![0; length];
            reader.read_exact(&mut body).expect("the body");
            let size = answer.len();
            let response =
                format!("HTTP/1.1 {status}\r\ncontent-length: {size}\r\nconnection: close\r\n\r\n{answer}");
            reader.get_mut().write_all(response.as_bytes()).expect("who asked listens");
            serde_json::from_slice(&body).expect("JSON")
        };
        (0..requests).map(serve).collect()
    };
    (address, std::thread::spawn(serve))
}

#[test]
fn contexts_are_read_as_the_standard_says() {
    let caller = TraceContext::parse(CALLER).expect("well formed");
    assert_eq!((caller.trace, caller.span), (0x0af7651916cd43dd8448eb211c80319c, 0xb7ad6b7169203331));
    assert!(caller.sampled);
    assert_eq!(caller.to_string(), CALLER);
    let unsampled = TraceContext::parse(&CALLER.replace("-01", "-00")).expect("well formed");
    assert!(!unsampled.sampled && unsampled.to_string().ends_with("-00"));
    // Other flags mean nothing here; later versions may say more.
    assert!(TraceContext::parse(&CALLER.replace("-01", "-03")).expect("well formed").sampled);
    assert_eq!(TraceContext::parse(&CALLER.replacen("00-", "cc-", 1)), Some(caller));
    assert_eq!(TraceContext::parse(&format!("{}-more", CALLER.replacen("00-", "cc-", 1))), Some(caller));
    for malformed in [
        "",
        "00",
        &CALLER[..54],
        &format!("{CALLER}-"),
        &format!("{CALLER}0"),
        &CALLER.to_uppercase(),
        &CALLER.replacen("00-", "ff-", 1),
        &CALLER.replace('-', "_"),
        &CALLER.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
        &CALLER.replace("b7ad6b7169203331", &"0".repeat(16)),
        &CALLER.replace("b7ad", "b7a+"),
        &CALLER.replace("b7ad", "b7\u{e4}"),
    ] {
        assert_eq!(TraceContext::parse(malformed), None, "{malformed:?}");
    }
}

#[test]
fn a_record_has_one_caller_or_none() {
    let of = |headers: &[(&str, &str)]| {
        TraceContext::of(&headers.iter().map(|(name, value)| header(name, value)).collect())
    };
    let caller = TraceContext::parse(CALLER);
    assert_eq!(of(&[("a", "b"), ("TraceParent", CALLER)]), caller);
    assert_eq!(of(&[("a", CALLER)]), None);
    assert_eq!(of(&[(TRACEPARENT, CALLER), (TRACEPARENT, CALLER)]), None);
    assert_eq!(of(&[(TRACEPARENT, "?")]), None);
    assert_eq!(TraceContext::of(&vec![(TRACEPARENT.to_owned(), None)]), None);
}

#[test]
fn an_answer_carries_the_place_of_its_own_span() {
    let (tracer, _) = tracer(NOBODY, 1.0);
    let headers = vec![header("a", "b"), header(TRACEPARENT, CALLER), header(TRACESTATE, "x=1,y=2")];
    let open = tracer.begin(&headers).expect("sampled");
    let own = open.context;
    assert_eq!((own.trace, own.sampled), (0x0af7651916cd43dd8448eb211c80319c, true));
    assert_ne!(own.span, 0xb7ad6b7169203331);
    let expected =
        vec![header("a", "b"), header(TRACESTATE, "x=1,y=2"), header(TRACEPARENT, &own.to_string())];
    assert_eq!(carried(headers, own), expected);
    // A malformed caller is none, and what stands beside it means nothing.
    let headers = vec![header(TRACEPARENT, "?"), header(TRACESTATE, "x=1"), header("a", "b")];
    let open = tracer.begin(&headers).expect("a trace of its own");
    assert_eq!(
        carried(headers, open.context),
        [header("a", "b"), header(TRACEPARENT, &open.context.to_string())]
    );
}

#[test]
fn callers_decide_and_the_ratio_decides_where_there_is_none() {
    let caller = vec![header(TRACEPARENT, CALLER)];
    let unsampled = vec![header(TRACEPARENT, &CALLER.replace("-01", "-00"))];
    for ratio in [0.0, 0.25, 1.0] {
        let (tracer, _) = tracer(NOBODY, ratio);
        assert!(tracer.begin(&caller).is_some() && tracer.follow(&caller).is_some());
        assert!(tracer.begin(&unsampled).is_none() && tracer.follow(&unsampled).is_none());
        assert!(tracer.follow(&Headers::new()).is_none());
        let begun: Vec<Open> = (0..1000).filter_map(|_| tracer.begin(&Headers::new())).collect();
        let share = begun.len() as f64 / 1000.0;
        // Five standard deviations.
        assert!((share - ratio).abs() <= 5.0 * (ratio * (1.0 - ratio) / 1000.0).sqrt(), "{share} of {ratio}");
        let ids: std::collections::BTreeSet<u128> = begun.iter().map(|open| open.context.trace).collect();
        assert_eq!(ids.len(), begun.len(), "each has a trace of its own");
    }
}

#[test]
fn a_collector_gets_spans_as_otlp() {
    let (address, served) = collector(1, "200 OK", "{}");
    let (tracer, metrics) = tracer(&address, 1.0);
    let whole = tracer.begin(&vec![header(TRACEPARENT, CALLER), header(TRACESTATE, "x=1")]).expect("sampled");
    let part = tracer.part_of(&whole).end("part", SpanKind::Producer, (2_000, 1_000));
    let ids = (whole.context.span, part.context.span);
    let mut whole = whole.end("whole", SpanKind::Consumer, (1_700_000_000_000_001, 1_700_000_000_500_000));
    whole.attributes = vec![text("a", "b"), number("n", -7)];
    whole.error = Some("broken".to_owned());
    tracer.send(vec![whole, part]);
    drop(tracer);
    let [request] = served.join().expect("no panic").try_into().expect("one");
    let resource = &request["resourceSpans"][0]["resource"]["attributes"];
    assert_eq!(resource[0], serde_json::json!({"key": "service.name", "value": {"stringValue": "freshet"}}));
    let spans = &request["resourceSpans"][0]["scopeSpans"][0]["spans"];
    assert_eq!(
        spans[0],
        serde_json::json!({
            "traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": format!("{:016x}", ids.0),
            "parentSpanId": "b7ad6b7169203331", "traceState": "x=1", "name": "whole", "kind": 5,
            "startTimeUnixNano": "1700000000000001000", "endTimeUnixNano": "1700000000500000000",
            "attributes": [{"key": "a", "value": {"stringValue": "b"}}, {"key": "n", "value": {"intValue": "-7"}}],
            "status": {"code": 2, "message": "broken"},
        })
    );
    let part = &spans[1];
    assert_eq!(part["spanId"], format!("{:016x}", ids.1));
    assert_eq!(part["parentSpanId"], format!("{:016x}", ids.0));
    assert_eq!(
        (&part["startTimeUnixNano"], &part["endTimeUnixNano"]),
        (&"2000000".into(), &"2000000".into())
    );
    assert_eq!((spans.as_array().map(Vec::len), metrics.counts()), (Some(2), (2, 0)));
}

#[test]
fn spans_that_nobody_takes_are_counted() {
    for (status, answer, lost) in [
        ("503 Service Unavailable", "", 3),
        ("302 Found", "", 3),
        ("200 OK", r#"{"partialSuccess": {"rejectedSpans": "2"}}"#, 2),
        ("200 OK", "not JSON", 0),
    ] {
        let (address, served) = collector(1, status, answer);
        let (tracer, metrics) = tracer(&address, 1.0);
        tracer.send(vec![span(&tracer, "a"), span(&tracer, "b"), span(&tracer, "c")]);
        drop(tracer);
        assert_eq!(served.join().expect("no panic").len(), 1);
        assert_eq!(metrics.counts(), (3 - lost, lost), "{status} {answer}");
    }
    let (tracer, metrics) = tracer(NOBODY, 1.0);
    for _ in 0..1000 {
        tracer.send(vec![span(&tracer, "a")]);
    }
    drop(tracer);
    assert_eq!(metrics.counts(), (0, 1000));
}

#[test]
fn a_full_queue_loses_spans_and_nobody_waits() {
    // Takes the connection, and never answers.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("bound"));
    let metrics = TraceMetrics::new().expect("names");
    let config = Telemetry { timeout: Duration::from_millis(200), ..config(&address) };
    let tracer = Tracer::start(&config, &Connector::default(), &metrics).expect("a thread").expect("one");
    let spans = 20_000;
    for _ in 0..spans {
        tracer.send(vec![span(&tracer, "a")]);
    }
    let (_, lost) = metrics.counts();
    assert!(lost > 0, "the queue is bounded");
    drop(tracer);
    assert_eq!(metrics.counts(), (0, spans));
}

#[test]
fn without_an_endpoint_there_is_nothing() {
    let metrics = TraceMetrics::new().expect("names");
    let tracer = Tracer::start(&Telemetry::default(), &Connector::default(), &metrics).expect("no thread");
    assert!(tracer.is_none());
}
