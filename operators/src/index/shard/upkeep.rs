//! Freezing full heads, merging, swapping in what was built, forgetting what no reader can see.

use std::sync::{Arc, mpsc};

use super::policy::{PartSize, plan};
use super::{Part, Shard, Time};
use crate::index::IndexError;
use crate::index::segment::{GONE, Marks, Sealed, Segment, Source, Version};

/// A shard is quiet when nothing has changed for so long.
const QUIET_MS: Time = 2000;

/// What a build has made: a part, and where it has put the versions of its sources.
pub(super) struct Built {
    part: Part,
    numbers: Vec<Vec<Version>>,
}

impl From<Sealed> for Built {
    fn from(Sealed { segment, marks, numbers }: Sealed) -> Self {
        Self { part: Part::whole(segment, marks), numbers }
    }
}

impl Shard {
    /// Takes note that no query will come at a time before `since`. In a quiet shard also begins to merge what
    /// searches would be faster without.
    ///
    /// # Errors
    /// A build failing: the shard is of no use then.
    pub fn compact(&mut self, since: Time) -> Result<(), IndexError> {
        if since > self.since {
            self.since = since;
            self.parts.iter_mut().for_each(|part| part.marks.forget(since));
            while self.sizes.get(1).is_some_and(|(time, _)| *time <= since) {
                self.sizes.pop_front();
            }
        }
        let quiet = self.applied.is_some_and(|applied| since >= applied.saturating_add(QUIET_MS));
        if quiet || self.built.is_some() { self.upkeep(quiet) } else { Ok(()) }
    }

    /// Swaps in what has been built, and begins the next build if one is due. Never waits.
    pub(super) fn upkeep(&mut self, quiet: bool) -> Result<(), IndexError> {
        self.take_built()?;
        if quiet || self.head_is_full() {
            self.freeze()?;
        }
        if self.built.is_none() {
            let chosen = plan(&self.sizes_of_parts(), quiet);
            if !chosen.is_empty() {
                self.begin(&chosen);
            }
        }
        Ok(())
    }

    /// Whether upkeep has nothing left to do in a quiet shard.
    pub fn is_settled(&self) -> bool {
        self.built.is_none()
            && self.head().is_some_and(|head| head.marks.is_empty())
            && plan(&self.sizes_of_parts(), true).is_empty()
    }

    pub(super) fn head(&self) -> Option<&Part> {
        self.parts.last()
    }

    /// Whether the head is full, together with those that ended early: what is searched exactly is no more for them.
    pub(super) fn head_is_full(&self) -> bool {
        let early = self.parts.iter().filter(|part| part.early && part.merging.is_none());
        let (mut versions, mut expired, mut bytes) = (0, 0, 0);
        for part in early.chain(self.head()) {
            versions += part.marks.len();
            expired += part.marks.expired();
            bytes += part.bytes;
        }
        self.limit.reached(versions, expired, bytes)
    }

    /// Ends the head: it is to be merged, with those that ended early.
    pub(super) fn freeze(&mut self) -> Result<(), IndexError> {
        self.end_head()?;
        self.parts.iter_mut().for_each(|part| part.early = false);
        Ok(())
    }

    /// Begins a new head, unless nothing is in the old one, which is given back.
    pub(super) fn end_head(&mut self) -> Result<Option<&mut Part>, IndexError> {
        if self.head().is_none_or(|head| head.marks.is_empty()) {
            return Ok(None);
        }
        let number = self.number();
        self.parts.push(Part::head(&self.spec, number)?);
        let ended = self.parts.len() - 2;
        Ok(self.parts.get_mut(ended))
    }

    /// The number of a new part.
    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number - 1
    }

    /// Sizes of all parts but the head.
    fn sizes_of_parts(&self) -> Vec<PartSize> {
        let size = |part: &Part| PartSize {
            versions: part.marks.len(),
            expired: part.marks.expired(),
            sealed: part.segment.is_sealed(),
            early: part.early,
        };
        self.parts[..self.parts.len() - 1].iter().map(size).collect()
    }

    /// Begins to make one segment of some parts, off this thread.
    fn begin(&mut self, chosen: &[usize]) {
        let mut sources: Vec<(Arc<Segment>, Marks)> = Vec::with_capacity(chosen.len());
        let mut chosen = chosen.to_vec();
        chosen.sort_unstable();
        for &number in &chosen {
            let part = &mut self.parts[number];
            part.merging = Some(Vec::new());
            sources.push((Arc::clone(&part.segment), part.marks.clone()));
        }
        let (sender, receiver) = mpsc::channel();
        let spec = Arc::clone(&self.spec);
        self.built = Some(receiver);
        self.builder.submit(Box::new(move || {
            let sources: Vec<Source<'_>> =
                sources.iter().map(|(segment, marks)| Source { segment, marks: marks.clone() }).collect();
            // Nobody waits any more if the shard is gone.
            drop(sender.send(Segment::seal(&spec, &sources).map(Built::from)));
        }));
    }

    /// Puts the segment that has been built in the place of those it was made of.
    fn take_built(&mut self) -> Result<(), IndexError> {
        let Some(receiver) = &self.built else { return Ok(()) };
        let Built { mut part, numbers } = match receiver.try_recv() {
            Err(mpsc::TryRecvError::Empty) => return Ok(()),
            Err(mpsc::TryRecvError::Disconnected) => {
                return Err(IndexError::Build("building a segment ended without a result".into()));
            }
            Ok(built) => built?,
        };
        self.built = None;
        self.builds += 1;
        let (sources, parts): (Vec<Part>, Vec<Part>) =
            std::mem::take(&mut self.parts).into_iter().partition(|part| part.merging.is_some());
        self.parts = parts;
        let mut deaths: Vec<(Time, Version)> = Vec::new();
        for (source, numbers) in sources.iter().zip(&numbers) {
            let since = source.merging.iter().flatten();
            deaths.extend(since.map(|&(died, version)| (died, numbers[version as usize])));
        }
        deaths.sort_unstable();
        for (died, version) in deaths {
            debug_assert_ne!(version, GONE, "who died since was alive");
            part.end(version, died);
        }
        part.marks.forget(self.since);
        tracing::debug!(merged = sources.len(), versions = part.marks.len(), "a segment has been built");
        if !part.marks.is_empty() {
            part.number = self.number();
            self.parts.insert(0, part);
        }
        // Giving back the memory of large indexes takes its time, too.
        self.builder.submit(Box::new(move || drop(sources)));
        Ok(())
    }
}
