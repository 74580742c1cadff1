//! What the tests share with those of the gateway itself, and what they alone need.

#[path = "../it/support/eventually.rs"]
mod eventual;
#[path = "../it/support/netns.rs"]
pub(crate) mod netns;
#[path = "../it/support/programs.rs"]
pub(crate) mod programs;
#[path = "../it/support/secrets.rs"]
pub(crate) mod secrets;
#[path = "../it/support/supervisor.rs"]
pub(crate) mod supervisor;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

pub(crate) use eventual::eventually;

pub(crate) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// A file or folder of this repository.
pub(crate) fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The text of a file of this repository.
pub(crate) fn text(path: &str) -> String {
    std::fs::read_to_string(here(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}
