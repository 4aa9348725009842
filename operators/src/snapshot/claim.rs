//! Who writes to a store: one run of one pipeline.
//!
//! Each run that writes takes the next number: `owners/NUMBER.json`, which a store gives away once. The greatest number
//! owns the store; a run that sees a greater one than its own writes nothing any more, and removes nothing.

use serde::{Deserialize, Serialize};

use super::store::Store;
use super::{OtherOwner, SnapshotError};
use crate::clock;

/// Folder of the claims.
const OWNERS: &str = "owners";
/// Claims that are tried before others are said to be faster.
const TRIES: usize = 16;

/// The right of a run to write to a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    number: u64,
    owner: Owner,
}

/// A run that writes to a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Owner {
    /// Name of the pipeline.
    pipeline: String,
    /// A name that no run before had.
    run: String,
    /// When it began, for people.
    since: String,
}

impl Claim {
    /// Makes a run of a pipeline the owner of a store. A run that was it before writes nothing from now on.
    ///
    /// # Errors
    /// The store refusing, or belonging to another pipeline.
    pub fn take(store: &Store, pipeline: &str) -> Result<Self, SnapshotError> {
        let now = clock::now_us();
        let since = super::name(now / 1_000);
        // Two processes may begin in the same microsecond.
        let run = format!("{now:x}{:x}", std::process::id());
        let owner = Owner { pipeline: pipeline.to_owned(), run, since };
        let text = serde_json::to_vec(&owner).map_err(|error| SnapshotError::Broken {
            path: OWNERS.to_owned(),
            what: format!("cannot be written as JSON: {error}"),
        })?;
        for _ in 0..TRIES {
            let numbers = numbers(store)?;
            let last = numbers.last().copied();
            if let Some(other) = last.map(|last| read(store, last)).transpose()?.flatten()
                && other.pipeline != pipeline
            {
                return Err(other.owns(store, last.unwrap_or(0), pipeline));
            }
            let number = last.map_or(0, |last| last + 1);
            if store.put_new(&path(number), text.clone())?.is_some() {
                for old in numbers {
                    store.delete(&path(old))?;
                }
                return Ok(Self { number, owner });
            }
        }
        Err(SnapshotError::Store {
            what: format!("cannot claim {}", store.url()),
            cause: "other runs that begin now are faster, again and again".to_owned(),
            advice: "let one pipeline write to a store".to_owned(),
        })
    }

    /// Whether the store is still this run's.
    ///
    /// # Errors
    /// Another run owning it, or the store refusing.
    pub fn check(&self, store: &Store) -> Result<(), SnapshotError> {
        let Some(last) = numbers(store)?.last().copied().filter(|last| *last > self.number) else {
            return Ok(());
        };
        match read(store, last)? {
            Some(other) => Err(other.owns(store, last, &self.owner.pipeline)),
            // It has been followed by another one since: whoever that is, it is not this run.
            None => self.check(store),
        }
    }

    /// Name of the run.
    pub fn run(&self) -> &str {
        &self.owner.run
    }

    /// Name of the pipeline.
    pub fn pipeline(&self) -> &str {
        &self.owner.pipeline
    }
}

impl Owner {
    fn owns(self, store: &Store, number: u64, ours: &str) -> SnapshotError {
        let advice = if self.pipeline == ours {
            "stop one of the two".to_owned()
        } else {
            format!(
                "this pipeline is \"{ours}\": give it a store of its own, such as {}/{ours}; to hand the store over, \
                 stop the other one and remove \"{}\"",
                store.url().trim_end_matches('/'),
                path(number)
            )
        };
        let Self { pipeline, run, since } = self;
        let owner = OtherOwner { store: store.url().to_owned(), pipeline, run, since, advice };
        SnapshotError::Owned(Box::new(owner))
    }
}

fn path(number: u64) -> String {
    format!("{OWNERS}/{number:012}.json")
}

/// Numbers of the claims, ascending.
fn numbers(store: &Store) -> Result<Vec<u64>, SnapshotError> {
    let number =
        |path: &String| path.strip_prefix(OWNERS)?.strip_prefix('/')?.strip_suffix(".json")?.parse().ok();
    let mut numbers: Vec<u64> = store.files(OWNERS)?.iter().filter_map(number).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// A claim, unless it has been removed meanwhile.
fn read(store: &Store, number: u64) -> Result<Option<Owner>, SnapshotError> {
    let path = path(number);
    let text = match store.get(&path) {
        Ok(text) => text,
        Err(SnapshotError::Broken { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let owner = serde_json::from_slice(&text);
    let wrong = |error| SnapshotError::Broken { path, what: format!("is not a claim: {error}; remove it") };
    owner.map(Some).map_err(wrong)
}
