//! A sealed index: terms ascending, their postings in packed blocks.

use super::forward::Forward;
use super::levels::{LEVELS, Levels, stepped};
use super::pack::{BLOCK, pack_rows, packed_bytes, unpack_rows};
use super::weigh::Weighing;
use super::{Form, SparseRows};
use crate::index::Scoring;
use crate::index::rows::{Pick, Row};

/// Weights for which no product vanishes in f32, whatever the length of the row.
const WEIGHTS: std::ops::Range<f32> = 1e-6..1e6;

/// Blocks whose greatest levels are kept together.
const GROUP: usize = 32;

/// Postings of one term: rows, and a level for each. The weights themselves are in the vectors by row.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    /// Its first whole block.
    blocks: u32,
    /// Postings, those behind the last whole block included.
    pub(super) count: u32,
    /// Place of the postings behind the last whole block.
    tail: u32,
    /// Place of the greatest levels of its groups of blocks, the tail included.
    groups: u32,
    /// The share that a step stands for, at the mean length of the index, where levels are steps.
    pub(super) step: f32,
}

/// A whole block of postings.
#[derive(Clone, Copy, Debug)]
struct Block {
    last: Row,
    /// Place of its bytes: rows, then levels.
    offset: u32,
    row_bits: u8,
    /// The greatest of its levels.
    level: u8,
}

/// Immutable rows. Invariants: `terms` ascend and each has a list; the rows of a list ascend; `forward` has the same
/// postings by row.
#[derive(Debug, Default)]
pub(super) struct Sealed {
    pub(super) forward: Forward,
    pub(super) terms: Vec<u64>,
    pub(super) lists: Vec<List>,
    blocks: Vec<Block>,
    packed: Vec<u8>,
    groups: Vec<u8>,
    tail_rows: Vec<Row>,
    tail_levels: Vec<u8>,
    pub(super) levels: Levels,
    /// Mean length of the rows: what steps refer to.
    pub(super) length_mean: f64,
    /// Whether all weights are positive and neither tiny nor huge; if not, nothing can be pruned.
    pub(super) positive: bool,
}

impl Sealed {
    /// The picked rows of some indexes, in their order.
    pub(super) fn build(scoring: Scoring, from: &[&SparseRows], picks: &[Pick]) -> Self {
        let sources: Vec<(&Forward, &[u64])> = from
            .iter()
            .map(|rows| match &rows.form {
                Form::Head(head) => (&head.forward, head.terms.as_slice()),
                Form::Sealed(sealed) => (&sealed.forward, sealed.terms.as_slice()),
            })
            .collect();
        // Which terms the picked rows have, per source.
        let mut used: Vec<Vec<bool>> = sources.iter().map(|(_, terms)| vec![false; terms.len()]).collect();
        for pick in picks {
            let (forward, _) = sources[pick.from as usize];
            let used = &mut used[pick.from as usize];
            forward.terms[forward.range(pick.row)].iter().for_each(|&term| used[term as usize] = true);
        }
        let kept = sources.iter().zip(&used).flat_map(|((_, terms), used)| {
            terms.iter().zip(used).filter(|(_, used)| **used).map(|(term, _)| *term)
        });
        let mut terms: Vec<u64> = kept.collect();
        terms.sort_unstable();
        terms.dedup();
        terms.shrink_to_fit();
        let number = |(term, used): (&u64, &bool)| match used {
            true => terms.binary_search(term).unwrap_or(0) as u32,
            false => 0,
        };
        let numbers: Vec<Vec<u32>> = sources
            .iter()
            .zip(&used)
            .map(|((_, of_source), used)| of_source.iter().zip(used).map(number).collect())
            .collect();
        let mut forward = Forward::default();
        for pick in picks {
            let numbers = &numbers[pick.from as usize];
            let row = sources[pick.from as usize].0.row(pick.row);
            // Terms of a row ascend by value, and so do their new numbers.
            forward.push(row.map(|(term, weight)| (numbers[term as usize], weight)));
        }
        forward.shrink();
        let mut sealed = Self { forward, terms, positive: true, ..Self::default() };
        sealed.invert(scoring);
        sealed
    }

