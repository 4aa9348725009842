use freshet_schemas::{Ask, FaultCode, NodeQuery, Query, QueryLimits, Record};
use proptest::prelude::*;
use serde_json::json;

use super::*;

/// Reads a formula as a query has it.
fn parsed(formula: &Value, defaults: &Value) -> Result<Formula, freshet_schemas::Fault> {
    let query = json!({
        "id": "q",
        "prefetch": {"query": "a", "using": "v"},
        "query": {"formula": formula, "defaults": defaults},
    });
    let limits = QueryLimits { limit_max: 10, depth_max: 4, nodes_max: 4, text_bytes_max: 100 };
    let record = Record { value: Some(query.to_string().into_bytes()), ..Record::default() };
    match Query::parse(&record, &limits).map_err(|refusal| refusal.fault)?.ask {
        Ask::Plan(node) => match node.query {
            Some(NodeQuery::Formula(formula)) => Ok(*formula),
            other => panic!("{other:?} is no formula"),
        },
        other @ (Ask::Text { .. } | Ask::Count | Ask::Page(_)) => panic!("{other:?} is no plan"),
    }
}

fn score(formula: &Value, defaults: &Value, payload: &Value, scores: &[Option<f64>]) -> Result<f64, String> {
    let formula = parsed(formula, defaults).unwrap_or_else(|fault| panic!("{fault:?}"));
    evaluate(&formula, Subject { id: "d", payload, scores })
}

fn of(formula: Value) -> Result<f64, String> {
    let payload =
        json!({"n": 4, "list": [7], "many": [1, 2], "none": null, "day": "1970-01-02", "deep": {"x": 2.5}});
    score(
        &formula,
        &json!({"gone": 3, "$score[1]": 9, "when": "1970-01-01T00:00:02Z"}),
        &payload,
        &[Some(0.5)],
    )
}

#[test]
fn every_operator_does_what_it_says() {
    for (formula, expected) in [
        (json!(1.5), 1.5),
        (json!("$score"), 0.5),
        (json!("$score[0]"), 0.5),
        (json!("$score[1]"), 9.0),
        (json!("$score[2]"), 0.0),
        (json!("n"), 4.0),
        (json!("list"), 7.0),
        (json!("deep.x"), 2.5),
        (json!("gone"), 3.0),
        (json!({"key": "n", "range": {"gt": 3}}), 1.0),
        (json!({"must_not": [{"has_id": ["d"]}]}), 0.0),
        (json!({"mult": [2, "n", 0.5]}), 4.0),
        (json!({"mult": [0, "missing"]}), 0.0),
        (json!({"sum": [1, "$score", {"neg": "n"}]}), -2.5),
        (json!({"sum": []}), 0.0),
        (json!({"max": [1, "n", 2]}), 4.0),
        (json!({"min": [1, "n", 2]}), 1.0),
        (json!({"abs": -3}), 3.0),
        (json!({"div": {"left": 3, "right": "n"}}), 0.75),
        (json!({"div": {"left": 3, "right": 0, "by_zero_default": 8}}), 8.0),
        (json!({"div": {"left": 0, "right": "missing"}}), 0.0),
        (json!({"sqrt": "n"}), 2.0),
        (json!({"pow": {"base": 2, "exponent": "n"}}), 16.0),
        (json!({"exp": 0}), 1.0),
        (json!({"log10": 1000}), 3.0),
        (json!({"ln": 1}), 0.0),
        (json!({"acosh": 1}), 0.0),
        (json!({"datetime": "1970-01-01T00:01:00Z"}), 60.0),
        (json!({"datetime_key": "day"}), 86_400.0),
        (json!({"datetime_key": "when"}), 2.0),
        (json!({"lin_decay": {"x": "n", "target": 2, "scale": 4}}), 0.75),
        (json!({"lin_decay": {"x": 100}}), 0.0),
        (json!({"exp_decay": {"x": "n", "target": 2, "scale": 2}}), 0.5),
        (json!({"gauss_decay": {"x": 2, "scale": 2, "midpoint": 0.25}}), 0.25),
    ] {
        let found = of(formula.clone()).unwrap_or_else(|error| panic!("{formula}: {error}"));
        assert!((found - expected).abs() < 1e-12, "{formula}: {found}, expected {expected}");
    }
}

#[test]
fn what_has_no_result_says_why() {
    for (formula, why) in [
        (json!("missing"), "\"missing\" has no value in its payload nor in \"defaults\""),
        (json!("many"), "\"many\" has several values, a formula takes one"),
        (json!("none"), "\"none\" is not a number"),
        (json!("day"), "\"day\" is not a number"),
        (json!({"datetime_key": "n"}), "\"n\" is not a time as in RFC 3339"),
        (json!({"div": {"left": 3, "right": 0}}), "3 / 0 is not a finite number"),
        (json!({"sqrt": -1}), "sqrt(-1) is not a finite number"),
        (json!({"ln": 0}), "ln(0) is not a finite number"),
        (json!({"exp": 1000}), "exp(1000) is not a finite number"),
        (json!({"acosh": 0.5}), "acosh(0.5) is not a finite number"),
        (json!({"pow": {"base": -8, "exponent": 0.5}}), "-8 to the power of 0.5 is not a finite number"),
        (json!({"mult": [1e300, 1e300]}), "the formula is not a finite number"),
    ] {
        assert_eq!(of(formula.clone()), Err(why.to_owned()), "{formula}");
    }
}

