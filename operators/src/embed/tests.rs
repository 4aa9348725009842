//! Tests of the embedding service.
