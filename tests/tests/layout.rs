//! Rules of the source that a compiler does not check.

use std::path::{Path, PathBuf};

/// Most lines of a file, and of a function that is no test.
const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 90;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Rust files below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// All sources, with their text; paths from the root.
fn all() -> Vec<(String, String)> {
    let root = root();
    let folders = ["schemas", "config", "operators/src", "operators/bench", "pipelines", "tests"];
    let files = folders.iter().flat_map(|folder| sources(&root.join(folder)));
    let read = |path: PathBuf| {
        let name = path.strip_prefix(&root).unwrap().display().to_string();
        (name, std::fs::read_to_string(path).unwrap())
    };
    files.map(read).collect()
}

fn is_test(name: &str) -> bool {
    name.contains("/tests")
        || name.starts_with("tests/")
        || name.contains("testing")
        || name.contains("contract")
        || name.contains("/bench/")
}

/// Name and length of the functions in a text; a function ends with a brace that stands where it began.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let bare = line.trim_start();
        let words: Vec<&str> = bare.split(' ').take(6).collect();
        let Some(at) = words.iter().position(|word| *word == "fn") else { continue };
        let qualifiers = ["pub", "const", "async", "unsafe", "extern", "\"C\""];
        let qualified = |word: &&str| qualifiers.contains(word) || word.starts_with("pub(");
        // Names that a macro makes are of functions as long as its calls.
        let made = words.get(at + 1).is_some_and(|name| name.starts_with('$'));
        if made || !words[..at].iter().all(qualified) || bare.ends_with(';') {
            continue;
        }
        let end = format!("{}}}", &line[..line.len() - bare.len()]);
        let length = lines[number..].iter().position(|line| *line == end).map_or(1, |length| length + 1);
        let name = words.get(at + 1).map_or("", |word| word.split(['(', '<']).next().unwrap_or_default());
        found.push((name.to_owned(), length));
    }
    found
}

#[test]
fn files_and_functions_can_be_read() {
    let (mut files, mut count) = (0, 0);
    for (name, text) in all() {
        let lines = text.lines().count();
        assert!(
            lines <= FILE_LINES_MAX,
            "{name} has {lines} lines, at most {FILE_LINES_MAX} are read in one go"
        );
        files += 1;
        if is_test(&name) {
            continue;
        }
        let tests = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
        for (function, lines) in functions(&text[..tests]) {
            assert!(
                lines <= FUNCTION_LINES_MAX,
                "{name}: {function} has {lines} lines, at most {FUNCTION_LINES_MAX}"
            );
            count += 1;
        }
    }
    assert!(files > 200 && count > 1000, "{files} files, {count} functions");
}

#[test]
fn what_decides_knows_nothing_of_timely() {
    let plain = [
        "operators/src/index/",
        "operators/src/fuse/",
        "operators/src/formula/",
        "operators/src/text/",
        "schemas/",
        "config/",
    ];
    let files = ["logic.rs", "compile.rs", "ledger.rs", "execution.rs", "offsets.rs", "recent.rs"];
    let mut checked = 0;
    for (name, text) in all() {
        let decides = plain.iter().any(|folder| name.starts_with(folder))
            || (name.starts_with("operators/src/")
                && files.iter().any(|file| name.ends_with(&format!("/{file}"))));
        if decides {
            assert!(!text.contains("use timely") && !text.contains("timely::"), "{name} imports timely");
            checked += 1;
        }
    }
    assert!(checked > 50, "{checked} files");
}

#[test]
fn nothing_sleeps_until_something_has_happened() {
    // Brokers tell nobody when a topic is known to all of them, nor does a system when it has connections again: both are
    // asked again. Tests that kill at random moments wait for nothing.
    let allowed = ["operators/src/connect/kafka/admin.rs", "pipelines/src/http/serve.rs"];
    for (name, text) in all() {
        let sleeps = text.contains("thread::sleep(") || text.contains("time::sleep(");
        assert!(!sleeps || is_test(&name) || allowed.contains(&name.as_str()), "{name} sleeps");
    }
}

/// Folders of the operators, with the names and texts of the files in them, at any depth.
fn operators() -> Vec<(String, Vec<(String, String)>)> {
    let folder = root().join("operators/src");
    let entries = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let files = |path: PathBuf| {
        let read = |file: PathBuf| {
            let name = file.strip_prefix(&path).unwrap().display().to_string();
            (name, std::fs::read_to_string(file).unwrap())
        };
        (
            path.file_name().unwrap().to_string_lossy().into_owned(),
            sources(&path).into_iter().map(read).collect(),
        )
    };
    let mut all: Vec<_> = entries.filter(|path| path.is_dir()).map(files).collect();
    all.sort();
    all
}

#[test]
fn folders_of_operators_are_made_alike() {
    for (operator, files) in operators() {
        assert!(files.iter().any(|(name, _)| name == "mod.rs"), "{operator} has a mod.rs");
        // Each is tested on its own, beside what it tests.
        assert!(
            files.iter().any(|(_, text)| text.contains("#[test]")),
            "{operator} has no tests in its folder"
        );
        for (name, text) in &files {
            let file = name.rsplit('/').next().unwrap();
            let counts =
                ["Opts::new(", "IntCounter::new(", "IntGauge::new("].iter().any(|new| text.contains(new));
            assert!(!counts || file == "metrics.rs", "{operator}/{name}: what is counted is in metrics.rs");
            for vague in ["util.rs", "utils.rs", "helper.rs", "helpers.rs", "common.rs", "misc.rs"] {
                assert_ne!(file, vague, "{operator}/{name}: a file is named by what it holds");
            }
            assert!(
                text.starts_with("//! ") || file == "tests.rs" || is_test(name),
                "{operator}/{name} says what it holds"
            );
        }
    }
}

#[test]
fn every_lint_has_its_reason() {
    let text = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let (_, lints) = text.split_once("[workspace.lints.rust]").unwrap();
    let lints = lints.split("[profile").next().unwrap().lines();
    let mut checked = 0;
    for line in lints.filter(|line| line.contains(" = ")) {
        assert!(line.contains(" # "), "Cargo.toml: {line}: why?");
        checked += 1;
    }
    assert!(checked >= 10, "{checked} lints");
}

#[test]
fn every_operator_is_on_the_map() {
    let map = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let mut operators = 0;
    for entry in std::fs::read_dir(root().join("operators/src")).unwrap() {
        let path = entry.unwrap().path();
        if !path.is_dir() {
            continue;
        }
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let module =
            std::fs::read_to_string(path.join("mod.rs")).unwrap_or_else(|_| panic!("{name} has a mod.rs"));
        assert!(module.starts_with("//! "), "{name}/mod.rs begins with what it is for");
        assert!(map.contains(&format!("`{name}`")), "ARCHITECTURE.md names `{name}`");
        operators += 1;
    }
    assert!(operators >= 20, "{operators}");
}
