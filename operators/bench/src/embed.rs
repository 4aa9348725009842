//! The embedding service with the shipped model: against ONNX Runtime alone and fastembed; texts/s by length, thread and batch; what a query waits; that memory does
//! not grow with ever new shapes.

use std::collections::BTreeMap;
use std::io::Write;
use std::num::NonZeroUsize;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use freshet_config::Embedding as EmbeddingConfig;
use freshet_operators::embed::{
    Backend, EmbedJob, Embedding, EmbeddingService, Priority, Tokens, Wants, load,
};

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
    others(report, &model);
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

/// Short and long texts, mixed: descriptions of packages, every fourth one several of them.
fn mixed(count: usize) -> Vec<String> {
    let descriptions = crate::sparse::descriptions();
    if descriptions.is_empty() {
        return Vec::new();
    }
    let mut random = Random::new(99);
    let mut one = || descriptions[random.below(descriptions.len())].join(" ");
    let mut text = |number: usize| -> String {
        let parts = if number % 4 == 3 { 2 + number / 4 % 18 } else { 1 };
        (0..parts).map(|_| one()).collect::<Vec<_>>().join(". ")
    };
    (0..count).map(&mut text).collect()
}

/// The service on one thread, with tokenising, pooling and queues, against ONNX Runtime alone and against fastembed.
fn others(report: &mut Report, model: &Arc<dyn Backend>) {
    let texts = mixed(report.scaled(2000));
    if texts.is_empty() {
        return eprintln!(
            "embed: no package descriptions on this machine (apt-cache), real texts are left out"
        );
    }
    let service = service(model, 1, 512);
    let ours = |best: Duration| best.min(timed(|| embed(&service, Priority::Document, Wants::Dense, &texts)));
    let before = service.counts();
    let mut best = (ours(Duration::MAX), Duration::MAX);
    let after = service.counts();
    let padding = (after.padding - before.padding) as f64;
    let padding = 100.0 * padding / (padding + (after.tokens - before.tokens) as f64);
    for _ in 0..2 {
        best.1 = best.1.min(runtime_alone(model, &texts));
        best.0 = ours(best.0);
    }
    let note =
        format!("{} descriptions, alone and joined; {padding:.1} % of what is run is padding", texts.len());
    let row = |other: Duration, name, bar| Row {
        reference: Some((per_second(texts.len(), other), name)),
        bar: Some(bar),
        ..row(
            "texts of mixed length, 1 thread".into(),
            per_second(texts.len(), best.0),
            "texts/s",
            note.clone(),
        )
    };
    report.add(row(best.1, "ONNX Runtime alone, tokens ready, best batch shape", 0.95));
    match fastembed(model, &texts) {
        Ok(time) => report.add(row(time, "fastembed, same file, 1 thread", 1.5)),
        Err(reason) => eprintln!("embed: no figure of fastembed: {reason}"),
    }
}

/// Runs of texts that are tokenised and sorted before, with the batch shape that turns out best.
fn runtime_alone(model: &Arc<dyn Backend>, texts: &[String]) -> Duration {
    let mut runner = model.runner().expect("a session");
    let tokens = texts.iter().map(|text| model.encode(text, Priority::Document).expect("a text"));
    let mut tokens: Vec<Tokens> = tokens.collect();
    tokens.sort_by_key(Tokens::len);
    let mut run = |texts_max: usize, cells_max: usize| {
        timed(|| {
            let mut left = tokens.as_slice();
            while !left.is_empty() {
                let fits = |count: &usize| count * left[count - 1].len() <= cells_max;
                let count = (1..=left.len().min(texts_max)).take_while(fits).last().unwrap_or(1);
                let batch: Vec<&Tokens> = left[..count].iter().collect();
                drop(runner.run(&batch, Duration::MAX).expect("a run"));
                left = &left[count..];
            }
        })
    };
    let shapes = [(1, usize::MAX), (256, 256), (256, 512), (256, 1024), (256, 4096)];
    shapes.into_iter().map(|(texts_max, cells_max)| run(texts_max, cells_max)).min().expect("shapes")
}

/// fastembed on the same file, in a process of its own.
fn fastembed(model: &Arc<dyn Backend>, texts: &[String]) -> Result<Duration, String> {
    let python = std::env::var("FRESHET_FASTEMBED").map_err(|_| "FRESHET_FASTEMBED names no Python")?;
    let folder = model.info().folder.clone().ok_or("the model has no folder")?;
    let asked = serde_json::json!({
        "folder": folder, "file": "model.onnx", "dim": model.info().dim, "rounds": 3, "texts": texts,
    });
    let mut process = Command::new(python)
        .args(["-c", include_str!("fastembed.py")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let mut stdin = process.stdin.take().ok_or("no input")?;
    stdin.write_all(asked.to_string().as_bytes()).map_err(|error| error.to_string())?;
    drop(stdin);
    let output = process.wait_with_output().map_err(|error| error.to_string())?;
    let answer: serde_json::Value =
        serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())?;
    let first: Vec<f32> =
        serde_json::from_value(answer["first"].clone()).map_err(|error| error.to_string())?;
    let service = service(model, 1, 512);
    let own = vectors(&service, &texts[..1]);
    let off = own[0].iter().zip(&first).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(off < 1e-4, "both give the same vector: off by {off}");
    Ok(Duration::from_secs_f64(answer["seconds"].as_f64().ok_or("no time")?))
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
    embedded(service, priority, wants, texts).for_each(drop);
}

fn vectors(service: &EmbeddingService, texts: &[String]) -> Vec<Vec<f32>> {
    embedded(service, Priority::Document, Wants::Dense, texts).map(|embedding| embedding.dense).collect()
}

fn embedded(
    service: &EmbeddingService,
    priority: Priority,
    wants: Wants,
    texts: &[String],
) -> impl Iterator<Item = Embedding> + use<> {
    let (send, replies) = channel();
    let reply = Box::new(move |results| drop(send.send(results)));
    let job = EmbedJob { model: 0, priority, wants, against: None, texts: texts.to_vec(), reply };
    assert!(service.submit(job).is_ok(), "the queue is full");
    replies.recv().expect("a reply").into_iter().map(|result| result.expect("embedded"))
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
