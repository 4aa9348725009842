//! What a segment keeps of each document version beside its vectors.

use std::ops::Range;

use freshet_schemas::{Offset, Partition};
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use xxhash_rust::xxh3::xxh3_64;

use super::NewVersion;
use super::restore::Room;
use super::strings::{Pieces, Strings};
use crate::index::Time;
use crate::index::payload::Documents;
use crate::index::rows::Row;

/// Number of a version in its segment.
pub type Version = Row;

/// A version that nothing comes before.
const NONE: Version = Version::MAX;

/// Document versions, numbered from 0. A document may have several, of different times.
#[derive(Debug)]
pub struct Versions {
    ids: Strings,
    payloads: Strings,
    digests: Pieces<Vec<u8>>,
    chunks: Strings,
    /// Per chunk the character of its document's text at which it starts.
    chunk_starts: Vec<u32>,
    /// Per version where its chunks end.
    chunk_ends: Vec<u32>,
    births: Vec<Time>,
    origins: Vec<(Partition, Offset)>,
    /// The newest version of each document, by the hash of its id. Looked up, never listed.
    newest: HashTable<Version>,
    order: Order,
}

/// The order of versions.
#[derive(Debug)]
enum Order {
    /// By birth. Per version the one of the same document before it, or `NONE`.
    Birth(Vec<Version>),
    /// By id, then by birth.
    Id,
}

impl Versions {
    /// None yet, to be pushed in the order of their birth.
    pub fn by_birth() -> Self {
        Self::new(Order::Birth(Vec::new()))
    }

    fn new(order: Order) -> Self {
        Self {
            ids: Strings::default(),
            payloads: Strings::default(),
            digests: Pieces::default(),
            chunks: Strings::default(),
            chunk_starts: Vec::new(),
            chunk_ends: Vec::new(),
            births: Vec::new(),
            origins: Vec::new(),
            newest: HashTable::new(),
            order,
        }
    }

    /// None yet, to be begun in the order of their ids, then of their births.
    pub(super) fn restored() -> Self {
        Self::new(Order::Id)
    }

    /// Makes room for so many versions and bytes, about.
    pub(super) fn reserve(&mut self, room: &Room) {
        self.newest.reserve(room.rows, |_| 0);
        self.ids.reserve(room.rows, room.ids);
        self.payloads.reserve(room.rows, room.payloads);
        self.chunks.reserve(room.rows, room.texts);
    }

