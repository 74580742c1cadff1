//! Upgrades that come to nothing, and configs that have changed meanwhile.

use std::{
    io::{Read, Write},
    os::{
        fd::AsFd,
        unix::{fs::PermissionsExt, net::UnixStream},
    },
    path::Path,
    process::Command,
};

use fallgate::node::{Node, NodeOptions};
use tokio::net::TcpStream;

use super::{Client, Plan};
use crate::support::{
    eventually, loopback,
    nominal::{self, Peer, ask, client},
    process::Process,
    wire::put,
};

/// How often an upgrade has come to nothing.
async fn failed(gateway: &Process, times: usize) {
    let failures = || gateway.log().matches("No other process has taken over; nothing has changed.").count();
    eventually("a failure", || (failures() >= times).then_some(())).await;
    assert_eq!(failures(), times, "{}", gateway.log());
}

/// A program that starts the gateway, or does what the file `mode` beside it says instead.
fn program(dir: &Path) -> Command {
    let path = dir.join("program");
    let script = format!(
        "#!/bin/bash\ncase \"$(cat '{0}/mode' 2>/dev/null)\" in\nleaves) exit 1 ;;\ndies) sleep 0.3; kill -9 $$ ;;\nwaits) while :; do sleep 0.1; done ;;\nhalf) FALLGATE_HALF_NEWCOMER=1 exec '{1}' --exact upgrade::failing::a_newcomer_is_ready_and_goes ;;\nesac\nexec -a \"$0\" '{2}' \"$@\"\n",
        dir.display(),
        std::env::current_exe().unwrap().display(),
        env!("CARGO_BIN_EXE_fallgate")
    );
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    Command::new(path)
}

/// The new process of another test: it says that it is ready, hears what there is, and ends before its doors are open.
#[test]
fn a_newcomer_is_ready_and_goes() {
    if std::env::var_os("FALLGATE_HALF_NEWCOMER").is_none() {
        return;
    }
    let mut passage = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned().unwrap());
    let mut hear = || {
        let mut lengths = [0; 8];
        passage.read_exact(&mut lengths).unwrap();
        let mut text = vec![0; u32::from_be_bytes(lengths[..4].try_into().unwrap()) as usize];
        passage.read_exact(&mut text).unwrap();
        // Its descriptors are lost, each batch of them with a byte.
        let files = u32::from_be_bytes(lengths[4..].try_into().unwrap()) as usize;
        passage.read_exact(&mut vec![0; files.div_ceil(128)]).unwrap();
        serde_json::from_slice::<serde_json::Value>(&text).unwrap()
    };
    let hello = hear();
    let names: Vec<_> = hello["listeners"].as_array().unwrap().iter().map(|open| open["name"].clone()).collect();
    let ready = serde_json::json!({"Ready": names}).to_string();
    let head = [(ready.len() as u32).to_be_bytes(), [0; 4]].concat();
    (&passage).write_all(&[head, ready.into_bytes()].concat()).unwrap();
    let mut lengths = [0; 8];
    (&passage).read_exact(&mut lengths).unwrap();
    std::process::exit(0);
}

/// A gateway whose upgrades go wrong, with a session and a flow that go on all the time.
struct Sound {
    gateway: Process,
    node: Node,
    peer: Peer,
    client: Client,
    flow: tokio::net::UdpSocket,
    control: (TcpStream, String),
    files: tempfile::TempDir,
}

impl Sound {
    fn config(node: &Node, peer: &Peer) -> String {
        format!(
            "version: 1\nlisteners:\n  - {{name: plain, protocol: http, address: '127.0.0.1:0', upstream: u}}\n  - {{name: control, protocol: tcp, address: '127.0.0.1:0', upstream: v}}\n  - {{name: data, protocol: udp, address: '127.0.0.1:0', upstream: v, workers: 2}}\nupstreams:\n  - {{name: u, nodes: [{{name: n1, host: 127.0.0.1, ports: {{http: {}}}}}]}}\n  - {{name: v, nodes: [{{name: m1, host: 127.0.0.1, ports: {{tcp: {}, udp: {}}}}}]}}\naccess_log: {{path: access.log}}\nadmin: {{address: '127.0.0.1:0'}}\n",
            node.address().port(),
            peer.tcp.port(),
            peer.udp.port()
        )
    }

