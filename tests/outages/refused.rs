//! Brokers that refuse credentials, or what a principal may do.

use crate::broker;
use crate::cluster::Cluster;
use crate::stage::{Plan, Stage};

/// A listener with passwords beside the one without, whose principal may do everything.
fn guarded(port: u16) -> String {
    format!(
        "listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{},SASL://127.0.0.1:{}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port},SASL://127.0.0.1:{}\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_PLAINTEXT\n\
         sasl.enabled.mechanisms=PLAIN\n\
         listener.name.sasl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
         user_reader=\"right\";\n\
         authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
         super.users=User:ANONYMOUS\n",
        port + 1,
        port + 2,
        port + 2,
    )
}

#[test]
fn what_brokers_refuse_ends_the_run_at_once() {
    if broker("what_brokers_refuse_ends_the_run_at_once").is_none() {
        return;
    }
    let cluster = Cluster::start(1, guarded);
    let guarded = format!("127.0.0.1:{}", cluster.port + 2);
    let secret = "hunter2-is-no-password";
    let connector = format!(
        "properties = {{ \"security.protocol\" = \"SASL_PLAINTEXT\", \"sasl.mechanism\" = \"PLAIN\", \
         \"sasl.username\" = \"reader\", \"sasl.password\" = \"{secret}\" }}"
    );
    let stage = Stage::set(&Plan {
        servers: (&guarded, &cluster.servers),
        partitions: 1,
        replication: 1,
        connector: &connector,
        snapshots: false,
    });
    let begun = std::time::Instant::now();
    let (code, log) = stage.run(1).end();
    assert_eq!(code, Some(1), "{log}");
    assert!(begun.elapsed().as_secs() < 15, "at once");
    let error = log.lines().find(|line| line.starts_with("error:")).unwrap();
    for part in [
        "refuse these credentials",
        "Authentication failed",
        "sasl.mechanism",
        "sasl.username",
        "sasl.password",
    ] {
        assert!(error.contains(part), "{error} does not say {part}");
    }
    assert!(error.contains("mechanism PLAIN") && error.contains(&guarded), "{error}");
    assert!(!log.contains(secret), "{log}");

    // The right password, of a principal that may do nothing.
    stage.reconfigure(secret, "right");
    let (code, log) = stage.run(1).end();
    assert_eq!(code, Some(1), "{log}");
    let error = log.lines().find(|line| line.starts_with("error:")).unwrap();
    let said = ["lacks a right", "Describe", stage.config.topics.documents.first(), &guarded];
    assert!(said.iter().all(|part| error.contains(part)), "{error}");
}
