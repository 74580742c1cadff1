//! Caps: a thousand downloads at once, each held to 1 Mbit/s; what that costs the proxy, and whether it is held.

use std::{
    ffi::OsString,
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::Builder,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::{
    Options,
    load::Session,
    process::{Process, free, written},
    report::Table,
    rounds::{self, Compared},
    stage::Stage,
};

const SESSIONS: usize = 1000;
/// Of each session, in bytes a second: 1 Mbit/s.
const RATE: u64 = 125_000;
/// What is measured, in seconds.
const TIME: u64 = 10;
/// From the last start to the measurement, for what passes at once after a pause.
const WARMTH: Duration = Duration::from_secs(1);
/// What a file has beyond warmth and measurement, in seconds: the first to start must not be through early.
const SPARE: u64 = 4;
/// The most that the load waits for any byte.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn run(options: &Options, stage: &Stage) -> Vec<Table> {
    let sessions = options.scaled(SESSIONS);
    let peers = all(options, stage);
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime for the load");
    let [cpu, low, middle, high] =
        rounds::run_many("caps", options, &peers, |peer| runtime.block_on(downloads(peer, sessions)));
    let of = format!("{sessions} downloads at once, each capped at 1 Mbit/s");
    let mut used = Table::new(&format!("{of}: CPU of the proxy"), "ms/s");
    used.add("caps", None, cpu);
    let mut rates = Table::new(&format!("{of}: what each got"), "kB/s");
    for (line, measured) in [("caps-slowest", low), ("caps-median", middle), ("caps-fastest", high)] {
        rates.add(line, None, measured);
    }
    vec![used, rates]
}

/// What each session sees of itself.
#[derive(Default)]
struct Seen {
    /// Those that have the head of their file.
    started: AtomicU64,
    /// Bytes of files, by session.
    bytes: Vec<AtomicU64>,
}

impl Seen {
    fn now(&self) -> Vec<u64> {
        self.bytes.iter().map(|bytes| bytes.load(Ordering::Relaxed)).collect()
    }
}

/// Milliseconds of processor time a second, and the rates of the slowest session, the middle one and the fastest.
async fn downloads(peer: &Peer, sessions: usize) -> [f64; 4] {
    let size = RATE * (TIME + WARMTH.as_secs() + SPARE);
    let seen = Arc::new(Seen { bytes: (0..sessions).map(|_| AtomicU64::new(0)).collect(), ..Seen::default() });
    let mut tasks = JoinSet::new();
    for n in 0..sessions {
        tasks.spawn(download(peer.address, size, n, seen.clone()));
    }
    while seen.started.load(Ordering::Relaxed) < sessions as u64 {
        match timeout(Duration::from_millis(5), tasks.join_next()).await {
            Err(_) => {}
            Ok(early) => panic!("{}: a download that ends before all have begun: {early:?}", peer.name),
        }
    }
    sleep(WARMTH).await;
    let (start, cpu, before) = (Instant::now(), peer.process.cpu_ns(), seen.now());
    sleep(Duration::from_secs(TIME)).await;
    let (seconds, cpu, after) = (start.elapsed().as_secs_f64(), peer.process.cpu_ns() - cpu, seen.now());
    assert!(after.iter().all(|bytes| *bytes < size), "{}: the cap does not hold", peer.name);
    while let Some(done) = tasks.join_next().await {
        let done = done.expect("a task that ends");
        assert!(done.is_ok(), "a download through {}: {done:?}", peer.name);
    }
    let mut rates: Vec<_> = before.iter().zip(&after).map(|(b, a)| (a - b) as f64 / 1e3 / seconds).collect();
    rates.sort_by(f64::total_cmp);
    [cpu as f64 / 1e6 / seconds, rates[0], rates[sessions / 2], rates[sessions - 1]]
}

/// One session: its start, its file, its end, all on one connection.
async fn download(to: SocketAddr, size: u64, n: usize, seen: Arc<Seen>) -> io::Result<()> {
    let (session, name) = (Session::plain(to), format!("zeros.{size}b"));
    let mut stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    let (head, body) = session.start_request(Some(&name));
    stream.write_all((head + &body).as_bytes()).await?;
    answer(&mut stream, |_| ()).await?;
    stream.write_all(session.get_head(&name).as_bytes()).await?;
    seen.started.fetch_add(1, Ordering::Relaxed);
    let length = answer(&mut stream, |bytes| {
        seen.bytes[n].fetch_add(bytes, Ordering::Relaxed);
    })
    .await?;
    assert_eq!(length, size, "not the whole file");
    let (head, body) = session.end_request();
    stream.write_all((head + body).as_bytes()).await?;
    answer(&mut stream, |_| ()).await?;
    Ok(())
}

