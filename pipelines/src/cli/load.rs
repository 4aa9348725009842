//! `freshet load`

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use freshet::load::{Format, Loaded, Loading, Marks, Outcome};
use freshet_config::{Config, Connector as ConnectorConfig};
use freshet_operators::connect;
use freshet_schemas::DocumentSpec;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::{ConfigArgs, Failure, with_causes};

/// Refused rows of a file that are told; the others are counted.
const TOLD_MAX: u64 = 10;
/// Time between two looks at how far the load is.
const REFRESH: Duration = Duration::from_millis(100);

/// Options of `freshet load`.
#[derive(Args)]
pub(crate) struct LoadArgs {
    /// Files of documents: JSON Lines (.jsonl, .ndjson, .json), CSV (.csv, .tsv; names in the first line) or Parquet
    /// (.parquet). `-` reads JSON Lines from the standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    config: ConfigArgs,
    /// What the files are. Default: by the endings of their names.
    #[arg(long, value_enum)]
    format: Option<FormatName>,
    /// Documents topic that is written. Default: the only one.
    #[arg(long)]
    topic: Option<String>,
    /// Begin at the first row, also of a file whose load was interrupted.
    #[arg(long)]
    restart: bool,
    /// Most rows per second. Default: as many as the topic takes.
    #[arg(long, value_name = "ROWS", value_parser = rate)]
    rate: Option<f64>,
    /// Print what was loaded as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum FormatName {
    Jsonl,
    Csv,
    Tsv,
    Parquet,
}

impl From<FormatName> for Format {
    fn from(name: FormatName) -> Self {
        match name {
            FormatName::Jsonl => Self::JsonLines,
            FormatName::Csv => Self::Csv { delimiter: b',' },
            FormatName::Tsv => Self::Csv { delimiter: b'\t' },
            FormatName::Parquet => Self::Parquet,
        }
    }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().ok().filter(|rate| rate.is_finite() && *rate >= 0.001);
    rate.ok_or_else(|| "give a number of rows per second, at least 0.001".to_owned())
}

pub(crate) fn load(args: &LoadArgs) -> Result<(), Failure> {
    let config = args.config.load()?;
    let spec = spec(&config, args.topic.as_deref())?;
    let connector = connect::open(&config.connector, &config.pipeline.name)
        .map_err(|error| Failure::Run(with_causes(&error)))?;
    let topic = spec.source.topic.clone();
    let topic = topic.as_str();
    connector.prepare(&[], &[topic]).map_err(|error| Failure::Run(with_causes(&error)))?;
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    ctrlc::set_handler(move || stopped.store(true, Ordering::SeqCst))
        .map_err(|error| Failure::Run(with_causes(&error)))?;
    let loading = Loading {
        connector: &connector,
        topic,
        spec,
        types: config.payload.clone(),
        marks: marks(&config),
        restart: args.restart,
        rate: args.rate,
        stop,
    };
    let mut refused = 0;
    for file in &args.files {
        let (outcome, loaded) = one(args, &loading, file)?;
        refused += loaded.refused.load(Ordering::Relaxed);
        if !outcome.whole {
            let again = match loading.marks {
                Some(_) => "the same command goes on where this one was",
                None => "the next load begins at the first row",
            };
            return Err(Failure::Run(format!("{}: interrupted; {again}", file.display())));
        }
    }
    match refused {
        0 => Ok(()),
        _ => Err(Failure::Run(format!(
            "{refused} row(s) were not written: they are no documents of this configuration"
        ))),
    }
}

/// What rows must look like: documents of the topic that is named, or of the only one.
fn spec(config: &Config, topic: Option<&str>) -> Result<DocumentSpec, Failure> {
    let mut specs = config.document_specs(&Default::default());
    let known = config.topics.documents.known_names();
    let place = match topic {
        Some(name) => specs.iter().position(|spec| spec.source.topic == name),
        None => (specs.len() == 1).then_some(0),
    };
    let Some(place) = place else {
        let what = match topic {
            Some(name) => format!("--topic: \"{name}\" is no documents topic; known: {known}"),
            None => format!("--topic: there are several documents topics; choose one of {known}"),
        };
        return Err(Failure::Usage(what));
    };
    let spec = specs.swap_remove(place);
    match spec.key("") {
        Ok(_) => Ok(spec),
        Err(fault) => Err(Failure::Usage(fault.to_string())),
    }
}

