//! The brute-force twin of a shard: every version whole, every search a plain scan. The oracle in tests.
//!
//! Written to be read, not to be fast. It shares with [`super::shard::Shard`] the types and the formulas' names, and no
//! line of the code that decides what a time sees or what a probe scores.

use std::collections::BTreeMap;

use freshet_schemas::SparseVector;

use super::{
    Chunk, DocumentPut, Fetched, FieldPut, FieldSpec, Hit, IndexError, Metric, Probe, RowPut, RowVector,
    Scoring, ShardChange, Stored, Time, TokenMatrix, by_rank, examples::Formula,
};

/// The vectors of a version in one field.
#[derive(Clone, Debug)]
enum Vectors {
    None,
    Rows(Vec<RowVector>),
    Sparse(SparseVector),
}

/// A version of a document, with copies of all it shares with others.
#[derive(Clone, Debug)]
struct Version {
    born: Time,
    died: Time,
    payload: String,
    chunks: Vec<Chunk>,
    fields: Vec<Vectors>,
}

/// Documents by id, each with all its versions, oldest first.
#[derive(Clone, Debug)]
pub struct ExactShard {
    fields: Vec<FieldSpec>,
    documents: BTreeMap<String, Vec<Version>>,
}

impl ExactShard {
    /// An empty shard with these fields.
    pub fn new(fields: Vec<FieldSpec>) -> Self {
        Self { fields, documents: BTreeMap::new() }
    }

    /// Applies the changes of a time, removals first. The changes are taken to be right.
    ///
    /// # Errors
    /// `Remove` or `Keep` of what is not there.
    pub fn apply(&mut self, time: Time, changes: Vec<ShardChange>) -> Result<(), IndexError> {
        for change in &changes {
            if let ShardChange::Remove { id } = change {
                self.end(id, time).ok_or_else(|| unknown(id, "is not there"))?;
            }
        }
        for change in changes {
            let ShardChange::Put(put) = change else { continue };
            let before = self.end(&put.id, time);
            let before =
                |field: usize| before.as_ref().map_or(&Vectors::None, |version| &version.fields[field]);
            let fields = put.fields.into_iter().enumerate();
            let fields = fields.map(|(field, change)| resolve(change, before(field)));
            let fields = fields
                .collect::<Option<Vec<_>>>()
                .ok_or_else(|| unknown(&put.id, "keeps what is not there"))?;
            let version =
                Version { born: time, died: Time::MAX, payload: put.payload, chunks: put.chunks, fields };
            self.documents.entry(put.id).or_default().push(version);
        }
        Ok(())
    }

    /// Ends the newest version and returns a copy of it.
    fn end(&mut self, id: &str, time: Time) -> Option<Version> {
        let version = self.documents.get_mut(id)?.last_mut()?;
        if version.died != Time::MAX {
            return None;
        }
        version.died = time;
        Some(version.clone())
    }

    fn visible(&self, time: Time) -> impl Iterator<Item = (&String, &Version)> {
        let version =
            move |versions: &'_ [Version]| versions.iter().position(|v| v.born <= time && time < v.died);
        self.documents.iter().filter_map(move |(id, versions)| Some((id, &versions[version(versions)?])))
    }

    /// See [`super::shard::Shard::search`].
    pub fn search(&self, time: Time, field: usize, probe: &Probe, k: usize) -> Vec<Hit> {
        let mut hits: Vec<Hit> =
            self.visible(time).filter_map(|(id, version)| self.hit(id, version, field, probe)).collect();
        hits.sort_by(by_rank);
        hits.truncate(k);
        hits
    }

    /// See [`super::shard::Shard::score`].
    pub fn score(&self, time: Time, field: usize, probe: &Probe, ids: &[String]) -> Vec<Hit> {
        let mut hits = self.search(time, field, probe, usize::MAX);
        hits.retain(|hit| ids.contains(&hit.id));
        hits
    }

    /// See [`super::shard::Shard::by_examples`].
    pub fn by_examples(
        &self,
        time: Time,
        field: usize,
        (probes, formula): (&[Probe], Formula),
        k: usize,
        among: Option<&[String]>,
    ) -> Vec<Hit> {
        let spec = &self.fields[field];
        let mut hits = Vec::new();
        for (id, version) in self.visible(time) {
            if among.is_some_and(|among| !among.contains(id)) {
                continue;
            }
            let rows: Vec<RowVector> = match &version.fields[field] {
                Vectors::None => Vec::new(),
                Vectors::Rows(rows) => rows.clone(),
                Vectors::Sparse(vector) => vec![RowVector::Sparse(vector.clone())],
            };
            let mut best: Option<Hit> = None;
            for (chunk, row) in (0..).zip(&rows) {
                let alike: Option<Vec<f64>> = probes.iter().map(|probe| likeness(row, probe, spec)).collect();
                let Some(alike) = alike else { continue };
                let score = by_formula(formula, &alike) + 0.0;
                if best.as_ref().is_none_or(|best| score > best.score) {
                    best = Some(Hit { id: id.clone(), chunk, score });
                }
            }
            hits.extend(best);
        }
        hits.sort_by(by_rank);
        hits.truncate(k);
        hits
    }

