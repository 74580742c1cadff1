//! The roof: builds every door from one config, opens the sockets, swaps configs, drains.
//!
//! A reload builds the whole new `generation` aside and binds what is new before anything of the
//! old one is touched, so a config that cannot run changes nothing.

mod door;
mod generation;
mod listeners;
mod parts;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use arc_swap::ArcSwap;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use self::{generation::Generation, listeners::Listeners, parts::Parts};
use crate::{
    admin,
    config::{Config, ListenerConfig, Protocol},
    fallback,
    telemetry::logging::LevelHandle,
};

pub use self::{generation::BuildError, listeners::StartError};

/// How often clients are forgotten that were not heard of.
const PRUNE: Duration = Duration::from_secs(5);

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    parts: Arc<Parts>,
    current: ArcSwap<Generation>,
    listeners: tokio::sync::Mutex<Listeners>,
    admin: Option<admin::Running>,
    readiness: Arc<Readiness>,
    level: Option<LevelHandle>,
    generation: AtomicI64,
    tasks: Vec<AbortHandle>,
}

/// What `/readyz` asks.
#[derive(Debug, Default)]
struct Readiness {
    draining: AtomicBool,
    current: std::sync::Mutex<Option<Arc<Generation>>>,
}

impl admin::Ready for Readiness {
    fn why_not(&self) -> Option<&'static str> {
        if self.draining.load(Ordering::Relaxed) {
            return Some("draining");
        }
        let current = self.current.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match current.as_ref() {
            None => Some("starting"),
            Some(g) if !g.is_known() => Some("nodes not checked yet"),
            Some(_) => None,
        }
    }
}

impl Readiness {
    fn generation(&self) -> Option<Arc<Generation>> {
        self.current.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn set(&self, generation: Arc<Generation>) {
        *self.current.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(generation);
    }
}

impl Gateway {
    /// Reads every file the config names and builds everything; opens no socket, starts no check.
    pub fn check(config: &Config) -> Result<(), BuildError> {
        generation::check(config)
    }

    /// Builds the doors and opens their sockets.
    pub async fn start(config: Config, level: Option<LevelHandle>) -> Result<Gateway, StartError> {
        let parts = Arc::new(Parts::new(&config)?);
        let generation = Arc::new(Generation::build(config, &parts, None)?);
        let mut listeners = Listeners::default();
        let prepared = listeners.prepare(&generation)?;
        let readiness = Arc::new(Readiness::default());
        readiness.set(generation.clone());
        let admin =
            match generation.config.admin.address {
                None => None,
                Some(address) => {
                    Some(admin::start(address, parts.metrics.clone(), readiness.clone()).map_err(|source| {
                        StartError::Bind { listener: "admin".into(), address: address.into(), source }
                    })?)
                }
            };
        // Before anybody is served: limits of listeners, and so that nobody is led to the admin door.
        parts.apply(&generation.config, &generation.upstreams);
        parts.set_own(prepared.own(&listeners), admin.as_ref().map(admin::Running::address));
        prepared.commit(&mut listeners, &parts);
        parts.metrics.config_generation.set(1);
        parts.metrics.config_last_reload_success.set(1);
        parts.metrics.config_last_reload_timestamp.set(unix_now());
        let idle = parts.session_idle.clone();
        let sweep = fallback::sweep_forever(Arc::downgrade(&parts.sessions), move || idle.get());
        let tasks = vec![
            tokio::spawn(sweep).abort_handle(),
            tokio::spawn(prune(readiness.clone(), parts.clone())).abort_handle(),
        ];
        Ok(Gateway {
            parts,
            current: ArcSwap::new(generation),
            listeners: tokio::sync::Mutex::new(listeners),
            admin,
            readiness,
            level,
            generation: AtomicI64::new(1),
            tasks,
        })
    }

    /// The bound address of each listener, by name.
    pub async fn addresses(&self) -> Vec<(String, SocketAddr)> {
        self.listeners.lock().await.addresses()
    }

    /// The bound address of the admin door, if there is one.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(admin::Running::address)
    }

