//! Bandwidth: caps on how fast the bytes of streams may go, one inside the other, each for either direction.
//!
//! A stream is under the caps of its session, its client, its node, its listener and of all, as far as there are any. Streams
//! under the same cap that all have much to send get equal shares of it. A cap lets pass 50 ms of its rate, and at least
//! 4 KiB, at once after a pause; what it gives a stream in one turn is 20 ms of the rate, from 1500 bytes to 64 KiB, and less
//! where many wait, so that each stream is served about twice a second however slow it goes. A datagram is never divided: hundreds of
//! flows of large ones under a small cap make that longer.
//!
//! Where there are several replicas each has a share of a cap (`replicas`), so that they keep to it together.

mod bucket;
mod replicas;
mod shaper;
mod share;

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasher, Hash, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use self::{
    replicas::Share,
    shaper::{Cap, seconds},
};
pub use self::{
    replicas::{CapName, Round, Told},
    shaper::Shaper,
};
use super::client::ClientKey;
use crate::{
    config::{BandwidthConfig, Config},
    telemetry::{Direction, Scope},
};

/// So many caps are kept before the first look for those that nobody needs.
const FIRST_LOOK: usize = 64;

/// What a stream belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Flow {
    /// The name of the listener through which it goes.
    pub listener: Arc<str>,
    /// The client.
    pub client: ClientKey,
    /// The session, control connection, flow of data or tunnel, by a number of its own; `None` is under no such cap.
    pub session: Option<u128>,
    /// The node, by a name that no other has; `None` is under no such cap.
    pub node: Option<Arc<str>>,
}

/// All caps of the gateway; they may change while it runs.
#[derive(Clone)]
pub struct Bandwidth(Arc<Root>);

struct Root {
    /// Counts changes of the settings; the first is 1.
    generation: AtomicU64,
    /// Whether there is any cap at all; where there is none, nobody is held up by the lock.
    any: AtomicBool,
    /// What the numbers of this process begin with, so that none is the id of a session.
    own: u64,
    keys: RandomState,
    numbers: AtomicU64,
    /// Nanoseconds, by [`Scope`] and [`Direction`].
    throttled: [[Arc<AtomicU64>; 2]; 4],
    caps: Mutex<Caps>,
}

struct Caps {
    settings: Settings,
    live: HashMap<Key, Arc<Cap>>,
    /// Of the caps that replicas share now.
    shares: HashMap<Key, Share>,
    /// Other caps are divided by this, while it cannot be agreed on shares.
    divided: u32,
    look_at: usize,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Settings {
    all: BandwidthConfig,
    listeners: HashMap<Arc<str>, BandwidthConfig>,
}

/// Which cap: its scope and direction, of one listener or of all, and whose.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    scope: Scope,
    direction: Direction,
    listener: Option<Arc<str>>,
    whose: Whose,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Whose {
    All,
    Client(ClientKey),
    Session(u128),
    Node(Arc<str>),
}

impl Bandwidth {
    /// The caps of a config.
    pub fn new(config: &Config) -> Bandwidth {
        let caps = Caps {
            settings: Settings::of(config),
            live: HashMap::new(),
            shares: HashMap::new(),
            divided: 1,
            look_at: FIRST_LOOK,
        };
        Bandwidth(Arc::new(Root {
            generation: AtomicU64::new(1),
            any: AtomicBool::new(caps.settings.has_any()),
            own: RandomState::new().hash_one(0),
            keys: RandomState::new(),
            numbers: AtomicU64::new(0),
            throttled: Default::default(),
            caps: Mutex::new(caps),
        }))
    }

    /// Takes over the caps of another config; streams follow at once.
    pub fn apply(&self, config: &Config) {
        let mut caps = self.lock();
        let settings = Settings::of(config);
        if caps.settings == settings {
            return;
        }
        caps.settings = settings;
        caps.follow_all();
        self.0.any.store(caps.settings.has_any(), Ordering::Relaxed);
        self.0.generation.fetch_add(1, Ordering::Release);
    }

    /// The pace of one direction of a stream.
    pub fn stream(&self, flow: Flow, direction: Direction) -> Shaper {
        Shaper::new(self.clone(), flow, direction)
    }

    /// The number of what makes up a session where there is no id: always the same for the same.
    pub fn number_of(&self, whole: &impl Hash) -> u128 {
        u128::from(self.0.own) << 64 | u128::from(self.0.keys.hash_one(whole))
    }

    /// A number for a connection, tunnel or flow that is a session of its own.
    pub fn number(&self) -> u128 {
        u128::from(self.0.own) << 64 | u128::from(self.0.numbers.fetch_add(1, Ordering::Relaxed))
    }

    /// How long streams have waited for caps since the beginning, added up over all streams.
    pub fn throttled(&self, scope: Scope, direction: Direction) -> Duration {
        seconds(&self.0.throttled[scope as usize][direction as usize])
    }

    fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Acquire)
    }

    /// The caps that concern a stream, from the narrowest to the widest; one of a listener comes before that of all.
    fn caps(&self, flow: &Flow, direction: Direction) -> Vec<Arc<Cap>> {
        let mut found = Vec::new();
        if !self.0.any.load(Ordering::Relaxed) {
            return found;
        }
        let mut caps = self.lock();
        for scope in Scope::ALL.iter().copied() {
            let whose = match scope {
                Scope::Total => Some(Whose::All),
                Scope::Client => Some(Whose::Client(flow.client)),
                Scope::Session => flow.session.map(Whose::Session),
                Scope::Node => flow.node.clone().map(Whose::Node),
            };
            let Some(whose) = whose else { continue };
            for listener in [Some(flow.listener.clone()), None] {
                let key = Key { scope, direction, listener, whose: whose.clone() };
                if caps.settings.rate(&key).is_some() {
                    found.push(caps.get(key, &self.0));
                }
            }
        }
        found
    }

    fn lock(&self) -> MutexGuard<'_, Caps> {
        self.0.caps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Bandwidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bandwidth").field("generation", &self.generation()).finish_non_exhaustive()
    }
}

impl Caps {
    fn get(&mut self, key: Key, root: &Root) -> Arc<Cap> {
        if let Some(cap) = self.live.get(&key) {
            return cap.clone();
        }
        if self.live.len() >= self.look_at {
            // A cap that is no longer used is kept until it is whole: who comes back finds the debt that was left.
            self.live.retain(|_, cap| Arc::strong_count(cap) > 1 || !cap.is_whole());
            self.look_at = 2 * self.live.len() + FIRST_LOOK;
        }
        let throttled = root.throttled[key.scope as usize][key.direction as usize].clone();
        let cap = Arc::new(Cap::new(self.rate_here(&key), throttled));
        self.live.insert(key, cap.clone());
        cap
    }
}

impl Settings {
    fn of(config: &Config) -> Settings {
        let own = config.listeners.iter().map(|l| (Arc::from(l.name.as_str()), l.limits.bandwidth.clone()));
        Settings { all: config.bandwidth.clone(), listeners: own.collect() }
    }

    fn has_any(&self) -> bool {
        self.listeners.values().chain([&self.all]).any(|config| *config != BandwidthConfig::default())
    }

    fn rate(&self, key: &Key) -> Option<u64> {
        let config = match &key.listener {
            None => &self.all,
            Some(name) => self.listeners.get(name)?,
        };
        let both = match key.scope {
            Scope::Total => config.total,
            Scope::Client => config.per_client,
            Scope::Session => config.per_session,
            Scope::Node => config.per_node,
        };
        match key.direction {
            Direction::Upload => both.upload,
            Direction::Download => both.download,
        }
    }
}

#[cfg(test)]
mod tests;
