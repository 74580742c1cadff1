//! A real SSH server of the test's own: own port, own keys, gone when it drops.

use std::{
    ffi::OsString,
    fs,
    io::Write as _,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::OnceLock,
    time::Duration,
};

use tokio::time::timeout;

use crate::support::{eventually, loopback};

/// No program of these tests takes longer than this, unless it hangs.
const DEADLINE: Duration = Duration::from_secs(120);

/// What must be there, and whether it is. Where it is not the tests are skipped, and everybody is told; in CI that is a
/// failure.
pub(super) fn is_here() -> bool {
    static HERE: OnceLock<bool> = OnceLock::new();
    *HERE.get_or_init(|| {
        let wanted = ["sshd", "ssh", "scp", "sftp", "ssh-keygen"];
        let missing: Vec<_> = wanted.into_iter().filter(|name| find(name).is_none()).collect();
        assert!(missing.is_empty() || std::env::var_os("CI").is_none(), "not there: {}", missing.join(", "));
        if !missing.is_empty() {
            // Past the test runner, which would swallow it.
            let what = missing.join(", ");
            let _ = writeln!(std::io::stderr(), "\nSKIPPED: all tests with OpenSSH, for there is no {what}\n");
        }
        missing.is_empty()
    })
}

/// A program, also where only the superuser looks.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from);
    let folders: Vec<_> = std::env::split_paths(&path).chain(system).collect();
    folders.into_iter().map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// A running server.
pub(super) struct Sshd {
    _running: Running,
    pub(super) address: SocketAddr,
    dir: tempfile::TempDir,
}

/// Kills its process, by its id.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Sshd {
    /// Starts it. Its one key logs in as the user who runs the tests.
    pub(super) async fn start() -> Sshd {
        let dir = tempfile::tempdir().unwrap();
        for name in ["host", "key"] {
            let mut command = Command::new(find("ssh-keygen").unwrap());
            // The transfer client knows no younger kind of key, nor of file.
            command.args(["-q", "-t", "rsa", "-b", "2048", "-m", "PEM", "-N", "", "-f"]).arg(dir.path().join(name));
            assert!(command.status().unwrap().success());
        }
        fs::copy(dir.path().join("key.pub"), dir.path().join("authorized")).unwrap();
        // Asked for by a server that the superuser starts; a service manager would have made it.
        let _ = fs::create_dir_all("/run/sshd");
        for _ in 0..5 {
            if let Some((_running, address)) = listen(dir.path()).await {
                return Sshd { _running, address, dir };
            }
        }
        panic!("no server: {}", fs::read_to_string(dir.path().join("log")).unwrap());
    }

    /// The key of its port in a node's `ports`.
    pub(super) fn port(&self) -> String {
        format!("tcp: {}", self.address.port())
    }

    /// The client's private key.
    pub(super) fn key(&self) -> PathBuf {
        self.dir.path().join("key")
    }

    /// A program of OpenSSH that connects to `to`; `port` is how it is told the port.
    pub(super) fn program(&self, name: &str, port: &str, to: SocketAddr) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(find(name).unwrap());
        command.args(["-F", "/dev/null", "-q", port, &to.port().to_string(), "-i"]).arg(self.key());
        for option in
            ["BatchMode=yes", "IdentitiesOnly=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null"]
        {
            command.args(["-o", option]);
        }
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// A command on the far side, run by `ssh` with these options.
    pub(super) async fn ssh(&self, to: SocketAddr, options: &[&str], command: &str) -> Output {
        let mut ssh = self.program("ssh", "-p", to);
        ssh.args(options).arg(format!("{}@127.0.0.1", user())).arg(command);
        run(ssh).await
    }
}

/// Runs a program to its end.
pub(super) async fn run(mut command: tokio::process::Command) -> Output {
    timeout(DEADLINE, command.output()).await.expect("it does not end").unwrap()
}

/// A server on a port that was free a moment ago; none if another has taken it since.
async fn listen(dir: &Path) -> Option<(Running, SocketAddr)> {
    let free = std::net::TcpListener::bind(loopback(0)).unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let mut command = Command::new(find("sshd").unwrap());
    command.args(["-D", "-e", "-f", "/dev/null", "-p", &address.port().to_string()]);
    let at = |key: &str, file: &str| {
        let mut option = OsString::from(format!("{key}="));
        option.push(dir.join(file));
        option
    };
    for option in [at("HostKey", "host"), at("AuthorizedKeysFile", "authorized")] {
        command.arg("-o").arg(option);
    }
    for option in [
        "ListenAddress=127.0.0.1",
        "UsePAM=no",
        "StrictModes=no",
        "PidFile=none",
        "PasswordAuthentication=no",
        "PermitRootLogin=yes",
        "MaxStartups=100",
        "HostKeyAlgorithms=+ssh-rsa",
        "PubkeyAcceptedAlgorithms=+ssh-rsa",
        "Subsystem=sftp internal-sftp",
    ] {
        command.args(["-o", option]);
    }
    let log = fs::File::create(dir.join("log")).unwrap();
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
    let mut running = Running(child);
    let listens = eventually("an SSH server", || {
        let has_ended = running.0.try_wait().unwrap().is_some();
        (has_ended || TcpStream::connect(address).is_ok()).then_some(!has_ended)
    });
    listens.await.then_some((running, address))
}

/// Who runs the tests.
pub(super) fn user() -> String {
    let said = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(said.stdout).unwrap().trim_end().to_owned()
}
