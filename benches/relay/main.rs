//! The speed of the relay, beside HAProxy, nginx and the kernel's own forwarding on the same machine.
//!
//! `cargo bench --bench relay -- --help` tells the options; `docs/benchmarks.md` what is measured and how.
#![allow(clippy::expect_used, clippy::panic, reason = "a bench that cannot measure ends with the reason")]
#![allow(clippy::print_stderr, reason = "tells how far the bench is")]

#[path = "../common/mod.rs"]
mod common;

mod idle;
mod kernel;
mod load;
mod node;
mod peer;
mod tcp;
mod udp;
mod wire;

use clap::Parser;

use crate::{
    common::{Case, machine, options::Options, process, report, rounds},
    node::Stage,
};

/// Measures the relay beside HAProxy and nginx (with its module `stream`); needs both, taskset, setpriv, root, and two
/// processors. The cases are udp, tcp and idle-flows; a line of one is such as `udp-many-bursts`.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

const CASES: &[Case<Stage>] =
    &[("udp", udp::run), ("udp-kernel", kernel::run), ("tcp", tcp::run), ("idle-flows", idle::run)];

fn main() {
    common::run(&Arguments::parse().options, CASES, Stage::new);
}
