//! Levels: what a posting is worth, in a byte.
//!
//! Where the rows have few different weights and lengths, as short texts do, a level stands for one pair of them, and the
//! score of a row can be told from its postings to the last bit. Otherwise levels are steps up to the greatest share of
//! a list, rounded up: bounds, no more.

use super::forward::Forward;
use super::weigh::Weighing;
use crate::index::Scoring;
use crate::index::bytes::Bytes;
use crate::index::rows::Row;

/// How many levels there are.
pub(super) const LEVELS: usize = 256;

/// What the levels of an index mean.
#[derive(Debug, Default)]
pub(super) struct Levels {
    /// Per level weight and length, ascending by share at the mean length of the index; empty where levels are steps.
    pairs: Vec<(f32, f64)>,
    /// The levels in the order of `(length, weight)`.
    order: Vec<u8>,
}

/// Lengths count only where scores depend on them.
fn length(scoring: Scoring, forward: &Forward, row: Row) -> f64 {
    match scoring {
        Scoring::Dot | Scoring::Idf => 0.0,
        Scoring::Bm25 { .. } => forward.length(row),
    }
}

impl Levels {
    /// The levels of some rows, whose shares at their mean length `weighing` tells.
    pub(super) fn of(scoring: Scoring, forward: &Forward, weighing: &Weighing) -> Self {
        let order = |a: &(f32, f64), b: &(f32, f64)| a.1.total_cmp(&b.1).then(a.0.total_cmp(&b.0));
        let mut known: Vec<(f32, f64)> = Vec::new();
        for row in 0..forward.len() as Row {
            let length = length(scoring, forward, row);
            let mut last = None;
            for (_, weight) in forward.row(row) {
                if last.replace(weight) == Some(weight) {
                    continue;
                }
                if let Err(place) = known.binary_search_by(|pair| order(pair, &(weight, length))) {
                    if known.len() == LEVELS {
                        return Self::default();
                    }
                    known.insert(place, (weight, length));
                }
            }
        }
        let share = |&(weight, length): &(f32, f64)| weighing.share(f64::from(weight), length);
        let mut by_share: Vec<usize> = (0..known.len()).collect();
        by_share.sort_by(|&a, &b| share(&known[a]).total_cmp(&share(&known[b])).then(a.cmp(&b)));
        let mut levels = vec![0; known.len()];
        by_share.iter().zip(0..=u8::MAX).for_each(|(&place, level)| levels[place] = level);
        Self { pairs: by_share.into_iter().map(|place| known[place]).collect(), order: levels }
    }

    /// Whether a level tells all.
    pub(super) fn are_exact(&self) -> bool {
        !self.pairs.is_empty()
    }

    /// The share of each level, where levels are exact.
    pub(super) fn shares(&self, weighing: &Weighing) -> Vec<f64> {
        self.pairs.iter().map(|&(weight, length)| weighing.share(f64::from(weight), length)).collect()
    }

    /// The level of a posting, where levels are exact.
    pub(super) fn exact(&self, scoring: Scoring, forward: &Forward, row: Row, weight: f32) -> u8 {
        let length = length(scoring, forward, row);
        let pair = |level: &u8| self.pairs[usize::from(*level)];
        let place = self.order.partition_point(|level| {
            let (of_level, with) = pair(level);
            with.total_cmp(&length).then(of_level.total_cmp(&weight)).is_lt()
        });
        self.order.get(place).copied().unwrap_or(0)
    }

    /// Whether levels of postings are among these.
    pub(super) fn know(&self, levels: &[u8]) -> bool {
        !self.are_exact() || levels.iter().all(|&level| usize::from(level) < self.pairs.len())
    }

    /// How many pairs; weight and length of each, ascending by share; their levels in the order of length and weight.
    pub(super) fn write(&self, to: &mut Vec<u8>) {
        to.extend((self.pairs.len() as u16).to_le_bytes());
        for (weight, length) in &self.pairs {
            to.extend(weight.to_le_bytes());
            to.extend(length.to_le_bytes());
        }
        to.extend(&self.order);
    }

    /// What `write` gave.
    pub(super) fn read(from: &mut Bytes<'_>) -> Option<Self> {
        let count = usize::from(u16::from_le_bytes(from.take()?));
        let pair = |_| Some((f32::from_le_bytes(from.take()?), f64::from_le_bytes(from.take()?)));
        let pairs: Vec<(f32, f64)> = (0..count).map(pair).collect::<Option<_>>()?;
        let order = from.bytes(count)?.to_vec();
        let known = count <= LEVELS && order.iter().all(|&level| usize::from(level) < count);
        known.then_some(Self { pairs, order })
    }

    pub(super) fn bytes(&self) -> usize {
        self.pairs.capacity() * size_of::<(f32, f64)>() + self.order.capacity()
    }
}

/// The least step that is worth a share, of steps of which the last is worth the greatest share.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 255")]
pub(super) fn stepped(share: f32, step: f32) -> u8 {
    (share / step).ceil().min(LEVELS as f32 - 1.0) as u8
}
