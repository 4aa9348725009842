//! A store that refuses: what is there stays, and the next snapshot is written when it takes files again.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use freshet_config::StoreOptions;

use object_store::memory::InMemory;

use super::failing::{Failing, Luck};
use super::*;
use crate::index::segment::SegmentSpec;
use crate::index::shard::{Builder, HeadLimit, Job, Shard};
use crate::index::{Chunk, DocumentPut, ShardChange, Time};

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
        digest: vec![0; 32],
        chunks: vec![Chunk { start: 0, text: format!("text of {id}") }],
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

/// What the tests below write with.
struct Bench {
    spec: Arc<SegmentSpec>,
    identity: Identity,
    shard: Shard,
}

impl Bench {
    fn new() -> Self {
        let spec = Arc::new(SegmentSpec::default());
        let identity = Identity::from([("pipeline.shards".to_owned(), "1".to_owned())]);
        let limit = HeadLimit { versions: 4, ..HeadLimit::default() };
        let shard = Shard::new(Arc::clone(&spec), limit, Arc::new(Here)).expect("a shard");
        Self { spec, identity, shard }
    }

    fn writer(&self, store: &Arc<Store>, keep: usize) -> Writer {
        let claim = Claim::take(store, "test").expect("a claim");
        let retention = Retention { keep, keep_for: Duration::ZERO };
        let (spec, identity) = (Arc::clone(&self.spec), self.identity.clone());
        Writer::new(Arc::clone(store), spec, identity, retention, claim, Vec::new())
    }

    /// The newest snapshot, and whether every file that any manifest names is what it says.
    fn newest(&self, store: &Store) -> Option<Manifest> {
        for (id, manifest) in manifests(store).expect("manifests") {
            if manifest.is_some() {
                inspect(store, &id).unwrap_or_else(|error| panic!("{id} is not whole: {error}"));
            }
        }
        let loaded = newest(store, &self.spec, &self.identity, |_| {}).expect("the store answers");
        loaded.map(|loaded| loaded.manifest)
    }
}

#[test]
fn whatever_fails_the_last_snapshot_stays() {
    let mut failures = 0;
    for seed in 0..60 {
        let (memory, luck) = (Arc::new(InMemory::new()), Arc::new(Luck::new(seed)));
        let whole = Store::over(Arc::<InMemory>::clone(&memory), "memory://").expect("a store");
        let failing = Failing { inner: memory, luck: Arc::clone(&luck) };
        let failing = Arc::new(Store::over(Arc::new(failing), "memory://").expect("a store"));
        let mut bench = Bench::new();
        let mut writer = bench.writer(&failing, 2);
        let mut last: Option<Manifest> = None;
        for step in 1..=15u64 {
            let tick = 1_000 * step;
            bench
                .shard
                .apply(tick, vec![put(&format!("d{}", step % 7)), put(&format!("e{step}"))])
                .expect("applied");
            luck.fail_one_in(10);
            let written = writer.write(cut(&mut bench.shard, tick));
            luck.fail_one_in(0);
            let there = bench.newest(&whole);
            match written {
                Ok(manifest) => assert_eq!(there.as_ref(), Some(&manifest), "seed {seed}, step {step}"),
                // It may be there all the same: only the reply was lost.
                Err(error) => assert!(
                    there == last || there.as_ref().is_some_and(|there| there.tick == tick),
                    "seed {seed}, step {step}: {error}"
                ),
            }
            last = there;
        }
        failures += luck.failed();
        // The store works again: the next one is written, and nothing is left that no manifest names.
        bench.shard.apply(20_000, vec![put("last")]).expect("applied");
        let written = writer.write(cut(&mut bench.shard, 20_000)).expect("written");
        assert_eq!(bench.newest(&whole), Some(written), "seed {seed}");
        let kept = manifests(&whole).expect("manifests");
        let named: std::collections::BTreeSet<String> = (kept.iter())
            .flat_map(|(id, manifest)| {
                let manifest = manifest.as_ref().unwrap_or_else(|| panic!("seed {seed}: {id} is left"));
                manifest.files().map(|file| file.path.clone()).chain([Manifest::path(id)]).collect::<Vec<_>>()
            })
            .collect();
        let mut there = Vec::new();
        for folder in ["segments", "snapshots"] {
            for below in whole.folders(folder).expect("folders") {
                there.extend(whole.files(&format!("{folder}/{below}")).expect("files"));
            }
        }
        assert_eq!(there.into_iter().collect::<std::collections::BTreeSet<_>>(), named, "seed {seed}");
    }
    assert!(failures > 300, "calls failed: {failures}");
}

