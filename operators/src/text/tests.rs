//! Tests of analysis and splitting.
