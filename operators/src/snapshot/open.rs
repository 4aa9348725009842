//! Opens stores by their URLs: folders, and buckets that speak the protocol of Amazon S3.

use std::sync::{Arc, Once};
use std::time::Duration;

use freshet_config::StoreOptions;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::local::LocalFileSystem;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ClientConfigKey, ClientOptions, ObjectStore, RetryConfig};

use super::SnapshotError;

/// Longest time to reach a server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time of a request: eight megabytes each way, at most.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// A request that fails is tried so many times more, within this time.
const RETRIES: usize = 4;
const RETRY_TIMEOUT: Duration = Duration::from_secs(30);
const BACKOFF: BackoffConfig = BackoffConfig {
    init_backoff: Duration::from_millis(100),
    max_backoff: Duration::from_secs(3),
    base: 3.0,
};

/// What a URL names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place<'a> {
    /// `file://FOLDER`.
    Folder(&'a str),
    /// `s3://BUCKET/PREFIX`; the prefix may be empty.
    Bucket { bucket: &'a str, prefix: &'a str },
}

impl<'a> Place<'a> {
    /// Takes a URL apart.
    pub(super) fn of(url: &'a str) -> Result<Self, SnapshotError> {
        match url.split_once("://") {
            Some(("file", folder)) if !folder.is_empty() => Ok(Self::Folder(folder)),
            Some(("s3", rest)) if !rest.starts_with('/') && !rest.is_empty() => {
                let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
                Ok(Self::Bucket { bucket, prefix: prefix.trim_matches('/') })
            }
            _ => Err(refused(url, "this build knows file://FOLDER and s3://BUCKET/PREFIX".to_owned())),
        }
    }
}

/// A store that cannot be, whoever tries.
fn refused(url: &str, cause: String) -> SnapshotError {
    let advice = "correct snapshots.store or [snapshots.options]";
    SnapshotError::Store { what: format!("cannot open \"{url}\""), cause, advice: advice.to_owned() }
}

/// Opens what a URL names. Nothing is asked of a server yet.
pub(super) fn open(url: &str, options: &StoreOptions) -> Result<Arc<dyn ObjectStore>, SnapshotError> {
    match Place::of(url)? {
        Place::Folder(folder) => {
            if let Some(key) = options.0.keys().next() {
                let what = format!("snapshots.options.{key}: a folder has no options");
                return Err(refused(url, what));
            }
            let local = LocalFileSystem::new_with_prefix(folder);
            let local = local.map_err(|error| super::store::cannot_open(url, &error))?;
            Ok(Arc::new(local.with_fsync(true).with_automatic_cleanup(true)))
        }
        Place::Bucket { bucket, prefix } => {
            let store = s3(url, bucket, options)?;
            Ok(if prefix.is_empty() { store } else { Arc::new(PrefixStore::new(store, prefix)) })
        }
    }
}

fn s3(url: &str, bucket: &str, options: &StoreOptions) -> Result<Arc<dyn ObjectStore>, SnapshotError> {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // It is no error if somebody has chosen before: any provider will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    let retry = RetryConfig { backoff: BACKOFF, max_retries: RETRIES, retry_timeout: RETRY_TIMEOUT };
    let limits = ClientOptions::new().with_connect_timeout(CONNECT_TIMEOUT).with_timeout(REQUEST_TIMEOUT);
    // The client's options first: keys that are given after them win.
    let mut builder = AmazonS3Builder::new().with_client_options(limits).with_retry(retry);
    for (name, value) in from_environment() {
        builder = builder.with_config(name, value);
    }
    for (name, value) in &options.0 {
        let key: AmazonS3ConfigKey = name.parse().map_err(|_| {
            let what = "is no option of an S3 store; there are aws_region, aws_endpoint, aws_allow_http, \
                        aws_virtual_hosted_style_request, aws_access_key_id, aws_secret_access_key and the other \
                        keys of object_store's AmazonS3ConfigKey";
            refused(url, format!("snapshots.options.{name} {what}"))
        })?;
        if matches!(key, AmazonS3ConfigKey::Bucket) {
            return Err(refused(url, format!("snapshots.options.{name}: the bucket stands in the URL")));
        }
        builder = builder.with_config(key, value);
    }
    let built = builder.with_bucket_name(bucket).build();
    Ok(Arc::new(built.map_err(|error| super::store::cannot_open(url, &error))?))
}

/// What the environment says, under the names that Amazon's tools use: `AWS_ACCESS_KEY_ID`, `AWS_REGION`, ….
fn from_environment() -> impl Iterator<Item = (AmazonS3ConfigKey, String)> {
    std::env::vars_os().filter_map(|(name, value)| {
        let (name, value) = (name.into_string().ok()?, value.into_string().ok()?);
        let key: AmazonS3ConfigKey =
            name.starts_with("AWS_").then(|| name.to_ascii_lowercase().parse().ok())??;
        // The bucket stands in the URL.
        let bucket = matches!(key, AmazonS3ConfigKey::Bucket);
        (!bucket && !matches!(key, AmazonS3ConfigKey::Client(ClientConfigKey::UserAgent)))
            .then_some((key, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_folders_and_buckets() {
        let place = |url| Place::of(url).map_err(|error| error.to_string());
        assert_eq!(place("file://a/b"), Ok(Place::Folder("a/b")));
        assert_eq!(place("file:///a"), Ok(Place::Folder("/a")));
        assert_eq!(place("s3://bucket"), Ok(Place::Bucket { bucket: "bucket", prefix: "" }));
        assert_eq!(place("s3://bucket/a/b/"), Ok(Place::Bucket { bucket: "bucket", prefix: "a/b" }));
        for url in ["s3:///a", "s3://", "gs://bucket", "folder", "file://"] {
            assert!(place(url).is_err_and(|error| error.contains("s3://BUCKET/PREFIX")), "{url}");
        }
    }

    #[test]
    fn options_that_are_none_are_refused_by_name_and_no_value_is_told() {
        let options = |pairs: &[(&str, &str)]| {
            StoreOptions(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
        };
        let refused = |url: &str, pairs: &[(&str, &str)]| {
            open(url, &options(pairs)).map(drop).expect_err("refused").to_string()
        };
        let secret = "hunter2";
        for told in [
            refused("s3://bucket", &[("aws_acess_key_id", secret)]),
            refused("s3://bucket", &[("aws_bucket", secret)]),
            refused("file:///tmp", &[("aws_secret_access_key", secret)]),
        ] {
            assert!(told.contains("snapshots.options.aws_"), "{told}");
            assert!(!told.contains(secret), "{told}");
        }
        let all = options(&[("aws_secret_access_key", secret)]);
        assert!(!format!("{all:?}").contains(secret) && format!("{all:?}").contains("aws_secret_access_key"));
        let known =
            [("aws_region", "eu-central-1"), ("aws_allow_http", "true"), ("aws_endpoint", "http://[::1]:9")];
        open("s3://bucket/prefix", &options(&known)).expect("known keys");
    }
}
