//! A gateway that is killed, and what the next one makes of what it left: sockets that a manager holds, and a file.

use std::{
    net::{SocketAddr, TcpListener},
    process::{Command, Stdio},
};

use fallgate::{
    node::{Node, NodeOptions},
    shared::{
        SessionState,
        file::{Bounds, FileStore},
    },
};
use serde_json::Value;

use crate::support::{
    TOKEN, Wire, eventually, loopback,
    programs::is_here,
    secrets,
    supervisor::Supervisor,
    uuid,
    wire::{Reply, end, put, start, start_body},
};

const BOUNDS: Bounds = Bounds { max_sessions: 100, max_pins: 100 };
const KEPT: &str = "state: {file: state}";

/// Two nodes, and a manager that holds the sockets of a gateway in front of them.
pub(crate) struct Stage {
    pub(crate) manager: Supervisor,
    pub(crate) nodes: Vec<Node>,
    pub(crate) plain: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) root: tempfile::TempDir,
}

impl Stage {
    /// None where there is no manager.
    pub(crate) async fn new() -> Option<Stage> {
        if !is_here("python3", &["--version"]) {
            return None;
        }
        let (root, mut nodes) = (tempfile::tempdir().unwrap(), Vec::new());
        for name in ["n1", "n2"] {
            let root = root.path().join(name);
            std::fs::create_dir(&root).unwrap();
            nodes.push(Node::start(loopback(0), NodeOptions { root, ..NodeOptions::default() }).await.unwrap());
        }
        let mut manager = Supervisor::new();
        let (plain, admin) = (manager.tcp("plain"), manager.tcp("admin"));
        Some(Stage { manager, nodes, plain, admin, root })
    }

    /// The config, with keys of the listener in flow form, and lines of top-level keys.
    pub(crate) fn config(&self, listener: &str, top: &str) -> String {
        let port = |i: usize| self.nodes[i].address().port();
        format!(
            "version: 1\nlisteners:\n  - {{name: plain, protocol: http, address: '{}', upstream: u{listener}}}\nupstreams:\n  - name: u\n    balance: round_robin\n    nodes:\n      - {{name: n1, host: 127.0.0.1, ports: {{http: {}, tcp: 9, udp: 9}}}}\n      - {{name: n2, host: 127.0.0.1, ports: {{http: {}, tcp: 9, udp: 9}}}}\naccess_log: {{path: access.log}}\nadmin: {{address: '{}'}}\n{top}\n",
            self.plain,
            port(0),
            port(1),
            self.admin
        )
    }

    /// Starts the gateway, and waits until it serves.
    pub(crate) async fn run(&mut self, config: &str) {
        self.manager.run(config);
        self.manager.hears("READY=1").await;
    }

    /// What the file holds, as the next process would find it.
    pub(crate) fn saved(&self) -> Vec<SessionState> {
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("state");
        if std::fs::copy(self.manager.dir().join("state"), &copy).is_err() {
            return Vec::new();
        }
        FileStore::open(&copy, BOUNDS).map(|(_, saved)| saved.sessions).unwrap_or_default()
    }

    pub(crate) async fn until_saved(&self, count: usize) {
        eventually("the sessions in the file", || (self.saved().len() == count).then_some(())).await;
    }

    /// Begins a session on a connection.
    pub(crate) async fn begin(&self, wire: &mut Wire) -> (String, Reply) {
        let id = uuid();
        let reply = wire.ask(&start(self.plain, &id, &start_body(&id, "put", TOKEN.as_bytes(), &[]))).await;
        (id, reply)
    }

    /// A session between two requests.
    pub(crate) async fn session(&self) -> String {
        let (id, reply) = self.begin(&mut Wire::plain(self.plain).await).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        assert_eq!(self.put(&id, "a").await.status, 201);
        id
    }

    pub(crate) async fn put(&self, id: &str, name: &str) -> Reply {
        Wire::plain(self.plain).await.ask(&put(self.plain, id, name, b"content")).await
    }

    pub(crate) async fn end(&self, id: &str) -> Reply {
        Wire::plain(self.plain).await.ask(&end(self.plain, id, "DONE")).await
    }

    /// The one node that has requests of a session.
    fn node_of(&self, id: &str) -> usize {
        let has = |node: &Node| node.log().iter().any(|seen| seen.session == id);
        let all: Vec<_> = (0..self.nodes.len()).filter(|i| has(&self.nodes[*i])).collect();
        assert_eq!(all.len(), 1, "one session is on one node");
        all[0]
    }

