//! Filters over payloads, in Qdrant's JSON.

use serde::{Deserialize, Serialize};

/// Which documents may be found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Filter {
    /// All of these hold.
    pub must: Vec<Condition>,
}

/// One condition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Condition {}
