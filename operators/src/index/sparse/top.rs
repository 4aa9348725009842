//! The best rows of a sealed index, by MaxScore (Turtle & Flood 1995) over windows of rows, with block maxima.
//!
//! Window by window the terms are split: the least, whose greatest shares together do not reach the score that is needed,
//! cannot bring a row in by themselves. Only the postings of the others are looked at: of a single one the levels alone
//! tell which blocks to unpack, of several what they add is summed. A row that can reach the needed score together with
//! the least is looked up in these, until it cannot any more, and then scored. Bounds are in f32, rounded up, with a
//! little slack, so that nothing is lost; scores are not.
//!
//! The needed score is known from the start: of the rarest terms the rows with the greatest shares are scored first.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::cursor::{Cursor, Sums, WINDOW};
use super::pack::BLOCK;
use super::sealed::Sealed;
use super::weigh::Weighing;
use crate::index::rows::{Row, RowHit, RowSet, Search};

/// Query weights below might vanish in f32.
const WEIGHT_MIN: f64 = 1e-6;

/// Blocks of a term that are searched for great shares before all else.
const SEED_BLOCKS: usize = 16;

/// By how much, relatively, a sum in f32 may fall short.
const SLACK: f64 = 1e-4;

/// By how much a difference of sums in f32 may be off, relative to the greatest of them.
const ROUNDING: f32 = 1e-4;

/// A window with fewer postings is gone through posting by posting.
const FEW_IN_WINDOW: usize = WINDOW / 4;

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
        let shares = sealed.levels.shares(weighing);
        let cursor = |&(number, weight): &(u32, f64)| Cursor::new(sealed, number, weight, weighing, &shares);
        let mut cursors: Vec<Cursor<'_>> = located.iter().map(cursor).collect();
        let mut pass = Pass::new(sealed, &located, weighing, &shares, search.visible);
        best.needed = best.needed.max(pass.seed(&cursors, search.want));
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
    /// Per level its share, where levels are exact.
    shares: &'a [f64],
    visible: &'a RowSet<'a>,
    /// All 0 between windows; made when first needed.
    sums: Option<Box<Sums>>,
    /// Rows that may be good enough, and their sums; ascending.
    candidates: Vec<(Row, f32)>,
    /// Per term of the window the most it adds, and its place; ascending.
    most: Vec<(f32, usize)>,
}

impl<'a> Pass<'a> {
    fn new(
        sealed: &'a Sealed,
        located: &'a [(u32, f64)],
        weighing: &'a Weighing,
        shares: &'a [f64],
        visible: &'a RowSet<'a>,
    ) -> Self {
        Self {
            sealed,
            located,
            weighing,
            shares,
            visible,
            sums: None,
            candidates: Vec::new(),
            most: Vec::with_capacity(located.len()),
        }
    }

