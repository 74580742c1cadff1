//! The soak: real clients and others at once, through a gateway that is reloaded, upgraded and killed, to nodes that fail.
//!
//! ```text
//! cargo test --release --locked --test soak -- --minutes 60 --seed 7
//! cargo test --release --locked --test soak -- --figures
//! ```
//!
//! It fails if a file that a client believes complete differs, if a transfer fails that met no fault but those that must
//! cost nothing, if afterwards transfers do not succeed, or if the gateway holds more than it did before. `--figures`
//! counts failures beside HAProxy and nginx. Without arguments it does nothing, for it takes its time.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test that cannot go on has failed, and says so"
)]
#![allow(missing_docs, dead_code, unused_imports, reason = "not all of what tests share is used here")]

mod gateway;
mod leaks;
mod load;
mod nodes;
mod ports;
mod report;
mod run;
mod schedule;
mod stage;
#[path = "../it/support/mod.rs"]
mod support;
mod trees;
mod work;

use std::{fmt::Display, process::ExitCode, time::Duration};

use clap::Parser;

/// What the soak is told.
#[derive(Debug, Parser)]
struct Options {
    /// How long the load goes on, in minutes.
    #[arg(long)]
    minutes: Option<f64>,
    /// What chance is made of; the same number gives the same transfers and faults.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let Some(minutes) = options.minutes else {
        print("soak: nothing to do without --minutes");
        return ExitCode::SUCCESS;
    };
    if !support::ascp::is_here() {
        return ExitCode::SUCCESS;
    }
    let is_good = run::soak(options.seed, Duration::from_secs_f64(minutes * 60.0)).await;
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A line of the report.
#[expect(clippy::print_stdout, reason = "the report is what it is for")]
fn print(line: impl Display) {
    println!("{line}");
}
