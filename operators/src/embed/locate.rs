//! Name of a model → folder on this machine; and fetching from the hub, only when asked to.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use hf_hub::api::Progress;
use hf_hub::api::sync::ApiBuilder;
use hf_hub::{Cache, Repo, RepoType};
use sha2::{Digest, Sha256};

use super::EmbedError;
use super::registry::{Known, MODELS, Weights, known};

/// A model's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// The folder.
    pub folder: PathBuf,
    /// Which of the places it is, for people.
    pub place: &'static str,
}

/// Where models are looked for, besides the configuration.
#[derive(Clone)]
pub(super) struct Places {
    /// `$FRESHET_MODELS`, if set.
    pub(super) models: Option<PathBuf>,
    /// Folders that may hold `vendor/models`.
    pub(super) roots: Vec<PathBuf>,
    /// The Hugging Face cache; `None` where there is neither `$HF_HOME` nor a home folder.
    pub(super) cache: Option<Cache>,
    /// Address of the hub, if it is not the public one.
    pub(super) endpoint: Option<String>,
    /// Whether the hub may not be asked.
    pub(super) offline: bool,
}

impl Places {
    /// As the process's environment says.
    pub(super) fn of_process() -> Self {
        let home = std::env::var_os("HF_HOME").is_some() || std::env::home_dir().is_some();
        let off = |value: &str| matches!(value.to_lowercase().as_str(), "" | "0" | "false" | "no");
        Self {
            models: std::env::var_os("FRESHET_MODELS").filter(|folder| !folder.is_empty()).map(PathBuf::from),
            roots: roots(),
            cache: home.then(Cache::from_env),
            endpoint: std::env::var("HF_ENDPOINT").ok().filter(|address| !address.is_empty()),
            offline: std::env::var("HF_HUB_OFFLINE").is_ok_and(|value| !off(&value)),
        }
    }
}

/// Finds the folder of a model; never asks the network.
///
/// The order: `[models]` of the configuration (`folders`), the name taken as a path, `$FRESHET_MODELS/NAME`,
/// `vendor/models/NAME` in the executable's folder, its three parents and the current folder, then the Hugging Face
/// cache (`$HF_HOME`) for names of the registry. A folder named in the configuration is not replaced by another place
/// if it is missing.
pub fn locate(name: &str, folders: &BTreeMap<String, PathBuf>) -> Result<Located, EmbedError> {
    locate_in(name, folders, &Places::of_process())
}

