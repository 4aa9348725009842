//! Head, sealed and merged indexes let through what `Filter::matches` lets through.

use freshet_schemas::{Filter, microseconds};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Documents, PayloadField, PayloadIndex, PayloadKind};
use crate::index::rows::{Pick, Row};

struct Rows(Vec<(String, String)>);

impl Documents for Rows {
    fn id(&self, row: Row) -> &str {
        &self.0[row as usize].0
    }

    fn payload(&self, row: Row) -> &str {
        &self.0[row as usize].1
    }
}

const PATHS: [(&str, Option<PayloadKind>); 10] = [
    ("k", Some(PayloadKind::Keyword)),
    ("i", Some(PayloadKind::Integer)),
    ("f", Some(PayloadKind::Float)),
    ("b", Some(PayloadKind::Bool)),
    ("d", Some(PayloadKind::Datetime)),
    ("t", Some(PayloadKind::Text)),
    ("o.k", Some(PayloadKind::Keyword)),
    ("l[].i", Some(PayloadKind::Integer)),
    ("l[].t", Some(PayloadKind::Text)),
    ("u", None),
];

fn fields() -> Vec<PayloadField> {
    let field = |(path, kind): &(&str, Option<PayloadKind>)| {
        Some(PayloadField { path: (*path).to_owned(), kind: (*kind)? })
    };
    PATHS.iter().filter_map(field).collect()
}

fn scalar() -> impl Strategy<Value = Value> {
    let of = |values: Vec<Value>| prop::sample::select(values);
    prop_oneof![
        6 => of(vec![json!("a"), json!("b"), json!("a b"), json!("b A c"), json!(""), json!("2026-01-01")]),
        2 => of(vec![json!("2026-01-01T12:00:00Z"), json!("2026-01-01T13:00:00+01:00"), json!("2025-12-31 23:00:00")]),
        5 => of(vec![json!(0), json!(1), json!(2), json!(-1), json!(i64::MAX), json!(i64::MAX - 1), json!(u64::MAX)]),
        3 => of(vec![json!(1.0), json!(-0.0), json!(1.5), json!(-2.5), json!(9e18)]),
        2 => of(vec![json!(true), json!(false)]),
        1 => Just(Value::Null),
        1 => Just(json!({"k": "a"})),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        5 => scalar(),
        2 => prop::collection::vec(scalar(), 0..4).prop_map(Value::from),
        1 => Just(json!([["a"], [1, 2]])),
    ]
}

fn payload() -> impl Strategy<Value = String> {
    let object = |keys: &'static [&'static str]| {
        prop::collection::btree_map(prop::sample::select(keys), value(), 0..=keys.len())
            .prop_map(|map| Value::from_iter(map.into_iter().map(|(key, value)| (key.to_owned(), value))))
    };
    let below = prop_oneof![2 => object(&["k", "i"]), 1 => value()];
    let list = prop_oneof![3 => prop::collection::vec(object(&["i", "t"]), 0..4).prop_map(Value::from), 1 => value()];
    (object(&["k", "i", "f", "b", "d", "t", "u"]), prop::option::of(below), prop::option::of(list)).prop_map(
        |(mut payload, below, list)| {
            below.into_iter().for_each(|below| payload["o"] = below);
            list.into_iter().for_each(|list| payload["l"] = list);
            payload.to_string()
        },
    )
}

