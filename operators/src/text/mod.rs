//! Texts: analysis into terms, splitting into chunks.
