//! Name of a model → folder on this machine; and fetching from the hub, only when asked to.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hf_hub::api::Progress;
use hf_hub::api::sync::ApiBuilder;
use hf_hub::{Cache, Repo, RepoType};

use super::EmbedError;
use super::registry::{KnownModel, MODELS, known};

/// A model's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// The folder.
    pub folder: PathBuf,
    /// Which of the places it is, for people.
    pub place: &'static str,
}

/// Finds the folder of a model; never asks the network.
///
/// The order: `[models]` of the configuration (`folders`), the name taken as a path, `$FRESHET_MODELS/NAME`,
/// `vendor/models/NAME` in the executable's folder, its three parents and the current folder, then the Hugging Face
/// cache (`$HF_HOME`) for names of the registry. A folder named in the configuration is not replaced by another place
/// if it is missing.
pub fn locate(name: &str, folders: &BTreeMap<String, PathBuf>) -> Result<Located, EmbedError> {
    let mut looked = Vec::new();
    let found = |folder: PathBuf, place| Ok(Located { folder, place });
    if let Some(folder) = folders.get(name) {
        if folder.is_dir() {
            return found(folder.clone(), "configuration");
        }
        looked.push(format!("{} ([models] of the configuration)", folder.display()));
        let hint = format!("correct [models].\"{name}\" or make the folder");
        return Err(EmbedError::NotFound { name: name.to_owned(), looked, hint });
    }
    if is_path(name) {
        if Path::new(name).is_dir() {
            return found(PathBuf::from(name), "path");
        }
        looked.push(name.to_owned());
    }
    let short = known(name).map_or(name, |model| model.name);
    match std::env::var_os("FRESHET_MODELS").filter(|folder| !folder.is_empty()) {
        Some(models) => {
            let folder = PathBuf::from(models).join(short);
            if folder.is_dir() {
                return found(folder, "FRESHET_MODELS");
            }
            looked.push(folder.display().to_string());
        }
        None => looked.push(format!("$FRESHET_MODELS/{short} (FRESHET_MODELS is not set)")),
    }
    for root in roots() {
        let folder = root.join("vendor/models").join(short);
        if folder.is_dir() {
            return found(folder, "vendor/models");
        }
        looked.push(folder.display().to_string());
    }
    let Some(model) = known(name) else {
        let names: Vec<&str> = MODELS.iter().map(|model| model.name).collect();
        let hint = format!(
            "known names: {}, hashing-N; for another model give its folder in [models] of the configuration",
            names.join(", ")
        );
        return Err(EmbedError::NotFound { name: name.to_owned(), looked, hint });
    };
    match cached(model) {
        Ok(folder) => found(folder, "Hugging Face cache"),
        Err(place) => {
            looked.push(place);
            let hint = format!("run scripts/setup.sh, or `freshet models pull {short}`");
            Err(EmbedError::NotFound { name: name.to_owned(), looked, hint })
        }
    }
}

/// Fetches a model of the registry into the Hugging Face cache and returns its folder; blocks. Files that are there
/// are not fetched again. `progress` makes the display of one file. Refuses if `HF_HUB_OFFLINE` is set.
pub fn pull<P: Progress>(name: &str, mut progress: impl FnMut(&str) -> P) -> Result<PathBuf, EmbedError> {
    let refuse = |file: &str, reason: String| EmbedError::Fetch {
        name: name.to_owned(),
        file: file.to_owned(),
        reason,
    };
    let Some(model) = known(name) else {
        let names: Vec<&str> = MODELS.iter().map(|model| model.name).collect();
        return Err(refuse("", format!("the name is not known; known names: {}", names.join(", "))));
    };
    if offline() {
        return Err(refuse(model.file, "HF_HUB_OFFLINE is set; unset it to fetch from the hub".to_owned()));
    }
    let Some(cache) = cache() else {
        return Err(refuse(model.file, "there is no home folder; set HF_HOME to a folder for the cache".to_owned()));
    };
    let api = ApiBuilder::from_env().with_progress(false).build().map_err(|e| refuse(model.file, e.to_string()))?;
    let remote = api.model(model.repository.to_owned());
    for (file, needed) in model.files() {
        if repository(&cache, model).get(file).is_some() {
            continue;
        }
        if let Err(error) = remote.download_with_progress(file, progress(file))
            && needed
        {
            let hint = "check the network and HF_ENDPOINT, or put the files into $FRESHET_MODELS by hand";
            return Err(refuse(file, format!("{error} ({}); {hint}", remote.url(file))));
        }
    }
    cached(model).map_err(|place| refuse(model.file, format!("fetched, and yet not in {place}")))
}

/// Folders beside which `vendor/` may stand: the executable's, its three parents (a binary in `target/release/deps`
/// belongs to the folder of `target`), the current one. In the order of looking, each once.
pub(super) fn roots() -> Vec<PathBuf> {
    let mut roots: Vec<PathBuf> = Vec::new();
    let executable = std::env::current_exe().ok();
    let near = executable.iter().flat_map(|path| path.ancestors().skip(1).take(4).map(Path::to_path_buf));
    for root in near.chain(std::env::current_dir().ok()) {
        if !roots.contains(&root) {
            roots.push(root);
        }
    }
    roots
}

/// Whether a name is meant as a path: it is absolute, starts with a dot, or leads to a folder through a separator.
fn is_path(name: &str) -> bool {
    let path = Path::new(name);
    path.is_absolute() || name.starts_with('.') || (path.components().count() > 1 && path.is_dir())
}

fn offline() -> bool {
    std::env::var("HF_HUB_OFFLINE").is_ok_and(|value| !matches!(value.to_lowercase().as_str(), "" | "0" | "false" | "no"))
}

/// The Hugging Face cache; `None` where there is neither `$HF_HOME` nor a home folder.
fn cache() -> Option<Cache> {
    let somewhere = std::env::var_os("HF_HOME").is_some() || std::env::home_dir().is_some();
    somewhere.then(Cache::from_env)
}

fn repository(cache: &Cache, model: &KnownModel) -> hf_hub::CacheRepo {
    cache.repo(Repo::new(model.repository.to_owned(), RepoType::Model))
}

/// The snapshot that holds the model file, or the place where it would be.
fn cached(model: &KnownModel) -> Result<PathBuf, String> {
    let Some(cache) = cache() else {
        return Err("the Hugging Face cache (neither HF_HOME nor a home folder)".to_owned());
    };
    let place = || format!("{}/models--{} (Hugging Face cache)", cache.path().display(), model.repository.replace('/', "--"));
    let file = repository(&cache, model).get(model.file).ok_or_else(place)?;
    // The file stands in the snapshot under its path in the repository.
    let depth = Path::new(model.file).components().count();
    file.ancestors().nth(depth).map(Path::to_path_buf).ok_or_else(place)
}
