//! `freshet snapshots`

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use comfy_table::{Table, presets};
use freshet_operators::snapshot::{self, Manifest, Request, SnapshotError, Store, answers};
use freshet_schemas::{DocumentTopics, Offset, Partition};

use super::{ConfigArgs, Failure};

/// Time between two looks at the store while a snapshot is waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// What to do with snapshots.
#[derive(Subcommand)]
pub(crate) enum SnapshotsCommand {
    /// List the snapshots, oldest first.
    #[command(after_help = "Example: freshet snapshots list --config config/files.toml")]
    List(Which),
    /// Read every file of a snapshot (the newest unless given) and compare it with its checksum.
    #[command(after_help = "Example: freshet snapshots verify --config config/files.toml")]
    Verify(One),
    /// Print SQL for DuckDB: a view `documents` over a snapshot (the newest unless given), and a view `answers` over all
    /// answers that are kept.
    #[command(
        after_help = "Example: freshet snapshots sql --config config/files.toml | duckdb -init /dev/stdin"
    )]
    Sql(One),
    /// Have the running pipeline make a snapshot now, and one of each collection, wherever it runs, and wait until they are
    /// whole.
    #[command(after_help = "Example: freshet snapshots cut --config config/files.toml --wait 60s")]
    Cut {
        #[command(flatten)]
        config: ConfigArgs,
        /// How long to wait, such as 60s or 5m.
        #[arg(long, default_value = "60s", value_parser = humantime::parse_duration, value_name = "DURATION")]
        wait: Duration,
    },
    /// Show which documents came, changed and left between two snapshots.
    #[command(after_help = "Example: freshet snapshots diff 20261121T090000.000Z 20261121T100000.000Z")]
    Diff {
        /// The earlier one.
        from: String,
        /// The later one.
        to: String,
        #[command(flatten)]
        config: ConfigArgs,
    },
}

/// Whose snapshots.
#[derive(Args)]
pub(crate) struct Which {
    #[command(flatten)]
    config: ConfigArgs,
    /// Print the manifests as JSON, one a line.
    #[arg(long)]
    json: bool,
}

/// Which snapshot.
#[derive(Args)]
pub(crate) struct One {
    /// Name of the snapshot.
    id: Option<String>,
    #[command(flatten)]
    config: ConfigArgs,
}

fn failed(error: &SnapshotError) -> Failure {
    Failure::Run(error.to_string())
}

fn store(config: &ConfigArgs) -> Result<Store, Failure> {
    let snapshots = config.load()?.snapshots;
    let missing = || Failure::Usage(format!("{} has no [snapshots]", config.config.display()));
    let snapshots = snapshots.ok_or_else(missing)?;
    Store::open(&snapshots.store, &snapshots.options).map_err(|error| failed(&error))
}

/// The store of the pipeline, and those of its collections behind their names.
fn stores(config: &ConfigArgs) -> Result<Vec<(String, Store)>, Failure> {
    let own = store(config)?;
    let config = config.load()?;
    let names = if config.collections.enabled { own.folders("collections") } else { Ok(Vec::new()) };
    let mut stores = vec![(String::new(), own)];
    for name in names.map_err(|error| failed(&error))? {
        let Some(snapshots) = &config.snapshots else { break };
        let url = freshet::collections::store_of(&snapshots.store, &name);
        let store = Store::open(&url, &snapshots.options).map_err(|error| failed(&error))?;
        stores.push((name, store));
    }
    Ok(stores)
}

/// Manifests of the whole snapshots, oldest first, and names of the others with the reason.
fn all(store: &Store) -> Result<(Vec<Manifest>, Vec<(String, SnapshotError)>), Failure> {
    let (mut whole, mut others) = (Vec::new(), Vec::new());
    for id in snapshot::list(store).map_err(|error| failed(&error))? {
        match snapshot::manifest(store, &id) {
            Ok(manifest) => whole.push(manifest),
            Err(error) => others.push((id, error)),
        }
    }
    Ok((whole, others))
}

/// A snapshot, or the newest.
pub(super) fn one(store: &Store, id: Option<&String>) -> Result<Manifest, Failure> {
    match id {
        Some(id) => snapshot::manifest(store, id).map_err(|error| failed(&error)),
        None => {
            let (mut whole, mut others) = all(store)?;
            whole.pop().ok_or_else(|| match others.pop() {
                Some((_, error)) => Failure::Run(format!("{} holds no whole snapshot: {error}", store.url())),
                None => Failure::Run(format!("{} holds no snapshot", store.url())),
            })
        }
    }
}

