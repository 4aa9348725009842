//! Rows reach the table once, whatever the store does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use freshet_schemas::{Answer, Fault, FaultCode, FusionScore, Leg, Point};
use object_store::memory::InMemory;

use super::*;
use crate::snapshot::failing::{Failing, Luck};
use crate::snapshot::store::Store;
use crate::snapshot::{Claim, SnapshotError};

const DAY_US: u64 = 24 * 60 * 60 * 1_000_000;

fn store(memory: &Arc<InMemory>) -> Store {
    Store::over(Arc::<InMemory>::clone(memory), "memory://here/").expect("a store")
}

fn row(id: &str, asked_us: u64) -> AnsweredQuery {
    let point = Point {
        span: None,
        id: format!("hit of {id}"),
        score: 0.5,
        chunk: 1,
        text: Some("a text".repeat(1_000)),
        payload: Some(serde_json::json!({"long": "payload".repeat(1_000)})),
        legs: vec![Leg { name: "bm25".into(), rank: 2, score: 7.5, contribution: Some(0.5) }],
        fusion: Some(FusionScore { rank: 1, score: 0.5 }),
        rerank: None,
        order_value: None,
        vectors: [("v".to_owned(), freshet_schemas::PointVector::Dense(vec![0.5]))].into(),
    };
    let answer = Answer {
        points: vec![point],
        as_of: BTreeMap::new(),
        time: Some(asked_us / 1_000),
        error: None,
        ..Answer::refusal(id, Fault::whole(FaultCode::NotJson, ""), 0.25)
    };
    AnsweredQuery::new(asked_us, format!("{{\"id\": \"{id}\", \"text\": \"refund\"}}").into(), answer)
}

fn ids(queries: &[AskedQuery]) -> Vec<String> {
    queries.iter().map(|query| query.id.clone()).collect()
}

/// Rows in all files.
fn rows(store: &Store) -> Vec<AskedQuery> {
    let days = read::days(store).expect("days").into_iter();
    let files = days.flat_map(|(folder, _)| read::files(store, &folder).expect("files"));
    files.flat_map(|path| read::read(store, &path).expect("rows")).collect()
}

#[test]
fn every_row_is_written_once_though_calls_fail() {
    let mut failures = 0;
    for seed in 0..40 {
        let (memory, luck) = (Arc::new(InMemory::new()), Arc::new(Luck::new(seed)));
        let whole = store(&memory);
        let failing = Failing { inner: memory, luck: Arc::clone(&luck) };
        let failing = Store::over(Arc::new(failing), "memory://").expect("a store");
        let claim = Claim::take(&whole, "test").expect("a claim");
        let to = Target { store: &failing, claim: &claim };
        let answers = Arc::new(Answers::new(|| {}));
        let mut keeper = Keeper::new(Arc::clone(&answers));
        let mut expected = Vec::new();
        for step in 0..12u64 {
            for number in 0..3 {
                // Around midnight: a write has files of two days, and goes back a day now and then.
                let asked = DAY_US * (20_000 + (step + number) % 2) + step * 100 + number;
                let id = format!("q{step}-{number}");
                answers.record(row(&id, asked));
                expected.push((asked, id));
            }
            luck.fail_one_in(4);
            failures += u32::from(keeper.attempt(&to).is_err());
            luck.fail_one_in(0);
        }
        keeper.attempt(&to).expect("the store works again");
        assert_eq!(answers.take(), [], "seed {seed}");
        assert_eq!(lock(&answers.waiting).held, Held::default(), "seed {seed}: all the room is free");
        expected.sort();
        let expected: Vec<String> = expected.into_iter().map(|(_, id)| id).collect();
        assert_eq!(rows(&whole).len(), expected.len(), "seed {seed}: no row is there twice");
        assert_eq!(ids(&queries(&whole, None).expect("queries")), expected, "seed {seed}");
    }
    assert!(failures > 50, "attempts failed: {failures}");
}

