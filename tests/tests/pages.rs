//! Pages of one query: one cut, nothing twice, nothing lost, and nobody held up.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use freshet::setup::Setup;
use freshet_config::{Snapshots, StoreOptions};
use freshet_operators::connect::Connector;
use freshet_operators::snapshot::{Store, inspect, list};
use freshet_tests::drive::{Bench, LIMIT, Pipeline, answers, config, query_record, setup, topics, until};
use serde_json::{Value, json};

fn document(number: u64, version: u64) -> Value {
    json!({
        "id": format!("d{number:02}"),
        "text": format!("harbour {}", ["one", "two", "three"][(number % 3) as usize]),
        "vectors": {"given": [number % 7, number % 5, 1, number % 11]},
        "version": version,
        "stars": [number % 4, number],
    })
}

fn searches() -> Vec<Value> {
    vec![
        json!({"query": [1, 2, 3, 4], "using": "given", "limit": 50}),
        json!({"text": "harbour two", "limit": 45}),
        json!({"query": {"order_by": "stars"}, "limit": 200}),
        json!({"limit": 41}),
        json!({"prefetch": {"query": "harbour", "using": "bm25", "limit": 60}, "query": {"formula": {"neg": "version"}}, "limit": 60}),
    ]
}

struct Reader {
    bench: Bench,
    asked: usize,
}

impl Reader {
    fn ask(&mut self, mut query: Value) -> Value {
        self.asked += 1;
        query["id"] = json!(format!("q{}", self.asked));
        if query.get("cursor").is_none() {
            query["consistency"] = json!("strong");
        }
        // In turns through the topic and from within the process.
        if self.asked.is_multiple_of(2) {
            let (sender, answer) = channel();
            let reply = Box::new(move |answer| drop(sender.send(answer)));
            self.bench.setup.gateway.as_ref().unwrap().ask(query_record(&query), reply).unwrap();
            return serde_json::from_slice(&answer.recv_timeout(LIMIT).unwrap().to_json()).unwrap();
        }
        self.bench.ask(&query)
    }

    fn found(&mut self, query: Value) -> Value {
        let answer = self.ask(query);
        assert!(answer.get("error").is_none_or(Value::is_null), "{answer}");
        answer
    }
}

/// What a hit shows.
fn shown(answer: &Value) -> Vec<Value> {
    answer["points"].as_array().unwrap().clone()
}

#[test]
fn pages_are_the_parts_of_one_list_while_everything_changes() {
    for workers in [1, 2, 4] {
        let mut reader = Reader { bench: Bench::start(&setup(workers).with_gateway()), asked: 0 };
        (0..60).for_each(|number| reader.bench.document(&document(number, 0)));
        for (round, search) in searches().into_iter().enumerate() {
            let whole = reader.found(search.clone());
            let mut paged = search.clone();
            paged["page"] = json!({"size": 7});
            let first = reader.found(paged);
            assert_eq!(first["as_of"], whole["as_of"]);
            let mut all = shown(&first);
            assert_eq!(all.len(), 7);
            let mut next = first["next"].clone();
            let mut version = 10 * (round as u64 + 1);
            while let Some(cursor) = next.as_str().map(str::to_owned) {
                // Every document is replaced, some go, and a query sees that.
                version += 1;
                (0..60).for_each(|number| reader.bench.document(&document(number, version)));
                (0..60)
                    .filter(|number| number % 5 == version % 5)
                    .for_each(|n| reader.bench.delete(&format!("d{n:02}")));
                let now = reader.found(json!({"query": {"list": {}}, "limit": 100}));
                assert_eq!(shown(&now).len(), 48, "other queries see what is new");
                assert!(shown(&now).iter().all(|hit| hit["payload"]["version"] == json!(version)));
                let page = reader.found(json!({"cursor": cursor}));
                assert_eq!((&page["as_of"], &page["time"]), (&first["as_of"], &first["time"]), "{search}");
                if page.get("next").is_some() {
                    // A page may be read again, as long as there are others behind it.
                    assert_eq!(shown(&reader.found(json!({"cursor": cursor}))), shown(&page));
                }
                all.extend(shown(&page));
                next = page["next"].clone();
                if next.is_null() {
                    let gone = reader.ask(json!({"cursor": cursor}));
                    assert_eq!(gone["error"]["code"], "unknown_cursor", "{gone}");
                }
            }
            assert_eq!(all, shown(&whole), "{workers} workers: {search}");
            (0..60).for_each(|number| reader.bench.document(&document(number, 0)));
        }
        reader.bench.finish();
    }
}

