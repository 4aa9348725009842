//! Head, sealed and merged indexes let through what `Filter::matches` lets through.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, Mutex};

use freshet_schemas::{Direction, Filter, OrderBy, OrderValue, microseconds, values};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Documents, PayloadField, PayloadIndex, PayloadKind};
use crate::index::bits::Bits;
use crate::index::rows::{Pick, Row, RowSet};

struct Rows(Vec<(String, String)>);

impl Documents for Rows {
    fn id(&self, row: Row) -> &str {
        &self.0[row as usize].0
    }

    fn payload(&self, row: Row) -> &str {
        &self.0[row as usize].1
    }

    fn of(&self, id: &str, each: &mut dyn FnMut(Row)) {
        let rows = (0..).zip(&self.0).filter(|(_, (known, _))| known == id);
        rows.for_each(|(row, _)| each(row));
    }
}

impl Rows {
    /// Rows of these payloads, with their numbers as ids.
    fn of_payloads<'a>(payloads: impl IntoIterator<Item = &'a String>) -> Self {
        let numbered = payloads.into_iter().enumerate();
        Self(numbered.map(|(number, payload)| (number.to_string(), payload.clone())).collect())
    }
}

fn head_of(fields: &[PayloadField], payloads: &[String]) -> PayloadIndex {
    let mut head = PayloadIndex::head(fields);
    payloads.iter().for_each(|payload| head.push(payload));
    head
}

fn sealed_of(fields: &[PayloadField], payloads: &[String]) -> PayloadIndex {
    let picks: Vec<Pick> = (0..payloads.len() as Row).map(|row| Pick { from: 0, row }).collect();
    PayloadIndex::seal(fields, &[&head_of(fields, payloads)], &picks)
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
            // Of the objects of a list: what is asked of a field of theirs is asked of `i`, `t` or `k`.
            let of_object = prop::collection::vec((inner.clone(), prop::sample::select(vec!["i", "t", "k"])), 0..3);
            let of_object = of_object.prop_map(|conditions| {
                let renamed = conditions.into_iter().map(|(mut condition, key)| {
                    for at in ["", "/is_empty", "/is_null"] {
                        if let Some(key_of) = condition.pointer_mut(&format!("{at}/key")) {
                            *key_of = key.into();
                        }
                    }
                    condition
                });
                renamed.collect::<Vec<Value>>()
            });
            let clauses = (of_object.clone(), of_object.clone(), of_object);
            let nested = (prop::sample::select(vec!["l", "l[]", "o", "k"]), clauses);
            let nested = nested.prop_map(|(key, (must, should, must_not))| {
                json!({"nested": {"key": key, "filter": {"must": must, "should": should, "must_not": must_not}}})
            });
            let clause = prop::collection::vec(inner, 0..3);
            let min = prop::option::of((clause.clone(), 0..3usize));
            let clauses = (clause.clone(), clause.clone(), clause, min);
            let clauses = clauses.prop_map(|(must, should, must_not, min)| {
                let min =
                    min.map(|(conditions, count)| json!({"conditions": conditions, "min_count": count}));
                json!({"must": must, "should": should, "must_not": must_not, "min_should": min})
            });
            prop_oneof![2 => clauses, 1 => nested]
        })
        .prop_map(|condition| json!({"must": [condition]}))
}

/// Whether an index selects what the filter itself says, among all rows and among those of which `seed` says so.
fn agree(index: &PayloadIndex, rows: &Rows, filter: &Filter, seed: u64) -> Result<(), TestCaseError> {
    index.check();
    let numbers = 0..rows.0.len() as Row;
    let some = Bits::of(numbers.clone().filter(|row| seed >> (row % 61) & 1 == 1), rows.0.len());
    for visible in [RowSet::all(rows.0.len()), RowSet::of(Cow::Owned(some))] {
        let expect: Vec<Row> = numbers
            .clone()
            .filter(|&row| visible.contains(row))
            .filter(|&row| filter.matches(rows.id(row), &serde_json::from_str(rows.payload(row)).unwrap()))
            .collect();
        prop_assert_eq!(index.select(filter, rows, &visible).iter().collect::<Vec<_>>(), expect);
    }
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
        let rows = |payloads: &[String]| Rows::of_payloads(payloads);
        let filters: Vec<Filter> = filters.iter().map(|filter| Filter::parse(filter, "").unwrap()).collect();
        let head = |payloads: &[String]| head_of(&fields(), payloads);
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
            agree(&whole, &all, filter, seed)?;
            agree(&sealed, &rows(&reversed), filter, seed)?;
            agree(&merged, &rows(&of_merged), filter, seed)?;
        }
    }
}