    /// Rows whose terms, each of which some row has, are numbered in any order.
    pub(super) fn of(scoring: Scoring, mut forward: Forward, came: Vec<u64>) -> Self {
        let mut order: Vec<(u64, u32)> = came.into_iter().zip(0..).collect();
        order.sort_unstable();
        let mut numbers = vec![0; order.len()];
        for (number, &(_, before)) in (0..).zip(&order) {
            numbers[before as usize] = number;
        }
        let terms: Vec<u64> = order.into_iter().map(|(term, _)| term).collect();
        // Terms of a row ascend by value, and so do their new numbers.
        forward.renumber(&numbers);
        forward.shrink();
        let mut sealed = Self { forward, terms, positive: true, ..Self::default() };
        sealed.invert(scoring);
        sealed
    }

    /// Without its rows, and with the lists of its terms, which have so many postings, to come.
    pub(super) fn begun(terms: Vec<u64>, counts: &[u32], levels: Levels) -> Self {
        let mut sealed = Self { terms, levels, ..Self::default() };
        let blocks = counts.iter().map(|&count| count as usize / BLOCK).sum();
        let tails = counts.iter().map(|&count| count as usize % BLOCK).sum();
        sealed.lists.reserve_exact(counts.len());
        sealed.groups.reserve_exact(counts.len() + blocks / GROUP);
        sealed.blocks.reserve_exact(blocks);
        sealed.tail_rows.reserve_exact(tails);
        sealed.tail_levels.reserve_exact(tails);
        sealed
    }

    /// Makes the lists of the rows.
    fn invert(&mut self, scoring: Scoring) {
        let rows = self.forward.len();
        self.length_mean = self.forward.length_mean();
        let weighing = Weighing::new(scoring, self.length_mean);
        // A counting sort by term keeps the rows of each term in order.
        let mut ends = vec![0u32; self.terms.len() + 1];
        self.forward.terms.iter().for_each(|&term| ends[term as usize + 1] += 1);
        (1..ends.len()).for_each(|term| ends[term] += ends[term - 1]);
        let mut next = ends.clone();
        self.levels = Levels::of(scoring, &self.forward, &weighing);
        let mut postings: Vec<(Row, f32)> = vec![(0, 0.0); self.forward.terms.len()];
        for row in 0..rows as Row {
            let length = self.forward.length(row);
            for (term, weight) in self.forward.row(row) {
                let worth = if self.levels.are_exact() {
                    f32::from(self.levels.exact(scoring, &self.forward, row, weight))
                } else {
                    above(weighing.share(f64::from(weight), length))
                };
                let to = &mut next[term as usize];
                postings[*to as usize] = (row, worth);
                self.positive &= WEIGHTS.contains(&weight);
                *to += 1;
            }
        }
        self.lists.reserve_exact(self.terms.len());
        let (mut of_list, mut levels) = (Vec::new(), Vec::new());
        for term in 0..self.terms.len() {
            let postings = &postings[ends[term] as usize..ends[term + 1] as usize];
            let step = match self.levels.are_exact() {
                true => 1.0,
                false => {
                    let most = postings.iter().map(|(_, share)| *share).fold(0.0, f32::max);
                    above(f64::from(most) / (LEVELS - 1) as f64)
                }
            };
            of_list.clear();
            levels.clear();
            of_list.extend(postings.iter().map(|(row, _)| *row));
            levels.extend(postings.iter().map(|(_, share)| stepped(*share, step)));
            self.list(&of_list, &levels, step);
        }
        self.shrink();
    }

