//! The units, and the sysctl file beside them.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::Path,
    process::Command,
    sync::Arc,
    time::Duration,
};

use crate::{
    machine::Machine,
    support::{eventually, netns::Host, node, programs::is_here, text, upload},
};

const UNITS: [&str; 3] = ["fallgate.service", "fallgate.socket", "fallgate-data.socket"];
/// Of ten; below it systemd calls a service's exposure small.
const MOST_EXPOSURE: f64 = 2.0;

/// The units in a folder, with a program that is there.
fn units() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in UNITS {
        let unit = text(&format!("deploy/systemd/{name}")).replace("/usr/bin/fallgate", env!("CARGO_BIN_EXE_fallgate"));
        fs::write(folder.path().join(name), unit).unwrap();
    }
    folder
}

/// What a unit says under a key, in its order.
fn of_unit(name: &str, key: &str) -> Vec<String> {
    let unit = text(&format!("deploy/systemd/{name}"));
    let all = unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    all.map(str::to_owned).collect()
}

#[test]
fn the_units_are_ones_that_systemd_understands() {
    if !is_here("systemd-analyze", &["--version"]) {
        return;
    }
    let folder = units();
    let all = UNITS.map(|name| folder.path().join(name));
    let verified = Command::new("systemd-analyze").args(["--man=no", "verify"]).args(all).output().unwrap();
    let told = String::from_utf8_lossy(&verified.stderr).into_owned();
    assert!(verified.status.success() && !told.contains("fallgate"), "{told}");
}

#[test]
fn the_service_is_hardly_exposed_by_the_measure_of_systemd() {
    if !is_here("systemd-analyze", &["--version"]) {
        return;
    }
    let folder = units();
    let mut command = Command::new("systemd-analyze");
    command.args(["security", "--offline=true", "--no-pager"]).arg(folder.path().join("fallgate.service"));
    let said = String::from_utf8(command.output().unwrap().stdout).unwrap();
    let level = said.split("Overall exposure level for fallgate.service: ").nth(1).unwrap();
    let level: f64 = level.split(' ').next().unwrap().parse().unwrap();
    assert!(level <= MOST_EXPOSURE, "{said}");
}

#[test]
fn the_socket_units_open_what_the_reference_config_listens_on() {
    let config: serde_json::Value = serde_saphyr::from_str(&text("config/fallgate.yaml")).unwrap();
    let listeners = config["listeners"].as_array().unwrap();
    let address = |name: &str| listeners.iter().find(|it| it["name"] == name).unwrap()["address"].as_str().unwrap();
    let wanted = ["fallback-https", "fallback-http", "control"].map(address);
    assert_eq!(of_unit("fallgate.socket", "ListenStream"), wanted);
    let data = of_unit("fallgate-data.socket", "ListenDatagram");
    assert!(data.len() > 1 && data.iter().all(|it| it == address("data")), "{data:?}");
    let size = listeners.iter().find(|it| it["name"] == "data").unwrap()["receive_buffer"].as_str().unwrap();
    for key in ["ReceiveBuffer", "SendBuffer"] {
        assert_eq!(of_unit("fallgate-data.socket", key), [size.trim_end_matches("iB")]);
    }
}

#[test]
fn the_kernel_knows_every_key_of_the_sysctl_file_and_it_has_room_for_the_defaults() {
    let file = text("deploy/systemd/60-fallgate.conf");
    let pairs = file.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(" = "));
    let all: Vec<_> = pairs.collect();
    for (key, _) in &all {
        assert!(Path::new("/proc/sys").join(key.replace('.', "/")).exists(), "{key}");
    }
    let of = |key: &str| all.iter().find(|(it, _)| *it == key).unwrap().1;
    for key in ["net.core.rmem_max", "net.core.wmem_max"] {
        assert!(of(key).parse::<u64>().unwrap() >= 4 << 20, "{key}");
    }
    // A connection for each of `max_connections`, a flow for each of `max_udp_flows`.
    let (first, last) = of("net.ipv4.ip_local_port_range").split_once(' ').unwrap();
    assert!(last.parse::<u32>().unwrap() - first.parse::<u32>().unwrap() > 10_000 + 20_000);
    assert_eq!(of("net.ipv4.ip_local_reserved_ports"), "33001-33020");
}

