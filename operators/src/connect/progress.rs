//! How far the queries of a partition are answered, as text beside its committed offset.
//!
//! Answers come out of order and a slow query holds no other back, so one offset does not say what is answered. The
//! committed offset is that of the first open query; the text names the others that are open, up to where reading had
//! come, and what answers have reflected so far. Open queries are few whatever the gaps between offsets and however
//! slow one of them is: so the text stays short, where a set of answered offsets would grow with a slow query's time.
//!
//! ```text
//! committed offset 17, metadata   freshet-2;upto=25;open=0,3,1;as_of=0:3mv.c,7:2s
//!     answered: all before 17, and of 17 ≤ offset < 25 all but 17, 20 and 21
//!     answers reflect at most the documents before 4711 of partition 0, 12 of partition 1 and 100 of partition 7
//! ```
//! What answers reflect is a list for runs of partitions: the number of the first, and the next offset of each, to base 36.
//! Of documents topics with partitions of 10¹² records, the list of some 380 partitions fits beside an offset. Version 1
//! had `as_of=0:4710,1:11,7:99`, last offsets to base 10, and is still read.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use freshet_schemas::{AsOf, Offset, Partition};

/// What every text of this program begins with, before the version.
const NAME: &str = "freshet-";
const VERSION: &str = "2";
const VERSION_BEFORE: &str = "1";
const BASE: u32 = 36;

/// How far one partition of queries is answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Queries before this offset are answered, except for the open ones.
    pub upto: Offset,
    /// Queries that are not answered, all before `upto`.
    pub open: BTreeSet<Offset>,
    /// The last offset of each partition of documents that any answer reflects.
    pub as_of: AsOf,
}

impl Progress {
    /// Everything before `next` is answered.
    pub fn before(next: Offset) -> Self {
        Self { upto: next, ..Self::default() }
    }

    /// Offset to be committed: every query before it is answered.
    pub fn next(&self) -> Offset {
        self.open.first().copied().unwrap_or(self.upto)
    }

    /// Whether a query with this offset is answered, or there is none.
    pub fn is_answered(&self, offset: Offset) -> bool {
        offset < self.upto && !self.open.contains(&offset)
    }

    /// The text beside the committed offset.
    pub fn to_metadata(&self) -> String {
        let mut text = format!("{NAME}{VERSION};upto={};open=", self.upto);
        let mut before = self.next();
        for (number, offset) in self.open.iter().enumerate() {
            let comma = if number == 0 { "" } else { "," };
            // Writing to a string does not fail.
            let _ = write!(text, "{comma}{}", offset - before);
            before = *offset;
        }
        text.push_str(";as_of=");
        let mut before = None;
        for (partition, last) in &self.as_of {
            let _ = match before {
                None => write!(text, "{partition}:"),
                Some(before) if before + 1 == *partition => write!(text, "."),
                Some(_) => write!(text, ",{partition}:"),
            };
            digits(&mut text, last.saturating_add(1).max(0));
            before = Some(*partition);
        }
        text
    }

    /// Reads an offset and its metadata. Other programs' metadata, and none, say nothing beside the offset.
    ///
    /// # Errors
    /// When the metadata is of this program but cannot be read: why.
    pub fn from_metadata(next: Offset, metadata: &str) -> Result<Self, String> {
        let Some(rest) = metadata.strip_prefix(NAME) else { return Ok(Self::before(next)) };
        let (version, rest) = rest.split_once(';').unwrap_or((rest, ""));
        if ![VERSION, VERSION_BEFORE].contains(&version) {
            return Err(format!("version {version:?} is not known, only {VERSION_BEFORE} and {VERSION}"));
        }
        let broken = || format!("{metadata:?} is damaged");
        let fields: BTreeMap<&str, &str> =
            rest.split(';').filter_map(|field| field.split_once('=')).collect();
        let field = |name: &str| fields.get(name).copied().ok_or_else(broken);
        let upto: Offset = field("upto")?.parse().map_err(|_| broken())?;
        let mut open = BTreeSet::new();
        let mut before = next;
        for step in list(field("open")?) {
            let step: Offset = step.parse().ok().filter(|step| *step >= 0).ok_or_else(broken)?;
            before = before.checked_add(step).ok_or_else(broken)?;
            open.insert(before);
        }
        let mut as_of = AsOf::new();
        for run in list(field("as_of")?) {
            let (first, offsets) = run.split_once(':').ok_or_else(broken)?;
            let first: Partition = first.parse().map_err(|_| broken())?;
            if version == VERSION_BEFORE {
                as_of.insert(first, offsets.parse().map_err(|_| broken())?);
                continue;
            }
            for (partition, next) in (first..).zip(offsets.split('.')) {
                let next = Offset::from_str_radix(next, BASE).ok().filter(|next| *next >= 0);
                as_of.insert(partition, next.ok_or_else(broken)? - 1);
            }
        }
        let progress = Self { upto, open, as_of };
        if progress.next() != next || progress.open.last().is_some_and(|last| *last >= upto) {
            return Err(format!("{metadata:?} does not belong to offset {next}"));
        }
        Ok(progress)
    }

