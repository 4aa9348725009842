//! The best rows of a sealed index, by MaxScore (Turtle & Flood 1995) over windows of rows, with block maxima.
//!
//! Window by window the terms are split: the least, whose greatest shares together do not reach the score that is needed,
//! cannot bring a row in by themselves. Only the postings of the others are added up; a row whose sum can reach the needed
//! score together with what the least have in its own blocks is scored by its vector. Sums are in f32 and a little slack,
//! so that nothing is lost; scores are not.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::pack::BLOCK;
use super::sealed::{List, Postings, Sealed};
use super::weigh::Weighing;
use crate::index::rows::{Row, RowHit, RowSet, Search};

/// Rows of a window: its sums stay in the first cache.
const WINDOW: usize = 4096;

/// Query weights below might vanish in f32.
const WEIGHT_MIN: f64 = 1e-6;

/// By how much, relatively, a sum in f32 may fall short.
const SLACK: f64 = 1e-4;

/// By how much a difference of sums in f32 may be off, relative to the greatest of them.
const ROUNDING: f32 = 1e-4;

/// A window with fewer postings than one in so many rows is looked through posting by posting.
const FEW_IN_WINDOW: usize = 16;

/// Sums compared at once.
const LANES: usize = 32;

/// Below this part of the rows, those that may be found are scored one by one.
const FEW_PART: usize = 256;

/// A row found; the greatest is the worst: the lowest score, then the highest row.
#[derive(Clone, Copy, PartialEq)]
struct Worst(RowHit);

impl Eq for Worst {}

impl Ord for Worst {
    fn cmp(&self, other: &Self) -> Ordering {
        other.0.score.total_cmp(&self.0.score).then(self.0.row.cmp(&other.0.row))
    }
}

impl PartialOrd for Worst {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The best so far, and the score a row needs to be among them.
struct Best {
    heap: BinaryHeap<Worst>,
    want: usize,
    /// Rows below are of no use; a row that ties comes too late once the heap is full.
    needed: f64,
}

impl Best {
    fn offer(&mut self, hit: RowHit) {
        if hit.score < self.needed {
            return;
        }
        if self.heap.len() < self.want {
            self.heap.push(Worst(hit));
        } else if let Some(mut worst) = self.heap.peek_mut()
            && Worst(hit) < *worst
        {
            *worst = Worst(hit);
        }
        if self.heap.len() == self.want {
            let worst = self.heap.peek().map_or(f64::NEG_INFINITY, |worst| worst.0.score);
            self.needed = self.needed.max(worst);
        }
    }

    /// What a sum in f32 must reach.
    fn reach(&self) -> f32 {
        (self.needed - self.needed.abs() * SLACK) as f32
    }
}

/// A term's way through its postings. Invariant: postings of blocks before `block` lie before the window.
struct Cursor<'a> {
    sealed: &'a Sealed,
    list: List,
    weight: f32,
    /// What a share at the index's own mean length is multiplied by for a bound.
    bound: f32,
    saturation: Option<(f32, f32)>,
    block: usize,
    /// The block that is unpacked.
    unpacked: usize,
    postings: Postings,
    /// What each of its postings adds, in f32.
    parts: [f32; BLOCK],
}

/// No block is unpacked.
const NOTHING: usize = usize::MAX;

impl<'a> Cursor<'a> {
    fn new(sealed: &'a Sealed, number: u32, weight: f64, weighing: &Weighing) -> Self {
        Self {
            sealed,
            list: sealed.lists[number as usize],
            weight: weight as f32,
            bound: (weight * weighing.excess(sealed.length_mean) * (1.0 + SLACK)) as f32,
            saturation: weighing.saturation(),
            block: 0,
            unpacked: NOTHING,
            postings: Postings::default(),
            parts: [0.0; BLOCK],
        }
    }

    /// The last row of a block; of the postings behind the last whole one as well.
    fn last(&self, block: usize) -> Option<Row> {
        let blocks = self.sealed.blocks_of(&self.list);
        blocks.get(block).map(|block| block.last).or_else(|| {
            (block == blocks.len()).then(|| self.sealed.tail_of(&self.list).last().copied()).flatten()
        })
    }

    /// The most a posting of a block adds.
    fn most_of(&self, block: usize) -> f32 {
        let blocks = self.sealed.blocks_of(&self.list);
        blocks.get(block).map_or(self.list.tail_share_max, |block| block.share_max) * self.bound
    }