    /// Copies of picked versions, which ascend by id, then by birth.
    pub fn by_id<'a>(picks: impl Iterator<Item = (&'a Self, Version)> + Clone) -> Self {
        let mut versions = Self::new(Order::Id);
        versions.ids.reserve_of(picks.clone().map(|(from, version)| from.id(version)));
        versions.payloads.reserve_of(picks.clone().map(|(from, version)| from.payload(version)));
        versions.digests.reserve_of(picks.clone().map(|(from, version)| from.digest(version)));
        versions.chunks.reserve_of(picks.clone().flat_map(|(from, version)| from.chunks(version)));
        for (from, version) in picks {
            debug_assert!(
                versions.births.is_empty()
                    || (versions.id(versions.last()), versions.born(versions.last()))
                        < (from.id(version), from.born(version)),
                "versions ascend"
            );
            versions.payloads.push(from.payload(version));
            versions.digests.push(from.digest(version));
            from.chunks(version).for_each(|chunk| versions.chunks.push(chunk));
            versions.chunk_starts.extend_from_slice(from.chunk_starts(version));
            versions.add(from.id(version), from.born(version), from.origin(version));
        }
        versions.shrink();
        versions
    }

    /// Gives back the room for more.
    pub(super) fn shrink(&mut self) {
        self.ids.shrink();
        self.payloads.shrink();
        self.digests.shrink();
        self.chunks.shrink();
        self.chunk_starts.shrink_to_fit();
        self.chunk_ends.shrink_to_fit();
        self.births.shrink_to_fit();
        self.origins.shrink_to_fit();
        self.newest.shrink_to_fit(|&version| hash(self.ids.get(version as usize)));
    }

    /// Adds a version without chunks, which comes after those before in their order.
    pub(super) fn begin(
        &mut self,
        id: &str,
        (born, origin): (Time, (Partition, Offset)),
        payload: &str,
        digest: &[u8],
    ) {
        debug_assert!(self.ascends(id, born), "versions ascend");
        self.payloads.push(payload);
        self.digests.push(digest);
        self.follow(id, born, origin);
    }

    /// Adds a chunk to the last version.
    pub(super) fn add_chunk(&mut self, start: u32, text: &str) {
        self.chunks.push(text);
        self.chunk_starts.push(start);
        if let Some(end) = self.chunk_ends.last_mut() {
            *end += 1;
        }
    }

    /// The last version's id.
    pub(super) fn last_id(&self) -> Option<&str> {
        self.len().checked_sub(1).map(|last| self.ids.get(last))
    }

    fn last(&self) -> Version {
        (self.len() as Version).wrapping_sub(1)
    }

    /// Adds a version, which comes after those before in their order.
    pub fn push(&mut self, version: &NewVersion, born: Time) -> Version {
        debug_assert!(self.ascends(&version.id, born), "versions ascend");
        self.payloads.push(&version.payload);
        self.digests.push(&version.digest);
        version.chunks.iter().for_each(|chunk| self.chunks.push(&chunk.text));
        self.chunk_starts.extend(version.chunks.iter().map(|chunk| chunk.start));
        self.follow(&version.id, born, version.origin);
        self.last()
    }

    /// Adds the rest of a version, behind the one of the same document before it.
    fn follow(&mut self, id: &str, born: Time, origin: (Partition, Offset)) {
        let before = self.add(id, born, origin);
        if let Order::Birth(befores) = &mut self.order {
            befores.push(before.unwrap_or(NONE));
        }
    }

    /// Whether a version may follow the last one.
    pub(super) fn ascends(&self, id: &str, born: Time) -> bool {
        let Some(&last) = self.births.last() else { return true };
        match &self.order {
            Order::Birth(_) => last <= born,
            Order::Id => (self.id(self.last()), last) < (id, born),
        }
    }

    /// Texts of chunks, of all versions.
    pub(super) fn chunks_len(&self) -> usize {
        self.chunks.len()
    }

    /// Adds the rest of a version whose texts are there; the one of the same document that was the newest.
    fn add(&mut self, id: &str, born: Time, origin: (Partition, Offset)) -> Option<Version> {
        self.ids.push(id);
        self.chunk_ends.push(self.chunks.len() as u32);
        self.births.push(born);
        self.origins.push(origin);
        let version = self.last();
        let Self { ids, newest, .. } = self;
        let of = |version: Version| ids.get(version as usize);
        match newest.entry(hash(id), |&other| of(other) == id, |&other| hash(of(other))) {
            Entry::Occupied(mut entry) => Some(std::mem::replace(entry.get_mut(), version)),
            Entry::Vacant(entry) => {
                entry.insert(version);
                None
            }
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.births.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.births.is_empty()
    }

    /// The document's id.
    pub fn id(&self, version: Version) -> &str {
        self.ids.get(version as usize)
    }

    /// Compact JSON object text.
    pub fn payload(&self, version: Version) -> &str {
        self.payloads.get(version as usize)
    }

    /// What the upsert remembers of it.
    pub fn digest(&self, version: Version) -> &[u8] {
        self.digests.get(version as usize)
    }

    /// The character at which a chunk starts, and its text; `None` if there is none of that number.
    pub fn chunk(&self, version: Version, chunk: u32) -> Option<(u32, &str)> {
        let chunk = self.chunk_range(version).nth(chunk as usize)?;
        Some((self.chunk_starts[chunk], self.chunks.get(chunk)))
    }

    /// The characters at which all chunks start.
    pub fn chunk_starts(&self, version: Version) -> &[u32] {
        &self.chunk_starts[self.chunk_range(version)]
    }

    /// Texts of all chunks.
    pub fn chunks(&self, version: Version) -> impl Iterator<Item = &str> + Clone {
        self.chunk_range(version).map(|chunk| self.chunks.get(chunk))
    }

    fn chunk_range(&self, version: Version) -> Range<usize> {
        let version = version as usize;
        let start = version.checked_sub(1).map_or(0, |before| self.chunk_ends[before]);
        start as usize..self.chunk_ends[version] as usize
    }

    /// The first time at which it is visible.
    pub fn born(&self, version: Version) -> Time {
        self.births[version as usize]
    }

    /// Births of all versions.
    pub fn births(&self) -> &[Time] {
        &self.births
    }

    /// Where its record came from.
    pub fn origin(&self, version: Version) -> (Partition, Offset) {
        self.origins[version as usize]
    }

    /// Versions of a document, the newest first.
    pub fn of(&self, id: &str) -> impl Iterator<Item = Version> + '_ {
        let newest = self.newest.find(hash(id), |&version| self.id(version) == id).copied();
        std::iter::successors(newest, |&version| self.before(version))
    }

    /// The version of the same document that came before, if it is here.
    fn before(&self, version: Version) -> Option<Version> {
        match &self.order {
            Order::Birth(before) => Some(before[version as usize]).filter(|&before| before != NONE),
            Order::Id => version.checked_sub(1).filter(|&before| self.id(before) == self.id(version)),
        }
    }

    /// All versions in the order of ids, then of births.
    pub fn sorted(&self) -> Vec<Version> {
        let mut versions: Vec<Version> = (0..self.len() as Version).collect();
        if matches!(self.order, Order::Birth(_)) {
            versions.sort_by(|&a, &b| self.id(a).cmp(self.id(b)));
        }
        versions
    }

    /// Bytes of memory, about.
    pub fn bytes(&self) -> usize {
        let before = match &self.order {
            Order::Birth(before) => before.capacity() * size_of::<Version>(),
            Order::Id => 0,
        };
        let texts = self.ids.bytes() + self.payloads.bytes() + self.digests.bytes() + self.chunks.bytes();
        let columns = (self.chunk_starts.capacity() + self.chunk_ends.capacity()) * size_of::<u32>()
            + self.births.capacity() * size_of::<Time>()
            + self.origins.capacity() * size_of::<(Partition, Offset)>();
        self.newest.allocation_size() + before + texts + columns
    }

    /// Asserts the invariants.
    pub fn check(&self) {
        let count = self.len();
        assert!(
            self.ids.len() == count
                && self.payloads.len() == count
                && self.digests.len() == count
                && self.origins.len() == count
        );
        assert_eq!(self.chunk_ends.last().map_or(0, |&end| end as usize), self.chunks.len(), "chunks");
        assert_eq!(self.chunk_starts.len(), self.chunks.len(), "starts of chunks");
        for version in 0..count as Version {
            assert!(self.of(self.id(version)).any(|found| found == version), "version {version} is found");
        }
    }
}

impl Documents for Versions {
    fn id(&self, row: Row) -> &str {
        self.id(row)
    }

    fn payload(&self, row: Row) -> &str {
        self.payload(row)
    }

    fn of(&self, id: &str, each: &mut dyn FnMut(Row)) {
        self.of(id).for_each(each);
    }
}

fn hash(id: &str) -> u64 {
    xxh3_64(id.as_bytes())
}