    /// See [`super::shard::Shard::vectors`].
    pub fn vectors(&self, time: Time, field: usize, wanted: &[(String, Option<u32>)]) -> Vec<Stored> {
        let visible: BTreeMap<&String, &Version> = self.visible(time).collect();
        let mut found = Vec::new();
        for (id, chunk) in wanted {
            let Some(version) = visible.get(id) else { continue };
            let all = match &version.fields[field] {
                Vectors::None => Vec::new(),
                Vectors::Rows(rows) => rows.clone(),
                Vectors::Sparse(vector) => vec![RowVector::Sparse(vector.clone())],
            };
            let rows = match chunk {
                Some(chunk) if all.len() > 1 => all.into_iter().skip(*chunk as usize).take(1).collect(),
                Some(_) | None => all,
            };
            found.push(Stored { id: id.clone(), rows });
        }
        found
    }

    /// See [`super::shard::Shard::fetch`].
    pub fn fetch(&self, time: Time, wanted: &[(String, u32)]) -> Vec<Fetched> {
        let visible: BTreeMap<&String, &Version> = self.visible(time).collect();
        let fetch = |(id, chunk): &(String, u32)| {
            let version = visible.get(id)?;
            let chunk = version.chunks.get(*chunk as usize);
            Some(Fetched {
                id: id.clone(),
                payload: version.payload.clone(),
                text: chunk.map(|chunk| chunk.text.clone()).unwrap_or_default(),
                span: chunk.map(|chunk| Chunk::span(chunk.start, &chunk.text)),
            })
        };
        wanted.iter().filter_map(fetch).collect()
    }

    /// The documents visible at a time, as changes that bring them into an empty shard.
    pub fn documents(&self, time: Time) -> Vec<ShardChange> {
        let field = |vectors: &Vectors| match vectors {
            Vectors::None => FieldPut::None,
            Vectors::Rows(rows) => FieldPut::Rows(rows.iter().cloned().map(RowPut::New).collect()),
            Vectors::Sparse(vector) => FieldPut::Sparse(vector.clone()),
        };
        let put = |(id, version): (&String, &Version)| {
            ShardChange::Put(Box::new(DocumentPut {
                id: id.clone(),
                origin: (0, 0),
                payload: version.payload.clone(),
                digest: Vec::new(),
                chunks: version.chunks.clone(),
                fields: version.fields.iter().map(field).collect(),
            }))
        };
        self.visible(time).map(put).collect()
    }

    /// Documents visible at a time.
    pub fn len_at(&self, time: Time) -> usize {
        self.visible(time).count()
    }

    fn hit(&self, id: &str, version: &Version, field: usize, probe: &Probe) -> Option<Hit> {
        let scores: Vec<Option<f64>> = match &version.fields[field] {
            Vectors::None => Vec::new(),
            Vectors::Rows(rows) => {
                rows.iter().map(|row| row_score(row, probe, &self.fields[field])).collect()
            }
            Vectors::Sparse(vector) => vec![sparse_score(vector, probe, self.fields[field].scoring)],
        };
        let mut best: Option<Hit> = None;
        for (chunk, score) in (0..).zip(scores) {
            let Some(score) = score else { continue };
            if best.as_ref().is_none_or(|best| score > best.score) {
                best = Some(Hit { id: id.to_owned(), chunk, score: score + 0.0 });
            }
        }
        best
    }
}

fn unknown(id: &str, what: &str) -> IndexError {
    IndexError::Unknown { id: id.to_owned(), what: what.to_owned() }
}

fn resolve(change: FieldPut, before: &Vectors) -> Option<Vectors> {
    match (change, before) {
        (FieldPut::None, _) => Some(Vectors::None),
        (FieldPut::Sparse(vector), _) => Some(Vectors::Sparse(vector)),
        (FieldPut::KeepSparse, Vectors::Sparse(vector)) => Some(Vectors::Sparse(vector.clone())),
        (FieldPut::KeepSparse, Vectors::None | Vectors::Rows(_)) => None,
        (FieldPut::Rows(rows), before) => {
            let row = |row| match (row, before) {
                (RowPut::New(vector), _) => Some(vector),
                (RowPut::Keep(old), Vectors::Rows(rows)) => rows.get(old as usize).cloned(),
                (RowPut::Keep(_), Vectors::None | Vectors::Sparse(_)) => None,
            };
            Some(Vectors::Rows(rows.into_iter().map(row).collect::<Option<_>>()?))
        }
    }
}

