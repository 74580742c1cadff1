//! The roof: builds every door from one config, opens the sockets, swaps configs, drains.
//!
//! A reload builds the whole new `generation` aside and binds what is new before anything of the
//! old one is touched, so a config that cannot run changes nothing. What operators see and command of it all is
//! `operated`.

mod door;
mod forgotten;
mod generation;
mod listeners;
mod operated;
mod overview;
mod parts;
mod running;
mod watching;

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use self::{forgotten::Forgotten, generation::Generation, listeners::Listeners, parts::Parts, running::Run};
use crate::{
    admin,
    config::{Config, ConfigError},
    fallback,
    telemetry::{AccessLog, logging::LevelHandle},
};

pub use self::{generation::BuildError, listeners::StartError};

/// How often clients are forgotten that were not heard of, and what the config names no more.
const PRUNE: Duration = Duration::from_secs(5);

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    run: Arc<Run>,
    admin: Option<admin::Running>,
    tasks: Vec<AbortHandle>,
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

    /// Builds the doors and opens their sockets.
    pub async fn start(config: Config, level: Option<LevelHandle>) -> Result<Gateway, StartError> {
        Gateway::start_from(None, config, level).await
    }

    /// The same, with a config of this file, which a reload reads anew.
    pub async fn start_from(
        file: Option<PathBuf>,
        config: Config,
        level: Option<LevelHandle>,
    ) -> Result<Gateway, StartError> {
        let parts = Arc::new(Parts::new(&config)?);
        let generation = Arc::new(Generation::build(config, &parts, None)?);
        let mut listeners = Listeners::default();
        let prepared = listeners.prepare(&generation)?;
        let run = Arc::new(Run::new(file, parts.clone(), generation.clone(), level));
        let admin = match generation.config.admin.address {
            None => None,
            Some(address) => {
                let started = admin::start(address, parts.metrics.clone(), parts.live.clone(), run.clone());
                Some(started.map_err(|source| StartError::Bind {
                    listener: "admin".into(),
                    address: address.into(),
                    source,
                })?)
            }
        };
        // Before anybody is served: limits of listeners, and so that nobody is led to the admin door.
        parts.apply(&generation.config, &generation.upstreams);
        run.set_admin(admin.as_ref().map(admin::Running::address));
        parts.set_own(prepared.own(&listeners), run.admin());
        prepared.commit(&mut listeners, &parts);
        run.begin(listeners);
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

    /// Waits until an operator asks for the end.
    pub async fn asked_to_stop(&self) {
        self.run.stop.cancelled().await;
    }

    /// Live sessions now.
    pub fn sessions(&self) -> usize {
        self.run.parts.sessions.count()
    }

    /// The access log, whose file can be opened anew as long as the process lives.
    pub fn access_log(&self) -> AccessLog {
        self.run.parts.access_log.clone()
    }

    /// Ends the gateway: readiness goes, new sessions are refused, and running ones keep their
    /// listeners until they are over, `timeouts.drain` has passed, or `hurry` is cancelled.
    pub async fn drain(self, hurry: CancellationToken) {
        self.run.drain(hurry).await;
        self.tasks.iter().for_each(AbortHandle::abort);
        drop(self.admin);
        let log = self.run.parts.access_log.clone();
        let last = move || {
            log.flush();
            log.spans().finish();
        };
        let _ = tokio::task::spawn_blocking(last).await;
    }
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
    }
}
