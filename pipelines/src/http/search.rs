//! A question in an address → a query: `q`, `limit`, `plan`, …, and fields of the payload that must match.
//!
//! ```text
//! /api/search?q=harbour&limit=5&city=Berlin,Hamburg&stars.gte=4
//! {"text": "harbour", "limit": 5, "filter": {"must": [
//!     {"key": "city", "match": {"any": ["Berlin", "Hamburg"]}}, {"key": "stars", "range": {"gte": 4}}]}}
//! ```
//! A value is read as the kind that `[payload]` names for the field. Of a field that is not named there, `4` may be the
//! number or the string, and `true` the truth value or the string: either matches.

use std::collections::BTreeMap;

use freshet_config::PayloadKind;
use serde_json::{Map, Value, json};

use super::refusal::Refusal;

/// Ends of a field's name that make a range.
const RANGES: [&str; 4] = ["gt", "gte", "lt", "lte"];

/// The query that the parameters of an address ask for.
pub(super) fn query(
    parameters: &[(String, String)],
    kinds: &BTreeMap<String, PayloadKind>,
) -> Result<Value, Refusal> {
    let mut query = Map::new();
    let mut must = Vec::new();
    let mut ranges: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for (name, value) in parameters {
        let read = |wanted: &str| Refusal::invalid(name.as_str(), format!("\"{value}\" is not {wanted}"));
        let (key, value) = match name.as_str() {
            "q" => ("text", json!(value)),
            "plan" | "consistency" => (name.as_str(), json!(value)),
            "limit" => {
                ("limit", value.parse::<u64>().map(|n| json!(n)).map_err(|_| read("a number of hits"))?)
            }
            "offset" => {
                ("offset", value.parse::<u64>().map(|n| json!(n)).map_err(|_| read("a number of hits"))?)
            }
            "score_threshold" => {
                let score = value.parse::<f64>().ok().filter(|score| score.is_finite());
                ("score_threshold", score.map(|score| json!(score)).ok_or_else(|| read("a score"))?)
            }
            "explain" | "with_payload" => {
                let value: bool = value.parse().map_err(|_| read("true or false"))?;
                (name.as_str(), json!(value))
            }
            field => {
                match field.rsplit_once('.').filter(|(_, end)| RANGES.contains(end)) {
                    Some((field, end)) => {
                        let bound =
                            bound(kinds.get(field), value).ok_or_else(|| read("a number or a time"))?;
                        if ranges.entry(field).or_default().insert(end.to_owned(), bound).is_some() {
                            return Err(Refusal::invalid(name.as_str(), "stands twice"));
                        }
                    }
                    None => must.push(condition(field, kinds.get(field).copied(), value)?),
                }
                continue;
            }
        };
        if query.insert(key.to_owned(), value).is_some() {
            return Err(Refusal::invalid(name.as_str(), "stands twice"));
        }
    }
    if !query.contains_key("text") {
        return Err(Refusal::invalid("q", "missing: what is searched for"));
    }
    must.extend(ranges.into_iter().map(|(field, range)| json!({"key": field, "range": range})));
    if !must.is_empty() {
        query.insert("filter".to_owned(), json!({"must": must}));
    }
    Ok(Value::Object(query))
}

/// A bound of a range: a number, or a time as it is written.
fn bound(kind: Option<&PayloadKind>, value: &str) -> Option<Value> {
    let number = value.parse::<f64>().ok().filter(|number| number.is_finite());
    match kind {
        Some(PayloadKind::Integer | PayloadKind::Float) => number.map(|number| json!(number)),
        Some(PayloadKind::Datetime) => Some(json!(value)),
        Some(PayloadKind::Keyword | PayloadKind::Bool | PayloadKind::Text) => None,
        None => Some(number.map_or_else(|| json!(value), |number| json!(number))),
    }
}

/// That a field is one of the values between commas.
fn condition(field: &str, kind: Option<PayloadKind>, value: &str) -> Result<Value, Refusal> {
    let wrong = |what: &str| Refusal::invalid(field, format!("\"{value}\" is not {what}, as [payload] says"));
    let values: Vec<&str> = value.split(',').collect();
    match kind {
        Some(PayloadKind::Text) => Ok(json!({"key": field, "match": {"text": value}})),
        Some(PayloadKind::Keyword) => Ok(any(field, values.iter().map(|value| json!(value)).collect())),
        Some(PayloadKind::Integer) => {
            let numbers: Result<Vec<Value>, _> =
                values.iter().map(|value| value.parse::<i64>().map(|number| json!(number))).collect();
            Ok(any(field, numbers.map_err(|_| wrong("an integer"))?))
        }
        Some(PayloadKind::Bool) => {
            let value: bool = value.parse().map_err(|_| wrong("true or false"))?;
            Ok(json!({"key": field, "match": {"value": value}}))
        }
        Some(PayloadKind::Float) => {
            let equal = |value: &&str| {
                let number = bound(kind.as_ref(), value)?;
                Some(json!({"key": field, "range": {"gte": number, "lte": number}}))
            };
            let equal: Option<Vec<Value>> = values.iter().map(equal).collect();
            Ok(json!({"should": equal.ok_or_else(|| wrong("a number"))?}))
        }
        Some(PayloadKind::Datetime) => {
            let equal = values.iter().map(|v| json!({"key": field, "range": {"gte": v, "lte": v}}));
            Ok(json!({"should": equal.collect::<Vec<_>>()}))
        }
        None => {
            let mut should = vec![any(field, values.iter().map(|value| json!(value)).collect())];
            for value in values {
                if let Ok(number) = value.parse::<i64>() {
                    should.push(any(field, vec![json!(number)]));
                }
                if let Ok(truth) = value.parse::<bool>() {
                    should.push(json!({"key": field, "match": {"value": truth}}));
                }
            }
            Ok(if should.len() == 1 { should.remove(0) } else { json!({"should": should}) })
        }
    }
}