    /// Goes to the first block that reaches to `row` or beyond; whether there is one.
    fn seek(&mut self, row: Row) -> bool {
        let blocks = self.sealed.blocks_of(&self.list);
        while blocks.get(self.block).is_some_and(|block| block.last < row) {
            self.block += 1;
        }
        self.last(self.block).is_some_and(|last| last >= row)
    }

    /// The most it adds to a row before `end`, from the block on that has been sought.
    fn most(&self, end: Row) -> f32 {
        let mut most = 0f32;
        let mut block = self.block;
        while let Some(last) = self.last(block) {
            most = most.max(self.most_of(block));
            if last >= end - 1 {
                break;
            }
            block += 1;
        }
        most
    }

    /// Unpacks a block and works out what its postings add.
    fn unpack(&mut self, block: usize) {
        if self.unpacked == block {
            return;
        }
        self.unpacked = block;
        let Self { sealed, list, weight, saturation, postings, parts, .. } = self;
        sealed.unpack(list, block, postings);
        let weights = &postings.weights;
        match *saturation {
            None => parts.iter_mut().zip(weights).for_each(|(part, of_row)| *part = *weight * of_row),
            Some((c, d)) => {
                for (part, &row) in parts.iter_mut().zip(&postings.rows[..postings.len]) {
                    *part = sealed.lengths[row as usize];
                }
                for (part, of_row) in parts.iter_mut().zip(weights) {
                    *part = *weight * of_row / (of_row + c + d * *part);
                }
            }
        }
    }

    /// Adds what its postings in `start..start + sums.len()` add; `start` has been sought. How many there are.
    fn add(&mut self, start: Row, sums: &mut [f32]) -> usize {
        let end = start + sums.len() as Row;
        let (mut block, mut count) = (self.block, 0);
        while let Some(last) = self.last(block) {
            self.unpack(block);
            let rows = &self.postings.rows[..self.postings.len];
            let from = if rows[0] >= start { 0 } else { rows.partition_point(|&row| row < start) };
            let to = if last < end { rows.len() } else { rows.partition_point(|&row| row < end) };
            for (&row, part) in rows[from..to].iter().zip(&self.parts[from..to]) {
                sums[(row - start) as usize] += part;
            }
            count += to - from;
            if last >= end - 1 {
                break;
            }
            block += 1;
        }
        count
    }

    /// Calls with the row of each of its postings in `start..end`, for windows with few of them.
    fn rows(&mut self, start: Row, end: Row, mut each: impl FnMut(Row)) {
        let mut block = self.block;
        while let Some(last) = self.last(block) {
            self.unpack(block);
            let rows = &self.postings.rows[..self.postings.len];
            rows.iter().filter(|row| (start..end).contains(*row)).for_each(|&row| each(row));
            if last >= end - 1 {
                break;
            }
            block += 1;
        }
    }

    /// What it adds to a row, rows ascending from call to call; `None` if it can only be less than `least`.
    fn part(&mut self, row: Row, least: f32) -> Option<f32> {
        if !self.seek(row) {
            return Some(0.0);
        }
        if self.most_of(self.block) < least {
            return None;
        }
        self.unpack(self.block);
        let rows = &self.postings.rows[..self.postings.len];
        Some(rows.binary_search(&row).map_or(0.0, |place| self.parts[place]))
    }
}

/// The `want` best visible rows, ties by row; `None` where nothing can be pruned: with weights that
/// are negative or nothing.
pub(super) fn search(
    sealed: &Sealed,
    terms: &[(u64, f64)],
    weighing: &Weighing,
    search: &Search<'_>,
) -> Option<Vec<RowHit>> {
    let located = sealed.locate(terms);
    // What adds nothing, or next to nothing, is still a match.
    let adds = |&(_, weight): &(u32, f64)| weight > WEIGHT_MIN;
    if !sealed.positive || !weighing.saturates() || !located.iter().all(adds) {
        return None;
    }
    let mut best = Best { heap: BinaryHeap::new(), want: search.want, needed: search.above };
    if search.visible.count() < search.visible.rows() / FEW_PART {
        search.visible.for_each(|row| {
            if let Some(score) = sealed.forward.score_located(&located, weighing, row) {
                best.offer(RowHit { row, score });
            }
        });
    } else {
        let cursor = |&(number, weight): &(u32, f64)| Cursor::new(sealed, number, weight, weighing);
        let mut cursors: Vec<Cursor<'_>> = located.iter().map(cursor).collect();
        let mut pass = Pass::new(sealed, &located, weighing, search.visible);
        let mut start = 0;
        while let Some(next) = pass.window(&mut cursors, start, &mut best) {
            start = next;
        }
    }
    Some(best.heap.into_iter().map(|worst| worst.0).collect())
}

