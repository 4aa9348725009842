//! What must be known before the first search: vectors of the documents that a query names, and averages.

use std::collections::BTreeMap;

use freshet_schemas::{Fault, FaultCode, VectorKind, VectorValue};

use super::execution::Execution;
use crate::embed::fields::VectorField;
use crate::index::{Probe, RowVector};
use crate::message::{AnswerRecord, ShardReply, ShardRequest, Task, TaskReply};
use crate::plan::InputValue;

/// Most token vectors that documents and averages may search with: each is compared with every token that is scored.
const TOKENS_MAX: usize = 4096;

/// What is known of the documents that are looked up: rows by field and id.
pub(super) type Known = BTreeMap<(u16, String), Vec<RowVector>>;

impl Execution {
    /// What each shard is asked before the first round; nothing if the query names no document.
    pub fn lookups(&self) -> Vec<ShardRequest> {
        let mut wanted: BTreeMap<u16, Vec<(String, Option<u32>)>> = BTreeMap::new();
        for input in &self.plan().inputs {
            if let InputValue::Document(id) = &input.value {
                wanted.entry(input.field).or_default().push((id.clone(), None));
            }
        }
        if wanted.is_empty() {
            return Vec::new();
        }
        let task = |(field, wanted)| (field, Task::Vectors { field, wanted });
        self.to_all(wanted.into_iter().map(task).collect())
    }

    /// Takes what one shard knows of the documents; true once all have replied.
    pub fn looked_up(&mut self, reply: ShardReply) -> bool {
        for (_, reply) in reply.replies {
            if let TaskReply::Vectors { field, stored } = reply {
                self.known.extend(stored.into_iter().map(|stored| ((field, stored.id), stored.rows)));
            }
        }
        self.replies += 1;
        let complete = self.replies == self.corpus.shards;
        if complete {
            self.replies = 0;
        }
        complete
    }

    /// Makes what the query searches with, now that all documents are looked up.
    ///
    /// # Errors
    /// The answer that names the document which is not there, or has no vector.
    pub fn resolve(&mut self) -> Result<(), AnswerRecord> {
        let known = std::mem::take(&mut self.known);
        let given = std::mem::take(&mut self.query.probes);
        let mut probes: Vec<Probe> = Vec::with_capacity(given.len());
        for (input, probe) in self.query.admitted.planned.plan.inputs.iter().zip(given) {
            let field = &self.corpus.fields[usize::from(input.field)];
            let made = match (&input.value, probe) {
                (_, Some(probe)) => Ok(probe),
                (InputValue::Document(id), None) => {
                    of_document(field, id, known.get(&(input.field, id.clone())).map(Vec::as_slice))
                }
                (InputValue::Average { positive, negative }, None) => {
                    let of = |numbers: &[u16]| -> Vec<&Probe> {
                        numbers.iter().filter_map(|&number| probes.get(usize::from(number))).collect()
                    };
                    average(field, &of(positive), &of(negative))
                }
                (InputValue::Text(_) | InputValue::Vector(_) | InputValue::Raw(_), None) => {
                    Err(Fault::field(FaultCode::ModelFailed, "query", "the query has no vector"))
                }
            };
            match made {
                Ok(probe) => probes.push(probe),
                Err(fault) => return Err(self.query.admitted.planned.refused(fault)),
            }
        }
        self.probes = probes;
        Ok(())
    }
}

/// What a document searches with: its vector as it is stored. That of several chunks is their average; their token vectors
/// are taken together.
fn of_document(field: &VectorField, id: &str, rows: Option<&[RowVector]>) -> Result<Probe, Fault> {
    let refused = |what: String| {
        let message = format!("document \"{id}\" {what}");
        Err(Fault::field(FaultCode::NotFound, "query", message))
    };
    let name = &field.spec.name;
    let probe = |row: &RowVector| match row {
        RowVector::Dense(vector) => Probe::Dense(vector.clone()),
        RowVector::Sparse(vector) => VectorField::raw_probe(VectorValue::Sparse(vector.clone())),
        RowVector::Multi(matrix) => Probe::Multi(matrix.decoded()),
    };
    match rows {
        None => refused("is not there".to_owned()),
        Some([]) => refused(format!("has no vector \"{name}\"")),
        Some([only]) => check_tokens(field, probe(only)),
        Some(rows) => {
            let probes: Vec<Probe> = rows.iter().map(probe).collect();
            average(field, &probes.iter().collect::<Vec<_>>(), &[])
        }
    }
}

/// `avg(positive) + avg(positive) − avg(negative)`; of token vectors all together, the negative ones turned around. As
/// Qdrant has it; the result is brought to unit length where the field's vectors are.
fn average(field: &VectorField, positive: &[&Probe], negative: &[&Probe]) -> Result<Probe, Fault> {
    let share = |count: usize, whole: f64| if count == 0 { 0.0 } else { whole / count as f64 };
    let of_positive = share(positive.len(), if negative.is_empty() { 1.0 } else { 2.0 });
    let of_negative = share(negative.len(), -1.0);
    let weighted = positive.iter().map(|probe| (*probe, of_positive));
    let weighted = weighted.chain(negative.iter().map(|probe| (*probe, of_negative)));
    match field.spec.kind {
        VectorKind::Dense => {
            let mut sum = vec![0.0; field.spec.size];
            for (probe, weight) in weighted {
                let Probe::Dense(vector) = probe else { continue };
                sum.iter_mut().zip(vector).for_each(|(sum, value)| *sum += weight * f64::from(*value));
            }
            let vector = sum.into_iter().map(bounded).collect();
            Ok(field.given_probe(VectorValue::Dense(vector)))
        }
        VectorKind::Sparse => {
            let mut sums: BTreeMap<u64, f64> = BTreeMap::new();
            let mut mean = 0.0f64;
            for (probe, weight) in weighted {
                let Probe::Sparse { terms, length_mean } = probe else { continue };
                mean = mean.max(*length_mean);
                terms.iter().for_each(|(term, value)| *sums.entry(*term).or_default() += weight * value);
            }
            Ok(Probe::Sparse { terms: sums.into_iter().collect(), length_mean: mean })
        }
        VectorKind::Multi => {
            let rows = weighted.flat_map(|(probe, weight)| {
                let Probe::Multi(rows) = probe else { return Vec::new() };
                let turned =
                    |row: &Vec<f32>| row.iter().map(|value| value * weight.signum() as f32).collect();
                rows.iter().map(turned).collect()
            });
            check_tokens(field, field.given_probe(VectorValue::Multi(rows.collect())))
        }
    }
}