/// Texts in which letters change their length, or their form, when they are lower-cased, and words of several scripts.
fn text() -> impl Strategy<Value = String> {
    let pieces = [
        "a",
        "B",
        "É",
        "ß",
        "İ",
        "I",
        "ı",
        "ﬁ",
        "Σ",
        "ς",
        "ǅ",
        "e\u{301}",
        "日本",
        "٣",
        "½",
        "²",
        "_",
        "-",
        "'",
        " ",
        "\t",
        "\u{a0}",
        "\u{200b}",
        "🙂",
        "नमस्ते",
    ];
    prop_oneof![
        3 => prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..12).prop_map(|pieces| pieces.concat()),
        1 => "\\PC{0,12}",
    ]
}

proptest! {
    /// `match.text` means the same with and without an index, for texts of any script.
    #[test]
    fn a_declared_text_is_matched_as_an_undeclared_one(texts in prop::collection::vec(text(), 1..40), asked in text()) {
        let payloads: Vec<String> = texts.iter().map(|text| json!({"t": text, "u": text}).to_string()).collect();
        let declared = [PayloadField { path: "t".into(), kind: PayloadKind::Text }];
        let rows = Rows::of_payloads(&payloads);
        let visible = RowSet::all(payloads.len());
        // All of a text, its first word, and something else.
        let first = texts[0].split_whitespace().next().unwrap_or("a");
        for asked in [asked.as_str(), texts[0].as_str(), first, &first.to_uppercase()] {
            let of = |key: &str| Filter::parse(&json!({"must": {"key": key, "match": {"text": asked}}}), "");
            let (Ok(by_index), Ok(by_payload)) = (of("t"), of("u")) else { continue };
            for index in [head_of(&declared, &payloads), sealed_of(&declared, &payloads)] {
                let found = index.select(&by_index, &rows, &visible);
                prop_assert_eq!(&found, &index.select(&by_payload, &rows, &visible), "{:?}", asked);
                prop_assert!(asked != texts[0] || found.contains(0), "a text holds its own words");
            }
        }
    }

    /// Heads, sealed and merged indexes list the same first rows, whatever is looked up and whatever is read.
    #[test]
    fn rows_are_listed_by_their_values(
        payloads in prop::collection::vec(payload(), 1..50),
        path in prop::sample::select(PATHS.map(|(path, _)| path).to_vec()),
        down in any::<bool>(),
        start in prop::option::of(scalar()),
        want in 1usize..20,
        hidden in any::<u64>(),
    ) {
        let direction = if down { Direction::Desc } else { Direction::Asc };
        let start_from = start.as_ref().and_then(OrderValue::of);
        let order = OrderBy { key: path.to_owned(), direction, start_from };
        let visible = Bits::of((0..payloads.len() as Row).filter(|row| hidden >> (row % 64) & 1 == 0), payloads.len());
        // Said once more without columns.
        let mut expected: Vec<(Row, OrderValue)> = Vec::new();
        for row in visible.iter() {
            let payload: Value = serde_json::from_str(&payloads[row as usize]).unwrap();
            for value in values(&payload, path) {
                let elements = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
                for element in elements {
                    let float = element.as_f64().filter(|_| path == "f").map(OrderValue::Float);
                    expected.extend(float.or_else(|| OrderValue::of(&element)).map(|value| (row, value)));
                }
            }
        }
        expected.retain(|(_, value)| match (start_from, down) {
            (None, _) => true,
            (Some(start), false) => *value >= start,
            (Some(start), true) => *value <= start,
        });
        expected.sort_by(|a, b| if down { b.1.cmp(&a.1) } else { a.1.cmp(&b.1) }.then(a.0.cmp(&b.0)));
        expected.dedup();
        let first = |entries: &[(Row, OrderValue)]| {
            let mut rows = std::collections::BTreeSet::new();
            let enough = entries.iter().take_while(|(row, _)| rows.contains(row) || rows.len() < want && rows.insert(*row));
            enough.copied().collect::<Vec<_>>()
        };
        let rows = Rows::of_payloads(&payloads);
        for index in [head_of(&fields(), &payloads), sealed_of(&fields(), &payloads)] {
            let found = index.ordered(&order, &rows, &RowSet::of(Cow::Borrowed(&visible)), want);
            prop_assert_eq!(first(&found), first(&expected));
            let all = index.ordered(&order, &rows, &RowSet::of(Cow::Borrowed(&visible)), usize::MAX);
            prop_assert_eq!(&all, &expected);
        }
    }

    /// `match.except` passes what is neither null nor one of the values, whatever the types of both are.
    #[test]
    fn except_leaves_out_equal_values_of_the_same_type_only(
        values in prop::collection::vec(value(), 1..40),
        unwanted in prop::collection::vec(scalar(), 0..5),
        seed in any::<u64>(),
    ) {
        let mut unwanted = unwanted;
        unwanted.retain(|value| value.is_string() || value.is_boolean() || value.as_i64().is_some());
        let payloads: Vec<String> = values.iter().map(|value| json!({"x": value}).to_string()).collect();
        let rows = Rows::of_payloads(&payloads);
        let filter = json!({"must": {"key": "x", "match": {"except": unwanted}}});
        let filter = Filter::parse(&filter, "").unwrap();
        // Said once more without the code that filters share.
        let passes = |value: &Value| {
            let equal = |other: &Value| value == other && !(value.is_f64() || other.is_f64());
            !value.is_null() && !unwanted.iter().any(equal)
        };
        let expect: Vec<Row> = (0..).zip(&values)
            .filter(|(_, value)| value.as_array().map_or_else(|| passes(value), |values| values.iter().any(passes)))
            .map(|(row, _)| row)
            .collect();
        for kind in [
            PayloadKind::Keyword, PayloadKind::Integer, PayloadKind::Float, PayloadKind::Bool, PayloadKind::Datetime,
            PayloadKind::Text,
        ] {
            let fields = [PayloadField { path: "x".into(), kind }];
            for index in [head_of(&fields, &payloads), sealed_of(&fields, &payloads)] {
                let found = index.select(&filter, &rows, &RowSet::all(payloads.len()));
                prop_assert_eq!(found.iter().collect::<Vec<_>>(), expect.clone(), "{:?}", kind);
                agree(&index, &rows, &filter, seed)?;
            }
        }
    }
}

