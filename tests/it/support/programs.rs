//! Programs of others that tests run.

use std::{
    io::Write,
    process::{Command, Stdio},
};

/// Whether a program is here, so that the test can run. Where it is not the test is skipped, and everybody is told; in
/// CI that is a failure.
pub(crate) fn is_here(program: &str, how: &[&str]) -> bool {
    let said = Command::new(program).args(how).stdin(Stdio::null()).output();
    let is_here = said.is_ok_and(|said| said.status.success());
    assert!(is_here || std::env::var_os("CI").is_none(), "{program} is not there");
    if !is_here {
        // Past the test runner, which would swallow it.
        let _ = writeln!(std::io::stderr(), "\nSKIPPED: a test with {program}, for it is not there\n");
    }
    is_here
}
