//! `fallgate explain`: what it tells of a config, word for word, and that others take it as it is.
//!
//! `FALLGATE_BLESS=1 cargo test --test it explain` writes the expected texts anew.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;

use crate::support::{Plan, ascp, certificate, eventually, process::Process, programs, secrets};

/// The configs, and what more is said on the command line.
const CONFIGS: [(&str, &[&str]); 8] = [
    ("config/fallgate.yaml", &[]),
    ("config/minimal.yaml", &["--host", "transfer.example.com", "--address", "192.0.2.10"]),
    ("config/forward.yaml", &["--host", "proxy.example.com"]),
    ("deploy/dmz/fallgate.yaml", &["--host", "transfer.example.com"]),
    ("tests/it/explained/wide.yaml", &[]),
    ("tests/it/explained/relay.yaml", &[]),
    ("tests/it/explained/tangled.yaml", &[]),
    ("tests/it/explained/mixed.yaml", &["--host", "transfer.example.com"]),
];
const PARTS: [&str; 3] = ["outer", "inner", "host"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn output(config: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fallgate"));
    let said = command.args(["explain", "--config"]).arg(config).args(more).stdin(Stdio::null()).output().unwrap();
    secrets::none_in("stdout", &said.stdout);
    secrets::none_in("stderr", &said.stderr);
    said
}

fn explained(config: &str, more: &[&str]) -> String {
    let said = output(&root().join(config), more);
    assert!(said.status.success(), "{config}: {}", String::from_utf8_lossy(&said.stderr));
    String::from_utf8(said.stdout).unwrap()
}

#[test]
fn what_is_told_of_each_config_is_what_stands_here() {
    for (config, more) in CONFIGS {
        let name = config.trim_end_matches(".yaml").rsplit('/').next().unwrap();
        let name = if config.starts_with("deploy") { "dmz" } else { name };
        let path = root().join(format!("tests/it/explained/{name}.txt"));
        let said = explained(config, more);
        if std::env::var_os("FALLGATE_BLESS").is_some() {
            std::fs::write(&path, &said).unwrap();
            continue;
        }
        let wanted = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(said == wanted, "{} is not what is told now; bless it:\n{said}", path.display());
    }
}

#[test]
fn no_password_of_a_config_is_told() {
    for more in [&[][..], &["--json"], &["--session"]] {
        assert!(!explained("tests/it/explained/wide.yaml", more).contains("secret-word"));
    }
}

#[test]
fn the_json_has_what_the_text_has() {
    for (config, more) in CONFIGS {
        let all: Value = serde_json::from_str(&explained(config, &[more, &["--json"]].concat())).unwrap();
        let text = explained(config, more);
        for part in PARTS {
            let rules = all["nftables"][part].as_str().unwrap();
            assert!(text.contains(rules), "{config}: {part}");
            assert_eq!(rules.trim_end(), explained(config, &[more, &["--part", part]].concat()).trim_end());
        }
        for line in all["session"].as_array().unwrap() {
            assert!(text.contains(line.as_str().unwrap()), "{config}");
        }
        let spec: Value = serde_json::from_str(&explained(config, &[more, &["--part", "spec"]].concat())).unwrap();
        assert_eq!(all["transfer_specs"], spec, "{config}");
        assert!(text.contains(&explained(config, &[more, &["--part", "ports"]].concat())), "{config}");
    }
}

#[test]
fn the_rules_of_each_config_load() {
    if !programs::is_here("nft", &["--version"]) {
        return;
    }
    let Some(host) = crate::support::netns::Host::new() else { return };
    for (config, more) in CONFIGS {
        for part in PARTS {
            let rules = explained(config, &[more, &["--part", part]].concat());
            let mut nft = host.command("nft");
            let mut child = nft.args(["-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            child.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
            let said = child.wait_with_output().unwrap();
            assert!(said.status.success(), "{config}, {part}: {}", String::from_utf8_lossy(&said.stderr));
        }
    }
}

#[test]
fn what_is_on_this_host_needs_no_opening_and_a_redis_that_has_a_name_needs_name_servers() {
    let ports = explained("tests/it/explained/tangled.yaml", &["--part", "ports"]);
    assert!(!ports.contains("127.0.0") && !ports.contains("localhost"), "{ports}");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fallgate.yaml");
    let minimal = std::fs::read_to_string(root().join("config/minimal.yaml")).unwrap();
    for (redis, is_there) in [("redis.example", true), ("10.0.0.9", false), ("localhost", false)] {
        std::fs::write(&path, format!("{minimal}state: {{ redis: 'redis://{redis}:6379' }}\n")).unwrap();
        let said = output(&path, &["--part", "ports"]);
        assert_eq!(String::from_utf8_lossy(&said.stdout).contains("| udp | 53 |"), is_there, "{said:?}");
    }
}

#[cfg(feature = "otlp")]
#[test]
fn the_collector_of_spans_has_a_row_unless_it_is_on_this_host() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fallgate.yaml");
    let minimal = std::fs::read_to_string(root().join("config/minimal.yaml")).unwrap();
    for (endpoint, is_there) in
        [("http://10.0.0.9:4318", true), ("http://localhost:4318", false), ("http://[::1]", false)]
    {
        std::fs::write(&path, format!("{minimal}log: {{ otlp_endpoint: '{endpoint}' }}\n")).unwrap();
        let said = output(&path, &["--part", "ports"]);
        assert_eq!(String::from_utf8_lossy(&said.stdout).contains("(10.0.0.9) | tcp | 4318 |"), is_there, "{said:?}");
    }
}

/// What is told of this config.
fn told(text: &str, more: &[&str]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fallgate.yaml");
    std::fs::write(&path, text).unwrap();
    let said = output(&path, more);
    assert!(said.status.success(), "{said:?}");
    String::from_utf8(said.stdout).unwrap()
}

#[test]
fn a_redis_that_sentinels_tell_has_an_opening_beside_theirs() {
    let minimal = std::fs::read_to_string(root().join("config/minimal.yaml")).unwrap();
    let state = "state: { redis: ['redis://10.0.0.8:26379', 'redis://10.0.0.9:26379'], sentinel_master: main }\n";
    let ports = told(&format!("{minimal}{state}"), &["--part", "ports"]);
    assert!(ports.contains("| the sentinels (10.0.0.8, 10.0.0.9) | tcp | 26379 |"), "{ports}");
    assert!(ports.contains("| the Redis (the servers that the sentinels name) | tcp | any |"), "{ports}");
}

#[test]
fn a_parent_on_this_host_needs_no_opening_and_one_that_has_no_name_no_name_servers() {
    let forward = std::fs::read_to_string(root().join("config/forward.yaml")).unwrap();
    for (parent, opening, names) in [
        ("http://127.0.0.1:3129", None, false),
        ("http://localhost:3129", None, false),
        ("http://10.0.0.7:3129", Some("the parent proxy (10.0.0.7) | tcp | 3129 |"), false),
        ("http://up.example:3129", Some("the parent proxy (up.example) | tcp | 3129 |"), true),
    ] {
        let text = forward.replace("name: partners", &format!("name: partners\n    parent: \"{parent}\""));
        let ports = told(&text, &["--part", "ports"]);
        assert_eq!(ports.contains("parent proxy"), opening.is_some(), "{ports}");
        assert!(opening.is_none_or(|opening| ports.contains(opening)), "{ports}");
        assert_eq!(ports.contains("| udp | 53 |"), names, "{ports}");
        // What does not go by the parent is looked up here.
        let text = text.replace("parent:", "no_parent: [\"*.inside.example\"]\n    parent:");
        assert!(told(&text, &["--part", "ports"]).contains("| udp | 53 |"));
    }
}

#[test]
fn what_no_client_can_use_is_said() {
    let minimal = std::fs::read_to_string(root().join("config/minimal.yaml")).unwrap();
    let text = minimal.replace("key_file: tls.key", "key_file: tls.key, min_version: \"1.3\"");
    assert!(told(&text, &[]).contains("# ascp 3.9 speaks no TLS 1.3"));
    let control = "  - { name: control, protocol: tcp, address: '0.0.0.0:33001', upstream: transfer }\n";
    let text =
        minimal.replace("upstreams:", &format!("{control}upstreams:")).replace("http: 8080", "http: 8080, tcp: 22");
    let lines = told(&text, &["--session"]);
    assert!(
        lines.contains("to transfer there is no listener for data")
            && lines.contains(" for control and fallback alike")
    );
    let data = "  - { name: data, protocol: udp, address: '0.0.0.0:33001', upstream: transfer, gate: off }\n";
    let text =
        minimal.replace("upstreams:", &format!("{data}upstreams:")).replace("http: 8080", "http: 8080, udp: 33001");
    assert!(told(&text, &["--session"]).contains("to transfer there is no listener for control"));
}

#[test]
fn a_fallback_on_loopback_that_no_spec_tells_is_in_no_line_either() {
    let text = "version: 1
listeners:
  - { name: control, protocol: tcp, address: '192.0.2.5:33001', upstream: u }
  - { name: data, protocol: udp, address: '192.0.2.5:33001', upstream: u }
  - { name: own, protocol: http, address: '127.0.0.1:8080', upstream: u }
upstreams:
  - { name: u, nodes: [{ name: n, host: 10.1.0.11, ports: { http: 8080, tcp: 22, udp: 33001 } }] }
";
    assert!(told(text, &["--part", "spec"]).contains("\"http_fallback\": false"));
    let lines = told(text, &["--session"]);
    assert!(!lines.contains("http_fallback") && !lines.contains("cipher"), "{lines}");
}

#[test]
fn a_config_that_would_not_do_is_told_as_check_tells_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bad.yaml");
    std::fs::write(&path, "version: 1\nlistener: []\n").unwrap();
    let said = output(&path, &[]);
    assert_eq!(said.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&said.stderr).contains("did you mean"), "{said:?}");
    assert_eq!(output(&path, &["--json", "--session"]).status.code(), Some(2));
    for host in ["https://gate.example:8443", "gate.example:8443", "a gate", ""] {
        let said = output(&root().join("config/minimal.yaml"), &["--host", host]);
        assert_eq!(said.status.code(), Some(2), "{host}");
        assert!(String::from_utf8_lossy(&said.stderr).contains("without a scheme"), "{said:?}");
    }
}

