//! The proxies that are compared, as processes on a processor of their own.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    Options,
    machine::{self, PROXY_CPU},
    stage::{self, Stage},
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
    child: Child,
}

impl Peer {
    /// Starts a proxy before `node` and waits until it takes connections.
    pub(crate) fn start(name: &str, kind: &Kind, stage: &Stage, node: SocketAddr) -> Peer {
        let (rsa, p256) = (stage::free(), stage::free());
        let dir = stage.dir().join(format!("peer-{}", rsa.port()));
        fs::create_dir_all(&dir).expect("a folder");
        let (program, arguments) = match kind {
            Kind::Fallgate { program, persistence } => {
                let text = fallgate(stage.dir(), rsa, p256, node, persistence);
                (program.clone(), vec!["run".into(), "--config".into(), written(&dir, "fallgate.yaml", &text)])
            }
            Kind::Haproxy => {
                let config = written(&dir, "haproxy.cfg", &haproxy(stage.dir(), rsa, p256, node));
                ("haproxy".into(), vec!["-db".into(), "-f".into(), config])
            }
            Kind::Nginx => {
                let config = written(&dir, "nginx.conf", &nginx(stage.dir(), &dir, rsa, p256, node));
                let log = dir.join("error.log").into_os_string();
                ("nginx".into(), vec!["-e".into(), log, "-c".into(), config])
            }
        };
        let errors = fs::File::create(dir.join("stderr")).expect("a writable folder");
        let child = Command::new("taskset")
            .args(["-c", PROXY_CPU])
            .arg(&program)
            .args(arguments)
            .env("TOKIO_WORKER_THREADS", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors)
            .spawn()
            .expect("taskset is there");
        let peer = Peer { name: name.to_owned(), rsa, p256, child };
        let start = Instant::now();
        while ![rsa, p256].into_iter().all(|a| TcpStream::connect(a).is_ok()) {
            let said = || fs::read_to_string(dir.join("stderr")).unwrap_or_default();
            assert!(
                start.elapsed() < Duration::from_secs(10),
                "{name} ({}) does not start: {}",
                program.display(),
                said()
            );
            pause(Duration::from_millis(20));
        }
        peer
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Nanoseconds of processor time so far.
    pub(crate) fn cpu_ns(&self) -> u64 {
        machine::cpu_ns(self.pid())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let pid = self.pid().to_string();
        // SIGKILL would leave nginx's worker behind; a second signal ends fallgate without a drain.
        for _ in 0..50 {
            let _ = Command::new("kill").arg(&pid).stderr(Stdio::null()).status();
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            pause(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// fallgate as it was built for this bench, and the further builds.
pub(crate) fn builds(options: &Options) -> Vec<(String, PathBuf)> {
    let own = ("fallgate".to_owned(), PathBuf::from(env!("CARGO_BIN_EXE_fallgate")));
    std::iter::once(own).chain(options.also.iter().cloned()).collect()
}

/// All peers of a usual case: fallgate first, then its further builds, HAProxy, nginx.
pub(crate) fn all(options: &Options, stage: &Stage, node: SocketAddr) -> Vec<Peer> {
    let mut kinds: Vec<_> = builds(options)
        .into_iter()
        .map(|(name, program)| (name, Kind::Fallgate { program, persistence: "auto" }))
        .collect();
    if !options.alone {
        kinds.push(("HAProxy".to_owned(), Kind::Haproxy));
        kinds.push(("nginx".to_owned(), Kind::Nginx));
    }
    kinds.iter().map(|(name, kind)| Peer::start(name, kind, stage, node)).collect()
}

/// Waits where there is nothing to wait for but time.
#[expect(clippy::disallowed_methods, reason = "no runtime is blocked, and no condition can be asked")]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}

fn written(dir: &Path, name: &str, text: &str) -> std::ffi::OsString {
    let path = dir.join(name);
    fs::write(&path, text).expect("a writable folder");
    path.into_os_string()
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
