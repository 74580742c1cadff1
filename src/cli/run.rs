//! `fallgate run`: start, obey signals, drain.

use std::{
    io,
    path::Path,
    time::{Duration, SystemTime},
};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{FAILED, OK, USAGE, advise, complain};
use crate::{
    config::Config,
    gateway::{Gateway, Predecessor, Program, Start, StartError},
    net::{
        activation::{self, Inherited},
        files,
        notify::Notifier,
    },
    telemetry::{
        chain,
        logging::{self, LogHandle},
    },
};

/// How long the end waits for a log that nobody reads.
const LAST_WORDS: Duration = Duration::from_secs(2);

pub(super) fn run(path: &Path) -> u8 {
    // First of all, while there is one thread.
    let inherited = match activation::take() {
        Ok(inherited) => inherited,
        Err(error) => {
            complain(&error);
            return FAILED;
        }
    };
    let predecessor = match Predecessor::find() {
        Ok(predecessor) => predecessor,
        Err(error) => {
            complain(&error);
            return FAILED;
        }
    };
    let read = SystemTime::now();
    let config = match Config::load(path) {
        Ok(config) => config,
        Err(error) => {
            complain(&error);
            predecessor.into_iter().for_each(|before| before.refuse(chain(&error)));
            return USAGE;
        }
    };
    let log = match logging::init(config.log.level) {
        Ok(log) => log,
        Err(error) => {
            complain(&error);
            return FAILED;
        }
    };
    match (files::raise_limit(), files::needed(&config)) {
        (Ok(limit), needed) if limit < needed => {
            tracing::warn!(
                limit,
                needed,
                "As many connections and flows as the limits allow may need more open files."
            );
        }
        (Ok(_), _) => {}
        (Err(error), _) => tracing::warn!(%error, "The open-files limit could not be raised."),
    }
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&error);
            return FAILED;
        }
    };
    let status = runtime.block_on(serve(path, (config, read), log.clone(), (predecessor, inherited)));
    log.flush(LAST_WORDS);
    status
}

async fn serve(
    path: &Path,
    (config, read): (Config, SystemTime),
    log: LogHandle,
    (predecessor, inherited): (Option<Predecessor>, Inherited),
) -> u8 {
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => {
            complain(&error);
            return FAILED;
        }
    };
    let before = predecessor.as_ref().and_then(|before| before.share().ok());
    let file = Some(path.to_owned());
    let notifier = Notifier::from_env().unwrap_or_else(|error| {
        tracing::warn!(%error, "The service manager cannot be told how it goes.");
        Notifier::default()
    });
    let start = Start { read: Some(read), file, log: Some(log), program: program(), predecessor, inherited, notifier };
    let gateway = match Gateway::start_with(config, start).await {
        Ok(gateway) => gateway,
        Err(error) => {
            complain(&error);
            hint(&error).into_iter().for_each(advise);
            before.into_iter().for_each(|before| before.refuse(chain(&error)));
            return if matches!(error, StartError::Build(_)) { USAGE } else { FAILED };
        }
    };
    for (listener, address) in gateway.addresses().await {
        tracing::info!(listener, %address, "Listening.");
    }
    if let Some(address) = gateway.admin_address() {
        tracing::info!(%address, "Admin is open.");
    }
    drop(before);
    let upgrade = gateway.upgrader();
    // An operator may ask first, and the system then says the same once more: the second signal is the one that hurries.
    let (mut told, succeeded) = loop {
        tokio::select! {
            _ = signals.reload.recv() => reload(&gateway).await,
            _ = signals.reopen.recv() => gateway.reopen_logs(),
            _ = signals.upgrade.recv() => upgrade(),
            () = signals.stop.recv() => break (1, gateway.stop_with_successor().await),
            () = gateway.asked_to_stop() => break (0, gateway.stop_with_successor().await),
            () = gateway.succeeded() => break (0, true),
        }
    };
    tracing::info!(sessions = gateway.sessions(), "Draining.");
    let (hurry, records) = (CancellationToken::new(), gateway.access_log());
    let over = hurry.clone();
    let ends = async move { if succeeded { gateway.leave(over).await } else { gateway.drain(over).await } };
    let mut drained = std::pin::pin!(ends);
    loop {
        tokio::select! {
            () = &mut drained => break,
            _ = signals.reopen.recv() => records.reopen(),
            () = signals.stop.recv() => told += 1,
        }
        if told > 1 {
            hurry.cancel();
        }
    }
    tracing::info!("Stopped.");
    OK
}

/// What to do about an address that is not to be had.
fn hint(error: &StartError) -> Option<&'static str> {
    let StartError::Bind { source, .. } = error else { return None };
    match source.kind() {
        io::ErrorKind::AddrInUse => Some("another process has it; `ss -tulnp` as root names all who have one"),
        io::ErrorKind::AddrNotAvailable => Some("this host has no such address; `ip address` shows those that it has"),
        io::ErrorKind::PermissionDenied => Some("ports below 1024 need CAP_NET_BIND_SERVICE"),
        _ => None,
    }
}

/// How this process was started: by this name, with these arguments.
fn program() -> Option<Program> {
    let mut said = std::env::args_os();
    let path = said.next()?;
    Some(Program { path, arguments: said.collect() })
}

async fn reload(gateway: &Gateway) {
    // What came of it is in the log.
    let _ = gateway.reload_file().await;
}

struct Signals {
    reload: Signal,
    reopen: Signal,
    upgrade: Signal,
    stop: Stop,
}

/// SIGTERM, or Ctrl-C at a terminal.
pub(super) struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            reload: signal(SignalKind::hangup())?,
            reopen: signal(SignalKind::user_defined1())?,
            upgrade: signal(SignalKind::user_defined2())?,
            stop: Stop::new()?,
        })
    }
}

impl Stop {
    /// From now on these signals do not end the process by themselves.
    pub(super) fn new() -> std::io::Result<Stop> {
        Ok(Stop { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    pub(super) async fn recv(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