    /// Packs the list of the next term: rows, with a level each.
    #[inline]
    pub(super) fn list(&mut self, rows: &[Row], levels: &[u8], step: f32) {
        self.lists.push(List {
            blocks: self.blocks.len() as u32,
            count: rows.len() as u32,
            tail: self.tail_rows.len() as u32,
            groups: self.groups.len() as u32,
            step,
        });
        // Most lists have one posting, and most of the others are short.
        if let ([row], [level]) = (rows, levels) {
            self.groups.push(*level);
            self.tail_rows.push(*row);
            self.tail_levels.push(*level);
        } else if rows.len() < BLOCK {
            self.groups.push(levels.iter().copied().max().unwrap_or(0));
            self.tail_rows.extend_from_slice(rows);
            self.tail_levels.extend_from_slice(levels);
        } else {
            self.blocks(rows, levels);
        }
    }

    /// Packs the blocks of a list.
    fn blocks(&mut self, rows: &[Row], levels: &[u8]) {
        let mut before = 0;
        for (number, (rows, levels)) in rows.chunks(BLOCK).zip(levels.chunks(BLOCK)).enumerate() {
            let greatest = levels.iter().copied().max().unwrap_or(0);
            if number.is_multiple_of(GROUP) {
                self.groups.push(greatest);
            } else if let Some(group) = self.groups.last_mut() {
                *group = greatest.max(*group);
            }
            let Some(block) = rows.first_chunk::<BLOCK>() else {
                self.tail_rows.extend_from_slice(rows);
                self.tail_levels.extend_from_slice(levels);
                continue;
            };
            let offset = self.packed.len() as u32;
            let row_bits = pack_rows(block, before, &mut self.packed);
            self.packed.extend_from_slice(levels);
            before = block[BLOCK - 1];
            self.blocks.push(Block { last: before, offset, row_bits, level: greatest });
        }
    }

    /// Gives back the room for more lists.
    pub(super) fn shrink(&mut self) {
        self.blocks.shrink_to_fit();
        self.packed.shrink_to_fit();
        self.groups.shrink_to_fit();
        self.tail_rows.shrink_to_fit();
        self.tail_levels.shrink_to_fit();
    }

    /// Number of a term.
    pub(super) fn number(&self, term: u64) -> Option<u32> {
        self.terms.binary_search(&term).ok().map(|number| number as u32)
    }

    /// Numbers and query weights of the terms that are there.
    pub(super) fn locate(&self, terms: &[(u64, f64)]) -> Vec<(u32, f64)> {
        terms.iter().filter_map(|&(term, weight)| Some((self.number(term)?, weight))).collect()
    }

    /// The postings of a term.
    pub(super) fn postings(&self, number: u32) -> Postings<'_> {
        let list = &self.lists[number as usize];
        let (whole, rest) = (list.count as usize / BLOCK, list.count as usize % BLOCK);
        let groups = (whole + usize::from(rest > 0)).div_ceil(GROUP);
        Postings {
            step: list.step,
            blocks: &self.blocks[list.blocks as usize..][..whole],
            packed: &self.packed,
            groups: &self.groups[list.groups as usize..][..groups],
            tail_rows: &self.tail_rows[list.tail as usize..][..rest],
            tail_levels: &self.tail_levels[list.tail as usize..][..rest],
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.forward.bytes()
            + self.terms.capacity() * size_of::<u64>()
            + self.lists.capacity() * size_of::<List>()
            + self.blocks.capacity() * size_of::<Block>()
            + self.packed.capacity()
            + self.groups.capacity()
            + self.tail_rows.capacity() * size_of::<Row>()
            + self.tail_levels.capacity()
            + self.levels.bytes()
    }

    pub(super) fn check(&self) {
        assert!(
            self.terms.is_sorted_by(|a, b| a < b) && self.terms.len() == self.lists.len(),
            "terms have lists"
        );
        let count: usize = self.lists.iter().map(|list| list.count as usize).sum();
        assert_eq!(count, self.forward.terms.len(), "a posting per term and row");
        for number in 0..self.terms.len() as u32 {
            let postings = self.postings(number);
            let mut last = None;
            postings.for_each(|row, _| {
                assert!(last.is_none_or(|last| last < row), "rows ascend");
                last = Some(row);
                assert!(self.forward.row(row).any(|(term, _)| term == number), "the row has the term");
            });
        }
    }
}