const CONFIG: &str = "version: 1
listeners:
  - { name: fallback-https, protocol: https, address: '0.0.0.0:8443', upstream: u, tls: { cert_file: tls.crt, key_file: tls.key } }
  - { name: fallback-http, protocol: http, address: '0.0.0.0:8080', upstream: u }
  - { name: control, protocol: tcp, address: '0.0.0.0:33001', upstream: u }
  - { name: data, protocol: udp, address: '0.0.0.0:33001', upstream: u }
  - { name: egress, protocol: forward_proxy, address: '127.0.0.1:3128', policy: p }
upstreams:
  - { name: u, nodes: [{ name: n1, host: 127.0.0.1, ports: { http: 18080, tcp: 18022, udp: 18022 } }] }
policies:
  - { name: p, allow: [{ hosts: [localhost] }], allow_private_addresses: [127.0.0.0/8, '::1/128'] }
state: { file: /var/lib/fallgate/state }
access_log: { path: /var/log/fallgate/access.log }
admin: { address: '127.0.0.1:9180', token_file: '${CREDENTIALS_DIRECTORY}/secret_admin.token' }
";

/// A node of the nominal path: it greets as SSH does, and every datagram comes back.
pub(crate) fn nominal(host: &Arc<Host>) {
    let at = SocketAddr::from(([127, 0, 0, 1], 18022));
    let (tcp, udp) = host.open(|| (TcpListener::bind(at).unwrap(), UdpSocket::bind(at).unwrap()));
    std::thread::spawn(move || {
        for mut stream in tcp.incoming().flatten() {
            let _ = stream.write_all(b"SSH-2.0-node\r\n");
            std::thread::spawn(move || stream.read_to_end(&mut Vec::new()));
        }
    });
    std::thread::spawn(move || {
        let mut room = [0; 2000];
        while let Ok((n, from)) = udp.recv_from(&mut room) {
            let _ = udp.send_to(&room[..n], from);
        }
    });
}

