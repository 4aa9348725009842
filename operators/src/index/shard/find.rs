//! What a time sees: searching, scoring, fetching. Best rows become best documents here.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use freshet_schemas::{Filter, Params};

use super::passed::{Passed, Sight};
use super::{Part, Shard};
use crate::index::bits::Bits;
use crate::index::check;
use crate::index::rows::{Row, RowHit, RowSet, Search};
use crate::index::segment::{SegmentField, Version};
use crate::index::{Chunk, Fetched, Hit, IndexError, Probe, Time};

/// Rows asked for beyond twice the documents wanted, at first, where documents have several rows.
const ROWS_MORE: usize = 16;

/// A document found in a part.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) part: usize,
    pub(super) version: Version,
    /// Its best row, the first of them if they tie.
    pub(super) row: Row,
    pub(super) score: f64,
}

impl Shard {
    /// The `k` best documents visible at a time that a filter lets through, each scored by its best row, in the order
    /// score descending, then id ascending; also among those that tie for the last place.
    ///
    /// # Errors
    /// An unknown field, a probe that does not fit it, or FAISS failing.
    pub fn search(
        &self,
        time: Time,
        field: usize,
        probe: &Probe,
        k: usize,
        params: &Params,
        filter: Option<&Filter>,
    ) -> Result<Vec<Hit>, IndexError> {
        self.suited(time, field, probe)?;
        if k == 0 {
            return Ok(Vec::new());
        }
        let mut best: Vec<Candidate> = Vec::new();
        // The largest part first: it most likely holds the best, and the others need not look for worse.
        let mut order: Vec<usize> = (0..self.parts.len()).collect();
        order.sort_by_key(|&part| std::cmp::Reverse(self.parts[part].marks.live()));
        for number in order {
            let part = &self.parts[number];
            let passed = filter.map(|filter| part.passed(time, filter));
            let visible = part.rows(time, field, passed.as_deref());
            if visible.count() == 0 {
                continue;
            }
            let above = best.get(k - 1).map_or(f64::NEG_INFINITY, |last| last.score);
            let search = Search { probe, visible: &visible, want: k, above, params };
            best.extend(part.best(number, field, search)?);
            self.keep_best(&mut best, k);
        }
        Ok(best.into_iter().map(|candidate| self.hit(field, candidate)).collect())
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
        self.suited(time, field, probe)?;
        let mut best = Vec::new();
        let rows = self.rows_of(time, field, ids);
        for (number, rows) in rows.into_iter().enumerate().filter(|(_, rows)| !rows.is_empty()) {
            let of_part = &self.parts[number].segment.fields()[field];
            let scores = of_part.rows.score(probe, &rows)?;
            let hits = rows.into_iter().zip(scores);
            let hits = hits.filter_map(|(row, score)| Some(RowHit { row, score: score? })).collect();
            best.extend(documents(number, of_part, hits));
        }
        self.keep_best(&mut best, usize::MAX);
        Ok(best.into_iter().map(|candidate| self.hit(field, candidate)).collect())
    }

    /// Per part the rows of some documents that are visible at a time, ascending, each once.
    pub(super) fn rows_of(&self, time: Time, field: usize, ids: &[String]) -> Vec<Vec<Row>> {
        let mut rows: Vec<Vec<Row>> = vec![Vec::new(); self.parts.len()];
        for id in ids {
            if let Some((part, version)) = self.visible(id, time) {
                rows[part].extend(self.parts[part].segment.fields()[field].layout.rows(version));
            }
        }
        for of_part in &mut rows {
            of_part.sort_unstable();
            of_part.dedup();
        }
        rows
    }

    /// What hits show, of those of some documents that live here and are visible at a time, in the order asked for.
    pub fn fetch(&self, time: Time, wanted: &[(String, u32)]) -> Vec<Fetched> {
        let fetch = |(id, chunk): &(String, u32)| {
            let (part, version) = self.visible(id, time)?;
            let versions = self.parts[part].segment.versions();
            let chunk = versions.chunk(version, *chunk);
            Some(Fetched {
                id: id.clone(),
                payload: versions.payload(version).to_owned(),
                text: chunk.map_or("", |(_, text)| text).to_owned(),
                span: chunk.map(|(start, text)| Chunk::span(start, text)),
            })
        };
        wanted.iter().filter_map(fetch).collect()
    }

    pub(super) fn visible(&self, id: &str, time: Time) -> Option<(usize, Version)> {
        let parts = self.parts.iter().enumerate().rev();
        parts.into_iter().find_map(|(number, part)| Some((number, part.visible(id, time)?)))
    }

