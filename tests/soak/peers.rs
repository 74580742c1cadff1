//! What is compared: balancers that end TLS before the same two nodes, as an operator would set them up.

use std::{
    fs::{self, File},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tokio::time::sleep;

use crate::support::{certificate, loopback};

/// None takes longer to start or to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// HAProxy's name for itself, to which its next process hands its table.
const OWN_NAME: &str = "own";

/// Which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Fallgate,
    Haproxy,
    Nginx,
}

impl Kind {
    pub(crate) const ALL: [Kind; 3] = [Kind::Fallgate, Kind::Haproxy, Kind::Nginx];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Fallgate => "fallgate",
            Kind::Haproxy => "HAProxy",
            Kind::Nginx => "nginx",
        }
    }
}

/// A running balancer.
pub(crate) struct Peer {
    kind: Kind,
    child: Child,
    dir: PathBuf,
    /// That of clients, and one that HAProxy needs for itself.
    ports: [u16; 2],
    nodes: [u16; 2],
}

impl Peer {
    /// Starts it in a folder of its own, and waits until it takes connections.
    pub(crate) async fn start(kind: Kind, dir: &Path, ports: [u16; 2], nodes: [u16; 2]) -> Peer {
        fs::create_dir_all(dir).unwrap();
        certificate(dir, "tls", &rcgen::PKCS_ECDSA_P256_SHA256);
        let pem = ["tls.crt", "tls.key"].map(|name| fs::read_to_string(dir.join(name)).unwrap()).concat();
        fs::write(dir.join("tls.pem"), pem).unwrap();
        configure(kind, dir, ports, nodes, 0);
        let mut command = match kind {
            Kind::Fallgate => Command::new(env!("CARGO_BIN_EXE_fallgate")),
            Kind::Haproxy => Command::new("haproxy"),
            Kind::Nginx => Command::new("nginx"),
        };
        match kind {
            Kind::Fallgate => command.args(["run", "--config"]).arg(dir.join("config")),
            Kind::Haproxy => command.args(["-W", "-L", OWN_NAME, "-f"]).arg(dir.join("config")),
            Kind::Nginx => command.arg("-e").arg(dir.join("error.log")).arg("-c").arg(dir.join("config")),
        };
        let log = File::create(dir.join("log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", kind.name()));
        let peer = Peer { kind, child, dir: dir.to_owned(), ports, nodes };
        let begin = Instant::now();
        while TcpStream::connect(loopback(ports[0])).is_err() {
            let said = || fs::read_to_string(peer.dir.join("log")).unwrap_or_default();
            assert!(begin.elapsed() < PATIENCE, "{} does not start: {}", kind.name(), said());
            sleep(Duration::from_millis(20)).await;
        }
        peer
    }

    /// Has it read a config that differs a little.
    pub(crate) fn reload(&self, number: usize) {
        configure(self.kind, &self.dir, self.ports, self.nodes, number);
        self.signal(if self.kind == Kind::Haproxy { "USR2" } else { "HUP" });
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success(), "{} is gone", self.kind.name());
    }

    /// Ends it with its workers.
    pub(crate) async fn end(mut self) {
        let begin = Instant::now();
        while self.child.try_wait().unwrap().is_none() && begin.elapsed() < PATIENCE {
            // SIGKILL would leave workers behind; a second signal ends fallgate without a drain.
            self.signal("TERM");
            sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes the config; the number changes a time-out that plays no part.
fn configure(kind: Kind, dir: &Path, [port, peers]: [u16; 2], nodes: [u16; 2], number: usize) {
    let text = match kind {
        Kind::Fallgate => fallgate(port, nodes, number),
        Kind::Haproxy => haproxy(dir, port, peers, nodes, number),
        Kind::Nginx => nginx(dir, port, nodes, number),
    };
    fs::write(dir.join("config"), text).unwrap();
}

/// All but the node's check is as it comes; the limits for each client would see all clients as one.
fn fallgate(port: u16, [a, b]: [u16; 2], number: usize) -> String {
    format!(
        "version: 1
listeners:
  - {{name: tls, protocol: https, address: '127.0.0.1:{port}', upstream: u, tls: {{cert_file: tls.crt, key_file: tls.key}}}}
upstreams:
  - name: u
    health_check: {{interval: 1s}}
    nodes: [{{name: n1, host: 127.0.0.1, ports: {{http: {a}}}}}, {{name: n2, host: 127.0.0.1, ports: {{http: {b}}}}}]
limits: {{max_connections_per_client: off, max_sessions_per_client: off, session_starts_per_client: off, requests_per_client: off}}
timeouts: {{keep_alive: {}s}}
access_log: {{path: access.log}}
admin: {{address: 'off'}}
log: {{level: warn}}
",
        60 + number
    )
}

/// A session is told by the fourth part of the path. It stays on its node when another comes back, for the table says so,
/// and through reloads, for the table is handed on and until it is there the hash says the same.
fn haproxy(dir: &Path, port: u16, peers: u16, [a, b]: [u16; 2], number: usize) -> String {
    format!(
        "global
  maxconn 4000
defaults
  mode http
  timeout connect 5s
  timeout client 300s
  timeout server 300s
  timeout http-keep-alive {}s
  option redispatch
  option idle-close-on-response
peers own
  peer {OWN_NAME} 127.0.0.1:{peers}
frontend f
  bind 127.0.0.1:{port} ssl crt {}/tls.pem
  default_backend b
backend b
  balance hash path,field(4,/)
  hash-type consistent
  stick-table type string len 36 size 100k expire 30m peers own
  stick on path,field(4,/)
  default-server check inter 1s fall 2 rise 2
  server n1 127.0.0.1:{a}
  server n2 127.0.0.1:{b}
",
        300 + number,
        dir.display()
    )
}

/// By the hash alone; nodes are found dead by their clients alone, as there are no checks without a subscription.
fn nginx(dir: &Path, port: u16, [a, b]: [u16; 2], number: usize) -> String {
    let (dir, keep) = (dir.display(), 300 + number);
    format!(
        "daemon off;
user root;
worker_processes auto;
pid {dir}/pid;
error_log {dir}/error.log crit;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {dir}/body;
  proxy_temp_path {dir}/proxy;
  fastcgi_temp_path {dir}/f;
  uwsgi_temp_path {dir}/u;
  scgi_temp_path {dir}/s;
  client_max_body_size 0;
  proxy_request_buffering off;
  proxy_buffering off;
  proxy_http_version 1.1;
  proxy_set_header Connection \"\";
  proxy_connect_timeout 5s;
  proxy_read_timeout 300s;
  keepalive_timeout {keep}s;
  keepalive_requests 1000000;
  map $request_uri $session {{
    default $request_uri;
    ~/aspera/[^/]+/(?<id>[0-9a-f-]+)/ $id;
  }}
  upstream nodes {{
    hash $session consistent;
    server 127.0.0.1:{a} max_fails=1 fail_timeout=2s;
    server 127.0.0.1:{b} max_fails=1 fail_timeout=2s;
    keepalive 64;
  }}
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {dir}/tls.crt;
    ssl_certificate_key {dir}/tls.key;
    location / {{ proxy_pass http://nodes; }}
  }}
}}
"
    )
}
