//! The lists of a sealed index as bytes, for who has its rows: inverting them takes longer than reading lists.
//!
//! ```text
//! sum · magic · bytes of the frame │ rows · terms · postings · whether nothing can be pruned · levels │ terms, 8 bytes each │ lengths of lists
//!   │ steps, where levels are steps │ rows of all lists, as differences │ levels of all lists
//! ```
//! Integers are little-endian, lengths and differences LEB128; what follows the front is one frame of zstd. Weights are not in it: they
//! come with the rows, each row's in the order of its terms. Nor is how lists lie in memory, which may change.

use zstd::bulk::{compress, decompress};

use super::forward::Forward;
use super::levels::Levels;
use super::sealed::Sealed;
use crate::index::bytes::{Bytes, sum, unsummed};
use crate::index::rows::Row;

/// The first bytes, which name the format.
const MAGIC: &[u8; 8] = b"FSPOST01";
/// Of zstd: 3 takes twice the time for a few percent.
const ZSTD_LEVEL: i32 = 1;
/// Most bytes in the frame, beside those of postings.
const HEAD_MAX: usize = 8192;
/// Most bytes of a posting: it may have a term, a length and a step of its own, and has a difference and a level.
const POSTING_MAX: usize = 8 + 5 + 4 + 5 + 1;

/// Writes the lists.
pub(super) fn write(sealed: &Sealed) -> std::io::Result<Vec<u8>> {
    let postings = sealed.forward.postings();
    let mut bytes = Vec::with_capacity(sealed.terms.len() * 12 + postings * 4);
    bytes.extend((sealed.forward.len() as u64).to_le_bytes());
    bytes.extend((sealed.terms.len() as u64).to_le_bytes());
    bytes.extend((postings as u64).to_le_bytes());
    bytes.push(sealed.positive.into());
    sealed.levels.write(&mut bytes);
    sealed.terms.iter().for_each(|term| bytes.extend(term.to_le_bytes()));
    sealed.lists.iter().for_each(|list| put(&mut bytes, list.count));
    if !sealed.levels.are_exact() {
        sealed.lists.iter().for_each(|list| bytes.extend(list.step.to_le_bytes()));
    }
    let mut levels = Vec::with_capacity(postings);
    for number in 0..sealed.lists.len() as u32 {
        let mut before = 0;
        sealed.postings(number).for_each(|row, level| {
            put(&mut bytes, row - before);
            before = row;
            levels.push(level);
        });
    }
    bytes.extend(levels);
    let mut whole = unsummed();
    whole.extend(MAGIC);
    whole.extend((bytes.len() as u64).to_le_bytes());
    whole.extend(compress(&bytes, ZSTD_LEVEL)?);
    Ok(sum(whole))
}

