//! A service manager: it holds sockets, starts a program with them, hears how it goes, kills it and starts it again.
//!
//! It does as systemd does: the sockets are the program's descriptors from 3 on, its environment tells of them, and it
//! speaks to a socket of the manager's. Starting takes `python3`, for a process of this language cannot place
//! descriptors without unsafe code.

use std::{
    fs::File,
    io::IoSlice,
    mem::MaybeUninit,
    net::{SocketAddr, TcpListener, UdpSocket},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::{UnixDatagram, UnixStream},
    },
    path::Path,
    process::{Child, Command, Stdio},
};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use socket2::{Domain, Socket, Type};

use super::{eventually, loopback, secrets};

/// Takes descriptors from its standard input, places them, and becomes the program.
const STARTER: &str = r#"
import fcntl, os, socket, sys
way = socket.socket(fileno=0)
_, taken, _, _ = socket.recv_fds(way, 1, 250)
way.detach()
end = 3 + len(taken)
aside = [fcntl.fcntl(one, fcntl.F_DUPFD_CLOEXEC, end + 300) for one in taken]
for at, one in enumerate(aside):
    os.dup2(one, 3 + at)
os.closerange(end, end + 300)
os.dup2(os.open("/dev/null", os.O_RDWR), 0)
if aside:
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(aside)), LISTEN_FDNAMES=sys.argv[1])
os.execvp(sys.argv[2], sys.argv[2:])
"#;

/// The manager, with the folder of the program's output; neither program nor sockets outlive it.
pub(crate) struct Supervisor {
    dir: tempfile::TempDir,
    notify: UnixDatagram,
    /// Each with the name that the program is told.
    sockets: Vec<(String, OwnedFd)>,
    child: Option<Child>,
    /// The main process: that which was started, or which it has named since.
    main: u32,
    /// What the program said and nobody asked for yet.
    heard: Vec<String>,
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.kill();
        // Not the file of sessions, which is for its owner alone because it tells them.
        for name in ["log", "log.out", "access.log"].map(|name| self.dir.path().join(name)) {
            if !std::thread::panicking() {
                secrets::none_in("a log", std::fs::read(name).unwrap_or_default());
            }
        }
    }
}

impl Supervisor {
    /// One that holds no socket and has started nothing. Ask `is_here("python3", &["--version"])` first.
    pub(crate) fn new() -> Supervisor {
        let dir = tempfile::tempdir().unwrap();
        let notify = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        notify.set_nonblocking(true).unwrap();
        Supervisor { dir, notify, sockets: Vec::new(), child: None, main: 0, heard: Vec::new() }
    }

    /// Opens a socket that listens for connections, and returns where.
    pub(crate) fn tcp(&mut self, name: &str) -> SocketAddr {
        let listener = TcpListener::bind(loopback(0)).unwrap();
        let address = listener.local_addr().unwrap();
        self.hold(name, listener);
        address
    }

    /// Opens so many sockets for datagrams that share a port, and returns which.
    pub(crate) fn udp(&mut self, name: &str, count: usize) -> SocketAddr {
        let mut address = loopback(0);
        for _ in 0..count {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
            socket.set_reuse_port(true).unwrap();
            socket.bind(&address.into()).unwrap();
            let socket = UdpSocket::from(socket);
            address = socket.local_addr().unwrap();
            self.hold(name, socket);
        }
        address
    }

    /// Holds any other descriptor.
    pub(crate) fn hold(&mut self, name: &str, socket: impl Into<OwnedFd>) {
        self.sockets.push((name.to_owned(), socket.into()));
    }

    /// Starts a program with all of the sockets. Its arguments and environment are taken from `command`, and no more.
    pub(crate) fn start(&mut self, command: &Command) {
        assert!(self.child.is_none(), "the program runs");
        self.heard.clear();
        let names = self.sockets.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(":");
        let (ours, theirs) = UnixStream::pair().unwrap();
        let log = |name: &str| File::options().create(true).append(true).open(self.dir.path().join(name)).unwrap();
        let mut starter = Command::new("python3");
        starter.args(["-c", STARTER, &names]).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => starter.env(name, value),
                None => starter.env_remove(name),
            };
        }
        starter.env("NOTIFY_SOCKET", self.dir.path().join("notify")).stdin(OwnedFd::from(theirs));
        let child = starter.stdout(log("log.out")).stderr(log("log")).spawn().unwrap();
        self.main = child.id();
        self.child = Some(child);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(250))];
        let mut message = SendAncillaryBuffer::new(&mut space);
        let all: Vec<_> = self.sockets.iter().map(|(_, socket)| socket.as_fd()).collect();
        assert!(all.is_empty() || message.push(SendAncillaryMessage::ScmRights(&all)));
        sendmsg(ours.as_fd(), &[IoSlice::new(b"x")], &mut message, SendFlags::empty()).unwrap();
    }

    /// Starts `fallgate run` with a config.
    pub(crate) fn run(&mut self, config: &str) {
        let path = self.dir.path().join("fallgate.yaml");
        std::fs::write(&path, config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_fallgate"));
        self.start(command.args(["run", "--config"]).arg(path).env("NO_COLOR", "1"));
    }

    /// Waits until the program says a line that begins so, and returns it; what was said before it is forgotten.
    pub(crate) async fn hears(&mut self, what: &str) -> String {
        eventually(what, || {
            self.listen();
            let at = self.heard.iter().position(|line| line.starts_with(what))?;
            self.heard.drain(..=at).next_back()
        })
        .await
    }

    fn listen(&mut self) {
        let mut room = [0; 4096];
        while let Ok(n) = self.notify.recv(&mut room) {
            for line in String::from_utf8_lossy(&room[..n]).lines() {
                if let Some(pid) = line.strip_prefix("MAINPID=") {
                    self.main = pid.parse().unwrap();
                }
                self.heard.push(line.to_owned());
            }
        }
    }

    /// The main process, also after it has named another.
    pub(crate) fn pid(&mut self) -> u32 {
        self.listen();
        self.main
    }

    /// Sends the main process a signal, such as `HUP`.
    pub(crate) fn signal(&mut self, name: &str) {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// Ends the program with SIGKILL; the sockets stay open, and who connects waits for the next one.
    pub(crate) fn kill(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let main = self.pid();
        if main != child.id() {
            let _ = Command::new("kill").args(["-KILL", &main.to_string()]).stderr(Stdio::null()).status();
        }
        let _ = child.kill();
        let _ = child.wait();
    }

    /// Waits until the program that was started has ended by itself; whether it went well.
    pub(crate) async fn ended(&mut self) -> bool {
        let mut child = self.child.take().unwrap();
        eventually("the program's end", || child.try_wait().unwrap()).await.success()
    }

    /// All that the programs wrote to standard error.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    /// The folder of config and output.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }
}
