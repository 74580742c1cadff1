//! What stands between a client and a session: how many there may be, how often, and the line of those who wait.
//!
//! All of it outlives a reload, and changes in place: who waits goes by what holds now, on whatever connection.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::{Notify, futures::Notified};

use super::{
    needs::{Need, Needs, Waiter},
    shared_limits::SharedLimits,
};
use crate::{
    config::{Config, LimitsConfig, ListenerLimitsConfig, WhenFull},
    limit::{ClientKey, Freed, Maxima, OfListener, RateLimit, SessionLimit, WaitingRoom},
    upstream::Upstream,
};

/// Clients whose rates are known at once, for each rate.
const RATED_CLIENTS: usize = 100_000;

/// Shared by the fallback doors of all generations.
pub struct Entry {
    pub(super) sessions: SessionLimit,
    pub(super) room: WaitingRoom<Waiter>,
    pub(super) needs: Arc<Needs>,
    rates: Rates,
    listeners: Mutex<HashMap<String, Arc<OfDoor>>>,
    upstreams: ArcSwap<HashMap<String, Arc<Upstream>>>,
    /// A node may be up that was down.
    news: Arc<Notify>,
    waiting: Crowd,
    /// The replicas, where limits are shared with any.
    pub(super) shared: ArcSwapOption<Box<dyn SharedLimits>>,
}

/// Those who wait, and how many of them there may be. Who has his turn at once is none of them.
#[derive(Debug)]
struct Crowd {
    now: AtomicU32,
    max: AtomicU32,
}

impl Crowd {
    fn new(max: u32) -> Crowd {
        Crowd { now: AtomicU32::new(0), max: AtomicU32::new(max) }
    }

