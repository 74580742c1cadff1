//! A gateway as a process of its own, whose memory and descriptors can be seen; it does not outlive its test.

use std::{
    fs::File,
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use tokio::net::TcpStream;

use super::{Metrics, eventually, netns::Host, nominal::SOON, sweep};

/// The process, with the folder of its config and logs.
pub(crate) struct Process {
    child: Child,
    host: Option<Arc<Host>>,
    admin: SocketAddr,
    dir: tempfile::TempDir,
}

impl Drop for Process {
    fn drop(&mut self) {
        let is_good = !std::thread::panicking();
        let mut found = None;
        if is_good {
            let connect = |to| match &self.host {
                Some(host) => host.open(|| std::net::TcpStream::connect_timeout(&to, Duration::from_secs(1))),
                None => std::net::TcpStream::connect_timeout(&to, Duration::from_secs(1)),
            };
            found = sweep::answers(self.admin.port(), connect);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if is_good {
            assert!(found.is_none(), "a secret is told at the admin door: {found:?}");
            sweep::files(self.dir.path());
        }
    }
}

impl Process {
    /// On this machine.
    pub(crate) async fn start(config: &str) -> Process {
        Process::with(config, |_| ()).await
    }

    /// Files that are to lie beside the config are made by `fill`.
    pub(crate) async fn with(config: &str, fill: impl FnOnce(&Path)) -> Process {
        Process::made(Command::new(env!("CARGO_BIN_EXE_fallgate")), None, config, fill).await
    }

    /// On a host of its own.
    pub(crate) async fn on(host: &Arc<Host>, config: &str) -> Process {
        Process::by(host.command(env!("CARGO_BIN_EXE_fallgate")), Some(host.clone()), config).await
    }

    /// By a command that ends in the program's name.
    pub(crate) async fn by(command: Command, host: Option<Arc<Host>>, config: &str) -> Process {
        Process::made(command, host, config, |_| ()).await
    }

    async fn made(mut command: Command, host: Option<Arc<Host>>, config: &str, fill: impl FnOnce(&Path)) -> Process {
        let dir = tempfile::tempdir().unwrap();
        fill(dir.path());
        std::fs::write(dir.path().join("fallgate.yaml"), config).unwrap();
        let (log, out) =
            (File::create(dir.path().join("log")).unwrap(), File::create(dir.path().join("log.out")).unwrap());
        command.args(["run", "--config"]).arg(dir.path().join("fallgate.yaml")).env("NO_COLOR", "1");
        let child = command.stdin(Stdio::null()).stdout(out).stderr(log).spawn().unwrap();
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

    /// Where its admin door is.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// The folder of its config and logs.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Writes another config, and has it read.
    pub(crate) fn configure(&self, config: &str) {
        std::fs::write(self.dir.path().join("fallgate.yaml"), config).unwrap();
        self.signal("HUP");
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
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
