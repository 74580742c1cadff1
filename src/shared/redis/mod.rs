//! What replicas tell each other: several gateways with one Redis agree on sessions, pins and control connections.
//!
//! Each replica has a *mirror* of what the others have, so that nobody asks the Redis for each datagram, chunk or
//! request. News travel at once, over one channel ([`News`]); what must be known later also lies in keys, which expire
//! by themselves. After each connect a replica reads all of them and writes what it has, so news that were lost, or a
//! Redis that came back empty, do no lasting harm. The price is that a replica may be a moment behind, and that it counts
//! on its mirror alone while the Redis cannot be used.
//!
//! Nobody waits for the Redis but those who ask it something ([`Redis::run`]) or who must know that something is written
//! ([`Redis::tell_and_wait`]), and they no longer than `timeout`, or twice that. One task keeps the connection and writes in the order of
//! telling, many news in one round trip.

mod connect;
mod keys;
mod limits;
mod line;
pub mod record;
mod scripts;
mod sync;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    task::AbortHandle,
    time::timeout,
};

use self::{connect::Connection, keys::Keys};
pub use self::{
    connect::RedisError,
    record::{Lives, News, Part, ReplicaId, SharedSession},
    scripts::{Ran, Script},
};
use super::{ControlNews, Key, PinState};
use crate::{config::RedisConfig, telemetry::Outcome};

/// News that may wait to be written; above it the connection counts as lost, and all is written anew.
const QUEUE: usize = 65_536;

/// What the keys of the Redis hold, as far as it is sound.
#[derive(Debug, Default)]
pub struct Found {
    /// The live sessions.
    pub sessions: Vec<SharedSession>,
    /// The pins.
    pub pins: Vec<PinState>,
    /// The control connections of each other replica, each with its upstream.
    pub controls: Vec<(ReplicaId, String, ControlNews)>,
    /// The replicas that live, this one among them.
    pub replicas: Vec<ReplicaId>,
    /// What hides the ids of sessions in what all of them show.
    pub label_key: Option<(u64, u64)>,
}

/// What the Redis has of one id.
#[derive(Debug, Default)]
pub struct Lookup {
    /// The session, if it is live.
    pub session: Option<SharedSession>,
    /// Its start was refused lately.
    pub refused: bool,
    /// An operator ended it lately.
    pub cancelled: bool,
}

/// What came of an end.
#[derive(Debug, Clone, PartialEq)]
pub enum Ending {
    /// This replica is the first that told it; with what all of them did of it, so far as it was written.
    First(Vec<(ReplicaId, Part)>),
    /// Another one told it before.
    Told,
    /// The Redis cannot be used.
    Unknown,
}

/// Who keeps the mirror. None of it may wait.
pub trait Mirror: Send + Sync {
    /// The connection is there, and this is what the keys hold; returns what this replica has, which is written first.
    fn synced(&self, found: Found) -> Vec<News>;

    /// What hides the ids of sessions here, should nobody else have anything.
    fn label_key(&self) -> (u64, u64);

    /// Another replica tells this.
    fn heard(&self, from: ReplicaId, news: News);

    /// These replicas live, in order, this one among them; about once a second.
    fn live(&self, replicas: &[ReplicaId]);

    /// A session of which this replica told that it lives has ended already.
    fn gone(&self, key: Key);

    /// A session that lives here was over for the others, and is no more.
    fn back(&self, key: Key);

    /// The Redis cannot be used any more.
    fn lost(&self);
}

/// How long and how much is kept there.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// How long a session is kept of which nobody tells anything.
    pub session_ttl: Duration,
    /// Pins at most, over all upstreams.
    pub max_pins: u64,
}

/// One replica's way to the Redis. Cloning shares it; with the last one the connection goes.
#[derive(Clone)]
pub struct Redis {
    inner: Arc<Inner>,
    _task: Arc<Task>,
}

/// Keeps the connection until this drops.
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Inner {
    me: ReplicaId,
    config: RedisConfig,
    keys: Keys,
    terms: ArcSwap<Terms>,
    queue: mpsc::Sender<Write>,
    /// News are queued: there is a connection, or one is being made use of.
    takes: AtomicBool,
    /// None while it cannot be used.
    connection: ArcSwapOption<Connection>,
    replicas: ArcSwap<Vec<ReplicaId>>,
    failures: AtomicU64,
    /// Round trips in which news were written.
    written: AtomicU64,
    /// The queue was full.
    overflown: AtomicBool,
    /// An answer is overdue.
    overdue: Notify,
    /// Whether it can be used, for who waits for that.
    up: watch::Sender<bool>,
}

/// Something to be written, and who wants to know that it is.
struct Write {
    news: News,
    done: Option<oneshot::Sender<()>>,
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").field("me", &self.inner.me).field("is_up", &self.is_up()).finish_non_exhaustive()
    }
}

/// Looks whether the Redis can be used, and may be with this user and password.
///
/// # Errors
/// It cannot.
pub async fn look(config: &RedisConfig) -> Result<(), RedisError> {
    connect::look(config).await
}

