//! Documents as others write them, from several topics, through whole pipelines.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use freshet::run::{Progress, Until, run};
use freshet::setup::Setup;
use freshet_config::{Config, Connector as ConnectorConfig, Snapshots};
use freshet_operators::connect::{self, Connector, Memory};
use freshet_operators::control::Control;
use freshet_schemas::{Answer, Record, headers};
use freshet_tests::drive::{self, CONFIG, LIMIT, Pipeline, query_record, timeless, until};
use freshet_tests::registry::Registry;
use serde_json::{Value, json};

use crate::kafka::{broker, kafka, unique, write_to};

const KEY: &str = r#"{"type": "record", "name": "Key", "fields": [{"name": "id", "type": "int"}]}"#;
const TOPICS: [&str; 3] = ["tickets", "news", "notes"];

/// Change events as Confluent's serialiser has written them, under the numbers of their schemas: key, update, delete.
struct Events {
    key: Vec<u8>,
    update: Vec<u8>,
    delete: Vec<u8>,
    envelope: String,
}

fn events() -> Events {
    let all: Value = serde_json::from_str(include_str!("../../schemas/tests/fixtures/wire.json")).unwrap();
    let case = |name: &str| {
        let cases = all["avro"].as_array().unwrap();
        cases.iter().find(|case| case["name"] == name).unwrap_or_else(|| panic!("{name}")).clone()
    };
    let wire = |name: &str| STANDARD.decode(case(name)["wire"].as_str().unwrap()).unwrap();
    let events = Events {
        key: wire("debezium key"),
        update: wire("debezium update"),
        delete: wire("debezium delete"),
        envelope: case("debezium update")["schema"].as_str().unwrap().to_owned(),
    };
    assert_eq!((number(&events.key), number(&events.update), number(&events.delete)), (77, 6, 7));
    events
}

fn number(wire: &[u8]) -> u32 {
    u32::from_be_bytes(wire[1..5].try_into().unwrap())
}

fn schemas(events: &Events) -> Vec<(u32, &str)> {
    vec![(77, KEY), (6, &events.envelope), (7, &events.envelope)]
}

/// Three topics: Avro of Debezium, JSON with other names, texts.
fn config(workers: usize, registry: &str) -> Config {
    let sources = format!(
        r#"[topics]
documents = ["tickets", "news", "notes"]
[documents.schema_registry]
url = "http://{registry}"
timeout = "2s"
[documents.topics.tickets]
format = "avro"
envelope = "debezium"
text = ["title"]
[documents.topics.news]
id_prefix = ""
[documents.topics.news.rename]
"body.text" = "text"
[documents.topics.news.defaults]
city = "nowhere"
[documents.topics.notes]
format = "text"
[documents.topics.notes.headers]
source = "source"
[documents]
"#
    );
    let text = CONFIG.replace("[documents]\n", &sources);
    let mut config = Config::parse(&text, &|_| None).unwrap_or_else(|errors| panic!("{errors}"));
    config.pipeline.workers = workers.try_into().unwrap();
    config
}

fn setup(config: Config) -> Setup {
    Setup::load(config).unwrap_or_else(|error| panic!("{error}"))
}

fn memory() -> Memory {
    let memory = Memory::new();
    TOPICS.iter().for_each(|topic| memory.create(topic, 2));
    memory.create("queries", 1);
    memory
}

fn record(key: Option<&[u8]>, value: Option<&[u8]>) -> Record {
    Record { key: key.map(<[u8]>::to_vec), value: value.map(<[u8]>::to_vec), ..Record::default() }
}