    /// The log, once this is in it.
    async fn told(&self, what: &str) -> String {
        eventually(what, || Some(self.manager.log()).filter(|log| log.contains(what))).await
    }

    pub(crate) async fn records(&self, count: usize) -> Vec<Value> {
        let path = self.manager.dir().join("access.log");
        eventually("the records", || {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let all: Vec<_> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            (all.len() >= count).then_some(all)
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_between_two_requests_go_on_after_a_kill_and_who_connects_meanwhile_is_served() {
    let Some(mut stage) = Stage::new().await else { return };
    let config = stage.config("", KEPT);
    stage.run(&config).await;
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(stage.session().await);
    }
    stage.until_saved(4).await;
    for (round, over) in [("b", 1), ("c", 2)] {
        stage.manager.kill();
        let (mut goes_on, mut is_new, new) = (Wire::plain(stage.plain).await, Wire::plain(stage.plain).await, uuid());
        goes_on.send(&put(stage.plain, &ids[0], round, b"content")).await;
        is_new.send(&start(stage.plain, &new, &start_body(&new, "put", TOKEN.as_bytes(), &[]))).await;
        stage.run(&config).await;
        assert_eq!((goes_on.head().await.status, is_new.head().await.status), (201, 200));
        for id in &ids[1..] {
            assert_eq!(stage.put(id, round).await.status, 201);
        }
        assert_eq!(stage.end(&new).await.status, 200);
        stage.records(over).await;
        // Or the next process finds it, for what has just ended is not yet written.
        stage.until_saved(4).await;
    }
    let homes: Vec<_> = ids.iter().map(|id| stage.node_of(id)).collect();
    assert_eq!(homes, [0, 1, 0, 1]);
    for id in &ids {
        assert_eq!(stage.end(id).await.status, 200);
    }
    let records = stage.records(6).await;
    assert!(records.len() == 6 && records.iter().all(|record| record["outcome"] == "done"), "{records:?}");
    let mut nodes: Vec<_> = records[2..].iter().map(|record| record["node"].as_str().unwrap()).collect();
    nodes.sort_unstable();
    assert_eq!(nodes, ["n1", "n1", "n2", "n2"]);
    stage.until_saved(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_client_kept_its_connection_is_over_and_the_next_one_meets_its_files() {
    let Some(mut stage) = Stage::new().await else { return };
    let config = stage.config(", persistent_connection: force", KEPT);
    stage.run(&config).await;
    let mut other = Wire::plain(stage.plain).await;
    let (first, _) = stage.begin(&mut other).await;
    let mut wire = Wire::plain(stage.plain).await;
    let (id, reply) = stage.begin(&mut wire).await;
    assert_eq!(reply.status, 200);
    assert_eq!(wire.ask(&put(stage.plain, &id, "a", b"content")).await.status, 201);
    assert_eq!(other.ask(&end(stage.plain, &first, "DONE")).await.status, 200);
    assert_eq!((stage.node_of(&first), stage.node_of(&id)), (0, 1));
    let is_known = || matches!(&stage.saved()[..], [saved] if saved.node == "n2").then_some(());
    eventually("the session in the file", is_known).await;
    stage.manager.kill();
    stage.run(&config).await;
    stage.until_saved(0).await;
    assert_eq!(stage.put(&id, "b").await.word(), "unknown_session");
    // By turns it would be the first node.
    let mut wire = Wire::plain(stage.plain).await;
    let (again, _) = stage.begin(&mut wire).await;
    assert_eq!(stage.node_of(&again), 1);
    stage.told("alive=0 lost=1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_file_nothing_is_remembered() {
    let Some(mut stage) = Stage::new().await else { return };
    let config = stage.config("", "");
    stage.run(&config).await;
    let id = stage.session().await;
    stage.manager.kill();
    stage.run(&config).await;
    assert_eq!(stage.put(&id, "b").await.word(), "unknown_session");
    assert!(!stage.manager.dir().join("state").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_damaged_is_moved_aside_and_told_once() {
    let Some(mut stage) = Stage::new().await else { return };
    let config = stage.config("", KEPT);
    stage.run(&config).await;
    let id = stage.session().await;
    stage.until_saved(1).await;
    stage.manager.kill();
    std::fs::write(stage.manager.dir().join("state"), "no state at all").unwrap();
    stage.run(&config).await;
    assert_eq!(stage.put(&id, "b").await.word(), "unknown_session");
    stage.session().await;
    stage.until_saved(1).await;
    assert!(stage.manager.dir().join("state.corrupt").exists());
    let log = stage.told("state.corrupt").await;
    assert_eq!(log.lines().filter(|line| line.contains("state.corrupt")).count(), 1, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_another_process_has_is_no_file_to_start_with() {
    let Some(mut stage) = Stage::new().await else { return };
    let config = stage.config("", KEPT);
    stage.run(&config).await;
    let path = stage.manager.dir().join("other.yaml");
    std::fs::write(&path, config.replace(&stage.plain.to_string(), "127.0.0.1:0")).unwrap();
    let mut second = Command::new(env!("CARGO_BIN_EXE_fallgate"));
    let said = second.args(["run", "--config"]).arg(&path).stdin(Stdio::null()).output().unwrap();
    secrets::none_in("a log", &said.stderr);
    let told = String::from_utf8_lossy(&said.stderr).into_owned();
    assert_eq!(said.status.code(), Some(1), "{told}");
    let state = stage.manager.dir().join("state");
    assert!(told.contains(&format!("state.file: cannot open {}", state.display())), "{told}");
    stage.session().await;
    stage.until_saved(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_between_two_requests_at_the_deadline_of_a_drain_goes_on_after_the_restart() {
    let Some(mut stage) = Stage::new().await else { return };
    let config = stage.config("", &format!("{KEPT}\ntimeouts: {{drain: 300ms}}"));
    stage.run(&config).await;
    let (id, done) = (stage.session().await, stage.session().await);
    stage.until_saved(2).await;
    assert_eq!((stage.put(&id, "a").await.status, stage.end(&done).await.status), (201, 200));
    stage.manager.signal("TERM");
    stage.manager.hears("STOPPING=1").await;
    assert!(stage.manager.ended().await);
    assert_eq!(stage.saved().len(), 1, "what was over is not in the file");
    stage.run(&config).await;
    assert_eq!((stage.put(&id, "b").await.status, stage.end(&id).await.status), (201, 200));
    let records = stage.records(2).await;
    assert_eq!((records.len(), &records[1]["files"], &records[1]["outcome"]), (2, &3.into(), &"done".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_goes_over_at_an_upgrade_and_a_kill_after_it_loses_nothing() {
    let Some(mut stage) = Stage::new().await else { return };
    let config = stage.config("", KEPT);
    stage.run(&config).await;
    let before = stage.session().await;
    let old = stage.manager.pid();
    stage.manager.signal("USR2");
    stage.manager.hears("MAINPID=").await;
    assert_ne!(stage.manager.pid(), old);
    let after = stage.session().await;
    stage.until_saved(2).await;
    stage.manager.kill();
    stage.run(&config).await;
    for id in [&before, &after] {
        assert_eq!(stage.put(id, "b").await.status, 201);
        assert_eq!(stage.end(id).await.status, 200);
    }
    stage.until_saved(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_sockets_take_data_as_the_manager_holds_and_what_no_listener_has_is_closed() {
    let Some(mut stage) = Stage::new().await else { return };
    let (data, stray) = (stage.manager.udp("data", 3), stage.manager.tcp("stray"));
    let more = format!("}}\n  - {{name: data, protocol: udp, workers: 2, gate: off, address: '{data}', upstream: u");
    let config = stage.config(&more, "");
    stage.run(&config).await;
    let tasks = format!("/proc/{}/task", stage.manager.pid());
    eventually("a thread for each socket", || {
        let tasks = std::fs::read_dir(&tasks).unwrap().flatten();
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
        (names.filter(|name| name.trim_end() == "data-data").count() == 3).then_some(())
    })
    .await;
    let log = stage.told("Listening.").await;
    let closed: Vec<_> = log.lines().filter(|line| line.contains("is closed")).collect();
    assert!(closed.len() == 1 && closed[0].contains(&stray.to_string()), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wildcard_of_both_families_serves_the_listener_of_ipv4_at_its_port() {
    let Some(mut stage) = Stage::new().await else { return };
    let Ok(both) = TcpListener::bind("[::]:0") else {
        eprintln!("SKIPPED: there is no IPv6 here");
        return;
    };
    let port = both.local_addr().unwrap().port();
    stage.manager.hold("8443", both);
    let config = stage.config("", "").replace(&stage.plain.to_string(), &format!("0.0.0.0:{port}"));
    stage.plain = loopback(port);
    stage.run(&config).await;
    let id = stage.session().await;
    assert_eq!(stage.end(&id).await.status, 200);
    let records = stage.records(1).await;
    assert_eq!(records[0]["client"], "127.0.0.1", "{records:?}");
}