    /// A score that `want` rows reach: of those with the greatest shares of the terms that add most.
    fn seed(&mut self, cursors: &[Cursor<'_>], want: usize) -> f64 {
        self.most.clear();
        self.most.extend((0..).zip(cursors).map(|(place, cursor)| (cursor.most(), place)));
        self.most.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        let mut rows: Vec<Row> = Vec::new();
        let mut found: Vec<(u8, Row)> = Vec::new();
        for &(_, place) in &self.most {
            let postings = cursors[place].postings();
            found.clear();
            let mut of_block = [0; BLOCK];
            for block in 0..postings.blocks().min(SEED_BLOCKS) {
                let count = postings.rows(block, &mut of_block);
                let visible = of_block[..count].iter().zip(postings.levels(block));
                found.extend(
                    visible.map(|(&row, &level)| (level, row)).filter(|(_, row)| self.visible.contains(*row)),
                );
            }
            if found.len() > want {
                found.select_nth_unstable_by(want - 1, |a, b| b.cmp(a));
                found.truncate(want);
            }
            rows.extend(found.iter().map(|(_, row)| *row));
            rows.sort_unstable();
            rows.dedup();
            if rows.len() >= want {
                break;
            }
        }
        if rows.len() < want {
            return f64::NEG_INFINITY;
        }
        let score = |&row: &Row| self.sealed.forward.score_located(self.located, self.weighing, row);
        let mut scores: Vec<f64> = rows.iter().filter_map(score).collect();
        scores.sort_unstable_by(|a, b| b.total_cmp(a));
        scores[want - 1]
    }

    /// Looks at the window from `start` on; the start of the next one that has postings.
    fn window(&mut self, cursors: &mut [Cursor<'_>], start: Row, best: &mut Best) -> Option<Row> {
        let end = start.saturating_add(WINDOW as Row).min(self.sealed.forward.len() as Row);
        if start >= end {
            return None;
        }
        self.most.clear();
        for (place, cursor) in cursors.iter_mut().enumerate() {
            self.most.extend(cursor.enter(start, end).map(|most| (most, place)));
        }
        if self.most.is_empty() {
            return None;
        }
        self.most.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let reach = best.reach();
        // How many of the least do not reach it together, and what they add.
        let (mut least, mut rest) = (0, 0f32);
        while let Some(&(most, _)) = self.most.get(least).filter(|(most, _)| rest + most < reach) {
            rest += most;
            least += 1;
        }
        if least < self.most.len() {
            self.gather(cursors, least, start, end, reach - rest);
            self.collect(cursors, least, rest, best);
        }
        Some(end)
    }

    /// Finds the rows to which all terms but the least add enough.
    fn gather(&mut self, cursors: &mut [Cursor<'_>], least: usize, start: Row, end: Row, enough: f32) {
        let candidates = &mut self.candidates;
        candidates.clear();
        let greatest = &self.most[least..];
        if let &[(_, place)] = greatest {
            cursors[place].reaching(start, end, enough, |row, worth| candidates.push((row, worth)));
            return;
        }
        let sums = self.sums.get_or_insert_with(|| Box::new([0.0; WINDOW]));
        let mut count = 0;
        for &(_, place) in greatest {
            cursors[place].each(start, end, |row, worth| {
                // The remainder is the place itself, and spares a check.
                sums[(row - start) as usize % WINDOW] += worth;
                count += 1;
            });
        }
        // Every posting adds something: a row without any has a sum of 0.
        let enough = enough.max(f32::MIN_POSITIVE);
        if count > FEW_IN_WINDOW {
            for (number, some) in sums.as_chunks::<LANES>().0.iter().enumerate() {
                if some.iter().map(|sum| u32::from(*sum >= enough)).sum::<u32>() > 0 {
                    let rows = (start + (number * LANES) as Row..).zip(some);
                    candidates.extend(rows.filter(|(_, sum)| **sum >= enough).map(|(row, &sum)| (row, sum)));
                }
            }
            sums.fill(0.0);
            return;
        }
        for &(_, place) in greatest {
            cursors[place].each(start, end, |row, _| {
                let sum = std::mem::take(&mut sums[(row - start) as usize % WINDOW]);
                if sum >= enough {
                    candidates.push((row, sum));
                }
            });
        }
        candidates.sort_unstable_by_key(|(row, _)| *row);
    }

    /// Scores the candidates that can reach the needed score.
    fn collect(&self, cursors: &mut [Cursor<'_>], least: usize, rest: f32, best: &mut Best) {
        let mut reach = best.reach();
        for &(row, sum) in &self.candidates {
            if sum + rest < reach
                || !self.visible.contains(row)
                || !can_reach(&self.most[..least], cursors, row, sum, rest, reach)
            {
                continue;
            }
            if let Some(score) = self.score(cursors, row) {
                best.offer(RowHit { row, score });
                reach = best.reach();
            }
        }
    }

    /// The score of a row: the same sum, by its postings or by its vector. Rows come ascending.
    fn score(&self, cursors: &mut [Cursor<'_>], row: Row) -> Option<f64> {
        if self.shares.is_empty() {
            return self.sealed.forward.score_located(self.located, self.weighing, row);
        }
        let mut score = None;
        for (cursor, (_, weight)) in cursors.iter_mut().zip(self.located) {
            if let Some(level) = cursor.level(row) {
                score = Some(score.unwrap_or(0.0) + weight * self.shares[usize::from(level)]);
            }
        }
        score
    }
}

/// Whether terms, which together add `rest` at most, may lift a row from `sum` to what it needs. Rows come ascending.
fn can_reach(
    terms: &[(f32, usize)],
    cursors: &mut [Cursor<'_>],
    row: Row,
    mut sum: f32,
    mut rest: f32,
    reach: f32,
) -> bool {
    for &(most, place) in terms.iter().rev() {
        rest -= most;
        // What is lost when sums are taken apart again.
        let lost = most * ROUNDING;
        let cursor = &mut cursors[place];
        if sum + cursor.bound(row) + rest + lost < reach {
            return false;
        }
        sum += cursor.part(row);
        if sum + rest + lost < reach {
            return false;
        }
    }
    true
}