#[test]
fn a_list_that_is_kept_holds_nobody_up() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file://{}", folder.path().display());
    let memory = topics();
    let connector: Arc<dyn Connector> = Arc::new(memory.clone());
    let load = || {
        let mut config = config(2);
        let interval = Duration::from_millis(3);
        config.snapshots = Some(Snapshots { store: url.clone(), interval, ..Snapshots::default() });
        Setup::load(config).unwrap()
    };
    let send = |number: u64, version: u64| {
        let document = document(number, version);
        let key = document["id"].as_str().unwrap().as_bytes().to_vec();
        let value = Some(document.to_string().into_bytes());
        memory.produce(
            "documents",
            0,
            freshet_schemas::Record { key: Some(key), value, ..Default::default() },
        )
    };
    let ask = |query: Value, asked: usize| {
        memory.produce("queries", 0, query_record(&query));
        memory.wait_for("answers", asked, LIMIT);
        let id = query["id"].as_str().unwrap().to_owned();
        answers(&memory).into_iter().find(|answer| answer.id == id).unwrap()
    };
    let pipeline = Pipeline::start(&load(), &connector);
    let mut last = (0..40).map(|number| send(number, 0)).max().unwrap();
    let first = json!({"id": "first", "limit": 40, "page": {"size": 10}, "consistency": "strong"});
    let first = ask(first, 1);
    assert_eq!(first.points.len(), 10);
    // Documents, merges (heads are of three documents) and snapshots go on.
    for version in 1..30 {
        (0..40).for_each(|number| last = send(number, version));
    }
    let newer = ask(json!({"id": "newer", "limit": 100, "consistency": "strong"}), 2);
    assert!(newer.points.iter().all(|point| point.payload.as_ref().unwrap()["version"] == json!(29)));
    until(|| {
        let store = Store::open(&url, &StoreOptions::default()).unwrap();
        // A snapshot may be gone before it is read.
        let newest = list(&store).unwrap().pop().and_then(|id| inspect(&store, &id).ok());
        newest.is_some_and(|manifest| manifest.offsets.get(&0).is_some_and(|next| *next > last))
    });
    let second = ask(json!({"id": "second", "cursor": first.next.clone().unwrap()}), 3);
    assert_eq!((second.time, &second.as_of), (first.time, &first.as_of));
    assert!(second.points.iter().all(|point| point.payload.as_ref().unwrap()["version"] == json!(0)));
    assert_eq!(second.points.len(), 10);
    // The run ends although pages are left; another one answers nothing again and knows no cursor.
    pipeline.finish();
    let pipeline = Pipeline::start(&load(), &connector);
    let gone = ask(json!({"id": "gone", "cursor": second.next.unwrap()}), 4);
    assert_eq!(gone.error.unwrap().code, freshet_schemas::FaultCode::UnknownCursor);
    pipeline.finish();
    assert_eq!(answers(&memory).len(), 4, "every query is answered once");
}

#[test]
fn lists_are_kept_for_a_time_and_no_more_than_there_is_room_for() {
    let mut config = config(1);
    config.queries.cursors_max = 2.try_into().unwrap();
    config.queries.cursor_timeout = Duration::from_millis(400);
    config.queries.consistency_timeout = Duration::from_millis(800);
    let mut reader = Reader { bench: Bench::start(&Setup::load(config).unwrap().with_gateway()), asked: 0 };
    (0..20).for_each(|number| reader.bench.document(&document(number, 0)));
    reader.found(json!({"limit": 100}));
    let mut open =
        || reader.found(json!({"limit": 20, "page": {"size": 4}}))["next"].as_str().unwrap().to_owned();
    let cursors = [open(), open(), open()];
    let code =
        |reader: &mut Reader, cursor: &str| reader.ask(json!({"cursor": cursor}))["error"]["code"].clone();
    assert_eq!(code(&mut reader, &cursors[0]), "unknown_cursor", "newer ones took its place");
    assert_eq!(code(&mut reader, &cursors[2]), Value::Null);
    for cursor in ["0-0-0-0", "1-5-0-4"] {
        assert_eq!(code(&mut reader, cursor), "unknown_cursor");
    }
    // A query that waits for what never comes tells that so much time has passed.
    let mut never = json!({"id": "never", "limit": 1});
    never["consistency"] = json!({"documents": {"0": 1_000_000}});
    assert_eq!(reader.bench.ask(&never)["error"]["code"], "consistency_timeout");
    assert_eq!(code(&mut reader, &cursors[2]), "unknown_cursor", "nobody asked for it in time");
    // A list that fits on its page needs no other.
    assert!(reader.found(json!({"limit": 4, "page": {"size": 4}})).get("next").is_none());
    reader.bench.finish();
}
