//! A shard: all versions of its documents, in a head and in segments.
//!
//! ```text
//! changes ─▶ apply ─▶ head ──full──▶ frozen ──┐ build thread: seal, merge
//!                                    sealed ──┴──▶ sealed, swapped in at a tick
//! probes ──▶ find  ─▶ all parts, at one time
//! ```
//! A new version is written whole to the head, with copies of the vectors it keeps; the version before gets a removal
//! mark, wherever it is. So a document is visible in all its fields or in none, and nothing but marks ever changes in a
//! frozen or sealed segment. At any time at most one visible version of a document exists, in one part.
//!
//! `apply` changes it, `find` reads it (`examples`, `list`, `groups` and `vectors`, too), `upkeep` freezes, merges and forgets; `policy` decides what is merged; `cut`
//! hands out what it holds at one time, and makes a shard of that again.

mod apply;
mod builds;
mod cut;
mod examples;
mod find;
mod groups;
mod list;
mod passed;
mod policy;
mod upkeep;
mod vectors;

pub use builds::{BuildPool, Builder, Job};
pub use cut::{PartCut, RestoredPart};
pub use examples::Examples;
pub use groups::{Finding, GroupHead, groups_of, heads};
pub use list::{Found, Listing};
pub use policy::HeadLimit;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, mpsc};

use freshet_schemas::{Offset, Partition, SparseVector};

use super::bits::Bits;
use super::rows::Row;
use super::segment::{Layout, Marks, Segment, SegmentSpec, Version};
use super::{IndexError, RowVector, Time};
use passed::PassedFilters;
use upkeep::Built;

/// Where a version is: number of the part, and in it.
type Place = (usize, Version);

/// A segment and who sees what of it.
struct Part {
    /// Its number among all parts that the shard ever had; 0 until it is one of them.
    number: u64,
    segment: Arc<Segment>,
    marks: Marks,
    /// Per field of a sealed segment the rows of the versions that live, unless rows are versions.
    live_rows: Vec<Option<LiveRows>>,
    /// What the last filters let through.
    passed: PassedFilters,
    /// While it is being merged: who has died since that began.
    merging: Option<Vec<(Time, Version)>>,
    /// Bytes of what was added to it here.
    bytes: usize,
    /// Whether it was a head that ended before it was full: it waits for the rest of one before it is merged.
    early: bool,
}

impl Part {
    fn head(spec: &SegmentSpec, number: u64) -> Result<Self, IndexError> {
        let segment = Arc::new(Segment::head(spec)?);
        Ok(Self {
            number,
            segment,
            marks: Marks::default(),
            live_rows: Vec::new(),
            passed: PassedFilters::default(),
            merging: None,
            bytes: 0,
            early: false,
        })
    }

    /// Of a segment to which nothing is added any more.
    fn whole(segment: Segment, marks: Marks) -> Self {
        let live_rows = match segment.is_sealed() {
            true => segment.fields().iter().map(|field| LiveRows::of(&field.layout, &marks)).collect(),
            false => Vec::new(),
        };
        let (segment, passed) = (Arc::new(segment), PassedFilters::default());
        Self { number: 0, segment, marks, live_rows, passed, merging: None, bytes: 0, early: false }
    }

    fn end(&mut self, version: Version, time: Time) {
        self.marks.end(version, time);
        self.passed.forget();
        for (field, live) in self.segment.fields().iter().zip(&mut self.live_rows) {
            live.iter_mut().for_each(|live| live.end(field.layout.rows(version)));
        }
        if let Some(deaths) = &mut self.merging {
            deaths.push((time, version));
        }
    }

    fn visible(&self, id: &str, time: Time) -> Option<Version> {
        let versions = self.segment.versions();
        versions.of(id).find(|&version| self.marks.sees(time, version, versions.born(version)))
    }

    fn living(&self, id: &str) -> Option<Version> {
        self.segment.versions().of(id).find(|&version| self.marks.lives(version))
    }
}

/// The rows of a field whose versions live: what most searches see, without asking version by version.
struct LiveRows {
    bits: Bits,
    count: usize,
}

impl LiveRows {
    /// `None` where rows are versions.
    fn of(layout: &Layout, marks: &Marks) -> Option<Self> {
        if layout.is_one() {
            return None;
        }
        let mut bits = Bits::none(layout.len());
        let living = (0..marks.len() as Version).filter(|&version| marks.lives(version));
        living.flat_map(|version| layout.rows(version)).for_each(|row| bits.insert(row));
        Some(Self { count: bits.count(), bits })
    }

    fn end(&mut self, rows: Range<Row>) {
        self.count -= rows.len();
        rows.for_each(|row| self.bits.remove(row));
    }
}

