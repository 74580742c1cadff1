//! The roof: builds every door from one config, opens the sockets, swaps configs, drains.
//!
//! A reload builds the whole new `generation` aside and binds what is new before anything of the
//! old one is touched, so a config that cannot run changes nothing. What operators see and command of it all is
//! `operated`.

mod accepting;
mod door;
mod forgotten;
mod generation;
mod kept;
mod listeners;
mod operated;
mod overview;
mod parts;
mod replicas;
mod running;
mod shared_limits;
mod socket;
mod upgrade;
mod watching;

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Weak},
    time::{Duration, Instant, SystemTime},
};

use tokio::{net::TcpListener, task::AbortHandle};
use tokio_util::sync::CancellationToken;

use self::{
    forgotten::Forgotten, generation::Generation, kept::Kept, listeners::Listeners, parts::Parts, running::Run,
    socket::Offered,
};
use crate::{
    admin,
    config::{Config, ConfigError},
    fallback,
    net::{activation::Inherited, notify::Notifier},
    telemetry::{AccessLog, logging::LogHandle},
};

pub use self::{
    generation::BuildError,
    listeners::StartError,
    upgrade::{Predecessor, Program, UpgradeError},
};

/// How often clients are forgotten that were not heard of, and what the config names no more.
const PRUNE: Duration = Duration::from_secs(5);
/// How long the end waits for an access log that is not written.
const LAST_LINES: Duration = Duration::from_secs(5);

/// What the admin door has been asked before another process took over is answered within this.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    run: Arc<Run>,
    admin: Option<admin::Running>,
    tasks: Vec<AbortHandle>,
}

/// How a gateway starts, besides its config.
#[derive(Debug, Default)]
pub struct Start {
    /// When the config began to be read, where it comes from a file.
    pub read: Option<SystemTime>,
    /// The config's file, which a reload reads anew.
    pub file: Option<PathBuf>,
    /// What the level of the log is set with.
    pub log: Option<LogHandle>,
    /// What is run for an upgrade.
    pub program: Option<Program>,
    /// The process to take over from.
    pub predecessor: Option<Predecessor>,
    /// Sockets that were open before this process was.
    pub inherited: Inherited,
    /// Whom to tell how it goes.
    pub notifier: Notifier,
}

/// Why a config file was not applied to a running gateway.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The file is no valid config.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its config cannot run.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The gateway was not made from a file.
    #[error("the config comes from no file")]
    NoFile,
    /// The process ends.
    #[error("the gateway ends")]
    Ending,
}

impl Gateway {
    /// Reads every file the config names and builds everything; opens no socket, starts no check.
    pub fn check(config: &Config) -> Result<(), BuildError> {
        generation::check(config)
    }

    /// Each upstream whose nodes are not found in the DNS now. That keeps no gateway from running.
    pub async fn unfound(config: &Config) -> Vec<String> {
        generation::unfound(config).await
    }

    /// Looks whether the Redis that replicas share can be used, if the config names one; returns what may pass by itself, in
    /// words.
    ///
    /// # Errors
    /// It says no, or it cannot be reached and nothing new goes on without it.
    pub async fn check_state(config: &Config) -> Result<Option<String>, StartError> {
        replicas::look(config).await
    }

    /// Builds the doors and opens their sockets.
    pub async fn start(config: Config, log: Option<LogHandle>) -> Result<Gateway, StartError> {
        Gateway::start_with(config, Start { log, ..Start::default() }).await
    }

    /// The same, with more around it. Where another process is taken over from, its sockets are used, and it stands still
    /// from when all is built until the doors are open; on failure it goes on.
    pub async fn start_with(config: Config, start: Start) -> Result<Gateway, StartError> {
        let greeted =
            start.predecessor.map(|before| wait(|| before.greet())).transpose().map_err(StartError::TakeOver)?;
        let parts = Arc::new(Parts::new(&config, greeted.as_ref().map(|before| before.label_key))?);
        let generation = Arc::new(Generation::build(config, &parts, None)?);
        // Sessions of a process before are on nodes that are to be known.
        generation.looked_up().await;
        let mut listeners = Listeners::default();
        let (mut inherited, mut greeted) = (Offered::inherited(start.inherited), greeted);
        let offered = greeted.as_mut().map_or(&mut inherited, |before| &mut before.offered);
        let mut prepared = listeners.prepare(&generation, offered)?;
        // The process before has the file as long as it serves.
        let (kept, saved) = match &greeted {
            None => Kept::open(&generation.config)?,
            Some(_) => <_>::default(),
        };
        start.log.iter().for_each(|log| log.count_drops(parts.metrics.log_dropped.clone()));
        let told = (start.log, start.notifier);
        let run = Run::new((start.file, start.program), parts.clone(), generation.clone(), told, kept);
        run.watch_sessions();
        run.keep_pins(generation.upstreams.values());
        let admin = open_admin(&run, greeted.as_mut().map_or(&mut inherited, |before| &mut before.offered))?;
        run.share().await?;
        // Before anybody is served: limits of listeners, and so that nobody is led to the admin door.
        parts.apply(&generation.config, &generation.upstreams);
        run.share_limits();
        parts.set_own(prepared.own(&listeners), run.admin());
        std::mem::take(&mut inherited.inherited).close();
        let brought = greeted.map(|before| wait(|| before.take(&run, &mut prepared))).transpose();
        let brought = brought.map_err(StartError::TakeOver)?;
        run.go_on_with(&saved);
        prepared.commit(&mut listeners, &parts);
        run.begin(listeners, start.read);
        if let Some(brought) = brought {
            wait(|| brought.taken(&run)).map_err(StartError::TakeOver)?;
            run.inherit_file();
        }
        let admin = admin.map(|socket| {
            admin::start((socket, parts.shortage.clone()), parts.metrics.clone(), parts.live.clone(), run.clone())
        });
        let idle = parts.session_idle.clone();
        let sweep = fallback::sweep_forever(Arc::downgrade(&parts.sessions), move || idle.get());
        let tasks = vec![
            tokio::spawn(sweep).abort_handle(),
            tokio::spawn(prune(Arc::downgrade(&run))).abort_handle(),
            tokio::spawn(watching::watch(Arc::downgrade(&run))).abort_handle(),
        ];
        Ok(Gateway { run, admin, tasks })
    }

