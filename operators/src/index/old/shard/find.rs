//! What a time sees: searching, scoring, fetching. Best rows become best documents here.

use std::collections::BTreeMap;

use super::{Field, Shard, Version};
use crate::index::old::rows::{Found, Row, RowHit};
use crate::index::{Fetched, Hit, IndexError, Probe, Time, by_rank};

/// Rows asked for beyond twice the documents wanted, at first: most searches then need one call.
const ROWS_MORE: usize = 16;

impl Shard {
    /// The `k` best documents visible at a time, each scored by its best row, score descending, then id ascending; also
    /// among those that tie for the last place. `exact`: by a plain scan, whatever the index.
    ///
    /// # Errors
    /// An unknown field, a probe that does not fit it, or FAISS failing.
    pub fn search(
        &self,
        time: Time,
        field: usize,
        probe: &Probe,
        k: usize,
        exact: bool,
    ) -> Result<Vec<Hit>, IndexError> {
        let known = self.suited(time, field, probe)?;
        let visible = known.table.visible(time, known.index.len());
        if k == 0 || visible.count() == 0 {
            return Ok(Vec::new());
        }
        if exact {
            let found = known.index.scan(probe, &visible)?;
            return Ok(self.top(time, field, found, k).unwrap_or_default());
        }
        // A document may have many rows, and rows may tie: ask for more until the best documents are sure.
        let mut want = k.saturating_mul(2).saturating_add(ROWS_MORE);
        loop {
            let found = known.index.search(probe, &visible, want)?;
            let all = found.floor.is_none() || want >= visible.count();
            let found = if all { Found { floor: None, ..found } } else { found };
            if let Some(hits) = self.top(time, field, found, k) {
                return Ok(hits);
            }
            want = want.saturating_mul(4);
        }
    }

    /// Scores of those of some documents that live here, are visible at a time and match, in the order of hits. Others
    /// are left out.
    ///
    /// # Errors
    /// As `search`.
    pub fn score(
        &self,
        time: Time,
        field: usize,
        probe: &Probe,
        ids: &[String],
    ) -> Result<Vec<Hit>, IndexError> {
        let known = self.suited(time, field, probe)?;
        let mut slots: Vec<u32> = ids.iter().filter_map(|id| self.slots.get(id)).copied().collect();
        slots.sort_unstable();
        slots.dedup();
        let versions = slots.into_iter().filter_map(|slot| self.document(slot).at(time));
        let mut rows: Vec<Row> = versions.flat_map(|version| version.rows[field].iter().copied()).collect();
        rows.sort_unstable();
        rows.dedup();
        let scores = known.index.score(probe, &rows)?;
        let hits =
            rows.into_iter().zip(scores).filter_map(|(row, score)| Some(RowHit { row, score: score? }));
        let found = Found { hits: hits.collect(), floor: None };
        Ok(self.top(time, field, found, ids.len().max(1)).unwrap_or_default())
    }

    /// What hits show, of those of some documents that live here and are visible at a time, in the order asked for.
    pub fn fetch(&self, time: Time, wanted: &[(String, u32)]) -> Vec<Fetched> {
        let fetch = |(id, chunk): &(String, u32)| {
            let version = self.document(*self.slots.get(id)?).at(time)?;
            let text = version.chunks.get(*chunk as usize).cloned().unwrap_or_default();
            Some(Fetched { id: id.clone(), payload: version.payload.clone(), text })
        };
        wanted.iter().filter_map(fetch).collect()
    }

    fn suited(&self, time: Time, field: usize, probe: &Probe) -> Result<&Field, IndexError> {
        debug_assert!(time >= self.since, "a query at {time}, nothing before {} is kept", self.since);
        let known = self.fields.get(field).ok_or_else(|| IndexError::Probe {
            field: field.to_string(),
            what: format!("is not known, index has {}", self.fields.len()),
        })?;
        let misfit = |what| IndexError::Probe { field: known.spec.name.clone(), what };
        known.index.suits(probe).map_err(misfit)?;
        Ok(known)
    }

    /// The `k` best documents of the rows found; `None` if rows not found may belong to better ones.
    fn top(&self, time: Time, field: usize, found: Found, k: usize) -> Option<Vec<Hit>> {
        let Found { mut hits, floor } = found;
        hits.iter_mut().for_each(|hit| hit.score = finite(hit.score));
        // Rows that score no better than the floor tie with some that were not found.
        hits.retain(|hit| floor.is_none_or(|floor| hit.score > finite(floor)));
        let owner = |hit: &RowHit| self.fields[field].table.owner(hit.row);
        let mut best = vec![f64::NEG_INFINITY; self.documents.len()];
        let mut slots = Vec::new();
        for hit in &hits {
            let (slot, score) = (owner(hit), &mut best[owner(hit) as usize]);
            if *score == f64::NEG_INFINITY {
                slots.push(slot);
            }
            *score = score.max(hit.score);
        }
        if floor.is_some() && slots.len() < k {
            return None;
        }
        let score = |slot: u32| best[slot as usize];
        let order = |a: &u32, b: &u32| {
            score(*b).total_cmp(&score(*a)).then_with(|| self.document(*a).id.cmp(&self.document(*b).id))
        };
        if slots.len() > k {
            slots.select_nth_unstable_by(k - 1, order);
            slots.truncate(k);
        }
        let last = slots.iter().map(|slot| score(*slot)).fold(f64::INFINITY, f64::min);
        let mut rows: BTreeMap<u32, Vec<Row>> = slots.iter().map(|slot| (*slot, Vec::new())).collect();
        for hit in hits.iter().filter(|hit| hit.score >= last && hit.score == score(owner(hit))) {
            rows.entry(owner(hit)).and_modify(|rows| rows.push(hit.row));
        }
        let hit = |(slot, rows): (u32, Vec<Row>)| {
            let document = self.document(slot);
            let chunk = document.at(time).map_or(0, |version| chunk(version, field, &rows));
            Hit { id: document.id.clone(), chunk, score: score(slot) }
        };
        let mut hits: Vec<Hit> = rows.into_iter().map(hit).collect();
        hits.sort_unstable_by(by_rank);
        Some(hits)
    }
}

/// The first chunk whose vector is one of some rows.
fn chunk(version: &Version, field: usize, rows: &[Row]) -> u32 {
    let place = version.rows[field].iter().position(|row| rows.contains(row));
    place.and_then(|place| u32::try_from(place).ok()).unwrap_or(0)
}

/// The score as a number that orders and serialises: no −0, nothing infinite.
fn finite(score: f64) -> f64 {
    if score.is_nan() { f64::MIN } else { score.clamp(f64::MIN, f64::MAX) + 0.0 }
}
