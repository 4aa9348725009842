//! Writes what waits into the store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::table::{self, date};
use super::{ANSWERS, AnsweredQuery, Answers};
use crate::snapshot::store::Store;
use crate::snapshot::{Claim, SnapshotError};

/// Time to the next attempt after one that failed; doubled each time.
const RETRY: Duration = Duration::from_secs(1);
/// Longest time to the next attempt after one that failed.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// Where rows go.
pub(in crate::snapshot) struct Target<'a> {
    pub(in crate::snapshot) store: &'a Store,
    pub(in crate::snapshot) claim: &'a Claim,
}

/// Writes the files of a run.
pub(in crate::snapshot) struct Keeper {
    answers: Arc<Answers>,
    /// Number of the next file, by date. A file whose writing failed is written again under its name, with what has come
    /// since: it may be there, though only the reply was lost.
    numbers: BTreeMap<String, u64>,
    /// Attempts that failed since one went well.
    failed: u32,
    not_before: Instant,
}

impl Keeper {
    pub(in crate::snapshot) fn new(answers: Arc<Answers>) -> Self {
        Self { answers, numbers: BTreeMap::new(), failed: 0, not_before: Instant::now() }
    }

    /// Writes what waits, unless an attempt has failed a short time ago. A failure is told once, and its end once.
    pub(in crate::snapshot) fn write(&mut self, to: &Target<'_>) {
        if Instant::now() >= self.not_before {
            // What failed is told, and what was not written is still here.
            let _ = self.attempt(to);
        }
    }

    /// Whether a failed attempt is to be followed by another one.
    pub(in crate::snapshot) fn is_behind(&self) -> bool {
        self.failed > 0
    }

    /// Writes what is left at the end of a run: so many attempts, with `pause` between them.
    pub(in crate::snapshot) fn finish(&mut self, to: &Target<'_>, attempts: u32, pause: impl Fn(Duration)) {
        for left in (0..attempts).rev() {
            let Err(error) = self.attempt(to) else { return };
            if left == 0 {
                let rows = self.answers.take().len();
                tracing::error!(%error, rows, "the last answers of this run are missing in the table \"answers\"");
                return;
            }
            pause(RETRY);
        }
    }

    /// Writes all that waits.
    pub(super) fn attempt(&mut self, to: &Target<'_>) -> Result<(), SnapshotError> {
        match self.write_all(to) {
            Ok(()) => {
                let lost = self.answers.settled();
                if lost > 0 || self.failed > 0 {
                    tracing::warn!(
                        lost,
                        "answers are written again; those that are lost are missing in the table"
                    );
                }
                self.failed = 0;
                Ok(())
            }
            Err(error) => {
                if self.failed == 0 {
                    tracing::error!(%error, "answers not written to their table; they are kept and tried again");
                } else {
                    tracing::debug!(%error, failed = self.failed, "answers not written");
                }
                let pause = RETRY.saturating_mul(1 << self.failed.min(10)).min(RETRY_MAX);
                self.failed = self.failed.saturating_add(1);
                self.not_before = Instant::now() + pause;
                Err(error)
            }
        }
    }

    fn write_all(&mut self, to: &Target<'_>) -> Result<(), SnapshotError> {
        let mut days: BTreeMap<String, Vec<AnsweredQuery>> = BTreeMap::new();
        for row in self.answers.take() {
            days.entry(date(row.asked_us)).or_default().push(row);
        }
        if days.is_empty() {
            return Ok(());
        }
        let mut result = to.claim.check(to.store);
        let mut left = Vec::new();
        for (date, rows) in days {
            if result.is_ok() {
                result = self.write_day(to, &date, &rows);
            }
            match result {
                Ok(()) => self.answers.written(rows.len(), rows.iter().map(AnsweredQuery::bytes).sum()),
                Err(_) => left.extend(rows),
            }
        }
        self.answers.give_back(left);
        result
    }

    fn write_day(
        &mut self,
        to: &Target<'_>,
        date: &str,
        rows: &[AnsweredQuery],
    ) -> Result<(), SnapshotError> {
        let number = self.numbers.entry(date.to_owned()).or_default();
        let path = format!("{ANSWERS}/date={date}/{number:012}-{}.parquet", to.claim.run());
        let about = [("freshet.pipeline", to.claim.pipeline()), ("freshet.run", to.claim.run())];
        let bytes = table::table(rows, &about)
            .map_err(|source| SnapshotError::Table { path: path.clone(), source })?;
        to.store.put(&path, bytes)?;
        *number += 1;
        Ok(())
    }
}
