//! What the benches share: options, processes on a processor of their own, rounds, and tables of ratios.

pub(crate) mod machine;
pub(crate) mod options;
pub(crate) mod process;
pub(crate) mod report;
pub(crate) mod rounds;

use options::Options;
use report::Table;

/// A case: its name, and what runs it.
pub(crate) type Case<S> = (&'static str, fn(&Options, &S) -> Vec<Table>);

/// Runs the cases that the options name, and prints their tables.
#[expect(clippy::print_stdout, reason = "the tables are what a bench is for")]
pub(crate) fn run<S>(options: &Options, cases: &[Case<S>], stage: impl FnOnce() -> S) {
    let known = |c: &String| cases.iter().any(|(name, _)| c.starts_with(name) || name.starts_with(c.as_str()));
    if let Some(unknown) = options.cases.iter().find(|c| !known(c)) {
        panic!("there is no case {unknown:?}; see --help");
    }
    machine::pin_this_process();
    let stage = stage();
    for (name, run) in cases {
        if options.wants_any(name) {
            for table in run(options, &stage) {
                println!("{table}");
            }
        }
    }
}
