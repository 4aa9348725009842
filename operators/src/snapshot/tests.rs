//! A store that refuses: what is there stays, and the next snapshot is written when it takes files again.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use freshet_config::StoreOptions;

use super::*;
use crate::index::segment::SegmentSpec;
use crate::index::shard::{Builder, HeadLimit, Job, Shard};
use crate::index::{DocumentPut, ShardChange, Time};

struct Here;

impl Builder for Here {
    fn submit(&self, job: Job) {
        job();
    }
}

fn put(id: &str) -> ShardChange {
    ShardChange::Put(Box::new(DocumentPut {
        id: id.to_owned(),
        origin: (0, 1),
        payload: "{}".to_owned(),
        digest: vec![0; 16],
        chunks: vec![format!("text of {id}")],
        fields: Vec::new(),
    }))
}

fn cut(shard: &mut Shard, tick: Time) -> Cut {
    let parts = shard.cut().expect("a cut");
    Cut { tick, offsets: BTreeMap::from([(0, tick as i64)]), shards: BTreeMap::from([(0, parts)]) }
}

/// Puts a file where a folder has been, or is to be: nothing can be written there, whoever tries.
fn block(folder: &Path) {
    let aside = folder.with_extension("aside");
    if folder.exists() {
        fs::rename(folder, aside).expect("moved aside");
    }
    fs::write(folder, "in the way").expect("a file in the way");
}

fn unblock(folder: &Path) {
    fs::remove_file(folder).expect("the file in the way");
    let aside = folder.with_extension("aside");
    if aside.exists() {
        fs::rename(aside, folder).expect("moved back");
    }
}

#[test]
fn a_store_that_refuses_loses_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Arc::new(
        Store::open(&format!("file://{}", folder.path().display()), &StoreOptions::default())
            .expect("a store"),
    );
    let spec = Arc::new(SegmentSpec::default());
    let identity = Identity::from([("pipeline.shards".to_owned(), "1".to_owned())]);
    let retention = Retention { keep: 3, keep_for: Duration::ZERO };
    let mut writer = Writer::new(
        Arc::clone(&store),
        Arc::clone(&spec),
        identity.clone(),
        retention,
        Claim::take(&store, "test").expect("a claim"),
        Vec::new(),
    );
    let mut shard = Shard::new(Arc::clone(&spec), HeadLimit::default(), Arc::new(Here)).expect("a shard");
    let load = |expected: usize| {
        let loaded = newest(&store, &spec, &identity, |skipped| panic!("{}: {}", skipped.id, skipped.error));
        let loaded = loaded.expect("the store answers").expect("a snapshot");
        assert_eq!(loaded.manifest.documents, expected);
        loaded.manifest
    };
    shard.apply(1_000, vec![put("a"), put("b")]).expect("applied");
    writer.write(cut(&mut shard, 1_000)).expect("written");
    load(2);
    for (step, blocked) in ["segments/shard=0", "snapshots"].into_iter().enumerate() {
        let (tick, blocked) = (2_000 + 1_000 * step as Time, folder.path().join(blocked));
        shard.apply(tick, vec![put(&format!("c{step}"))]).expect("applied");
        block(&blocked);
        let refused = writer.write(cut(&mut shard, tick)).map(|manifest| manifest.id).expect_err("refused");
        assert!(
            refused.to_string().contains("check that the store is there, writable and not full"),
            "{refused}"
        );
        unblock(&blocked);
        load(2 + step);
        let written = writer.write(cut(&mut shard, tick)).expect("written once the store takes it");
        assert_eq!(load(3 + step), written);
        inspect(&store, &written.id).expect("whole");
    }
}