/// Marks of loads into this system of topics.
fn marks(config: &Config) -> Option<Marks> {
    let system = match &config.connector {
        ConnectorConfig::Files { directory } => {
            let whole = directory.canonicalize().unwrap_or_else(|_| directory.clone());
            format!("files {}", whole.display())
        }
        ConnectorConfig::Kafka(kafka) => format!("kafka {}", kafka.bootstrap_servers),
    };
    Marks::usual_folder().map(|folder| Marks::new(folder, system))
}

fn one(args: &LoadArgs, loading: &Loading<'_>, file: &PathBuf) -> Result<(Outcome, Arc<Loaded>), Failure> {
    let loaded = Arc::new(Loaded::default());
    let begun = Instant::now();
    let bar = Bar::show(&loaded, &file.display().to_string());
    let (mut told, shown) = (0, bar.bar.clone());
    let mut tell = |row: u64, problem: &str| {
        told += 1;
        if told <= TOLD_MAX {
            shown.suspend(|| tell!("{}: row {row} is not written: {problem}", file.display()));
        } else if told == TOLD_MAX + 1 {
            shown.suspend(|| tell!("{}: further rows that are not written are counted", file.display()));
        }
    };
    let outcome = loading.file(file, args.format.map(Format::from), &loaded, &mut tell);
    bar.end();
    let outcome = outcome.map_err(|error| Failure::Run(with_causes(&error)))?;
    let (written, refused) = (loaded.written.load(Ordering::Relaxed), loaded.refused.load(Ordering::Relaxed));
    let seconds = begun.elapsed().as_secs_f64();
    if args.json {
        let told = json!({
            "file": file, "topic": loading.topic, "written": written, "refused": refused, "skipped": outcome.skipped,
            "whole": outcome.whole, "seconds": seconds,
        });
        say!("{told}");
    } else {
        let skipped = match outcome.skipped {
            0 => String::new(),
            rows => format!(", after {rows} rows that an earlier load has written"),
        };
        let rate = written as f64 / seconds.max(1e-9);
        say!(
            "{}: {written} documents written to \"{}\" in {seconds:.1} s ({rate:.0}/s){skipped}",
            file.display(),
            loading.topic
        );
    }
    Ok((outcome, loaded))
}

/// Shows how far a file is, on a terminal.
struct Bar {
    bar: ProgressBar,
    ended: Arc<AtomicBool>,
    shown: std::thread::JoinHandle<()>,
}

impl Bar {
    fn show(loaded: &Arc<Loaded>, name: &str) -> Self {
        let style = ProgressStyle::with_template("{prefix} [{bar:30}] {percent:>3} % · {msg} · {eta} left");
        // The template above is right; a default bar would do as well.
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new(0).with_style(style).with_prefix(name.to_owned());
        let ended = Arc::new(AtomicBool::new(false));
        let (look, until, drawn) = (Arc::clone(loaded), Arc::clone(&ended), bar.clone());
        let shown = std::thread::spawn(move || {
            let begun = Instant::now();
            while !until.load(Ordering::SeqCst) {
                let written = look.written.load(Ordering::Relaxed);
                let rate = written as f64 / begun.elapsed().as_secs_f64().max(1e-9);
                drawn.set_length(look.total.load(Ordering::Relaxed));
                drawn.set_position(look.done.load(Ordering::Relaxed));
                drawn.set_message(format!("{written} documents, {rate:.0}/s"));
                std::thread::park_timeout(REFRESH);
            }
        });
        Self { bar, ended, shown }
    }

    fn end(self) {
        self.ended.store(true, Ordering::SeqCst);
        self.shown.thread().unpark();
        // It draws, and cannot fail otherwise.
        let _ = self.shown.join();
        self.bar.finish_and_clear();
    }
}
