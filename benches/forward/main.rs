//! The speed of the forward proxy, beside Squid, Envoy and tinyproxy on the same machine.
//!
//! `cargo bench --bench forward -- --help` tells the options; `docs/benchmarks.md` what is measured and how.
#![allow(clippy::expect_used, clippy::panic, reason = "a bench that cannot measure ends with the reason")]
#![allow(clippy::print_stderr, reason = "tells how far the bench is")]

#[path = "../common/mod.rs"]
#[allow(dead_code, reason = "the other benches use more of it")]
mod common;

mod bulk;
mod idle;
mod load;
mod origin;
mod peer;
mod small;

use std::path::PathBuf;

use clap::Parser;

use crate::{
    common::{Case, machine, options::Options, process, report, rounds},
    origin::Stage,
};

/// Measures the forward proxy beside Squid, Envoy and tinyproxy; needs taskset, two processors, and each of the three that is
/// to be measured. One that does not start is named and left out. The cases are connect, absolute, bulk and idle; a line of
/// one is such as `bulk-down-t200`.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
    /// A peer that is left out, fallgate among them.
    #[arg(long, value_name = "NAME")]
    without: Vec<String>,
    /// Workers of each proxy, save of tinyproxy, which has a thread for each connection. With 1 the proxies have a
    /// processor of their own.
    #[arg(long, default_value_t = 2, value_name = "N")]
    workers: usize,
    /// Where Envoy is, if not on PATH.
    #[arg(long, default_value = "envoy", value_name = "PROGRAM")]
    envoy: PathBuf,
}

const CASES: &[Case<Stage>] =
    &[("connect", small::connect), ("absolute", small::absolute), ("bulk", bulk::run), ("idle", idle::run)];

fn main() {
    let Arguments { options, without, workers, envoy } = Arguments::parse();
    common::run(&options, CASES, || Stage::new(without, workers, envoy));
}
