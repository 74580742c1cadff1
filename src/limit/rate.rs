//! How often: a rate with a burst for each key, in bounded memory.
//!
//! The arithmetic is the generic cell rate algorithm: of each key one number is kept, the time at which its bucket is whole
//! again. A key whose bucket is whole is as good as unknown and can be forgotten.

mod store;

use std::{
    fmt,
    hash::Hash,
    num::NonZeroU32,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use governor::{Quota, RateLimiter, clock::Clock, middleware::NoOpMiddleware, nanos::Nanos};

use self::store::{Shared, Store};
use crate::config::RateConfig;

/// A store that is full is searched for keys to forget no more often than this.
const BETWEEN_PRUNINGS: Duration = Duration::from_secs(1);

/// The longest time in which a bucket fills, in nanoseconds: a hundred years.
const MAX_FILLING: u64 = 100 * 365 * 86_400 * 1_000_000_000;

/// A rate for each key, or none; it may change while it runs.
///
/// Above the most keys that are kept, new ones share one bucket until others can be forgotten: a flood from very many
/// addresses then slows itself down, while who was there before is served on.
pub struct RateLimit<K: Hash + Eq + Clone> {
    base: Instant,
    store: Arc<Store<K>>,
    live: RwLock<Option<Live<K>>>,
    next_pruning: AtomicU64,
}

/// How often something may happen, over all replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// From one event to the next in the long run.
    pub period: Duration,
    /// How often at once after a pause.
    pub burst: u32,
}

struct Live<K: Hash + Eq + Clone> {
    rate: RateConfig,
    limiter: RateLimiter<K, Shared<K>, Passed, NoOpMiddleware<Nanos>>,
}

impl<K: Hash + Eq + Clone> RateLimit<K> {
    /// Allows `rate` to each key, everything without one; keeps at most `max_keys` keys. No time before `now` is asked for.
    pub fn new(rate: Option<RateConfig>, max_keys: usize, now: Instant) -> RateLimit<K> {
        let store = Arc::new(Store::new(max_keys));
        let live = rate.map(|rate| Live::new(rate, &store));
        RateLimit { base: now, store, live: RwLock::new(live), next_pruning: AtomicU64::new(0) }
    }

    /// Changes the rate. What a key has used up stays used up, in events and not in time; without a rate all is forgotten.
    pub fn set(&self, rate: Option<RateConfig>, now: Instant) {
        let mut live = self.live.write().unwrap_or_else(PoisonError::into_inner);
        match (rate, live.as_ref()) {
            (Some(new), Some(old)) if new == old.rate => return,
            (Some(new), Some(old)) => self.rescale(old.rate, new, now),
            _ => self.store.clear(),
        }
        *live = rate.map(|rate| Live::new(rate, &self.store));
    }

    /// The rate as replicas count it together, if there is one.
    pub fn pace(&self) -> Option<Pace> {
        let live = self.live.read().unwrap_or_else(PoisonError::into_inner);
        live.as_ref()
            .map(|live| Pace { period: Duration::from_nanos(period(live.rate)), burst: burst(live.rate).get() })
    }

    /// Counts one event of `key`, or says how long until one is allowed; a refused one does not count.
    pub fn check(&self, key: &K, now: Instant) -> Result<(), Duration> {
        let live = self.live.read().unwrap_or_else(PoisonError::into_inner);
        let Some(live) = live.as_ref() else { return Ok(()) };
        let at = self.nanos(now);
        if self.store.is_full() && at >= self.next_pruning.load(Ordering::Relaxed) {
            self.prune(now);
        }
        live.limiter.clock().pass(at);
        live.limiter.check_key(key).map_err(|not| not.wait_time_from(at.into()))
    }

    /// Forgets the keys whose bucket is whole. Costs a look at every key; once in some seconds is enough.
    pub fn prune(&self, now: Instant) {
        let at = self.nanos(now);
        self.next_pruning.store(at.saturating_add(to_nanos(BETWEEN_PRUNINGS)), Ordering::Relaxed);
        self.store.retain_above(at);
    }

    /// How many keys are kept.
    pub fn len(&self) -> usize {
        self.store.len()
    }

    /// Whether no key is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn rescale(&self, old: RateConfig, new: RateConfig, now: Instant) {
        let most = period(new).saturating_mul(u64::from(burst(new).get()));
        let (at, old, new) = (self.nanos(now), period(old), period(new));
        self.store.for_each(|whole_at| {
            let used = u128::from(whole_at.saturating_sub(at)) * u128::from(new) / u128::from(old);
            *whole_at = at.saturating_add(u64::try_from(used).unwrap_or(u64::MAX).min(most));
        });
    }

    fn nanos(&self, now: Instant) -> u64 {
        to_nanos(now.saturating_duration_since(self.base))
    }
}

impl<K: Hash + Eq + Clone> fmt::Debug for RateLimit<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimit").field("keys", &self.len()).finish_non_exhaustive()
    }
}

impl<K: Hash + Eq + Clone> Live<K> {
    fn new(rate: RateConfig, store: &Arc<Store<K>>) -> Live<K> {
        let quota = Quota::with_period(Duration::from_nanos(period(rate)))
            .unwrap_or(Quota::per_second(NonZeroU32::MIN))
            .allow_burst(burst(rate));
        // The clock stands at zero when the limiter is made, so that all limiters count from the same beginning.
        Live { rate, limiter: RateLimiter::new(quota, Shared(store.clone()), Passed::default()) }
    }
}

/// From one event to the next, in nanoseconds; never zero.
fn period(rate: RateConfig) -> u64 {
    rate.rate.period().map_or(u64::MAX, to_nanos).max(1)
}

/// As many at once as can be reckoned with: what fills a bucket in a hundred years.
fn burst(rate: RateConfig) -> NonZeroU32 {
    let most = u32::try_from(MAX_FILLING / period(rate)).unwrap_or(u32::MAX);
    NonZeroU32::new(rate.burst.min(most)).unwrap_or(NonZeroU32::MIN)
}

fn to_nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A clock that is told the time.
#[derive(Debug, Clone, Default)]
struct Passed(Arc<AtomicU64>);

impl Passed {
    fn pass(&self, at: u64) {
        // A look costs other threads nothing; a write does.
        if self.0.load(Ordering::Relaxed) < at {
            self.0.fetch_max(at, Ordering::Relaxed);
        }
    }
}

impl Clock for Passed {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.load(Ordering::Relaxed).into()
    }
}

#[cfg(test)]
mod tests;
