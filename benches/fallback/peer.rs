//! The proxies that are compared, as processes on a processor of their own.

use std::{
    ffi::OsStr,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    Options,
    process::{Process, free, written},
    rounds::Compared,
    stage::Stage,
};

/// What is started.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// A build of fallgate, and its `persistent_connection`.
    Fallgate {
        program: PathBuf,
        persistence: &'static str,
    },
    Haproxy,
    Nginx,
}

/// A running proxy.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) name: String,
    /// Where it shows an RSA-2048 certificate.
    pub(crate) rsa: SocketAddr,
    /// Where it shows a P-256 certificate.
    pub(crate) p256: SocketAddr,
    process: Process,
}

impl Peer {
    /// Starts a proxy before `node` and waits until it takes connections.
    pub(crate) fn start(name: &str, kind: &Kind, stage: &Stage, node: SocketAddr) -> Peer {
        let (rsa, p256) = (free(), free());
        let dir = stage.dir().join(format!("peer-{}", rsa.port()));
        fs::create_dir_all(&dir).expect("a folder");
        let command = match kind {
            Kind::Fallgate { program, persistence } => {
                let text = fallgate(stage.dir(), rsa, p256, node, persistence);
                let mut config = written(&dir, "fallgate.yaml", &(text.clone() + LIMITS));
                if !takes(program, &config) {
                    config = written(&dir, "fallgate.yaml", &text);
                }
                vec![program.into(), "run".into(), "--config".into(), config]
            }
            Kind::Haproxy => {
                let config = written(&dir, "haproxy.cfg", &haproxy(stage.dir(), rsa, p256, node));
                vec!["haproxy".into(), "-db".into(), "-f".into(), config]
            }
            Kind::Nginx => {
                let config = written(&dir, "nginx.conf", &nginx(stage.dir(), &dir, rsa, p256, node));
                let log = dir.join("error.log").into_os_string();
                vec!["nginx".into(), "-e".into(), log, "-c".into(), config]
            }
        };
        let process = Process::start(name, &command, &dir, &[rsa, p256]);
        Peer { name: name.to_owned(), rsa, p256, process }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Nanoseconds of processor time so far.
    pub(crate) fn cpu_ns(&self) -> u64 {
        self.process.cpu_ns()
    }
}

impl Compared for Peer {
    fn name(&self) -> &str {
        &self.name
    }

    fn pid(&self) -> Option<u32> {
        Some(self.process.pid())
    }
}

/// All peers of a usual case: fallgate first, then its further builds, HAProxy, nginx.
pub(crate) fn all(options: &Options, stage: &Stage, node: SocketAddr) -> Vec<Peer> {
    let mut kinds: Vec<_> = options
        .builds()
        .into_iter()
        .map(|(name, program)| (name, Kind::Fallgate { program, persistence: "auto" }))
        .collect();
    if !options.alone {
        kinds.push(("HAProxy".to_owned(), Kind::Haproxy));
        kinds.push(("nginx".to_owned(), Kind::Nginx));
    }
    kinds.iter().map(|(name, kind)| Peer::start(name, kind, stage, node)).collect()
}

/// The load is one client.
const LIMITS: &str =
    "limits: { max_connections_per_client: off, max_sessions_per_client: off, session_starts_per_client: off }\n";

/// Whether a build knows all keys of a config; one of before there were limits does not.
fn takes(program: &Path, config: &OsStr) -> bool {
    let checked = Command::new(program).args(["check".as_ref(), "--config".as_ref(), config]).output();
    checked.expect("a program").status.success()
}

fn fallgate(certs: &Path, rsa: SocketAddr, p256: SocketAddr, node: SocketAddr, persistence: &str) -> String {
    let certs = certs.display();
    let listener = |name: &str, address: SocketAddr| {
        format!(
            "  - name: {name}\n    protocol: https\n    address: '{address}'\n    upstream: u\n    \
             tls: {{ cert_file: '{certs}/{name}.crt', key_file: '{certs}/{name}.key' }}\n    \
             persistent_connection: {persistence}\n"
        )
    };
    format!(
        "version: 1\nlisteners:\n{}{}upstreams:\n  - name: u\n    nodes: [{{ name: n, host: {}, ports: {{ http: {} }} }}]\n\
         access_log: {{ path: 'off' }}\nadmin: {{ address: 'off' }}\nlog: {{ level: warn }}\n",
        listener("rsa", rsa),
        listener("p256", p256),
        node.ip(),
        node.port()
    )
}

fn haproxy(certs: &Path, rsa: SocketAddr, p256: SocketAddr, node: SocketAddr) -> String {
    let certs = certs.display();
    format!(
        "global\n  nbthread 1\n  maxconn 4000\n  tune.ssl.cachesize 0\n\
         defaults\n  mode http\n  timeout connect 5s\n  timeout client 300s\n  timeout server 300s\n\
         frontend f\n  bind {rsa} ssl crt {certs}/rsa.pem no-tls-tickets\n  \
         bind {p256} ssl crt {certs}/p256.pem no-tls-tickets\n  default_backend b\n\
         backend b\n  server n {node}\n"
    )
}

fn nginx(certs: &Path, dir: &Path, rsa: SocketAddr, p256: SocketAddr, node: SocketAddr) -> String {
    let (certs, dir) = (certs.display(), dir.display());
    let server = |name: &str, address: SocketAddr| {
        format!(
            "  server {{\n    listen {address} ssl;\n    ssl_certificate {certs}/{name}.crt;\n    \
             ssl_certificate_key {certs}/{name}.key;\n    location / {{ proxy_pass http://node; }}\n  }}\n"
        )
    };
    format!(
        "daemon off;\nuser root;\nworker_processes 1;\npid {dir}/pid;\nerror_log {dir}/error.log crit;\n\
         events {{ worker_connections 8192; }}\nhttp {{\n  access_log off;\n  \
         client_body_temp_path {dir}/body;\n  proxy_temp_path {dir}/proxy;\n  fastcgi_temp_path {dir}/f;\n  \
         uwsgi_temp_path {dir}/u;\n  scgi_temp_path {dir}/s;\n  client_max_body_size 0;\n  \
         client_body_buffer_size 256k;\n  proxy_buffer_size 64k;\n  proxy_buffers 8 64k;\n  proxy_request_buffering off;\n  \
         proxy_buffering off;\n  proxy_http_version 1.1;\n  proxy_set_header Connection \"\";\n  \
         keepalive_requests 10000000;\n  keepalive_timeout 300s;\n  ssl_protocols TLSv1.2 TLSv1.3;\n  \
         ssl_session_cache off;\n  ssl_session_tickets off;\n  \
         upstream node {{ server {node}; keepalive 64; keepalive_requests 10000000; }}\n{}{}}}\n",
        server("rsa", rsa),
        server("p256", p256)
    )
}
