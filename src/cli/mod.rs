//! The command line: what was said becomes what runs.
//!
//! Exit status: 0 done, 1 failed while running, 2 wrong usage or config.

mod check;
mod demo;
mod run;
mod schema;

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

/// Done.
const OK: u8 = 0;
/// Failed while running.
const FAILED: u8 = 1;
/// Wrong usage or config.
const USAGE: u8 = 2;

/// An edge gateway for Aspera-style file transfer.
#[derive(Debug, Parser)]
#[command(name = "fallgate", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway until it is told to stop.
    ///
    /// SIGHUP reads the config anew: either all of it is applied, or nothing changes and every problem is
    /// told. SIGTERM and SIGINT drain: new sessions are refused, running ones are carried to their end, at
    /// most for `timeouts.drain`; a second one ends at once. SIGUSR1 reopens the access log.
    Run(ConfigFile),
    /// Check a config file and stop.
    ///
    /// Reads the config and every certificate, key and CA file that it names. Opens no port and contacts
    /// no node. Exit status: 0 when `run` would start with it, 2 with every problem, its place and a hint.
    Check(ConfigFile),
    /// Show a gateway, two nodes and real transfers, all on loopback.
    ///
    /// Starts two transfer nodes and a gateway with a certificate of its own in this process, moves files
    /// both ways through them and compares checksums. Uses the real client too where `$ASCP` names it or
    /// it is on PATH. Needs no config and no network; stays until Ctrl-C.
    Demo(demo::Options),
    /// Print the JSON Schema of the config file.
    Schema,
}

#[derive(Debug, clap::Args)]
struct ConfigFile {
    /// The config file (YAML).
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // First thing: the engine would install another provider, whose RSA is much slower.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    ExitCode::from(match cli.command {
        Command::Run(file) => run::run(&file.config),
        Command::Check(file) => check::check(&file.config),
        Command::Demo(options) => demo::demo(&options),
        Command::Schema => schema::schema(),
    })
}

/// A line for the person at the terminal.
#[expect(clippy::print_stdout, reason = "this is the command line's own output")]
fn say(line: impl std::fmt::Display) {
    println!("{line}");
}

/// A line of trouble for the person at the terminal, with the chain of causes.
fn complain(error: &(dyn std::error::Error + 'static)) {
    // Where nobody reads it any more there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "fallgate: {}", crate::telemetry::chain(error));
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
