//! Fusion of ranked lists.
