//! The other replicas: what this gateway tells them of its sessions, pins and control connections, and what it mirrors of
//! theirs.
//!
//! Each session of theirs is in the table here as a guest, with a lease and a permit, so that a request of it may come in
//! here and limits and balance see the load of all. It is shown at its home: where it began, or, once that replica is gone,
//! at the first of those that live. Whoever is the first to tell its end writes its record, with what all have done.

mod ends;
mod mirror;
mod sessions;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio_util::task::TaskTracker;

use self::{ends::Ends, mirror::OfRedis, sessions::OfSessions};
use super::{StartError, running::Run, upgrade::Places};
use crate::{
    config::{Config, OnUnavailable},
    net::tls::use_everywhere,
    shared::redis::{self as store, News, Redis, ReplicaId, SharedSession, Terms},
    telemetry::{KeptNow, chain},
    upstream::{Control, PinNews},
};

/// Until then what the other replicas have is read, at the start; then this one begins without.
const READING: Duration = Duration::from_secs(3);
/// How long others may take to tell what they have once the Redis is back; until then starts still go by the hash.
const SETTLING: Duration = Duration::from_secs(3);
/// How often the log says that requests of unknown sessions go by the hash.
const TOLD: Duration = Duration::from_secs(10);
/// A session is kept so much longer than it may be idle, twice.
const LONGER: Duration = Duration::from_secs(60);

/// What is known of the other replicas.
#[derive(Debug)]
pub(super) struct Replicas {
    pub(super) redis: Redis,
    on_unavailable: OnUnavailable,
    /// The control connections of the others.
    controls: Mutex<HashMap<(ReplicaId, String, u64), Control>>,
    /// Those that live, in order.
    live: Mutex<Vec<ReplicaId>>,
    /// The process that this one takes over from: its control connections are known by the way to it.
    older: Mutex<Option<ReplicaId>>,
    ends: Ends,
    /// What was known was not all for a while; since when it is told again, where it is.
    away: Mutex<Away>,
    /// When sessions were told again last, so that they do not expire; and whose data moves.
    told: Mutex<Told>,
    /// Ends that are under way.
    ending: TaskTracker,
}

/// Whether this replica was on its own.
#[derive(Debug, Clone, Copy)]
enum Away {
    /// It was not, or that is long ago.
    No,
    /// It is.
    Yes,
    /// It is no more since then.
    Until(Instant),
}

#[derive(Debug)]
struct Told {
    sessions: Instant,
    data: Instant,
    unverified: Option<Instant>,
}

impl Replicas {
    /// Whether sessions outlive this process in the Redis, or at another replica.
    pub(super) fn go_on_elsewhere(&self) -> bool {
        self.redis.is_up() || lock(&self.live).len() > 1
    }

    /// How it stands, for metrics and readiness.
    pub(super) fn now(&self) -> KeptNow {
        let replicas = Some(lock(&self.live).len());
        KeptNow { is_well: self.redis.is_up(), failures: self.redis.failures(), replicas }
    }

    /// Whether the Redis is back, and others may not have told yet what they have.
    fn is_settling(&self) -> bool {
        let mut away = lock(&self.away);
        match *away {
            Away::No => false,
            Away::Yes => true,
            Away::Until(back) if back.elapsed() < SETTLING => true,
            Away::Until(_) => {
                *away = Away::No;
                false
            }
        }
    }

    /// This replica.
    pub(super) fn me(&self) -> ReplicaId {
        self.redis.me()
    }

    /// The replica where a session is shown that began at `home`.
    fn home_of(&self, home: ReplicaId) -> ReplicaId {
        let live = lock(&self.live);
        if live.contains(&home) { home } else { live.first().copied().unwrap_or(self.redis.me()) }
    }

    /// Something has become of a pin.
    pub(super) fn pin(&self, news: PinNews) {
        self.redis.tell(match news {
            PinNews::Set(pin) => News::Pin(pin),
            PinNews::Removed(upstream, hash) => News::Unpin(upstream, hash),
        });
    }

    /// What the process before this one says of itself: its control connections come by the way to it.
    pub(super) fn set_older(&self, older: ReplicaId) {
        *lock(&self.older) = Some(older);
        lock(&self.controls).retain(|(replica, _, _), _| *replica != older);
        let mut live = lock(&self.live);
        live.push(older);
        live.sort_unstable();
        live.dedup();
    }

    /// All sessions as the next process needs them.
    pub(super) fn sessions(&self, run: &Run) -> Vec<SharedSession> {
        let all = run.parts.sessions.all();
        all.iter().filter_map(|session| session.shared(self.redis.me(), true)).collect()
    }

    /// Tells the others that this one ends, and waits until all ends are written, or for `patience`.
    pub(super) async fn finish(&self, patience: Duration) {
        self.ending.close();
        let _ = tokio::time::timeout(patience, self.ending.wait()).await;
        let _ = self.redis.tell_and_wait(News::Bye).await;
    }
}

