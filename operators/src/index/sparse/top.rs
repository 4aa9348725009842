//! The best rows of a sealed index, by MaxScore (Turtle & Flood 1995) over windows of rows, with block maxima.
//!
//! Window by window the terms are split: the least, whose greatest shares together do not reach the score that is needed,
//! cannot bring a row in by themselves. Only the postings of the others are added up; a row whose sum can reach the needed
//! score together with what the least have in its own blocks is scored by its vector. Sums are in f32 and a little slack,
//! so that nothing is lost; scores are not.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::sealed::{List, Postings, Sealed};
use super::weigh::Weighing;
use crate::index::rows::{Row, RowHit, RowSet, Search};

/// Rows of a window: its sums stay in the first cache.
const WINDOW: usize = 4096;

/// By how much, relatively, a sum in f32 may fall short.
const SLACK: f64 = 1e-4;

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
    block: usize,
    /// The block that is unpacked.
    unpacked: usize,
    postings: Postings,
}

/// No block is unpacked.
const NOTHING: usize = usize::MAX;

impl<'a> Cursor<'a> {
    fn new(sealed: &'a Sealed, number: u32, weight: f64, excess: f64) -> Self {
        Self {
            sealed,
            list: sealed.lists[number as usize],
            weight: weight as f32,
            bound: (weight * excess * (1.0 + SLACK)) as f32,
            block: 0,
            unpacked: NOTHING,
            postings: Postings::default(),
        }
    }

    /// The last row of a block; of the postings behind the last whole one as well.
    fn last(&self, block: usize) -> Option<Row> {
        let blocks = self.sealed.blocks_of(&self.list);
        blocks.get(block).map(|block| block.last).or_else(|| {
            (block == blocks.len()).then(|| self.sealed.tail_of(&self.list).last().copied()).flatten()
        })
    }

    fn share_max(&self, block: usize) -> f32 {
        let blocks = self.sealed.blocks_of(&self.list);
        blocks.get(block).map_or(self.list.tail_share_max, |block| block.share_max)
    }

    /// Goes to the first block that reaches to `row` or beyond; whether there is one.
    fn seek(&mut self, row: Row) -> bool {
        let blocks = self.sealed.blocks_of(&self.list);
        while blocks.get(self.block).is_some_and(|block| block.last < row) {
            self.block += 1;
        }
        self.last(self.block).is_some_and(|last| last >= row)
    }

    /// The most it adds to a row of `start..end`; `start` has been sought.
    fn most(&self, end: Row) -> f32 {
        let mut most = 0f32;
        let mut block = self.block;
        while let Some(last) = self.last(block) {
            most = most.max(self.share_max(block));
            if last >= end - 1 {
                break;
            }
            block += 1;
        }
        most * self.bound
    }

    /// Calls with row and weight of the postings in `start..end`; `start` has been sought.
    fn each(&mut self, start: Row, end: Row, mut each: impl FnMut(Row, f32)) {
        let mut block = self.block;
        while let Some(last) = self.last(block) {
            if self.unpacked != block {
                self.sealed.unpack(&self.list, block, &mut self.postings);
                self.unpacked = block;
            }
            let rows = &self.postings.rows[..self.postings.len];
            let from = rows.partition_point(|&row| row < start);
            let to = if last < end { rows.len() } else { rows.partition_point(|&row| row < end) };
            for (&row, &weight) in rows[from..to].iter().zip(&self.postings.weights[from..to]) {
                each(row, weight);
            }
            if last >= end - 1 {
                break;
            }
            block += 1;
        }
    }
}

/// The `want` best visible rows, ties by row; `None` where nothing can be pruned: with negative weights.
pub(super) fn search(
    sealed: &Sealed,
    terms: &[(u64, f64)],
    weighing: &Weighing,
    search: &Search<'_>,
) -> Option<Vec<RowHit>> {
    let located = sealed.locate(terms);
    if sealed.negative || located.iter().any(|&(_, weight)| weight < 0.0) {
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
        let excess = weighing.excess(sealed.length_mean);
        let mut cursors: Vec<Cursor<'_>> =
            located.iter().map(|&(number, weight)| Cursor::new(sealed, number, weight, excess)).collect();
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
    saturation: Option<(f32, f32)>,
    /// Per row of the window the sum so far.
    sums: Vec<f32>,
    /// Rows of the window that have one.
    touched: [u64; WINDOW / 64],
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
            saturation: weighing.saturation(),
            sums: vec![0.0; WINDOW],
            touched: [0; WINDOW / 64],
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
        let mut sum = 0f32;
        for &(most, _) in &self.most {
            if sum + most >= reach {
                break;
            }
            sum += most;
            least += 1;
        }
        if least < self.most.len() {
            self.add(cursors, least, start, end);
            self.collect(cursors, least, start, best);
        }
        Some(end)
    }

    /// Adds up the postings of all terms but the least.
    fn add(&mut self, cursors: &mut [Cursor<'_>], least: usize, start: Row, end: Row) {
        let Self { sums, touched, saturation, sealed, .. } = self;
        for &(_, place) in &self.most[least..] {
            let cursor = &mut cursors[place];
            let weight = cursor.weight;
            let mut touch = |row: Row, part: f32| {
                let place = (row - start) as usize;
                sums[place] += part;
                touched[place / 64] |= 1 << (place % 64);
            };
            match *saturation {
                None => cursor.each(start, end, |row, of_row| touch(row, weight * of_row)),
                Some((c, d)) => cursor.each(start, end, |row, of_row| {
                    let length = sealed.forward.length(row) as f32;
                    touch(row, weight * of_row / (of_row + c + d * length));
                }),
            }
        }
    }

    /// Scores the rows that can reach the needed score.
    fn collect(&mut self, cursors: &mut [Cursor<'_>], least: usize, start: Row, best: &mut Best) {
        let mut reach = best.reach();
        let rest: f32 = self.most[..least].iter().map(|(most, _)| most).sum();
        for word in 0..WINDOW / 64 {
            let mut bits = std::mem::take(&mut self.touched[word]);
            while bits != 0 {
                let place = word * 64 + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                let sum = std::mem::take(&mut self.sums[place]);
                let row = start + place as Row;
                if sum + rest < reach || !self.visible.contains(row) {
                    continue;
                }
                if least > 0 && sum + of_blocks(&self.most[..least], cursors, row) < reach {
                    continue;
                }
                if let Some(score) = self.sealed.forward.score_located(self.located, self.weighing, row) {
                    best.offer(RowHit { row, score });
                    reach = best.reach();
                }
            }
        }
    }
}

/// The most that some terms add to a row, by its own blocks. Rows come ascending.
fn of_blocks(terms: &[(f32, usize)], cursors: &mut [Cursor<'_>], row: Row) -> f32 {
    let most = |&(_, place): &(f32, usize)| {
        let cursor = &mut cursors[place];
        if cursor.seek(row) { cursor.share_max(cursor.block) * cursor.bound } else { 0.0 }
    };
    terms.iter().map(most).sum()
}
