//! What runs: the config that holds, its doors, and how both change.

mod ending;

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering},
    },
    time::SystemTime,
};

use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{
    ReloadError, StartError,
    forgotten::Forgotten,
    generation::Generation,
    kept::Kept,
    listeners::Listeners,
    parts::Parts,
    replicas::Replicas,
    socket::Offered,
    upgrade::{Links, Program},
};
use crate::{
    config::{Config, Problem, StateConfig},
    fallback,
    net::notify::Notifier,
    telemetry::{KeptNow, chain, logging::LogHandle},
};

/// A gateway that runs, for all who look at it or change it.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) me: Weak<Run>,
    pub(super) parts: Arc<Parts>,
    pub(super) links: Links,
    /// The other replicas, where the config names a Redis.
    pub(super) replicas: OnceLock<Replicas>,
    /// Cancelled: another process has taken over.
    pub(super) succeeded: CancellationToken,
    /// The number of that process.
    successor: AtomicU32,
    /// Cancelled: the end is asked for, whatever is under way.
    stopping: CancellationToken,
    pub(super) started: SystemTime,
    /// Cancelled: an operator asks for the end.
    pub(super) stop: CancellationToken,
    file: Option<PathBuf>,
    program: Option<Program>,
    generation: ArcSwap<Generation>,
    /// The config that holds: the generation's, with what was changed since.
    config: ArcSwap<Config>,
    listeners: Mutex<Listeners>,
    /// Where each listener listens, by name.
    bound: ArcSwap<Vec<(String, SocketAddr)>>,
    /// One change at a time.
    changing: tokio::sync::Mutex<()>,
    /// Where the admin door is, and its socket once more as long as it is open.
    admin: OnceLock<SocketAddr>,
    admin_socket: Mutex<Option<OwnedFd>>,
    log: Option<LogHandle>,
    pub(super) kept: Kept,
    notifier: Notifier,
    number: AtomicI64,
    last_reload: Mutex<(bool, SystemTime)>,
    draining: AtomicBool,
}

impl Run {
    pub(super) fn new(
        (file, program): (Option<PathBuf>, Option<Program>),
        parts: Arc<Parts>,
        generation: Arc<Generation>,
        (log, notifier): (Option<LogHandle>, Notifier),
        kept: Kept,
    ) -> Arc<Run> {
        let now = SystemTime::now();
        Arc::new_cyclic(|me| Run {
            me: me.clone(),
            parts,
            links: Links::default(),
            replicas: OnceLock::new(),
            succeeded: CancellationToken::new(),
            successor: AtomicU32::new(0),
            stopping: CancellationToken::new(),
            started: now,
            stop: CancellationToken::new(),
            file,
            program,
            config: ArcSwap::from_pointee(generation.config.clone()),
            generation: ArcSwap::new(generation),
            listeners: Mutex::default(),
            bound: ArcSwap::default(),
            changing: tokio::sync::Mutex::default(),
            admin: OnceLock::new(),
            admin_socket: Mutex::default(),
            log,
            kept,
            notifier,
            number: AtomicI64::new(1),
            last_reload: Mutex::new((true, now)),
            draining: AtomicBool::new(false),
        })
    }