    /// Applies a new config. Either all of it holds afterwards, or nothing of it.
    ///
    /// What a running process cannot change is named in the returned list: the address of the admin
    /// door, the place of the access log, and the collector of spans.
    pub async fn reload(&self, config: Config) -> Result<Vec<&'static str>, StartError> {
        let result = self.try_reload(config).await;
        self.note_reload(result.is_ok());
        result
    }

    /// Counts a reload that failed before there was a config to apply.
    pub fn note_rejected_reload(&self) {
        self.note_reload(false);
    }

    fn note_reload(&self, success: bool) {
        let metrics = &self.parts.metrics;
        metrics.config_last_reload_success.set(i64::from(success));
        metrics.config_last_reload_timestamp.set(unix_now());
    }

    async fn try_reload(&self, config: Config) -> Result<Vec<&'static str>, StartError> {
        let mut listeners = self.listeners.lock().await;
        let before = self.current.load_full();
        let generation = Arc::new(Generation::build(config, &self.parts, Some(&before))?);
        let prepared = listeners.prepare(&generation)?;
        // Nothing has changed until here, and nothing can fail from here on.
        let (old, new) = (&before.config, &generation.config);
        let kept = [
            (old.admin != new.admin).then_some("admin.address"),
            (old.access_log != new.access_log).then_some("access_log"),
            (old.log.otlp_endpoint != new.log.otlp_endpoint).then_some("log.otlp_endpoint"),
            sockets_differ(old, new).then_some("workers, receive_buffer"),
        ];
        self.parts.set_own(prepared.own(&listeners), self.admin_address());
        prepared.commit(&mut listeners, &self.parts);
        generation.take_over();
        self.parts.apply(new, &generation.upstreams);
        if let Some(level) = &self.level {
            level.set(new.log.level);
        }
        self.readiness.set(generation.clone());
        self.current.store(generation);
        self.parts.metrics.config_generation.set(self.generation.fetch_add(1, Ordering::Relaxed) + 1);
        Ok(kept.into_iter().flatten().collect())
    }

    /// Live sessions now.
    pub fn sessions(&self) -> usize {
        self.parts.sessions.count()
    }

    /// Opens the access log's file anew.
    pub fn reopen_logs(&self) {
        self.parts.access_log.reopen();
    }

    /// Ends the gateway: readiness goes, new sessions are refused, and running ones keep their
    /// listeners until they are over, `timeouts.drain` has passed, or `hurry` is cancelled.
    pub async fn drain(self, hurry: CancellationToken) {
        let timeouts = self.current.load().config.timeouts.clone();
        self.readiness.draining.store(true, Ordering::Relaxed);
        tokio::select! {
            () = tokio::time::sleep(timeouts.pre_drain) => {}
            () = hurry.cancelled() => {}
        }
        let mut listeners = self.listeners.into_inner();
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
        self.tasks.iter().for_each(AbortHandle::abort);
        drop(self.admin);
        let log = self.parts.access_log.clone();
        let last = move || {
            log.flush();
            log.spans().finish();
        };
        let _ = tokio::task::spawn_blocking(last).await;
    }
}

/// Whether a listener of data would have other sockets: an address keeps those it has, so that no flow changes threads.
fn sockets_differ(old: &Config, new: &Config) -> bool {
    let same_place = |a: &ListenerConfig, b: &ListenerConfig| b.protocol == Protocol::Udp && b.keeps_socket_of(a);
    let differs = |a: &ListenerConfig, b: &ListenerConfig| {
        same_place(a, b) && (a.workers, a.receive_buffer) != (b.workers, b.receive_buffer)
    };
    old.listeners.iter().any(|a| new.listeners.iter().any(|b| differs(a, b)))
}

/// Has the running generation forget clients, and looks for new addresses of this host, for as long as the gateway lives.
async fn prune(current: Arc<Readiness>, parts: Arc<Parts>) {
    loop {
        tokio::time::sleep(PRUNE).await;
        if let Some(generation) = current.generation() {
            generation.prune_clients(Instant::now());
        }
        parts.entry.prune(Instant::now());
        parts.look_around();
    }
}

fn unix_now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}