pub(super) fn row_score(row: &RowVector, probe: &Probe, field: &FieldSpec) -> Option<f64> {
    match (row, probe) {
        (RowVector::Sparse(row), probe) => sparse_score(row, probe, field.scoring),
        (RowVector::Dense(row), Probe::Dense(probe)) => Some(match field.metric {
            Metric::Dot => dot(row, probe),
            Metric::Euclid => 0.0 - distance(row, probe),
        }),
        (RowVector::Multi(row), Probe::Multi(probe)) => max_sim(row, probe),
        (RowVector::Dense(_) | RowVector::Multi(_), _) => None,
    }
}

/// How like an example a row is; `None` if it cannot be compared.
fn likeness(row: &RowVector, probe: &Probe, field: &FieldSpec) -> Option<f64> {
    match (row, probe) {
        (RowVector::Sparse(_), _) => Some(row_score(row, probe, field).unwrap_or(0.0)),
        (RowVector::Dense(row), Probe::Dense(probe)) if field.metric == Metric::Euclid => {
            Some(row.iter().zip(probe).map(|(a, b)| -(f64::from(*a) - f64::from(*b)).powi(2)).sum())
        }
        _ => row_score(row, probe, field),
    }
}

/// The formulas as Qdrant's documentation has them.
fn by_formula(formula: Formula, alike: &[f64]) -> f64 {
    let sigmoid = |x: f64| 0.5 * (x / (1.0 + x.abs()) + 1.0);
    match formula {
        Formula::Best { positive } => {
            let best = |alike: &[f64]| alike.iter().copied().max_by(f64::total_cmp);
            match (best(&alike[..positive]), best(&alike[positive..])) {
                (Some(yes), None) => sigmoid(yes),
                (Some(yes), Some(no)) if yes > no => sigmoid(yes),
                (_, Some(no)) => -sigmoid(no),
                (None, None) => 0.0,
            }
        }
        Formula::Sum { positive } => {
            alike[..positive].iter().sum::<f64>() - alike[positive..].iter().sum::<f64>()
        }
        Formula::Discover => {
            let mut ranks = 0;
            for pair in alike[1..].chunks(2) {
                ranks += i32::from(pair[0] > pair[1]) - i32::from(pair[0] < pair[1]);
            }
            f64::from(ranks) + sigmoid(alike[0])
        }
        Formula::Context => {
            let mut score = 0.0;
            for pair in alike.chunks(2) {
                let lost = (pair[0] - pair[1] - f64::from(f32::EPSILON)).min(0.0);
                score += lost / (1.0 + lost.abs());
            }
            score
        }
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

fn distance(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum::<f64>().sqrt()
}

/// Σ over probe tokens of max over row tokens of their dot product.
fn max_sim(row: &TokenMatrix, probe: &[Vec<f32>]) -> Option<f64> {
    let tokens: Vec<Vec<f32>> = row
        .codes
        .chunks(row.dim)
        .zip(&row.scales)
        .map(|(codes, scale)| codes.iter().map(|code| f32::from(*code) * scale).collect())
        .collect();
    if tokens.is_empty() || probe.is_empty() {
        return None;
    }
    let best =
        |token: &Vec<f32>| tokens.iter().map(|other| dot(token, other)).fold(f64::NEG_INFINITY, f64::max);
    Some(probe.iter().map(best).sum())
}

/// Σ over shared terms of probe weight × weight, saturated for BM25; `None` if no term is shared.
pub(super) fn sparse_score(vector: &SparseVector, probe: &Probe, scoring: Scoring) -> Option<f64> {
    let Probe::Sparse { terms, length_mean } = probe else { return None };
    let length: f64 = vector.iter().map(|(_, weight)| f64::from(weight)).sum();
    let mut score = None;
    for (term, query_weight) in terms {
        let Some((_, weight)) = vector.iter().find(|(other, _)| other == term) else { continue };
        let weight = f64::from(weight);
        let share = match scoring {
            Scoring::Dot | Scoring::Idf => weight,
            Scoring::Bm25 { k1, b } => {
                let (k1, b) = (f64::from(k1), f64::from(b));
                weight / (weight + k1 * (1.0 - b + b * length / length_mean))
            }
        };
        score = Some(score.unwrap_or(0.0) + query_weight * share);
    }
    score
}
