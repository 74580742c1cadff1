//! As many half-open handshakes as the gateway takes connections by default, against a process of its own.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use fallgate::node::{Node, NodeOptions};
use tokio::{io::AsyncWriteExt, net::TcpStream, task::JoinSet};

use crate::support::{
    Metrics, TOKEN, Wire, certificate, eventually, loopback, noise, sweep, tls, uuid,
    wire::{end, put, start, start_body},
};

const MANY: usize = 10_000;
const HANDSHAKE: Duration = Duration::from_secs(6);
/// What a connection that has said next to nothing may cost, in bytes.
const MEMORY: u64 = 32 * 1024;

/// A gateway as a process; it does not outlive its test.
struct Process {
    child: Child,
    dir: PathBuf,
    tls: SocketAddr,
    plain: SocketAddr,
    admin: SocketAddr,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !std::thread::panicking() {
            sweep::files(&self.dir);
        }
    }
}

impl Process {
    async fn start(dir: &Path, node: SocketAddr) -> Process {
        certificate(dir, "tls", &rcgen::PKCS_ECDSA_P256_SHA256);
        let text = format!(
            "version: 1\nlisteners:\n  - {{name: tls, protocol: https, address: '127.0.0.1:0', upstream: u, tls: {{cert_file: tls.crt, key_file: tls.key}}}}\n  - {{name: plain, protocol: http, address: '127.0.0.1:0', upstream: u}}\nupstreams:\n  - {{name: u, nodes: [{{name: n1, host: {}, ports: {{http: {}}}}}]}}\naccess_log: {{path: access.log}}\nadmin: {{address: '127.0.0.1:0'}}\nlimits: {{max_connections: {}, max_connections_per_client: off}}\ntimeouts: {{tls_handshake: {}s}}\n",
            node.ip(),
            node.port(),
            MANY + 2_000,
            HANDSHAKE.as_secs()
        );
        std::fs::write(dir.join("fallgate.yaml"), text).unwrap();
        let log = std::fs::File::create(dir.join("log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_fallgate"))
            .args(["run", "--config"])
            .arg(dir.join("fallgate.yaml"))
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut process =
            Process { child, dir: dir.to_owned(), tls: loopback(0), plain: loopback(0), admin: loopback(0) };
        let said = |what: &str| {
            let text = std::fs::read_to_string(dir.join("log")).unwrap();
            let line = text.lines().find(|line| line.contains(what))?;
            line.split("address=").nth(1)?.split(' ').next()?.parse::<SocketAddr>().ok()
        };
        process.admin = eventually("its addresses", || said("Admin is open.")).await;
        process.tls = eventually("the listener tls", || said("listener=\"tls\"")).await;
        process.plain = eventually("the listener plain", || said("listener=\"plain\"")).await;
        process
    }

    /// The memory that it has, in bytes.
    fn memory(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/statm", self.child.id())).unwrap();
        text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
    }

    async fn count(&self, family: &str, labels: &[(&str, &str)]) -> f64 {
        Metrics::scrape(self.admin).await.sum(family, labels)
    }

    async fn until(&self, family: &str, labels: &[(&str, &str)], value: f64) {
        crate::support::until(|| Metrics::scrape(self.admin), (family, labels), value, HANDSHAKE * 3).await;
    }

    /// A real session goes through on both listeners, each in no more than two seconds.
    async fn works(&self) {
        for (listener, host) in [("tls", self.tls), ("plain", self.plain)] {
            let (begin, id) = (Instant::now(), uuid());
            let mut wire = if listener == "tls" { Wire::tls(host, tls()).await } else { Wire::plain(host).await };
            for (request, status) in [
                (start(host, &id, &start_body(&id, "put", TOKEN.as_bytes(), &[])), 200),
                (put(host, &id, "a", &noise(100_000, 1)), 201),
                (end(host, &id, "DONE"), 200),
            ] {
                assert_eq!(wire.ask(&request).await.status, status, "{listener}");
            }
            assert!(begin.elapsed() < Duration::from_secs(2), "{listener}: {:?}", begin.elapsed());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_handshakes_that_stop_halfway_are_gone_in_time_cost_little_and_harm_nobody() {
    let files = rlimit::increase_nofile_limit(u64::MAX).unwrap();
    let needed = MANY as u64 + 500;
    assert!(files >= needed, "this test needs {needed} open files and may have {files}: raise the hard limit");
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(loopback(0), NodeOptions { root: dir.path().into(), ..NodeOptions::default() });
    let node = node.await.unwrap();
    let gateway = Process::start(dir.path(), node.address()).await;
    gateway.works().await;
    gateway.until("connections_active", &[], 0.0).await;
    let (before, begin) = (gateway.memory(), Instant::now());

    let mut opening = JoinSet::new();
    for share in 0..100 {
        let host = gateway.tls;
        opening.spawn(async move {
            let mut held = Vec::new();
            for i in 0..MANY / 100 {
                let mut tcp = TcpStream::connect(host).await.unwrap();
                // Nothing, the beginning of a record, or all of a record but its end.
                let some: &[u8] = [&b""[..], b"\x16\x03", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"][(i + share) % 3];
                tcp.write_all(some).await.unwrap();
                held.push(tcp);
            }
            held
        });
    }
    let held = opening.join_all().await;
    gateway.until("connections_active", &[("listener", "tls")], MANY as f64).await;
    let each = gateway.memory().saturating_sub(before) / MANY as u64;
    assert!(each <= MEMORY, "{each} bytes for each connection");
    gateway.works().await;
    let left = gateway.count("connections_active", &[("listener", "tls")]).await;
    assert!(left >= MANY as f64, "the session was served among {left} of them");

    gateway.until("connections_active", &[], 0.0).await;
    assert!(begin.elapsed() < HANDSHAKE * 2, "gone after {:?}", begin.elapsed());
    assert_eq!(gateway.count("refusals_total", &[("reason", "tls_timeout")]).await, MANY as f64);
    assert_eq!(gateway.count("refusals_total", &[("reason", "too_many_connections")]).await, 0.0);
    gateway.works().await;
    drop(held);
}
