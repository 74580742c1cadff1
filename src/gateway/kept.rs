//! What is kept in the file of `state`, so that a process that comes after a crash goes on with it.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;

use super::{StartError, running::Run, upgrade};
use crate::{
    config::{Config, StateConfig},
    fallback::News,
    shared::{
        Key, SessionState,
        file::{Bounds, FileStore, Saved},
    },
    upstream::{PinNews, Upstream},
};

/// Until then the process that was taken over from has let go of the file.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is looked whether it has.
const AGAIN: Duration = Duration::from_millis(100);

/// The file, as long as there is one and this process has it.
#[derive(Debug, Default)]
pub(super) struct Kept(ArcSwapOption<FileStore>);

impl Kept {
    /// Opens the file that the config names, if it does.
    pub(super) fn open(config: &Config) -> Result<(Kept, Saved), StartError> {
        let StateConfig::File(path) = &config.state else { return Ok((Kept::default(), Saved::default())) };
        let failed = |source| StartError::State { path: path.clone(), source };
        let (store, saved) = super::wait(|| FileStore::open(path, bounds(config))).map_err(failed)?;
        Ok((Kept(ArcSwapOption::from_pointee(store)), saved))
    }

    /// Whether this process has a file.
    pub(super) fn is_open(&self) -> bool {
        self.0.load().is_some()
    }

    /// What may be kept goes by this config from now on.
    pub(super) fn apply(&self, config: &Config) {
        if let Some(store) = &*self.0.load() {
            store.set_bounds(bounds(config));
        }
    }

    /// Something has become of a session.
    pub(super) fn hear(&self, news: &News<'_>) {
        match news {
            News::Opened(session) => self.opened(session),
            News::Ended(key, _) => self.ended(*key),
        }
    }

    /// A node has accepted the start of a session.
    pub(super) fn opened(&self, session: &SessionState) {
        if let Some(store) = &*self.0.load() {
            store.save_session(session.clone());
        }
    }

    /// A session is over.
    pub(super) fn ended(&self, key: Key) {
        if let Some(store) = &*self.0.load() {
            store.forget_session(key);
        }
    }

    fn pin(&self, news: PinNews) {
        let store = self.0.load();
        match (&*store, news) {
            (Some(store), PinNews::Set(pin)) => store.save_pin(pin),
            (Some(store), PinNews::Removed(upstream, hash)) => store.forget_pin(&upstream, hash),
            (None, _) => {}
        }
    }

    /// Whether all that changes is kept, and how often it could not be; none where no file was opened.
    pub(super) fn state(&self) -> Option<(bool, u64)> {
        self.0.load().as_ref().map(|store| (store.is_well(), store.failures()))
    }

    /// Writes what is left and lets go of the file. Blocks, 5 s at most.
    pub(super) fn close(&self) {
        let Some(store) = self.0.swap(None) else { return };
        if !store.close() {
            tracing::warn!("Not all of the state could be written to its file.");
        }
    }
}

fn bounds(config: &Config) -> Bounds {
    let max_sessions = config.limits.max_sessions.map_or(usize::MAX, |max| max as usize);
    let pins: u64 = config.upstreams.iter().map(|upstream| u64::from(upstream.max_pins)).sum();
    // A waiting room and a process that was taken over from may hold more than may be let in.
    Bounds { max_sessions: max_sessions.saturating_mul(2), max_pins: usize::try_from(pins).unwrap_or(usize::MAX) }
}