    async fn start() -> Sound {
        let files = tempfile::tempdir().unwrap();
        let root = files.path().to_owned();
        let node = Node::start(loopback(0), NodeOptions { root, ..NodeOptions::default() }).await.unwrap();
        let peer = Peer::start("m").await;
        let gateway = Process::by(program(files.path()), None, &Sound::config(&node, &peer)).await;
        let client = Client::begin(gateway.address("plain").await).await;
        let control = nominal::control("127.0.0.1", gateway.address("control").await).await.unwrap();
        let flow = self::client("127.0.0.1", gateway.address("data").await).await;
        Sound { gateway, node, peer, client, flow, control, files }
    }

    fn mode(&self, mode: &str) {
        std::fs::write(self.files.path().join("mode"), mode).unwrap();
    }

    /// All goes on, on the paths that it had.
    async fn is_sound(&self) {
        assert_eq!(self.client.put("a", b"x").await, 201);
        assert_eq!(ask(&self.flow, b"x").await.unwrap(), b"mx");
        assert_eq!(self.peer.seen.lock().unwrap().len(), 1);
        let other = Client::begin(self.client.host).await;
        assert_eq!(other.end().await, 200);
        drop(nominal::control("127.0.0.1", self.gateway.address("control").await).await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_config_changes_nothing_and_all_its_problems_are_told_by_both_processes() {
    let place = Sound::start().await;
    let good = Sound::config(&place.node, &place.peer);
    place.gateway.write(&good.replace("workers: 2", "workers: 0, colour: red").replace("upstream: u}", "upstream: w}"));
    place.gateway.signal("USR2");
    failed(&place.gateway, 1).await;
    let log = place.gateway.log();
    let told = log.lines().filter(|line| line.contains("colour") || line.contains("workers")).count();
    assert!(told > 1, "{log}");
    let says = log.split("the new process says").nth(1).unwrap();
    for problem in ["colour", "w"] {
        assert!(says.contains(problem), "{problem}: {says}");
    }
    place.is_sound().await;
    assert_eq!(place.gateway.alive(), [place.gateway.first()]);
    place.gateway.write(&good);
    let new = place.gateway.upgrade().await;
    place.is_sound().await;
    assert_eq!(place.client.end().await, 200);
    drop(place.control.0);
    place.gateway.only(&[new]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_without_the_node_that_a_session_is_on_is_not_taken_over_to_until_that_is_over() {
    let place = Sound::start().await;
    place.gateway.write(&Sound::config(&place.node, &place.peer).replace("name: n1", "name: other"));
    place.gateway.signal("USR2");
    failed(&place.gateway, 1).await;
    assert!(place.gateway.log().contains("a session is on node n1"), "{}", place.gateway.log());
    place.is_sound().await;
    assert_eq!(place.client.end().await, 200);
    let new = place.gateway.upgrade().await;
    let other = Client::begin(place.client.host).await;
    assert_eq!((other.put("b", b"x").await, other.end().await), (201, 200));
    drop(place.control.0);
    place.gateway.only(&[new]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_an_upgrade_that_is_under_way_and_drains() {
    let place = Sound::start().await;
    place.mode("waits");
    place.gateway.signal("USR2");
    eventually("a new process", || (place.gateway.alive().len() == 2).then_some(())).await;
    place.gateway.signal("TERM");
    failed(&place.gateway, 1).await;
    place.gateway.only(&[place.gateway.first()]).await;
    let late = Client { host: place.client.host, id: crate::support::uuid() };
    assert_eq!(late.ask(&late.start()).await.word(), "draining");
    assert_eq!((place.client.put("a", b"x").await, place.client.end().await), (201, 200));
    drop((place.control.0, place.flow));
    eventually("the end", || place.gateway.log().contains("Stopped.").then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_process_that_dies_whenever_it_may_be_leaves_the_old_one_as_it_was() {
    let place = Sound::start().await;
    assert_eq!(ask(&place.flow, b"x").await.unwrap(), b"mx");
    for (n, mode) in ["leaves", "dies", "half", "half"].iter().enumerate() {
        place.mode(mode);
        place.gateway.signal("USR2");
        failed(&place.gateway, n + 1).await;
        place.is_sound().await;
        let children = format!("/proc/{0}/task/{0}/children", place.gateway.first());
        assert_eq!(std::fs::read_to_string(children).unwrap_or_default(), "", "{mode}: it is no zombie");
    }
    let descriptors = place.gateway.descriptors();
    place.gateway.signal("USR2");
    failed(&place.gateway, 5).await;
    place.is_sound().await;
    eventually("its descriptors", || (place.gateway.descriptors() <= descriptors).then_some(())).await;
    place.mode("");
    let new = place.gateway.upgrade().await;
    place.is_sound().await;
    assert_eq!(place.client.end().await, 200);
    drop(place.control.0);
    place.gateway.only(&[new]).await;
    place.gateway.until("node_sessions", &[], 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_descriptors_to_share_flows_there_is_no_upgrade_and_no_node_sees_another_port() {
    const FLOWS: usize = 90;
    let peer = Peer::start("m").await;
    let data = ", gate: off, workers: 2";
    let text = nominal::config(&[(peer.tcp.port(), peer.udp.port())], "127.0.0.1:0", data, "");
    // Enough for each flow, and too few for each of them twice.
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -n 160; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_fallgate")]);
    let gateway = Process::by(shell, None, &text).await;
    let to = gateway.address("data").await;
    let mut flows = Vec::new();
    for _ in 0..FLOWS {
        flows.push(client("127.0.0.2", to).await);
    }
    for n in 0..3 {
        for flow in &flows {
            assert_eq!(ask(flow, b"x").await.unwrap(), b"mx", "{n}");
        }
        let seen = peer.seen.lock().unwrap().len();
        assert_eq!((seen, gateway.alive()), (FLOWS, vec![gateway.first()]), "{n}");
        if n < 2 {
            gateway.signal("USR2");
            failed(&gateway, n + 1).await;
        }
    }
    assert!(gateway.log().contains("Too many open files"), "{}", gateway.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_goes_serves_its_sessions_to_their_end_one_that_comes_opens_and_a_renamed_one_stays() {
    let files = tempfile::tempdir().unwrap();
    let root = files.path().to_owned();
    let node = Node::start(loopback(0), NodeOptions { root, ..NodeOptions::default() }).await.unwrap();
    // On an address of their own, where nobody takes ports by chance.
    let free = || std::net::TcpListener::bind("127.77.0.1:0").unwrap();
    let ports = [free(), free(), free()].map(|socket| socket.local_addr().unwrap().port());
    let listener = |name: &str, port: u16| {
        format!("  - {{name: {name}, protocol: http, address: '127.77.0.1:{port}', upstream: u}}\n")
    };
    let config = |listeners: &[String]| {
        let text = super::config(&Plan::default(), &[node.address()]);
        text.replace("upstreams:", &format!("{}upstreams:", listeners.concat()))
    };
    let gateway = Process::start(&config(&[listener("goes", ports[0]), listener("before", ports[1])])).await;
    let at = |port: u16| std::net::SocketAddr::from(([127, 77, 0, 1], port));
    let (going, renamed) = (Client::begin(at(ports[0])).await, Client::begin(at(ports[1])).await);
    gateway.write(&config(&[listener("comes", ports[2]), listener("after", ports[1])]));
    let (old, new) = (gateway.first(), gateway.upgrade().await);
    let coming = Client::begin(at(ports[2])).await;
    assert_eq!((coming.put("a", b"x").await, coming.end().await), (201, 200));
    assert_eq!((renamed.put("b", b"x").await, renamed.end().await), (201, 200));
    // Longer than the old process keeps what nothing holds there.
    for _ in 0..3 {
        crate::support::peer::pause(std::time::Duration::from_millis(300)).await;
        assert_eq!(going.put("c", b"x").await, 201);
    }
    let late = Client { host: at(ports[0]), id: crate::support::uuid() };
    assert_eq!(late.ask(&late.start()).await.word(), "draining");
    assert_eq!(gateway.alive(), [old, new]);
    assert_eq!(going.end().await, 200);
    gateway.only(&[new]).await;
    assert!(TcpStream::connect(at(ports[0])).await.is_err());
    assert_eq!(going.ask_late(ports[1]).await, "unknown_session");
    let records = gateway.records(4).await;
    let of_going = records.iter().find(|record| record["listener"] == "goes" && record["outcome"] == "done").unwrap();
    assert_eq!((&of_going["files"], &of_going["requests"]), (&3.into(), &5.into()), "{records:?}");
}

impl Client {
    /// The word that its session meets at another port once it is over.
    async fn ask_late(&self, port: u16) -> String {
        let host = std::net::SocketAddr::from(([127, 77, 0, 1], port));
        let other = Client { host, id: self.id.clone() };
        other.ask(&put(host, &self.id, "late", b"x")).await.word().to_owned()
    }
}
