//! What a bench is told on its command line.

use std::path::PathBuf;

use clap::Args;

/// The options of every bench.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The cases to run; all when none is named. A longer name that is that of a line runs one line of a table alone.
    #[arg(long = "case", value_name = "NAME")]
    pub(crate) cases: Vec<String>,
    /// Rounds of each case; every round measures all peers, one after the other.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// A quarter of the work in three rounds: shows that it runs, not how fast.
    #[arg(long)]
    quick: bool,
    /// How many seconds to wait before a round for a machine that does nothing else; with 0 no round is thrown away.
    #[arg(long, default_value_t = 20, value_name = "SECONDS")]
    pub(crate) patience: u64,
    /// A further build of fallgate, measured as a peer under NAME.
    #[arg(long = "also", value_name = "NAME=PROGRAM", value_parser = named)]
    also: Vec<(String, PathBuf)>,
    /// Only fallgate and the builds of `--also`.
    #[arg(long)]
    pub(crate) alone: bool,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    pub(crate) fn rounds(&self) -> usize {
        if self.quick { 3 } else { self.rounds.max(1) }
    }

    /// `n`, or a quarter of it.
    pub(crate) fn scaled(&self, n: usize) -> usize {
        if self.quick { n / 4 } else { n }
    }

    /// Whether a line of a case is wanted: it, or what it begins with, was named.
    pub(crate) fn wants(&self, line: &str) -> bool {
        self.cases.is_empty() || self.cases.iter().any(|c| line.starts_with(c.as_str()))
    }

    /// Whether any line of a case may be wanted.
    pub(crate) fn wants_any(&self, case: &str) -> bool {
        self.cases.is_empty() || self.cases.iter().any(|c| c.starts_with(case) || case.starts_with(c.as_str()))
    }

    /// fallgate as it was built for this bench, and the further builds.
    pub(crate) fn builds(&self) -> Vec<(String, PathBuf)> {
        let own = ("fallgate".to_owned(), PathBuf::from(env!("CARGO_BIN_EXE_fallgate")));
        std::iter::once(own).chain(self.also.iter().cloned()).collect()
    }
}

fn named(text: &str) -> Result<(String, PathBuf), String> {
    let (name, path) = text.split_once('=').ok_or("expected NAME=PROGRAM")?;
    Ok((name.to_owned(), path.into()))
}
