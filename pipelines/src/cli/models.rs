//! `freshet models`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use comfy_table::{Table, presets};
use freshet_config::LANGUAGES;
use freshet_operators::embed::registry::{KnownModel, MODELS};
use freshet_operators::embed::{Head, Progress, locate, pull};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::{Failure, with_causes};

/// What to do with models.
#[derive(Subcommand)]
pub(crate) enum ModelsCommand {
    /// List the models that are known by name: what they give, and their size on this machine, if they are here.
    List {
        /// Print the list as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Fetch a model from the Hugging Face hub into its usual cache (HF_HOME; refuses if HF_HUB_OFFLINE is set).
    Pull {
        /// Name or repository; NAME:int8 for the small variant, NAME@REVISION for a commit, tag or branch.
        name: String,
    },
}

pub(crate) fn models(command: &ModelsCommand) -> Result<(), Failure> {
    match command {
        ModelsCommand::List { json: true } => say!("{:#}", json_list()),
        ModelsCommand::List { json: false } => say!("{}", list()),
        ModelsCommand::Pull { name } => {
            let folder = pull(name, Bar::new).map_err(|error| Failure::Run(with_causes(&error)))?;
            say!("{name}: {}", folder.display());
        }
    }
    Ok(())
}

/// All models, with what is unknown or does not apply as null.
fn json_list() -> Value {
    let model = |model: &KnownModel| {
        let located = locate(model.name, &BTreeMap::new()).ok();
        json!({
            "name": model.name,
            "kind": model.head.name(),
            "dim": (!matches!(model.head, Head::CrossEncoder { .. })).then_some(model.dim),
            "tokens_max": model.max_tokens,
            "megabytes": model.weights.megabytes,
            "megabytes_int8": model.int8.map(|weights| weights.megabytes),
            "license": model.license,
            "languages": model.languages,
            "repository": model.weights.repository,
            "folder": located.as_ref().map(|located| &located.folder),
            "bytes_here": located.as_ref().map(|located| bytes(&located.folder)),
        })
    };
    let bm25 = json!({
        "name": "bm25", "kind": "sparse", "dim": null, "tokens_max": null, "megabytes": 0, "megabytes_int8": null,
        "license": null, "languages": LANGUAGES, "repository": null, "folder": null, "bytes_here": 0,
    });
    MODELS.iter().map(model).chain([bm25]).collect()
}

fn list() -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header([
        "name",
        "kind",
        "dim",
        "tokens",
        "MB (int8)",
        "licence",
        "languages",
        "source",
        "here",
    ]);
    for model in MODELS.iter() {
        let here = match locate(model.name, &BTreeMap::new()) {
            Ok(located) => size_here(&located.folder),
            Err(_) => "–".to_owned(),
        };
        let dim = match model.head {
            Head::Sparse => format!("{} words", model.dim),
            Head::CrossEncoder { .. } => "–".to_owned(),
            Head::Dense { .. } | Head::LateInteraction(_) => model.dim.to_string(),
        };
        let int8 = model.int8.map(|weights| format!(" ({})", weights.megabytes));
        table.add_row([
            model.name.to_owned(),
            model.head.name().to_owned(),
            dim,
            model.max_tokens.to_string(),
            format!("{}{}", model.weights.megabytes, int8.unwrap_or_default()),
            model.license.to_owned(),
            model.languages.to_owned(),
            model.weights.repository.to_owned(),
            here,
        ]);
    }
    let languages = format!("{}, by Snowball", LANGUAGES.len());
    table.add_row(["bm25", "sparse", "open", "any", "0", "–", languages.as_str(), "built in", "0 MB"]);
    table
}

/// Bytes of the files of a folder; links lead to where the hub's cache keeps them.
fn bytes(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let size = |path: PathBuf| match std::fs::metadata(&path) {
        Ok(found) if found.is_dir() => bytes(&path),
        Ok(found) => found.len(),
        Err(_) => 0,
    };
    entries.map(|entry| size(entry.path())).sum()
}

fn size_here(folder: &Path) -> String {
    format!("{} MB", bytes(folder).div_ceil(1_000_000))
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