fn any(field: &str, mut values: Vec<Value>) -> Value {
    match values.len() {
        1 => json!({"key": field, "match": {"value": values.remove(0)}}),
        _ => json!({"key": field, "match": {"any": values}}),
    }
}

#[cfg(test)]
mod tests {
    use freshet_schemas::{Query, QueryLimits, Record};

    use super::*;

    fn kinds() -> BTreeMap<String, PayloadKind> {
        let kind = |name: &str, kind| (name.to_owned(), kind);
        BTreeMap::from([
            kind("city", PayloadKind::Keyword),
            kind("stars", PayloadKind::Integer),
            kind("price", PayloadKind::Float),
            kind("open", PayloadKind::Bool),
            kind("at", PayloadKind::Datetime),
            kind("note", PayloadKind::Text),
        ])
    }

    fn of(parameters: &[(&str, &str)]) -> Result<Value, Refusal> {
        let parameters: Vec<(String, String)> =
            parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        query(&parameters, &kinds())
    }

    fn filter(name: &str, value: &str) -> Value {
        let query = of(&[("q", "x"), (name, value)]).unwrap();
        // Whatever is built is a query.
        let record = Record {
            key: Some(b"q".to_vec()),
            value: Some(query.to_string().into_bytes()),
            ..Record::default()
        };
        let limits = QueryLimits { limit_max: 100, depth_max: 4, nodes_max: 9, text_bytes_max: 99 };
        Query::parse(&record, &limits).unwrap();
        query["filter"]["must"][0].clone()
    }

    #[test]
    fn an_address_is_a_query() {
        let query = of(&[("q", "harbour"), ("limit", "5"), ("plan", "rrf"), ("explain", "false")]).unwrap();
        assert_eq!(query, json!({"text": "harbour", "limit": 5, "plan": "rrf", "explain": false}));
    }

    #[test]
    fn values_are_of_the_kind_that_the_configuration_names() {
        assert_eq!(filter("city", "Berlin"), json!({"key": "city", "match": {"value": "Berlin"}}));
        assert_eq!(filter("city", "A,B"), json!({"key": "city", "match": {"any": ["A", "B"]}}));
        assert_eq!(filter("stars", "4,5"), json!({"key": "stars", "match": {"any": [4, 5]}}));
        assert_eq!(filter("open", "true"), json!({"key": "open", "match": {"value": true}}));
        assert_eq!(filter("note", "a,b"), json!({"key": "note", "match": {"text": "a,b"}}));
        assert_eq!(
            filter("price", "1.5"),
            json!({"should": [{"key": "price", "range": {"gte": 1.5, "lte": 1.5}}]})
        );
        let day = "2025-01-01T00:00:00Z";
        assert_eq!(filter("at", day), json!({"should": [{"key": "at", "range": {"gte": day, "lte": day}}]}));
        assert_eq!(
            filter("other", "4"),
            json!({"should": [{"key": "other", "match": {"value": "4"}}, {"key": "other", "match": {"value": 4}}]})
        );
        assert_eq!(filter("other", "x"), json!({"key": "other", "match": {"value": "x"}}));
    }

    #[test]
    fn bounds_of_a_field_are_one_range() {
        let query =
            of(&[("q", "x"), ("stars.gte", "3"), ("stars.lt", "5"), ("at.gt", "2025-01-01T00:00:00Z")]);
        let expected = json!([
            {"key": "at", "range": {"gt": "2025-01-01T00:00:00Z"}},
            {"key": "stars", "range": {"gte": 3.0, "lt": 5.0}},
        ]);
        assert_eq!(query.unwrap()["filter"]["must"], expected);
    }

    #[test]
    fn pages_and_scores_are_numbers() {
        let query = of(&[("q", "x"), ("offset", "20"), ("score_threshold", "-0.5")]).unwrap();
        assert_eq!((&query["offset"], &query["score_threshold"]), (&json!(20), &json!(-0.5)));
        assert_eq!(query.get("filter"), None);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        for (parameters, field) in [
            (&[("limit", "5")] as &[_], "q"),
            (&[("q", "x"), ("q", "y")], "q"),
            (&[("q", "x"), ("limit", "-1")], "limit"),
            (&[("q", "x"), ("offset", "1.5")], "offset"),
            (&[("q", "x"), ("score_threshold", "inf")], "score_threshold"),
            (&[("q", "x"), ("score_threshold", "high")], "score_threshold"),
            (&[("q", "x"), ("explain", "maybe")], "explain"),
            (&[("q", "x"), ("stars", "many")], "stars"),
            (&[("q", "x"), ("open", "perhaps")], "open"),
            (&[("q", "x"), ("price", "NaN")], "price"),
            (&[("q", "x"), ("city.gte", "3")], "city.gte"),
            (&[("q", "x"), ("stars.gte", "1"), ("stars.gte", "2")], "stars.gte"),
        ] {
            let refusal = of(parameters).unwrap_err();
            assert_eq!(refusal.to_json()["error"]["field"], field, "{parameters:?}");
        }
    }
}
