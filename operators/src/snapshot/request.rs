//! Requests for a cut, put into the store by who cannot reach the pipeline otherwise: `requests/ID.json`.

use super::SnapshotError;
use super::store::Store;
use crate::clock;

/// Folder of the requests.
const REQUESTS: &str = "requests";

/// A request that stands in the store until the pipeline has made a cut since, or it is taken back.
#[derive(Debug)]
pub struct Request {
    path: String,
}

impl Request {
    /// Asks for a cut.
    ///
    /// # Errors
    /// The store refusing.
    pub fn put(store: &Store) -> Result<Self, SnapshotError> {
        let now = clock::now_us();
        let path = format!("{REQUESTS}/{now:x}-{:x}.json", std::process::id());
        let text = serde_json::json!({ "asked_at": super::name(now / 1_000) }).to_string();
        store.put(&path, text.into_bytes())?;
        Ok(Self { path })
    }

    /// Whether it still waits.
    ///
    /// # Errors
    /// The store refusing.
    pub fn waits(&self, store: &Store) -> Result<bool, SnapshotError> {
        match store.size(&self.path) {
            Ok(_) => Ok(true),
            Err(SnapshotError::Broken { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Takes it back.
    ///
    /// # Errors
    /// The store refusing.
    pub fn take_back(self, store: &Store) -> Result<(), SnapshotError> {
        store.delete(&self.path)
    }
}

/// Paths of the requests that wait.
pub(super) fn waiting(store: &Store) -> Result<Vec<String>, SnapshotError> {
    let mut paths = store.files(REQUESTS)?;
    paths.retain(|path| path.ends_with(".json"));
    Ok(paths)
}
