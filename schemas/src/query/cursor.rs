//! The name of a page.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where the next page of a query begins: `RUN-WORKER-NUMBER-FROM`, in hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cursor {
    /// The run that made it: no other knows it.
    pub run: u64,
    /// The worker that keeps the list.
    pub worker: usize,
    /// Number of the list on that worker.
    pub number: u64,
    /// Place of the first hit of the page, from 0.
    pub from: usize,
}

impl Cursor {
    /// Reads one.
    pub fn parse(text: &str) -> Option<Self> {
        let part = |part: &str| {
            let is_plain = part.bytes().all(|byte| byte.is_ascii_hexdigit());
            u64::from_str_radix(part, 16).ok().filter(|_| is_plain)
        };
        let parts: Vec<u64> = text.split('-').map(part).collect::<Option<_>>()?;
        let [run, worker, number, from] = *parts else { return None };
        Some(Self { run, worker: usize::try_from(worker).ok()?, number, from: usize::try_from(from).ok()? })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(text, "{:x}-{:x}-{:x}-{:x}", self.run, self.worker, self.number, self.from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        let cursor = Cursor { run: u64::MAX, worker: 3, number: 0, from: 255 };
        assert_eq!(cursor.to_string(), "ffffffffffffffff-3-0-ff");
        assert_eq!(Cursor::parse(&cursor.to_string()), Some(cursor));
        for text in ["", "1-2-3", "1-2-3-4-5", "1-2-3-x", "1-2--4", "+1-2-3-4", "1ffffffffffffffff-0-0-0"] {
            assert_eq!(Cursor::parse(text), None, "{text}");
        }
    }
}
