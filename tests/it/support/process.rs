//! A gateway as a process of its own, whose memory and descriptors can be seen; it does not outlive its test.

use std::{
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use tokio::net::TcpStream;

use super::{Metrics, eventually, netns::Host, nominal::SOON};

/// The process, with the folder of its config and logs.
pub(crate) struct Process {
    child: Child,
    host: Option<Arc<Host>>,
    admin: SocketAddr,
    dir: tempfile::TempDir,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    /// On this machine.
    pub(crate) async fn start(config: &str) -> Process {
        Process::by(Command::new(env!("CARGO_BIN_EXE_fallgate")), None, config).await
    }

    /// On a host of its own.
    pub(crate) async fn on(host: &Arc<Host>, config: &str) -> Process {
        Process::by(host.command(env!("CARGO_BIN_EXE_fallgate")), Some(host.clone()), config).await
    }

    /// By a command that ends in the program's name.
    pub(crate) async fn by(mut command: Command, host: Option<Arc<Host>>, config: &str) -> Process {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("fallgate.yaml"), config).unwrap();
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        command.args(["run", "--config"]).arg(dir.path().join("fallgate.yaml")).env("NO_COLOR", "1");
        let child = command.stdin(Stdio::null()).stderr(log).spawn().unwrap();
        let mut process = Process { child, host, admin: SocketAddr::from(([0; 4], 0)), dir };
        process.admin = process.said("Admin is open.").await;
        process
    }

    /// Where a listener listens.
    pub(crate) async fn address(&self, listener: &str) -> SocketAddr {
        self.said(&format!("listener=\"{listener}\"")).await
    }

    async fn said(&self, what: &str) -> SocketAddr {
        eventually(what, || {
            let text = self.log();
            let line = text.lines().find(|line| line.contains(what) && line.contains("address="))?;
            line.split("address=").nth(1)?.split(' ').next()?.parse().ok()
        })
        .await
    }

    /// All it has said.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    /// The memory that it has, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/statm", self.child.id())).unwrap();
        text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
    }

    /// Its open descriptors.
    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    pub(crate) async fn metrics(&self) -> Metrics {
        let stream = match &self.host {
            Some(host) => host.connect(self.admin).unwrap(),
            None => TcpStream::connect(self.admin).await.unwrap(),
        };
        Metrics::over(stream).await
    }

    pub(crate) async fn until(&self, family: &str, labels: &[(&str, &str)], value: f64) {
        crate::support::until(|| self.metrics(), (family, labels), value, 4 * SOON).await;
    }
}
