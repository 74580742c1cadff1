//! The gateway with the configs of the manifests: they pass its check, it starts with them, and it answers the probes.

#[path = "../../it/support/dns.rs"]
mod dns;

use std::{
    fs::File,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::Value;

use crate::support::{eventually, loopback};

use super::{
    TO_FILL_IN,
    rendered::{everything, items, kustomized},
};

/// What is looked up to find the nodes.
const RECORDS: &str = "_tcp._tcp.transfer-nodes.${POD_NAMESPACE}.svc.cluster.local";

/// A config as a pod has it, in a folder: files there, with a certificate, ports that are free on this machine, and a
/// name server on it.
fn placed(text: &str, dir: &Path, name_server: SocketAddr) -> String {
    let made = rcgen::generate_simple_self_signed(["transfer.example.com".to_owned()]).unwrap();
    std::fs::write(dir.join("tls.crt"), made.cert.pem()).unwrap();
    std::fs::write(dir.join("tls.key"), made.signing_key.serialize_pem()).unwrap();
    std::fs::write(dir.join("password"), "correct horse battery staple").unwrap();
    let dir = dir.to_str().unwrap();
    let text =
        text.replace("/etc/fallgate/tls", dir).replace("/etc/fallgate/redis", dir).replace("/var/lib/fallgate", dir);
    let text = format!("{text}resolver: {{ servers: [\"{name_server}\"] }}\n");
    let mut parts = text.split("\"0.0.0.0:");
    let mut out = parts.next().unwrap().to_owned();
    for part in parts {
        out += "\"127.0.0.1:0";
        out += part.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    out
}

/// What `fallgate check` says of a config, and whether it is good.
fn checked(text: &str) -> (bool, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fallgate.yaml");
    std::fs::write(&path, placed(text, dir.path(), loopback(53))).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_fallgate"));
    command.env("POD_NAMESPACE", "fallgate");
    let said = command.args(["check", "--config", path.to_str().unwrap()]).stdin(Stdio::null()).output().unwrap();
    (said.status.success(), String::from_utf8(said.stderr).unwrap())
}

#[test]
fn every_config_passes_the_check() {
    let Some(all) = everything() else { return };
    for (name, rendered) in all.iter().filter(|(name, _)| name != "site") {
        assert_eq!(rendered.texts.len(), 1, "{name}");
        let (is_good, said) = checked(&rendered.texts[0]);
        assert!(is_good, "{name}: {said}");
    }
}

#[test]
fn what_a_site_has_left_to_fill_in_the_check_names() {
    assert!(TO_FILL_IN.contains(&"site"));
    let Some(site) = kustomized("site") else { return };
    let text = &site.texts[0];
    let (is_good, said) = checked(text);
    assert!(!is_good);
    for node in ["n1", "n2"] {
        assert!(said.contains(&format!("upstreams[transfer].nodes[{node}].host: \"<the name or address")), "{said}");
    }
    assert!(said.contains("2 problems"), "{said}");
    let filled: String = text
        .split('<')
        .enumerate()
        .map(|(index, part)| match index {
            0 => part.to_owned(),
            _ => format!("10.1.0.{index}{}", part.split_once('>').unwrap().1),
        })
        .collect();
    let (is_good, said) = checked(&filled);
    assert!(is_good, "{said}");
}

struct Gateway {
    child: Child,
    dir: tempfile::TempDir,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Gateway {
    fn start(config: &str, name_server: SocketAddr) -> Gateway {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fallgate.yaml");
        std::fs::write(&path, placed(config, dir.path(), name_server)).unwrap();
        let log = File::create(dir.path().join("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_fallgate"));
        command.env("POD_NAMESPACE", "fallgate");
        command.args(["run", "--config", path.to_str().unwrap()]).stdin(Stdio::null()).stdout(Stdio::null());
        Gateway { child: command.stderr(log).env("NO_COLOR", "1").spawn().unwrap(), dir }
    }

    async fn admin(&self) -> SocketAddr {
        eventually("the admin door", || {
            let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap();
            let line = log.lines().find(|line| line.contains("Admin is open."))?;
            line.split("address=").nth(1)?.trim().parse().ok()
        })
        .await
    }
}

/// The status of an answer to a probe, as the kubelet asks: by the pod's address.
fn probe(admin: SocketAddr, path: &str) -> u16 {
    let mut stream = TcpStream::connect_timeout(&admin, Duration::from_secs(3)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

fn path<'a>(container: &'a Value, kind: &str) -> &'a str {
    let asked = &container[kind]["httpGet"];
    let ports = items(&container["ports"]);
    assert!(ports.iter().any(|port| port["name"] == asked["port"] && port["containerPort"] == 9180), "{kind}");
    asked["path"].as_str().unwrap()
}

#[tokio::test]
async fn probes_are_answered_and_a_pod_that_drains_stays_ready_for_its_data() {
    let Some(base) = kustomized("base") else { return };
    let container = &base.pod()["containers"][0];
    // Addresses stand for the records that the cluster has of the nodes.
    let names = dns::Dns::start(|_, _| vec![Ipv4Addr::LOCALHOST.into()]).await;
    let config = base.texts[0].replace(RECORDS, "nodes.test");
    assert_ne!(config, base.texts[0]);
    let mut gateway = Gateway::start(&config, names.address);
    let admin = gateway.admin().await;
    let [startup, ready, live] = ["startupProbe", "readinessProbe", "livenessProbe"].map(|kind| path(container, kind));
    eventually("the start of the pod", || (probe(admin, startup) == 200).then_some(())).await;
    assert_eq!((probe(admin, ready), probe(admin, live)), (200, 200));

    let told = Command::new("kill").args(["-TERM", &gateway.child.id().to_string()]).status().unwrap();
    assert!(told.success());
    eventually("the drain", || (probe(admin, "/readyz") == 503).then_some(())).await;
    assert_eq!((probe(admin, ready), probe(admin, live)), (200, 200), "kube-proxy would cut its flows");
    assert!(gateway.child.try_wait().unwrap().is_none());
}

#[test]
fn who_waits_for_a_pod_to_start_gives_its_nodes_the_time_to_come_and_be_checked() {
    let Some(base) = kustomized("base") else { return };
    let startup = &base.pod()["containers"][0]["startupProbe"];
    let patience = startup["periodSeconds"].as_u64().unwrap() * startup["failureThreshold"].as_u64().unwrap();
    assert!(patience >= 600, "{patience} s");
}
