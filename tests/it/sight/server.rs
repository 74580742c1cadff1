//! A Prometheus of our own: it reads one gateway every second, and does not outlive its test.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::Value;

use super::shipped;
use crate::support::{eventually, loopback};

/// The running server.
pub(super) struct Prometheus {
    child: Child,
    address: SocketAddr,
    dir: tempfile::TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus {
    /// With the config that is shipped, in front of this admin door.
    pub(super) async fn start(admin: SocketAddr) -> Prometheus {
        let mut dir = tempfile::tempdir().unwrap();
        let mut config = std::fs::read_to_string(shipped("prometheus/prometheus.yml")).unwrap();
        let rules = shipped("prometheus/fallgate.rules.yml");
        for (old, new) in [
            ("_interval: 15s", "_interval: 1s"),
            ("fallgate.rules.yml", rules.to_str().unwrap()),
            ("127.0.0.1:9180", &admin.to_string()),
        ] {
            assert!(config.contains(old), "{old}");
            config = config.replace(old, new);
        }
        std::fs::write(dir.path().join("prometheus.yml"), config).unwrap();
        // Somebody else may take the port in between; then it ends at once, and another one is tried.
        for _ in 0..5 {
            let address = TcpListener::bind(loopback(0)).unwrap().local_addr().unwrap();
            let child = spawn(dir.path(), address);
            let mut server = Prometheus { child, address, dir };
            let ready = eventually("a Prometheus that is ready, or gone", || {
                if server.child.try_wait().unwrap().is_some() {
                    return Some(false);
                }
                (get(server.address, "/-/ready")?.0 == 200).then_some(true)
            });
            if ready.await {
                return server;
            }
            let log = server.log();
            assert!(log.contains("address already in use"), "{log}");
            dir = std::mem::replace(&mut server.dir, tempfile::tempdir().unwrap());
        }
        panic!("no port is free");
    }

    /// What it has said.
    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    /// The samples that an expression has now, each with its labels; an error is a failure.
    pub(super) fn query(&self, expr: &str) -> Vec<(Value, f64)> {
        let data = self.api(&format!("query?query={}", encoded(expr)), expr);
        let number = |value: &Value| value[1].as_str().unwrap().parse::<f64>().unwrap();
        match data["resultType"].as_str() {
            Some("scalar") => vec![(Value::Null, number(&data["result"]))],
            Some("vector") => {
                let samples = data["result"].as_array().unwrap().iter();
                samples.map(|s| (s["metric"].clone(), number(&s["value"]))).collect()
            }
            other => panic!("{expr}: a result of type {other:?}"),
        }
    }

    /// The rules as it has understood them.
    pub(super) fn rules(&self) -> Vec<Value> {
        let groups = self.api("rules", "rules")["groups"].clone();
        groups.as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
    }

    fn api(&self, path: &str, what: &str) -> Value {
        let (status, body) = get(self.address, &format!("/api/v1/{path}")).expect("Prometheus answers");
        assert_eq!(status, 200, "{what}: {body}");
        let answer: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(answer["status"], "success", "{what}: {body}");
        assert!(answer["warnings"].is_null(), "{what}: {body}");
        answer["data"].clone()
    }
}

fn spawn(dir: &Path, address: SocketAddr) -> Child {
    let log = std::fs::File::create(dir.join("log")).unwrap();
    let mut command = Command::new("prometheus");
    command.arg("--config.file").arg(dir.join("prometheus.yml")).arg("--storage.tsdb.path").arg(dir.join("data"));
    command.arg(format!("--web.listen-address={address}")).current_dir(dir);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap()
}

/// Status and body; none where nobody answers. Of HTTP/1.0, so that the body has no chunks.
fn get(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

fn encoded(text: &str) -> String {
    text.bytes().map(|b| format!("%{b:02X}")).collect()
}
