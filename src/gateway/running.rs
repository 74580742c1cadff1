//! What runs: the config that holds, its doors, and how both change.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;

use super::{
    ReloadError, StartError, forgotten::Forgotten, generation::Generation, listeners::Listeners, parts::Parts,
};
use crate::{
    config::{AccessLogConfig, Config, Problem},
    telemetry::{AccessWriter, chain, logging::LevelHandle},
};

/// A gateway that runs, for all who look at it or change it.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) parts: Arc<Parts>,
    pub(super) started: SystemTime,
    /// Cancelled: an operator asks for the end.
    pub(super) stop: CancellationToken,
    file: Option<PathBuf>,
    generation: ArcSwap<Generation>,
    /// The config that holds: the generation's, with what was changed since.
    config: ArcSwap<Config>,
    listeners: Mutex<Listeners>,
    /// Where each listener listens, by name.
    bound: ArcSwap<Vec<(String, SocketAddr)>>,
    /// One change at a time.
    changing: tokio::sync::Mutex<()>,
    admin: OnceLock<SocketAddr>,
    level: Option<LevelHandle>,
    number: AtomicI64,
    last_reload: Mutex<(bool, SystemTime)>,
    draining: AtomicBool,
}

impl Run {
    pub(super) fn new(
        file: Option<PathBuf>,
        parts: Arc<Parts>,
        generation: Arc<Generation>,
        level: Option<LevelHandle>,
    ) -> Run {
        let now = SystemTime::now();
        Run {
            parts,
            started: now,
            stop: CancellationToken::new(),
            file,
            config: ArcSwap::from_pointee(generation.config.clone()),
            generation: ArcSwap::new(generation),
            listeners: Mutex::default(),
            bound: ArcSwap::default(),
            changing: tokio::sync::Mutex::default(),
            admin: OnceLock::new(),
            level,
            number: AtomicI64::new(1),
            last_reload: Mutex::new((true, now)),
            draining: AtomicBool::new(false),
        }
    }

    /// The file that a reload reads, if there is one.
    pub(super) fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    pub(super) fn set_admin(&self, address: Option<SocketAddr>) {
        if let Some(address) = address {
            let _ = self.admin.set(address);
        }
    }

    /// The bound address of the admin door, if there is one.
    pub(super) fn admin(&self) -> Option<SocketAddr> {
        self.admin.get().copied()
    }

    /// The listeners are open.
    pub(super) fn begin(&self, listeners: Listeners) {
        self.bound.store(Arc::new(listeners.addresses()));
        *self.listeners() = listeners;
        self.parts.metrics.config_generation.set(1);
        self.note_reload(true);
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
        *self.last_reload.lock().unwrap_or_else(PoisonError::into_inner)
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
        // A file may lie on a disk that is far away.
        let read = tokio::task::spawn_blocking(move || Config::load(&file)).await;
        // Only a runtime that ends leaves it undone.
        let config = read.map_err(|_| ReloadError::Ending)?.inspect_err(|_| self.note_reload(false))?;
        Ok(self.apply(config)?)
    }

    pub(super) async fn reload(&self, config: Config) -> Result<Vec<String>, StartError> {
        let _one = self.changing.lock().await;
        self.apply(config)
    }

    fn apply(&self, config: Config) -> Result<Vec<String>, StartError> {
        let result = self.try_apply(config);
        self.note_reload(result.is_ok());
        result
    }

    fn note_reload(&self, success: bool) {
        let (metrics, now) = (&self.parts.metrics, SystemTime::now());
        metrics.config_last_reload_success.set(i64::from(success));
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        metrics.config_last_reload_timestamp.set(since.as_secs_f64());
        *self.last_reload.lock().unwrap_or_else(PoisonError::into_inner) = (success, now);
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
        let prepared = listeners.prepare(&generation)?;
        let new = &generation.config;
        let access_log = (new.access_log != before.config.access_log).then(|| open_log(&new.access_log)).transpose()?;
        // Nothing has changed until here, and nothing can fail from here on.
        access_log.into_iter().for_each(|writer| self.parts.access_log.replace(writer));
        self.parts.set_own(prepared.own(&listeners), self.admin());
        prepared.commit(&mut listeners, &self.parts);
        self.bound.store(Arc::new(listeners.addresses()));
        generation.take_over();
        self.parts.apply(new, &generation.upstreams);
        self.set_level(new);
        self.config.store(Arc::new(new.clone()));
        self.generation.store(generation);
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
        if let Some(level) = &self.level {
            level.set(config.log.level);
        }
    }

    pub(super) async fn drain(&self, hurry: CancellationToken) {
        let timeouts = self.config().timeouts.clone();
        self.draining.store(true, Ordering::Relaxed);
        tokio::select! {
            () = tokio::time::sleep(timeouts.pre_drain) => {}
            () = hurry.cancelled() => {}
        }
        let mut listeners = {
            let _one = self.changing.lock().await;
            std::mem::take(&mut *self.listeners())
        };
        listeners.drain();
        let deadline = tokio::time::Instant::now() + timeouts.drain;
        let mut told = Instant::now();
        loop {
            let left = self.parts.sessions.count();
            // Through a forward proxy a session is known only by its requests, which follow one another.
            if left == 0 && self.parts.forward.recents.are_quiet(Instant::now()) {
                break;
            }
            if told.elapsed() >= Duration::from_secs(10) {
                told = Instant::now();
                tracing::info!(sessions = left, "Draining.");
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(50)) => {}
                () = tokio::time::sleep_until(deadline) => break,
                () = hurry.cancelled() => break,
            }
        }
        listeners.close(deadline, &hurry, &self.parts.cut).await;
        self.parts.sessions.finish_all();
    }

    fn listeners(&self) -> MutexGuard<'_, Listeners> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn open_log(config: &AccessLogConfig) -> Result<AccessWriter, StartError> {
    AccessWriter::open(config).map_err(|source| StartError::AccessLog { path: config.path.clone(), source })
}