    /// The file that a reload reads, if there is one.
    pub(super) fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// From now on what becomes of sessions is kept, and the processes that this one talks to hear of it.
    pub(super) fn watch_sessions(&self) {
        let me = self.me.clone();
        let watch = move |news: fallback::News<'_>| {
            if let Some(run) = me.upgrade() {
                run.kept.hear(&news);
                // Replicas hear of sessions by themselves, and the other process is one.
                if run.replicas.get().is_none() {
                    run.links.tell(news);
                }
            }
        };
        self.parts.sessions.watch(Some(Box::new(watch)));
        let me = self.me.clone();
        self.parts.metrics.read_kept(move || me.upgrade()?.kept_state());
    }

    /// Whether what changes is kept as the config wants it, and how often that failed; none where it is to be kept nowhere.
    pub(super) fn kept_state(&self) -> Option<KeptNow> {
        if let Some(replicas) = self.replicas.get() {
            return Some(replicas.now());
        }
        let wanted = matches!(self.config().state, StateConfig::File(_));
        let (is_well, failures) = wanted.then(|| self.kept.state().unwrap_or((false, 0)))?;
        Some(KeptNow { is_well, failures, replicas: None })
    }

    /// The admin door has this socket.
    pub(super) fn set_admin(&self, socket: &TcpListener) -> io::Result<()> {
        let _ = self.admin.set(socket.local_addr()?);
        *lock(&self.admin_socket) = Some(socket.as_fd().try_clone_to_owned()?);
        Ok(())
    }

    /// The socket of the admin door, and its address, for another process.
    pub(super) fn admin_socket(&self) -> Option<(SocketAddr, OwnedFd)> {
        let socket = lock(&self.admin_socket).as_ref()?.try_clone().ok()?;
        Some((self.admin()?, socket))
    }

    /// The admin door closes.
    pub(super) fn close_admin(&self) {
        lock(&self.admin_socket).take();
    }

    /// The bound address of the admin door, if there is one.
    pub(super) fn admin(&self) -> Option<SocketAddr> {
        self.admin.get().copied()
    }

    /// The listeners are open. Its config began to be read at `read`.
    pub(super) fn begin(&self, listeners: Listeners, read: Option<SystemTime>) {
        self.notifier.ready();
        self.bound.store(Arc::new(listeners.addresses()));
        *self.listeners() = listeners;
        self.parts.metrics.config_generation.set(1);
        // A file that has changed since the config was read is another one.
        self.note_reload(true, read.unwrap_or(self.started));
    }

    /// Where each listener listens, by name; of a range of ports the first.
    pub(super) fn addresses(&self) -> Arc<Vec<(String, SocketAddr)>> {
        self.bound.load_full()
    }

    pub(super) fn generation(&self) -> Arc<Generation> {
        self.generation.load_full()
    }

    /// The config that holds.
    pub(super) fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }

    /// Number of the applied config, from 1.
    pub(super) fn number(&self) -> i64 {
        self.number.load(Ordering::Relaxed)
    }

    /// Whether the last config that came was applied, and when it came.
    pub(super) fn last_reload(&self) -> (bool, SystemTime) {
        *lock(&self.last_reload)
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Applies what the file holds now, and logs what came of it.
    pub(super) async fn reload_file(&self) -> Result<Vec<String>, ReloadError> {
        let result = self.try_reload_file().await;
        match &result {
            Ok(kept) if kept.is_empty() => tracing::info!("The new config is applied."),
            Ok(kept) => tracing::warn!(
                restart_needed_for = kept.join(", "),
                "The new config is applied but for what needs a restart."
            ),
            Err(error) => tracing::error!(error = chain(error), "The new config is rejected; nothing has changed."),
        }
        result
    }

    async fn try_reload_file(&self) -> Result<Vec<String>, ReloadError> {
        let file = self.file.clone().ok_or(ReloadError::NoFile)?;
        // One after the other, or what was read first might be applied last.
        let _one = self.changing.lock().await;
        // Another process may be the one that a service manager hears by now.
        if self.is_draining() {
            return Err(StartError::Draining.into());
        }
        self.notifier.reloading();
        let begun = SystemTime::now();
        // A file may lie on a disk that is far away.
        let read = tokio::task::spawn_blocking(move || Config::load(&file)).await;
        // Only a runtime that ends leaves it undone.
        let result = read.map_err(|_| ReloadError::Ending).and_then(|read| Ok(self.try_apply(read?)?));
        self.note_reload(result.is_ok(), begun);
        self.notifier.ready();
        result
    }

    pub(super) async fn reload(&self, config: Config) -> Result<Vec<String>, StartError> {
        let _one = self.changing.lock().await;
        let begun = SystemTime::now();
        let result = self.try_apply(config);
        self.note_reload(result.is_ok(), begun);
        result
    }

    /// Notes what came of a config that was read at `now`, or later.
    fn note_reload(&self, success: bool, now: SystemTime) {
        let metrics = &self.parts.metrics;
        metrics.config_last_reload_success.set(i64::from(success));
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        metrics.config_last_reload_timestamp.set(since.as_secs_f64());
        *lock(&self.last_reload) = (success, now);
    }

    fn try_apply(&self, mut config: Config) -> Result<Vec<String>, StartError> {
        // Its listeners are not here any more; new ones would open doors that lead to nothing.
        if self.is_draining() {
            return Err(StartError::Draining);
        }
        let before = self.generation();
        let kept = config.keep_of(&before.config);
        let generation = Arc::new(Generation::build(config, &self.parts, Some(&before))?);
        let mut listeners = self.listeners();
        let prepared = listeners.prepare(&generation, &mut Offered::default())?;
        let new = &generation.config;
        let access_log = match &new.access_log {
            same if *same == before.config.access_log => None,
            other => Some(self.parts.access_log.other(other).map_err(|source| {
                let path = other.path.clone();
                StartError::AccessLog { path, source }
            })?),
        };
        // Nothing has changed until here, and nothing can fail from here on.
        access_log.into_iter().for_each(|writer| self.parts.access_log.replace(writer));
        self.parts.set_own(prepared.own(&listeners), self.admin());
        prepared.commit(&mut listeners, &self.parts);
        self.bound.store(Arc::new(listeners.addresses()));
        generation.take_over();
        self.parts.apply(new, &generation.upstreams);
        self.keep_pins(generation.upstreams.values());
        self.kept.apply(new);
        self.share_by(new);
        self.set_level(new);
        self.config.store(Arc::new(new.clone()));
        self.generation.store(generation);
        self.watch_controls();
        self.parts.metrics.config_generation.set(self.number.fetch_add(1, Ordering::Relaxed) + 1);
        Ok(kept)
    }

    /// Forgets what was of configs before; not while one is built, which has counters of what no config names yet.
    pub(super) fn forget(&self, forgotten: &mut Forgotten) {
        if let Ok(_none) = self.changing.try_lock() {
            forgotten.forget(self, self.listeners().retiring());
        }
    }

    /// Changes what can be changed while it holds, until the next reload.
    pub(super) async fn change(&self, change: &serde_json::Value) -> Result<(), Vec<Problem>> {
        let _one = self.changing.lock().await;
        let changed = self.config().with_change(change)?;
        self.parts.bandwidth.apply(&changed);
        self.set_level(&changed);
        self.config.store(Arc::new(changed));
        Ok(())
    }

    fn set_level(&self, config: &Config) {
        if let Some(log) = &self.log {
            log.set(config.log.level);
        }
    }

    pub(super) fn listeners(&self) -> MutexGuard<'_, Listeners> {
        lock(&self.listeners)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
