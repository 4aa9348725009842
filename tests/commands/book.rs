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

/// Pages with commands: README, and the book without its generated references.
fn pages() -> Vec<(std::path::PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut paths = vec![root.join("README.md"), root.join("CONTRIBUTING.md")];
    for folder in ["docs", "docs/how-to"] {
        let entries = std::fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path());
        paths.extend(entries.filter(|path| path.extension().is_some_and(|ending| ending == "md")));
    }
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect()
}

/// The commands of a page that are `freshet`'s: lines of its blocks, and what stands in the text as code.
fn commands(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (number, part) in page.split("```").enumerate() {
        if number % 2 == 1 {
            let lines = part.strip_prefix("sh\n").into_iter().flat_map(str::lines);
            let bare = lines.map(|line| line.split(" # ").next().unwrap_or_default().trim());
            let own = |line: &str| {
                let (_, command) = line.split_once("freshet ")?;
                let before = &line[..line.len() - command.len()];
                ["freshet ", "target/release/freshet "].contains(&before).then(|| command.to_owned())
            };
            found.extend(bare.filter_map(own));
        } else {
            let code = part.split('`').skip(1).step_by(2);
            found.extend(code.filter_map(|code| code.strip_prefix("freshet ")).map(str::to_owned));
        }
    }
    found
}

#[test]
fn commands_of_the_book_are_commands() {
    let mut checked = 0;
    for (path, page) in pages() {
        for command in commands(&page) {
            let words: Vec<&str> = command.split_whitespace().collect();
            // What follows is an argument: a text, a file, a name.
            let is_name = |word: &&&str| word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
            let names: Vec<&str> =
                words.iter().take_while(is_name).filter(|word| !word.starts_with('-')).copied().collect();
            // `list|verify` are two; the help of the longest row of names that is known.
            let mut help = None;
            for count in (1..=names.len()).rev() {
                let arguments = [&names[..count], &["--help"]].concat();
                let output = Command::new(env!("CARGO_BIN_EXE_freshet")).args(arguments).output().unwrap();
                if output.status.success() {
                    help = Some(text(&output.stdout));
                    break;
                }
            }
            let help = help.unwrap_or_else(|| panic!("{}: freshet {command} is no command", path.display()));
            for option in words.iter().filter_map(|word| word.strip_prefix("--")) {
                let name = option.split(['=', ',', '`', ')', ']']).next().unwrap_or_default();
                assert!(
                    help.contains(&format!("--{name}")),
                    "{}: freshet {command}: no --{name}",
                    path.display()
                );
            }
            checked += 1;
        }
    }
    assert!(checked > 40, "{checked} commands");
}
