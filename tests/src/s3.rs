//! An S3 server of a test's own: moto, on a port of the loopback that is free.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use freshet_config::StoreOptions;

/// The environment variable that names a Python with moto.
pub const VARIABLE: &str = "FRESHET_S3";

/// A server with one empty bucket; it ends with its value.
pub struct S3 {
    child: Child,
    address: String,
}

impl S3 {
    /// Starts one. Without the variable the test is skipped by name; on CI it fails.
    pub fn start(test: &str) -> Option<Self> {
        let Some(python) = std::env::var_os(VARIABLE) else {
            assert!(std::env::var_os("CI").is_none(), "{test}: {VARIABLE} is not set");
            eprintln!("SKIPPED {test}: {VARIABLE} is not set");
            return None;
        };
        let mut child = Command::new(python)
            .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", "0"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("python starts");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
        let address = lines.find_map(|line| Some(line.split_once("http://")?.1.trim().to_owned()));
        let address = address.expect("the server says where it listens");
        // Nobody reads its log, which must not fill the pipe; the thread ends with the server.
        std::thread::spawn(move || lines.for_each(drop));
        let server = Self { child, address };
        assert!(server.request("PUT", "/bucket").starts_with("HTTP/1.1 200"), "{test}: a bucket");
        Some(server)
    }

    /// URL of a folder in the bucket.
    pub fn url(&self, prefix: &str) -> String {
        format!("s3://bucket/{prefix}")
    }

    /// What opens it.
    pub fn options(&self) -> StoreOptions {
        let endpoint = format!("http://{}", self.address);
        let options = [
            ("aws_endpoint", endpoint.as_str()),
            ("aws_allow_http", "true"),
            ("aws_region", "us-east-1"),
            ("aws_access_key_id", "key"),
            ("aws_secret_access_key", "secret"),
        ];
        StoreOptions(
            options
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into_iter()
                .collect::<BTreeMap<_, _>>(),
        )
    }

    fn request(&self, method: &str, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).expect("the server listens");
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            self.address
        )
        .expect("a request");
        let mut reply = String::new();
        stream.read_to_string(&mut reply).expect("a reply");
        reply
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        // It keeps nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
