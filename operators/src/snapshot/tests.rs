//! Cuts written and read back.