impl Run {
    /// Has pins of these upstreams kept.
    pub(super) fn keep_pins<'a>(&self, upstreams: impl Iterator<Item = &'a Arc<Upstream>>) {
        for upstream in upstreams {
            let me = self.me.clone();
            upstream.watch_pins(move |news| {
                if let Some(run) = me.upgrade() {
                    if let Some(replicas) = run.replicas.get() {
                        replicas.pin(news);
                    } else {
                        run.kept.pin(news);
                    }
                }
            });
        }
    }

    /// Goes on with what a process left that has crashed. Sessions whose client kept a connection died with that; where
    /// their partial files are is not forgotten.
    pub(super) fn go_on_with(&self, saved: &Saved) {
        let generation = self.generation();
        for pin in &saved.pins {
            generation.upstreams.get(&pin.upstream).into_iter().for_each(|upstream| upstream.bring_pin(pin));
        }
        let (lost, alive): (Vec<_>, Vec<_>) = saved.sessions.iter().partition(|session| session.client_keeps);
        for session in &saved.sessions {
            // Until it ends well.
            generation
                .upstreams
                .get(&session.upstream)
                .into_iter()
                .for_each(|upstream| upstream.ended_elsewhere(session, false));
        }
        let (alive, homeless): (Vec<_>, Vec<_>) = alive.into_iter().partition(|it| upgrade::bring(self, it, None));
        lost.iter().chain(&homeless).for_each(|session| self.kept.ended(session.key));
        if !saved.sessions.is_empty() {
            let (alive, lost) = (alive.len(), lost.len() + homeless.len());
            tracing::warn!(alive, lost, "The process before did not end by itself; its sessions go on where they can.");
        }
    }

    /// Takes the file over from the process before this one, as soon as that lets go of it.
    pub(super) fn inherit_file(self: &Arc<Self>) {
        let StateConfig::File(path) = self.config().state.clone() else { return };
        let run = self.clone();
        tokio::spawn(async move {
            let (begin, mut is_told) = (Instant::now(), false);
            // Who comes next takes it by itself.
            while !run.succeeded.is_cancelled() {
                let (file, bounds) = (path.clone(), bounds(&run.config()));
                let opened = tokio::task::spawn_blocking(move || FileStore::open(&file, bounds)).await;
                match opened {
                    Ok(Ok((store, saved))) => return run.take_file(store, saved),
                    Ok(Err(error)) if begin.elapsed() >= PATIENCE && !is_told => {
                        is_told = true;
                        let path = path.display();
                        tracing::error!(%error, %path, "The state is not kept: its file cannot be opened yet.");
                    }
                    // It is still another's.
                    Ok(Err(_)) => tokio::time::sleep(AGAIN).await,
                    // The runtime ends.
                    Err(_) => return,
                }
            }
        });
    }

    /// Keeps what there is in this file, which the process before has filled until now.
    fn take_file(&self, store: FileStore, saved: Saved) {
        self.kept.0.store(Some(Arc::new(store)));
        if self.succeeded.is_cancelled() {
            self.kept.0.store(None);
            return;
        }
        // What changes from here on is told as it does; what changed meanwhile is made up for.
        let sessions: Vec<_> = self.parts.sessions.states().into_iter().chain(self.links.held()).collect();
        let alive: HashSet<_> = sessions.iter().map(|session| session.key).collect();
        sessions.iter().for_each(|session| self.kept.opened(session));
        // What has ended since is not brought back by that.
        let now: Vec<_> = self.parts.sessions.states().into_iter().chain(self.links.held()).collect();
        let still: HashSet<_> = now.iter().map(|session| session.key).collect();
        alive.iter().filter(|key| !still.contains(*key)).for_each(|key| self.kept.ended(*key));
        saved.sessions.iter().filter(|old| !alive.contains(&old.key)).for_each(|old| self.kept.ended(old.key));
        let pins = self.generation().upstreams.values().flat_map(|upstream| upstream.pins()).collect::<Vec<_>>();
        let set: HashSet<_> = pins.iter().map(|pin| (pin.upstream.clone(), pin.hash)).collect();
        pins.into_iter().for_each(|pin| self.kept.pin(PinNews::Set(pin)));
        for old in saved.pins.into_iter().filter(|old| !set.contains(&(old.upstream.clone(), old.hash))) {
            self.kept.pin(PinNews::Removed(old.upstream, old.hash));
        }
    }
}
