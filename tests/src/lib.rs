//! What the tests of whole pipelines share: random scripts, the from-scratch oracle, and drivers.

pub mod collector;
pub mod drive;
pub mod http;
pub mod oracle;
pub mod registry;
pub mod s3;
pub mod script;
pub mod site;
