//! Programs of others that tests run.

use std::{
    io::Write,
    path::{Path, PathBuf},
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

/// The program that a script brings. Where it cannot be had the tests with it are skipped, and everybody is told; in CI
/// that is a failure.
pub(crate) fn bring(script: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(script);
    let problem = match Command::new(path).stdin(Stdio::null()).output() {
        Ok(said) if said.status.success() => {
            return Some(PathBuf::from(String::from_utf8(said.stdout).unwrap().trim_end()));
        }
        Ok(said) => String::from_utf8_lossy(&said.stderr).trim().to_owned(),
        Err(error) => format!("{script}: {error}"),
    };
    assert!(std::env::var_os("CI").is_none(), "{problem}");
    // Past the test runner, which would swallow it.
    let _ = writeln!(std::io::stderr(), "\nSKIPPED: {problem}\n");
    None
}