pub(crate) fn snapshots(command: &SnapshotsCommand) -> Result<(), Failure> {
    match command {
        SnapshotsCommand::List(Which { config, json }) => {
            let (whole, others) = all(&store(config)?)?;
            if *json {
                for manifest in &whole {
                    let text = serde_json::to_string(manifest);
                    say!("{}", text.map_err(|error| Failure::Run(error.to_string()))?);
                }
            } else {
                say!("{}", table(&whole));
            }
            for (id, error) in others {
                tell!("{id}: not whole: {error}");
            }
        }
        SnapshotsCommand::Verify(One { id, config }) => {
            let store = store(config)?;
            let manifest = one(&store, id.as_ref())?;
            snapshot::inspect(&store, &manifest.id).map_err(|error| failed(&error))?;
            let files = manifest.files().count() + 1;
            say!("{}: whole, {files} files, {} documents", manifest.id, manifest.documents);
        }
        SnapshotsCommand::Sql(One { id, config }) => {
            let store = store(config)?;
            say!("{}", snapshot::view(store.url(), &one(&store, id.as_ref())?));
            if let Some(view) = answers::view(&store).map_err(|error| failed(&error))? {
                say!("\n{view}");
            }
        }
        SnapshotsCommand::Cut { config, wait } => {
            let stores = stores(config)?;
            for (name, manifest) in cut_all(&stores, *wait)? {
                if !name.is_empty() {
                    say!("collection {name}");
                }
                say!("{}", table(std::slice::from_ref(&manifest)));
                say!("cut at tick {}", manifest.tick);
            }
        }
        SnapshotsCommand::Diff { from, to, config } => diff(&store(config)?, from, to)?,
    }
    Ok(())
}

fn table(manifests: &[Manifest]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(["snapshot", "documents", "segments", "MB", "documents up to (partition: next offset)"]);
    for manifest in manifests {
        let bytes: u64 = manifest.files().map(|file| file.bytes).sum();
        let offsets: Vec<String> =
            manifest.offsets.iter().map(|(of, next)| place(manifest, *of, *next)).collect();
        table.add_row([
            manifest.id.clone(),
            manifest.documents.to_string(),
            manifest.segments.len().to_string(),
            format!("{:.1}", bytes as f64 / 1e6),
            offsets.join(", "),
        ]);
    }
    table
}

/// A partition and its next offset, with the name of the topic where there are several.
fn place(manifest: &Manifest, partition: Partition, next: Offset) -> String {
    let (topic, number) = DocumentTopics::split(partition);
    match manifest.identity.get(&format!("topics.documents[{topic}]")) {
        Some(name) => format!("{name} {number}: {next}"),
        None => format!("{number}: {next}"),
    }
}

fn newest(store: &Store) -> Result<Option<String>, Failure> {
    snapshot::list(store).map(|mut ids| ids.pop()).map_err(|error| failed(&error))
}

/// Puts a request into each store, and waits for the snapshots that answer them; those come by name.
fn cut_all(stores: &[(String, Store)], wait: Duration) -> Result<Vec<(String, Manifest)>, Failure> {
    let until = Instant::now() + wait;
    let asked = stores.iter().map(|(name, store)| {
        let before = newest(store)?;
        let request = Request::put(store).map_err(|error| failed(&error))?;
        Ok((name, store, before, request))
    });
    // All are asked before one is waited for.
    let asked = asked.collect::<Result<Vec<_>, Failure>>()?;
    let cut = asked.into_iter().map(|(name, store, before, request)| {
        Ok((name.clone(), answered(store, before.as_ref(), request, wait, until)?))
    });
    cut.collect()
}

/// Waits for the snapshot that answers a request.
fn answered(
    store: &Store,
    before: Option<&String>,
    request: Request,
    wait: Duration,
    until: Instant,
) -> Result<Manifest, Failure> {
    while request.waits(store).map_err(|error| failed(&error))? {
        if Instant::now() >= until {
            request.take_back(store).map_err(|error| failed(&error))?;
            let waited = humantime::format_duration(wait);
            return Err(Failure::Run(format!(
                "no snapshot came within {waited}: no pipeline seems to run on {}; its log says if one runs and cannot \
                 write",
                store.url()
            )));
        }
        std::thread::park_timeout(LOOK_AGAIN);
    }
    // The pipeline removes a request once the snapshot is whole.
    match newest(store)?.filter(|id| Some(id) > before) {
        Some(id) => snapshot::manifest(store, &id).map_err(|error| failed(&error)),
        None => Err(Failure::Run("the request was removed, and no snapshot came".to_owned())),
    }
}

fn diff(store: &Store, from: &str, to: &str) -> Result<(), Failure> {
    let read = |id: &str| {
        let manifest = snapshot::manifest(store, id)?;
        snapshot::documents(store, &manifest)
    };
    let (before, after) = (read(from).map_err(|e| failed(&e))?, read(to).map_err(|e| failed(&e))?);
    let (mut came, mut changed, mut left) = (0, 0, 0);
    for (id, born) in &after {
        match before.get(id) {
            None => {
                came += 1;
                say!("+ {id}");
            }
            Some(other) if other != born => {
                changed += 1;
                say!("~ {id}");
            }
            Some(_) => {}
        }
    }
    for id in before.keys().filter(|id| !after.contains_key(*id)) {
        left += 1;
        say!("- {id}");
    }
    tell!("{came} came, {changed} changed, {left} left, {} the same", after.len() - came - changed);
    Ok(())
}