/// A search over all windows.
struct Pass<'a> {
    sealed: &'a Sealed,
    located: &'a [(u32, f64)],
    weighing: &'a Weighing,
    visible: &'a RowSet<'a>,
    /// Per row of the window the sum so far.
    sums: Vec<f32>,
    /// Places of the window whose sums may be enough.
    enough: Vec<u16>,
    /// Per term of the window the most it adds, and its place; ascending.
    most: Vec<(f32, usize)>,
}

impl<'a> Pass<'a> {
    fn new(
        sealed: &'a Sealed,
        located: &'a [(u32, f64)],
        weighing: &'a Weighing,
        visible: &'a RowSet<'a>,
    ) -> Self {
        Self {
            sealed,
            located,
            weighing,
            visible,
            sums: vec![0.0; WINDOW],
            enough: Vec::new(),
            most: Vec::with_capacity(located.len()),
        }
    }

    /// Looks at the window from `start` on; the start of the next one that has postings.
    fn window(&mut self, cursors: &mut [Cursor<'_>], start: Row, best: &mut Best) -> Option<Row> {
        let end = start.saturating_add(WINDOW as Row).min(self.sealed.forward.len() as Row);
        if start >= end {
            return None;
        }
        self.most.clear();
        for (place, cursor) in cursors.iter_mut().enumerate() {
            if cursor.seek(start) {
                self.most.push((cursor.most(end), place));
            }
        }
        if self.most.is_empty() {
            return None;
        }
        self.most.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let reach = best.reach();
        let mut least = 0;
        let mut rest = 0f32;
        for &(most, _) in &self.most {
            if rest + most >= reach {
                break;
            }
            rest += most;
            least += 1;
        }
        if least < self.most.len() {
            self.add(cursors, least, start, end, reach - rest);
            self.collect(cursors, least, rest, start, best);
        }
        Some(end)
    }

    /// Adds up the postings of all terms but the least, and finds where the sums are enough.
    fn add(&mut self, cursors: &mut [Cursor<'_>], least: usize, start: Row, end: Row, enough: f32) {
        let sums = &mut self.sums[..(end - start) as usize];
        let greatest = &self.most[least..];
        let count: usize = greatest.iter().map(|&(_, place)| cursors[place].add(start, sums)).sum();
        self.enough.clear();
        // Every posting adds something: a row without any has a sum of 0.
        let enough = enough.max(f32::MIN_POSITIVE);
        if count > sums.len() / FEW_IN_WINDOW {
            for (number, some) in sums.chunks_mut(LANES).enumerate() {
                if some.iter().map(|sum| u32::from(*sum >= enough)).sum::<u32>() > 0 {
                    let places = (0..).zip(some.iter()).filter(|(_, sum)| **sum >= enough);
                    self.enough.extend(places.map(|(place, _): (u16, _)| (number * LANES) as u16 + place));
                }
            }
            return;
        }
        for &(_, place) in greatest {
            cursors[place].rows(start, end, |row| {
                let place = (row - start) as usize;
                if sums[place] >= enough {
                    self.enough.push(place as u16);
                }
            });
        }
        self.enough.sort_unstable();
        self.enough.dedup();
    }

    /// Scores the rows that can reach the needed score.
    fn collect(&mut self, cursors: &mut [Cursor<'_>], least: usize, rest: f32, start: Row, best: &mut Best) {
        let mut reach = best.reach();
        for &place in &self.enough {
            let sum = self.sums[place as usize];
            let row = start + Row::from(place);
            if sum + rest < reach || !self.visible.contains(row) {
                continue;
            }
            if !can_reach(&self.most[..least], cursors, row, sum, rest, reach) {
                continue;
            }
            if let Some(score) = self.sealed.forward.score_located(self.located, self.weighing, row) {
                best.offer(RowHit { row, score });
                reach = best.reach();
            }
        }
        self.sums.fill(0.0);
    }
}

/// Whether the least terms, which together add `rest` at most, may lift a row from `sum` to what it needs. Rows come
/// ascending.
fn can_reach(
    least: &[(f32, usize)],
    cursors: &mut [Cursor<'_>],
    row: Row,
    mut sum: f32,
    mut rest: f32,
    reach: f32,
) -> bool {
    for &(most, place) in least.iter().rev() {
        rest -= most;
        // What the terms before leave over is enough, or this one has to bring the difference. A little is lost when
        // sums are taken apart again.
        match cursors[place].part(row, reach - sum - rest - most * ROUNDING) {
            Some(part) => sum += part,
            None => return false,
        }
        if sum + rest + most * ROUNDING < reach {
            return false;
        }
    }
    true
}
