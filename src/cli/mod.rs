//! The command line: what was said becomes what runs.
//!
//! Exit status: 0 done, 1 failed while running, 2 wrong usage or config. A reader who goes away early, as `head` does, is no
//! failure.

mod against;
mod ask;
mod check;
mod completions;
mod demo;
mod doctor;
mod explain;
mod health;
mod manual;
mod node;
mod run;
mod schema;
mod slips;
mod upgrade;

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

/// Done.
const OK: u8 = 0;
/// Failed while running.
const FAILED: u8 = 1;
/// Wrong usage or config.
const USAGE: u8 = 2;

/// What each exit status means; the README has the same words.
const EXIT_STATUS: &str = "0 done, 1 failed while running, 2 wrong usage or config.";
/// No line of help is longer than this, in columns.
const COLUMNS: usize = 80;

/// An edge gateway for Aspera-style file transfer.
///
/// Stands in front of transfer nodes and carries every path of their clients to them: control (SSH) and data (UDP), and the
/// HTTP(S) fallback, each transfer on one node. On the clients' side it is their forward proxy.
#[derive(Debug, Parser)]
#[command(
    name = "fallgate",
    version,
    disable_help_subcommand = true,
    max_term_width = COLUMNS,
    after_help = format!("Exit status: {EXIT_STATUS}\n`doctor` has its own. `fallgate COMMAND --help` tells all of a command.")
)]
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
    ///
    /// Exit status: 0 when it was told to stop and has drained, 1 when it cannot start or a part of it fails, 2 for a config
    /// that would not do.
    Run(ConfigFile),
    /// Check a config file and stop.
    ///
    /// Reads the config and every certificate, key and CA file that it names. Opens no port and contacts
    /// no node; of others it asks the name servers for nodes that it has from the DNS, and a Redis that it shares. With `--against` it also asks a running gateway for its config, and tells what a reload with this one
    /// would change there and what of it needs a restart.
    ///
    /// Exit status: 0 when `run` would start with it, 1 when the
    /// running gateway cannot be asked, 2 with every problem, its place and a hint.
    Check(check::Options),
    /// Show a gateway, two nodes and real transfers, all on loopback.
    ///
    /// Starts two transfer nodes and a gateway with a certificate of its own in this process, moves files
    /// both ways through them and compares checksums. Uses the real client too where `$ASCP` names it or
    /// it is on PATH. Needs no config and no network; stays until Ctrl-C, and leaves no file behind. Colours and a line that
    /// counts along are for terminals that know them; `NO_COLOR` is heeded.
    ///
    /// Exit status: 0 when everything went well, 1 at the first step that did not.
    Demo(demo::Options),
    /// Tell which path to a server works, and why another does not.
    ///
    /// Tries SSH, UDP and the fallback ports of any server from here, as a client would, and through a forward proxy too. Moves no file;
    /// every session that it starts is ended at once. Says how ascp is to be called. `fallgate doctor code 47` explains an error number of ascp.
    ///
    /// Exit status: 0 when the nominal path works, 1 when another works or may work, 3 when none does, 2 for wrong usage. `code`: 0, or 1 for a number that is not known.
    Doctor(doctor::Options),
    /// Tell what a config wants of clients, nodes and firewalls.
    ///
    /// Prints keys of transfer specs, flags of ascp, settings of the nodes, the table of ports, nftables rules for the two
    /// firewalls around the gateway and for its own host, and what an application has to do. Reads the config alone and not
    /// the files that it names; opens no port and contacts no one.
    ///
    /// Exit status: 0, 1 when it cannot be written, 2 for a config that would not do.
    Explain(explain::Options),
    /// Have a running gateway hand over to the installed program.
    ///
    /// The new process reads the config anew and takes the sockets over; the old one carries what it has to its end. No
    /// connect is refused and no session is lost. Asks the admin door that the config names, with its token.
    ///
    /// Exit status: 0 when the new process serves, 1 when nothing has changed, 2 for a config that would not do.
    Upgrade(ConfigFile),
    /// Ask a running gateway how it is.
    ///
    /// Asks whether the process serves; with `--ready`, whether it takes new sessions. Says the word that the admin door
    /// answers. Meant for containers and scripts without a client of their own.
    ///
    /// Exit status: 0 when the answer is yes, 1 when it is no or there is none, 2 for wrong usage or config.
    Health(health::Options),
    /// Run a transfer node for trying things out.
    ///
    /// It speaks the HTTP fallback and nothing else, takes every token, and keeps what it gets in `up` below its folder.
    /// Not for networks that are not trusted. SIGTERM and SIGINT end it at once.
    ///
    /// Exit status: 0 when it was told to end, 1 when it cannot listen, 2 when there is no such folder.
    Node(node::Options),
    /// Print the JSON Schema of the config file.
    ///
    /// For editors and pipelines; reads nothing and contacts no one. Exit status: 0, or 1 when it cannot be written.
    Schema,
    /// Print what completes this command line in a shell.
    ///
    /// To try it in bash: `source <(fallgate completions bash)`. To keep it, write it to
    /// `~/.local/share/bash-completion/completions/fallgate`; for zsh to `_fallgate` in a folder of `$fpath`; for fish to
    /// `~/.config/fish/completions/fallgate.fish`. The Debian package brings all three. Reads nothing and contacts no one.
    ///
    /// Exit status: 0, or 1 when it cannot be written.
    Completions(completions::Options),
    /// Print the manual page.
    ///
    /// It has the help of every command; `fallgate man | man -l -` shows it. The Debian package brings it. Reads nothing and
    /// contacts no one.
    ///
    /// Exit status: 0, or 1 when it cannot be written.
    Man,
}

#[derive(Debug, clap::Args)]
struct ConfigFile {
    /// The config file (YAML).
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = match slips::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(status) => return status,
    };
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
        Command::Completions(options) => completions::completions(&options),
        Command::Man => manual::manual(),
    })
}

/// A line for the person at the terminal. Where nobody reads it any more the command goes on without saying.
fn say(line: impl std::fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// The text that a command was asked for, whole, and what becomes of it.
fn print(text: &str) -> u8 {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            complain(&error);
            FAILED
        }
        _ => OK,
    }
}

/// A line of trouble for the person at the terminal, with the chain of causes.
fn complain(error: &(dyn std::error::Error + 'static)) {
    // Where nobody reads it any more there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "fallgate: {}", crate::telemetry::chain(error));
}

/// A way out of the trouble that was told.
fn advise(hint: &str) {
    let _ = writeln!(std::io::stderr(), "  hint: {hint}");
}

#[cfg(test)]
mod tests {
    use clap::{Command, CommandFactory};

    use super::*;

    /// The program and each of its commands, built.
    fn all() -> Vec<Command> {
        let mut program = Cli::command();
        program.build();
        let commands: Vec<_> = program.get_subcommands().cloned().collect();
        std::iter::once(program).chain(commands).collect()
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn short_help_has_one_line_for_each_command_and_option() {
        for command in all() {
            // As wide as it wants to be; values that are offered may need a second line.
            let help = command.clone().max_term_width(1000).term_width(1000).render_help().to_string();
            for line in help.lines() {
                let said = line.split(" [").next().unwrap_or_default();
                assert!(said.chars().count() <= COLUMNS, "{}: {line}", command.get_name());
            }
        }
    }

    #[test]
    fn long_help_fits_80_columns_and_tells_the_exit_status() {
        for mut command in all() {
            let help = command.render_long_help().to_string();
            assert!(help.contains("Exit status: 0"), "{help}");
            for line in help.lines() {
                assert!(line.chars().count() <= COLUMNS, "{line}");
            }
        }
    }
}
