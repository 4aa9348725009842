//! The examples that drive one operator by hand do what they say.

#[path = "../../operators/examples/fuse.rs"]
#[allow(unreachable_pub, reason = "it is a program of its own")]
mod fuse;
#[path = "../../operators/examples/sparse.rs"]
#[allow(unreachable_pub, reason = "it is a program of its own")]
mod sparse;
#[path = "../../operators/examples/upsert.rs"]
#[allow(unreachable_pub, reason = "it is a program of its own")]
mod upsert;

use std::collections::BTreeSet;
use std::path::Path;

use freshet_schemas::Fusion;

#[test]
fn fusion_by_hand() {
    fuse::main();
    let fused = fuse::fused(&Fusion::Rrf { k: 2.0, weights: vec![] });
    let ids: Vec<&str> = fused.iter().map(|(id, _)| id.as_str()).collect();
    // Ranks 1 and 2 in turns: a tie, which the id decides.
    assert_eq!(ids, ["invoices", "refunds", "berths"]);
    assert_eq!(fused[0].1, [Some(1.0 / 3.0), Some(0.5)]);
    assert_eq!(fused[2].1, [Some(0.25), None]);
}

#[test]
fn a_sparse_index_by_hand() {
    sparse::main().unwrap();
    let [head, sealed, others] = sparse::found("refunds").unwrap();
    // Three of its four terms, then one of three, and one of two.
    assert_eq!(head.first(), Some(&1));
    assert_eq!((&sealed, head.len()), (&head, 3));
    let without: Vec<u32> = head.into_iter().filter(|row| *row != 0).collect();
    assert_eq!(others, without);
    assert!(sparse::found("cranes").unwrap().iter().all(Vec::is_empty));
}

#[test]
fn an_upsert_by_hand() {
    upsert::main();
    // The second record repeats the first, and changes nothing.
    assert_eq!(upsert::changes(), [(1, Some((0, 2))), (3, Some((1, 2))), (4, None)]);
}

#[test]
fn every_example_is_run() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../operators/examples");
    let names =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(
        names.collect::<BTreeSet<_>>(),
        ["fuse.rs", "sparse.rs", "upsert.rs"].map(String::from).into()
    );
}
