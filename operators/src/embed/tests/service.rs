//! Order, bounds, failures and the end of the service, on the hashing model behind a gate.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use freshet_config::Embedding as EmbeddingConfig;
use tokenizers::Tokenizer;

use crate::embed::hashing::{Gate, HashingModel};
use crate::embed::{
    Backend, EmbedError, EmbedJob, Embedding, EmbeddingService, Hidden, ModelInfo, Priority, Runner, Tokens,
    Values, Wants,
};

type Results = Vec<Result<Embedding, String>>;
type Replies = Receiver<(&'static str, Results)>;

fn config(threads: usize, batch_tokens_max: usize, queue_texts_max: usize) -> EmbeddingConfig {
    let positive = |value| NonZeroUsize::new(value).expect("positive");
    EmbeddingConfig {
        threads: positive(threads),
        batch_tokens_max: positive(batch_tokens_max),
        queue_texts_max: positive(queue_texts_max),
        run_timeout: Duration::from_secs(60),
    }
}

/// A service on the hashing model of 16 dimensions.
fn gated(gate: &Gate, config: &EmbeddingConfig) -> Arc<EmbeddingService> {
    EmbeddingService::with_backends(vec![Arc::new(HashingModel::gated(16, gate.clone()))], config)
        .expect("a service")
}

/// A job that sends its name and results.
fn job(
    name: &'static str,
    priority: Priority,
    texts: &[&str],
    replies: &Sender<(&'static str, Results)>,
) -> EmbedJob {
    let replies = replies.clone();
    EmbedJob {
        model: 0,
        priority,
        wants: Wants::Dense,
        against: None,
        texts: texts.iter().map(|text| (*text).to_owned()).collect(),
        reply: Box::new(move |results| replies.send((name, results)).expect("the test listens")),
    }
}

fn submit(service: &EmbeddingService, job: EmbedJob) {
    assert!(service.submit(job).is_ok(), "the queue is full");
}

fn names(replies: &Replies, count: usize) -> Vec<&'static str> {
    replies.iter().take(count).map(|(name, _)| name).collect()
}

#[test]
fn queries_go_before_documents_that_came_earlier() {
    let (gate, (send, replies)) = (Gate::closed(), channel());
    let service = gated(&gate, &config(1, 1, 64));
    submit(&service, job("d1", Priority::Document, &["one"], &send));
    gate.wait_held(1);
    submit(&service, job("d2", Priority::Document, &["two"], &send));
    submit(&service, job("d3", Priority::Document, &["three"], &send));
    submit(&service, job("q1", Priority::Query, &["four"], &send));
    submit(&service, job("q2", Priority::Query, &["five"], &send));
    gate.allow(usize::MAX);
    assert_eq!(names(&replies, 5), ["d1", "q1", "q2", "d2", "d3"]);
}

#[test]
fn a_query_comes_between_the_batches_of_one_portion() {
    let (gate, (send, replies)) = (Gate::closed(), channel());
    let service = gated(&gate, &config(1, 100, 64));
    // Lengths so different that they run apart; taken together.
    submit(&service, job("d", Priority::Document, &["one two three four five six seven", "one"], &send));
    gate.wait_held(1);
    assert_eq!(service.counts().document_texts_queued, 0);
    submit(&service, job("q", Priority::Query, &["query"], &send));
    gate.allow(usize::MAX);
    assert_eq!(names(&replies, 2), ["q", "d"]);
    assert_eq!(service.counts().batches, 3);
}

#[test]
fn results_come_in_the_order_of_the_texts_whatever_ran_together() {
    let texts: Vec<String> = (0..200).map(|n| format!("word{n} ").repeat(1 + (n * 7) % 13)).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let (send, replies) = channel();
    let service = gated(&Gate::open(), &config(3, 40, 1024));
    submit(&service, job("all", Priority::Document, &texts, &send));
    let (_, together) = replies.recv().expect("a reply");
    for (text, result) in texts.iter().zip(&together) {
        submit(&service, job("one", Priority::Document, &[text], &send));
        let (_, alone) = replies.recv().expect("a reply");
        assert_eq!(alone, std::slice::from_ref(result), "{text}");
    }
    assert_eq!(service.counts().document_texts, 400);
}

#[test]
fn a_full_queue_gives_the_job_back() {
    let (gate, (send, replies)) = (Gate::closed(), channel());
    let service = gated(&gate, &config(1, 1, 3));
    submit(&service, job("running", Priority::Document, &["a"], &send));
    gate.wait_held(1);
    submit(&service, job("waiting", Priority::Document, &["b", "c", "d"], &send));
    let Err(back) = service.submit(job("late", Priority::Document, &["e"], &send)) else {
        panic!("the queue is full")
    };
    assert_eq!(back.texts, ["e"]);
    // Queries have a queue of their own, and a job larger than a queue gets into an empty one.
    submit(&service, job("query", Priority::Query, &["f", "g", "h", "i"], &send));
    assert!(service.submit(job("query too late", Priority::Query, &["j"], &send)).is_err());
    let counts = service.counts();
    assert_eq!((counts.document_texts_queued, counts.query_texts_queued), (3, 4));
    gate.allow(usize::MAX);
    assert_eq!(names(&replies, 3), ["running", "query", "waiting"]);
    submit(&service, back);
    assert_eq!(names(&replies, 1), ["late"]);
    assert_eq!(service.counts().document_texts_queued, 0);
}

#[test]
fn a_job_without_texts_is_answered() {
    let (gate, (send, replies)) = (Gate::closed(), channel());
    let service = gated(&gate, &config(1, 1, 8));
    submit(&service, job("a", Priority::Document, &["a"], &send));
    gate.wait_held(1);
    submit(&service, job("b", Priority::Document, &["b"], &send));
    submit(&service, job("none", Priority::Document, &[], &send));
    gate.allow(usize::MAX);
    let results = replies.iter().take(3).find(|(name, _)| *name == "none").expect("a reply");
    assert_eq!(results.1, []);
}

#[test]
fn each_job_runs_on_its_model() {
    let backends: Vec<Arc<dyn Backend>> =
        vec![Arc::new(HashingModel::new(8)), Arc::new(HashingModel::new(32))];
    let service = EmbeddingService::with_backends(backends, &config(2, 16, 1024)).expect("a service");
    let (send, replies) = channel();
    for number in 0..40 {
        let name = if number % 3 == 0 { "small" } else { "large" };
        let model = usize::from(name == "large");
        submit(&service, EmbedJob { model, ..job(name, Priority::Document, &["a b", "c"], &send) });
    }
    for (name, results) in replies.iter().take(40) {
        let dim = if name == "small" { 8 } else { 32 };
        assert!(results.iter().all(|result| result.as_ref().is_ok_and(|e| e.dense.len() == dim)), "{name}");
    }
    assert_eq!(service.info(1).name, "hashing-32");
}

/// Fails, panics or breaks its contract on some words.
struct Faulty(HashingModel);

impl Backend for Faulty {
    fn info(&self) -> &ModelInfo {
        self.0.info()
    }

    fn tokenizer(&self) -> &Tokenizer {
        self.0.tokenizer()
    }

    fn encode_pair(&self, query: &str, text: &str) -> Result<Tokens, String> {
        self.0.encode_pair(query, text)
    }

    fn encode(&self, text: &str, priority: Priority) -> Result<Tokens, String> {
        match text {
            "unreadable" => Err("cannot be read".to_owned()),
            "poison" => panic!("the tokenizer chokes on \"{text}\""),
            _ => self.0.encode(text, priority),
        }
    }

    fn runner(&self) -> Result<Box<dyn Runner>, EmbedError> {
        let id = |word| self.0.encode(word, Priority::Document).expect("any text").ids[0];
        let words = ["fail", "panic", "short", "nan"].map(id);
        Ok(Box::new(FaultyRunner { inner: self.0.runner()?, words }))
    }
}

struct FaultyRunner {
    inner: Box<dyn Runner>,
    words: [u32; 4],
}

impl Runner for FaultyRunner {
    fn run(&mut self, batch: &[&Tokens], limit: Duration) -> Result<Hidden, String> {
        let has = |number: usize| batch.iter().position(|text| text.ids.contains(&self.words[number]));
        if has(0).is_some() {
            return Err("out of luck".to_owned());
        }
        assert!(has(1).is_none(), "a bug");
        let Hidden { rows, dim, values } = self.inner.run(batch, limit)?;
        let mut values = values.to_vec();
        if has(2).is_some() {
            values.pop();
        }
        if let Some(place) = has(3) {
            values[place * rows * dim] = f32::NAN;
        }
        Ok(Hidden { rows, dim, values: Values::Owned(values) })
    }
}

#[test]
fn a_text_that_fails_takes_no_other_along() {
    let backends: Vec<Arc<dyn Backend>> = vec![Arc::new(Faulty(HashingModel::new(64)))];
    let service = EmbeddingService::with_backends(backends, &config(1, 1000, 1024)).expect("a service");
    let (send, replies) = channel();
    let texts = [
        "a b",
        "fail x",
        "c d",
        "panic x",
        "e f",
        "unreadable",
        "short x",
        "g h",
        "poison",
        "nan x",
        "i j",
        "k l",
    ];
    submit(&service, job("mixed", Priority::Document, &texts, &send));
    let (_, results) = replies.recv().expect("a reply");
    let reasons: Vec<(&str, &str)> = texts
        .iter()
        .zip(&results)
        .filter_map(|(text, result)| result.as_ref().err().map(|reason| (*text, reason.as_str())))
        .collect();
    assert_eq!(
        reasons,
        [
            ("fail x", "out of luck"),
            ("panic x", "the model panicked: a bug"),
            ("unreadable", "cannot be read"),
            ("short x", "the model gave 127 values for 2 rows of 64 dimensions, expected 1 · 2 · 64"),
            ("poison", "the model panicked: the tokenizer chokes on \"poison\""),
            ("nan x", "the model gave a value that is not finite"),
        ]
    );
    let counts = service.counts();
    assert_eq!((counts.document_texts, counts.failures), (6, 6));
    // The thread lives on.
    submit(&service, job("after", Priority::Document, &["a b"], &send));
    assert_eq!(replies.recv().expect("a reply").1[0], results[0]);
}

#[test]
fn a_reply_that_panics_takes_no_job_along() {
    let (gate, (send, replies)) = (Gate::open(), channel());
    let service = gated(&gate, &config(1, 8, 8));
    let bad = EmbedJob {
        reply: Box::new(|_| panic!("a bug in a reply")),
        ..job("bad", Priority::Query, &["a"], &send)
    };
    submit(&service, bad);
    submit(&service, job("good", Priority::Query, &["b"], &send));
    assert_eq!(names(&replies, 1), ["good"]);
}

#[test]
fn dropping_the_service_ends_its_threads_and_drops_what_waits() {
    let (gate, (send, replies)) = (Gate::closed(), channel());
    let model: Arc<dyn Backend> = Arc::new(HashingModel::gated(16, gate.clone()));
    let service =
        EmbeddingService::with_backends(vec![Arc::clone(&model)], &config(2, 1, 64)).expect("a service");
    for text in ["one", "two", "three", "four"] {
        submit(&service, job("d", Priority::Document, &[text], &send));
    }
    gate.wait_held(2);
    let dropping = std::thread::spawn(move || drop(service));
    gate.allow(usize::MAX);
    dropping.join().expect("no panic");
    drop(send);
    // All replies are gone, called or not, and with them the senders: this ends.
    assert!(replies.iter().count() >= 2);
    assert_eq!(Arc::strong_count(&model), 1);
}

#[test]
fn a_reply_may_be_the_last_owner() {
    let (send, replies) = channel();
    let (gate, last) = (Gate::closed(), Arc::new(std::sync::Mutex::new(None)));
    let service = gated(&gate, &config(2, 1, 8));
    let owner = Arc::clone(&last);
    let reply = Box::new(move |results| {
        drop(owner.lock().expect("no panic").take());
        send.send(results).expect("the test listens");
    });
    submit(
        &service,
        EmbedJob {
            model: 0,
            priority: Priority::Query,
            wants: Wants::Dense,
            against: None,
            texts: vec!["a".to_owned()],
            reply,
        },
    );
    gate.wait_held(1);
    *last.lock().expect("no panic") = Some(service);
    gate.allow(usize::MAX);
    let results: Results = replies.recv().expect("a reply");
    assert_eq!(results.len(), 1);
}

#[test]
fn counters_are_shown_in_a_registry() {
    let (send, replies) = channel();
    let service = gated(&Gate::open(), &config(1, 16, 64));
    let registry = prometheus::Registry::new();
    service.metrics().register(&registry).expect("a new registry");
    service.metrics().register(&registry).expect_err("registered already");
    submit(&service, job("d", Priority::Document, &["a b c", "d e f g", "h"], &send));
    submit(&service, job("q", Priority::Query, &["i"], &send));
    names(&replies, 2);
    let counts = service.counts();
    assert_eq!((counts.query_texts, counts.document_texts, counts.tokens, counts.failures), (1, 3, 9, 0));
    assert!(counts.busy_seconds > 0.0);
    let shown: Vec<String> = registry.gather().iter().map(|family| family.name().to_owned()).collect();
    let expected = [
        "batch_padding_ratio",
        "batch_texts",
        "batch_tokens",
        "batches_total",
        "busy_seconds_total",
        "failures_total",
        "padding_tokens_total",
        "queue_seconds",
        "queue_texts",
        "run_seconds",
        "texts_total",
        "tokens_total",
    ];
    assert_eq!(shown, expected.map(|name| format!("freshet_embedding_{name}")));
    let sum = |name: &str, priority: &str| {
        let families = registry.gather();
        let family = families.iter().find(|family| family.name() == format!("freshet_embedding_{name}"));
        let metrics = family.expect("is shown").get_metric();
        let of_priority = |metric: &&prometheus::proto::Metric| metric.get_label()[0].value() == priority;
        let histogram = metrics.iter().find(of_priority).expect("has a value").get_histogram();
        (histogram.get_sample_count(), histogram.get_sample_sum())
    };
    // Every text waits once; texts of unlike lengths run apart.
    assert_eq!((sum("queue_seconds", "document").0, sum("queue_seconds", "query").0), (3, 1));
    assert_eq!((sum("batch_texts", "document"), sum("batch_texts", "query")), ((3, 3.0), (1, 1.0)));
    assert_eq!((sum("batch_tokens", "document").1, sum("batch_tokens", "query").1), (8.0, 1.0));
    assert_eq!(sum("batch_padding_ratio", "document"), (3, 0.0));
    assert_eq!((sum("run_seconds", "document").0, sum("run_seconds", "query").0), (3, 1));
}

#[test]
fn a_text_waits_from_its_job_to_its_thread() {
    let (send, replies) = channel();
    let gate = Gate::closed();
    let service = gated(&gate, &config(1, 16, 64));
    let registry = prometheus::Registry::new();
    service.metrics().register(&registry).expect("a new registry");
    submit(&service, job("runs", Priority::Document, &["a"], &send));
    gate.wait_held(1);
    submit(&service, job("waits", Priority::Document, &["b"], &send));
    const AT_LEAST: Duration = Duration::from_millis(20);
    replies.recv_timeout(AT_LEAST).expect_err("the only thread is held");
    gate.allow(usize::MAX);
    names(&replies, 2);
    let families = registry.gather();
    let family = families.iter().find(|family| family.name() == "freshet_embedding_queue_seconds");
    let histogram = family.expect("is shown").get_metric()[0].get_histogram();
    assert_eq!(histogram.get_sample_count(), 2);
    assert!(histogram.get_sample_sum() >= AT_LEAST.as_secs_f64(), "{histogram:?}");
}