#[test]
fn what_finds_no_room_is_counted_and_holds_nobody_up() {
    let woken = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&woken);
    let room = Room { rows: 4, bytes: 1 << 20 };
    let answers = Arc::new(Answers::with_room(room, move || {
        counter.fetch_add(1, Ordering::SeqCst);
    }));
    let store = store(&Arc::new(InMemory::new()));
    let claim = Claim::take(&store, "test").expect("a claim");
    let other = Claim::take(&store, "test").expect("a later claim");
    let mut keeper = Keeper::new(Arc::clone(&answers));
    for number in 0..6 {
        answers.record(row(&format!("q{number}"), number));
        let half = usize::from(number >= 1);
        assert_eq!(woken.load(Ordering::SeqCst), half, "woken once, when half of the room is filled");
    }
    assert_eq!(answers.lost(), 2);
    // An earlier run writes nothing any more, and what it has is not lost by trying.
    let refused = keeper.attempt(&Target { store: &store, claim: &claim }).expect_err("refused");
    assert!(matches!(refused, SnapshotError::Owned { .. }), "{refused}");
    assert!(keeper.is_behind());
    answers.record(row("q6", 6));
    assert_eq!(answers.lost(), 3, "what could not be written keeps its room");
    keeper.attempt(&Target { store: &store, claim: &other }).expect("written");
    assert!(!keeper.is_behind());
    assert_eq!(ids(&rows(&store)), ["q0", "q1", "q2", "q3"]);
    answers.record(row("q7", 7));
    answers.record(row("q8", 8));
    assert_eq!((answers.lost(), woken.load(Ordering::SeqCst)), (3, 2), "there is room again");
    // Bytes count, too; texts and payloads of hits are not among them.
    let small = Answers::with_room(Room { rows: 9, bytes: 4_000 }, || {});
    (0..9).for_each(|number| small.record(row("q", number)));
    let (lost, held) = (small.lost(), lock(&small.waiting).held);
    assert!(
        lost > 0 && held.rows as u64 == 9 - lost && held.bytes <= 4_000 && held.rows > 2,
        "{lost}, {held:?}"
    );
}

#[test]
fn days_are_read_from_a_date_on_and_go_when_they_are_old() {
    let store = store(&Arc::new(InMemory::new()));
    let claim = Claim::take(&store, "test").expect("a claim");
    let to = Target { store: &store, claim: &claim };
    let answers = Arc::new(Answers::new(|| {}));
    let mut keeper = Keeper::new(Arc::clone(&answers));
    assert_eq!(view(&store).expect("an answer"), None, "there is nothing to look at");
    // 2026-11-20 and 2026-11-21; the same query on both, as around a crash.
    let (first, second) = (20_777 * DAY_US, 20_778 * DAY_US);
    answers.record(row("old", first + 5));
    answers.record(row("twice", second - 1));
    keeper.attempt(&to).expect("written");
    answers.record(row("twice", second));
    answers.record(row("new", second + 1));
    keeper.attempt(&to).expect("written");
    let all = queries(&store, None).expect("queries");
    assert_eq!(ids(&all), ["old", "twice", "new"]);
    assert_eq!(all[1].asked_us, second as i64, "the later one");
    assert_eq!(ids(&queries(&store, Some("2026-11-21")).expect("queries")), ["twice", "new"]);
    assert!(
        is_date("2026-11-21") && !is_date("2026-11-31") && !is_date("21.11.2026") && !is_date("20261121")
    );
    let text = view(&store).expect("an answer").expect("a view");
    assert!(text.contains("read_parquet('memory://here/answers/*/*.parquet'"), "{text}");
    clean(&store, second / 1_000 - 1).expect("cleaned");
    assert_eq!(rows(&store).len(), 4, "the first day has not ended");
    clean(&store, second / 1_000).expect("cleaned");
    assert_eq!(ids(&rows(&store)), ["twice", "new"]);
    // A file that is none is named, and nothing panics.
    store.put("answers/date=2026-11-21/x.parquet", b"PAR1 no table PAR1".to_vec()).expect("put");
    let told = queries(&store, None).expect_err("refused").to_string();
    assert!(told.contains("answers/date=2026-11-21/x.parquet"), "{told}");
}
