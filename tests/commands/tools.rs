//! `freshet topics`, `doctor`, `check`, `completions`, `tail --follow`.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::place::{Place, text};

fn lines(bytes: &[u8]) -> Vec<Value> {
    text(bytes)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}")))
        .collect()
}

#[test]
fn topics_are_listed_and_created() {
    let place = Place::new("interval = \"1h\"");
    place.append("documents", &json!({"id": "a", "text": "refund"}));
    place.append("documents", &json!({"id": "b", "text": "crane"}));
    let list = |arguments: &[&str]| {
        let output = place.done(&[&["topics"], arguments].concat());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        lines(&output.stdout)
    };
    let partitions =
        |listed: &[Value]| -> Vec<Value> { listed.iter().map(|topic| topic["partitions"].clone()).collect() };
    let before = list(&["list", "--json"]);
    assert_eq!(partitions(&before), [json!(1), json!(null), json!(null), json!(null), json!(null)]);
    assert_eq!((&before[0]["end_offsets"], &before[0]["behind"]), (&json!({"0": 2}), &json!(2)));
    assert_eq!(partitions(&list(&["create", "--json"])), vec![json!(1); 5]);
    assert_eq!(list(&["list", "--json"])[0]["end_offsets"], json!({"0": 2}), "what was there stays");
    assert!(place.done(&["run", "--until-caught-up"]).status.success());
    assert_eq!(list(&["list", "--json"])[0]["behind"], 0);
    let refused = place.done(&["topics", "create", "--partitions", "3"]);
    assert_eq!(refused.status.code(), Some(2), "files have one partition");
}

#[test]
fn a_doctor_finds_what_is_broken_and_how_to_mend_it() {
    let place = Place::new("interval = \"1h\"");
    let look = || {
        let output = place.done(&["doctor", "--json"]);
        (output.status.code(), lines(&output.stdout))
    };
    let (code, findings) = look();
    assert_eq!(code, Some(0), "{findings:#?}");
    assert!(findings.iter().all(|finding| finding["verdict"] != "missing"), "{findings:#?}");
    let names: Vec<&str> = findings.iter().filter_map(|finding| finding["what"].as_str()).collect();
    for part in
        ["configuration", "cores", "memory", "ONNX Runtime", "model hashing-64", "topics in", "snapshots in"]
    {
        assert!(names.iter().any(|name| name.starts_with(part)), "{part} in {names:?}");
    }
    assert!(
        !place
            .folder
            .path()
            .join("topics")
            .read_dir()
            .unwrap()
            .any(|entry| { entry.unwrap().file_name().to_string_lossy().contains("doctor") })
    );

    // A store that is no folder, a model that is nowhere, an address that is taken.
    std::fs::remove_dir_all(place.store()).ok();
    std::fs::write(place.store(), "in the way").unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = std::fs::read_to_string(place.config()).unwrap().replace("hashing-64", "no-such-model");
    let http = format!("[http]\nlisten = \"{}\"\n", taken.local_addr().unwrap());
    std::fs::write(place.config(), format!("{config}\n{http}")).unwrap();
    let (code, findings) = look();
    assert_eq!(code, Some(1));
    let of = |part: &str| {
        findings.iter().find(|finding| finding["what"].as_str().unwrap().starts_with(part)).unwrap()
    };
    for (part, verdict) in [
        ("model no-such-model", "missing"),
        ("snapshots in", "missing"),
        ("address", "warning"),
        ("topics in", "ok"),
    ] {
        assert_eq!(of(part)["verdict"], verdict, "{:#?}", of(part));
        assert_eq!(
            of(part)["mend"].as_str().is_some_and(|mend| !mend.is_empty()),
            verdict != "ok",
            "{:#?}",
            of(part)
        );
    }
    // A configuration that is wrong is told key by key, and the machine is looked at all the same.
    std::fs::write(place.config(), "[pipeline]\nshards = 0\nworker = 2\n").unwrap();
    let (code, findings) = look();
    assert_eq!(code, Some(1));
    let told = format!("{findings:?}");
    assert!(
        told.contains("pipeline.shards") && told.contains("pipeline.worker") && told.contains("cores"),
        "{told}"
    );
    let check = place.done(&["check", "--json"]);
    assert_eq!(check.status.code(), Some(2));
    let problems = &lines(&check.stdout)[0]["problems"];
    assert_eq!((&problems[0]["key"], problems.as_array().unwrap().len()), (&json!("pipeline.shards"), 2));
}

