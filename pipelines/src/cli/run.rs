//! `freshet run`

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::Args;
use freshet::collections::{self, Collections};
use freshet::http::Server;
use freshet::run::{Progress, Until, run as run_pipeline};
use freshet::setup::Setup;
use freshet_config::Connector as ConnectorConfig;
use freshet_operators::connect::{self, Files};
use freshet_operators::control::Control;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::{ConfigArgs, Failure, with_causes};

/// Options of `freshet run`.
#[derive(Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Stop when everything present at the start is indexed and answered.
    #[arg(long)]
    until_caught_up: bool,
    /// Worker threads. Default: `pipeline.workers`.
    #[arg(long, value_name = "N")]
    workers: Option<std::num::NonZeroUsize>,
}

pub(crate) fn run(args: &RunArgs) -> Result<(), Failure> {
    let mut config = args.config.load()?;
    config.pipeline.workers = args.workers.unwrap_or(config.pipeline.workers);
    let connector = connect::open(&config.connector, &config.pipeline.name)
        .map_err(|error| Failure::Run(with_causes(&error)))?;
    let _lock = match &config.connector {
        ConnectorConfig::Files { directory } => {
            let lock = Files::new(directory, &config.pipeline.name)
                .try_lock()
                .map_err(|error| Failure::Run(with_causes(&error)))?;
            let held = "another pipeline runs in this directory; stop it first, or use another directory";
            Some(lock.ok_or_else(|| Failure::Run(format!("{}: {held}", directory.display())))?)
        }
        ConnectorConfig::Kafka(_) => None,
    };
    let setup = Setup::load(config).map_err(|error| Failure::Usage(with_causes(&error)))?;
    let setup = setup.with_traces().map_err(|error| Failure::Run(with_causes(&error)))?.with_gateway();
    let control = Arc::new(Control::default());
    let collections = setup.config.collections.enabled.then(|| {
        let open = collections::opener(&setup.config.connector);
        Collections::open(&setup, open).map_err(|error| Failure::Run(with_causes(&error)))
    });
    let collections = collections.transpose()?;
    let http = setup
        .config
        .http
        .as_ref()
        .map(|http| Server::with_collections(http, &setup, &connector, &control, collections.clone()));
    let http = http.transpose().map_err(|error| Failure::Run(with_causes(&error)))?;
    if let Some(server) = &http {
        let scheme =
            if setup.config.http.as_ref().is_some_and(|http| http.tls.is_some()) { "https" } else { "http" };
        tell!("listening on {scheme}://{}", server.address());
    }
    stop_on_signal(&control, collections.clone())?;
    cut_on_signal(&control, collections.clone())?;
    let progress = Arc::new(Progress::default());
    let until = if args.until_caught_up { Until::CaughtUp } else { Until::Stopped };
    let shown = show(&progress, &control, until);
    let result = run_pipeline(setup, connector, until, &control, &progress);
    control.stop();
    drop(http);
    if let Some(collections) = collections {
        collections.finish();
    }
    shown.join().ok();
    let (documents, queries) = (&progress.documents, &progress.queries);
    let (documents, queries) = (documents.load(Ordering::Relaxed), queries.load(Ordering::Relaxed));
    tell!("{documents} document records indexed, {queries} queries settled");
    result.map_err(|error| Failure::Run(with_causes(&error)))
}

/// The first signal drains; a second one stops at once.
fn stop_on_signal(control: &Arc<Control>, collections: Option<Arc<Collections>>) -> Result<(), Failure> {
    let control = Arc::clone(control);
    let handler = move || {
        if control.running() {
            tell!("stopping: queries in flight are answered first; press Ctrl-C again to stop at once");
            control.drain();
            collections.iter().for_each(|collections| collections.drain());
        } else {
            control.stop();
            collections.iter().for_each(|collections| collections.stop());
        }
    };
    ctrlc::set_handler(handler).map_err(|error| Failure::Run(with_causes(&error)))
}

/// SIGUSR1 asks for a snapshot at once, of the pipeline and of each collection; its name is told when it is whole.
fn cut_on_signal(control: &Arc<Control>, collections: Option<Arc<Collections>>) -> Result<(), Failure> {
    let control = Arc::clone(control);
    let failed = |error: std::io::Error| Failure::Run(with_causes(&error));
    let mut signals = signal_hook::iterator::Signals::new([signal_hook::consts::SIGUSR1]).map_err(failed)?;
    let tell = move || {
        // Ends with the process.
        for _ in signals.forever() {
            let own = (String::new(), control.cut_now());
            let others = collections.iter().flat_map(|collections| collections.cut_now());
            // All are asked before one is waited for.
            let asked: Vec<_> = std::iter::once(own).chain(others).collect();
            for (name, outcome) in asked {
                let of = if name.is_empty() { name } else { format!(" of collection {name}") };
                match outcome.recv() {
                    Ok(Ok(manifest)) => {
                        tell!("snapshot {}{of} written, {} documents", manifest.id, manifest.documents)
                    }
                    Ok(Err(problem)) => tell!("no snapshot{of}: {problem}"),
                    Err(_) => tell!("no snapshot{of}: the run ends"),
                }
            }
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(tell).map(drop).map_err(failed)
}

const REFRESH: Duration = Duration::from_millis(100);

/// Shows progress on a terminal until the run ends.
pub(crate) fn show(
    progress: &Arc<Progress>,
    control: &Arc<Control>,
    until: Until,
) -> std::thread::JoinHandle<()> {
    let (progress, control) = (Arc::clone(progress), Arc::clone(control));
    std::thread::spawn(move || {
        let bars = MultiProgress::new();
        let template = match until {
            Until::CaughtUp => "{prefix:>10} [{bar:30}] {pos}/{len} · {per_sec}",
            Until::Stopped => "{prefix:>10} {pos} · {per_sec}",
        };
        // The templates above are right; a default bar would do as well.
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar =
            |name: &'static str| bars.add(ProgressBar::new(0).with_style(style.clone()).with_prefix(name));
        let (documents, queries) = (bar("documents"), bar("queries"));
        let number =
            |value: &std::sync::atomic::AtomicI64| u64::try_from(value.load(Ordering::Relaxed)).unwrap_or(0);
        while !control.stopping() {
            documents.set_length(number(&progress.documents_end).max(number(&progress.documents)));
            documents.set_position(number(&progress.documents));
            queries.set_length(number(&progress.queries_end).max(number(&progress.queries)));
            queries.set_position(number(&progress.queries));
            std::thread::park_timeout(REFRESH);
        }
        documents.finish_and_clear();
        queries.finish_and_clear();
    })
}
