//! How far files are written, for a load that goes on where an earlier one was interrupted.

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::Place;

/// A folder of marks, one per file and topic.
#[derive(Clone, Debug)]
pub struct Marks {
    folder: PathBuf,
    /// System of topics, so that one file can be loaded into several.
    system: String,
}

/// A mark, with what tells whether the file is still the one that was read.
#[derive(Serialize, Deserialize)]
struct Mark {
    file: PathBuf,
    bytes: u64,
    modified_us: u64,
    topic: String,
    place: Place,
}

impl Marks {
    /// Marks in a folder, which is made when there is something to keep. `system` names where topics are.
    pub fn new(folder: PathBuf, system: String) -> Self {
        Self { folder, system }
    }

    /// The folder where marks are kept by custom: `$XDG_STATE_HOME/freshet/load`, or below `~/.local/state`.
    pub fn usual_folder() -> Option<PathBuf> {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let state = set("XDG_STATE_HOME").or_else(|| Some(set("HOME")?.join(".local/state")));
        Some(state?.join("freshet/load"))
    }

    /// Where a load goes on: `None` where none was interrupted, or the file has changed since.
    pub(super) fn of(&self, file: &Path, topic: &str) -> Option<Place> {
        let (path, bytes, modified_us) = facts(file)?;
        let text = std::fs::read(self.path(&path, topic)).ok()?;
        let mark: Mark = serde_json::from_slice(&text).ok()?;
        let same = mark.file == path
            && mark.topic == topic
            && (mark.bytes, mark.modified_us) == (bytes, modified_us);
        same.then_some(mark.place)
    }

    /// Keeps a mark. What cannot be kept is logged: the load goes on without.
    pub(super) fn put(&self, file: &Path, topic: &str, place: Place) {
        let Some((path, bytes, modified_us)) = facts(file) else { return };
        let to = self.path(&path, topic);
        let mark = Mark { file: path, bytes, modified_us, topic: topic.to_owned(), place };
        let new = to.with_extension("new");
        let kept = std::fs::create_dir_all(&self.folder)
            .and_then(|()| std::fs::write(&new, serde_json::to_vec(&mark)?))
            .and_then(|()| std::fs::rename(&new, &to));
        if let Err(error) = kept {
            tracing::warn!(%error, path = %to.display(), "how far the load is cannot be kept");
        }
    }

    /// The file is written whole.
    pub(super) fn remove(&self, file: &Path, topic: &str) {
        let Some((path, ..)) = facts(file) else { return };
        // There need not have been one.
        let _ = std::fs::remove_file(self.path(&path, topic));
    }

    fn path(&self, file: &Path, topic: &str) -> PathBuf {
        let name = format!("{}\n{}\n{topic}", self.system, file.display());
        self.folder.join(format!("{:016x}.json", xxh3_64(name.as_bytes())))
    }
}

/// Whole path, size, and time of the last change; `None` for what is no file.
fn facts(file: &Path) -> Option<(PathBuf, u64, u64)> {
    let path = file.canonicalize().ok()?;
    let found = std::fs::metadata(&path).ok().filter(std::fs::Metadata::is_file)?;
    let modified = found.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some((path, found.len(), u64::try_from(modified.as_micros()).ok()?))
}
