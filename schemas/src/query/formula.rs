//! Formulas over scores and payloads: JSON → checked expression.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::filter::{is_path, microseconds};
use crate::json::{Fields, Object, describe, element, invalid, join, quote};
use crate::{Condition, Fault, FaultCode};

/// Most terms of a formula: operators, constants, variables and conditions.
pub const FORMULA_TERMS_MAX: usize = 256;
/// Deepest nesting of a formula: a constant has depth 1.
pub const FORMULA_DEPTH_MAX: usize = 32;

/// Microseconds of a second.
const MICROSECONDS: f64 = 1e6;
/// Forms of an expression, for messages.
const FORMS: &str = "a number, a string (a payload field or \"$score\"), a condition or one operator: \"mult\", \"sum\", \
                     \"max\", \"min\", \"neg\", \"abs\", \"div\", \"sqrt\", \"pow\", \"exp\", \"log10\", \"ln\", \"acosh\", \
                     \"datetime\", \"datetime_key\", \"lin_decay\", \"exp_decay\", \"gauss_decay\"";
/// Fields of a condition: what is no operator and has one of these is one.
const CONDITIONS: [&str; 9] =
    ["key", "is_empty", "is_null", "has_id", "nested", "must", "should", "must_not", "min_should"];

/// A new score for what the stages before found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Formula {
    /// What makes the score.
    pub expression: Expression,
    /// What stands for payload fields that a document has not.
    pub defaults: BTreeMap<String, DefaultValue>,
    /// What stands for the score in a stage that did not find the document; 0 unless given.
    pub score_defaults: BTreeMap<usize, f64>,
}

/// A value in the place of a missing one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum DefaultValue {
    /// A number.
    Number(f64),
    /// A text, which stands for a time.
    Text(String),
}

/// A term of a formula.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Expression {
    /// A number; a time is its seconds since the epoch.
    Constant(f64),
    /// The score in the n-th stage before, from 0.
    Score(usize),
    /// The number at a path of the payload.
    Key(String),
    /// The time at a path of the payload, in seconds since the epoch.
    DatetimeKey(String),
    /// 1 where it holds, else 0.
    Condition(Box<Condition>),
    /// One number of another.
    Unary(Unary, Box<Expression>),
    /// One number of several, in their order.
    Fold(Fold, Vec<Expression>),
    /// `left / right`
    Div {
        /// Dividend.
        left: Box<Expression>,
        /// Divisor.
        right: Box<Expression>,
        /// The result where the divisor is 0; without it that is an error.
        by_zero_default: Option<f64>,
    },
    /// `base ^ exponent`
    Pow {
        /// Base.
        base: Box<Expression>,
        /// Exponent.
        exponent: Box<Expression>,
    },
    /// How near a value is to its target: 1 at the target, `midpoint` at the distance `scale` from it.
    Decay {
        /// Shape of the curve.
        shape: Decay,
        /// The value.
        x: Box<Expression>,
        /// The target; 0 if not given.
        target: Option<Box<Expression>>,
        /// Distance at which the result is the midpoint; positive.
        scale: f64,
        /// Result at that distance, between 0 and 1.
        midpoint: f64,
    },
}

/// A function of one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unary {
    /// `-x`
    Neg,
    /// `|x|`
    Abs,
    /// `√x`
    Sqrt,
    /// `e^x`
    Exp,
    /// Logarithm to the base 10.
    Log10,
    /// Natural logarithm.
    Ln,
    /// Inverse hyperbolic cosine.
    Acosh,
}

/// A function of several numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fold {
    /// Product; 1 of none.
    Mult,
    /// Sum; 0 of none.
    Sum,
    /// Greatest.
    Max,
    /// Least.
    Min,
}

/// Shape of a decay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Decay {
    /// A straight line, cut at 0.
    Linear,
    /// `exp(−λ|d|)`
    Exponential,
    /// `exp(−λd²)`
    Gauss,
}

impl Formula {
    /// Reads `{"formula": …, "defaults": …}`.
    pub(super) fn of(fields: &Fields<'_>) -> Result<Self, Fault> {
        fields.only(&["formula", "defaults"], &[])?;
        let path = fields.path("formula");
        let Some(value) = fields.get("formula") else {
            return Err(invalid(path, format!("missing: give {FORMS}")));
        };
        let expression = Reader { terms: 0 }.expression(value, &path, 1)?;
        let mut formula = Self { expression, defaults: BTreeMap::new(), score_defaults: BTreeMap::new() };
        if let Some(value) = fields.get("defaults") {
            let given = Fields::of(value, &fields.path("defaults"))?;
            for name in given.names() {
                formula.default(&given, name)?;
            }
        }
        Ok(formula)
    }

