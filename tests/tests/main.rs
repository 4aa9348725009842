//! Tests of whole pipelines: one binary.

mod oracle;