#[test]
fn a_whole_query_is_asked() {
    let place = Place::new("interval = \"1h\"");
    place.append("documents", &json!({"id": "a", "text": "refund", "stars": 1}));
    place.append("documents", &json!({"id": "b", "text": "refund", "stars": 4}));
    let file = place.folder.path().join("query.json");
    let query = json!({
        "id": "passed over", "query": {"list": {}}, "filter": {"must": {"key": "stars", "range": {"gte": 3}}},
    });
    std::fs::write(&file, query.to_string()).unwrap();
    let output = place.done(&["query", "--json", "--query", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let answer = &lines(&output.stdout)[0];
    assert_eq!(
        (&answer["points"][0]["id"], answer["points"].as_array().map(Vec::len)),
        (&json!("b"), Some(1))
    );
    // From standard input.
    let mut child = place.command(&["query", "--json", "--query", "-"]);
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"{\"count\": true}").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(lines(&output.stdout)[0]["count"], 2);
    // What is wrong with a query is told by whoever reads queries, and what is none at all before.
    std::fs::write(&file, "{\"limits\": 3}").unwrap();
    let output = place.done(&["query", "--query", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("unknown_field: "), "{}", text(&output.stderr));
    for (content, part) in [("[1]", "is [1] and no query"), ("{", "is not JSON: ")] {
        std::fs::write(&file, content).unwrap();
        let output = place.done(&["query", "--query", file.to_str().unwrap()]);
        assert_eq!((output.status.code(), text(&output.stderr).contains(part)), (Some(2), true), "{content}");
    }
    for arguments in
        [&["query"][..], &["query", "--query", "x", "refund"], &["query", "--query", "nowhere.json"]]
    {
        assert_eq!(place.done(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn models_are_listed_for_programs() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_freshet")).args(["models", "list", "--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let list: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let of = |name: &str| list.iter().find(|model| model["name"] == name).unwrap_or_else(|| panic!("{name}"));
    let known = of("all-MiniLM-L6-v2");
    assert_eq!(
        (&known["kind"], &known["dim"], &known["license"]),
        (&json!("dense"), &json!(384), &json!("Apache-2.0"))
    );
    assert_eq!((&of("bm25")["kind"], &of("bm25")["bytes_here"]), (&json!("sparse"), &json!(0)));
    // The same models as in the table.
    let table = Command::new(env!("CARGO_BIN_EXE_freshet")).args(["models", "list"]).output().unwrap();
    for model in &list {
        assert!(text(&table.stdout).contains(model["name"].as_str().unwrap()), "{model}");
        assert!(model["tokens_max"].is_u64() || model["name"] == "bm25", "{model}");
    }
}

#[test]
fn completions_know_all_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let output =
            Command::new(env!("CARGO_BIN_EXE_freshet")).args(["completions", shell]).output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        for command in ["run", "load", "topics", "doctor", "snapshots"] {
            assert!(text(&output.stdout).contains(command), "{command} for {shell}");
        }
    }
}

#[test]
fn answers_are_shown_as_they_come() {
    let place = Place::new("interval = \"1h\"");
    place.append("documents", &json!({"id": "a", "text": "refund"}));
    let ask = |id: &str| {
        place
            .append("queries", &json!({"id": id, "text": "refund", "plan": "bm25", "consistency": "strong"}));
        assert!(place.done(&["run", "--until-caught-up"]).status.success());
    };
    ask("q1");
    let mut tail = place
        .command(&["tail", "--follow", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut answers = BufReader::new(tail.stdout.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<Value>(&answers.next().unwrap().unwrap()).unwrap()["id"].clone();
    assert_eq!(next(), "q1");
    ask("q2");
    assert_eq!(next(), "q2");
    tail.kill().unwrap();
    tail.wait().unwrap();
}

#[test]
fn topics_of_kafka_are_created_filled_and_listed() {
    let Ok(servers) = std::env::var("KAFKA_BOOTSTRAP_SERVERS") else {
        assert!(std::env::var_os("CI").is_none(), "KAFKA_BOOTSTRAP_SERVERS is not set");
        eprintln!("skipped: KAFKA_BOOTSTRAP_SERVERS is not set");
        return;
    };
    let place = Place::new("interval = \"1h\"");
    let config = std::fs::read_to_string(place.config()).unwrap();
    let (before, rest) = config.split_once("[connector]").unwrap();
    let after = &rest[rest.find('[').unwrap()..];
    let name = format!("commands-{}", std::process::id());
    let kafka = format!(
        "{}[connector]\nkind = \"kafka\"\nbootstrap_servers = \"{servers}\"\n[topics]\ndocuments = \"{name}.d\"\n\
         queries = \"{name}.q\"\nanswers = \"{name}.a\"\n{after}",
        before.replace("name = \"test\"", &format!("name = \"{name}\""))
    );
    std::fs::write(place.config(), kafka).unwrap();
    let done = |arguments: &[&str], code: i32| {
        let output = place.done(arguments);
        assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
        (lines(&output.stdout), text(&output.stderr))
    };
    let (missing, _) = done(&["topics", "list", "--json"], 0);
    assert!(missing.iter().all(|topic| topic["partitions"].is_null()), "{missing:?}");
    let (findings, _) = done(&["doctor", "--json"], 1);
    let topics =
        findings.iter().find(|finding| finding["what"].as_str().unwrap().starts_with("Kafka at ")).unwrap();
    assert!(topics["mend"].as_str().unwrap().contains("freshet topics create"), "{topics}");
    done(&["topics", "create", "--partitions", "3", "--json"], 0);
    let file = place.folder.path().join("many.jsonl");
    let rows: String =
        (0..50).map(|n| format!("{}\n", json!({"id": format!("d{n}"), "text": "refund"}))).collect();
    std::fs::write(&file, rows).unwrap();
    let (told, _) = done(&["load", "--json", file.to_str().unwrap()], 0);
    assert_eq!(told[0]["written"], 50);
    let (listed, _) = done(&["topics", "list", "--json"], 0);
    assert_eq!((&listed[0]["partitions"], &listed[0]["behind"]), (&json!(3), &json!(50)), "{listed:?}");
    let ends = listed[0]["end_offsets"].as_object().unwrap();
    assert!(ends.values().all(|end| end.as_i64() > Some(0)), "keys are spread: {ends:?}");
}

#[test]
fn a_doctor_asks_the_schema_registry() {
    let registry = freshet_tests::registry::Registry::start(&[(7, "\"string\"")]);
    let place = Place::new("interval = \"1h\"");
    let config = std::fs::read_to_string(place.config()).unwrap();
    let section = format!(
        "[documents]\nformat = \"avro\"\nschema_registry = {{ url = \"http://{}\", user = \"who\", password = \"hush\" }}\n",
        registry.address()
    );
    std::fs::write(place.config(), config.replace("[documents]\n", &section)).unwrap();
    let look = || {
        let output = place.done(&["doctor", "--json"]);
        let all = text(&output.stdout) + &text(&output.stderr);
        assert!(!all.contains("hush"), "{all}");
        let finding = lines(&output.stdout)
            .into_iter()
            .find(|finding| finding["what"].as_str().unwrap().starts_with("schema registry at 127.0.0.1:"));
        finding.unwrap_or_else(|| panic!("{all}"))
    };
    let well = look();
    assert_eq!((&well["verdict"], &well["found"]), (&json!("ok"), &json!("answers, 1 subject(s)")));
    registry.refuse("401 Unauthorized");
    let refused = look();
    assert_eq!(refused["verdict"], "missing");
    assert!(refused["found"].as_str().unwrap().contains("documents.schema_registry.user"), "{refused}");
}

#[test]
fn rows_go_to_the_topic_that_is_named() {
    let place = Place::new("interval = \"1h\"");
    let config = std::fs::read_to_string(place.config()).unwrap();
    std::fs::write(
        place.config(),
        format!("{config}\n[topics]\ndocuments = [\"tickets\", \"news\"]\nqueries = \"queries\"\nanswers = \"answers\"\n"),
    )
    .unwrap();
    let file = place.folder.path().join("rows.jsonl");
    std::fs::write(&file, format!("{}\n", json!({"id": "a", "text": "berth of the ferry"}))).unwrap();
    let file = file.to_str().unwrap();
    let unnamed = place.done(&["load", file]);
    let told = text(&unnamed.stderr);
    assert_eq!(unnamed.status.code(), Some(2), "{told}");
    assert!(told.contains("tickets") && told.contains("news"), "{told}");
    let done = place.done(&["load", "--topic", "news", file]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    let found = place.done(&["query", "--json", "ferry"]);
    assert_eq!(found.status.code(), Some(0), "{}", text(&found.stderr));
    assert!(text(&found.stdout).contains("\"id\":\"news/a\""), "{}", text(&found.stdout));
}

#[test]
fn connections_are_private_where_there_is_a_certificate() {
    let place = Place::new("interval = \"1h\"");
    place.append("documents", &json!({"id": "a", "text": "refund"}));
    let folder = place.folder.path();
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ])
        .args([
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
            "-keyout",
            "server.key",
            "-out",
            "server.pem",
        ])
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", text(&made.stderr));
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = std::fs::read_to_string(place.config()).unwrap();
    let http = |key: &str| {
        let files = format!("certificate = \"{0}/server.pem\", key = \"{0}/{key}\"", folder.display());
        std::fs::write(
            place.config(),
            format!("{config}\n[http]\nlisten = \"127.0.0.1:{port}\"\ntls = {{ {files} }}\n"),
        )
        .unwrap();
    };
    for (key, part) in [("server.pem", "http.tls.key"), ("none.key", "none.key")] {
        http(key);
        let refused = place.done(&["run", "--until-caught-up"]);
        let told = text(&refused.stderr);
        assert!(refused.status.code() == Some(1) && told.contains(part), "{told}");
    }
    http("server.key");
    let run = crate::place::Run::start(&place, "warn");
    let ask = |scheme: &str| {
        let address = format!("{scheme}://localhost:{port}/api/query");
        let options = [
            "--silent",
            "--show-error",
            "--fail",
            "--retry",
            "50",
            "--retry-delay",
            "1",
            "--retry-all-errors",
        ];
        let tries = if scheme == "https" { &options[..] } else { &options[..3] };
        let output = Command::new("curl")
            .args(tries)
            .arg("--cacert")
            .arg(folder.join("server.pem"))
            .args(["--data", r#"{"text": "refund", "plan": "bm25", "consistency": "strong"}"#, &address])
            .output()
            .unwrap();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    };
    let (answered, out, told) = ask("https");
    assert!(answered && out.contains("\"id\":\"a\""), "{out} {told}");
    assert!(!ask("http").0, "nothing is said in the open");
    run.finish();
}