fn condition() -> impl Strategy<Value = Value> {
    let key = prop::sample::select(PATHS.map(|(path, _)| path).to_vec());
    let wanted = scalar().prop_filter("can be matched", |value| {
        value.is_string() || value.is_boolean() || value.as_i64().is_some()
    });
    let wanted = wanted.boxed();
    let number = scalar().prop_filter("a number", Value::is_number);
    let time =
        scalar().prop_filter("a time", |value| value.as_str().is_some_and(|t| microseconds(t).is_some()));
    let bound = prop::sample::select(vec!["gt", "gte", "lt", "lte"]);
    let range = |value: BoxedStrategy<Value>| prop::collection::btree_map(bound.clone(), value, 1..3);
    let list = prop::collection::vec(wanted.clone(), 0..4);
    let text = prop::sample::select(vec!["a", "b", "A b", "c", "2026"]);
    let test = prop_oneof![
        3 => wanted.prop_map(|value| json!({"match": {"value": value}})),
        2 => list.clone().prop_map(|list| json!({"match": {"any": list}})),
        2 => list.prop_map(|list| json!({"match": {"except": list}})),
        2 => text.prop_map(|text| json!({"match": {"text": text}})),
        2 => range(number.boxed()).prop_map(|range| json!({"range": range})),
        2 => range(time.boxed()).prop_map(|range| json!({"range": range})),
    ];
    let of_field = (key.clone(), test).prop_map(|(key, mut test)| {
        test["key"] = key.into();
        test
    });
    prop_oneof![
        8 => of_field,
        1 => key.clone().prop_map(|key| json!({"is_empty": {"key": key}})),
        1 => key.prop_map(|key| json!({"is_null": {"key": key}})),
        1 => prop::collection::vec(0..20u32, 0..5).prop_map(|ids| json!({"has_id": ids})),
    ]
}

fn filter() -> impl Strategy<Value = Value> {
    condition()
        .prop_recursive(3, 12, 4, |inner| {
            let clause = prop::collection::vec(inner, 0..3);
            let min = prop::option::of((clause.clone(), 0..3usize));
            (clause.clone(), clause.clone(), clause, min).prop_map(|(must, should, must_not, min)| {
                let min =
                    min.map(|(conditions, count)| json!({"conditions": conditions, "min_count": count}));
                json!({"must": must, "should": should, "must_not": must_not, "min_should": min})
            })
        })
        .prop_map(|condition| json!({"must": [condition]}))
}

fn agree(index: &PayloadIndex, rows: &Rows, filter: &Filter) -> Result<(), TestCaseError> {
    index.check();
    let expect: Vec<Row> = (0..rows.0.len() as Row)
        .filter(|&row| filter.matches(rows.id(row), &serde_json::from_str(rows.payload(row)).unwrap()))
        .collect();
    prop_assert_eq!(index.select(filter, rows).iter().collect::<Vec<_>>(), expect);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn indexes_select_what_matches(
        payloads in prop::collection::vec(payload(), 1..100),
        filters in prop::collection::vec(filter(), 1..8),
        seed in any::<u64>(),
    ) {
        let rows = |payloads: &[String]| Rows(payloads.iter().cloned().enumerate().map(|(n, p)| (n.to_string(), p)).collect());
        let filters: Vec<Filter> = filters.iter().map(|filter| Filter::parse(filter, "").unwrap()).collect();
        let head = |payloads: &[String]| {
            let mut head = PayloadIndex::head(&fields());
            payloads.iter().for_each(|payload| head.push(payload));
            head
        };
        let (one, two) = payloads.split_at(payloads.len() / 2);
        let (first, second) = (head(one), head(two));
        let all = rows(&payloads);
        let whole = head(&payloads);
        // The first half sealed alone, then both halves merged, some rows left out, in another order.
        let picks: Vec<Pick> = (0..one.len() as u32).rev().map(|row| Pick { from: 0, row }).collect();
        let sealed = PayloadIndex::seal(&fields(), &[&first], &picks);
        let reversed: Vec<String> = one.iter().rev().cloned().collect();
        let of_first = (0..one.len() as u32).map(|row| Pick { from: 0, row });
        let of_second = (0..two.len() as u32).map(|row| Pick { from: 1, row });
        let mut picks: Vec<Pick> = of_second.chain(of_first).collect();
        picks.retain(|pick| (seed >> (pick.row % 61)) & 3 != u64::from(pick.from));
        let merged = PayloadIndex::seal(&fields(), &[&sealed, &second], &picks);
        let text = |pick: &Pick| if pick.from == 0 { &reversed[pick.row as usize] } else { &two[pick.row as usize] };
        let of_merged: Vec<String> = picks.iter().map(|pick| text(pick).clone()).collect();
        for filter in &filters {
            agree(&whole, &all, filter)?;
            agree(&sealed, &rows(&reversed), filter)?;
            agree(&merged, &rows(&of_merged), filter)?;
        }
    }
}