    fn enter(&self) -> bool {
        let max = self.max.load(Ordering::Relaxed);
        let more = |now: u32| (now < max).then(|| now.saturating_add(1));
        self.now.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn leave(&self) {
        self.now.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What holds for one listener besides.
#[derive(Debug)]
pub(super) struct OfDoor {
    pub(super) name: Arc<str>,
    terms: ArcSwap<Terms>,
    rates: Rates,
    waiting: Crowd,
}

/// What a start finds.
#[derive(Debug, Clone)]
pub(super) struct Terms {
    pub(super) maxima: OfListener,
    pub(super) when_full: WhenFull,
    pub(super) max_wait: Duration,
}

/// How often a client may start a session, and ask for anything else.
#[derive(Debug)]
pub(super) struct Rates {
    pub(super) starts: RateLimit<ClientKey>,
    requests: RateLimit<ClientKey>,
}

impl Rates {
    fn new() -> Rates {
        let none = || RateLimit::new(None, RATED_CLIENTS, Instant::now());
        Rates { starts: none(), requests: none() }
    }

    fn prune(&self, now: Instant) {
        self.starts.prune(now);
        self.requests.prune(now);
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("waiting", &self.waiting).finish_non_exhaustive()
    }
}

impl Entry {
    /// What a config says of all listeners; each listener's own follows with [`Entry::apply`].
    pub fn new(limits: &LimitsConfig) -> Entry {
        let room = WaitingRoom::new(places(limits));
        let needs = Arc::new(Needs::default());
        let sessions = SessionLimit::new(Maxima::of_sessions(limits), {
            let (room, needs) = (room.clone(), needs.clone());
            move |freed: Freed| room.poke_where(|waiter| needs.met_by_session(waiter, &freed))
        });
        Entry {
            sessions,
            room,
            needs,
            rates: Rates::new(),
            listeners: Mutex::default(),
            upstreams: ArcSwap::default(),
            news: Arc::default(),
            waiting: Crowd::new(limits.max_waiting),
            shared: ArcSwapOption::empty(),
        }
    }

    /// Counts the sessions of each client.
    pub fn sessions(&self) -> &SessionLimit {
        &self.sessions
    }

    /// How many sessions may wait, and how many do.
    pub fn waiting(&self) -> (u32, u32) {
        (self.waiting.max.load(Ordering::Relaxed), self.waiting.now.load(Ordering::Relaxed))
    }

    /// From now on this config holds, and these are its upstreams. Who waits tries anew.
    pub fn apply(&self, config: &Config, upstreams: &HashMap<String, Arc<Upstream>>) {
        let (limits, now) = (&config.limits, Instant::now());
        self.sessions.set(Maxima::of_sessions(limits));
        self.room.set_max(places(limits));
        self.waiting.max.store(limits.max_waiting, Ordering::Relaxed);
        self.rates.starts.set(limits.session_starts_per_client, now);
        self.rates.requests.set(limits.requests_per_client, now);
        for listener in config.listeners.iter().filter(|listener| listener.protocol.is_fallback()) {
            let door = self.door(&listener.name);
            door.terms.store(Arc::new(Terms::new(&listener.name, limits, &listener.limits)));
            door.waiting.max.store(listener.limits.max_waiting.unwrap_or(u32::MAX), Ordering::Relaxed);
            door.rates.starts.set(listener.limits.session_starts_per_client, now);
            door.rates.requests.set(listener.limits.requests_per_client, now);
        }
        self.lock().retain(|name, _| config.listeners.iter().any(|listener| listener.name == *name));
        for upstream in upstreams.values() {
            let (room, needs, news) = (self.room.clone(), self.needs.clone(), self.news.clone());
            let tell = move |name: &str| {
                room.poke_where(|waiter| needs.may_be(waiter, &Need::Node(name.into())));
                news.notify_waiters();
            };
            upstream.tell_room(Arc::new(tell));
        }
        self.upstreams.store(Arc::new(upstreams.clone()));
        self.room.poke();
    }

    /// Forgets the clients that may do all they might again.
    pub fn prune(&self, now: Instant) {
        self.rates.prune(now);
        self.lock().values().for_each(|door| door.rates.prune(now));
    }

    /// What holds for the listener of this name, now and after every reload that has it.
    pub(super) fn door(&self, name: &str) -> Arc<OfDoor> {
        let mut listeners = self.lock();
        listeners.entry(name.to_owned()).or_insert_with(|| Arc::new(OfDoor::new(name))).clone()
    }

    /// The upstream as the running config has it, where sessions that began before can still go to it.
    pub(super) fn current(&self, upstream: &Arc<Upstream>) -> Arc<Upstream> {
        let upstreams = self.upstreams.load();
        let same = upstreams.get(upstream.name()).filter(|now| now.fallback_port() == upstream.fallback_port());
        same.unwrap_or(upstream).clone()
    }

    /// Ends when a node may be up that was down.
    pub(super) fn node_news(&self) -> Notified<'_> {
        self.news.notified()
    }

    /// Counts a request outside of a session that was let in, or says that it is one too many.
    pub(super) fn may_ask(&self, door: &OfDoor, client: ClientKey) -> bool {
        let now = Instant::now();
        let may_here = self.request_rates(door).into_iter().all(|rate| rate.check(&client, now).is_ok());
        may_here && self.may_ask_anywhere(door, client)
    }

    /// One more waits, if there is room for one; it must leave.
    pub(super) fn enter(&self, door: &OfDoor) -> bool {
        if !self.waiting.enter() {
            return false;
        }
        let enters = door.waiting.enter();
        if !enters {
            self.waiting.leave();
        }
        enters
    }

    pub(super) fn leave(&self, door: &OfDoor) {
        door.waiting.leave();
        self.waiting.leave();
    }

    /// The rates of starts that hold for a listener, each with its place in what is noted of a start.
    pub(super) fn start_rates<'a>(&'a self, door: &'a OfDoor) -> [&'a RateLimit<ClientKey>; 2] {
        [&self.rates.starts, &door.rates.starts]
    }

    /// Those of requests outside of sessions.
    pub(super) fn request_rates<'a>(&'a self, door: &'a OfDoor) -> [&'a RateLimit<ClientKey>; 2] {
        [&self.rates.requests, &door.rates.requests]
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<OfDoor>>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Those who wait, and those whose turn is next; each has a connection.
fn places(limits: &LimitsConfig) -> usize {
    usize::try_from(limits.max_waiting.saturating_add(limits.max_connections)).unwrap_or(usize::MAX)
}

impl Terms {
    fn new(name: &str, all: &LimitsConfig, own: &ListenerLimitsConfig) -> Terms {
        Terms {
            maxima: OfListener::sessions(name, own),
            when_full: own.when_full.unwrap_or(all.when_full),
            max_wait: own.max_wait.unwrap_or(all.max_wait),
        }
    }
}

impl OfDoor {
    fn new(name: &str) -> OfDoor {
        let terms = Terms::new(name, &LimitsConfig::default(), &ListenerLimitsConfig::default());
        OfDoor {
            name: name.into(),
            terms: ArcSwap::from_pointee(terms),
            rates: Rates::new(),
            waiting: Crowd::new(u32::MAX),
        }
    }

    pub(super) fn terms(&self) -> Arc<Terms> {
        self.terms.load_full()
    }
}
