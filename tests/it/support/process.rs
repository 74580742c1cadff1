//! A gateway as a process of its own, whose memory and descriptors can be seen; neither it nor a process that took over
//! from it outlives its test.

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

/// What the log has of an upgrade, before the number of the process that took over.
const TAKEN_OVER: &str = "Another process has taken over. process=";

/// The process and those that took over from it, with the folder of their config and logs.
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
        self.end();
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
        let child = run(&mut command, dir.path());
        let mut process = Process { child, host, admin: SocketAddr::from(([0; 4], 0)), dir };
        process.admin = process.said("Admin is open.").await;
        process
    }

    fn end(&mut self) {
        // The newest first: none of them is to start or carry anything more.
        self.alive().into_iter().rev().for_each(|pid| kill(pid, "KILL"));
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Ends it as SIGKILL does, and starts it anew on this machine, with the config that there is now.
    pub(crate) async fn crash(&mut self) {
        self.end();
        let earlier = (1..).map(|n| self.dir.path().join(format!("log.{n}"))).find(|path| !path.exists());
        std::fs::rename(self.dir.path().join("log"), earlier.unwrap()).unwrap();
        self.child = run(&mut Command::new(env!("CARGO_BIN_EXE_fallgate")), self.dir.path());
        self.admin = self.said("Admin is open.").await;
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
        self.write(config);
        self.signal("HUP");
    }

    /// To the newest process.
    pub(crate) fn signal(&self, name: &str) {
        kill(self.newest(), name);
    }

    /// Has a new process take over; its number.
    pub(crate) async fn upgrade(&self) -> u32 {
        let before = self.successors().len();
        self.signal("USR2");
        eventually("another process", || self.successors().get(before).copied()).await
    }

    /// The process that serves: the first one, or the last that took over.
    pub(crate) fn newest(&self) -> u32 {
        self.successors().last().copied().unwrap_or_else(|| self.first())
    }

    /// The process that the test has started.
    pub(crate) fn first(&self) -> u32 {
        self.child.id()
    }

    /// Those that took over, one after the other.
    fn successors(&self) -> Vec<u32> {
        let log = self.log();
        let numbers = log.split(TAKEN_OVER).skip(1);
        numbers.filter_map(|rest| rest.split_once('\n')?.0.split(' ').next()?.parse().ok()).collect()
    }

    /// All processes of this config that live, the oldest first.
    pub(crate) fn alive(&self) -> Vec<u32> {
        let dir = self.dir.path().to_str().unwrap();
        let all = std::fs::read_dir("/proc").unwrap();
        let numbers = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
        let is_ours = |pid: &u32| {
            // What has ended has no command line any more, whoever has yet to hear of it.
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(dir)
        };
        let mut ours: Vec<_> = numbers.filter(is_ours).collect();
        ours.sort_unstable();
        ours
    }

    /// Waits until only these processes of the config live.
    pub(crate) async fn only(&self, pids: &[u32]) {
        eventually(&format!("the end of all but {pids:?}"), || (self.alive() == pids).then_some(())).await;
    }

    /// Writes another config, which nothing reads yet.
    pub(crate) fn write(&self, config: &str) {
        std::fs::write(self.dir.path().join("fallgate.yaml"), config).unwrap();
    }

    /// The lines of the access log so far, once there are at least `n`.
    pub(crate) async fn records(&self, n: usize) -> Vec<serde_json::Value> {
        eventually("access records", || {
            let text = std::fs::read_to_string(self.dir.path().join("access.log")).unwrap_or_default();
            let lines: Vec<_> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            (lines.len() >= n).then_some(lines)
        })
        .await
    }

    /// The memory that it has, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/statm", self.newest())).unwrap();
        text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
    }

    /// Its threads.
    pub(crate) fn threads(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/task", self.newest())).unwrap().count()
    }

    /// Its open descriptors.
    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.newest())).unwrap().count()
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

/// Runs it with the config in a folder, which gets what it says.
fn run(command: &mut Command, dir: &Path) -> Child {
    let (log, out) = (File::create(dir.join("log")).unwrap(), File::create(dir.join("log.out")).unwrap());
    command.args(["run", "--config"]).arg(dir.join("fallgate.yaml")).env("NO_COLOR", "1");
    command.stdin(Stdio::null()).stdout(out).stderr(log).spawn().unwrap()
}

/// Sends a signal to one process, which may have ended.
pub(crate) fn kill(pid: u32, signal: &str) {
    let _ =
        Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).stderr(Stdio::null()).status().unwrap();
}
