//! The real client: brought once, run with a deadline, and heard on its management port, which is
//! where its user reads what went wrong.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs::File,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use tokio::{io::AsyncReadExt, net::TcpListener, time::timeout};

use super::{Sandbox, TOKEN, certificate, loopback, programs, secrets};

/// No transfer of these tests takes longer than this, unless it hangs.
const DEADLINE: Duration = Duration::from_secs(60);

/// One run of the client, before it starts.
pub(crate) struct Ascp {
    program: &'static Path,
    tls: bool,
    token: OsString,
    /// Whom a proxy is told, and the password.
    login: Option<(&'static str, &'static str)>,
    mode: &'static str,
    fallback: &'static str,
    user: String,
    port: u16,
    deadline: Duration,
    options: Vec<OsString>,
    sources: Vec<OsString>,
    destination: OsString,
}

/// What the client's user sees of a run.
#[derive(Debug)]
pub(crate) struct Report {
    /// The exit code; `None` for a client that had to be killed.
    pub(crate) code: Option<i32>,
    /// The messages on the management port, as fields by name.
    pub(crate) messages: Vec<BTreeMap<String, String>>,
    pub(crate) console: String,
}

/// Kills its process, by its id, when a test ends before it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether the client is here, so that the test can run. Where it cannot be had the test is skipped,
/// and everybody is told; in CI that is a failure.
pub(crate) fn is_here() -> bool {
    program().is_some()
}

pub(crate) fn program() -> Option<&'static Path> {
    static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
    PROGRAM.get_or_init(|| programs::bring("tests/get-ascp")).as_deref()
}

impl Ascp {
    fn new(port: u16, tls: bool, mode: &'static str) -> Ascp {
        Ascp {
            program: program().unwrap(),
            tls,
            token: TOKEN.into(),
            login: None,
            mode,
            fallback: "F",
            user: "xfer".to_owned(),
            port,
            deadline: DEADLINE,
            options: Vec::new(),
            sources: Vec::new(),
            destination: "/".into(),
        }
    }

    /// An upload to this port.
    pub(crate) fn send(port: u16, tls: bool, sources: &[&Path]) -> Ascp {
        let sources = sources.iter().map(|s| s.as_os_str().to_owned()).collect();
        Ascp { sources, ..Ascp::new(port, tls, "send") }
    }

    /// A download from this port, into a folder that is there.
    pub(crate) fn receive(port: u16, tls: bool, sources: &[&str], destination: &Path) -> Ascp {
        let sources = sources.iter().map(|s| OsString::from(*s)).collect();
        Ascp { sources, destination: destination.into(), ..Ascp::new(port, tls, "recv") }
    }

    /// An upload through the listener `tls` or `plain`.
    pub(crate) async fn put(sandbox: &Sandbox, listener: &str, sources: &[&Path]) -> Ascp {
        Ascp::send(sandbox.address(listener).await.port(), listener == "tls", sources)
    }

    /// A download through the listener `tls` or `plain`, into a folder that is there.
    pub(crate) async fn get(sandbox: &Sandbox, listener: &str, sources: &[&str], destination: &Path) -> Ascp {
        Ascp::receive(sandbox.address(listener).await.port(), listener == "tls", sources, destination)
    }

    /// Not killed before this time is over.
    pub(crate) fn deadline(self, deadline: Duration) -> Ascp {
        Ascp { deadline, ..self }
    }

    /// Through a forward proxy.
    pub(crate) fn by_way_of(self, proxy: SocketAddr) -> Ascp {
        self.options(&["-x", &proxy.to_string()])
    }

    pub(crate) fn options(mut self, options: &[&str]) -> Ascp {
        self.options.extend(options.iter().map(OsString::from));
        self
    }

    pub(crate) fn option_path(mut self, option: &str, path: &Path) -> Ascp {
        let mut whole = OsString::from(option);
        whole.push(path);
        self.options.push(whole);
        self
    }

    /// `-y 1` instead of `-y F`: the client first tries SSH, at this port.
    pub(crate) fn after_ssh(mut self, port: u16) -> Ascp {
        self.fallback = "1";
        let port = port.to_string();
        self.options(&["-P", &port, "-O", &port])
    }

    /// `-y 0` instead of `-y F`: SSH at this port as this user, with this key, and the far program by its path.
    pub(crate) fn by_ssh(mut self, port: u16, user: String, key: &Path, far: &Path) -> Ascp {
        (self.fallback, self.user) = ("0", user);
        let port = port.to_string();
        self.options(&["-P", &port, "-O", &port]).option_path("-i", key).option_path("-S", far)
    }

    /// Past the listener, to this port.
    pub(crate) fn straight(mut self, port: u16) -> Ascp {
        self.port = port;
        self
    }

