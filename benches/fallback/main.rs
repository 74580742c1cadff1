//! The end-to-end speed of the fallback door, beside HAProxy and nginx on the same machine.
//!
//! `cargo bench --bench fallback -- --help` tells the options; `docs/benchmarks.md` what is measured and how.
#![allow(clippy::expect_used, clippy::panic, reason = "a bench that cannot measure ends with the reason")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the tables are what a bench is for")]

mod ascp;
mod bulk;
mod delay;
mod load;
mod machine;
mod memory;
mod peer;
mod report;
mod rounds;
mod small;
mod stage;

use std::path::PathBuf;

use clap::Parser;

use crate::{report::Table, stage::Stage};

/// Measures the fallback door beside HAProxy and nginx; needs both, taskset, and two processors.
#[derive(Debug, Parser)]
struct Options {
    /// The cases to run: ascp, bulk, connect, delay, keepalive, memory; all when none is named. A longer name such as
    /// `bulk-put-tls12-c1` runs one line of a table alone.
    #[arg(long = "case", value_name = "NAME")]
    cases: Vec<String>,
    /// Rounds of each case; every round measures all peers, one after the other.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// A quarter of the work in three rounds: shows that it runs, not how fast.
    #[arg(long)]
    quick: bool,
    /// How many seconds to wait before a round for a machine that does nothing else; with 0 no round is thrown away.
    #[arg(long, default_value_t = 20, value_name = "SECONDS")]
    patience: u64,
    /// A further build of fallgate, measured as a peer under NAME.
    #[arg(long = "also", value_name = "NAME=PROGRAM", value_parser = named)]
    also: Vec<(String, PathBuf)>,
    /// Only fallgate and the builds of `--also`.
    #[arg(long)]
    alone: bool,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    fn rounds(&self) -> usize {
        if self.quick { 3 } else { self.rounds.max(1) }
    }

    /// `n`, or a quarter of it.
    fn scaled(&self, n: usize) -> usize {
        if self.quick { n / 4 } else { n }
    }

    /// Whether a line of a case is wanted: it, or what it begins with, was named.
    fn wants(&self, line: &str) -> bool {
        self.cases.is_empty() || self.cases.iter().any(|c| line.starts_with(c.as_str()))
    }

    /// Whether any line of a case may be wanted.
    fn wants_any(&self, case: &str) -> bool {
        self.cases.is_empty() || self.cases.iter().any(|c| c.starts_with(case) || case.starts_with(c.as_str()))
    }
}

fn named(text: &str) -> Result<(String, PathBuf), String> {
    let (name, path) = text.split_once('=').ok_or("expected NAME=PROGRAM")?;
    Ok((name.to_owned(), path.into()))
}

/// A case: its name, and what runs it.
type Case = (&'static str, fn(&Options, &Stage) -> Vec<Table>);

const CASES: &[Case] = &[
    ("ascp", ascp::run),
    ("bulk", bulk::run),
    ("delay", delay::run),
    ("connect", small::connect),
    ("keepalive", small::keepalive),
    ("memory", memory::run),
];

fn main() {
    let options = Options::parse();
    let known = |c: &String| CASES.iter().any(|(name, _)| c.starts_with(name) || name.starts_with(c.as_str()));
    if let Some(unknown) = options.cases.iter().find(|c| !known(c)) {
        panic!("there is no case {unknown:?}; see --help");
    }
    machine::pin_this_process();
    let stage = Stage::new();
    for (name, run) in CASES {
        if options.wants_any(name) {
            for table in run(&options, &stage) {
                println!("{table}");
            }
        }
    }
}
