//! What is compared: fallgate, Squid, Envoy and tinyproxy as processes, and no proxy at all.

use std::{
    ffi::OsString,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use crate::{
    Options,
    load::Way,
    machine::{self, PROXY_CPU},
    origin::Stage,
    process::{Process, free, written},
    report::Table,
    rounds::{Compared, Measured},
};

/// The name of the line without a proxy.
const DIRECT: &str = "no proxy";

/// What is started.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// A build of fallgate.
    Fallgate(PathBuf),
    Squid,
    Envoy(PathBuf),
    Tinyproxy,
}

/// A running proxy between the load and the origin, or the origin itself.
#[derive(Debug)]
pub(crate) struct Peer {
    name: String,
    pub(crate) way: Way,
    pub(crate) process: Option<Process>,
}

impl Peer {
    /// Starts it; why it cannot be.
    pub(crate) fn start(name: &str, kind: &Kind, stage: &Stage) -> Result<Peer, String> {
        let address = free();
        let dir = stage.dir().join(format!("peer-{}", address.port()));
        fs::create_dir_all(&dir).expect("a folder");
        let workers = stage.workers;
        // A processor of their own for as many workers as that feeds, else all there are.
        let all = fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
        let processors = if workers == 1 { PROXY_CPU } else { all.trim() };
        let mut command: Vec<OsString> = ["taskset", "-c", processors, "env"].map(OsString::from).into();
        command.push(format!("TOKIO_WORKER_THREADS={workers}").into());
        match kind {
            Kind::Fallgate(program) => {
                let config = written(&dir, "fallgate.yaml", &fallgate(address));
                command.extend([program.into(), "run".into(), "--config".into(), config]);
            }
            Kind::Squid => {
                let config = written(&dir, "squid.conf", &squid(&dir, address, workers));
                // The name is that of sockets in /run/squid, which it leaves behind.
                command.extend(["squid", "--foreground", "-n", "fallgatebench", "-f"].map(OsString::from));
                command.push(config);
            }
            Kind::Envoy(program) => {
                let config = written(&dir, "envoy.yaml", &envoy(address));
                let workers = workers.to_string();
                command.push(program.into());
                command.extend(["--disable-hot-restart", "-l", "error", "--concurrency", &workers].map(OsString::from));
                command.extend(["-c".into(), config]);
            }
            Kind::Tinyproxy => {
                let config = written(&dir, "tinyproxy.conf", &tinyproxy(address));
                command.extend(["tinyproxy".into(), "-d".into(), "-c".into(), config]);
            }
        }
        let process = Process::try_start(&command, &dir, &[address])?;
        let way = Way { to: address, origin: stage.address };
        Ok(Peer { name: name.to_owned(), way, process: Some(process) })
    }

    /// Nanoseconds of processor time so far, those of ended threads too: tinyproxy has one for each connection.
    pub(crate) fn cpu_ns(&self) -> u64 {
        self.process.as_ref().map_or(0, |process| machine::whole_cpu_ns(process.pid()))
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

/// What the options leave to compare.
pub(crate) fn kinds(options: &Options, stage: &Stage) -> Vec<(String, Kind)> {
    let mut kinds: Vec<_> =
        options.builds().into_iter().map(|(name, program)| (name, Kind::Fallgate(program))).collect();
    if !options.alone {
        let others =
            [("Squid", Kind::Squid), ("Envoy", Kind::Envoy(stage.envoy.clone())), ("tinyproxy", Kind::Tinyproxy)];
        kinds.extend(others.map(|(name, kind)| (name.to_owned(), kind)));
    }
    kinds.retain(|(name, _)| !stage.without.iter().any(|left_out| left_out.eq_ignore_ascii_case(name)));
    kinds
}

/// All of these that start, and no proxy as the last.
pub(crate) fn all(options: &Options, stage: &Stage) -> Vec<Peer> {
    let mut peers = Vec::new();
    for (name, kind) in kinds(options, stage) {
        match Peer::start(&name, &kind, stage) {
            Ok(peer) => peers.push(peer),
            Err(why) => eprintln!("{name} does not start and is left out: {why}"),
        }
    }
    assert!(!peers.is_empty(), "there is no proxy to measure");
    let way = Way { to: stage.address, origin: stage.address };
    peers.push(Peer { name: DIRECT.to_owned(), way, process: None });
    peers
}

/// Two tables of the same lines: processor time, which only a proxy has, and time on the wall.
pub(crate) fn tables(what: &str, unit: &'static str, lines: Vec<(&str, [Measured; 2])>) -> Vec<Table> {
    let mut used = Table::new(&format!("{what}: CPU time of the proxy"), unit);
    let mut taken = Table::new(&format!("{what}: time on the wall"), unit);
    for (line, [mut cpu, wall]) in lines {
        let proxies = cpu.names.iter().filter(|name| *name != DIRECT).count();
        cpu.names.truncate(proxies);
        cpu.values.truncate(proxies);
        used.add(line, None, cpu);
        taken.add(line, None, wall);
    }
    vec![used, taken]
}

fn fallgate(address: SocketAddr) -> String {
    format!(
        "version: 1\nlisteners:\n  - {{ name: forward, protocol: forward_proxy, address: '{address}', policy: p }}\n\
         policies:\n  - name: p\n    auth: {{ allow_from: ['127.0.0.0/8'] }}\n    allow: [{{ hosts: ['127.0.0.0/8'] }}]\n    \
         allow_private_addresses: ['127.0.0.0/8']\n\
         limits: {{ max_connections: 20000, max_connections_per_client: off, max_tunnels: 20000, max_tunnels_per_client: 20000 }}\n\
         access_log: {{ path: 'off' }}\nadmin: {{ address: 'off' }}\nlog: {{ level: warn }}\n"
    )
}

fn squid(dir: &Path, address: SocketAddr, workers: usize) -> String {
    let dir = dir.display();
    format!(
        "http_port {address}\nworkers {workers}\nhttp_access allow all\ncache deny all\ncache_mem 0 MB\n\
         memory_cache_shared off\naccess_log none\ncache_store_log none\ncache_log /dev/null\nlogfile_rotate 0\n\
         client_db off\npinger_enable off\npid_filename {dir}/pid\ncoredump_dir none\nvisible_hostname bench\n\
         shutdown_lifetime 0 seconds\n"
    )
}

fn tinyproxy(address: SocketAddr) -> String {
    let (host, port) = (address.ip(), address.port());
    format!("Port {port}\nListen {host}\nTimeout 600\nMaxClients 20000\nLogLevel Critical\nAllow 127.0.0.0/8\n")
}

fn envoy(address: SocketAddr) -> String {
    let (host, port) = (address.ip(), address.port().to_string());
    include_str!("envoy.yaml").replace("HOST", &host.to_string()).replace("PORT", &port)
}
