//! `freshet models`

use std::collections::BTreeMap;

use clap::Subcommand;
use comfy_table::{Table, presets};
use freshet_operators::embed::registry::MODELS;
use freshet_operators::embed::{Progress, locate, pull};
use indicatif::{ProgressBar, ProgressStyle};

use super::{Failure, with_causes};

/// What to do with models.
#[derive(Subcommand)]
pub(crate) enum ModelsCommand {
    /// List the models that are known by name, and where each is on this machine.
    List,
    /// Fetch a model from the Hugging Face hub into its usual cache (HF_HOME; refuses if HF_HUB_OFFLINE is set).
    Pull {
        /// Name or repository.
        name: String,
    },
}

#[allow(clippy::print_stdout, reason = "the result of the command")]
pub(crate) fn models(command: &ModelsCommand) -> Result<(), Failure> {
    match command {
        ModelsCommand::List => println!("{}", list()),
        ModelsCommand::Pull { name } => {
            let folder = pull(name, Bar::new).map_err(|error| Failure::Run(with_causes(&error)))?;
            println!("{name}: {}", folder.display());
        }
    }
    Ok(())
}

fn list() -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(["name", "source", "dimension", "MB to fetch", "licence", "here"]);
    for model in MODELS {
        let here = match locate(model.name, &BTreeMap::new()) {
            Ok(located) => located.folder.display().to_string(),
            Err(_) => format!("no: freshet models pull {}", model.name),
        };
        let numbers = [model.dim.to_string(), model.megabytes.to_string()];
        let [dim, megabytes] = numbers;
        table.add_row([
            model.name,
            model.repository,
            dim.as_str(),
            megabytes.as_str(),
            model.license,
            here.as_str(),
        ]);
    }
    table
}

/// The progress of one file.
struct Bar(ProgressBar);

impl Bar {
    fn new(file: &str) -> Self {
        let style = ProgressStyle::with_template(
            "{msg:>24} [{bar:30}] {bytes}/{total_bytes} · {bytes_per_sec} · {eta}",
        );
        // The template above is right; a default bar would do as well.
        let bar = ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self(bar.with_message(file.to_owned()))
    }
}

impl Progress for Bar {
    fn init(&mut self, size: usize, _filename: &str) {
        self.0.set_length(size as u64);
    }

    fn update(&mut self, size: usize) {
        self.0.inc(size as u64);
    }

    fn finish(&mut self) {
        self.0.finish();
    }
}
