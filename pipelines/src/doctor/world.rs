//! Topics, the store of snapshots, and the address of the HTTP server.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;

use freshet_config::{Config, Connector, Http, Registry, Snapshots};
use freshet_operators::connect::{self, ConnectError};
use freshet_operators::registry;
use freshet_operators::snapshot::Store;

use super::{Finding, size};
use freshet_operators::causes::with_causes;

/// Free bytes below which a disk is soon full.
const DISK_MIN: u64 = 2 << 30;

pub(super) fn examine(config: &Config, note: &mut impl FnMut(Finding)) {
    topics(config, note);
    if let Some(registry) = &config.documents.registry {
        note(schemas(registry));
    }
    if let Some(snapshots) = &config.snapshots {
        note(store(snapshots));
    }
    if let Some(http) = &config.http {
        note(address(http));
        note(keys(http));
    }
}

fn topics(config: &Config, note: &mut impl FnMut(Finding)) {
    let names = &config.topics;
    match &config.connector {
        Connector::Files { directory } => note(folder(directory)),
        Connector::Kafka(kafka) => {
            // Looks only: what is missing is named, and not made.
            let looking = Connector::Kafka(freshet_config::Kafka { create_topics: false, ..kafka.clone() });
            let what = format!("Kafka at {}", kafka.bootstrap_servers);
            let found = connect::open(&looking, &config.pipeline.name).and_then(|connector| {
                let inputs = names.documents.names().iter().chain([&names.queries]);
                let inputs: Vec<&str> = inputs.map(String::as_str).collect();
                connector.prepare(&inputs, &[&names.answers])
            });
            note(match found {
                Ok(found) => Finding::ok(what, partitions(&found)),
                Err(ConnectError::MissingTopics { topics }) if kafka.create_topics => {
                    Finding::ok(what, format!("answers; {} will be created", topics.join(", ")))
                }
                Err(ConnectError::MissingTopics { topics }) => {
                    let mend = "freshet topics create, or connector.create_topics = true";
                    Finding::missing(what, format!("answers, but there is no {}", topics.join(", ")), mend)
                }
                Err(error) => {
                    let mend = "check connector.bootstrap_servers and connector.properties, and that the brokers run";
                    Finding::missing(what, with_causes(&error), mend)
                }
            });
        }
    }
}

fn schemas(configured: &Registry) -> Finding {
    let what = format!("schema registry at {}", registry::host_of(configured));
    match registry::subjects(configured) {
        Ok(subjects) => Finding::ok(what, format!("answers, {subjects} subject(s)")),
        Err(why) => {
            let mend = "check documents.schema_registry, and that the registry runs";
            Finding::missing(what, why, mend)
        }
    }
}

fn partitions(found: &BTreeMap<String, Vec<freshet_schemas::Partition>>) -> String {
    let of = |(topic, partitions): (&String, &Vec<_>)| format!("{topic}: {} partition(s)", partitions.len());
    found.iter().map(of).collect::<Vec<_>>().join(", ")
}

/// Whether a folder of topics can be written.
fn folder(directory: &Path) -> Finding {
    let what = format!("topics in {}", directory.display());
    // The folder is made by the first run: until then the one above counts.
    let there = directory.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("."));
    let probe = there.join(format!(".freshet-doctor-{}", std::process::id()));
    let written = std::fs::write(&probe, "probe").and_then(|()| std::fs::remove_file(&probe));
    match written {
        Ok(()) => space(what, there),
        Err(error) => {
            let mend = format!("let this user write to {}, or change connector.directory", there.display());
            Finding::missing(what, error.to_string(), mend)
        }
    }
}

/// Free room of a disk.
fn space(what: String, folder: &Path) -> Finding {
    match rustix::fs::statvfs(folder) {
        Ok(found) => {
            let free = found.f_bavail.saturating_mul(found.f_frsize);
            let told = format!("{} free", size(free));
            match free < DISK_MIN {
                true => Finding::warning(what, told, "make room: a full disk stops answers and snapshots"),
                false => Finding::ok(what, told),
            }
        }
        Err(error) => Finding::warning(what, format!("free room is not known: {error}"), "look at `df`"),
    }
}

fn store(snapshots: &Snapshots) -> Finding {
    let what = format!("snapshots in {}", snapshots.store);
    let path = format!("doctor-{}", std::process::id());
    let tried = Store::create(&snapshots.store, &snapshots.options)
        .and_then(|store| store.put(&path, b"probe".to_vec()).and_then(|_| store.delete(&path)));
    match tried {
        Ok(()) => match snapshots.store.strip_prefix("file://") {
            Some(folder) => space(what, Path::new(folder)),
            None => Finding::ok(what, "can be read and written"),
        },
        Err(error) => {
            let mend = "check snapshots.store, its options and credentials, and the rights of this user";
            Finding::missing(what, with_causes(&error), mend)
        }
    }
}

fn address(http: &Http) -> Finding {
    let what = format!("address {}", http.listen);
    match TcpListener::bind(&http.listen) {
        Ok(_) => Finding::ok(what, "free"),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Finding::warning(
            what,
            "taken",
            "fine if this pipeline is running; otherwise choose another http.listen",
        ),
        Err(error) => {
            Finding::missing(what, error.to_string(), "give http.listen an address of this machine")
        }
    }
}

/// Whether strangers may write.
fn keys(http: &Http) -> Finding {
    let near = ["127.", "localhost", "[::1]"].iter().any(|near| http.listen.starts_with(near));
    match http.api_key.is_none() && !near {
        true => {
            Finding::warning("API keys", "none", "whoever reaches the address may write: set http.api_key")
        }
        false => Finding::ok(
            "API keys",
            if http.api_key.is_some() { "set" } else { "none, reached from here only" },
        ),
    }
}