/// Reads a good answer to the end of its body, and tells its length; `count` hears of every piece of the body.
async fn answer(stream: &mut TcpStream, mut count: impl FnMut(u64)) -> io::Result<u64> {
    let (mut head, mut space) = (Vec::new(), [0; 16 * 1024]);
    let end = loop {
        let n = read(stream, &mut space).await?;
        head.extend_from_slice(&space[..n]);
        if let Some(end) = head.windows(4).position(|w| w == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let text = String::from_utf8_lossy(&head[..end]).to_ascii_lowercase();
    let length = text.lines().find_map(|l| l.strip_prefix("content-length:")?.trim().parse::<u64>().ok());
    let Some(length) = length.filter(|_| text.split(' ').nth(1) == Some("200")) else {
        return Err(io::Error::other(text));
    };
    let mut got = (head.len() - end) as u64;
    count(got);
    while got < length {
        let n = read(stream, &mut space).await? as u64;
        got += n;
        count(n);
    }
    Ok(length)
}

async fn read(stream: &mut TcpStream, space: &mut [u8]) -> io::Result<usize> {
    match timeout(PATIENCE, stream.read(space)).await?? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        n => Ok(n),
    }
}

/// A proxy with one plain listener and a cap on each session, which for nginx is each answer.
struct Peer {
    name: String,
    address: SocketAddr,
    process: Process,
}

impl Compared for Peer {
    fn name(&self) -> &str {
        &self.name
    }

    fn pid(&self) -> Option<u32> {
        Some(self.process.pid())
    }
}

fn all(options: &Options, stage: &Stage) -> Vec<Peer> {
    // Builds of before there were caps have nothing to show here.
    let program = options.builds().remove(0).1;
    let mut peers = vec![start("fallgate", stage, |dir, address| fallgate(&program, dir, address, stage.plain))];
    if !options.alone {
        peers.push(start("nginx", stage, |dir, address| nginx(dir, address, stage.plain)));
    }
    peers
}

fn start(name: &str, stage: &Stage, command: impl FnOnce(&Path, SocketAddr) -> Vec<OsString>) -> Peer {
    let address = free();
    let dir = stage.dir().join(format!("capped-{}", address.port()));
    fs::create_dir_all(&dir).expect("a folder");
    let process = Process::start(name, &command(&dir, address), &dir, &[address]);
    Peer { name: name.to_owned(), address, process }
}

fn fallgate(program: &PathBuf, dir: &Path, address: SocketAddr, node: SocketAddr) -> Vec<OsString> {
    let text = format!(
        "version: 1\nlisteners: [{{ name: plain, protocol: http, address: '{address}', upstream: u }}]\n\
         upstreams: [{{ name: u, nodes: [{{ name: n, host: {}, ports: {{ http: {} }} }}] }}]\n\
         limits: {{ max_connections_per_client: off, max_sessions: off, max_sessions_per_client: off, \
         session_starts_per_client: off, requests_per_client: off }}\nbandwidth: {{ per_session: 1Mbit/s }}\n\
         access_log: {{ path: 'off' }}\nadmin: {{ address: 'off' }}\nlog: {{ level: warn }}\n",
        node.ip(),
        node.port()
    );
    vec![program.into(), "run".into(), "--config".into(), written(dir, "fallgate.yaml", &text)]
}

/// Here it buffers, though not in files: without buffers it does not follow `limit_rate`.
fn nginx(dir: &Path, address: SocketAddr, node: SocketAddr) -> Vec<OsString> {
    let at = dir.display();
    let text = format!(
        "daemon off;\nuser root;\nworker_processes 1;\nworker_rlimit_nofile 20000;\npid {at}/pid;\nerror_log {at}/error.log crit;\n\
         events {{ worker_connections 8192; }}\nhttp {{\n  access_log off;\n  client_body_temp_path {at}/body;\n  \
         proxy_temp_path {at}/proxy;\n  fastcgi_temp_path {at}/f;\n  uwsgi_temp_path {at}/u;\n  scgi_temp_path {at}/s;\n  \
         proxy_buffer_size 32k;\n  proxy_buffers 4 32k;\n  proxy_max_temp_file_size 0;\n  proxy_http_version 1.1;\n  \
         proxy_set_header Connection \"\";\n  keepalive_timeout 300s;\n  limit_rate {RATE};\n  \
         upstream node {{ server {node}; keepalive 64; }}\n  \
         server {{ listen {address}; location / {{ proxy_pass http://node; }} }}\n}}\n"
    );
    let log = dir.join("error.log").into_os_string();
    vec!["nginx".into(), "-e".into(), log, "-c".into(), written(dir, "nginx.conf", &text)]
}
