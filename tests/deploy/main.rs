//! What is under `deploy/` does what it says: packages, units and manifests are read, and run as far as this machine can.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test that cannot go on has failed, and says so"
)]
#![allow(
    missing_docs,
    dead_code,
    reason = "test names are the documentation; not every module uses all of the sandbox"
)]

mod container;
mod dmz;
mod image;
mod kubernetes;
mod machine;
mod package;
mod support;
mod systemd;
