//! `fallgate completions`: what completes this command line in a shell.

use clap::CommandFactory;

use super::{Cli, print};

#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

pub(super) fn completions(options: &Options) -> u8 {
    let shell = match options.shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "fallgate", &mut text);
    print(&String::from_utf8_lossy(&text))
}