#[test]
fn long_lists_of_ids_are_looked_up() {
    /// Rows that count how often an id is asked for.
    struct Counted(Mutex<usize>);

    impl Documents for Counted {
        fn id(&self, row: Row) -> &str {
            panic!("row {row} is not looked at")
        }

        fn payload(&self, row: Row) -> &str {
            panic!("row {row} is not read")
        }

        fn of(&self, id: &str, each: &mut dyn FnMut(Row)) {
            *self.0.lock().unwrap() += 1;
            id.parse().ok().filter(|row| *row < 1000).into_iter().for_each(each);
        }
    }

    let mut head = PayloadIndex::head(&[]);
    (0..1000).for_each(|_| head.push("{}"));
    let ids: Vec<u32> = (0..20_000).map(|number| number * 7 % 10_000).collect();
    let filter = Filter::parse(&json!({"must": {"has_id": ids}}), "").unwrap();
    let counted = Counted(Mutex::new(0));
    let found = head.select(&filter, &counted, &RowSet::all(1000));
    assert_eq!(found.count(), 1000);
    assert_eq!(*counted.0.lock().unwrap(), 10_000, "each id once");
}

/// Collects the fields of warnings.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Warnings {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::WARN
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        struct Text(String);
        impl tracing::field::Visit for Text {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
                self.0 += &format!("{}={value:?} ", field.name());
            }
        }
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0.lock().unwrap().push(text.0);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn an_undeclared_field_is_named_once() {
    let warnings = Warnings::default();
    let payloads = vec![json!({"warned": {"field": 3}}).to_string()];
    let rows = Rows::of_payloads(&payloads);
    let index = head_of(&fields(), &payloads);
    tracing::subscriber::with_default(warnings.clone(), || {
        for asked in 0..3 {
            for key in ["warned.field", "i"] {
                let filter = json!({"must": {"key": key, "match": {"value": asked}}});
                index.select(&Filter::parse(&filter, "").unwrap(), &rows, &RowSet::all(1));
            }
        }
    });
    let said = warnings.0.lock().unwrap();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("field=\"warned.field\""), "{said:?}");
    assert!(said[0].contains("\"warned.field\" = \"integer\""), "names the missing line: {said:?}");
}
