//! Everything that gateways write while tests run is looked through for secrets.
//!
//! A [`Watch`] looks when its gateway's test is over: at the access log, the admin answers, and what this process has
//! logged meanwhile at the most talkative level. When the process ends all logs are looked through once more, for what
//! was written later, or known later to be a secret; a secret then makes the whole run fail.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    sync::{
        LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use fallgate::{
    config::{Config, LogLevel},
    gateway::{Gateway, Start},
    telemetry::logging,
};
use tokio::runtime::{Handle, RuntimeFlavor};
use tracing_subscriber::{fmt::MakeWriter, layer::SubscriberExt};

use super::secrets;

/// What an admin door says at once.
const ADMIN: &[&str] = &[
    "/metrics",
    "/readyz",
    "/",
    "/api/v1/status",
    "/api/v1/sessions",
    "/api/v1/nodes",
    "/api/v1/config",
    "/api/v1/openapi.json",
];

/// What the test runner ends with when a test has failed.
const FAILED: i32 = 101;

/// The logs of this process, and other names for the access logs of all its gateways, which live as long as it.
struct Kept {
    dir: PathBuf,
    log: Mutex<Log>,
    links: AtomicUsize,
}

struct Log {
    file: File,
    /// How much of it was looked through.
    checked: u64,
}

static KEPT: LazyLock<Kept> = LazyLock::new(|| {
    let dir = tempfile::Builder::new().prefix("fallgate-sweep-").tempdir().unwrap().keep();
    let file = File::options().create(true).append(true).read(true).open(dir.join("log")).unwrap();
    let kept = Kept { dir, log: Mutex::new(Log { file, checked: 0 }), links: AtomicUsize::new(0) };
    let layer = tracing_subscriber::fmt::layer().with_writer(Sink).with_ansi(false);
    // With the gateway's own filter: what it holds back from other libraries is never written.
    let subscriber = tracing_subscriber::registry().with(logging::filter(LogLevel::Trace)).with(layer);
    tracing::subscriber::set_global_default(subscriber).expect("nobody else listens to the logs of this process");
    at_exit(look_again);
    kept
});

/// Has this run when the process ends.
#[allow(unsafe_code, reason = "there is no other way to act after the last test")]
fn at_exit(run: extern "C" fn()) {
    // SAFETY: the function lives as long as the program and unwinds into nobody.
    assert_eq!(unsafe { libc::atexit(run) }, 0);
}

/// Looks through all logs with all that is known in the end.
extern "C" fn look_again() {
    let look = || {
        let files = fs::read_dir(&KEPT.dir).into_iter().flatten().flatten();
        files.filter_map(|file| secrets::first_in(fs::read(file.path()).ok()?)).next()
    };
    let found = look();
    let _ = fs::remove_dir_all(&KEPT.dir);
    if let Some(found) = found {
        let _ = writeln!(io::stderr(), "\na secret is written to a log: {found}\n");
        let _ = io::stdout().flush();
        exit_now();
    }
}

#[allow(unsafe_code, reason = "a process that is ending can change its status in no other way")]
fn exit_now() -> ! {
    // SAFETY: it only ends the process.
    unsafe { libc::_exit(FAILED) }
}

#[derive(Clone, Copy)]
struct Sink;

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        log().file.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Sink {
    type Writer = Sink;

    fn make_writer(&self) -> Sink {
        Sink
    }
}

fn log() -> MutexGuard<'static, Log> {
    KEPT.log.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts to listen to the logs of this process, once.
pub(crate) fn listen() {
    LazyLock::force(&KEPT);
}

/// All that this process has logged so far.
pub(crate) fn logged() -> String {
    String::from_utf8_lossy(&fs::read(KEPT.dir.join("log")).unwrap()).into_owned()
}

/// What was logged since somebody looked.
fn news() -> Vec<u8> {
    let Log { file, checked } = &mut *log();
    let mut text = Vec::new();
    let _ = file.seek(SeekFrom::Start(*checked)).and_then(|_| file.read_to_end(&mut text));
    *checked += text.len() as u64;
    text
}

/// Starts a gateway that is watched; the folder is that of its logs.
pub(crate) async fn gateway(config: Config, dir: &Path) -> (Gateway, Watch) {
    listen();
    secrets::none_in("the Debug output of a config", format!("{config:?}"));
    // A reload that an operator asks for reads it anew.
    let file = Some(dir.join("fallgate.yaml")).filter(|file| file.exists());
    let gateway = Gateway::start_with(config, Start { file, ..Start::default() }).await.unwrap();
    for file in logs(dir) {
        let name = format!("access-{}", KEPT.links.fetch_add(1, Ordering::Relaxed));
        fs::hard_link(file, KEPT.dir.join(name)).unwrap();
    }
    let watch = Watch { dir: dir.to_owned(), admin: gateway.admin_address() };
    (gateway, watch)
}

/// The files in a folder that are logs.
fn logs(dir: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(dir).into_iter().flatten().flatten().map(|file| file.path());
    let is_log = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().contains("log"));
    files.filter(|path| is_log(path) && path.is_file()).collect()
}

/// Looks through what a gateway wrote when it drops, which is to be before the gateway and its folder do.
pub(crate) struct Watch {
    dir: PathBuf,
    admin: Option<SocketAddr>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        if let Some(admin) = self.admin {
            let found = answers(admin.port(), |to| TcpStream::connect_timeout(&to, Duration::from_secs(1)));
            assert!(found.is_none(), "a secret is told at the admin door: {found:?}");
        }
        files(&self.dir);
        secrets::none_in("the log", news());
    }
}

/// Looks through the logs in a folder.
pub(crate) fn files(dir: &Path) {
    for path in logs(dir) {
        secrets::none_in(&path.display().to_string(), fs::read(&path).unwrap_or_default());
    }
}

/// The first secret in what an admin door says, if there is one still.
pub(crate) fn answers(port: u16, connect: impl Fn(SocketAddr) -> io::Result<TcpStream>) -> Option<String> {
    let ask = |path: &str| {
        let mut stream = connect(super::loopback(port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        secrets::first_in(answer)
    };
    let ask_all = || ADMIN.iter().copied().find_map(ask);
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        // It would not answer while this waits.
        Ok(RuntimeFlavor::CurrentThread) => None,
        // This may be one of the threads that are to answer.
        Ok(_) => tokio::task::block_in_place(ask_all),
        Err(_) => ask_all(),
    }
}
