//! The tutorial, to the letter.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use crate::place::text;

#[test]
fn the_tutorial_works_as_it_is_written() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/tutorial.md");
    let page = std::fs::read_to_string(page).unwrap();
    let starts = page.match_indices("```sh\n").map(|(at, fence)| at + fence.len());
    let blocks: Vec<&str> = starts.map(|at| &page[at..at + page[at..].find("```").unwrap()]).collect();
    assert!(blocks.len() >= 6, "{} blocks", blocks.len());
    // Only the port is another one: the usual one may be taken.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let script = blocks.concat().replace("6333", &port.to_string());
    let folder = tempfile::tempdir().unwrap();
    let binary = Path::new(env!("CARGO_BIN_EXE_freshet")).parent().unwrap();
    let path = std::env::join_paths(
        std::iter::once(binary.to_path_buf())
            .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    let output = Command::new("timeout")
        .args(["300", "bash", "-euo", "pipefail", "-c", &script])
        .current_dir(folder.path())
        .env("PATH", path.unwrap())
        .env("XDG_STATE_HOME", folder.path().join("state"))
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    let (out, told) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{:?}\n{out}\n{told}", output.status);
    for part in [
        "freshet.toml: ok",
        "4 documents written to \"documents\"",
        "reflects exactly",
        "\"id\":\"t1\"",
        "q1: where is my invoice",
    ] {
        assert!(out.contains(part), "{part:?} in {out}\n{told}");
    }
}
