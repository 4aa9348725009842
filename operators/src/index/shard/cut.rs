//! What a shard holds at one time, as it will never change again; and a shard made of it.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Builder, HeadLimit, Part, Shard};
use crate::index::bits::Bits;
use crate::index::segment::{Marks, Segment, SegmentSpec, Version};
use crate::index::{IndexError, Time};

/// A part of a shard at one time. The segment never changes again, nor does its number come twice.
#[derive(Clone)]
pub struct PartCut {
    /// Its number in the shard.
    pub number: u64,
    /// All its versions, also those that are not visible.
    pub segment: Arc<Segment>,
    /// Versions that are not visible at that time, ascending.
    pub removed: Vec<Version>,
}

/// A part of a shard that is to be restored.
pub struct RestoredPart {
    /// Its number in the shard.
    pub number: u64,
    /// Its versions.
    pub segment: Segment,
    /// Versions that are not visible, ascending.
    pub removed: Vec<Version>,
}

impl Shard {
    /// All parts at the last time applied, those without visible versions left out. The head is ended by it, so that
    /// what is handed out stays as it is; to make a segment of it waits until it is worth one.
    ///
    /// # Errors
    /// FAISS failing.
    pub fn cut(&mut self) -> Result<Vec<PartCut>, IndexError> {
        if let Some(early) = self.end_head()? {
            early.early = true;
        }
        let visible = self.parts.iter().filter(|part| part.marks.live() > 0);
        let cut = |part: &Part| PartCut {
            number: part.number,
            segment: Arc::clone(&part.segment),
            removed: (0..part.marks.len() as Version).filter(|&v| !part.marks.lives(v)).collect(),
        };
        Ok(visible.map(cut).collect())
    }

    /// A shard of parts that were cut at a time, which is the last one applied.
    ///
    /// # Errors
    /// A document that is visible twice, a field that cannot be indexed, or FAISS failing.
    pub fn restore(
        spec: Arc<SegmentSpec>,
        limit: HeadLimit,
        builder: Arc<dyn Builder>,
        time: Time,
        parts: Vec<RestoredPart>,
    ) -> Result<Self, IndexError> {
        let mut shard = Self::new(spec, limit, builder)?;
        let head = shard.parts.pop();
        for RestoredPart { number, segment, removed } in parts {
            let deaths = removed.into_iter().map(|version| (time, version)).collect();
            let mut marks = Marks::new(segment.versions().births(), deaths);
            marks.forget(time);
            shard.next_number = shard.next_number.max(number + 1);
            let mut part = Part::whole(segment, marks);
            part.number = number;
            for version in (0..part.marks.len() as Version).filter(|&version| part.marks.lives(version)) {
                let id = part.segment.versions().id(version);
                if shard.living(id).is_some() {
                    let what = "is visible in two segments".to_owned();
                    return Err(IndexError::Unknown { id: id.to_owned(), what });
                }
            }
            shard.parts.push(part);
        }
        let documents = shard.parts.iter().map(|part| part.marks.live()).sum();
        shard.sizes = VecDeque::from([(time, documents)]);
        shard.applied = Some(time);
        shard.since = time;
        // The head comes last, and has the newest number.
        if let Some(mut head) = head {
            head.number = shard.next_number;
            shard.next_number += 1;
            shard.parts.push(head);
        }
        Ok(shard)
    }

    /// Its segments, each with the versions that live in it.
    pub fn all_living(&self) -> impl Iterator<Item = (Arc<Segment>, Bits)> + '_ {
        self.parts.iter().map(|part| (Arc::clone(&part.segment), part.marks.living().clone()))
    }
}
