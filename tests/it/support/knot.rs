//! A real name server, Knot DNS, with one zone that a test changes.

use std::{
    net::{SocketAddr, TcpListener, UdpSocket},
    path::Path,
    process::{Child, Command, Stdio},
};

use super::{eventually, loopback, process::kill, programs};

/// The zone; names in records are relative to it.
const ZONE: &str = "nodes.test";

/// The server; it ends when this drops.
pub(crate) struct Knot {
    child: Option<Child>,
    port: u16,
    serial: u32,
    dir: tempfile::TempDir,
}

impl Drop for Knot {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Knot {
    /// With these records; none where there is no such server.
    pub(crate) async fn start(records: &str) -> Option<Knot> {
        if !programs::is_here("/usr/sbin/knotd", &["--version"]) {
            return None;
        }
        let mut knot = Knot { child: None, port: free_port(), serial: 0, dir: tempfile::tempdir().unwrap() };
        knot.write(records);
        knot.run().await;
        Some(knot)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        loopback(self.port)
    }

    /// It has these records from now on; who asks hears of it soon.
    pub(crate) fn set(&mut self, records: &str) {
        self.write(records);
        kill(self.child.as_ref().unwrap().id(), "HUP");
    }

    /// It is away.
    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// It answers, as before.
    pub(crate) async fn run(&mut self) {
        let dir = self.dir.path();
        let at = dir.display();
        let text = format!(
            "server:\n  listen: 127.0.0.1@{}\n  rundir: {at}\n  pidfile: {at}/pid\ncontrol:\n  listen: {at}/control\ndatabase:\n  storage: {at}\nlog:\n  - target: stderr\n    any: warning\nzone:\n  - domain: {ZONE}\n    storage: {at}\n    file: zone\n    zonefile-load: whole\n    journal-content: none\n    semantic-checks: soft\n",
            self.port
        );
        let config = dir.join("knot.conf");
        std::fs::write(&config, text).unwrap();
        self.child = Some(serve(&config, &dir.join("log")));
        eventually("the name server", || answers(self.port).then_some(())).await;
    }

    fn write(&mut self, records: &str) {
        self.serial += 1;
        let head = format!(
            "$ORIGIN {ZONE}.\n$TTL 1\n@ SOA ns host {} 3600 600 86400 1\n@ NS ns\nns A 127.0.0.1\n",
            self.serial
        );
        // Whole at once, for it may just be read.
        let (new, file) = (self.dir.path().join("new"), self.dir.path().join("zone"));
        std::fs::write(&new, head + records + "\n").unwrap();
        std::fs::rename(new, file).unwrap();
    }
}

fn serve(config: &Path, log: &Path) -> Child {
    let log = std::fs::File::create(log).unwrap();
    let mut command = Command::new("/usr/sbin/knotd");
    command.arg("-c").arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap()
}

/// Whether the server knows the zone: it says who has it.
fn answers(port: u16) -> bool {
    let socket = UdpSocket::bind(loopback(0)).unwrap();
    socket.set_read_timeout(Some(std::time::Duration::from_millis(200))).unwrap();
    let query = b"\x00\x07\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x05nodes\x04test\x00\x00\x06\x00\x01";
    let mut answer = [0; 512];
    let heard = socket.send_to(query, loopback(port)).and_then(|_| socket.recv(&mut answer));
    heard.is_ok_and(|n| n > 12 && answer[3] & 0x0f == 0 && answer[7] == 1)
}

/// A port that is free for both TCP and UDP at this moment.
fn free_port() -> u16 {
    loop {
        let tcp = TcpListener::bind(loopback(0)).unwrap();
        let port = tcp.local_addr().unwrap().port();
        if UdpSocket::bind(loopback(port)).is_ok() {
            return port;
        }
    }
}