#[test]
fn what_is_no_formula_is_refused_with_its_place() {
    let deep = (0..40).fold(json!(1), |inner, _| json!({"neg": inner}));
    let many: Vec<u32> = (0..300).collect();
    for (formula, defaults, field, code) in [
        (json!(null), json!({}), "query.formula", FaultCode::InvalidValue),
        (json!(true), json!({}), "query.formula", FaultCode::InvalidValue),
        (json!({}), json!({}), "query.formula", FaultCode::InvalidValue),
        (json!({"neg": 1, "abs": 2}), json!({}), "query.formula", FaultCode::InvalidValue),
        (json!({"cube": 1}), json!({}), "query.formula.cube", FaultCode::UnknownField),
        (json!({"sum": [1, "$score[x]"]}), json!({}), "query.formula.sum[1]", FaultCode::InvalidValue),
        (json!({"sum": ["a..b"]}), json!({}), "query.formula.sum[0]", FaultCode::InvalidValue),
        (json!({"max": []}), json!({}), "query.formula.max", FaultCode::InvalidValue),
        (json!({"geo_distance": {}}), json!({}), "query.formula.geo_distance", FaultCode::InvalidValue),
        (json!({"div": {"left": 1}}), json!({}), "query.formula.div.right", FaultCode::InvalidValue),
        (json!({"datetime": "soon"}), json!({}), "query.formula.datetime", FaultCode::InvalidValue),
        (
            json!({"exp_decay": {"x": 1, "scale": 0}}),
            json!({}),
            "query.formula.exp_decay.scale",
            FaultCode::InvalidValue,
        ),
        (
            json!({"gauss_decay": {"x": 1, "midpoint": 1}}),
            json!({}),
            "query.formula.gauss_decay.midpoint",
            FaultCode::InvalidValue,
        ),
        (json!(1), json!({"n": true}), "query.defaults.n", FaultCode::InvalidValue),
        (json!(1), json!({"$score": "x"}), "query.defaults.$score", FaultCode::InvalidValue),
        (deep, json!({}), "", FaultCode::TooDeep),
        (json!({"sum": many}), json!({}), "query.formula.sum[255]", FaultCode::TooDeep),
    ] {
        let fault = parsed(&formula, &defaults).expect_err("it is refused");
        assert_eq!(fault.code, code, "{formula}: {fault:?}");
        assert!(field.is_empty() || fault.field.as_deref() == Some(field), "{formula}: {fault:?}");
    }
}

/// An expression over the fields `a`, `b` and the score.
fn expression() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        (-100i32..100).prop_map(|number| json!(f64::from(number) / 8.0)),
        Just(json!("a")),
        Just(json!("b")),
        Just(json!("$score")),
        Just(json!({"key": "a", "range": {"gt": 0}})),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        let fold = prop_oneof![Just("mult"), Just("sum"), Just("max"), Just("min")];
        let unary =
            prop_oneof![Just("neg"), Just("abs"), Just("sqrt"), Just("exp"), Just("ln"), Just("log10")];
        prop_oneof![
            (fold, prop::collection::vec(inner.clone(), 1..4)).prop_map(|(name, of)| json!({name: of})),
            (unary, inner.clone()).prop_map(|(name, of)| json!({name: of})),
            (inner.clone(), inner.clone(), prop::option::of(-2..3i32)).prop_map(|(left, right, default)| {
                json!({"div": {"left": left, "right": right, "by_zero_default": default}})
            }),
            (inner.clone(), inner.clone())
                .prop_map(|(base, exponent)| { json!({"pow": {"base": base, "exponent": exponent}}) }),
            (inner.clone(), inner)
                .prop_map(|(x, target)| json!({"gauss_decay": {"x": x, "target": target, "scale": 3}})),
        ]
    })
}

/// The expression with numbers in the place of variables.
fn filled(expression: &Value, a: f64, b: f64, score: f64) -> Value {
    let fill = |value: &Value| filled(value, a, b, score);
    match expression {
        Value::String(name) => match name.as_str() {
            "a" => json!(a),
            "b" => json!(b),
            _ => json!(score),
        },
        Value::Object(object) if object.contains_key("key") => json!(if a > 0.0 { 1.0 } else { 0.0 }),
        Value::Object(object) => object.iter().map(|(name, value)| (name.clone(), fill(value))).collect(),
        Value::Array(items) => items.iter().map(fill).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => expression.clone(),
    }
}

proptest! {
    #[test]
    fn a_variable_is_the_number_that_it_stands_for(
        expression in expression(), a in -50i32..50, b in -50i32..50, score_of in 0i32..8, as_default in any::<bool>(),
    ) {
        let (a, b, score_of) = (f64::from(a) / 4.0, f64::from(b), f64::from(score_of) / 4.0);
        let (payload, defaults) = match as_default {
            true => (json!({"a": a}), json!({"b": b})),
            false => (json!({"a": a, "b": [b]}), json!({"a": 77, "b": "x"})),
        };
        let found = score(&expression, &defaults, &payload, &[Some(score_of)]);
        let constant = score(&filled(&expression, a, b, score_of), &json!({}), &json!({}), &[]);
        prop_assert_eq!(&found, &constant);
        // What is multiplied by 1, or doubled and halved, stays what it is.
        let same = score(&json!({"mult": [{"sum": [expression.clone(), expression]}, 0.5]}), &defaults, &payload, &[Some(score_of)]);
        if let (Ok(found), Ok(same)) = (&found, &same) {
            prop_assert!(found.is_finite() && found == same);
        }
    }
}
