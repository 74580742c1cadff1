//! The command line as a process: what it says, and its exit status.

use std::{
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use crate::support::{certificate, eventually, loopback};

fn fallgate(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fallgate"));
    command.args(arguments).stdin(Stdio::null());
    command
}

fn said(arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = fallgate(arguments).output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// A config with an http listener at `address` and one node that nobody is at.
fn config(dir: &Path, address: &str, more: &str) -> String {
    let path = dir.join("fallgate.yaml");
    let text = format!(
        "version: 1\nlisteners:\n  - {{ name: door, protocol: http, address: '{address}', upstream: u }}\n{more}upstreams:\n  - {{ name: u, nodes: [{{ name: n1, host: 127.0.0.1, ports: {{ http: 1 }} }}] }}\nadmin: {{ address: off }}\n"
    );
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn check_tells_every_problem_at_once_and_exits_with_2() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bad.yaml");
    std::fs::write(&path, "version: 1\nlistener: []\nupstreams: []\ntimeouts: { connect: 5 }\n").unwrap();
    let (status, _, stderr) = said(&["check", "--config", path.to_str().unwrap()]);
    assert_eq!(status, 2);
    for part in ["listener", "did you mean", "timeouts.connect", "upstreams", "problems in"] {
        assert!(stderr.contains(part), "{part}: {stderr}");
    }
}

#[test]
fn check_names_the_certificate_that_is_no_pair_with_its_key() {
    let dir = tempfile::tempdir().unwrap();
    certificate(dir.path(), "a", &rcgen::PKCS_ECDSA_P256_SHA256);
    certificate(dir.path(), "b", &rcgen::PKCS_ECDSA_P256_SHA256);
    let tls = "  - { name: secure, protocol: https, address: '127.0.0.1:0', upstream: u, tls: { cert_file: a.crt, key_file: b.key } }\n";
    let (status, _, stderr) = said(&["check", "--config", &config(dir.path(), "127.0.0.1:0", tls)]);
    assert_eq!(status, 2);
    for part in ["secure", "a.crt", "b.key"] {
        assert!(stderr.contains(part), "{part}: {stderr}");
    }
}

#[test]
fn a_good_config_passes_the_check_and_schema_prints_json() {
    let dir = tempfile::tempdir().unwrap();
    let (status, stdout, _) = said(&["check", "--config", &config(dir.path(), "127.0.0.1:0", "")]);
    assert_eq!(status, 0);
    assert!(stdout.contains("is good: 1 listeners, 1 upstreams, 1 nodes"), "{stdout}");
    let (status, stdout, _) = said(&["schema"]);
    assert_eq!(status, 0);
    assert!(serde_json::from_str::<serde_json::Value>(&stdout).unwrap()["properties"]["listeners"].is_object());
}

#[test]
fn run_names_the_listener_whose_port_is_taken_and_exits_with_1() {
    let taken = std::net::TcpListener::bind(loopback(0)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (status, _, stderr) = said(&["run", "--config", &config(dir.path(), &address, "")]);
    assert_eq!(status, 1);
    assert!(stderr.contains("listener door") && stderr.contains(&address), "{stderr}");
}

#[test]
fn wrong_usage_exits_with_2() {
    assert_eq!(said(&["fly"]).0, 2);
    assert_eq!(said(&["run"]).0, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_gateway_ends_with_0_when_it_is_told_to_terminate() {
    let dir = tempfile::tempdir().unwrap();
    let log = std::fs::File::create(dir.path().join("log")).unwrap();
    let path = config(dir.path(), "127.0.0.1:0", "");
    let mut child = Ended(fallgate(&["run", "--config", &path]).stderr(log).spawn().unwrap());
    let text = || std::fs::read_to_string(dir.path().join("log")).unwrap();
    eventually("it listens", || text().contains("Listening").then_some(())).await;
    let told = Command::new("kill").args(["-TERM", &child.0.id().to_string()]).status().unwrap();
    assert!(told.success());
    let status = eventually("it ends", || child.0.try_wait().unwrap()).await;
    assert_eq!(status.code(), Some(0), "{}", text());
}

#[test]
fn the_demo_moves_real_files_and_ends_with_0() {
    let start = std::time::Instant::now();
    let (status, stdout, stderr) = said(&["demo", "--once"]);
    assert_eq!(status, 0, "{stderr}");
    assert!(stdout.contains("All good."), "{stdout}");
    assert!(stdout.lines().all(|line| line.chars().count() <= 80), "{stdout}");
    assert!(start.elapsed() < Duration::from_secs(60));
}

/// A process that does not outlive its test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