    pub(super) fn suited(&self, time: Time, field: usize, probe: &Probe) -> Result<(), IndexError> {
        debug_assert!(time >= self.since, "a query at {time}, nothing before {} is kept", self.since);
        let spec = self.spec.fields.get(field).ok_or_else(|| IndexError::Probe {
            field: field.to_string(),
            what: format!("is not known, index has {}", self.spec.fields.len()),
        })?;
        check::suits(spec, probe).map_err(|what| IndexError::Probe { field: spec.name.clone(), what })
    }

    fn id(&self, candidate: &Candidate) -> &str {
        self.parts[candidate.part].segment.versions().id(candidate.version)
    }

    /// Orders candidates and keeps the `k` best.
    pub(super) fn keep_best(&self, candidates: &mut Vec<Candidate>, k: usize) {
        let order = |a: &Candidate, b: &Candidate| {
            b.score.total_cmp(&a.score).then_with(|| self.id(a).cmp(self.id(b)))
        };
        if candidates.len() > k {
            candidates.select_nth_unstable_by(k - 1, order);
            candidates.truncate(k);
        }
        candidates.sort_unstable_by(order);
    }

    pub(super) fn hit(&self, field: usize, candidate: Candidate) -> Hit {
        let layout = &self.parts[candidate.part].segment.fields()[field].layout;
        let chunk = candidate.row - layout.rows(candidate.version).start;
        Hit { id: self.id(&candidate).to_owned(), chunk, score: candidate.score }
    }
}

impl Part {
    /// The versions visible at a time that a filter lets through.
    pub(super) fn passed(&self, time: Time, filter: &Filter) -> Arc<Passed> {
        let sight = if self.marks.is_newest(time) { Sight::Newest } else { Sight::At(time) };
        self.passed.of(sight, filter, || {
            let versions = self.segment.versions();
            let visible = self.marks.visible(time, versions.births());
            match visible.count() {
                0 => Bits::none(versions.len()),
                _ => self.segment.payload().select(filter, versions, &visible),
            }
        })
    }

    /// The rows of a field visible at a time, of the versions that a filter lets through.
    pub(super) fn rows<'a>(&'a self, time: Time, field: usize, passed: Option<&'a Passed>) -> RowSet<'a> {
        let layout = &self.segment.fields()[field].layout;
        if let Some(passed) = passed {
            return layout.spread(RowSet::counted(Cow::Borrowed(&passed.versions), passed.count));
        }
        if let (true, Some(Some(live))) = (self.marks.is_newest(time), self.live_rows.get(field)) {
            return RowSet::counted(Cow::Borrowed(&live.bits), live.count);
        }
        layout.spread(self.marks.visible(time, self.segment.versions().births()))
    }

    /// At least the `want` best documents, if there are so many.
    fn best(&self, number: usize, field: usize, search: Search<'_>) -> Result<Vec<Candidate>, IndexError> {
        let of_field = &self.segment.fields()[field];
        let Search { probe, visible, want: k, .. } = search;
        if search.params.exact {
            return Ok(documents(number, of_field, of_field.rows.scan(probe, visible)?));
        }
        let mut want = if of_field.layout.is_one() { k } else { k.saturating_mul(2) + ROWS_MORE };
        loop {
            let found = of_field.rows.search(&Search { want, ..search })?;
            let best = documents(number, of_field, found.hits);
            if found.all || best.len() >= k || want >= visible.count() {
                return Ok(best);
            }
            want = want.saturating_mul(4);
        }
    }
}

/// Documents by their best rows.
pub(super) fn documents(part: usize, field: &SegmentField, hits: Vec<RowHit>) -> Vec<Candidate> {
    let candidate = |hit: RowHit| Candidate {
        part,
        version: field.layout.owner(hit.row),
        row: hit.row,
        score: finite(hit.score),
    };
    if field.layout.is_one() {
        return hits.into_iter().map(candidate).collect();
    }
    let mut best: BTreeMap<Version, Candidate> = BTreeMap::new();
    for candidate in hits.into_iter().map(candidate) {
        let known = best.entry(candidate.version).or_insert(candidate);
        if (candidate.score, std::cmp::Reverse(candidate.row)) > (known.score, std::cmp::Reverse(known.row)) {
            *known = candidate;
        }
    }
    best.into_values().collect()
}

/// The score as a number that orders and serialises: no −0, nothing infinite.
fn finite(score: f64) -> f64 {
    if score.is_nan() { f64::MIN } else { score.clamp(f64::MIN, f64::MAX) + 0.0 }
}
