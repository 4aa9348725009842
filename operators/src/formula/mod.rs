//! Formulas: scores and payload of one document → its new score.
//!
//! The semantics are Qdrant's, computed in doubles: a product stops at its first factor of 0, so what would come after it
//! may be missing; a condition is 1 or 0; a payload field that a document has not takes its default, and a stage that did
//! not find the document has score 0. What has no finite result is an error: it names the field or the operator.

#[cfg(test)]
mod tests;

use freshet_schemas::{Decay, DefaultValue, Expression, Fold, Formula, Unary, microseconds, values};
use serde_json::Value;

/// Microseconds of a second.
const MICROSECONDS: f64 = 1e6;

/// A document that is to be scored.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Document id.
    pub id: &'a str,
    /// Its payload.
    pub payload: &'a Value,
    /// Its score in each stage before; `None` where it was not found.
    pub scores: &'a [Option<f64>],
}

/// The score that a formula gives a document; finite.
///
/// # Errors
/// Why there is none, in words that name the field or the operator.
pub fn evaluate(formula: &Formula, subject: Subject<'_>) -> Result<f64, String> {
    let score = Evaluator { formula, subject }.value(&formula.expression)?;
    // No −0: scores have one order, which is that of their bits.
    finite(score + 0.0, || "the formula".to_owned())
}

fn finite(value: f64, what: impl FnOnce() -> String) -> Result<f64, String> {
    match value.is_finite() {
        true => Ok(value),
        false => Err(format!("{} is not a finite number", what())),
    }
}

struct Evaluator<'a> {
    formula: &'a Formula,
    subject: Subject<'a>,
}

/// What stands for a payload field.
enum Operand<'a> {
    Given(&'a Value),
    Default(&'a DefaultValue),
}

impl<'a> Evaluator<'a> {
    fn value(&self, expression: &'a Expression) -> Result<f64, String> {
        match expression {
            Expression::Constant(number) => Ok(*number),
            Expression::Score(stage) => Ok(self.score(*stage)),
            Expression::Key(path) => self.number(path),
            Expression::DatetimeKey(path) => self.seconds(path),
            Expression::Condition(condition) => {
                Ok(if condition.holds(self.subject.id, self.subject.payload) { 1.0 } else { 0.0 })
            }
            Expression::Unary(function, of) => unary(*function, self.value(of)?),
            Expression::Fold(fold, of) => self.fold(*fold, of),
            Expression::Div { left, right, by_zero_default } => {
                let left = self.value(left)?;
                if left == 0.0 {
                    return Ok(left);
                }
                let right = self.value(right)?;
                match by_zero_default {
                    Some(default) if right == 0.0 => Ok(*default),
                    _ => finite(left / right, || format!("{left} / {right}")),
                }
            }
            Expression::Pow { base, exponent } => {
                let (base, exponent) = (self.value(base)?, self.value(exponent)?);
                finite(base.powf(exponent), || format!("{base} to the power of {exponent}"))
            }
            Expression::Decay { shape, x, target, scale, midpoint } => {
                let x = self.value(x)?;
                let target = target.as_ref().map_or(Ok(0.0), |target| self.value(target))?;
                Ok(decay(*shape, x - target, *scale, *midpoint))
            }
        }
    }

    fn score(&self, stage: usize) -> f64 {
        let found = self.subject.scores.get(stage).copied().flatten();
        found.or_else(|| self.formula.score_defaults.get(&stage).copied()).unwrap_or(0.0)
    }

    fn fold(&self, fold: Fold, of: &'a [Expression]) -> Result<f64, String> {
        let combine: fn(f64, f64) -> f64 = match fold {
            Fold::Mult => |a, b| a * b,
            Fold::Sum => |a, b| a + b,
            Fold::Max => f64::max,
            Fold::Min => f64::min,
        };
        let mut result = match fold {
            Fold::Mult => 1.0,
            Fold::Sum => 0.0,
            Fold::Max => f64::NEG_INFINITY,
            Fold::Min => f64::INFINITY,
        };
        for expression in of {
            let value = self.value(expression)?;
            if fold == Fold::Mult && value == 0.0 {
                return Ok(value);
            }
            result = combine(result, value);
        }
        Ok(result)
    }

    /// The only value at a path, or its default.
    fn operand(&self, path: &'a str) -> Result<Operand<'a>, String> {
        let found = values(self.subject.payload, path);
        let mut elements = found
            .iter()
            .flat_map(|value| value.as_array().map_or(std::slice::from_ref(*value), Vec::as_slice));
        match (elements.next(), elements.next()) {
            (Some(one), None) => Ok(Operand::Given(one)),
            (Some(_), Some(_)) => Err(format!("\"{path}\" has several values, a formula takes one")),
            (None, _) => {
                let default = self.formula.defaults.get(path).map(Operand::Default);
                default.ok_or_else(|| format!("\"{path}\" has no value in its payload nor in \"defaults\""))
            }
        }
    }

    fn number(&self, path: &'a str) -> Result<f64, String> {
        let number = match self.operand(path)? {
            Operand::Given(value) => value.as_f64(),
            Operand::Default(DefaultValue::Number(number)) => Some(*number),
            Operand::Default(DefaultValue::Text(_)) => None,
        };
        number.ok_or_else(|| format!("\"{path}\" is not a number"))
    }

    fn seconds(&self, path: &'a str) -> Result<f64, String> {
        let time = match self.operand(path)? {
            Operand::Given(value) => value.as_str().and_then(microseconds),
            Operand::Default(DefaultValue::Text(text)) => microseconds(text),
            Operand::Default(DefaultValue::Number(_)) => None,
        };
        let time = time.ok_or_else(|| format!("\"{path}\" is not a time as in RFC 3339"))?;
        Ok(time as f64 / MICROSECONDS)
    }
}

fn unary(function: Unary, x: f64) -> Result<f64, String> {
    let (value, name) = match function {
        Unary::Neg => return Ok(-x),
        Unary::Abs => return Ok(x.abs()),
        Unary::Sqrt => (x.sqrt(), "sqrt"),
        Unary::Exp => (x.exp(), "exp"),
        Unary::Log10 => (x.log10(), "log10"),
        Unary::Ln => (x.ln(), "ln"),
        Unary::Acosh => (x.acosh(), "acosh"),
    };
    finite(value, || format!("{name}({x})"))
}

/// How near a distance is: 1 at 0, `midpoint` at `scale`.
fn decay(shape: Decay, distance: f64, scale: f64, midpoint: f64) -> f64 {
    match shape {
        Decay::Linear => (1.0 - (1.0 - midpoint) / scale * distance.abs()).max(0.0),
        Decay::Exponential => (midpoint.ln() / scale * distance.abs()).exp(),
        Decay::Gauss => (midpoint.ln() / (scale * scale) * distance * distance).exp(),
    }
}
