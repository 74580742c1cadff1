//! The end-to-end speed of the fallback door, beside HAProxy and nginx on the same machine.
//!
//! `cargo bench --bench fallback -- --help` tells the options; `docs/benchmarks.md` what is measured and how.
#![allow(clippy::expect_used, clippy::panic, reason = "a bench that cannot measure ends with the reason")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the tables are what a bench is for")]

#[path = "../common/mod.rs"]
mod common;

mod ascp;
mod bulk;
mod caps;
mod delay;
mod load;
mod memory;
mod peer;
mod small;
mod stage;

use clap::Parser;

use crate::{
    common::{Case, machine, options::Options, process, report, rounds},
    stage::Stage,
};

/// Measures the fallback door beside HAProxy and nginx; needs both, taskset, and two processors. The cases are ascp,
/// bulk, caps, connect, delay, keepalive and memory; a line of one is such as `bulk-put-tls12-c1`.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

const CASES: &[Case<Stage>] = &[
    ("ascp", ascp::run),
    ("bulk", bulk::run),
    ("delay", delay::run),
    ("connect", small::connect),
    ("keepalive", small::keepalive),
    ("memory", memory::run),
    ("caps", caps::run),
];

fn main() {
    common::run(&Arguments::parse().options, CASES, Stage::new);
}
