//! The values of one payload field, by value.

use std::collections::BTreeMap;
use std::ops::Range;

use freshet_schemas::Direction;
use roaring::RoaringBitmap;

use crate::index::bits::Bits;
use crate::index::rows::Row;

/// Rows of a term that are kept as a bitmap rather than as a list.
const ROWS_MANY: usize = 64;

/// Rows by term: whole strings, truth values or words.
#[derive(Debug)]
pub(super) enum Terms {
    /// Of a head: rows ascend.
    Head(BTreeMap<Box<str>, Vec<Row>>),
    /// Of a sealed index.
    Sealed(Dictionary),
}

/// Sorted terms in one piece of memory. Term `n` ends at `ends[n]` in `texts`, its list at `list_ends[n]` in `lists`;
/// the list of a term with many rows is empty, and they are in `many`.
#[derive(Debug, Default)]
pub(super) struct Dictionary {
    texts: String,
    ends: Vec<usize>,
    lists: Vec<Row>,
    list_ends: Vec<usize>,
    many: BTreeMap<usize, RoaringBitmap>,
}

impl Terms {
    /// Adds a row, above those that are there, to the rows of a term; only in a head.
    pub(super) fn push(&mut self, term: &str, row: Row) {
        let Self::Head(terms) = self else { return debug_assert!(false, "a sealed index is immutable") };
        match terms.get_mut(term) {
            None => drop(terms.insert(term.into(), vec![row])),
            Some(rows) if rows.last() == Some(&row) => {}
            Some(rows) => rows.push(row),
        }
    }

    /// The terms of several, whose rows have new numbers.
    pub(super) fn seal<'a>(from: impl Iterator<Item = (&'a Self, &'a [Option<Row>])>) -> Self {
        let mut merged: BTreeMap<&str, Vec<Row>> = BTreeMap::new();
        for (terms, numbers) in from {
            terms.each(|term, rows| {
                let rows = rows.filter_map(|row| numbers[row as usize]);
                let mut rows = rows.peekable();
                if rows.peek().is_some() {
                    merged.entry(term).or_default().extend(rows);
                }
            });
        }
        let mut sealed = Dictionary::default();
        for (number, (term, mut rows)) in merged.into_iter().enumerate() {
            rows.sort_unstable();
            sealed.texts.push_str(term);
            if rows.len() < ROWS_MANY {
                sealed.lists.append(&mut rows);
            } else {
                sealed.many.insert(number, rows.into_iter().collect());
            }
            sealed.ends.push(sealed.texts.len());
            sealed.list_ends.push(sealed.lists.len());
        }
        sealed.texts.shrink_to_fit();
        sealed.ends.shrink_to_fit();
        sealed.lists.shrink_to_fit();
        sealed.list_ends.shrink_to_fit();
        Self::Sealed(sealed)
    }

    /// Calls with every term and its rows.
    pub(super) fn each<'a>(&'a self, mut call: impl FnMut(&'a str, &mut dyn Iterator<Item = Row>)) {
        match self {
            Self::Head(terms) => {
                terms.iter().for_each(|(term, rows)| call(term, &mut rows.iter().copied()));
            }
            Self::Sealed(terms) => {
                (0..terms.ends.len()).for_each(|number| call(terms.text(number), &mut *terms.rows(number)));
            }
        }
    }

    /// Adds the rows of a term to a set.
    pub(super) fn collect(&self, term: &str, into: &mut Bits) {
        match self {
            Self::Head(terms) => {
                terms.get(term).into_iter().flatten().for_each(|&row| into.insert(row));
            }
            Self::Sealed(terms) => {
                if let Some(number) = terms.find(term) {
                    terms.rows(number).for_each(|row| into.insert(row));
                }
            }
        }
    }

    /// Bytes of memory, about.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Head(terms) => terms.iter().map(|(term, rows)| term.len() + 48 + rows.capacity() * 4).sum(),
            Self::Sealed(terms) => {
                let lists = (terms.ends.capacity() + terms.list_ends.capacity()) * size_of::<usize>();
                let many: usize = terms.many.values().map(|rows| rows.serialized_size() + 64).sum();
                terms.texts.capacity() + lists + terms.lists.capacity() * size_of::<Row>() + many
            }
        }
    }
}

impl Dictionary {
    fn text(&self, number: usize) -> &str {
        &self.texts[start(&self.ends, number)..self.ends[number]]
    }

    fn find(&self, term: &str) -> Option<usize> {
        let (mut from, mut to) = (0, self.ends.len());
        while from < to {
            let middle = from.midpoint(to);
            match self.text(middle).cmp(term) {
                std::cmp::Ordering::Equal => return Some(middle),
                std::cmp::Ordering::Less => from = middle + 1,
                std::cmp::Ordering::Greater => to = middle,
            }
        }
        None
    }

