//! Random scripts of documents and queries, the same for the same seed.

use freshet_schemas::Record;
use serde_json::{Value, json};

/// A small generator of random numbers (splitmix64): the same sequence everywhere.
pub struct Random(u64);

impl Random {
    /// Starts at a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.draw() % end
    }

    /// True in `percent` of 100 cases.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// Documents that arrive, then queries about them.
#[derive(Clone, Debug, Default)]
pub struct Step {
    /// Partition and record.
    pub documents: Vec<(i32, Record)>,
    /// Queries.
    pub queries: Vec<Value>,
}

/// Partitions of the documents topic.
pub const PARTITIONS: u64 = 3;
const IDS: u64 = 14;
const WORDS: [&str; 24] = [
    "harbour", "invoice", "refund", "berth", "login", "token", "billing", "calendar", "export", "webhook",
    "door", "badge", "schedule", "payment", "cancel", "renew", "upgrade", "member", "class", "waitlist",
    "coach", "report", "the", "and",
];

fn words(random: &mut Random, most: u64) -> String {
    let count = 1 + random.below(most);
    let words: Vec<&str> = (0..count).map(|_| WORDS[random.below(WORDS.len() as u64) as usize]).collect();
    words.join(" ")
}

/// A script of some steps; about one document in twenty cannot be decoded.
pub fn random(seed: u64, steps: usize) -> Vec<Step> {
    let mut random = Random::new(seed);
    let mut texts: Vec<String> = vec![String::new(); IDS as usize];
    let mut number = 0;
    let mut script = Vec::new();
    for _ in 0..steps {
        let mut step = Step::default();
        for _ in 0..random.below(9) {
            let id = random.below(IDS);
            step.documents
                .push(((id % PARTITIONS) as i32, document(&mut random, id, &mut texts[id as usize])));
        }
        for _ in 0..1 + random.below(3) {
            number += 1;
            step.queries.push(query(&mut random, number));
        }
        script.push(step);
    }
    script
}

fn document(random: &mut Random, id: u64, text: &mut String) -> Record {
    let key = Some(format!("d{id:02}").into_bytes());
    if random.percent(15) {
        return Record { key, ..Record::default() };
    }
    if random.percent(5) {
        return Record { key, value: Some(b"{\"id\": ".to_vec()), ..Record::default() };
    }
    // A fifth of the updates change the payload only, or nothing at all.
    if text.is_empty() || !random.percent(20) {
        *text = words(random, 25);
    }
    let tag = words(random, 1);
    let mut value = json!({"id": format!("d{id:02}"), "text": text, "stars": random.below(3), "tags": [tag]});
    if random.percent(70) {
        let vector: Vec<i64> = (0..4).map(|_| random.below(7) as i64 - 3).collect();
        value["vectors"] = json!({"given": vector});
    }
    Record { key, value: Some(value.to_string().into_bytes()), ..Record::default() }
}

fn filter(random: &mut Random) -> Value {
    match random.below(4) {
        0 => json!({"must": {"key": "stars", "range": {"gte": random.below(3)}}}),
        1 => json!({"must_not": [{"key": "stars", "match": {"value": random.below(3)}}]}),
        2 => json!({"must": {"key": "tags", "match": {"text": words(random, 1)}}}),
        _ => {
            let tags: Vec<String> = (0..8).map(|_| words(random, 1)).collect();
            json!({"should": [{"key": "tags", "match": {"any": tags}}, {"has_id": ["d01", "d05"]}]})
        }
    }
}

fn query(random: &mut Random, number: u64) -> Value {
    let text = words(random, 4);
    let vector: Vec<i64> = (0..4).map(|_| random.below(7) as i64 - 3).collect();
    let leaf = |using: &str, limit: u64| json!({"query": {"text": text}, "using": using, "limit": limit});
    let given = json!({"query": vector, "using": "given", "limit": 1 + random.below(8)});
    let bm25 = leaf("bm25", 1 + random.below(8));
    let colbert = leaf("colbert", 1 + random.below(8));
    let mut query = match random.below(7) {
        0 => given,
        1 => bm25,
        2 => colbert,
        3 => {
            json!({"prefetch": [given, bm25], "query": {"rrf": {"k": 1 + random.below(60), "weights": [1, 3]}}})
        }
        4 => json!({"prefetch": [given, bm25], "query": {"text": text}, "using": "colbert"}),
        5 => {
            let rescored =
                json!({"prefetch": [given, bm25], "query": {"text": text}, "using": "colbert", "limit": 6});
            json!({"prefetch": [given, bm25, rescored], "query": {"fusion": "dbsf"}})
        }
        _ => json!({"text": text}),
    };
    if random.percent(40) {
        query["filter"] = filter(random);
    }
    if let Some(stage) = query.get_mut("prefetch").and_then(|stages| stages.get_mut(0))
        && random.percent(30)
    {
        stage["filter"] = filter(random);
    }
    query["id"] = json!(format!("q{number:03}"));
    query["limit"] = json!(1 + random.below(12));
    query
}
