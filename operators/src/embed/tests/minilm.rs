//! all-MiniLM-L6-v2 as it is shipped, against vectors of the reference implementation.