    fn rows(&self, number: usize) -> Box<dyn Iterator<Item = Row> + '_> {
        match self.many.get(&number) {
            Some(rows) => Box::new(rows.iter()),
            None => {
                Box::new(self.lists[start(&self.list_ends, number)..self.list_ends[number]].iter().copied())
            }
        }
    }
}

fn start(ends: &[usize], number: usize) -> usize {
    number.checked_sub(1).map_or(0, |before| ends[before])
}

/// Rows by number, as ordered keys. Invariants: as many rows as keys; ascending by key, then row, if sealed.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    keys: Vec<i64>,
    rows: Vec<Row>,
    sealed: bool,
}

impl Numbers {
    /// Adds a row to a head.
    pub(super) fn push(&mut self, key: i64, row: Row) {
        debug_assert!(!self.sealed);
        self.keys.push(key);
        self.rows.push(row);
    }

    /// The keys of several, whose rows have new numbers.
    pub(super) fn seal<'a>(from: impl Iterator<Item = (&'a Self, &'a [Option<Row>])>) -> Self {
        let mut pairs: Vec<(i64, Row)> = Vec::new();
        for (column, numbers) in from {
            let pair = |(&key, &row): (&i64, &Row)| Some((key, numbers[row as usize]?));
            pairs.extend(column.keys.iter().zip(&column.rows).filter_map(pair));
        }
        pairs.sort_unstable();
        pairs.dedup();
        let (keys, rows) = (pairs.iter().map(|p| p.0).collect(), pairs.iter().map(|p| p.1).collect());
        Self { keys, rows, sealed: true }
    }

    /// Adds the rows of keys that lie neither below nor above a range to a set.
    pub(super) fn collect(
        &self,
        is_below: impl Fn(i64) -> bool,
        is_above: impl Fn(i64) -> bool,
        into: &mut Bits,
    ) {
        if self.sealed {
            let from = self.keys.partition_point(|&key| is_below(key));
            let to = self.keys.partition_point(|&key| !is_above(key));
            self.rows.get(from..to).into_iter().flatten().for_each(|&row| into.insert(row));
        } else {
            let pairs = self.keys.iter().zip(&self.rows);
            let inside = pairs.filter(|&(&key, _)| !is_below(key) && !is_above(key));
            inside.for_each(|(_, &row)| into.insert(row));
        }
    }

    /// Whether keys ascend.
    pub(super) fn is_sealed(&self) -> bool {
        self.sealed
    }

    /// The keys that are included, which lie together at the end of the order, and their rows; in that order if sealed.
    pub(super) fn in_order<'a>(
        &'a self,
        direction: Direction,
        includes: impl Fn(i64) -> bool + 'a,
    ) -> Box<dyn Iterator<Item = (i64, Row)> + 'a> {
        let pairs = |range: Range<usize>| {
            self.keys[range.clone()].iter().copied().zip(self.rows[range].iter().copied())
        };
        match (self.sealed, direction) {
            (false, _) => Box::new(pairs(0..self.keys.len()).filter(move |&(key, _)| includes(key))),
            (true, Direction::Asc) => {
                let from = self.keys.partition_point(|&key| !includes(key));
                Box::new(pairs(from..self.keys.len()))
            }
            (true, Direction::Desc) => {
                Box::new(pairs(0..self.keys.partition_point(|&key| includes(key))).rev())
            }
        }
    }

    /// Adds the rows that have a key which is not one of those, which ascend, to a set.
    pub(super) fn collect_others(&self, keys: &[i64], into: &mut Bits) {
        let pairs = self.keys.iter().zip(&self.rows);
        pairs.filter(|(key, _)| keys.binary_search(key).is_err()).for_each(|(_, &row)| into.insert(row));
    }

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        self.keys.capacity() * size_of::<i64>() + self.rows.capacity() * size_of::<Row>()
    }

    /// Asserts the invariants.
    pub(super) fn check(&self) {
        assert_eq!(self.keys.len(), self.rows.len());
        let pairs: Vec<_> = self.keys.iter().zip(&self.rows).collect();
        assert!(!self.sealed || pairs.is_sorted(), "numbers ascend");
    }
}

/// A float as key: keys have the order of floats, and −0 is 0.
pub(super) fn float_key(float: f64) -> i64 {
    let bits = (float + 0.0).to_bits().cast_signed();
    if bits < 0 { bits ^ i64::MAX } else { bits }
}

/// The float of a key.
pub(super) fn key_float(key: i64) -> f64 {
    f64::from_bits((if key < 0 { key ^ i64::MAX } else { key }).cast_unsigned())
}