    /// Another token; none at all when it is empty.
    pub(crate) fn token(mut self, token: impl AsRef<OsStr>) -> Ascp {
        self.token = token.as_ref().to_owned();
        secrets::keep(self.token.as_encoded_bytes());
        self
    }

    /// With a user and a password for the proxy, as the environment has them.
    pub(crate) fn login(self, user: &'static str, password: &'static str) -> Ascp {
        secrets::keep_login(user, password);
        Ascp { login: Some((user, password)), ..self }
    }

    /// Runs it to its end, or kills it at the deadline.
    pub(crate) async fn run(self) -> Report {
        let home = tempfile::tempdir().unwrap();
        let console = home.path().join("console");
        let management = TcpListener::bind(loopback(0)).await.unwrap();
        let mut command = Command::new(self.program);
        command.env_clear().env("HOME", home.path()).current_dir(home.path()).stdin(Stdio::null());
        let out = File::create(&console).unwrap();
        command.stdout(out.try_clone().unwrap()).stderr(out);
        if !self.token.is_empty() {
            command.env("ASPERA_SCP_TOKEN", &self.token);
        }
        if let Some((user, password)) = self.login {
            command.env("ASPERA_SCP_PROXY_AUTH_USER", user).env("ASPERA_SCP_PROXY_AUTH_PASSWORD", password);
        }
        command.args(["-y", self.fallback, "-t", &self.port.to_string()]);
        command.args(["-M", &management.local_addr().unwrap().port().to_string()]);
        command.args([&format!("--mode={}", self.mode), &format!("--user={}", self.user), "--host=127.0.0.1"]);
        if self.tls {
            certificate(home.path(), "client", &rcgen::PKCS_ECDSA_P256_SHA256);
            command.arg("-I").arg(home.path().join("client.crt"));
            command.arg("-Y").arg(home.path().join("client.key"));
        } else {
            command.arg("-T");
        }
        command.args(self.options).args(self.sources).arg(self.destination);
        let messages = tokio::spawn(async move {
            let (mut connection, _) = management.accept().await?;
            let mut bytes = Vec::new();
            // A client that is killed may reset it.
            let _ = connection.read_to_end(&mut bytes).await;
            std::io::Result::Ok(bytes)
        });
        let status = wait(Running(command.spawn().unwrap()), self.deadline).await;
        let bytes = timeout(Duration::from_secs(5), messages).await.expect("no management connection");
        Report {
            code: status.and_then(|s| s.code()),
            messages: parse(&String::from_utf8_lossy(&bytes.unwrap().unwrap())),
            console: String::from_utf8_lossy(&std::fs::read(&console).unwrap()).into_owned(),
        }
    }
}

/// The exit status, or nothing when the deadline came first.
async fn wait(mut running: Running, deadline: Duration) -> Option<ExitStatus> {
    let start = Instant::now();
    loop {
        if let Some(status) = running.0.try_wait().unwrap() {
            return Some(status);
        }
        if start.elapsed() > deadline {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Blocks of `Name: value` lines, each begun by a line with the protocol's name and its version.
fn parse(text: &str) -> Vec<BTreeMap<String, String>> {
    let field = |line: &str| line.split_once(": ").map(|(n, v)| (n.to_owned(), v.to_owned()));
    text.split("FASPMGR 2\n").skip(1).map(|block| block.lines().filter_map(field).collect()).collect()
}

impl Report {
    pub(crate) fn is_ok(&self) -> bool {
        self.code == Some(0) && self.error().is_none()
    }

    /// Code and text of the error that ended the session.
    pub(crate) fn error(&self) -> Option<(u32, &str)> {
        let error = self.of("ERROR").next_back()?;
        Some((error.get("Code")?.parse().ok()?, error.get("Description")?))
    }

    /// The files that the client called done, by their names on its own side.
    pub(crate) fn done(&self) -> impl Iterator<Item = &Path> {
        self.of("STOP").filter_map(|message| message.get("File")).map(Path::new)
    }

    /// The messages of a type.
    pub(crate) fn of<'a>(&'a self, kind: &'a str) -> impl DoubleEndedIterator<Item = &'a BTreeMap<String, String>> {
        self.messages.iter().filter(move |m| m.get("Type").is_some_and(|t| t == kind))
    }

    /// Panics unless the client said that all went well.
    #[track_caller]
    pub(crate) fn must_be_ok(&self, what: &str) {
        let files: Vec<_> = self.of("FILEERROR").collect();
        assert!(self.is_ok(), "{what}: exit {:?}, {:?}, {}{files:?}", self.code, self.error(), self.console);
    }

    /// Panics unless the client gave up with this code; its text is what the user reads.
    #[track_caller]
    pub(crate) fn must_fail(&self, what: &str, code: u32, text: &str) {
        assert_eq!((self.code, self.error()), (Some(1), Some((code, text))), "{what}: {}", self.console);
    }
}
