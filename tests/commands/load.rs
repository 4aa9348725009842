//! `freshet load`: files of every kind, bad rows, and loads that are interrupted.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{
    Array, ArrayRef, Float32Array, Int64Array, ListArray, RecordBatch, StringArray, StructArray,
};
use arrow::datatypes::{Field, Float32Type};
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};

use crate::place::{Place, text};

impl Place {
    /// The values of the documents topic, by id; the last one of an id counts.
    fn documents(&self) -> Vec<Value> {
        let topic = self.folder.path().join("topics/documents.jsonl");
        let lines = std::fs::read_to_string(topic).unwrap_or_default();
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// `freshet load`, with marks in this place: exit code, output, messages.
    fn load(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let mut command = self.command(&[&["load"], arguments].concat());
        let output = command.env("XDG_STATE_HOME", self.folder.path().join("state")).output().unwrap();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

fn as_str(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn lines_cells_and_tables_become_documents() {
    let place = Place::new("interval = \"1h\"");
    let config = std::fs::read_to_string(place.config()).unwrap();
    std::fs::write(
        place.config(),
        config.replace("[payload]\n", "[payload]\nopen = \"bool\"\nprice = \"float\"\n"),
    )
    .unwrap();
    let lines = place
        .file("a.jsonl", "{\"id\": \"a\", \"text\": \"refund\"}\n\n{\"key\": \"gone\", \"value\": null}\r\n");
    let cells = place.file(
        "b.csv",
        "id,text,stars,open,price,zip\nb,\"one, \"\"two\"\"\nthree\",4,TRUE,2.5,01234\nc,token,,,,\n",
    );
    let ids: ArrayRef = Arc::new(StringArray::from(vec!["d", "e"]));
    let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("invoice"), Some("crane")]));
    let stars: ArrayRef = Arc::new(Int64Array::from(vec![Some(3), None]));
    let list = ListArray::from_iter_primitive::<Float32Type, _, _>([
        Some(vec![Some(0.5), Some(1.0)]),
        Some(vec![Some(0.25), Some(0.0)]),
    ]);
    let more: ArrayRef = Arc::new(StructArray::from(vec![
        (Arc::new(Field::new("weights", list.data_type().clone(), true)), Arc::new(list) as ArrayRef),
        (
            Arc::new(Field::new("depth", arrow::datatypes::DataType::Float32, false)),
            Arc::new(Float32Array::from(vec![1.5, 2.5])) as ArrayRef,
        ),
    ]));
    let batch =
        RecordBatch::try_from_iter([("id", ids), ("text", texts), ("stars", stars), ("more", more)]).unwrap();
    let table = place.folder.path().join("c.parquet");
    let mut writer =
        ArrowWriter::try_new(std::fs::File::create(&table).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();

    let (code, out, told) = place.load(&[as_str(&lines), as_str(&cells), as_str(&table)]);
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(out.matches("2 documents written to \"documents\"").count(), 3, "{out}");
    assert_eq!(
        place.documents(),
        [
            json!({"id": "a", "text": "refund"}),
            json!({"key": "gone", "value": null}),
            json!({"id": "b", "text": "one, \"two\"\nthree", "stars": 4, "open": true, "price": 2.5, "zip": "01234"}),
            json!({"id": "c", "text": "token"}),
            json!({"id": "d", "text": "invoice", "stars": 3, "more": {"weights": [0.5, 1.0], "depth": 1.5}}),
            json!({"id": "e", "text": "crane", "more": {"weights": [0.25, 0.0], "depth": 2.5}}),
        ]
    );
}

#[test]
fn rows_that_are_no_documents_are_told_and_left_out() {
    let place = Place::new("interval = \"1h\"");
    let lines = place.file("a.jsonl", "{\"id\": \"a\", \"text\": \"refund\"}\nno json\n{\"text\": \"no id\"}\n{\"id\": \"b\", \"text\": 7}\n");
    let cells = place.file("b.csv", "id,text,stars\nc,token,many\nd,crane,1,2\ne,tide,5\n");
    let (code, out, told) = place.load(&["--json", as_str(&lines), as_str(&cells)]);
    assert_eq!(code, Some(1), "{told}");
    for part in [
        "a.jsonl: row 2 is not written: ",
        "a.jsonl: row 3 is not written: ",
        "a.jsonl: row 4 is not written: ",
        "b.csv: row 1 is not written: column \"stars\": \"many\" is no integer, as [payload] declares it",
        "b.csv: row 2 is not written: ",
        "5 row(s) were not written",
    ] {
        assert!(told.contains(part), "{part:?} in {told}");
    }
    let told: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        (&told[0]["written"], &told[0]["refused"], &told[0]["whole"]),
        (&json!(1), &json!(3), &json!(true))
    );
    assert_eq!((&told[1]["written"], &told[1]["refused"]), (&json!(1), &json!(2)));
    assert_eq!(
        place.documents().iter().map(|value| value["id"].as_str().unwrap()).collect::<Vec<_>>(),
        ["a", "e"]
    );

    let wrong = place.file("c.parquet", "not parquet");
    let odd = place.file("d.xml", "<a/>");
    for (file, part) in [
        (&wrong, "not readable as Parquet"),
        (&odd, "give --format"),
        (&place.folder.path().join("none.csv"), "No such file"),
    ] {
        let (code, _, told) = place.load(&[as_str(file)]);
        assert_eq!(code, Some(1), "{told}");
        assert!(told.contains(part) && told.contains(as_str(file)), "{part:?} in {told}");
    }
}

#[test]
fn a_load_that_was_interrupted_goes_on() {
    let place = Place::new("interval = \"1h\"");
    let of = |ending: &str| -> PathBuf {
        let rows = 0..400;
        match ending {
            "csv" => {
                let rows: String = rows.map(|n| format!("csv-{n},refund {n}\n")).collect();
                place.file("many.csv", &format!("id,text\n{rows}"))
            }
            _ => {
                let rows: String = rows
                    .map(|n| format!("{}\n", json!({"id": format!("jsonl-{n}"), "text": "refund"})))
                    .collect();
                place.file("many.jsonl", &rows)
            }
        }
    };
    for ending in ["jsonl", "csv"] {
        let file = of(ending);
        let before = place.documents().len();
        let mut child = place
            .command(&["load", "--rate", "100", as_str(&file)])
            .env("XDG_STATE_HOME", place.folder.path().join("state"))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        while place.documents().len() < before + 20 {
            assert!(Instant::now() < until, "rows are written");
            std::thread::park_timeout(Duration::from_millis(5));
        }
        let told =
            std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
        assert!(
            told.success() && child.wait().unwrap().code() == Some(1),
            "it ends by itself, and says that it is not done"
        );
        let written = place.documents().len() - before;
        assert!((20..400).contains(&written), "{written} rows");
        let (code, out, told) = place.load(&["--json", as_str(&file)]);
        assert_eq!(code, Some(0), "{told}");
        let told: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(told["skipped"].as_u64(), Some(written as u64), "it goes on behind what is written");
        let ids: Vec<Value> = place.documents().drain(before..).map(|value| value["id"].clone()).collect();
        let all: Vec<Value> = (0..400).map(|n| json!(format!("{ending}-{n}"))).collect();
        assert_eq!(ids, all, "each row once, in order");
        // Once whole, there is nothing to go on with; nor after the file has changed.
        let (_, out, _) = place.load(&["--json", as_str(&file)]);
        assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["skipped"], 0);
    }
}
