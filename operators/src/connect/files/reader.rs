//! Reads the lines of a growing file, in blocks of bounded size.
//!
//! A line counts once its `\n` is there. The last line of a file also counts without one if it is a whole JSON object:
//! an editor that writes no `\n` at the end is no reason not to answer a question. No part of such a line is a whole
//! object itself, so this does not depend on when the reader looks.

use std::fs::{File, Metadata};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use freshet_schemas::Offset;

use super::super::ConnectError;
use super::{io_error, line};

/// Longest line that is handed on whole.
pub(super) const LINE_BYTES_MAX: usize = 64 << 20;
/// What is kept of a longer line.
pub(super) const CUT_BYTES: usize = 1024;
/// Most bytes read at once.
const BLOCK_BYTES: usize = 64 << 10;
/// Byte order mark that some editors put at the beginning of a file.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// A line of the file.
pub(super) struct Line<'a> {
    /// Its number, from 0: the offset of its record.
    pub(super) number: Offset,
    /// Its bytes without `\n`; of a line that is too long the first [`CUT_BYTES`].
    pub(super) bytes: &'a [u8],
    /// Its length.
    pub(super) bytes_total: u64,
}

impl Line<'_> {
    /// Whether only its beginning is here.
    pub(super) fn is_cut(&self) -> bool {
        self.bytes_total > self.bytes.len() as u64
    }
}

/// The place up to which a file is read. Invariant: `read_bytes` bytes hold `lines` ended lines and `partial_bytes`
/// bytes of the next one; `partial` is that line, or its beginning if it is too long.
pub(super) struct LineReader {
    path: PathBuf,
    file: File,
    identity: (u64, u64),
    line_bytes_max: usize,
    block: Vec<u8>,
    read_bytes: u64,
    lines: Offset,
    partial: Vec<u8>,
    partial_bytes: u64,
    /// Length of `partial` when it was last looked at, and whether it was a whole object.
    tail_seen: Option<(u64, bool)>,
    /// Whether `partial` has been handed on already.
    tail_taken: bool,
}

impl LineReader {
    /// Opens a file at its beginning.
    pub(super) fn open(path: &Path, line_bytes_max: usize) -> Result<Self, ConnectError> {
        let fail = |error| io_error("cannot read", path, error);
        let file = File::open(path).map_err(fail)?;
        let identity = identity(&file.metadata().map_err(fail)?);
        Ok(Self {
            path: path.to_owned(),
            file,
            identity,
            line_bytes_max,
            block: vec![0; BLOCK_BYTES],
            read_bytes: 0,
            lines: 0,
            partial: Vec::new(),
            partial_bytes: 0,
            tail_seen: None,
            tail_taken: false,
        })
    }

    /// Number of the first line that has not been handed on.
    pub(super) fn next(&self) -> Offset {
        self.lines + Offset::from(self.tail_taken)
    }

    /// Lines that count at present: the ended ones, and a last one that is whole.
    pub(super) fn end(&mut self) -> Offset {
        self.lines + Offset::from(self.tail_is_whole())
    }

    /// Reads one block and hands on the lines that end in it. Returns whether there was something to read.
    pub(super) fn read_block(&mut self, mut each: impl FnMut(Line<'_>)) -> Result<bool, ConnectError> {
        let mut block = std::mem::take(&mut self.block);
        let result = self.file.read(&mut block);
        let taken = match result {
            Ok(length) => self.split(&block[..length], &mut each).map(|()| length > 0),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(true),
            Err(error) => Err(io_error("cannot read", &self.path, error)),
        };
        self.block = block;
        taken
    }

    fn split(&mut self, block: &[u8], each: &mut impl FnMut(Line<'_>)) -> Result<(), ConnectError> {
        self.read_bytes += block.len() as u64;
        for piece in block.split_inclusive(|byte| *byte == b'\n') {
            let (text, ended) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            if self.tail_taken && !line::is_blank(text) {
                return Err(self.changed("was continued after it had been read as a whole; end lines with a newline"));
            }
            self.partial_bytes += text.len() as u64;
            if self.partial_bytes <= self.line_bytes_max as u64 {
                self.partial.extend_from_slice(text);
            } else {
                self.partial.truncate(CUT_BYTES);
            }
            if ended {
                self.end_line(each);
            }
        }
        Ok(())
    }

    fn end_line(&mut self, each: &mut impl FnMut(Line<'_>)) {
        if !self.tail_taken {
            each(self.partial_line());
        }
        self.lines += 1;
        self.partial.clear();
        self.partial.shrink_to(BLOCK_BYTES);
        self.partial_bytes = 0;
        self.tail_seen = None;
        self.tail_taken = false;
    }

    fn partial_line(&self) -> Line<'_> {
        let mark = if self.lines == 0 && self.partial.starts_with(BOM) { BOM.len() } else { 0 };
        let (bytes, bytes_total) = (&self.partial[mark..], self.partial_bytes - mark as u64);
        Line { number: self.lines, bytes, bytes_total }
    }

    /// Hands on the last line if it has no `\n` but is whole, once. For use when there is nothing more to read.
    pub(super) fn take_tail(&mut self) -> Option<Line<'_>> {
        if self.tail_taken || !self.tail_is_whole() {
            return None;
        }
        self.tail_taken = true;
        Some(self.partial_line())
    }

    fn tail_is_whole(&mut self) -> bool {
        if let Some((length, whole)) = self.tail_seen
            && length == self.partial_bytes
        {
            return whole;
        }
        let tail = self.partial_line();
        let whole = !tail.is_cut() && tail.bytes.trim_ascii_end().ends_with(b"}") && line::is_object(tail.bytes);
        self.tail_seen = Some((self.partial_bytes, whole));
        whole
    }

    /// Fails if the file at the path is no longer the one that was read. One that was cut and written again beyond
    /// the old length between two looks is not noticed.
    pub(super) fn check(&self) -> Result<(), ConnectError> {
        match std::fs::metadata(&self.path) {
            Ok(metadata) if identity(&metadata) != self.identity => Err(self.replaced("was replaced")),
            Ok(metadata) if metadata.len() < self.read_bytes => Err(self.replaced("was cut")),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(self.replaced("was removed")),
            Err(error) => Err(io_error("cannot look at", &self.path, error)),
        }
    }

    fn replaced(&self, how: &str) -> ConnectError {
        let path = self.path.display();
        let what = format!("\"{path}\" {how} while it was read; topics only grow: start again to read it anew");
        ConnectError::World { what, source: None, retry: true }
    }

    fn changed(&self, how: &str) -> ConnectError {
        let what = format!("line {} of \"{}\" {how}", self.lines, self.path.display());
        ConnectError::World { what, source: None, retry: true }
    }
}

/// Device and number of a file, which stay when it is written to and differ when it is replaced.
#[cfg(unix)]
pub(super) fn identity(metadata: &Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    (metadata.dev(), metadata.ino())
}

/// Elsewhere replaced files are noticed by their length only.
#[cfg(not(unix))]
pub(super) fn identity(_: &Metadata) -> (u64, u64) {
    (0, 0)
}
