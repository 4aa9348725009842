//! Tests of the embedding service and its models.
//!
//! `service` and `units` need nothing; `folders` needs ONNX Runtime and runs models made on the spot (`tiny`);
//! `minilm` needs the model that `scripts/setup.sh` provides, and fails without it.

mod folders;
mod hub;
mod kinds;
mod minilm;
mod service;
mod tiny;
mod units;
