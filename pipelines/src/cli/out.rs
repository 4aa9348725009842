//! What commands write. A reader that has gone (`freshet tail | head`) wants no more: that is no error, and no panic.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write, stderr, stdout};

/// A line of the result, on standard output.
macro_rules! say {
    ($($said:tt)*) => { $crate::cli::out::say(format_args!($($said)*)) };
}

/// A line about the work, on standard error.
macro_rules! tell {
    ($($told:tt)*) => { $crate::cli::out::tell(format_args!($($told)*)) };
}

/// See the macro. Ends the process where the line cannot be written: with 0 if nobody reads any more, else with 1.
pub(crate) fn say(line: Arguments<'_>) {
    write(format!("{line}\n").as_bytes());
}

/// Writes bytes to standard output; as [`say`].
pub(crate) fn write(bytes: &[u8]) {
    let mut out = stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => {
            tell(format_args!("error: standard output cannot be written: {error}"));
            std::process::exit(1);
        }
    }
}

/// See the macro. What cannot be told is not: a run goes on, and stops when it is asked to, whoever listens.
pub(crate) fn tell(line: Arguments<'_>) {
    let _ = stderr().write_all(format!("{line}\n").as_bytes());
}
