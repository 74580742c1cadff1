//! What the tests share with those of the gateway itself, and what they alone need.

#[path = "../it/support/eventually.rs"]
mod eventual;
#[path = "../it/support/netns.rs"]
pub(crate) mod netns;
#[path = "../it/support/programs.rs"]
pub(crate) mod programs;

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

pub(crate) use eventual::eventually;
use netns::Host;

/// A port of this machine that only it can reach.
pub(crate) fn loopback(port: u16) -> std::net::SocketAddr {
    (std::net::Ipv4Addr::LOCALHOST, port).into()
}

/// A file or folder of this repository.
pub(crate) fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The text of a file of this repository.
pub(crate) fn text(path: &str) -> String {
    std::fs::read_to_string(here(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// A token of the right shape.
const TOKEN: &str = "ATM3_ACsGh7NRzGA2-ANT6j6mT3O4UYw48JKSstgxg2y8PunjPYAAEc-5aMrqwWI9XCbMaE2Kxk_3MTA";

/// What a script of this repository prints; none where it fails, and everybody is told; in CI that is a failure.
pub(crate) fn brought(script: &str) -> Option<PathBuf> {
    let said = Command::new(here(script)).stdin(Stdio::null()).output().unwrap();
    let problem = String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success() || std::env::var_os("CI").is_none(), "{script}: {problem}");
    if !said.status.success() {
        eprintln!("SKIPPED: {script}: {problem}");
        return None;
    }
    Some(PathBuf::from(String::from_utf8(said.stdout).unwrap().trim_end()))
}

/// Whether this is root, without whom much cannot be tried; everybody is told where it is not.
pub(crate) fn is_root() -> bool {
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    if !is_root {
        eprintln!("SKIPPED: a test that takes root");
    }
    is_root
}

/// The real client uploads a file by the fallback on a host, over TLS with a certificate and key of its own.
#[track_caller]
pub(crate) fn upload(host: &Host, port: u16, tls: Option<(&Path, &Path)>, file: &Path) {
    let Some(ascp) = brought("tests/get-ascp") else { return };
    let home = tempfile::tempdir().unwrap();
    let mut command = host.command(ascp.to_str().unwrap());
    command.env("HOME", home.path()).env("ASPERA_SCP_TOKEN", TOKEN).current_dir(home.path()).stdin(Stdio::null());
    command.args(["-y", "F", "-t", &port.to_string(), "--mode=send", "--user=xfer", "--host=127.0.0.1"]);
    match tls {
        Some((certificate, key)) => command.arg("-I").arg(certificate).arg("-Y").arg(key),
        None => command.arg("-T"),
    };
    let said = command.arg(file).arg("/").output().unwrap();
    assert!(
        said.status.success(),
        "{}{}",
        String::from_utf8_lossy(&said.stdout),
        String::from_utf8_lossy(&said.stderr)
    );
}

/// A process that does not outlive its test.
pub(crate) struct Ended(pub(crate) Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `fallgate node` at an address of a host, with its files in a folder.
pub(crate) fn node(host: &Host, address: &str, root: &Path) -> Ended {
    let mut command = host.command(env!("CARGO_BIN_EXE_fallgate"));
    command.args(["node", "--address", address, "--root"]).arg(root).stdin(Stdio::null()).stdout(Stdio::null());
    Ended(command.spawn().unwrap())
}