    /// Reads an offset and its metadata; unreadable metadata is told and left out.
    pub(super) fn recover(topic: &str, partition: Partition, next: Offset, metadata: &str) -> Self {
        Self::from_metadata(next, metadata).unwrap_or_else(|why| {
            tracing::warn!(
                topic,
                partition,
                next,
                why,
                "metadata of the committed offset cannot be read; queries from this offset on are answered, again if \
                 they were answered before"
            );
            Self::before(next)
        })
    }
}

/// Writes a number that is not negative to the base of `from_str_radix`.
fn digits(text: &mut String, number: Offset) {
    let base = Offset::from(BASE);
    if number >= base {
        digits(text, number / base);
    }
    let digit = u32::try_from(number % base).ok().and_then(|digit| char::from_digit(digit, BASE));
    text.extend(digit);
}

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').filter(|item| !item.is_empty())
}

/// The greatest of both, by partition.
pub fn raise(as_of: &mut AsOf, other: &AsOf) {
    for (partition, last) in other {
        let known = as_of.entry(*partition).or_insert(*last);
        *known = (*known).max(*last);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_text_is_what_the_documentation_says() {
        let text = "freshet-2;upto=25;open=0,3,1;as_of=0:3mv.c,7:2s";
        let progress = Progress::from_metadata(17, text).unwrap();
        let old = Progress::from_metadata(17, "freshet-1;upto=25;open=0,3,1;as_of=0:4710,1:11,7:99");
        assert_eq!(old.as_ref(), Ok(&progress), "what the version before wrote is read");
        assert_eq!(progress.as_of, AsOf::from([(0, 4710), (1, 11), (7, 99)]));
        assert_eq!(progress.open, BTreeSet::from([17, 20, 21]));
        assert_eq!((progress.upto, progress.next()), (25, 17));
        assert_eq!(progress.to_metadata(), text);
        let open = (10..30).filter(|offset| !progress.is_answered(*offset));
        assert!(open.eq([17, 20, 21, 25, 26, 27, 28, 29]));
    }

    #[test]
    fn what_others_wrote_says_nothing_and_damage_is_told() {
        for foreign in ["", "a note", "v1;upto=3"] {
            assert_eq!(Progress::from_metadata(7, foreign), Ok(Progress::before(7)));
        }
        let damaged = [
            "freshet-3;upto=9;open=;as_of=",
            "freshet-2;upto=7;open=;as_of=0:1..2",
            "freshet-2;upto=7;open=;as_of=0:-1",
            "freshet-2;upto=7;open=;as_of=0:zzzzzzzzzzzzzz",
            "freshet-1",
            "freshet-1;upto=9",
            "freshet-1;upto=9;open=;as_of=",
            "freshet-1;upto=7;open=0;as_of=",
            "freshet-1;upto=9;open=0,-1;as_of=",
            "freshet-1;upto=99;open=0,9223372036854775807;as_of=",
            "freshet-1;upto=7;open=;as_of=0",
            "freshet-1;upto=7;open=;as_of=x:1",
        ];
        for text in damaged {
            assert!(Progress::from_metadata(7, text).is_err(), "{text}");
            assert_eq!(Progress::recover("queries", 0, 7, text), Progress::before(7));
        }
    }

    #[test]
    fn the_text_of_many_open_queries_fits_beside_an_offset() {
        let open = (0..256).map(|number| 1_000_000_000_000 + number * 37).collect();
        let as_of = (0..50).map(|partition| (partition, 1_000_000_000_000)).collect();
        let text = Progress { upto: 1_000_001_000_000, open, as_of }.to_metadata();
        assert!(text.len() < 2048, "{} bytes", text.len());
    }

    #[test]
    fn the_text_of_many_partitions_fits_beside_an_offset() {
        let as_of =
            (0..380).map(|partition| (partition, 1_000_000_000_000 + Offset::from(partition))).collect();
        let progress = Progress { upto: 1_000_001_000_000, open: BTreeSet::new(), as_of };
        let text = progress.to_metadata();
        assert!(text.len() < 3500, "{} bytes", text.len());
        assert_eq!(Progress::from_metadata(progress.next(), &text), Ok(progress));
    }

    proptest! {
        #[test]
        fn comes_back_as_it_was(
            open in prop::collection::btree_set(0..100_000i64, 0..50),
            beyond in 1..1000i64,
            as_of in prop::collection::btree_map(0..20i32, -1..100_000i64, 0..5),
        ) {
            let progress = Progress { upto: open.last().unwrap_or(&0) + beyond, open, as_of };
            let text = progress.to_metadata();
            prop_assert_eq!(Progress::from_metadata(progress.next(), &text), Ok(progress));
        }
    }
}
