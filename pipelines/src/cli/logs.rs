//! Logs, on standard error.

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::SubscriberBuilder;

/// How a line of the log is written.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people; in colours on a terminal.
    Text,
    /// An object per line, for programs.
    Json,
}

/// Starts logging by a filter.
pub(crate) fn start(filter: &str, format: LogFormat) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|error| error.to_string())?;
    let coloured = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    // A line that cannot be written is lost; telling so would fail as well.
    let lines = SubscriberBuilder::default().with_writer(std::io::stderr).log_internal_errors(false);
    match format {
        LogFormat::Text => lines.with_ansi(coloured).with_env_filter(filter).init(),
        LogFormat::Json => lines.json().flatten_event(true).with_env_filter(filter).init(),
    }
    Ok(())
}
