//! What is compared: fallgate, nginx and HAProxy as processes, and no proxy at all.

use std::{
    ffi::OsString,
    fs,
    io::Read,
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use crate::{
    node::{BANNER, Stage, free},
    process::{Process, written},
    rounds::Compared,
};

/// Who runs fallgate where it has no privileges.
const NOBODY: &str = "65534";

/// What is started.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// A build of fallgate.
    Fallgate {
        program: PathBuf,
        /// Data only from clients with a control connection.
        gate: bool,
        /// Run by nobody.
        unprivileged: bool,
    },
    /// `true`: with `splice-auto`.
    Haproxy(bool),
    /// With this `proxy_buffer_size`.
    Nginx(&'static str),
    /// As it comes: the kernel's default buffers, and one connection accepted at a time.
    NginxPlain,
    /// The node itself.
    Direct,
}

/// A running proxy between the load and the node.
#[derive(Debug)]
pub(crate) struct Peer {
    name: String,
    /// Where it takes connections, and datagrams if it does.
    pub(crate) address: SocketAddr,
    process: Option<Process>,
    /// Keeps the gate open.
    _control: Option<TcpStream>,
}

impl Peer {
    /// Starts it.
    pub(crate) fn start(name: &str, kind: &Kind, stage: &Stage) -> Peer {
        let (address, node) = (free(), stage.address);
        let dir = stage.dir().join(format!("peer-{}", address.port()));
        fs::create_dir_all(&dir).expect("a folder");
        let mut command: Vec<OsString> = Vec::new();
        let mut gated = false;
        match kind {
            Kind::Direct => return Peer { name: name.to_owned(), address: node, process: None, _control: None },
            Kind::Fallgate { program, gate, unprivileged } => {
                if *unprivileged {
                    let user = ["setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"];
                    command.extend(user.map(OsString::from));
                }
                gated = *gate;
                let config = written(&dir, "fallgate.yaml", &fallgate(address, node, *gate));
                command.extend([reachable(program, &dir), "run".into(), "--config".into(), config]);
            }
            Kind::Haproxy(splice) => {
                let config = written(&dir, "haproxy.cfg", &haproxy(address, node, *splice));
                command.extend(["haproxy".into(), "-db".into(), "-f".into(), config]);
            }
            Kind::Nginx(_) | Kind::NginxPlain => {
                let config = written(&dir, "nginx.conf", &nginx(&dir, address, node, kind));
                let log = dir.join("error.log").into_os_string();
                command.extend(["nginx".into(), "-e".into(), log, "-c".into(), config]);
            }
        }
        let process = Process::start(name, &command, &dir, &[address]);
        let control = gated.then(|| {
            let mut control = TcpStream::connect(address).expect("a proxy that listens");
            control.read_exact(&mut [0; BANNER.len()]).expect("the node's banner");
            control
        });
        Peer { name: name.to_owned(), address, process: Some(process), _control: control }
    }

    /// Nanoseconds of processor time so far.
    pub(crate) fn cpu_ns(&self) -> u64 {
        self.process.as_ref().map_or(0, Process::cpu_ns)
    }
}

impl Compared for Peer {
    fn name(&self) -> &str {
        &self.name
    }

    fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }
}

/// A copy of a program that everybody may run: the build's folder need not be open to all.
fn reachable(program: &Path, dir: &Path) -> OsString {
    let copy = dir.join("fallgate");
    fs::copy(program, &copy).expect("a program");
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).expect("a file of our own");
    copy.into_os_string()
}

fn fallgate(address: SocketAddr, node: SocketAddr, gate: bool) -> String {
    let gate = if gate { "control_connection" } else { "off" };
    let (host, port) = (node.ip(), node.port());
    format!(
        "version: 1\nlisteners:\n  - {{ name: control, protocol: tcp, address: '{address}', upstream: u }}\n  \
         - {{ name: data, protocol: udp, address: '{address}', upstream: u, gate: {gate}, workers: 1 }}\nupstreams:\n  \
         - name: u\n    nodes: [{{ name: n, host: {host}, ports: {{ tcp: {port}, udp: {port} }} }}]\n\
         limits: {{ max_connections_per_client: off, max_udp_flows: 20000, max_udp_flows_per_client: 20000 }}\n\
         access_log: {{ path: 'off' }}\nadmin: {{ address: 'off' }}\nlog: {{ level: warn }}\n"
    )
}

fn haproxy(address: SocketAddr, node: SocketAddr, splice: bool) -> String {
    let splice = if splice { "  option splice-auto\n" } else { "" };
    format!(
        "global\n  nbthread 1\n  maxconn 4000\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 300s\n  \
         timeout server 300s\n{splice}listen l\n  bind {address}\n  server n {node}\n"
    )
}

fn nginx(dir: &Path, address: SocketAddr, node: SocketAddr, kind: &Kind) -> String {
    let dir = dir.display();
    let (accept, buffers, buffer) = match kind {
        Kind::Nginx(buffer) => ("multi_accept on; ", " rcvbuf=4m sndbuf=4m", *buffer),
        _ => ("", "", "16k"),
    };
    format!(
        "load_module modules/ngx_stream_module.so;\ndaemon off;\nuser root;\nworker_processes 1;\npid {dir}/pid;\n\
         error_log {dir}/error.log crit;\nevents {{ worker_connections 30000; {accept}}}\nstream {{\n  \
         access_log off;\n  proxy_timeout 5m;\n  proxy_buffer_size {buffer};\n  \
         server {{ listen {address} udp reuseport{buffers}; proxy_pass {node}; }}\n  \
         server {{ listen {address}; proxy_pass {node}; }}\n}}\n"
    )
}
