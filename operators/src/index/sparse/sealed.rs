//! A sealed index: terms ascending, their postings in packed blocks.

use super::forward::{Forward, Weights};
use super::pack::{BLOCK, pack_counts, pack_rows, unpack_counts, unpack_rows};
use super::weigh::Weighing;
use super::{Form, SparseRows};
use crate::index::Scoring;
use crate::index::rows::{Pick, Row};

/// Weights for which no product vanishes in f32, whatever the length of the row.
const WEIGHTS: std::ops::Range<f32> = 1e-6..1e6;

/// Postings of one term.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    /// Its first whole block.
    pub(super) blocks: u32,
    /// Postings, those behind the last whole block included.
    pub(super) count: u32,
    /// Place of the postings behind the last whole block.
    tail: u32,
    /// The greatest share of those, at the mean length of the index.
    pub(super) tail_share_max: f32,
}

impl List {
    pub(super) fn whole_blocks(&self) -> usize {
        self.count as usize / BLOCK
    }
}

/// A whole block of postings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    pub(super) last: Row,
    /// The greatest share of its postings, at the mean length of the index.
    pub(super) share_max: f32,
    /// Place of its bytes.
    offset: u32,
    row_bits: u8,
    count_bits: u8,
}

/// Immutable rows. Invariants: `terms` ascend and each has a list; the rows of a list ascend; `forward` has the same
/// postings by row.
#[derive(Debug, Default)]
pub(super) struct Sealed {
    pub(super) forward: Forward,
    pub(super) terms: Vec<u64>,
    pub(super) lists: Vec<List>,
    pub(super) blocks: Vec<Block>,
    packed: Vec<u8>,
    tail_rows: Vec<Row>,
    tail_weights: Weights,
    /// Lengths of the rows, rounded: enough for bounds.
    pub(super) lengths: Vec<f32>,
    /// Mean length of the rows: what block maxima refer to.
    pub(super) length_mean: f64,
    /// Whether all weights are positive and neither tiny nor huge; if not, nothing can be pruned.
    pub(super) positive: bool,
}

/// A block of postings, unpacked.
pub(super) struct Postings {
    pub(super) rows: [Row; BLOCK],
    pub(super) weights: [f32; BLOCK],
    pub(super) len: usize,
    counts: [u32; BLOCK],
}

impl Default for Postings {
    fn default() -> Self {
        Self { rows: [0; BLOCK], weights: [0.0; BLOCK], len: 0, counts: [0; BLOCK] }
    }
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

    /// Makes the lists of the rows.
    fn invert(&mut self, scoring: Scoring) {
        let rows = self.forward.len();
        let lengths: f64 = (0..rows as Row).map(|row| self.forward.length(row)).sum();
        self.lengths = (0..rows as Row).map(|row| self.forward.length(row) as f32).collect();
        self.length_mean = if rows > 0 { lengths / rows as f64 } else { 0.0 };
        // A counting sort by term keeps the rows of each term in order.
        let mut ends = vec![0u32; self.terms.len() + 1];
        self.forward.terms.iter().for_each(|&term| ends[term as usize + 1] += 1);
        (1..ends.len()).for_each(|term| ends[term] += ends[term - 1]);
        let mut next = ends.clone();
        let mut postings: Vec<(Row, u32)> = vec![(0, 0); self.forward.terms.len()];
        for row in 0..rows as Row {
            for place in self.forward.range(row) {
                let to = &mut next[self.forward.terms[place] as usize];
                postings[*to as usize] = (row, place as u32);
                *to += 1;
            }
        }
        let weighing = Weighing::new(scoring, self.length_mean);
        self.lists.reserve_exact(self.terms.len());
        for term in 0..self.terms.len() {
            let of_term = &postings[ends[term] as usize..ends[term + 1] as usize];
            let list = self.list(of_term, &weighing);
            self.lists.push(list);
        }
        self.blocks.shrink_to_fit();
        self.packed.shrink_to_fit();
        self.tail_rows.shrink_to_fit();
        self.tail_weights.shrink();
    }

