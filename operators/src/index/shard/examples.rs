//! Documents compared with examples, one by one.

use freshet_schemas::Filter;

use super::Shard;
use super::find::{Candidate, documents};
use crate::index::examples::{Formula, similarity};
use crate::index::rows::{Row, RowHit};
use crate::index::segment::SegmentField;
use crate::index::{FieldSpec, Hit, IndexError, Probe, Time};

/// Rows compared at once: bounds what is kept of their similarities.
const BLOCK_ROWS: usize = 4096;

/// What a scan compares with.
#[derive(Clone, Copy, Debug)]
pub struct Examples<'a> {
    /// In the order of the formula.
    pub probes: &'a [Probe],
    /// What becomes of the similarities.
    pub formula: Formula,
}

impl Shard {
    /// The `k` best documents by a formula over their similarities to examples, of those that are visible at a time and that
    /// a filter lets through, or of `among` where it is given; each scored by its best row, in the order of hits. It is a
    /// scan: every row is compared with every example.
    ///
    /// # Errors
    /// As `search`.
    pub fn by_examples(
        &self,
        time: Time,
        field: usize,
        examples: Examples<'_>,
        k: usize,
        filter: Option<&Filter>,
        among: Option<&[String]>,
    ) -> Result<Vec<Hit>, IndexError> {
        examples.probes.iter().try_for_each(|probe| self.suited(time, field, probe))?;
        let mut best: Vec<Candidate> = Vec::new();
        if k == 0 {
            return Ok(Vec::new());
        }
        let rows: Vec<Vec<Row>> = match among {
            Some(ids) => self.rows_of(time, field, ids),
            None => {
                let rows = |part: &super::Part| {
                    let passed = filter.map(|filter| part.passed(time, filter));
                    part.rows(time, field, passed.as_deref()).to_vec()
                };
                self.parts.iter().map(rows).collect()
            }
        };
        for (number, rows) in rows.into_iter().enumerate() {
            let of_field = &self.parts[number].segment.fields()[field];
            for block in rows.chunks(BLOCK_ROWS) {
                let hits = compare(&self.spec.fields[field], of_field, examples, block)?;
                best.extend(documents(number, of_field, hits));
            }
            // A document whose rows lie in two blocks is there twice.
            best.sort_by_key(|candidate| (candidate.part, candidate.version, candidate.row));
            best.dedup_by(|next, first| {
                let same = (next.part, next.version) == (first.part, first.version);
                if same && next.score > first.score {
                    *first = *next;
                }
                same
            });
            self.keep_best(&mut best, k);
        }
        Ok(best.into_iter().map(|candidate| self.hit(field, candidate)).collect())
    }
}

/// Scores of some rows.
fn compare(
    spec: &FieldSpec,
    field: &SegmentField,
    examples: Examples<'_>,
    rows: &[Row],
) -> Result<Vec<RowHit>, IndexError> {
    let count = examples.probes.len();
    let mut similarities = vec![f64::NAN; rows.len() * count];
    let mut comparable = vec![true; rows.len()];
    for (number, probe) in examples.probes.iter().enumerate() {
        for (place, score) in field.rows.score(probe, rows)?.into_iter().enumerate() {
            match similarity(spec, score) {
                Some(similarity) => similarities[place * count + number] = similarity,
                None => comparable[place] = false,
            }
        }
    }
    let scored = rows.iter().zip(similarities.chunks(count.max(1))).zip(comparable);
    let scored = scored.filter(|(_, comparable)| *comparable);
    Ok(scored.map(|((&row, of_row), _)| RowHit { row, score: examples.formula.score(of_row) }).collect())
}
