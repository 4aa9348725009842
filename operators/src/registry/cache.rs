//! Schemas that are known, wanted or not there.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use freshet_schemas::{Fault, WireSchema};

/// A schema, or why there is none.
pub type Found = Result<Arc<WireSchema>, Fault>;

/// Most schemas that are kept; the one used longest ago goes first.
pub const SCHEMAS_MAX: usize = 1000;
/// After this time a schema that was not there is asked for again.
const REFUSED_FOR: Duration = Duration::from_secs(60);

/// Invariant: a number is in `known` or in `wanted`, never in both; `wanted` holds no number twice.
#[derive(Debug, Default)]
pub(super) struct Cache {
    known: BTreeMap<u32, Known>,
    /// In the order in which they were asked for. Bounded by the partitions: only the first record of each asks.
    wanted: VecDeque<u32>,
    uses: u64,
}

#[derive(Debug)]
struct Known {
    found: Found,
    since: Instant,
    used: u64,
}

impl Cache {
    /// The schema, if it is known; otherwise it is wanted from now on.
    pub(super) fn find(&mut self, number: u32, now: Instant) -> Option<Found> {
        let old = |known: &Known| known.found.is_err() && now.duration_since(known.since) >= REFUSED_FOR;
        if self.known.get(&number).is_some_and(old) {
            self.known.remove(&number);
        }
        if let Some(known) = self.known.get_mut(&number) {
            self.uses += 1;
            known.used = self.uses;
            return Some(known.found.clone());
        }
        if !self.wanted.contains(&number) {
            self.wanted.push_back(number);
        }
        None
    }

    /// The number that has been wanted longest.
    pub(super) fn next(&self) -> Option<u32> {
        self.wanted.front().copied()
    }

    /// Puts a number behind all others that are wanted.
    pub(super) fn later(&mut self, number: u32) {
        self.wanted.retain(|wanted| *wanted != number);
        self.wanted.push_back(number);
    }

    /// Notes what was found.
    pub(super) fn put(&mut self, number: u32, found: Found, now: Instant) {
        self.wanted.retain(|wanted| *wanted != number);
        self.uses += 1;
        self.known.insert(number, Known { found, since: now, used: self.uses });
        if self.known.len() > SCHEMAS_MAX
            && let Some(&oldest) =
                self.known.iter().min_by_key(|(_, known)| known.used).map(|(number, _)| number)
        {
            self.known.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use freshet_schemas::FaultCode;

    use super::*;

    #[test]
    fn what_is_not_known_is_wanted_once_and_in_order() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        let schema = Arc::new(WireSchema::avro("\"string\"", &[]).unwrap());
        for number in [7, 3, 7] {
            assert!(cache.find(number, now).is_none());
        }
        cache.later(7);
        assert_eq!(cache.next(), Some(3));
        cache.later(3);
        assert_eq!(cache.next(), Some(7));
        cache.put(7, Ok(schema), now);
        assert!(cache.find(7, now).is_some_and(|found| found.is_ok()));
        assert_eq!(cache.next(), Some(3));
        cache.put(3, Err(Fault::whole(FaultCode::UnknownSchema, "gone")), now);
        assert!(cache.find(3, now).is_some_and(|found| found.is_err()) && cache.next().is_none());
        // It may be there by now.
        assert!(cache.find(3, now + REFUSED_FOR).is_none());
        assert_eq!(cache.next(), Some(3));
        assert!(cache.find(7, now + REFUSED_FOR).is_some());
    }

    #[test]
    fn the_schema_used_longest_ago_goes_first() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        let schema = Arc::new(WireSchema::avro("\"string\"", &[]).unwrap());
        let last = u32::try_from(SCHEMAS_MAX).unwrap();
        for number in 0..last {
            cache.put(number, Ok(Arc::clone(&schema)), now);
        }
        assert!(cache.find(0, now).is_some());
        cache.put(last, Ok(schema), now);
        assert_eq!(cache.known.len(), SCHEMAS_MAX);
        assert!(
            cache.find(0, now).is_some() && cache.find(last, now).is_some() && cache.find(1, now).is_none()
        );
    }
}
