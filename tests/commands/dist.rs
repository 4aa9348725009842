//! The tarball: unpacked in an empty folder, it runs with an empty environment.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::place::text;

#[test]
fn a_tarball_runs_in_an_empty_folder_with_an_empty_environment() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folder = tempfile::tempdir().unwrap();
    let packed = Command::new(root.join("scripts/dist.sh"))
        .args([folder.path(), Path::new(env!("CARGO_BIN_EXE_freshet"))])
        .output()
        .unwrap();
    assert!(packed.status.success(), "{}", text(&packed.stderr));
    let tarball = text(&packed.stdout).trim().to_owned();
    let empty = tempfile::tempdir().unwrap();
    let unpacked =
        Command::new("tar").args(["-xzf", &tarball, "--strip-components=1", "-C"]).arg(empty.path()).status();
    assert!(unpacked.unwrap().success());
    let run = |arguments: &[&str]| {
        let mut command = Command::new("./freshet");
        let output = command.args(arguments).env_clear().current_dir(empty.path()).output().unwrap();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    // Its own libraries, not those of the machine.
    let loaded = Command::new("ldd").arg(empty.path().join("freshet")).output().unwrap();
    let loaded = text(&loaded.stdout);
    let blas = loaded.lines().find(|line| line.contains("libopenblas")).unwrap_or_else(|| panic!("{loaded}"));
    assert!(blas.contains(&empty.path().display().to_string()), "{blas}");

    std::fs::write(
        empty.path().join("some.jsonl"),
        "{\"id\": \"a\", \"title\": \"Refunds\", \"text\": \"Money back within three days\"}\n\
         {\"id\": \"b\", \"title\": \"Berths\", \"text\": \"Where ships lie in the harbour\"}\n",
    )
    .unwrap();
    let (code, _, told) = run(&["load", "--config", "config/files.toml", "some.jsonl"]);
    assert_eq!(code, Some(0), "{told}");
    let (code, out, told) =
        run(&["query", "--config", "config/files.toml", "--json", "how do I get my money back"]);
    assert_eq!(code, Some(0), "{told}");
    let answer: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(answer["points"][0]["id"], json!("a"), "{answer}");
    let (code, out, told) = run(&["doctor", "--config", "config/files.toml"]);
    assert_eq!(code, Some(0), "{out} {told}");
}
