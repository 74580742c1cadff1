//! What an operator sees of the gateway: metrics, and what Prometheus and Grafana make of them.

mod added;
mod dashboard;
mod forgotten;
mod metrics;
mod prometheus;
mod records;
mod server;
pub(crate) mod stage;

use std::path::PathBuf;

/// A file that is shipped in `deploy`.
fn shipped(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)
}