    /// Packs one list: rows, and places of weights in `forward`.
    fn list(&mut self, postings: &[(Row, u32)], weighing: &Weighing) -> List {
        let (blocks, tail) = (self.blocks.len() as u32, self.tail_rows.len() as u32);
        let mut tail_share_max = 0f32;
        let mut before = 0;
        for block in postings.chunks(BLOCK) {
            let share = |&(row, place): &(Row, u32)| {
                let weight = f64::from(self.forward.weights.get(place as usize));
                weighing.share(weight, self.forward.length(row))
            };
            let most = above(block.iter().map(share).fold(0.0, f64::max));
            let weights = block.iter().map(|(_, place)| self.forward.weights.get(*place as usize));
            self.positive &= weights.clone().all(|weight| WEIGHTS.contains(&weight));
            if block.len() < BLOCK {
                tail_share_max = most;
                self.tail_rows.extend(block.iter().map(|(row, _)| *row));
                weights.for_each(|weight| self.tail_weights.push(weight));
                continue;
            }
            let mut rows = [0; BLOCK];
            rows.iter_mut().zip(block).for_each(|(row, posting)| *row = posting.0);
            let offset = self.packed.len() as u32;
            let row_bits = pack_rows(&rows, before, &mut self.packed);
            let count_bits = match &self.forward.weights {
                Weights::Counts(_) => {
                    let mut counts = [0; BLOCK];
                    #[allow(
                        clippy::cast_possible_truncation,
                        clippy::cast_sign_loss,
                        reason = "a small count"
                    )]
                    counts.iter_mut().zip(weights).for_each(|(count, weight)| *count = weight as u32);
                    pack_counts(&counts, &mut self.packed)
                }
                Weights::Any(_) => {
                    weights.for_each(|weight| self.packed.extend(weight.to_le_bytes()));
                    0
                }
            };
            before = rows[BLOCK - 1];
            self.blocks.push(Block { last: before, share_max: most, offset, row_bits, count_bits });
        }
        List { blocks, count: postings.len() as u32, tail, tail_share_max }
    }

    /// Number of a term.
    pub(super) fn number(&self, term: u64) -> Option<u32> {
        self.terms.binary_search(&term).ok().map(|number| number as u32)
    }

    /// Numbers and query weights of the terms that are there.
    pub(super) fn locate(&self, terms: &[(u64, f64)]) -> Vec<(u32, f64)> {
        terms.iter().filter_map(|&(term, weight)| Some((self.number(term)?, weight))).collect()
    }

    pub(super) fn blocks_of(&self, list: &List) -> &[Block] {
        &self.blocks[list.blocks as usize..][..list.whole_blocks()]
    }

    /// The rows behind the last whole block.
    pub(super) fn tail_of(&self, list: &List) -> &[Row] {
        &self.tail_rows[list.tail as usize..][..list.count as usize % BLOCK]
    }

    /// Unpacks a whole block of a list, or with the number behind them what is left.
    pub(super) fn unpack(&self, list: &List, number: usize, to: &mut Postings) {
        let blocks = self.blocks_of(list);
        let Some(block) = blocks.get(number) else {
            let rows = self.tail_of(list);
            to.rows[..rows.len()].copy_from_slice(rows);
            for (place, weight) in to.weights[..rows.len()].iter_mut().enumerate() {
                *weight = self.tail_weights.get(list.tail as usize + place);
            }
            to.len = rows.len();
            return;
        };
        let before = number.checked_sub(1).map_or(0, |before| blocks[before].last);
        let from = &self.packed[block.offset as usize..];
        let read = unpack_rows(from, before, block.row_bits, &mut to.rows);
        match &self.forward.weights {
            Weights::Counts(_) => {
                unpack_counts(&from[read..], block.count_bits, &mut to.counts);
                to.weights.iter_mut().zip(&to.counts).for_each(|(weight, count)| *weight = *count as f32);
            }
            Weights::Any(_) => {
                let bytes = from[read..].as_chunks().0;
                to.weights
                    .iter_mut()
                    .zip(bytes)
                    .for_each(|(weight, bytes)| *weight = f32::from_le_bytes(*bytes));
            }
        }
        to.len = BLOCK;
    }

    /// Calls with row and weight of each posting of a term, rows ascending.
    pub(super) fn postings(&self, term: u64, mut each: impl FnMut(Row, f32)) {
        let Some(number) = self.number(term) else { return };
        let list = self.lists[number as usize];
        let mut postings = Postings::default();
        for block in 0..=list.whole_blocks() {
            self.unpack(&list, block, &mut postings);
            let found = postings.rows.iter().zip(&postings.weights).take(postings.len);
            found.for_each(|(&row, &weight)| each(row, weight));
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.forward.bytes()
            + self.terms.capacity() * size_of::<u64>()
            + self.lists.capacity() * size_of::<List>()
            + self.blocks.capacity() * size_of::<Block>()
            + self.packed.capacity()
            + self.lengths.capacity() * size_of::<f32>()
            + self.tail_rows.capacity() * (size_of::<Row>() + 1)
    }

    pub(super) fn check(&self) {
        assert!(
            self.terms.is_sorted_by(|a, b| a < b) && self.terms.len() == self.lists.len(),
            "terms have lists"
        );
        let count: usize = self.lists.iter().map(|list| list.count as usize).sum();
        assert_eq!(count, self.forward.terms.len(), "a posting per term and row");
        for (number, &term) in self.terms.iter().enumerate() {
            let mut last = None;
            self.postings(term, |row, weight| {
                assert!(last.is_none_or(|last| last < row), "rows ascend");
                last = Some(row);
                let found = self.forward.row(row).find(|(term, _)| *term as usize == number);
                assert_eq!(found.map(|(_, weight)| weight.to_bits()), Some(weight.to_bits()));
            });
        }
    }
}

/// A number at least as large, and a little more.
fn above(share: f64) -> f32 {
    (share * (1.0 + 1e-6)) as f32
}