impl Redis {
    /// Begins to connect, as this replica, and goes on until it is dropped. Needs a runtime.
    pub fn start(config: &RedisConfig, me: ReplicaId, terms: Terms, mirror: Arc<dyn Mirror>) -> Redis {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let inner = Arc::new(Inner {
            me,
            keys: Keys::new(&config.key_prefix),
            config: config.clone(),
            terms: ArcSwap::from_pointee(terms),
            queue,
            takes: AtomicBool::new(false),
            connection: ArcSwapOption::empty(),
            replicas: ArcSwap::from_pointee(vec![me]),
            failures: AtomicU64::new(0),
            written: AtomicU64::new(0),
            overflown: AtomicBool::new(false),
            overdue: Notify::new(),
            up: watch::Sender::new(false),
        });
        let task = tokio::spawn(line::keep(inner.clone(), mirror, waiting)).abort_handle();
        Redis { inner, _task: Arc::new(Task(task)) }
    }

    /// From now on these hold.
    pub fn set_terms(&self, terms: Terms) {
        self.inner.terms.store(Arc::new(terms));
    }

    /// This replica.
    pub fn me(&self) -> ReplicaId {
        self.inner.me
    }

    /// Whether it can be used now.
    pub fn is_up(&self) -> bool {
        self.inner.connection.load().is_some()
    }

    /// Waits until it can be used, or for `patience`.
    pub async fn up(&self, patience: Duration) -> bool {
        matches!(timeout(patience, self.inner.up.subscribe().wait_for(|up| *up)).await, Ok(Ok(_)))
    }

    /// How often it could not be used when it was tried.
    pub fn failures(&self) -> u64 {
        self.inner.failures.load(Ordering::Relaxed)
    }

    /// The replicas that live, in order, as they were known last; this one is among them.
    pub fn replicas(&self) -> Arc<Vec<ReplicaId>> {
        self.inner.replicas.load_full()
    }

    /// Tells all other replicas, and writes down what is to be known later. Waits for nothing; while the Redis cannot be
    /// used it is told to nobody, for then all is told anew.
    pub fn tell(&self, news: News) {
        self.inner.queue(Write { news, done: None });
    }

    /// The same; false where it was not written within `timeout`, or twice that where other news went before it.
    pub async fn tell_and_wait(&self, news: News) -> bool {
        let (done, mut written) = oneshot::channel();
        let before = self.inner.written.load(Ordering::Acquire);
        if !self.inner.queue(Write { news, done: Some(done) }) {
            return false;
        }
        let patience = self.inner.config.timeout;
        let mut told = timeout(patience, &mut written).await;
        if told.is_err() && self.inner.written.load(Ordering::Acquire) != before {
            told = timeout(patience, written).await;
        }
        let is_written = matches!(told, Ok(Ok(())));
        if !is_written {
            self.inner.overdue();
        }
        is_written
    }

    /// The full name of a key of this prefix. All are in one slot of a cluster.
    pub fn key(&self, name: &str) -> String {
        self.inner.keys.of(name)
    }

    /// Runs a script; none where the Redis cannot be used, or does not answer within `timeout`.
    pub async fn run(&self, script: &Script, keys: &[String], arguments: &[Vec<u8>]) -> Option<Ran> {
        let mut connection = Connection::clone(&*self.inner.connection.load_full()?);
        let ran = timeout(self.inner.config.timeout, script.run(&mut connection, keys, arguments)).await;
        match ran {
            Ok(Ok(ran)) => Some(ran),
            Ok(Err(error)) if error.is_io_error() => {
                self.inner.overdue();
                None
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "The Redis does not do what it is asked.");
                None
            }
            Err(_) => {
                self.inner.overdue();
                None
            }
        }
    }

    /// Tells that a session is over, if nobody did before; all others hear of it with [`News::Ended`].
    pub async fn end(&self, key: Key, outcome: Outcome) -> Ending {
        let keys = &self.inner.keys;
        let names = [keys.session(key), keys.gone(key), keys.sessions()];
        let arguments = [keys::hex(&key.0), keys::GONE_FOR.to_owned(), outcome.as_str().to_owned()];
        match self.run(&scripts::END, &names, &arguments.map(String::into_bytes)).await {
            Some(ran) => sync::ending(ran),
            None => Ending::Unknown,
        }
    }

    /// Looks for a session that is not known here; none where the Redis cannot be used.
    pub async fn find(&self, key: Key) -> Option<Lookup> {
        let mut connection = Connection::clone(&*self.inner.connection.load_full()?);
        let found = timeout(self.inner.config.timeout, sync::find(&mut connection, &self.inner.keys, key)).await;
        match found {
            Ok(Ok(found)) => Some(found),
            // Whatever it says instead: what others have told of it cannot be known.
            _ => {
                self.inner.overdue();
                None
            }
        }
    }
}

impl Inner {
    /// An answer is overdue, or the connection broken: from now on it cannot be used.
    fn overdue(&self) {
        self.connection.store(None);
        self.up.send_replace(false);
        self.overdue.notify_one();
    }

    fn queue(&self, write: Write) -> bool {
        if !self.takes.load(Ordering::Acquire) {
            return false;
        }
        let queued = self.queue.try_send(write).is_ok();
        if !queued {
            self.overflown.store(true, Ordering::Release);
        }
        queued
    }
}
