//! Filters by indexed payload fields against scans of all payloads.

use freshet_operators::index::payload::{Documents, PayloadField, PayloadIndex, PayloadKind};
use freshet_operators::index::rows::{Pick, RowSet};
use freshet_schemas::Filter;
use serde_json::{Value, json};

use crate::data::Random;
use crate::report::{Report, Row, against, per_second, timed};

/// Payloads by row.
struct Payloads {
    ids: Vec<String>,
    texts: Vec<String>,
}

impl Documents for Payloads {
    fn id(&self, row: u32) -> &str {
        &self.ids[row as usize]
    }

    fn payload(&self, row: u32) -> &str {
        &self.texts[row as usize]
    }

    fn of(&self, id: &str, each: &mut dyn FnMut(u32)) {
        let row = id.strip_prefix('d').and_then(|digits| digits.parse().ok());
        row.filter(|&row: &u32| (row as usize) < self.ids.len()).into_iter().for_each(each);
    }
}

fn payload(random: &mut Random) -> Value {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank")]
    let word = |random: &mut Random| format!("word{}", 20_000f64.powf(random.unit()) as u64);
    let words: Vec<String> = (0..20).map(|_| word(random)).collect();
    let (year, month, day) = (random.below(26), 1 + random.below(12), 1 + random.below(28));
    let price = |random: &mut Random| json!({"price": random.below(100_000) as f64 / 100.0});
    json!({
        "city": format!("city{}", random.below(200)),
        "year": 1900 + random.below(126),
        "published": format!("20{year:02}-{month:02}-{day:02}T{:02}:00:00Z", random.below(24)),
        "sold_out": random.below(10) == 0,
        "summary": words.join(" "),
        "author": {"name": format!("author{}", random.below(5000))},
        "offers": [price(random), price(random)],
        "unindexed": random.below(1000),
    })
}

fn fields() -> Vec<PayloadField> {
    let field = |(path, kind): (&str, PayloadKind)| PayloadField { path: path.to_owned(), kind };
    let fields = [
        ("city", PayloadKind::Keyword),
        ("year", PayloadKind::Integer),
        ("published", PayloadKind::Datetime),
        ("sold_out", PayloadKind::Bool),
        ("summary", PayloadKind::Text),
        ("author.name", PayloadKind::Keyword),
        ("offers[].price", PayloadKind::Float),
    ];
    fields.map(field).to_vec()
}

fn filters() -> Vec<(&'static str, Value)> {
    let city = json!({"key": "city", "match": {"value": "city7"}});
    let half = json!({"key": "unindexed", "range": {"lt": 500}});
    let five = ["city1", "city2", "city3", "city4", "city5"];
    vec![
        ("keyword", json!({"must": city})),
        ("any of 5 keywords", json!({"must": {"key": "city", "match": {"any": five}}})),
        ("integer range", json!({"must": {"key": "year", "range": {"gte": 1950, "lt": 1960}}})),
        (
            "datetime range",
            json!({"must": {"key": "published", "range": {"gte": "2020-01-01", "lt": "2021-07-01"}}}),
        ),
        ("two words", json!({"must": {"key": "summary", "match": {"text": "word3 word17"}}})),
        ("nested keyword", json!({"must": {"key": "author.name", "match": {"value": "author99"}}})),
        ("nested float range", json!({"must": {"key": "offers[].price", "range": {"lt": 5}}})),
        (
            "three fields",
            json!({"must": [
                    {"key": "sold_out", "match": {"value": false}}, {"key": "year", "range": {"gte": 2000}},
                ], "must_not": city}),
        ),
        ("keyword and a field not indexed", json!({"must": [city, half]})),
        ("a field not indexed", json!({"must": half})),
        (
            "objects in a list",
            json!({"must": {"nested": {"key": "offers", "filter": {"must": [
                {"key": "price", "range": {"gte": 5, "lt": 10}}, {"must_not": {"key": "price", "range": {"lt": 7}}},
            ]}}}}),
        ),
        (
            "10,000 ids",
            json!({"must": {"has_id": (0..10_000).map(|n| format!("d{}", n * 13)).collect::<Vec<_>>()}}),
        ),
    ]
}

/// Measures.
pub(crate) fn run(report: &mut Report) {
    let count = report.scaled(100_000);
    let mut random = Random::new(9);
    let values: Vec<Value> = (0..count).map(|_| payload(&mut random)).collect();
    let documents = Payloads {
        ids: (0..count).map(|row| format!("d{row}")).collect(),
        texts: values.iter().map(Value::to_string).collect(),
    };
    let sealed = grow(report, &documents);
    let all = RowSet::all(count);
    for (what, filter) in filters() {
        let filter = Filter::parse(&filter, "filter").expect("a filter");
        let in_memory = || {
            let passes = |(row, value): &(usize, &Value)| filter.matches(&documents.ids[*row], value);
            values.iter().enumerate().filter(passes).count()
        };
        let of_text = || {
            let passes = |(row, text): &(usize, &String)| {
                let value: Value = serde_json::from_str(text).expect("JSON");
                filter.matches(&documents.ids[*row], &value)
            };
            documents.texts.iter().enumerate().filter(passes).count()
        };
        let found = sealed.select(&filter, &documents, &all).count();
        assert_eq!(found, in_memory(), "{what}");
        let select = || drop(std::hint::black_box(sealed.select(&filter, &documents, &all)));
        let (ours, in_memory) = against(5, select, || assert_eq!(found, in_memory()));
        let of_text = timed(|| assert_eq!(found, of_text()));
        for (other, name) in [(in_memory, "scan of values"), (of_text, "scan of JSON")] {
            report.add(Row {
                reference: Some((per_second(1, other), name)),
                ..row(format!("{what}: {found} of {count} pass"), per_second(1, ours), "filters/s")
            });
        }
    }
}

/// Pushes all payloads, and seals them.
fn grow(report: &mut Report, documents: &Payloads) -> PayloadIndex {
    let count = documents.texts.len();
    let mut head = PayloadIndex::head(&fields());
    let pushed = timed(|| documents.texts.iter().for_each(|text| head.push(text)));
    let parsed = timed(|| {
        documents.texts.iter().for_each(|text| {
            std::hint::black_box(serde_json::from_str::<Value>(text).expect("JSON"));
        });
    });
    let picks: Vec<Pick> = (0..count as u32).map(|row| Pick { from: 0, row }).collect();
    let mut sealed = None;
    let seal = timed(|| sealed = Some(PayloadIndex::seal(&fields(), &[&head], &picks)));
    let sealed = sealed.expect("just sealed");
    let bytes = documents.texts.iter().map(String::len).sum::<usize>() / count;
    let note = format!("{} fields, payloads of {bytes} bytes", fields().len());
    let per_document = |index: &PayloadIndex| index.bytes() as f64 / count as f64;
    let reference = Some((per_second(count, parsed), "parsing alone"));
    let rows = [
        Row { reference, ..row("push".into(), per_second(count, pushed), "documents/s") },
        row("seal".into(), per_second(count, seal), "documents/s"),
        row("head in memory".into(), per_document(&head), "bytes/document"),
        row("sealed in memory".into(), per_document(&sealed), "bytes/document"),
    ];
    rows.into_iter().for_each(|row| report.add(Row { note: note.clone(), ..row }));
    sealed
}

fn row(what: String, value: f64, unit: &'static str) -> Row {
    Row { group: "payload", what, value, unit, reference: None, bar: None, note: String::new() }
}
