//! `freshet doctor`

use std::io::IsTerminal;

use clap::Args;
use freshet::doctor::{Finding, Verdict, examine};

use super::{ConfigArgs, Failure};

/// Options of `freshet doctor`.
#[derive(Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Print the findings as JSON, one a line.
    #[arg(long)]
    json: bool,
}

/// Exit code 1 where something is missing.
pub(crate) fn doctor(args: &DoctorArgs) -> Result<(), Failure> {
    let coloured = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let mut tell = |finding: &Finding| {
        if args.json {
            say!("{}", serde_json::to_string(finding).unwrap_or_default());
            return;
        }
        let (word, colour) = match finding.verdict {
            Verdict::Ok => ("ok", "32"),
            Verdict::Warning => ("warning", "33"),
            Verdict::Missing => ("missing", "31"),
        };
        let word = format!("{word:>7}");
        let word = if coloured { format!("\x1b[{colour}m{word}\x1b[0m") } else { word };
        say!("{word}  {}: {}", finding.what, finding.found);
        if !finding.mend.is_empty() {
            say!("         → {}", finding.mend);
        }
    };
    let findings = examine(&args.config.config, &mut tell);
    let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    match count(Verdict::Missing) {
        0 => Ok(()),
        missing => Err(Failure::Run(format!("{missing} of {} checks failed", findings.len()))),
    }
}