/// What the topics hold, by topic.
fn records(events: &Events) -> Vec<(&'static str, i32, Record)> {
    let mut unknown = events.update.clone();
    unknown[4] = 99;
    let news = json!({"id": 17, "body": {"text": "news of the harbour", "n": 1}});
    let note = Record {
        headers: vec![("source".into(), Some(b"desk".to_vec()))],
        ..record(None, Some(b"harbour note"))
    };
    vec![
        ("tickets", 1, record(Some(&events.key), Some(&events.update))),
        ("tickets", 1, record(Some(b"broken"), Some(&events.update))),
        ("tickets", 0, record(Some(&events.key), Some(&unknown))),
        ("news", 1, record(Some(b"17"), Some(news.to_string().as_bytes()))),
        ("news", 0, record(Some(b"5"), Some(br#"{"text": 5}"#))),
        ("notes", 1, record(Some(b"17"), Some(b"invoice"))),
        ("notes", 1, note),
    ]
}

fn ask(memory: &Memory, query: &Value) -> Answer {
    memory.produce("queries", 0, query_record(query));
    answer(memory, query["id"].as_str().unwrap())
}

fn answer(memory: &Memory, id: &str) -> Answer {
    let find = |memory: &Memory| drive::answers(memory).into_iter().find(|answer| answer.id == id);
    assert!(memory.wait_until(LIMIT, |memory| find(memory).is_some()), "no answer to {id}");
    find(memory).unwrap()
}

fn strong(id: &str) -> Value {
    json!({"id": id, "query": {"list": {}}, "limit": 50, "consistency": "strong"})
}

fn ids(answer: &Answer) -> Vec<&str> {
    answer.points.iter().map(|point| point.id.as_str()).collect()
}

fn header<'a>(record: &'a Record, name: &str) -> &'a str {
    let value =
        record.headers.iter().find(|(known, _)| known == name).and_then(|(_, value)| value.as_deref());
    std::str::from_utf8(value.unwrap_or_else(|| panic!("no header {name}"))).unwrap()
}

#[test]
fn topics_of_three_encodings_are_one_index() {
    let events = events();
    let registry = Registry::start(&schemas(&events));
    let memory = memory();
    let connector: Arc<dyn Connector> = Arc::new(memory.clone());
    let setup = setup(config(2, &registry.address().to_string()));
    let pipeline = Pipeline::start(&setup, &connector);
    records(&events).into_iter().for_each(|(topic, partition, record)| {
        memory.produce(topic, partition, record);
    });
    let all = ask(&memory, &strong("all"));
    assert_eq!(ids(&all), ["17", "notes/17", "notes/notes-1-1", "tickets/17"]);
    let payloads: Vec<Value> = all.points.iter().map(|point| json!(point.payload)).collect();
    assert_eq!(payloads[0], json!({"body": {"n": 1}, "city": "nowhere"}));
    assert_eq!((&payloads[1], &payloads[2]), (&json!({}), &json!({"source": "desk"})));
    assert_eq!(payloads[3], json!({"updated": "2024-02-29T12:30:15.25Z"}));
    let offsets = |zero, one| BTreeMap::from([(0, zero), (1, one)]);
    let of = |name: &str, offsets| (name.to_owned(), offsets);
    let as_of = BTreeMap::from([
        of("tickets", offsets(0, 1)),
        of("news", offsets(0, 0)),
        of("notes", offsets(-1, 1)),
    ]);
    assert_eq!(all.as_of, as_of);
    // What an answer reflects can be asked for as it is; what nobody has is waited for, and what nobody knows refused.
    let mut query = strong("again");
    query["consistency"] = json!(all.as_of);
    assert_eq!(ids(&ask(&memory, &query)), ids(&all));
    query["id"] = json!("unknown");
    query["consistency"] = json!({"documents": {"0": 1}});
    let error = ask(&memory, &query).error.expect("refused");
    assert_eq!(
        (error.code.as_str(), error.field.as_deref()),
        ("unknown_field", Some("consistency.documents"))
    );
    assert!(error.message.contains("tickets, news, notes"), "{error}");
    // Each dead letter is in the topic of its own, with the partition's own number.
    let letters = memory.wait_for("tickets.dlq", 2, LIMIT);
    let mut told: Vec<_> = letters
        .iter()
        .map(|letter| (header(letter, headers::PARTITION), header(letter, headers::CODE)))
        .collect();
    told.sort_unstable();
    assert_eq!(told, [("0", "unknown_schema"), ("1", "not_decoded")]);
    let letter = memory.wait_for("news.dlq", 1, LIMIT).remove(0);
    assert_eq!((header(&letter, headers::TOPIC), header(&letter, headers::PARTITION)), ("news", "0"));
    assert_eq!(
        (letter.key.as_deref(), letter.value.as_deref()),
        (Some(&b"5"[..]), Some(&br#"{"text": 5}"#[..]))
    );
    // A delete, and the tombstone behind it.
    memory.produce("tickets", 1, record(Some(&events.key), Some(&events.delete)));
    memory.produce("tickets", 1, record(Some(&events.key), None));
    memory.produce("notes", 1, record(Some(b"17"), None));
    assert_eq!(ids(&ask(&memory, &strong("fewer"))), ["17", "notes/notes-1-1"]);
    assert_eq!(memory.len("tickets.dlq"), 2, "a tombstone is no dead letter");
    assert_eq!(registry.asked(), 4, "each schema is asked for once");
    pipeline.finish();
    let committed = |topic: &str| connector.committed(topic).unwrap();
    assert_eq!((committed("tickets"), committed("news")), (offsets(1, 4), offsets(1, 1)));
}

#[test]
fn documents_wait_for_a_registry_that_is_away_and_queries_do_not() {
    let events = events();
    // An address that is free, for now.
    let address = Registry::start(&[]).address();
    let memory = memory();
    let connector: Arc<dyn Connector> = Arc::new(memory.clone());
    let setup = setup(config(1, &address.to_string()));
    let pipeline = Pipeline::start(&setup, &connector);
    records(&events).into_iter().for_each(|(topic, partition, record)| {
        memory.produce(topic, partition, record);
    });
    // The other topics go on; what waits is in no answer and in no `as_of`.
    let needs = json!({"notes": {"1": 1}, "news": {"1": 0, "0": 0}});
    let without =
        ask(&memory, &json!({"id": "without", "query": {"list": {}}, "limit": 50, "consistency": needs}));
    assert_eq!(ids(&without), ["17", "notes/17", "notes/notes-1-1"]);
    assert_eq!(without.as_of["tickets"], BTreeMap::from([(0, -1), (1, -1)]));
    assert_eq!(memory.len("tickets.dlq"), 0);
    let registry = Registry::at(address, &schemas(&events));
    let with = ask(&memory, &strong("with"));
    assert_eq!(ids(&with), ["17", "notes/17", "notes/notes-1-1", "tickets/17"]);
    assert_eq!(with.as_of["tickets"], BTreeMap::from([(0, 0), (1, 1)]));
    pipeline.finish();
    drop(registry);
}

#[test]
fn credentials_that_the_registry_refuses_end_the_run() {
    let events = events();
    let registry = Registry::start(&[]);
    registry.refuse("401 Unauthorized");
    let memory = memory();
    let connector: Arc<dyn Connector> = Arc::new(memory.clone());
    memory.produce("tickets", 0, record(Some(&events.key), Some(&events.update)));
    let setup = setup(config(2, &registry.address().to_string()));
    let ended =
        run(setup, connector, Until::Stopped, &Arc::new(Control::default()), &Arc::new(Progress::default()));
    let error = ended.expect_err("it ends").to_string();
    assert!(error.contains("401") && error.contains("documents.schema_registry.user"), "{error}");
}

fn snapping(mut config: Config, folder: &std::path::Path) -> Config {
    let store = format!("file://{}", folder.display());
    config.snapshots = Some(Snapshots { store, interval: Duration::from_secs(3600), ..Snapshots::default() });
    config
}

#[test]
fn a_restart_goes_on_in_each_topic_and_knows_them_by_their_places() {
    let events = events();
    let registry = Registry::start(&schemas(&events));
    let folder = tempfile::tempdir().unwrap();
    let address = registry.address().to_string();
    let base = |workers| snapping(config(workers, &address), folder.path());
    let memory = memory();
    let connector: Arc<dyn Connector> = Arc::new(memory.clone());
    records(&events).into_iter().for_each(|(topic, partition, record)| {
        memory.produce(topic, partition, record);
    });
    let pipeline = Pipeline::start(&setup(base(1)), &connector);
    let before = ask(&memory, &strong("before"));
    pipeline.finish();
    // With other workers, and a topic more.
    memory.create("more", 1);
    memory.produce("more", 0, record(Some(b"m"), Some(br#"{"text": "more"}"#)));
    memory.produce("notes", 0, record(Some(b"new"), Some(b"new")));
    let mut more = base(3);
    let names = TOPICS.iter().chain(&["more"]).map(|name| (*name).to_owned());
    more.topics.documents = freshet_schemas::DocumentTopics::new(names);
    let later = setup(more);
    let pipeline = Pipeline::start(&later, &connector);
    let after = ask(&memory, &strong("after"));
    assert_eq!(ids(&after), ["17", "more/m", "notes/17", "notes/new", "notes/notes-1-1", "tickets/17"]);
    assert_eq!(drive::embedded(&later), 2, "what the snapshot holds is not embedded again");
    assert_eq!(after.as_of["tickets"], before.as_of["tickets"]);
    pipeline.finish();
    // In another order they would be others.
    let mut swapped = base(1);
    let names = ["news", "tickets", "notes", "more"].map(str::to_owned);
    swapped.topics.documents = freshet_schemas::DocumentTopics::new(names);
    let ended = run(
        setup(swapped),
        connector,
        Until::Stopped,
        &Arc::new(Control::default()),
        &Arc::new(Progress::default()),
    );
    let error = ended.expect_err("another order").to_string();
    assert!(error.contains("topics.documents[0] was tickets and is news"), "{error}");
}

#[test]
fn documents_are_written_over_http_to_the_topic_that_is_named() {
    use freshet::http::Server;
    use freshet_tests::http::request;
    let registry = Registry::start(&[]);
    let memory = memory();
    let connector: Arc<dyn Connector> = Arc::new(memory.clone());
    let setup = setup(config(1, &registry.address().to_string())).with_gateway();
    let pipeline = Pipeline::start(&setup, &connector);
    let http = freshet_config::Http { listen: "127.0.0.1:0".to_owned(), ..Default::default() };
    let server = Server::start(&http, &setup, &connector, pipeline.control()).unwrap();
    let post = |target: &str| {
        request(server.address(), "POST", target, &[], br#"{"id": "h", "body": {"text": "x"}}"#)
    };
    let missing = post("/api/documents");
    assert_eq!(missing.status, 400, "{missing:?}");
    assert!(missing.body.contains("tickets") && missing.body.contains("topic"), "{missing:?}");
    assert!(post("/api/documents?topic=gone").body.contains("is no documents topic"));
    let avro = post("/api/documents?topic=tickets");
    assert!(avro.status == 400 && avro.body.contains("write them as its readers expect"), "{avro:?}");
    until(|| setup.status.phase() == freshet::status::Phase::Ready);
    let written = post("/api/documents?topic=news&wait=true");
    assert_eq!((written.status, &written.json()["results"][0]["id"]), (200, &json!("h")), "{written:?}");
    assert_eq!(
        written.json()["as_of"]["news"].as_object().unwrap().values().filter(|last| **last == 0).count(),
        1
    );
    let status = request(server.address(), "GET", "/api/status", &[], b"").json();
    assert_eq!(status["as_of"], written.json()["as_of"]);
    let deleted = request(server.address(), "DELETE", "/api/documents/h?topic=news&wait=true", &[], b"");
    assert_eq!(deleted.status, 200, "{deleted:?}");
    assert!(ids(&ask(&memory, &strong("q"))).is_empty());
    drop(server);
    pipeline.finish();
}

/// Answers on topics of a connector, without what depends on clocks and partitions.
fn answers_through(connector: &Arc<dyn Connector>, mut config: Config, prefix: &str) -> Vec<String> {
    let events = events();
    let named = |name: &str| format!("{prefix}.{name}");
    // The same ids, whatever the topics are called.
    let own = std::mem::take(&mut config.documents.topics).into_iter().map(|(name, mut topic)| {
        topic.reading.id_prefix.get_or_insert_with(|| format!("{name}/"));
        (named(&name), topic)
    });
    config.documents.topics = own.collect();
    config.topics.documents = freshet_schemas::DocumentTopics::new(TOPICS.map(named));
    config.topics.queries = named("queries");
    config.topics.answers = named("answers");
    config.pipeline.name = prefix.to_owned();
    let topics = config.topics.clone();
    let inputs: Vec<&str> =
        topics.documents.names().iter().chain([&topics.queries]).map(String::as_str).collect();
    connector.prepare(&inputs, &[&topics.answers]).unwrap();
    // Those without keys go wherever the connector puts them: their ids would differ.
    for (topic, _, record) in records(&events).into_iter().filter(|(_, _, record)| record.key.is_some()) {
        write_to(&mut *connector.sink(Arc::new(|| {})).unwrap(), &named(topic), vec![record]);
    }
    let gone = record(Some(b"17"), None);
    write_to(&mut *connector.sink(Arc::new(|| {})).unwrap(), &named("notes"), vec![gone]);
    let queries = [strong("all"), json!({"id": "text", "text": "harbour", "consistency": "strong"})];
    let queries = queries.iter().map(query_record).collect();
    write_to(&mut *connector.sink(Arc::new(|| {})).unwrap(), &topics.queries, queries);
    let (control, progress) = (Arc::new(Control::default()), Arc::new(Progress::default()));
    run(setup(config), Arc::clone(connector), Until::CaughtUp, &control, &progress).unwrap();
    let ends = connector.end_offsets(&topics.answers).unwrap();
    let partitions: Vec<i32> = ends.keys().copied().collect();
    let mut source =
        connector.source(&topics.answers, &partitions, &BTreeMap::new(), Arc::new(|| {})).unwrap();
    let mut answers: Vec<Answer> = Vec::new();
    let begun = std::time::Instant::now();
    while answers.len() < 2 {
        assert!(begun.elapsed() < LIMIT, "{answers:?}");
        let records = source.poll(10, 1 << 20).unwrap().records;
        answers.extend(
            records.iter().map(|record| Answer::from_json(record.value.as_deref().unwrap()).unwrap()),
        );
    }
    answers.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(ids(&answers[0]), ["17", "tickets/17"]);
    answers.into_iter().map(|answer| timeless(Answer { as_of: BTreeMap::new(), ..answer })).collect()
}

#[test]
fn every_connector_reads_the_same_documents() {
    let events = events();
    let registry = Registry::start(&schemas(&events));
    let address = registry.address().to_string();
    let prefix = unique("sources");
    let folder = tempfile::tempdir().unwrap();
    let files = ConnectorConfig::Files { directory: folder.path().to_owned() };
    let files = connect::open(&files, &prefix).unwrap();
    let of_files = answers_through(&files, config(2, &address), &prefix);
    let of_memory =
        answers_through(&(Arc::new(Memory::new()) as Arc<dyn Connector>), config(1, &address), &prefix);
    assert_eq!(of_files, of_memory);
    let Some(broker) = broker("every_connector_reads_the_same_documents") else { return };
    let connector = connect::open(&kafka(&broker, true), &prefix).unwrap();
    assert_eq!(answers_through(&connector, config(3, &address), &prefix), of_memory);
}
