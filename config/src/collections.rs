//! `[collections]`: pipelines that are made while the process runs.

use std::num::NonZeroUsize;

use crate::section::Section;

/// `[collections]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Collections {
    /// `enabled`: whether the server speaks Qdrant's protocol, and makes collections. Needs `[http]`. Default false.
    pub enabled: bool,
    /// `max`: most collections, the pipeline of the configuration not counted. Default 64.
    pub max: NonZeroUsize,
    /// `workers`: worker threads of each collection. Default 1.
    pub workers: NonZeroUsize,
}

/// Most collections, and most threads of one: more are slips of the keyboard.
const COUNT_MAX: usize = 4096;

pub(crate) fn read(mut section: Section<'_>, has_http: bool) -> Collections {
    let base = Collections::default();
    let collections = Collections {
        enabled: section.bool("enabled").unwrap_or(base.enabled),
        max: section.count("max", COUNT_MAX).unwrap_or(base.max),
        workers: section.count("workers", COUNT_MAX).unwrap_or(base.workers),
    };
    if collections.enabled && !has_http {
        section.report("enabled", "needs [http]: collections are made and asked through the server");
    }
    section.finish();
    collections
}