    fn default(&mut self, given: &Fields<'_>, name: &str) -> Result<(), Fault> {
        // As in payloads, an empty array is nothing, and an array of one value is that value.
        let value = match given.get(name) {
            None => return Ok(()),
            Some(Value::Array(items)) if items.is_empty() => return Ok(()),
            Some(Value::Array(items)) if items.len() == 1 => &items[0],
            Some(value) => value,
        };
        match variable(name, &given.path(name))? {
            Expression::Score(number) => {
                let score =
                    value.as_f64().ok_or_else(|| given.unlike(name, value, "a number: it is a score"))?;
                self.score_defaults.insert(number, score);
            }
            Expression::Key(_)
            | Expression::Constant(_)
            | Expression::DatetimeKey(_)
            | Expression::Condition(_)
            | Expression::Unary(..)
            | Expression::Fold(..)
            | Expression::Div { .. }
            | Expression::Pow { .. }
            | Expression::Decay { .. } => {
                let default = match value {
                    Value::String(text) => Some(DefaultValue::Text(text.clone())),
                    Value::Number(number) => number.as_f64().map(DefaultValue::Number),
                    Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
                };
                let default = default.ok_or_else(|| given.unlike(name, value, "a number or a time"))?;
                self.defaults.insert(name.to_owned(), default);
            }
        }
        Ok(())
    }

    /// Whether it asks for anything of a document but scores and id.
    pub fn reads_payloads(&self) -> bool {
        self.expression.reads_payloads()
    }
}

impl Expression {
    fn reads_payloads(&self) -> bool {
        match self {
            Self::Constant(_) | Self::Score(_) => false,
            Self::Key(_) | Self::DatetimeKey(_) => true,
            Self::Condition(condition) => !matches!(**condition, Condition::HasId(_)),
            Self::Unary(_, of) => of.reads_payloads(),
            Self::Fold(_, of) => of.iter().any(Self::reads_payloads),
            Self::Div { left, right, .. } => left.reads_payloads() || right.reads_payloads(),
            Self::Pow { base, exponent } => base.reads_payloads() || exponent.reads_payloads(),
            Self::Decay { x, target, .. } => {
                x.reads_payloads() || target.as_ref().is_some_and(|target| target.reads_payloads())
            }
        }
    }
}

/// Counts what it reads.
struct Reader {
    terms: usize,
}

impl Reader {
    fn expression(&mut self, value: &Value, path: &str, depth: usize) -> Result<Expression, Fault> {
        self.terms += 1;
        if depth > FORMULA_DEPTH_MAX {
            let message = format!("the formula is nested more than {FORMULA_DEPTH_MAX} deep");
            return Err(Fault::field(FaultCode::TooDeep, path, message));
        }
        if self.terms > FORMULA_TERMS_MAX {
            let message = format!("the formula has more than {FORMULA_TERMS_MAX} terms");
            return Err(Fault::field(FaultCode::TooDeep, path, message));
        }
        match value {
            Value::Number(number) => Ok(Expression::Constant(number.as_f64().unwrap_or_default())),
            Value::String(name) => variable(name, path),
            Value::Object(object) => self.object(value, object, path, depth),
            Value::Null | Value::Bool(_) | Value::Array(_) => {
                Err(invalid(path, format!("{} is not {FORMS}", describe(value))))
            }
        }
    }

    fn object(
        &mut self,
        value: &Value,
        object: &Object,
        path: &str,
        depth: usize,
    ) -> Result<Expression, Fault> {
        if CONDITIONS.iter().any(|name| object.contains_key(*name)) {
            return Ok(Expression::Condition(Box::new(Condition::parse(value, path)?)));
        }
        let mut entries = object.iter();
        let (Some((name, operand)), None) = (entries.next(), entries.next()) else {
            return Err(invalid(path, format!("give {FORMS}")));
        };
        let at = join(path, name);
        let mut below = |value: &Value, at: &str| self.expression(value, at, depth + 1);
        let unary = match name.as_str() {
            "neg" => Unary::Neg,
            "abs" => Unary::Abs,
            "sqrt" => Unary::Sqrt,
            "exp" => Unary::Exp,
            "log10" => Unary::Log10,
            "ln" => Unary::Ln,
            "acosh" => Unary::Acosh,
            "mult" => return self.fold(Fold::Mult, operand, &at, depth),
            "sum" => return self.fold(Fold::Sum, operand, &at, depth),
            "max" => return self.fold(Fold::Max, operand, &at, depth),
            "min" => return self.fold(Fold::Min, operand, &at, depth),
            "div" => {
                let fields = Fields::of(operand, &at)?;
                fields.only(&["left", "right", "by_zero_default"], &[])?;
                let left = Box::new(below(required(&fields, "left")?, &fields.path("left"))?);
                let right = Box::new(below(required(&fields, "right")?, &fields.path("right"))?);
                return Ok(Expression::Div {
                    left,
                    right,
                    by_zero_default: number(&fields, "by_zero_default")?,
                });
            }
            "pow" => {
                let fields = Fields::of(operand, &at)?;
                fields.only(&["base", "exponent"], &[])?;
                let base = Box::new(below(required(&fields, "base")?, &fields.path("base"))?);
                let exponent = Box::new(below(required(&fields, "exponent")?, &fields.path("exponent"))?);
                return Ok(Expression::Pow { base, exponent });
            }
            "datetime" => return seconds(operand, &at).map(Expression::Constant),
            "datetime_key" => {
                let key = operand.as_str().filter(|key| is_path(key));
                let key = key.ok_or_else(|| invalid(&at, not_a_path(operand)))?;
                return Ok(Expression::DatetimeKey(key.to_owned()));
            }
            "lin_decay" => return self.decay(Decay::Linear, operand, &at, depth),
            "exp_decay" => return self.decay(Decay::Exponential, operand, &at, depth),
            "gauss_decay" => return self.decay(Decay::Gauss, operand, &at, depth),
            "geo_distance" => {
                return Err(invalid(at, "\"geo_distance\" is not supported yet: Freshet knows no places"));
            }
            other => {
                let message = format!("unknown operator {}; give {FORMS}", quote(other));
                return Err(Fault::field(FaultCode::UnknownField, at, message));
            }
        };
        Ok(Expression::Unary(unary, Box::new(below(operand, &at)?)))
    }

