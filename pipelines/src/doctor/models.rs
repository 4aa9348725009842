//! ONNX Runtime and the models that a configuration names: there, whole, and how fast.

use std::collections::BTreeSet;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use freshet_config::{Config, Embedding};
use freshet_operators::embed::{self, EmbedError, EmbedJob, EmbeddingService, Head, Priority, Wants};

use super::Finding;
use crate::setup::BM25;
use freshet_operators::causes::with_causes;

/// Texts that a model is tried with.
const TEXTS: usize = 32;
/// A text of the length of a short ticket.
const TEXT: &str = "The invoice of last month was paid twice, once by card and once by transfer; please refund one of the two.";
/// Below so many texts a second, loading some ten thousand documents takes an hour.
const SLOW: f64 = 20.0;
/// Longest wait for the texts.
const WAIT: Duration = Duration::from_secs(60);

pub(super) fn examine(config: &Config, note: &mut impl FnMut(Finding)) {
    let readers = config.rerankers.values().filter_map(|reranker| reranker.kind.model());
    let fields = config.vectors.values().filter_map(|field| field.model.as_deref());
    let names: BTreeSet<&str> = fields.chain(readers).filter(|name| *name != BM25).collect();
    if names.is_empty() {
        note(Finding::ok("models", "none is named"));
        return;
    }
    match embed::environment() {
        Ok(_) => note(Finding::ok("ONNX Runtime", "loaded")),
        Err(error) => {
            note(Finding::missing(
                "ONNX Runtime",
                error.to_string(),
                "scripts/setup.sh runtime, or set ORT_DYLIB_PATH",
            ));
            return;
        }
    }
    names.into_iter().for_each(|name| note(model(name, config)));
}

fn model(name: &str, config: &Config) -> Finding {
    let what = format!("model {name}");
    match embed::load(name, &config.models) {
        Err(error @ EmbedError::NotFound { .. }) => {
            Finding::missing(what, error.to_string(), format!("freshet models pull {name}"))
        }
        Err(error) => {
            let mend = format!("remove the folder, then: freshet models pull {name}");
            Finding::missing(what, with_causes(&error), mend)
        }
        Ok(backend) => {
            // Some models need no files.
            let place = embed::locate(name, &config.models).ok();
            let at =
                place.map_or("built in".to_owned(), |at| format!("{} ({})", at.folder.display(), at.place));
            let against = matches!(backend.info().head, Head::CrossEncoder { .. });
            match rate(backend, &config.embedding, against) {
                Ok(rate) if rate < SLOW => {
                    let mend = format!(
                        "try {name}:int8, or a smaller model; more cores and embedding.threads help too"
                    );
                    Finding::warning(what, format!("{rate:.0} short texts/s on {at}"), mend)
                }
                Ok(rate) => Finding::ok(what, format!("{rate:.0} short texts/s; {at}")),
                Err(problem) => {
                    Finding::missing(what, problem, "the model's files do not run: pull it again")
                }
            }
        }
    }
}

/// Texts that the configured threads embed in a second, after one run to warm up.
fn rate(
    backend: std::sync::Arc<dyn embed::Backend>,
    config: &Embedding,
    against: bool,
) -> Result<f64, String> {
    let service =
        EmbeddingService::with_backends(vec![backend], config).map_err(|error| error.to_string())?;
    let run = |texts: usize| {
        let (sender, done) = channel();
        let job = EmbedJob {
            model: 0,
            priority: Priority::Document,
            wants: Wants::Dense,
            against: against.then(|| "which invoice was paid twice".into()),
            texts: (0..texts).map(|number| format!("{number}. {TEXT}")).collect(),
            reply: Box::new(move |results| {
                // Who waited may have given up.
                let _ = sender.send(results.into_iter().find_map(Result::err));
            }),
        };
        service.submit(job).map_err(|_| "the queue is full".to_owned())?;
        match done.recv_timeout(WAIT) {
            Ok(None) => Ok(()),
            Ok(Some(problem)) => Err(problem),
            Err(_) => Err(format!("{texts} texts were not embedded within {WAIT:?}")),
        }
    };
    run(1)?;
    let begun = Instant::now();
    run(TEXTS)?;
    Ok(TEXTS as f64 / begun.elapsed().as_secs_f64().max(1e-9))
}
