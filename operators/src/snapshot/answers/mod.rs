//! The table `answers`: every query with its answer, kept beside the snapshots.
//!
//! ```text
//! worker: answer handed over ─▶ Answers (bounded) ─▶ thread of the snapshots ─▶ answers/date=YYYY-MM-DD/NUMBER-RUN.parquet
//! ```
//! What waits is written after each snapshot, when half of the room is filled, and at the end of a run. A store that
//! refuses is tried again; what finds no room meanwhile is counted and told, and holds no worker up.
//!
//! The topic of answers is what happened; the table is for whoever wants to look at it. A run that ends leaves each of its
//! answers there once. Around a kill those since the last file are missing, and one that was handed over but not yet
//! committed is there twice, by the same query id: the view and [`queries`] take the later one. An answer that its topic
//! refuses, where an error is written in its place, stands here as it was found.

mod keep;
mod read;
mod table;
#[cfg(test)]
mod tests;

pub use read::{AskedQuery, is_date, queries, view};

pub(super) use keep::{Keeper, Target};
pub(super) use read::clean;

use std::sync::{Mutex, MutexGuard, PoisonError};

use freshet_schemas::Answer;

/// Folder of the table.
const ANSWERS: &str = "answers";
/// Most answers that wait to be written.
const ROWS_MAX: usize = 16_384;
/// Most bytes of them, about.
const BYTES_MAX: usize = 32 << 20;

/// A query and its answer.
#[derive(Clone, Debug, PartialEq)]
pub struct AnsweredQuery {
    /// When the query was read, microseconds since the epoch.
    pub asked_us: u64,
    /// The query, as it was asked.
    pub query: Vec<u8>,
    /// Its answer, without texts, payloads and vectors.
    answer: Answer,
}

impl AnsweredQuery {
    /// A row of the table. Texts, payloads and vectors stay out: the documents have them.
    pub fn new(asked_us: u64, query: Vec<u8>, mut answer: Answer) -> Self {
        // Hits in groups are kept as hits, each once.
        let mut known = std::collections::BTreeSet::new();
        let grouped = answer.groups.take().into_iter().flatten().flat_map(|group| group.hits);
        answer.points.extend(grouped.filter(|point| known.insert(point.id.clone())));
        for point in &mut answer.points {
            (point.text, point.payload) = (None, None);
            point.vectors.clear();
        }
        Self { asked_us, query, answer }
    }

    /// What it takes in memory, about.
    fn bytes(&self) -> usize {
        let legs = |point: &freshet_schemas::Point| {
            point.legs.iter().map(|leg| size_of_val(leg) + leg.name.len()).sum::<usize>()
        };
        let points = self.answer.points.iter();
        let points: usize = points.map(|point| size_of_val(point) + point.id.len() + legs(point)).sum();
        size_of::<Self>() + self.query.len() + self.answer.id.len() + points
    }
}

/// How much there is room for.
#[derive(Clone, Copy, Debug)]
struct Room {
    rows: usize,
    bytes: usize,
}

/// Answers on their way to the table. Never blocks who brings one.
pub struct Answers {
    waiting: Mutex<Waiting>,
    room: Room,
    /// Called when half of the room is filled.
    wake: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct Waiting {
    rows: Vec<AnsweredQuery>,
    /// Rows and bytes that are not written: those above, and those that are being written.
    held: Held,
    /// Whether the thread has been woken since it wrote last.
    woken: bool,
    /// Answers that found no room.
    lost: u64,
    /// How many of them have been told.
    told: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Held {
    rows: usize,
    bytes: usize,
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    // What stands behind this lock is whole between any two statements.
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Answers {
    /// Room for answers; `wake` is called on the thread of a worker when it is time to write.
    pub(super) fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self::with_room(Room { rows: ROWS_MAX, bytes: BYTES_MAX }, wake)
    }

    fn with_room(room: Room, wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self { waiting: Mutex::default(), room, wake: Box::new(wake) }
    }

    /// Takes an answer that has been handed over to its topic. One that finds no room is counted, and missing in the table.
    pub fn record(&self, row: AnsweredQuery) {
        let mut waiting = lock(&self.waiting);
        let bytes = row.bytes();
        if waiting.held.rows >= self.room.rows || waiting.held.bytes + bytes > self.room.bytes {
            waiting.lost += 1;
            let first = waiting.lost == waiting.told + 1;
            drop(waiting);
            if first {
                tracing::warn!(
                    rows = self.room.rows,
                    bytes = self.room.bytes,
                    "no more answers fit into memory until the store takes them: those that come now are missing in the \
                     table \"answers\""
                );
            }
            return;
        }
        waiting.held.rows += 1;
        waiting.held.bytes += bytes;
        waiting.rows.push(row);
        let half = waiting.held.rows * 2 >= self.room.rows || waiting.held.bytes * 2 >= self.room.bytes;
        let wake = half && !waiting.woken;
        waiting.woken |= wake;
        drop(waiting);
        if wake {
            (self.wake)();
        }
    }

    /// Answers that found no room, in all.
    pub fn lost(&self) -> u64 {
        lock(&self.waiting).lost
    }

    /// Takes what waits. It keeps its room until it is [written](Self::written) or [given back](Self::give_back).
    fn take(&self) -> Vec<AnsweredQuery> {
        std::mem::take(&mut lock(&self.waiting).rows)
    }

    /// So much of what was taken is written.
    fn written(&self, rows: usize, bytes: usize) {
        let mut waiting = lock(&self.waiting);
        waiting.held.rows -= rows;
        waiting.held.bytes -= bytes;
    }

    /// Brings back what was taken and could not be written; it goes before what has come since.
    fn give_back(&self, mut rows: Vec<AnsweredQuery>) {
        let mut waiting = lock(&self.waiting);
        rows.append(&mut waiting.rows);
        waiting.rows = rows;
    }

    /// All that was taken is written: who brings more may wake the thread again. Returns how many answers were lost since
    /// this was asked last.
    fn settled(&self) -> u64 {
        let mut waiting = lock(&self.waiting);
        waiting.woken = false;
        let lost = waiting.lost - waiting.told;
        waiting.told = waiting.lost;
        lost
    }
}