    fn fold(&mut self, fold: Fold, operand: &Value, path: &str, depth: usize) -> Result<Expression, Fault> {
        let Value::Array(items) = operand else {
            return Err(invalid(path, format!("{} is not an array of expressions", describe(operand))));
        };
        if items.is_empty() && matches!(fold, Fold::Max | Fold::Min) {
            return Err(invalid(path, "needs at least one expression"));
        }
        let items = items.iter().enumerate();
        let terms = items.map(|(index, item)| self.expression(item, &element(path, index), depth + 1));
        Ok(Expression::Fold(fold, terms.collect::<Result<_, _>>()?))
    }

    fn decay(
        &mut self,
        shape: Decay,
        operand: &Value,
        path: &str,
        depth: usize,
    ) -> Result<Expression, Fault> {
        let fields = Fields::of(operand, path)?;
        fields.only(&["x", "target", "scale", "midpoint"], &[])?;
        let x = Box::new(self.expression(required(&fields, "x")?, &fields.path("x"), depth + 1)?);
        let target =
            fields.get("target").map(|value| self.expression(value, &fields.path("target"), depth + 1));
        let target = target.transpose()?.map(Box::new);
        let scale = number(&fields, "scale")?.unwrap_or(1.0);
        let midpoint = number(&fields, "midpoint")?.unwrap_or(0.5);
        if scale <= 0.0 {
            return Err(invalid(fields.path("scale"), format!("the number {scale} is not positive")));
        }
        let (fits, range) = match shape {
            Decay::Linear => ((0.0..=1.0).contains(&midpoint), "from 0 to 1"),
            Decay::Exponential | Decay::Gauss => (midpoint > 0.0 && midpoint < 1.0, "between 0 and 1"),
        };
        if !fits {
            return Err(invalid(fields.path("midpoint"), format!("the number {midpoint} is not {range}")));
        }
        Ok(Expression::Decay { shape, x, target, scale, midpoint })
    }
}

fn required<'a>(fields: &Fields<'a>, name: &str) -> Result<&'a Value, Fault> {
    fields.get(name).ok_or_else(|| invalid(fields.path(name), format!("missing: give {FORMS}")))
}

fn number(fields: &Fields<'_>, name: &str) -> Result<Option<f64>, Fault> {
    match fields.get(name) {
        None => Ok(None),
        Some(value) => value.as_f64().map(Some).ok_or_else(|| fields.unlike(name, value, "a number")),
    }
}

fn seconds(value: &Value, path: &str) -> Result<f64, Fault> {
    let time = value.as_str().and_then(microseconds);
    let message = || {
        let found = describe(value);
        format!("{found} is not a time as in RFC 3339, such as \"2026-01-31T12:00:00Z\"")
    };
    time.map(|time| time as f64 / MICROSECONDS).ok_or_else(|| invalid(path, message()))
}

/// `$score`, `$score[n]` or the path of a payload field.
fn variable(name: &str, path: &str) -> Result<Expression, Fault> {
    let Some(index) = name.strip_prefix("$score") else {
        let key = Some(name).filter(|name| is_path(name));
        return match key {
            Some(key) => Ok(Expression::Key(key.to_owned())),
            None => Err(invalid(path, not_a_path(&Value::from(name)))),
        };
    };
    if index.is_empty() {
        return Ok(Expression::Score(0));
    }
    let digits = index.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let digits = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    digits.and_then(|digits| digits.parse().ok()).map(Expression::Score).ok_or_else(|| {
        let message = format!("{} is not a score: give \"$score\" or \"$score[1]\"", quote(name));
        invalid(path, message)
    })
}

fn not_a_path(value: &Value) -> String {
    format!("{} is not a path such as \"price\" or \"offer.price\"", describe(value))
}
