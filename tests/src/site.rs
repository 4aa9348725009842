//! A pipeline on topics in memory, with the HTTP server beside it.

use std::net::SocketAddr;
use std::sync::Arc;

use freshet::http::Server;
use freshet::setup::Setup;
use freshet::status::Phase;
use freshet_config::Http;
use freshet_operators::connect::{Connector, Memory};
use serde_json::Value;

use crate::drive::{self, Pipeline, topics};
use crate::http::{Response, request};
use freshet_operators::wake::block_on;

/// A pipeline with a server.
pub struct Site {
    server: Server,
    pipeline: Pipeline,
    /// What the pipeline runs on.
    pub setup: Setup,
    /// Its topics.
    pub memory: Memory,
}

impl Site {
    /// Starts both on a free port, and waits until queries are answered.
    pub fn start(change: impl FnOnce(&mut Http)) -> Self {
        let mut http = Http { listen: "127.0.0.1:0".to_owned(), ..Http::default() };
        change(&mut http);
        Self::with(drive::setup(2), &http, topics())
    }

    /// Starts both on topics that may hold something.
    pub fn with(setup: Setup, http: &Http, memory: Memory) -> Self {
        let connector: Arc<dyn Connector> = Arc::new(memory.clone());
        Self::on(setup, http, &connector, memory)
    }

    /// Starts both on any connector; `memory` is for tests that look at topics there.
    pub fn on(setup: Setup, http: &Http, connector: &Arc<dyn Connector>, memory: Memory) -> Self {
        let setup = setup.with_gateway();
        let pipeline = Pipeline::start(&setup, connector);
        let server = Server::start(http, &setup, connector, pipeline.control());
        let server = server.unwrap_or_else(|error| panic!("{error}"));
        let ready = block_on(setup.status.watch_phase().wait_for(|phase| *phase == Phase::Ready)).is_ok();
        assert!(ready, "the pipeline has a status as long as it runs");
        Self { server, pipeline, setup, memory }
    }

    /// Where the server listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Gets something.
    pub fn get(&self, target: &str) -> Response {
        request(self.address(), "GET", target, &[], b"")
    }

    /// Posts JSON.
    pub fn post(&self, target: &str, body: &Value) -> Response {
        request(self.address(), "POST", target, &[], body.to_string().as_bytes())
    }

    /// Puts documents there and waits until they are found.
    pub fn documents(&self, documents: &Value) {
        let answer = self.post("/api/documents?wait=true", documents);
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    /// Ends both; what is under way is answered first.
    pub fn finish(self) {
        drop(self.server);
        self.pipeline.finish();
    }

    /// Ends both at once.
    pub fn stop(self) {
        drop(self.server);
        self.pipeline.control().stop();
        self.pipeline.finish();
    }
}
