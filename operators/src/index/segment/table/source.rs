//! Where the bytes of a table come from: a part at a time, so that no more than one row group is in memory.

use std::io::Read;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use parquet::file::reader::{ChunkReader, Length};

use super::{TableError, guarded};
use crate::index::memory;

/// Bytes at the end of a table that mostly hold all of its metadata.
const FOOTER_BYTES: u64 = 64 << 10;

/// Bytes that can be read in parts. Row groups are read in their order, each part from the end of the one before.
pub trait Source {
    /// How many there are.
    fn size(&self) -> u64;

    /// Those in a range, which lies within the size; in `room`, whose contents are of no use any more.
    ///
    /// # Errors
    /// Bytes that cannot be read.
    fn range(&mut self, range: Range<u64>, room: Vec<u8>) -> Result<Bytes, TableError>;
}

impl<R: ChunkReader> Source for R {
    fn size(&self) -> u64 {
        self.len()
    }

    fn range(&mut self, range: Range<u64>, mut room: Vec<u8>) -> Result<Bytes, TableError> {
        let count = range.end - range.start;
        room.clear();
        guarded(|| {
            room.reserve_exact(usize::try_from(count).unwrap_or(0));
            match self.get_read(range.start)?.take(count).read_to_end(&mut room)? as u64 == count {
                true => Ok(()),
                false => Err(ParquetError::EOF(format!("ends before byte {}", range.end))),
            }
        })?;
        Ok(room.into())
    }
}

/// The metadata, which stands at the end.
pub(super) fn metadata(from: &mut impl Source) -> Result<Arc<ParquetMetaData>, TableError> {
    let size = from.size();
    let mut wanted = FOOTER_BYTES.min(size);
    loop {
        let tail = from.range(size - wanted..size, Vec::new())?;
        let mut reader = ParquetMetaDataReader::new();
        let parsed = guarded(|| match reader.try_parse_sized(&tail, size) {
            Ok(()) => Ok(None),
            Err(ParquetError::NeedMoreData(needed)) => Ok(Some(needed as u64)),
            Err(error) => Err(error),
        })?;
        match parsed {
            None => return Ok(Arc::new(guarded(|| reader.finish())?)),
            Some(needed) if needed > wanted && needed <= size => wanted = needed,
            Some(needed) => {
                return Err(TableError::Torn(format!(
                    "wants {needed} bytes of metadata, of {size} bytes in all"
                )));
            }
        }
    }
}

/// The bytes of one row group, where they are in the table.
#[derive(Clone)]
pub(super) struct Window {
    start: u64,
    bytes: Bytes,
    size: u64,
}

impl Window {
    /// The row group of a number, in `room`; what is read begins at `from_byte`, which moves to the end of the group.
    pub(super) fn read(
        from: &mut impl Source,
        metadata: &ParquetMetaData,
        group: usize,
        from_byte: &mut u64,
        mut room: Vec<u8>,
    ) -> Result<Self, TableError> {
        let size = from.size();
        let torn = || TableError::Torn(format!("row group {group} is not where its metadata says"));
        let (mut start, mut end) = (u64::MAX, 0);
        for column in metadata.row_group(group).columns() {
            let (at, count) = guarded(|| Ok(column.byte_range()))?;
            start = start.min(at);
            end = end.max(at.checked_add(count).ok_or_else(torn)?);
        }
        if start > end || end > size {
            return Err(torn());
        }
        let start = start.min(*from_byte);
        room.clear();
        memory::reserve(&mut room, usize::try_from(end - start).unwrap_or(0));
        let bytes = from.range(start..end, room)?;
        *from_byte = end;
        Ok(Self { start, bytes, size })
    }

    /// All bytes of it.
    pub(super) fn bytes(&self) -> Bytes {
        self.bytes.clone()
    }

    fn part(&self, start: u64, count: Option<usize>) -> Result<Bytes, ParquetError> {
        let beyond = || ParquetError::EOF(format!("byte {start} is not in its row group"));
        let from =
            usize::try_from(start.checked_sub(self.start).ok_or_else(beyond)?).map_err(|_| beyond())?;
        let to = count.map_or(Some(self.bytes.len()), |count| from.checked_add(count)).ok_or_else(beyond)?;
        if from > to || to > self.bytes.len() {
            return Err(beyond());
        }
        Ok(self.bytes.slice(from..to))
    }
}

impl Length for Window {
    fn len(&self) -> u64 {
        self.size
    }
}

impl ChunkReader for Window {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(self.part(start, None)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        self.part(start, Some(length))
    }
}
