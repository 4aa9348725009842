//! What a pipeline needs of a machine, looked at piece by piece: what is missing, what is slow, and how to mend it.
//!
//! Every check is asked by itself, so that one that fails hides no other. Nothing is left behind: what a check writes to find
//! out whether it can be written is removed again.

mod machine;
mod models;
mod world;

use std::path::Path;

use freshet_config::Config;
use serde::Serialize;

/// What has come of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It runs, but slower or less safely than it could.
    Warning,
    /// The pipeline cannot run like this.
    Missing,
}

/// A check with what was found.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub what: String,
    /// What has come of it.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do; empty where there is nothing to do.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mend: String,
}

impl Finding {
    fn ok(what: impl Into<String>, found: impl Into<String>) -> Self {
        Self { what: what.into(), verdict: Verdict::Ok, found: found.into(), mend: String::new() }
    }

    fn warning(what: impl Into<String>, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { what: what.into(), verdict: Verdict::Warning, found: found.into(), mend: mend.into() }
    }

    fn missing(what: impl Into<String>, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { what: what.into(), verdict: Verdict::Missing, found: found.into(), mend: mend.into() }
    }
}

/// Looks at the machine, and at all that a configuration names; `tell` is called with each finding as it comes.
pub fn examine(file: &Path, tell: &mut dyn FnMut(&Finding)) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut note = |finding: Finding| {
        tell(&finding);
        findings.push(finding);
    };
    let config = match Config::load(file) {
        Ok(config) => {
            note(Finding::ok("configuration", file.display().to_string()));
            Some(config)
        }
        Err(errors) => {
            for problem in errors.problems {
                let mend = "mend the key, then run `freshet check`";
                note(Finding::missing(format!("configuration: {}", problem.key), problem.message, mend));
            }
            None
        }
    };
    machine::examine(config.as_ref(), &mut note);
    if let Some(config) = &config {
        models::examine(config, &mut note);
        world::examine(config, &mut note);
    }
    findings
}

/// A number of bytes, for people.
fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{} kB", bytes / 1000),
        1_000_000..10_000_000_000 => format!("{} MB", bytes / 1_000_000),
        _ => format!("{} GB", bytes / 1_000_000_000),
    }
}