pub(crate) fn connect(machine: &Machine, port: u16) -> TcpStream {
    let stream = machine.host.open(|| TcpStream::connect(("127.0.0.1", port)).unwrap());
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

pub(crate) fn says(stream: &mut TcpStream) -> String {
    let mut room = [0; 500];
    let n = stream.read(&mut room).unwrap();
    String::from_utf8_lossy(&room[..n]).into_owned()
}

/// One transfer of each kind.
async fn transfers(machine: &Machine, files: &Path, round: u8) {
    let file = files.join(format!("sent-{round}"));
    fs::write(&file, vec![round; 2_000_000]).unwrap();
    let (certificate, key) = (files.join("tls.crt"), files.join("tls.key"));
    for (port, tls) in [(8080, None), (8443, Some((certificate.as_path(), key.as_path())))] {
        let there = files.join("up").join(file.file_name().unwrap());
        let _ = fs::remove_file(&there);
        upload(&machine.host, port, tls, &file);
        assert_eq!(fs::read(there).unwrap(), fs::read(&file).unwrap(), "{port}");
    }
    let mut control = connect(machine, 33001);
    assert_eq!(says(&mut control), "SSH-2.0-node\r\n");
    let data = machine.host.open(|| UdpSocket::bind("127.0.0.1:0").unwrap());
    data.connect("127.0.0.1:33001").unwrap();
    data.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let (mut sent, mut room) = (vec![round; 1400], [0; 2000]);
    data.send(&sent).unwrap();
    let n = data.recv(&mut room).unwrap();
    assert_eq!(room[..n], *std::mem::take(&mut sent));
    let mut tunnel = connect(machine, 3128);
    tunnel.write_all(b"CONNECT localhost:18022 HTTP/1.1\r\nHost: localhost:18022\r\n\r\n").unwrap();
    let mut heard = says(&mut tunnel);
    assert!(heard.starts_with("HTTP/1.1 200"), "{heard}");
    while !heard.ends_with("SSH-2.0-node\r\n") {
        heard += &says(&mut tunnel);
    }
}

#[tokio::test]
async fn in_its_sandbox_the_service_does_all_its_work_and_outlives_a_crash_and_an_upgrade() {
    let Some(machine) = Machine::with_package().await else { return };
    let files = tempfile::tempdir().unwrap();
    let _node = node(&machine.host, "127.0.0.1:18080", files.path());
    nominal(&machine.host);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    fs::write(files.path().join("tls.crt"), certificate.pem()).unwrap();
    fs::write(files.path().join("tls.key"), key.serialize_pem()).unwrap();
    for name in ["tls.crt", "tls.key"] {
        fs::copy(files.path().join(name), machine.path(&format!("/etc/fallgate/{name}"))).unwrap();
    }
    machine.ok(&["sh", "-c", "chgrp fallgate /etc/fallgate/tls.* && chmod 0640 /etc/fallgate/tls.*"]);
    fs::write(machine.path("/etc/fallgate/fallgate.yaml"), CONFIG).unwrap();
    let token = machine.path("/etc/fallgate/credentials/admin.token");
    fs::write(&token, "token-of-the-machine\n").unwrap();
    machine.ok(&["chmod", "0600", "/etc/fallgate/credentials/admin.token"]);

    machine.ok(&["systemctl", "start", "fallgate.socket", "fallgate-data.socket"]);
    machine.ok(&["systemctl", "start", "fallgate"]);
    eventually("the first checks", || machine.run(&["fallgate", "health", "--ready"]).0.then_some(())).await;
    for (name, wanted) in [("NoNewPrivs", "1"), ("Seccomp", "2"), ("CapBnd", "0000000000000000")] {
        assert_eq!(machine.of_process(name), wanted, "{name}");
    }
    transfers(&machine, files.path(), 1).await;

    // A crash: who connects before the next process is there waits for it.
    let first = machine.of_service("MainPID");
    machine.ok(&["systemctl", "kill", "--signal=KILL", "fallgate"]);
    assert_eq!(says(&mut connect(&machine, 33001)), "SSH-2.0-node\r\n");
    assert_eq!(machine.of_service("NRestarts"), "1");
    eventually("the first checks", || machine.run(&["fallgate", "health", "--ready"]).0.then_some(())).await;
    transfers(&machine, files.path(), 2).await;

    // An upgrade, as an operator asks for it; systemd follows the process that goes on.
    let second = machine.of_service("MainPID");
    let ask =
        "CREDENTIALS_DIRECTORY=/run/credentials/fallgate.service fallgate upgrade --config /etc/fallgate/fallgate.yaml";
    assert!(machine.ok(&["sh", "-c", ask]).contains("has taken over"));
    let third = eventually("another main process", || {
        let pid = machine.of_service("MainPID");
        (pid != second).then_some(pid)
    })
    .await;
    assert!(first != second && third != first);
    assert_eq!(machine.of_process("Seccomp"), "2");
    eventually("the first checks", || machine.run(&["fallgate", "health", "--ready"]).0.then_some(())).await;
    transfers(&machine, files.path(), 3).await;

    machine.ok(&["systemctl", "reload", "fallgate"]);
    // Until the config is read it is "reloading".
    eventually("the end of a reload", || (machine.of_service("ActiveState") == "active").then_some(())).await;

    // The process that has taken over is started again like the first one.
    eventually("the end of the process before", || (!machine.path(&format!("/proc/{second}")).exists()).then_some(()))
        .await;
    machine.ok(&["systemctl", "kill", "--signal=KILL", "fallgate"]);
    assert_eq!(says(&mut connect(&machine, 33001)), "SSH-2.0-node\r\n");
    assert_eq!(machine.of_service("NRestarts"), "2");
    machine.ok(&["systemctl", "stop", "fallgate.socket", "fallgate-data.socket", "fallgate.service"]);
    assert_eq!(machine.of_service("Result"), "success");
    // What the unit keeps from it, it does not miss.
    let journal = machine.journal();
    for trouble in ["Operation not permitted", "Permission denied", "is closed: no listener", "caps receive_buffer"] {
        assert!(!journal.contains(trouble), "{journal}");
    }
    let records = machine.ok(&["cat", "/var/log/fallgate/access.log"]);
    assert!(records.lines().count() >= 6, "{records}");
}
