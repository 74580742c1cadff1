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

mod figures;
mod gateway;
mod leaks;
mod load;
mod nodes;
mod peers;
mod ports;
mod proof;
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
    /// Print the faults of such a run and stop.
    #[arg(long, requires = "minutes")]
    schedule: bool,
    /// Count failures beside HAProxy and nginx instead, and print the table.
    #[arg(long, conflicts_with = "minutes")]
    figures: bool,
    /// Transfers in each cell of that table.
    #[arg(long, default_value_t = 320)]
    transfers: u64,
    /// What chance is made of; the same number gives the same transfers and faults.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    // Filters and flags of other tests come here too.
    let is_asked = |word: String| ["--minutes", "--figures", "--help"].iter().any(|ours| word.starts_with(ours));
    if !std::env::args().any(is_asked) {
        print("soak: nothing to do without --minutes or --figures");
        return ExitCode::SUCCESS;
    }
    let options = Options::parse();
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let length = options.minutes.map(|minutes| Duration::from_secs_f64(minutes * 60.0));
    let is_good = match length {
        Some(length) if options.schedule => {
            run::show(options.seed, length);
            true
        }
        // Everybody was told.
        _ if !support::ascp::is_here() => true,
        Some(length) => run::soak(options.seed, length).await,
        None => figures::all(options.seed, options.transfers).await,
    };
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A line of the report.
#[expect(clippy::print_stdout, reason = "the report is what it is for")]
fn print(line: impl Display) {
    println!("{line}");
}
