//! A full disk, and logs that nobody reads.

use std::{
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use fallgate::node::NodeOptions;

use super::{config, count, node, readiness, session};
use crate::support::{Metrics, Wire, disk::Disk, eventually, process::Process, secrets, uuid, wire::end};

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_costs_records_and_no_session_and_is_told_until_there_is_room() {
    let Some(disk) = Disk::new() else { return };
    let (node, _dir) = node(NodeOptions::default()).await;
    let log = disk.path().join("access.log");
    let top = format!("access_log: {{path: '{}'}}", log.display());
    let process = Process::start(&config(("127.0.0.1", node.address().port()), "", &top)).await;
    let host = process.address("plain").await;
    session(host).await;
    readiness(process.admin(), (200, "ok\n")).await;
    disk.fill();
    // What is left of its last page still takes some.
    let mut sessions = 1;
    while count(&process, "access_log_dropped_total").await < 3.0 {
        session(host).await;
        sessions += 1;
        assert!(sessions < 100, "the disk is never full");
    }
    readiness(process.admin(), (200, "ok\ndegraded: access_log\n")).await;
    disk.free();
    session(host).await;
    readiness(process.admin(), (200, "ok\n")).await;
    let text = std::fs::read_to_string(&log).unwrap();
    let whole = text.lines().filter(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()).count();
    let lost = count(&process, "access_log_dropped_total").await;
    assert_eq!(whole as f64 + lost, f64::from(sessions + 1), "{text}");
    assert!(text.lines().count() <= whole + 1, "at most one is torn");
    let said = process.log();
    assert_eq!(said.matches("The access log cannot be written").count(), 1, "{said}");
    eventually("the end is told", || process.log().contains("The access log is written again.").then_some(())).await;
}

/// Each refusal is told.
const TALK: &str = "log: {level: debug}\nlimits: {requests_per_client: off}";

/// A process whose output goes into pipes.
struct Piped {
    child: Child,
    admin: SocketAddr,
    plain: SocketAddr,
    log: Option<BufReader<std::process::ChildStderr>>,
    _dir: tempfile::TempDir,
}

impl Drop for Piped {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Piped {
    fn start(config: &str) -> Piped {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fallgate.yaml");
        std::fs::write(&path, config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_fallgate"));
        command.args(["run", "--config"]).arg(path).env("NO_COLOR", "1").stdin(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut address = |what: &str| {
            let mut line = String::new();
            while !line.contains(what) {
                line.clear();
                assert!(log.read_line(&mut line).unwrap() > 0, "it ended");
            }
            line.split("address=").nth(1).unwrap().split_whitespace().next().unwrap().parse().unwrap()
        };
        let (plain, admin) = (address("listener=\"plain\""), address("Admin is open."));
        Piped { child, admin, plain, log: Some(log), _dir: dir }
    }

    async fn count(&self, family: &str) -> f64 {
        Metrics::scrape(self.admin).await.sum(family, &[])
    }

    /// Refusals, each of which is told, until some line was dropped.
    async fn talk(&self, family: &str) {
        for round in 0.. {
            for _ in 0..500 {
                let reply = Wire::plain(self.plain).await.ask(&end(self.plain, &uuid(), "DONE")).await;
                assert_eq!(reply.word(), "unknown_session");
            }
            if self.count(family).await > 0.0 {
                return;
            }
            assert!(round < 40, "nothing is ever dropped");
        }
    }

    /// It ends by itself, and well.
    async fn ends(&mut self) {
        assert!(Command::new("kill").arg(self.child.id().to_string()).status().unwrap().success());
        let child = &mut self.child;
        assert!(eventually("its end", || child.try_wait().unwrap()).await.success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_nobody_reads_holds_up_neither_sessions_nor_the_end() {
    let (node, _dir) = node(NodeOptions::default()).await;
    let text = config(("127.0.0.1", node.address().port()), "", &format!("{TALK}\naccess_log: {{path: stderr}}"));
    let mut process = Piped::start(&text);
    process.talk("log_dropped_total").await;
    session(process.plain).await;
    readiness(process.admin, (200, "ok\n")).await;
    process.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_read_again_says_how_much_is_missing() {
    let (node, _dir) = node(NodeOptions::default()).await;
    let text = config(("127.0.0.1", node.address().port()), "", &format!("{TALK}\naccess_log: {{path: 'off'}}"));
    let mut process = Piped::start(&text);
    process.talk("log_dropped_total").await;
    let mut log = process.log.take().unwrap();
    let read = std::thread::spawn(move || {
        let mut text = String::new();
        while !text.contains("The log could not keep up; lines were dropped. lines=") {
            assert!(log.read_line(&mut text).unwrap() > 0, "it is never told");
        }
        secrets::none_in("a log", text.as_bytes());
        log
    });
    eventually("how much is missing", || read.is_finished().then_some(())).await;
    let mut log = read.join().unwrap();
    let rest = std::thread::spawn(move || log.read_to_end(&mut Vec::new()));
    process.ends().await;
    rest.join().unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_whose_reader_is_gone_cost_no_session() {
    let (node, _dir) = node(NodeOptions::default()).await;
    let text = config(("127.0.0.1", node.address().port()), "", "log: {level: debug}");
    let mut process = Piped::start(&text);
    drop((process.log.take(), process.child.stdout.take()));
    for _ in 0..5 {
        session(process.plain).await;
    }
    crate::support::until(
        || Metrics::scrape(process.admin),
        ("access_log_dropped_total", &[]),
        5.0,
        std::time::Duration::from_secs(20),
    )
    .await;
    readiness(process.admin, (200, "ok\ndegraded: access_log\n")).await;
    process.ends().await;
}
