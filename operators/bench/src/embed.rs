//! The embedding service with the shipped model: texts/s by length, thread and batch; what a query waits; that memory does
//! not grow with ever new shapes.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::mpsc::channel;

use freshet_config::Embedding as EmbeddingConfig;
use freshet_operators::embed::{Backend, EmbedJob, EmbeddingService, Priority, Wants, load};

use crate::data::Random;
use crate::report::{Report, Row, per_second, timed};

const MODEL: &str = "all-MiniLM-L6-v2";
/// Tokens of all texts of a measurement, about.
const TOKENS: usize = 15_360;
/// Times that texts of random lengths are embedded.
const TURNS: usize = 8;
/// Texts of one of them.
const TEXTS: usize = 200;

/// Measures; without the model there is nothing to measure.
pub(crate) fn run(report: &mut Report) {
    let model = match load(MODEL, &BTreeMap::new()) {
        Ok(model) => model,
        Err(error) => return eprintln!("embed: {error}"),
    };
    memory(report, &model);
    let tokens = report.scaled(TOKENS);
    for (threads, budget) in [(1, 128), (1, 512), (1, 2048), (2, 512)] {
        let service = service(&model, threads, budget);
        for words in [30, 126, 254] {
            let texts: Vec<String> = (0..tokens.div_ceil(words)).map(|_| "word ".repeat(words)).collect();
            let before = service.counts();
            let time = timed(|| embed(&service, Priority::Document, Wants::Tokens, &texts));
            let after = service.counts();
            let batches = (after.batches - before.batches).max(1) as f64;
            let busy = 1e3 * (after.busy_seconds - before.busy_seconds) / batches;
            report.add(row(
                format!("texts of {} tokens, {threads} threads, batches of {budget} tokens", words + 2),
                per_second(texts.len(), time),
                "texts/s",
                format!("{busy:.1} ms a batch"),
            ));
        }
        let query = ["how do I stop being billed".to_owned()];
        let queries = report.scaled(50);
        let time = timed(|| (0..queries).for_each(|_| embed(&service, Priority::Query, Wants::Rows, &query)));
        let what = format!("a query, {threads} threads");
        report.add(row(what, time.as_secs_f64() * 1e3 / queries as f64, "ms", String::new()));
    }
}

/// Memory after texts of random lengths, again and again: it grows no more once there have been some.
fn memory(report: &mut Report, model: &Arc<dyn Backend>) {
    let service = service(model, 1, 512);
    let mut random = Random::new(12_345);
    let texts = report.scaled(TEXTS);
    let sizes: Vec<f64> = (0..TURNS)
        .map(|_| {
            let texts: Vec<String> = (0..texts).map(|_| "word ".repeat(1 + random.below(254))).collect();
            embed(&service, Priority::Document, Wants::Dense, &texts);
            resident_mib()
        })
        .collect();
    let what = format!("memory after {} texts of random lengths", TURNS * texts);
    let note = format!("after each {texts}: {sizes:.0?} MiB");
    report.add(Row {
        reference: Some((sizes[1], "MiB after the second turn")),
        ..row(what, sizes[TURNS - 1], "MiB", note)
    });
}

fn service(model: &Arc<dyn Backend>, threads: usize, batch_tokens_max: usize) -> Arc<EmbeddingService> {
    let positive = |value| NonZeroUsize::new(value).expect("positive");
    let config = EmbeddingConfig {
        threads: positive(threads),
        batch_tokens_max: positive(batch_tokens_max),
        queue_texts_max: positive(4096),
        run_timeout: Duration::from_secs(60),
    };
    EmbeddingService::with_backends(vec![Arc::clone(model)], &config).expect("a service")
}

fn embed(service: &EmbeddingService, priority: Priority, wants: Wants, texts: &[String]) {
    let (send, replies) = channel();
    let reply = Box::new(move |results| drop(send.send(results)));
    let job = EmbedJob { model: 0, priority, wants, against: None, texts: texts.to_vec(), reply };
    assert!(service.submit(job).is_ok(), "the queue is full");
    replies.recv().expect("a reply").into_iter().for_each(|result| drop(result.expect("embedded")));
}

/// Resident memory of the process; 0 where the system does not tell.
fn resident_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let size = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = size.and_then(|size| size.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

fn row(what: String, value: f64, unit: &'static str, note: String) -> Row {
    Row { group: "embed", what, value, unit, reference: None, bar: None, note }
}