    /// The bound address of each listener, by name.
    pub async fn addresses(&self) -> Vec<(String, SocketAddr)> {
        self.run.addresses().to_vec()
    }

    /// The bound address of the admin door, if there is one.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.run.admin()
    }

    /// Applies a new config. Either all of it holds afterwards, or nothing of it.
    ///
    /// What a running process cannot change stays and is named in the returned list: the address of the admin door,
    /// the collector of spans, and the sockets of an address for data.
    pub async fn reload(&self, config: Config) -> Result<Vec<String>, StartError> {
        self.run.reload(config).await
    }

    /// Applies what the config's file holds now.
    ///
    /// # Errors
    /// It cannot be read or cannot run, and nothing has changed; or there is no file.
    pub async fn reload_file(&self) -> Result<Vec<String>, ReloadError> {
        self.run.reload_file().await
    }

    /// What has a process of the installed program take over, without holding the gateway. Once that
    /// [has](Gateway::succeeded) this one is to be left; where it cannot, nothing has changed.
    pub fn upgrader(&self) -> impl Fn() + Send + 'static {
        let run = self.run.clone();
        move || {
            let run = run.clone();
            // What came of it is in the log.
            drop(tokio::spawn(async move { run.upgrade().await }));
        }
    }

    /// Waits until another process has taken over.
    pub async fn succeeded(&self) {
        self.run.succeeded.cancelled().await;
    }

    /// The end is asked for: an upgrade that is under way fails, if it still can. Where another process has taken over
    /// already it is told to end as well; true then, and this one is to be left.
    pub async fn stop_with_successor(&self) -> bool {
        self.run.stop_with_successor().await
    }

    /// Waits until an operator asks for the end.
    pub async fn asked_to_stop(&self) {
        self.run.stop.cancelled().await;
    }

    /// Live sessions now.
    pub fn sessions(&self) -> usize {
        self.run.parts.sessions.count()
    }

    /// Opens the file of the access log anew, here and in the processes that this one has taken over from.
    pub fn reopen_logs(&self) {
        self.run.parts.access_log.reopen();
        self.run.links.reopen();
    }

    /// The access log, whose file can be opened anew as long as the process lives.
    pub fn access_log(&self) -> AccessLog {
        self.run.parts.access_log.clone()
    }

    /// Ends the gateway: readiness goes, new sessions are refused, and running ones keep their
    /// listeners until they are over, `timeouts.drain` has passed, or `hurry` is cancelled.
    pub async fn drain(self, hurry: CancellationToken) {
        self.run.drain(hurry).await;
        self.end().await;
    }

    /// Ends the gateway after another process has [taken over](Gateway::succeeded): what began on its connections is
    /// carried to its end, at most for `timeouts.drain` or until `hurry` is cancelled.
    pub async fn leave(mut self, hurry: CancellationToken) {
        let admin = self.admin.take();
        self.run.close_admin();
        let answering = async {
            if let Some(admin) = admin {
                admin.close(LAST_ANSWERS).await;
            }
        };
        tokio::join!(self.run.leave(hurry), answering);
        self.end().await;
    }

    async fn end(self) {
        self.tasks.iter().for_each(AbortHandle::abort);
        drop(self.admin);
        self.run.close_admin();
        let log = self.run.parts.access_log.clone();
        let run = self.run.clone();
        let last = move || {
            run.kept.close();
            if !log.flush(LAST_LINES) {
                tracing::warn!("Not all of the access log could be written.");
            }
            log.spans().finish();
        };
        let _ = tokio::task::spawn_blocking(last).await;
    }
}

/// The socket of the admin door, if there is to be one.
fn open_admin(run: &Run, offered: &mut Offered) -> Result<Option<TcpListener>, StartError> {
    let Some(address) = run.config().admin.address else { return Ok(None) };
    let failed = |source| StartError::Bind { listener: "admin".into(), address: address.into(), source };
    let socket = offered.take_admin(address).unwrap_or_else(|| admin::listen(address)).map_err(failed)?;
    run.set_admin(&socket).map_err(failed)?;
    Ok(Some(socket))
}

/// Does what blocks, at a time when there is nothing else to do yet.
fn wait<T>(what: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(what)
}

/// Has the running generation forget clients, and all else what is no more; and looks for new addresses of this host,
/// for as long as the gateway lives.
async fn prune(run: Weak<Run>) {
    let mut forgotten = Forgotten::default();
    loop {
        tokio::time::sleep(PRUNE).await;
        let Some(run) = run.upgrade() else { return };
        run.generation().prune_clients(Instant::now());
        run.parts.entry.prune(Instant::now());
        run.forget(&mut forgotten);
        run.parts.look_around();
        run.parts.shortage.look();
    }
}
