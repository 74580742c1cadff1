//! The command line: what was said becomes what runs.
//!
//! Exit status: 0 done, 1 failed while running, 2 wrong usage or config.

mod against;
mod ask;
mod check;
mod demo;
mod doctor;
mod explain;
mod health;
mod node;
mod run;
mod schema;
mod upgrade;

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
    /// most for `timeouts.drain`; a second one ends at once. SIGUSR1 reopens the access log. SIGUSR2 hands over to a new
    /// process of the program as it is installed now, and carries what began here to its end.
    Run(ConfigFile),
    /// Check a config file and stop.
    ///
    /// Reads the config and every certificate, key and CA file that it names. Opens no port and contacts
    /// no node. With `--against` it also asks a running gateway for its config, and tells what a reload with this one
    /// would change there and what of it needs a restart. Exit status: 0 when `run` would start with it, 1 when the
    /// running gateway cannot be asked, 2 with every problem, its place and a hint.
    Check(check::Options),
    /// Show a gateway, two nodes and real transfers, all on loopback.
    ///
    /// Starts two transfer nodes and a gateway with a certificate of its own in this process, moves files
    /// both ways through them and compares checksums. Uses the real client too where `$ASCP` names it or
    /// it is on PATH. Needs no config and no network; stays until Ctrl-C.
    Demo(demo::Options),
    /// Tell which path to a server works from here, and how ascp is to be called.
    ///
    /// Tries SSH, UDP and the fallback ports of any server as a client would, and through a forward proxy too. Moves no file;
    /// every session that it starts is ended at once. `fallgate doctor code 47` explains an error number of ascp. Exit
    /// status: 0 when the nominal path works, 1 when another works or may work, 3 when none does, 2 for wrong usage.
    Doctor(doctor::Options),
    /// Tell what clients, nodes and firewalls are to be set to, so that they go with a config.
    ///
    /// Prints keys of transfer specs, flags of ascp, settings of the nodes, the table of ports, nftables rules for the two
    /// firewalls around the gateway and for its own host, and what an application has to do. Reads the config alone and not
    /// the files that it names; opens no port and contacts no one. Exit status: 0, or 2 for a config that would not do.
    Explain(explain::Options),
    /// Have a running gateway hand over to the program as it is installed now.
    ///
    /// The new process reads the config anew and takes the sockets over; the old one carries what it has to its end. No
    /// connect is refused and no session is lost. Asks the admin door that the config names, with its token. Exit status:
    /// 0 when the new process serves, 1 when nothing has changed, 2 for a config that would not do.
    Upgrade(ConfigFile),
    /// Ask a running gateway how it is.
    ///
    /// Asks whether the process serves; with `--ready`, whether it takes new sessions. Says the word that the admin door
    /// answers. Meant for containers and scripts without a client of their own. Exit status: 0 when the answer is yes,
    /// 1 when it is no or there is none, 2 for wrong usage or config.
    Health(health::Options),
    /// Run a transfer node for trying things out.
    ///
    /// It speaks the HTTP fallback and nothing else, takes every token, and keeps what it gets in `up` below its folder.
    /// Not for networks that are not trusted. SIGTERM and SIGINT end it at once.
    Node(node::Options),
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
    crate::net::tls::use_everywhere();
    ExitCode::from(match cli.command {
        Command::Run(file) => run::run(&file.config),
        Command::Check(options) => check::check(&options),
        Command::Demo(options) => demo::demo(&options),
        Command::Doctor(options) => doctor::doctor(options),
        Command::Explain(options) => explain::explain(&options),
        Command::Upgrade(file) => upgrade::upgrade(&file.config),
        Command::Health(options) => health::health(&options),
        Command::Node(options) => node::node(options),
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
