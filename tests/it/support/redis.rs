//! A Redis of a test's own, on a free port.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::{eventually, loopback, ports, process::kill, programs};

/// A server; it keeps nothing when it ends, unless it is told to.
pub(crate) struct Redis {
    child: Child,
    options: Vec<String>,
    port: u16,
    dir: tempfile::TempDir,
    /// What its URL has before the host, and the host.
    login: &'static str,
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Redis {
    /// Whether there is one to be started.
    pub(crate) fn is_here() -> bool {
        programs::is_here("redis-server", &["--version"])
    }

    pub(crate) async fn start() -> Redis {
        Redis::with(|_| Vec::new()).await
    }

    /// With more options, which may name files in its folder.
    pub(crate) async fn with(options: impl FnOnce(&Path) -> Vec<String>) -> Redis {
        let dir = tempfile::tempdir().unwrap();
        let port = ports::lasting();
        let options = options(dir.path());
        let child = run(port, &options, dir.path());
        let redis = Redis { child, options, port, dir, login: "redis://127.0.0.1" };
        redis.listens().await;
        redis
    }

    async fn listens(&self) {
        eventually("a Redis", || TcpStream::connect(self.address()).ok()).await;
    }

    pub(crate) fn address(&self) -> SocketAddr {
        loopback(self.port)
    }

    pub(crate) fn url(&self) -> String {
        format!("{}:{}", self.login, self.port)
    }

    /// Named so in configs.
    pub(crate) fn named(mut self, login: &'static str) -> Redis {
        self.login = login;
        self
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// As SIGKILL does.
    pub(crate) fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// At the same place; empty, unless it keeps something.
    pub(crate) async fn again(&mut self) {
        self.child = run(self.port, &self.options, self.dir.path());
        self.listens().await;
    }

    /// It answers nobody.
    pub(crate) fn freeze(&self) {
        kill(self.child.id(), "STOP");
    }

    pub(crate) fn thaw(&self) {
        kill(self.child.id(), "CONT");
    }

    /// What it says to one command; its words hold no blanks.
    pub(crate) fn ask(&self, command: &str) -> String {
        let mut stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        said.trim_end_matches("+OK\r\n").to_owned()
    }
}

fn run(port: u16, options: &[String], dir: &Path) -> Child {
    let port = port.to_string();
    let has_port = options.iter().any(|option| option == "--tls-port");
    let mut command = Command::new("redis-server");
    if !has_port {
        command.args(["--port", &port]);
    }
    let options = options.iter().map(|option| option.replace("PORT", &port));
    command.args(["--bind", "127.0.0.1", "--save", "", "--dir"]).arg(dir).args(options);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}
