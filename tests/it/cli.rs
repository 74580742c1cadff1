//! The command line as a process: what it says, and its exit status.

use std::{
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use fallgate::node::client::Client;

use crate::support::{TOKEN, certificate, eventually, loopback, noise, process::Process, secrets};

fn fallgate(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fallgate"));
    command.args(arguments).stdin(Stdio::null());
    command
}

pub(crate) fn said(arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = fallgate(arguments).output().unwrap();
    secrets::none_in("stdout", &stdout);
    secrets::none_in("stderr", &stderr);
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
    std::fs::write(&path, "version: 1\nlistener: []\nupstreams: [{}]\ntimeouts: { connect: 5 }\n").unwrap();
    let (status, _, stderr) = said(&["check", "--config", path.to_str().unwrap()]);
    assert_eq!(status, 2);
    for part in ["listener", "did you mean", "timeouts.connect", "upstreams", "problems in"] {
        assert!(stderr.contains(part), "{part}: {stderr}");
    }
}

/// A build that sends no spans says so, and does not leave an operator to wonder where they are.
#[test]
fn check_tells_whether_this_build_sends_spans() {
    let dir = tempfile::tempdir().unwrap();
    let path = config(dir.path(), "127.0.0.1:0", "");
    let text = std::fs::read_to_string(&path).unwrap() + "log: { otlp_endpoint: 'http://127.0.0.1:4318' }\n";
    std::fs::write(&path, text).unwrap();
    let (status, _, stderr) = said(&["check", "--config", &path]);
    match cfg!(feature = "otlp") {
        true => assert_eq!(status, 0, "{stderr}"),
        false => {
            assert_eq!(status, 2, "{stderr}");
            assert!(
                stderr.contains("log.otlp_endpoint: this build sends no spans") && stderr.contains("--features otlp")
            );
        }
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
    assert!(stdout.contains("is good: 1 listener, 1 upstream, 1 node"), "{stdout}");
    let (status, stdout, _) = said(&["schema"]);
    assert_eq!(status, 0);
    assert!(serde_json::from_str::<serde_json::Value>(&stdout).unwrap()["properties"]["listeners"].is_object());
}

#[test]
fn check_warns_of_what_is_allowed_and_likely_a_mistake_and_exits_with_0() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("relay.yaml");
    let text = "version: 1
listeners:
  - { name: control, protocol: tcp, address: '127.0.0.1:0', upstream: u, send_proxy_protocol: on, trusted_proxies: [127.0.0.1], proxy_protocol: accept }
  - { name: data, protocol: udp, address: '127.0.0.1:0', upstream: u }
upstreams:
  - { name: u, nodes: [{ name: n1, host: 127.0.0.1, ports: { tcp: 1, udp: 2 } }] }
";
    std::fs::write(&path, text).unwrap();
    let (status, stdout, stderr) = said(&["check", "--config", path.to_str().unwrap()]);
    assert_eq!(status, 0, "{stderr}");
    for part in [
        "is good: 2 listeners",
        "send_proxy_protocol",
        "OpenSSH does not understand",
        "gate",
        "control hears from a front",
    ] {
        assert!(stdout.contains(part), "{part}: {stdout}");
    }
    assert_eq!(stdout.matches("warning: listeners").count(), 2, "{stdout}");
    let plain = text.replace(", send_proxy_protocol: on, trusted_proxies: [127.0.0.1], proxy_protocol: accept", "");
    std::fs::write(&path, plain).unwrap();
    let (status, stdout, _) = said(&["check", "--config", path.to_str().unwrap()]);
    assert_eq!((status, stdout.matches("warning: listeners").count()), (0, 0), "{stdout}");
}

#[test]
fn check_warns_of_tls_that_the_client_does_not_speak() {
    let dir = tempfile::tempdir().unwrap();
    certificate(dir.path(), "a", &rcgen::PKCS_ECDSA_P256_SHA256);
    for (version, is_warned) in [("1.3", true), ("1.2", false)] {
        let tls = format!(
            "  - {{ name: secure, protocol: https, address: '127.0.0.1:0', upstream: u, tls: {{ cert_file: a.crt, key_file: a.key, min_version: '{version}' }} }}\n"
        );
        let (status, stdout, _) = said(&["check", "--config", &config(dir.path(), "127.0.0.1:0", &tls)]);
        assert_eq!((status, stdout.contains("listeners[secure].tls.min_version: ascp")), (0, is_warned), "{stdout}");
    }
}

#[test]
fn check_warns_of_more_connections_and_flows_than_there_may_be_open_files() {
    let dir = tempfile::tempdir().unwrap();
    let data = "  - { name: data, protocol: udp, address: '127.0.0.1:0', upstream: d, gate: off }\n";
    let path = config(dir.path(), "127.0.0.1:0", data);
    let more = "limits: { max_connections: 100, max_udp_flows: 400 }\n";
    let text = std::fs::read_to_string(&path).unwrap();
    let nodes = "upstreams:\n  - { name: d, nodes: [{ name: n, host: 127.0.0.1, ports: { udp: 1 } }] }\n";
    let text = text.replace("upstreams:\n", nodes) + more;
    let wide = text.replace("127.0.0.1:0', upstream: d", "127.0.0.1:20000-20999', upstream: d");
    for (files, text, is_warned) in [(500, &text, true), (5000, &text, false), (5000, &wide, true)] {
        std::fs::write(&path, text).unwrap();
        let limited = format!("ulimit -n {files} && exec \"$0\" check --config \"$1\"");
        let mut command = Command::new("sh");
        let output = command.args(["-c", &limited, env!("CARGO_BIN_EXE_fallgate"), &path]).output().unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{stdout}");
        assert_eq!(stdout.contains(&format!("the limit is {files}")), is_warned, "{stdout}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn run_warns_when_the_system_caps_the_receive_buffer() {
    let gateway = env!("CARGO_BIN_EXE_fallgate");
    // Who may administer the network is not capped.
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-net_admin", "--inh-caps=-net_admin", "--", gateway]);
    if !Command::new("setpriv").args(["--bounding-set=-net_admin", "true"]).output().is_ok_and(|o| o.status.success()) {
        command = Command::new(gateway);
    }
    for (size, is_warned) in [("1GiB", true), ("64KiB", false)] {
        let data = format!(", gate: off, receive_buffer: {size}");
        let text = crate::support::nominal::config(&[(1, 1)], "127.0.0.1:0", &data, "");
        let mut again = Command::new(command.get_program());
        again.args(command.get_args());
        let process = Process::by(again, None, &text).await;
        process.address("data").await;
        assert_eq!(process.log().contains("caps receive_buffer"), is_warned, "{}", process.log());
    }
}

#[test]
fn run_names_the_listener_whose_port_is_taken_and_exits_with_1() {
    let taken = std::net::TcpListener::bind(loopback(0)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (status, _, stderr) = said(&["run", "--config", &config(dir.path(), &address, "")]);
    assert_eq!(status, 1);
    assert!(stderr.contains("listener door") && stderr.contains(&address), "{stderr}");
    assert!(stderr.contains("hint: another process has it"), "{stderr}");
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

#[tokio::test(flavor = "multi_thread")]
async fn health_says_the_word_of_the_admin_door_and_exits_by_it() {
    let text = crate::support::nominal::config(&[(1, 1)], "127.0.0.1:0", "", "timeouts: {pre_drain: 1h}");
    let gateway = Process::start(&text).await;
    let url = format!("http://{}", gateway.admin());
    assert_eq!(said(&["health", "--url", &url]), (0, "ok\n".to_owned(), String::new()));
    let ready = eventually("the first checks", || {
        let (status, stdout, stderr) = said(&["health", "--ready", "--url", &url]);
        assert!(status == 0 || stderr.contains("it answers 503: nodes not checked yet"), "{stderr}");
        (status == 0).then_some(stdout)
    });
    assert_eq!(ready.await, "ok\n");
    gateway.signal("TERM");
    eventually("the drain", || {
        let (status, _, stderr) = said(&["health", "--ready", "--url", &url]);
        (status == 1 && stderr.contains("it answers 503: draining")).then_some(())
    })
    .await;
    assert_eq!(said(&["health", "--url", &url]).0, 0);

    // The config names the door, and must be good.
    let path = gateway.dir().join("fallgate.yaml");
    let path = path.to_str().unwrap();
    gateway.write(&text.replace("admin: {address: '127.0.0.1:0'", &format!("admin: {{address: '{}'", gateway.admin())));
    assert_eq!(said(&["health", "--config", path]).0, 0);
    assert_eq!(said(&["health", "--config", path, "--url", &url]).0, 2);
    gateway.write(&text.replace("version: 1", "version: 2"));
    assert_eq!(said(&["health", "--config", path]).0, 2);
}

#[test]
fn health_says_that_nobody_answers_or_nobody_can_be_asked() {
    let (status, _, stderr) = said(&["health", "--url", "http://127.0.0.1:1"]);
    assert!(status == 1 && stderr.contains("cannot be reached"), "{stderr}");
    let dir = tempfile::tempdir().unwrap();
    let (status, _, stderr) = said(&["health", "--config", &config(dir.path(), "127.0.0.1:0", "")]);
    assert!(status == 2 && stderr.contains("admin.address is off"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_its_own_serves_its_folder_until_it_is_told_to_stop() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let mut command = fallgate(&["node", "--address", "127.0.0.1:0", "--root"]);
    let mut child = Ended(command.arg(dir.path()).stdout(std::fs::File::create(&out).unwrap()).spawn().unwrap());
    let address = eventually("it listens", || {
        let text = std::fs::read_to_string(&out).unwrap();
        text.strip_prefix("Listening. address=")?.strip_suffix('\n')?.parse().ok()
    });
    let client = Client { token: TOKEN.to_owned(), ..Client::new(address.await) };
    let file = dir.path().join("sent");
    std::fs::write(&file, noise(100_000, 7)).unwrap();
    assert!(client.upload(&[file], "/").await.unwrap().is_ok());
    assert_eq!(std::fs::read(dir.path().join("up/sent")).unwrap(), noise(100_000, 7));
    assert!(Command::new("kill").args(["-TERM", &child.0.id().to_string()]).status().unwrap().success());
    assert!(eventually("it ends", || child.0.try_wait().unwrap()).await.success());
}

/// A process that does not outlive its test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
