//! Fetching from a hub that runs in the test.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

use hf_hub::Cache;
use sha2::{Digest, Sha256};

use super::tiny::{self, Shape};
use crate::embed::locate::{Places, locate_in, pull_into};
use crate::embed::{EmbedError, Head, Manifest, Pooling};

/// Serves files of one repository until the test ends; others are "not found". Returns the address.
fn hub(files: Vec<(&'static str, Vec<u8>)>) -> String {
    hub_of("main", files, |name, _| name.replace('/', "-"))
}

/// The same with a revision, and a name of its own for each content.
fn hub_of(
    revision: &'static str,
    files: Vec<(&'static str, Vec<u8>)>,
    tag: fn(&str, &[u8]) -> String,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = format!("http://{}", listener.local_addr().expect("bound"));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let lines = BufReader::new(stream.try_clone().expect("a socket")).lines().map_while(Result::ok);
            let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            let Some(path) = head.first().and_then(|line| line.split(' ').nth(1)) else { continue };
            let file = files.iter().find(|(name, _)| path.ends_with(&format!("/resolve/{revision}/{name}")));
            let answer = match file {
                Some((name, content)) => {
                    // hf-hub asks for the first byte to learn the size, then for the rest.
                    let range = head
                        .iter()
                        .find_map(|line| line.to_lowercase().strip_prefix("range: bytes=").map(String::from));
                    let (start, end) = match range.as_deref().and_then(|range| range.split_once('-')) {
                        Some((start, end)) => {
                            (start.parse().unwrap_or(0), end.parse().map_or(content.len(), |e: usize| e + 1))
                        }
                        None => (0, content.len()),
                    };
                    let end = end.min(content.len());
                    let head = format!(
                        "HTTP/1.1 206 Partial Content\r\nX-Repo-Commit: abc123\r\nETag: \"{}\"\r\nContent-Range: bytes \
                         {start}-{}/{}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                        tag(name, content),
                        end.saturating_sub(1),
                        content.len(),
                        end - start
                    );
                    [head.as_bytes(), &content[start..end]].concat()
                }
                None => b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec(),
            };
            // The client may have gone; that is its affair.
            let _ = stream.write_all(&answer);
        }
    });
    address
}

#[test]
fn a_model_is_fetched_once_into_the_cache() {
    let base = tempfile::tempdir().expect("a temporary folder");
    let model = tiny::model(&Shape::default());
    let files = vec![
        ("onnx/model.onnx", model.clone()),
        ("tokenizer.json", tiny::tokenizer().to_string().into_bytes()),
        ("config.json", b"{}".to_vec()),
        ("1_Pooling/config.json", br#"{"pooling_mode_mean_tokens": true}"#.to_vec()),
    ];
    let mut places = Places {
        models: None,
        roots: Vec::new(),
        cache: Some(Cache::new(base.path().to_path_buf())),
        endpoint: Some(hub(files)),
        offline: true,
    };
    let name = "all-MiniLM-L6-v2";
    let error = pull_into(name, |_| (), &places).expect_err("offline").to_string();
    assert!(error.contains("HF_HUB_OFFLINE"), "{error}");
    places.offline = false;
    let mut asked = Vec::new();
    let progress = |file: &str| asked.push(file.to_owned());
    let folder = pull_into(name, progress, &places).expect("fetched");
    assert_eq!(asked.len(), 6);
    assert_eq!(std::fs::read(folder.join("onnx/model.onnx")).expect("fetched"), model);
    assert_eq!(locate_in(name, &Default::default(), &places).expect("fetched").folder, folder);
    // The sizes and prefixes that the repository does not tell come from the registry.
    let manifest = Manifest::read(&folder, name).expect("a public layout");
    assert_eq!((manifest.max_tokens, manifest.name.as_str()), (256, name));
    assert_eq!(manifest.head, Head::Dense { pooling: Pooling::Mean, normalize: true });
    places.endpoint = Some("http://127.0.0.1:9".to_owned());
    let mut again = Vec::new();
    pull_into(name, |file: &str| again.push(file.to_owned()), &places).expect("all that is needed is there");
    assert_eq!(again, ["sentence_bert_config.json", "modules.json"]);
}

#[test]
fn a_hub_without_the_model_is_an_error_that_names_file_and_address() {
    let base = tempfile::tempdir().expect("a temporary folder");
    let endpoint = hub(Vec::new());
    let places = Places {
        models: None,
        roots: Vec::new(),
        cache: Some(Cache::new(base.path().to_path_buf())),
        endpoint: Some(endpoint.clone()),
        offline: false,
    };
    let error = pull_into("all-MiniLM-L6-v2", |_| (), &places).expect_err("not found");
    assert!(matches!(&error, EmbedError::Fetch { file, .. } if file == "onnx/model.onnx"));
    assert!(error.to_string().contains(&endpoint), "{error}");
    let error = pull_into("gpt-9", |_| (), &places).expect_err("unknown").to_string();
    assert!(error.contains("all-MiniLM-L6-v2"), "{error}");
}

fn sha256(_: &str, content: &[u8]) -> String {
    format!("{:x}", Sha256::digest(content))
}

#[test]
fn a_pinned_revision_is_fetched_and_its_checksums_hold() {
    let base = tempfile::tempdir().expect("a temporary folder");
    let files = || {
        vec![
            ("onnx/model_quantized.onnx", tiny::model(&Shape::default())),
            ("tokenizer.json", tiny::tokenizer().to_string().into_bytes()),
            ("config.json", b"{}".to_vec()),
        ]
    };
    let places = |endpoint: String| Places {
        models: None,
        roots: Vec::new(),
        cache: Some(Cache::new(base.path().to_path_buf())),
        endpoint: Some(endpoint),
        offline: false,
    };
    let name = "bge-small-en-v1.5:int8@v7";
    let wrong = places(hub_of("v7", files(), |_, _| "0".repeat(64)));
    let error = pull_into(name, |_| (), &wrong).expect_err("another content than the hub says").to_string();
    assert!(error.contains("SHA-256") && error.contains(&"0".repeat(64)), "{error}");
    let right = places(hub_of("v7", files(), sha256));
    let folder = pull_into(name, |_| (), &right).expect("fetched");
    assert!(folder.join("onnx/model_quantized.onnx").is_file());
    assert_eq!(locate_in(name, &Default::default(), &right).expect("fetched").folder, folder);
    locate_in("bge-small-en-v1.5:int8", &Default::default(), &right).expect_err("another revision");
    let manifest = Manifest::read(&folder, name).expect("a public layout");
    assert_eq!(manifest.file.to_str(), Some("onnx/model_quantized.onnx"));
    assert_eq!(manifest.head, Head::Dense { pooling: Pooling::Cls, normalize: true });
}