fn check_tokens(field: &VectorField, probe: Probe) -> Result<Probe, Fault> {
    match &probe {
        Probe::Multi(rows) if rows.len() > TOKENS_MAX => {
            let message = format!(
                "the examples have {} token vectors of \"{}\" together, at most {TOKENS_MAX} are searched with",
                rows.len(),
                field.spec.name
            );
            Err(Fault::field(FaultCode::TooLarge, "query", message))
        }
        Probe::Dense(_) | Probe::Sparse { .. } | Probe::Multi(_) => Ok(probe),
    }
}

/// The nearest number that a vector may hold.
fn bounded(value: f64) -> f32 {
    value.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embed::fields::FieldSource;
    use crate::index::{FieldSpec, Metric, Scoring, TokenCoding};
    use freshet_schemas::SparseVector;

    fn field(kind: VectorKind, normalised: bool) -> VectorField {
        let spec = FieldSpec {
            name: "v".into(),
            kind,
            size: 2,
            scoring: Scoring::Dot,
            metric: Metric::Dot,
            factory: "Flat".into(),
            coding: TokenCoding::Int8,
        };
        VectorField { spec, normalised, source: FieldSource::Given }
    }

    fn sparse(terms: &[(u64, f32)]) -> SparseVector {
        let (indices, values) = terms.iter().copied().unzip();
        SparseVector { indices, values }
    }

    #[test]
    fn averages_are_those_of_qdrant() {
        let dense = |vector: [f32; 2]| Probe::Dense(vector.to_vec());
        let (a, b, c) = (dense([1.0, 0.0]), dense([3.0, 2.0]), dense([0.0, 4.0]));
        let dot = field(VectorKind::Dense, false);
        assert_eq!(average(&dot, &[&a, &b], &[]), Ok(dense([2.0, 1.0])));
        assert_eq!(average(&dot, &[&a, &b], &[&c]), Ok(dense([4.0, -2.0])));
        assert_eq!(
            average(&field(VectorKind::Dense, true), &[&b, &b], &[&b, &c]),
            Ok(dense([4.5, 1.0])).map(|_: Probe| {
                let norm = (4.5f32 * 4.5 + 1.0).sqrt();
                dense([4.5 / norm, 1.0 / norm])
            })
        );
        let huge = dense([f32::MAX, f32::MIN]);
        let far = average(&dot, &[&huge], &[&dense([f32::MIN, f32::MAX])]);
        assert_eq!(far, Ok(huge), "sums stay in the range of vectors");
        let term = |terms: &[(u64, f32)]| VectorField::raw_probe(VectorValue::Sparse(sparse(terms)));
        let terms = average(
            &field(VectorKind::Sparse, false),
            &[&term(&[(1, 2.0), (3, 4.0)]), &term(&[(3, 2.0)])],
            &[&term(&[(1, 1.0), (9, 1.0)])],
        );
        assert_eq!(terms, Ok(term(&[(1, 1.0), (3, 6.0), (9, -1.0)])));
        let multi = |rows: &[[f32; 2]]| Probe::Multi(rows.iter().map(|row| row.to_vec()).collect());
        let tokens = average(
            &field(VectorKind::Multi, true),
            &[&multi(&[[1.0, 0.0], [0.0, 1.0]])],
            &[&multi(&[[0.0, 1.0]])],
        );
        assert_eq!(tokens, Ok(multi(&[[1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])));
    }

    #[test]
    fn documents_that_cannot_be_searched_by_are_named() {
        let message = |rows: Option<&[RowVector]>| {
            of_document(&field(VectorKind::Dense, true), "d", rows).unwrap_err().message
        };
        assert_eq!(message(None), "document \"d\" is not there");
        assert_eq!(message(Some(&[])), "document \"d\" has no vector \"v\"");
        let long = crate::index::TokenMatrix { dim: 2, codes: vec![1; 10_000], scales: vec![0.5; 5000] };
        let fault = of_document(&field(VectorKind::Multi, true), "d", Some(&[RowVector::Multi(long)]));
        let fault = fault.unwrap_err();
        assert_eq!(fault.code, FaultCode::TooLarge);
        assert_eq!(
            fault.message,
            "the examples have 5000 token vectors of \"v\" together, at most 4096 are searched with"
        );
        let chunks = [RowVector::Dense(vec![1.0, 0.0]), RowVector::Dense(vec![0.0, 1.0])];
        let middle = std::f32::consts::FRAC_1_SQRT_2;
        let found = of_document(&field(VectorKind::Dense, true), "d", Some(&chunks));
        assert_eq!(found, Ok(Probe::Dense(vec![middle, middle])));
    }
}