/// A view of the postings of one term, block by block; those behind the last whole block are one more.
#[derive(Clone, Copy)]
pub(super) struct Postings<'a> {
    /// What a level is worth, where levels are steps.
    pub(super) step: f32,
    blocks: &'a [Block],
    packed: &'a [u8],
    groups: &'a [u8],
    tail_rows: &'a [Row],
    tail_levels: &'a [u8],
}

impl<'a> Postings<'a> {
    /// Blocks, the tail included.
    pub(super) fn blocks(&self) -> usize {
        self.blocks.len() + usize::from(!self.tail_rows.is_empty())
    }

    /// The last row of a block that is there.
    pub(super) fn last(&self, block: usize) -> Row {
        self.blocks.get(block).map_or_else(|| self.tail_rows[self.tail_rows.len() - 1], |block| block.last)
    }

    /// The first block from `block` on that reaches to `row` or beyond; the number of blocks if there is none.
    pub(super) fn seek(&self, mut block: usize, row: Row) -> usize {
        // Mostly it is near; far jumps double.
        let mut step = 1;
        while block + step < self.blocks.len() && self.blocks[block + step - 1].last < row {
            block += step;
            step *= 2;
        }
        let end = (block + step).min(self.blocks.len());
        if block < end {
            block += self.blocks[block..end].partition_point(|block| block.last < row);
        }
        if block == self.blocks.len() && self.tail_rows.last().is_some_and(|&last| last < row) {
            block += 1;
        }
        block
    }

    /// The greatest level of all.
    pub(super) fn greatest(&self) -> u8 {
        self.groups.iter().copied().max().unwrap_or(0)
    }

    /// The greatest level of a block.
    pub(super) fn level(&self, block: usize) -> u8 {
        match self.blocks.get(block) {
            Some(block) => block.level,
            // The tail is mostly a group of its own, and else no greater.
            None => self.groups[block / GROUP],
        }
    }

    /// At least the greatest level of the blocks `from..=to`.
    pub(super) fn level_of(&self, from: usize, to: usize) -> u8 {
        if to - from < GROUP / 2 {
            return (from..=to).map(|block| self.level(block)).max().unwrap_or(0);
        }
        self.groups[from / GROUP..=to / GROUP].iter().copied().max().unwrap_or(0)
    }

    /// The levels of a block's postings.
    pub(super) fn levels(&self, block: usize) -> &'a [u8] {
        match self.blocks.get(block) {
            Some(block) => &self.packed[block.offset as usize + packed_bytes(block.row_bits)..][..BLOCK],
            None => self.tail_levels,
        }
    }

    /// Unpacks a block's rows; how many there are.
    pub(super) fn rows(&self, block: usize, to: &mut [Row; BLOCK]) -> usize {
        let Some(packed) = self.blocks.get(block) else {
            to[..self.tail_rows.len()].copy_from_slice(self.tail_rows);
            return self.tail_rows.len();
        };
        let before = block.checked_sub(1).map_or(0, |before| self.blocks[before].last);
        unpack_rows(&self.packed[packed.offset as usize..], before, packed.row_bits, to);
        BLOCK
    }

    /// Calls with row and level of each posting, rows ascending.
    pub(super) fn for_each(&self, mut each: impl FnMut(Row, u8)) {
        let mut rows = [0; BLOCK];
        for block in 0..self.blocks() {
            let count = self.rows(block, &mut rows);
            rows[..count].iter().zip(self.levels(block)).for_each(|(&row, &level)| each(row, level));
        }
    }
}

/// A number at least as large, and a little more.
fn above(share: f64) -> f32 {
    (share * (1.0 + 1e-6)) as f32
}