/// Some documents whole, at every time that is still asked for.
///
/// Invariants: the last part is the head, which nobody else holds; a document has at most one living version; `sizes`
/// says how many documents there were as of each time that something was applied.
pub struct Shard {
    spec: Arc<SegmentSpec>,
    limit: HeadLimit,
    parts: Vec<Part>,
    /// Number of the next part.
    next_number: u64,
    sizes: VecDeque<(Time, usize)>,
    applied: Option<Time>,
    /// No query comes at an earlier time.
    since: Time,
    builder: Arc<dyn Builder>,
    /// The merge under way.
    built: Option<mpsc::Receiver<Result<Built, IndexError>>>,
    /// Segments built so far.
    builds: usize,
}

/// What a shard holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardCounters {
    /// Documents of the newest state.
    pub documents: usize,
    /// Versions of documents, dead ones included.
    pub versions: usize,
    /// Segments, the head and frozen ones included.
    pub segments: usize,
    /// Sealed segments.
    pub sealed: usize,
    /// Bytes of memory of vectors, payloads and texts, about.
    pub bytes: usize,
    /// Segments built so far, of full heads and by merging.
    pub builds: usize,
}

impl Shard {
    /// An empty shard, whose segments are built by `builder`.
    ///
    /// # Errors
    /// A field that cannot be indexed, or FAISS failing.
    pub fn new(
        spec: Arc<SegmentSpec>,
        limit: HeadLimit,
        builder: Arc<dyn Builder>,
    ) -> Result<Self, IndexError> {
        Ok(Self {
            parts: vec![Part::head(&spec, 1)?],
            next_number: 2,
            spec,
            limit,
            sizes: VecDeque::new(),
            applied: None,
            since: 0,
            builder,
            built: None,
            builds: 0,
        })
    }

    /// The last time applied.
    pub fn applied(&self) -> Option<Time> {
        self.applied
    }

    /// Documents visible at a time.
    pub fn len_at(&self, time: Time) -> usize {
        let later = self.sizes.partition_point(|(applied, _)| *applied <= time);
        later.checked_sub(1).map_or(0, |last| self.sizes[last].1)
    }

    fn documents(&self) -> usize {
        self.sizes.back().map_or(0, |(_, size)| *size)
    }

    /// The sparse vector of a document's newest version in a field, as of the last time applied.
    pub fn sparse(&self, id: &str, field: usize) -> Option<SparseVector> {
        let (part, version) = self.living(id)?;
        match self.parts[part].segment.vectors(version, field).next() {
            Some(RowVector::Sparse(vector)) => Some(vector),
            Some(RowVector::Dense(_) | RowVector::Multi(_)) | None => None,
        }
    }

    /// Where the record of a document's newest version came from, as of the last time applied.
    pub fn origin(&self, id: &str) -> Option<(Partition, Offset)> {
        self.living(id).map(|(part, version)| self.parts[part].segment.versions().origin(version))
    }

    /// What it holds.
    pub fn counters(&self) -> ShardCounters {
        ShardCounters {
            documents: self.documents(),
            versions: self.parts.iter().map(|part| part.marks.len()).sum(),
            segments: self.parts.len(),
            sealed: self.parts.iter().filter(|part| part.segment.is_sealed()).count(),
            bytes: self.parts.iter().map(|part| part.segment.bytes()).sum(),
            builds: self.builds,
        }
    }

    /// Part and number of a document's living version. The newest parts come last, and change most.
    fn living(&self, id: &str) -> Option<Place> {
        let parts = self.parts.iter().enumerate().rev();
        parts.into_iter().find_map(|(number, part)| Some((number, part.living(id)?)))
    }

    /// Asserts the invariants.
    pub fn check(&self) {
        let mut living: Vec<&str> = Vec::new();
        for part in &self.parts {
            part.segment.check();
            part.marks.check();
            for (field, live) in part.segment.fields().iter().zip(&part.live_rows) {
                let expected = LiveRows::of(&field.layout, &part.marks);
                let bits =
                    |live: &Option<LiveRows>| live.as_ref().map(|live| (live.bits.clone(), live.count));
                assert_eq!(bits(live), bits(&expected), "rows live with their versions");
            }
            let versions = part.segment.versions();
            assert_eq!(part.marks.len(), versions.len(), "every version is marked");
            assert!(part.merging.is_none() || self.built.is_some(), "parts are merged by someone");
            let lives = (0..versions.len() as Version).filter(|&version| part.marks.lives(version));
            living.extend(lives.map(|version| versions.id(version)));
        }
        let count = living.len();
        assert_eq!(count, self.documents(), "documents are counted");
        living.sort_unstable();
        living.dedup();
        assert_eq!(count, living.len(), "a document lives once");
        assert!(self.parts.last().is_some_and(|head| !head.segment.is_sealed()), "there is a head");
    }
}