/// The flags as they are printed, with the client's own files in place of CLIENT, over both fallbacks and SSH that fails.
#[tokio::test(flavor = "multi_thread")]
async fn the_client_takes_the_flags_that_are_printed() {
    if !ascp::is_here() {
        return;
    }
    let mut sandbox = Plan::new().ports("tcp: 1, udp: 1").start().await;
    let node = sandbox.nodes.remove(0);
    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    // Taken together, so that they differ, and free a moment later.
    let ports = [free(), free(), free()].map(|listener| listener.local_addr().unwrap().port());
    let listen = |name: &str, protocol: &str, port: u16, more: &str| {
        format!("  - {{name: {name}, protocol: {protocol}, address: '127.0.0.1:{port}', upstream: u{more}}}\n")
    };
    let text = format!(
        "version: 1\nlisteners:\n{}{}{}{}upstreams:\n  - {{name: u, nodes: [{{name: n1, host: 127.0.0.1, ports: {{http: {}, tcp: 1, udp: 1}}}}]}}\nadmin: {{address: '127.0.0.1:0'}}\n",
        listen("secure", "https", ports[0], ", tls: {cert_file: tls.crt, key_file: tls.key}"),
        listen("plain", "http", ports[1], ""),
        listen("control", "tcp", ports[2], ", banner_timeout: 1s"),
        listen("data", "udp", ports[2], ""),
        node.address().port()
    );
    let gateway = Process::with(&text, |dir| certificate(dir, "tls", &rcgen::PKCS_ECDSA_P256_SHA256)).await;
    let said = output(&gateway.dir().join("fallgate.yaml"), &["--json", "--host", "127.0.0.1"]);
    let all: Value = serde_json::from_slice(&said.stdout).unwrap();
    let home = tempfile::tempdir().unwrap();
    certificate(home.path(), "CLIENT", &rcgen::PKCS_ECDSA_P256_SHA256);
    let calls = all["ascp"].as_array().unwrap();
    assert_eq!(calls.len(), 3);
    for (i, call) in calls.iter().enumerate() {
        let name = format!("file {i}");
        std::fs::write(home.path().join(&name), name.repeat(1000)).unwrap();
        let mut command = Command::new(ascp::program().unwrap());
        command.env_clear().env("HOME", home.path()).env("ASPERA_SCP_TOKEN", crate::support::TOKEN);
        command.current_dir(home.path()).stdin(Stdio::null());
        command.args(call["flags"].as_array().unwrap().iter().map(|flag| flag.as_str().unwrap()));
        let mut child = command.args(["--user=xfer", "--mode=send", &name, "/"]).spawn().unwrap();
        let status = eventually("the end of the client", || child.try_wait().unwrap()).await;
        assert!(status.success(), "{call}");
        let there = sandbox.dir.path().join("n1/up").join(&name);
        assert_eq!(std::fs::read_to_string(there).unwrap(), name.repeat(1000));
    }
}