/// The index of rows that have come with their weights, and of the lists that `write` gave of the same rows.
///
/// # Errors
/// What is wrong: bytes that are torn, or lists of other rows.
pub(super) fn read(mut forward: Forward, bytes: &[u8]) -> Result<Sealed, String> {
    let torn = || "has postings that are torn".to_owned();
    let other = || "has rows whose terms are not those of its postings".to_owned();
    let mut front = Bytes::summed(bytes).ok_or_else(torn)?;
    if front.take().as_ref() != Some(MAGIC) {
        return Err("has postings of another format".to_owned());
    }
    // Nobody makes room for more than these rows can have.
    let most = forward.postings() * POSTING_MAX + HEAD_MAX;
    let len = count(&mut front).filter(|&len| len <= most).ok_or_else(torn)?;
    let whole = decompress(front.0, len).map_err(|_| torn())?;
    let mut from = Bytes(&whole);
    let (rows, terms, postings) = (
        count(&mut from).ok_or_else(torn)?,
        count(&mut from).ok_or_else(torn)?,
        count(&mut from).ok_or_else(torn)?,
    );
    if (rows, postings) != (forward.len(), forward.postings()) {
        let found = (forward.len(), forward.postings());
        return Err(format!(
            "has {} rows of {} terms, its postings are of {rows} rows of {postings} terms",
            found.0, found.1
        ));
    }
    let [positive] = from.take::<1>().ok_or_else(torn)?;
    let of_levels = Levels::read(&mut from).ok_or_else(torn)?;
    let lists =
        (terms <= postings).then(|| Lists::of(from, terms, postings, of_levels.are_exact())).flatten();
    let Lists { terms, counts, steps, mut rows, mut levels } = lists.ok_or_else(torn)?;
    let mut sealed = Sealed::begun(terms, &counts, of_levels);
    (sealed.length_mean, sealed.positive) = (forward.length_mean(), positive != 0);
    if !sealed.levels.know(levels.0) {
        return Err(torn());
    }
    // Most lists are short: what is done for each of them counts.
    let (mut places, mut list) = (forward.places(), Vec::new());
    for (number, &count) in (0..).zip(&counts) {
        let levels = levels.bytes(count as usize).ok_or_else(torn)?;
        if !(ascending(&mut rows, count, &mut list).ok_or_else(torn)? && places.add(&list, number)) {
            return Err(other());
        }
        let step = steps.get(number as usize).map_or(1.0, |step| f32::from_le_bytes(*step));
        sealed.list(&list, levels, step);
    }
    if !rows.0.is_empty() {
        return Err(torn());
    }
    if !places.fill() {
        return Err(other());
    }
    forward.shrink();
    sealed.forward = forward;
    sealed.shrink();
    Ok(sealed)
}

/// The parts of all lists.
struct Lists<'a> {
    terms: Vec<u64>,
    counts: Vec<u32>,
    /// None where levels are exact.
    steps: &'a [[u8; 4]],
    /// Of each list the first one, then differences.
    rows: Bytes<'a>,
    levels: Bytes<'a>,
}

impl<'a> Lists<'a> {
    fn of(mut from: Bytes<'a>, terms: usize, postings: usize, exact: bool) -> Option<Self> {
        let of_terms = from.bytes(terms.checked_mul(size_of::<u64>())?)?;
        let of_terms: Vec<u64> =
            of_terms.as_chunks().0.iter().map(|term| u64::from_le_bytes(*term)).collect();
        if !of_terms.is_sorted_by(|a, b| a < b) {
            return None;
        }
        let counts = numbers(&mut from, terms)?;
        let all: u64 = counts.iter().map(|&count| u64::from(count)).sum();
        if counts.contains(&0) || all != postings as u64 {
            return None;
        }
        let steps = from.bytes(if exact { 0 } else { terms.checked_mul(size_of::<f32>())? })?.as_chunks().0;
        let rows = Bytes(from.bytes(from.0.len().checked_sub(postings)?)?);
        Some(Self { terms: of_terms, counts, steps, rows, levels: from })
    }
}

/// Reads so many numbers.
fn numbers(from: &mut Bytes<'_>, count: usize) -> Option<Vec<u32>> {
    let mut numbers = Vec::with_capacity(count);
    for _ in 0..count {
        numbers.push(from.varint()?);
    }
    Some(numbers)
}

/// Reads so many rows, at least one, of which the first one and differences are there; whether they ascend.
#[inline]
fn ascending(from: &mut Bytes<'_>, count: u32, to: &mut Vec<Row>) -> Option<bool> {
    let (mut row, mut ascend) = (from.varint()?, true);
    to.clear();
    to.push(row);
    for _ in 1..count {
        let more = from.varint()?;
        ascend &= more > 0;
        row = row.saturating_add(more);
        to.push(row);
    }
    Some(ascend)
}

fn count(from: &mut Bytes<'_>) -> Option<usize> {
    from.take().map(u64::from_le_bytes).and_then(|count| usize::try_from(count).ok())
}

fn put(to: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}