/// How long and how much this config lets the Redis keep.
fn terms(config: &Config) -> Terms {
    let pins = config.upstreams.iter().map(|upstream| u64::from(upstream.max_pins));
    Terms { session_ttl: (config.timeouts.session_idle + LONGER) * 2, max_pins: pins.sum() }
}

/// Looks whether the Redis that the config names, if it does, can be used.
///
/// # Errors
/// It says no, or it cannot be reached and nothing goes on without it. What may pass is returned in words.
pub(super) async fn look(config: &Config) -> Result<Option<String>, StartError> {
    let Some(redis) = config.state.redis() else { return Ok(None) };
    use_everywhere();
    match store::look(redis).await {
        Ok(()) => Ok(None),
        Err(error) if error.may_pass() && redis.on_unavailable == OnUnavailable::Local => Ok(Some(chain(&error))),
        Err(source) => {
            let urls = redis.redis.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            Err(StartError::Redis { urls, source })
        }
    }
}

impl Run {
    /// Shares sessions, pins and control connections with all who use the Redis that the config names, if it does; has
    /// read by then what they have, where that can be.
    pub(super) async fn share(self: &Arc<Self>) -> Result<(), StartError> {
        let config = self.config();
        let Some(redis) = config.state.redis() else { return Ok(()) };
        if let Some(error) = look(&config).await? {
            tracing::warn!(error, "The Redis that replicas share cannot be used; this one begins on its own.");
        }
        let me = ReplicaId::new();
        let mirror = Arc::new(OfRedis(self.me.clone()));
        let now = Instant::now();
        let replicas = Replicas {
            redis: Redis::start(redis, me, terms(&config), mirror),
            on_unavailable: redis.on_unavailable,
            controls: Mutex::default(),
            live: Mutex::new(vec![me]),
            older: Mutex::default(),
            ends: Ends::default(),
            away: Mutex::new(Away::No),
            told: Mutex::new(Told { sessions: now, data: now, unverified: None }),
            ending: TaskTracker::new(),
        };
        let replicas = self.replicas.get_or_init(|| replicas);
        self.parts.sessions.share_with(Box::new(OfSessions(self.me.clone())));
        self.watch_controls();
        if replicas.redis.up(READING).await {
            tracing::info!(replica = %me, replicas = replicas.redis.replicas().len(), "Sessions are shared.");
        } else {
            *lock(&replicas.away) = Away::Yes;
        }
        Ok(())
    }

    /// What may be kept in the Redis goes by this config from now on.
    pub(super) fn share_by(&self, config: &Config) {
        if let Some(replicas) = self.replicas.get() {
            replicas.redis.set_terms(terms(config));
        }
    }

    /// Whoever is to know hears of control connections from now on: the process that takes over, and the other replicas.
    pub(super) fn watch_controls(&self) {
        let is_wanted = self.replicas.get().is_some() || self.links.has_newer();
        for upstream in self.generation().upstreams.values() {
            let (me, name) = (self.me.clone(), upstream.name().to_owned());
            let hook = move |news: crate::shared::ControlNews| {
                let Some(run) = me.upgrade() else { return };
                run.links.tell_control(&name, &news);
                if let Some(replicas) = run.replicas.get() {
                    replicas.redis.tell(News::Control(name.clone(), news));
                }
            };
            upstream.watch_controls(is_wanted.then(|| Box::new(hook) as _));
        }
    }

    /// Goes on with a session of another replica as a guest; one that is here already learns what was done of it there.
    pub(super) fn bring_guest(&self, replicas: &Replicas, shared: &SharedSession) {
        let sessions = &self.parts.sessions;
        let key = shared.state.key;
        if sessions.of(key).is_none() {
            let generation = self.generation();
            let leads = |name: &str| generation.config.listeners.iter().any(|listener| listener.name == name);
            // A name that nobody has here gets no series.
            let at = generation.config.listeners.iter().find(|it| it.upstream.as_ref() == Some(&shared.state.upstream));
            let listener = Some(&shared.state.listener).filter(|name| leads(name)).or(at.map(|it| &it.name));
            let Some((places, listener)) = Places::take(self, &shared.state).zip(listener) else { return };
            let metrics = self.parts.metrics.listener(listener);
            let (upstream, lease, permit) = places.into_parts();
            if !sessions.bring_guest(shared, upstream, metrics, (lease, permit)) {
                return;
            }
        }
        let Some(session) = sessions.of(key) else { return };
        let me = replicas.redis.me();
        shared.parts.iter().filter(|(from, _)| *from != me).for_each(|(from, part)| session.add_part(*from, part));
        if let Some(home) = session.home() {
            session.set_guest(replicas.home_of(home) != me);
        }
        self.end_as_seen(replicas, &session);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
