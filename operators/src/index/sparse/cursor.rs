//! A term's way through its postings, window by window.

use super::levels::LEVELS;
use super::pack::BLOCK;
use super::sealed::{Postings, Sealed};
use super::weigh::Weighing;
use crate::index::rows::Row;

/// Rows of a window: its sums stay in the first cache. Small in tests, so that they cross windows.
pub(super) const WINDOW: usize = if cfg!(test) { 256 } else { 4096 };

/// Per row of a window the sum so far.
pub(super) type Sums = [f32; WINDOW];

/// By how much, relatively, a number falls short that becomes an f32.
const SLACK_OF_ONE: f64 = 1e-6;

/// Levels looked at together.
const CHUNK: usize = 16;

/// No block is unpacked.
const NOTHING: usize = usize::MAX;

/// A term of a search. Invariant: postings of blocks before `block` lie before the window, or before the row that was
/// asked for last.
pub(super) struct Cursor<'a> {
    postings: Postings<'a>,
    /// The most that each level adds.
    worth: [f32; LEVELS],
    /// The most that it or one before it adds.
    most: [f32; LEVELS],
    block: usize,
    /// Up to which row `block` is the right one.
    reaches: Row,
    /// The last block that reaches into the window.
    last_block: usize,
    /// The block that is unpacked.
    unpacked: usize,
    rows: [Row; BLOCK],
    count: usize,
}

impl<'a> Cursor<'a> {
    /// `shares` are those of the levels, where these are exact.
    pub(super) fn new(
        sealed: &'a Sealed,
        number: u32,
        weight: f64,
        weighing: &Weighing,
        shares: &[f64],
    ) -> Self {
        let postings = sealed.postings(number);
        let mut worth = [0.0; LEVELS];
        let mut most;
        if sealed.levels.are_exact() {
            let up = weight * (1.0 + SLACK_OF_ONE);
            worth.iter_mut().zip(shares).for_each(|(worth, share)| *worth = (up * share) as f32);
            most = worth;
            // No posting has a level behind those; they stay in order.
            most[shares.len()..].fill(f32::INFINITY);
            (1..shares.len()).for_each(|level| most[level] = most[level].max(most[level - 1]));
        } else {
            let step = weight * f64::from(postings.step) * weighing.excess(sealed.length_mean);
            let step = (step * (1.0 + SLACK_OF_ONE)) as f32;
            worth.iter_mut().zip(0u8..=255).for_each(|(worth, level)| *worth = f32::from(level) * step);
            most = worth;
        }
        Self {
            postings,
            worth,
            most,
            block: 0,
            reaches: 0,
            last_block: 0,
            unpacked: NOTHING,
            rows: [0; BLOCK],
            count: 0,
        }
    }

    /// The most that one of its postings adds.
    pub(super) fn most(&self) -> f32 {
        self.most[usize::from(self.postings.greatest())]
    }

    /// Its postings.
    pub(super) fn postings(&self) -> &Postings<'a> {
        &self.postings
    }

    /// Goes to the window `start..end`; the most it adds to a row there, `None` if it has nothing from there on.
    pub(super) fn enter(&mut self, start: Row, end: Row) -> Option<f32> {
        let blocks = self.postings.blocks();
        self.block = self.postings.seek(self.block.max(self.last_block), start);
        if self.block >= blocks {
            self.reaches = Row::MAX;
            return None;
        }
        self.reaches = self.postings.last(self.block);
        self.last_block = self.postings.seek(self.block, end - 1).min(blocks - 1);
        Some(self.most[usize::from(self.postings.level_of(self.block, self.last_block))])
    }

    fn unpack(&mut self, block: usize) {
        if self.unpacked != block {
            self.count = self.postings.rows(block, &mut self.rows);
            self.unpacked = block;
        }
    }

    /// Calls with the row of each of its postings in `start..end`, and what it adds.
    pub(super) fn each(&mut self, start: Row, end: Row, mut each: impl FnMut(Row, f32)) {
        for block in self.block..=self.last_block {
            self.unpack(block);
            let (rows, levels) = (&self.rows[..self.count], self.postings.levels(block));
            let from = if rows[0] >= start { 0 } else { rows.partition_point(|&row| row < start) };
            let whole = rows[rows.len() - 1] < end;
            let to = if whole { rows.len() } else { rows.partition_point(|&row| row < end) };
            let found = rows[from..to].iter().zip(&levels[from..to]);
            found.for_each(|(&row, &level)| each(row, self.worth[usize::from(level)]));
        }
    }

    /// Calls with the rows of the window to which it adds at least `least`, ascending, and what that is.
    pub(super) fn reaching(&mut self, start: Row, end: Row, least: f32, mut each: impl FnMut(Row, f32)) {
        let least = self.most.partition_point(|most| *most < least);
        let Ok(least) = u8::try_from(least) else { return };
        for block in self.block..=self.last_block {
            if self.postings.level(block) < least {
                continue;
            }
            for (number, levels) in self.postings.levels(block).chunks(CHUNK).enumerate() {
                // Counted without branches, so that it is done at once.
                if levels.iter().map(|level| u8::from(*level >= least)).sum::<u8>() == 0 {
                    continue;
                }
                self.unpack(block);
                for (&row, &level) in self.rows[number * CHUNK..].iter().zip(levels) {
                    if level >= least && (start..end).contains(&row) {
                        each(row, self.worth[usize::from(level)]);
                    }
                }
            }
        }
    }

    /// Goes to the block in which a row would be; rows ascend from call to call.
    fn seek(&mut self, row: Row) {
        if row > self.reaches {
            self.block = self.postings.seek(self.block, row);
            let there = self.block < self.postings.blocks();
            self.reaches = if there { self.postings.last(self.block) } else { Row::MAX };
        }
    }

    /// The most it adds to a row, by its block.
    pub(super) fn bound(&mut self, row: Row) -> f32 {
        self.seek(row);
        if self.block < self.postings.blocks() {
            self.most[usize::from(self.postings.level(self.block))]
        } else {
            0.0
        }
    }

    /// What it adds to a row, at most, by its level there.
    pub(super) fn part(&mut self, row: Row) -> f32 {
        self.level(row).map_or(0.0, |level| self.worth[usize::from(level)])
    }

    /// The level of a row's posting, if there is one.
    pub(super) fn level(&mut self, row: Row) -> Option<u8> {
        self.seek(row);
        if self.block >= self.postings.blocks() {
            return None;
        }
        self.unpack(self.block);
        let rows = &self.rows[..self.count];
        let place = rows.partition_point(|&other| other < row);
        (rows.get(place) == Some(&row)).then(|| self.postings.levels(self.block)[place])
    }
}
