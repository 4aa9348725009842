//! The operators of Freshet, one folder each.

pub mod connect;
pub mod embed;
pub mod fuse;
pub mod index;
pub mod text;