pub(super) fn locate_in(
    name: &str,
    folders: &BTreeMap<String, PathBuf>,
    places: &Places,
) -> Result<Located, EmbedError> {
    let missing = |looked, hint| EmbedError::NotFound { name: name.to_owned(), looked, hint };
    if let Some(folder) = folders.get(name) {
        if folder.is_dir() {
            return Ok(Located { folder: folder.clone(), place: "configuration" });
        }
        let looked = vec![format!("{} ([models] of the configuration)", folder.display())];
        return Err(missing(looked, format!("correct [models].\"{name}\", or make the folder")));
    }
    let short = known(name).map_or(name, |known| known.model.name);
    let mut candidates: Vec<(PathBuf, &'static str)> = Vec::new();
    if is_path(name) {
        candidates.push((PathBuf::from(name), "path"));
    }
    candidates.extend(places.models.iter().map(|models| (models.join(short), "FRESHET_MODELS")));
    candidates
        .extend(places.roots.iter().map(|root| (root.join("vendor/models").join(short), "vendor/models")));
    if let Some((folder, place)) = candidates.iter().find(|(folder, _)| folder.is_dir()) {
        return Ok(Located { folder: folder.clone(), place });
    }
    let mut looked: Vec<String> = candidates.iter().map(|(folder, _)| folder.display().to_string()).collect();
    if places.models.is_none() {
        looked.insert(0, format!("$FRESHET_MODELS/{short} (FRESHET_MODELS is not set)"));
    }
    let Some(known) = known(name) else {
        let hint = "for a model of your own give its folder in [models] of the configuration";
        return Err(missing(looked, format!("known names: {}, hashing-N; {hint}", known_names())));
    };
    match cached(known, places) {
        Ok(folder) => Ok(Located { folder, place: "Hugging Face cache" }),
        Err(place) => {
            looked.push(place);
            Err(missing(looked, format!("run scripts/setup.sh, or `freshet models pull {short}`")))
        }
    }
}

/// Fetches a model of the registry into the Hugging Face cache and returns its folder; blocks. Files that are there
/// are not fetched again. `progress` makes the display of one file. Refuses if `HF_HUB_OFFLINE` is set.
pub fn pull<P: Progress>(name: &str, progress: impl FnMut(&str) -> P) -> Result<PathBuf, EmbedError> {
    pull_into(name, progress, &Places::of_process())
}

pub(super) fn pull_into<P: Progress>(
    name: &str,
    mut progress: impl FnMut(&str) -> P,
    places: &Places,
) -> Result<PathBuf, EmbedError> {
    let refuse =
        |file: &str, reason| EmbedError::Fetch { name: name.to_owned(), file: file.to_owned(), reason };
    let Some(known) = known(name) else {
        return Err(refuse("", format!("the name is not known; known names: {}", known_names())));
    };
    let main = known.weights.file;
    if places.offline {
        return Err(refuse(main, "HF_HUB_OFFLINE is set; unset it to fetch from the hub".to_owned()));
    }
    let Some(cache) = &places.cache else {
        return Err(refuse(
            main,
            "there is no home folder; set HF_HOME to a folder for the cache".to_owned(),
        ));
    };
    let mut api = ApiBuilder::from_cache(cache.clone()).with_progress(false);
    if let Some(endpoint) = &places.endpoint {
        api = api.with_endpoint(endpoint.clone());
    }
    let remote = api.build().map_err(|e| refuse(main, e.to_string()))?.repo(repository(known));
    let here = cache.repo(repository(known));
    for (file, needed) in known.weights.files() {
        if here.get(file).is_some() {
            continue;
        }
        match remote.download_with_progress(file, progress(file)) {
            Ok(path) => check(&path).map_err(|reason| refuse(file, reason))?,
            Err(error) if needed => {
                let hint = "check the network and HF_ENDPOINT, or put the files into $FRESHET_MODELS by hand";
                return Err(refuse(file, format!("{error} ({}); {hint}", remote.url(file))));
            }
            Err(_) => {}
        }
    }
    cached(known, places).map_err(|place| refuse(main, format!("fetched, and yet not in {place}")))
}

/// Compares a file with what the hub says of it: large files are known by their SHA-256, under which the cache keeps
/// them. A file that differs is removed.
fn check(path: &Path) -> Result<(), String> {
    let blob = path.canonicalize().map_err(|error| error.to_string())?;
    let name = blob.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if name.len() != 64 || !name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(());
    }
    let mut hash = Sha256::new();
    let mut file = File::open(&blob).map_err(|error| error.to_string())?;
    std::io::copy(&mut file, &mut hash).map_err(|error| error.to_string())?;
    let found = format!("{:x}", hash.finalize());
    if found == name {
        return Ok(());
    }
    // What cannot be removed is refused again next time.
    let _ = std::fs::remove_file(path).and_then(|()| std::fs::remove_file(&blob));
    Err(format!("its SHA-256 is {found}, the hub says {name}; removed, try again"))
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

fn known_names() -> String {
    MODELS.iter().map(|model| model.name).collect::<Vec<_>>().join(", ")
}

fn repository(known: Known<'_>) -> Repo {
    let name = known.weights.repository.to_owned();
    match known.revision {
        Some(revision) => Repo::with_revision(name, RepoType::Model, revision.to_owned()),
        None => Repo::new(name, RepoType::Model),
    }
}

/// The snapshot that holds the model file, or the place where it would be.
fn cached(known: Known<'_>, places: &Places) -> Result<PathBuf, String> {
    let Some(cache) = &places.cache else {
        return Err("the Hugging Face cache (neither HF_HOME nor a home folder)".to_owned());
    };
    let Weights { repository: name, file, .. } = *known.weights;
    let folder = format!("models--{}", name.replace('/', "--"));
    let place = || format!("{} (Hugging Face cache)", cache.path().join(&folder).display());
    let found = cache.repo(repository(known)).get(file).ok_or_else(place)?;
    // The file stands in the snapshot under its path in the repository.
    let depth = Path::new(file).components().count();
    found.ancestors().nth(depth).map(Path::to_path_buf).ok_or_else(place)
}
