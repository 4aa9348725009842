//! Brute-force shard.
use std::collections::BTreeMap;
use super::*;

struct Version { born: Time, died: Time, put: DocumentPut, fields: Vec<Stored> }
#[derive(Clone)]
enum Stored { None, Rows(Vec<RowVector>), Sparse(SparseVector) }
/// A shard.
pub struct Shard { fields: Vec<FieldSpec>, documents: BTreeMap<String, Vec<Version>> }
impl Shard {
    /// New.
    pub fn new(fields: Vec<FieldSpec>) -> Result<Self, IndexError> { Ok(Self { fields, documents: BTreeMap::new() }) }
    /// Apply.
    pub fn apply(&mut self, time: Time, changes: Vec<ShardChange>) -> Result<(), IndexError> {
        for change in changes {
            let (id, put) = match change { ShardChange::Remove { id } => (id, None), ShardChange::Put(put) => (put.id.clone(), Some(*put)) };
            let versions = self.documents.entry(id.clone()).or_default();
            let last = versions.last_mut().filter(|v| v.died == Time::MAX);
            let old = last.map(|v| { v.died = time; v.fields.clone() });
            let unknown = |what: &str| IndexError::Unknown { id: id.clone(), what: what.into() };
            match put {
                None => { old.ok_or_else(|| unknown("is not there to remove"))?; }
                Some(put) => {
                    let mut fields = Vec::new();
                    for (n, f) in put.fields.iter().enumerate() {
                        let before = old.as_ref().map(|o| &o[n]);
                        fields.push(match f {
                            FieldPut::None => Stored::None,
                            FieldPut::Sparse(v) => Stored::Sparse(v.clone()),
                            FieldPut::KeepSparse => match before { Some(Stored::Sparse(v)) => Stored::Sparse(v.clone()), _ => return Err(unknown("keep sparse")) },
                            FieldPut::Rows(rows) => Stored::Rows(rows.iter().map(|r| match (r, before) {
                                (RowPut::New(v), _) => Ok(v.clone()),
                                (RowPut::Keep(i), Some(Stored::Rows(o))) => o.get(*i as usize).cloned().ok_or_else(|| unknown("keep row")),
                                _ => Err(unknown("keep row")),
                            }).collect::<Result<_, _>>()?),
                        });
                    }
                    versions.push(Version { born: time, died: Time::MAX, put, fields });
                }
            }
        }
        Ok(())
    }
    fn at(&self, time: Time) -> impl Iterator<Item = (&String, &Version)> { self.documents.iter().filter_map(move |(id, vs)| vs.iter().find(|v| v.born <= time && time < v.died).map(|v| (id, v))) }
    fn hit(&self, id: &str, v: &Version, field: usize, probe: &Probe) -> Option<Hit> {
        let (chunk, score) = match (&v.fields[field], probe) {
            (Stored::Rows(rows), _) => (0u32..).zip(rows).map(|(n, r)| (n, match (r, probe) {
                (RowVector::Dense(x), Probe::Dense(q)) => f64::from(x.iter().zip(q).map(|(a, b)| a * b).sum::<f32>()),
                (RowVector::Multi(m), Probe::Multi(q)) => q.iter().map(|q| m.codes.chunks(m.dim).zip(&m.scales).map(|(c, s)| f64::from(c.iter().zip(q).map(|(a, b)| f32::from(*a) * b).sum::<f32>() * s)).max_by(f64::total_cmp).unwrap_or(0.0)).sum(),
                _ => f64::MIN,
            })).max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)))?,
            (Stored::Sparse(s), Probe::Sparse { terms, length_mean }) => {
                let len = f64::from(s.sum());
                let mut score = None;
                for (t, w) in terms { if let Ok(i) = s.indices.binary_search(t) {
                    let tf = f64::from(s.values[i]);
                    let part = match self.fields[field].scoring { Scoring::Dot => tf, Scoring::Bm25 { k1, b } => tf / (tf + f64::from(k1) * (1.0 - f64::from(b) + f64::from(b) * len / length_mean)) };
                    *score.get_or_insert(0.0) += w * part;
                } }
                (0, score?)
            }
            _ => return None,
        };
        Some(Hit { id: id.to_owned(), chunk, score })
    }
    /// Search.
    pub fn search(&self, time: Time, field: usize, probe: &Probe, k: usize, _exact: bool) -> Result<Vec<Hit>, IndexError> {
        let mut hits: Vec<Hit> = self.at(time).filter_map(|(id, v)| self.hit(id, v, field, probe)).collect();
        hits.sort_by(by_rank); hits.truncate(k); Ok(hits)
    }
    /// Score.
    pub fn score(&self, time: Time, field: usize, probe: &Probe, ids: &[String]) -> Result<Vec<Hit>, IndexError> {
        let mut hits: Vec<Hit> = self.at(time).filter(|(id, _)| ids.contains(id)).filter_map(|(id, v)| self.hit(id, v, field, probe)).collect();
        hits.sort_by(by_rank); Ok(hits)
    }
    /// Fetch.
    pub fn fetch(&self, time: Time, wanted: &[(String, u32)]) -> Vec<Fetched> {
        self.at(time).filter_map(|(id, v)| wanted.iter().find(|(w, _)| w == id).map(|(_, c)| Fetched { id: id.clone(), payload: v.put.payload.clone(), text: v.put.chunks.get(*c as usize).cloned().unwrap_or_default() })).collect()
    }
    /// Compact.
    pub fn compact(&mut self, since: Time) { self.documents.retain(|_, vs| { vs.retain(|v| v.died > since); !vs.is_empty() }); }
    /// Sparse.
    pub fn sparse(&self, id: &str, field: usize) -> Option<&SparseVector> {
        match self.documents.get(id)?.last().filter(|v| v.died == Time::MAX)?.fields.get(field)? { Stored::Sparse(v) => Some(v), _ => None }
    }
    /// Len.
    pub fn len_at(&self, time: Time) -> usize { self.at(time).count() }
}
