//! Hosts of a test: network namespaces, each with its own links and addresses, gone when they drop.

use std::{
    net::SocketAddr,
    os::unix::fs::MetadataExt,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

/// Hosts of this process so far: no two have the same name.
static HOSTS: AtomicU32 = AtomicU32::new(0);

/// One host.
pub(crate) struct Host {
    name: String,
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).output();
    }
}

impl Host {
    /// A host with nothing but a loopback. None where this system lets us make none, and everybody is told; in CI, and
    /// by root, that is a failure.
    pub(crate) fn new() -> Option<Arc<Host>> {
        let name = format!("fallgate-{}-{}", std::process::id(), HOSTS.fetch_add(1, Ordering::Relaxed));
        let made = Command::new("ip").args(["netns", "add", &name]).output();
        if !made.as_ref().is_ok_and(|output| output.status.success()) {
            let is_root = std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
            assert!(std::env::var_os("CI").is_none() || !is_root, "`ip netns add` must work here: {made:?}");
            eprintln!("SKIPPED: `ip netns add` does not work here (it takes root and iproute2)");
            return None;
        }
        let host = Arc::new(Host { name });
        host.ip("link set lo up");
        Some(host)
    }

    /// `ip` on this host.
    pub(crate) fn ip(&self, arguments: &str) {
        let output = Command::new("ip").args(["-n", &self.name]).args(arguments.split(' ')).output().unwrap();
        assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// A link from here to another host: `name` here and `eth0` there, x.1 and x.2 of two networks.
    pub(crate) fn link(&self, name: &str, other: &Host, v4: &str, v6: &str) {
        self.cable(name, other, "eth0");
        for (host, device, last) in [(self, name, 1), (other, "eth0", 2)] {
            host.ip(&format!("addr add {v4}.{last}/24 dev {device}"));
            host.ip(&format!("addr add {v6}::{last}/64 dev {device} nodad"));
            host.ip(&format!("link set {device} mtu 1500 up"));
        }
    }

    /// A cable from here to another host, `name` here and `far` there; down, and without addresses.
    pub(crate) fn cable(&self, name: &str, other: &Host, far: &str) {
        self.ip(&format!("link add {name} type veth peer name {far} netns {}", other.name));
    }

    /// A program on this host.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// The file that stands for its network.
    pub(crate) fn path(&self) -> String {
        format!("/run/netns/{}", self.name)
    }

    /// Opens a socket, which then belongs to this host wherever it is used.
    pub(crate) fn open<T: Send>(&self, open: impl FnOnce() -> T + Send) -> T {
        let space = std::fs::File::open(self.path()).unwrap();
        let enter = || move_into_link_name_space(std::os::fd::AsFd::as_fd(&space), Some(LinkNameSpaceType::Network));
        std::thread::scope(|scope| {
            let opening = scope.spawn(|| {
                enter().unwrap();
                open()
            });
            opening.join().unwrap()
        })
    }

    pub(crate) fn connect(&self, to: SocketAddr) -> std::io::Result<TcpStream> {
        let stream = self.open(|| std::net::TcpStream::connect_timeout(&to, Duration::from_secs(5)))?;
        stream.set_nonblocking(true)?;
        TcpStream::from_std(stream)
    }

    pub(crate) fn listen(&self, at: SocketAddr) -> TcpListener {
        let listener = self.open(|| std::net::TcpListener::bind(at)).unwrap();
        listener.set_nonblocking(true).unwrap();
        TcpListener::from_std(listener).unwrap()
    }

    pub(crate) fn udp(&self, at: SocketAddr) -> UdpSocket {
        let socket = self.open(|| std::net::UdpSocket::bind(at)).unwrap();
        socket.set_nonblocking(true).unwrap();
        UdpSocket::from_std(socket).unwrap()
    }
}
