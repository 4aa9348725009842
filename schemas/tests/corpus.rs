//! What the fuzzers in `fuzz/` have found worth keeping, once more through the functions that they call.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]

#[path = "../../fuzz/src/lib.rs"]
#[allow(unreachable_pub, reason = "a library of its own, for the fuzzers")]
mod fuzz;

use std::path::Path;

#[test]
fn nothing_in_the_corpus_makes_trouble() {
    for (name, target) in fuzz::TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(name);
        let mut paths: Vec<_> =
            std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        assert!(paths.len() >= 10, "{} inputs in {}", paths.len(), folder.display());
        for path in paths {
            // A panic names the input.
            eprintln!("{}", path.display());
            target(&std::fs::read(&path).unwrap());
        }
    }
}