#[test]
fn of_two_runs_the_later_one_owns_the_store() {
    let store = Arc::new(Store::over(Arc::new(InMemory::new()), "memory://").expect("a store"));
    let mut bench = Bench::new();
    let mut early = bench.writer(&store, 3);
    bench.shard.apply(1_000, vec![put("a")]).expect("applied");
    let first = early.write(cut(&mut bench.shard, 1_000)).expect("written");
    let mut late = bench.writer(&store, 3);
    bench.shard.apply(2_000, vec![put("b")]).expect("applied");
    let at_once = cut(&mut bench.shard, 2_000);
    let told = early.write(cut(&mut bench.shard, 2_000)).map(drop).expect_err("refused").to_string();
    for part in ["memory:// belongs to pipeline \"test\"", "stop one of the two"] {
        assert!(told.contains(part), "{part} in {told}");
    }
    assert_eq!(bench.newest(&store), Some(first), "nothing came of it");
    let second = late.write(at_once).expect("written");
    assert_eq!(bench.newest(&store), Some(second.clone()));
    // One of the same tick, by somebody who does not look whose the store is.
    assert_eq!(store.put_new(&Manifest::path(&second.id), b"{}".to_vec()).expect("an answer"), None);
    let told = Claim::take(&store, "other").map(drop).expect_err("refused").to_string();
    assert!(told.contains("this pipeline is \"other\"") && told.contains("owners/"), "{told}");
}

/// Mounts on a folder, which only root may; ends with its value.
struct Mount<'a>(&'a Path);

impl<'a> Mount<'a> {
    fn tmpfs(folder: &'a Path, options: &str) -> Option<Self> {
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "none"])
            .arg(folder)
            .stderr(std::process::Stdio::null())
            .status();
        mounted.is_ok_and(|status| status.success()).then_some(Self(folder))
    }

    fn remount(&self, options: &str) {
        let status = std::process::Command::new("mount").args(["-o", options]).arg(self.0).status();
        assert!(status.expect("mount runs").success(), "remounted {options}");
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(self.0).status();
    }
}

#[test]
fn a_full_and_a_read_only_disk_say_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(disk) = Mount::tmpfs(folder.path(), "size=256k") else {
        eprintln!("SKIPPED a_full_and_a_read_only_disk_say_what_to_do: this user may not mount");
        return;
    };
    let url = format!("file://{}", folder.path().display());
    let store = Arc::new(Store::open(&url, &StoreOptions::default()).expect("a store"));
    let mut bench = Bench::new();
    let mut writer = bench.writer(&store, 1);
    bench.shard.apply(1_000, vec![put("a")]).expect("applied");
    let mut last = writer.write(cut(&mut bench.shard, 1_000)).expect("written");
    let filler = folder.path().join("filler");
    let mut tick = 1_000;
    for (name, advice) in [("full", "free space there"), ("read-only", "make the folder writable")] {
        for _ in 0..3 {
            tick += 1_000;
            bench.shard.apply(tick, vec![put(&format!("d{tick}"))]).expect("applied");
            if name == "full" {
                // As much as there is.
                let _ = fs::write(&filler, vec![7; 1 << 20]);
            } else {
                disk.remount("remount,ro");
            }
            let told = writer.write(cut(&mut bench.shard, tick)).map(drop).expect_err("refused").to_string();
            assert!(told.contains(advice), "{name}: {told}");
            assert_eq!(bench.newest(&store).as_ref(), Some(&last), "{name}");
            if name == "full" {
                fs::remove_file(&filler).expect("removed");
            } else {
                disk.remount("remount,rw");
            }
            last = writer.write(cut(&mut bench.shard, tick)).expect("written once there is room");
            assert_eq!(bench.newest(&store).as_ref(), Some(&last), "{name}");
        }
    }
}
