//! Limits that replicas count together: places of sessions, rates, and caps on bandwidth.
//!
//! Nobody waits for the Redis but a start that has its place here. Requests outside of sessions are counted a moment later,
//! and who is over its rate among all replicas is known from then on. Caps are shared in rounds (`rounds`).

mod rounds;

use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    sync::mpsc,
    task::AbortHandle,
    time::{MissedTickBehavior, interval},
};

use super::{parts::Parts, running::Run};
use crate::{
    fallback,
    limit::{Maxima, OfListener},
    shared::redis::Redis,
    shared::{
        Key, SessionState,
        limits::{Events, Paced, Reserved, Starting},
    },
};

/// Ends of sessions that may wait to be told; more of them become free by themselves.
const RELEASES: usize = 16_384;
/// How often the places of live sessions are held for longer.
const REFRESH: Duration = Duration::from_secs(5);
/// How often it is told what has been asked outside of sessions.
const COUNT: Duration = Duration::from_millis(100);
/// Rates of clients that are told of at once; others go by what holds here alone.
const COUNTED: usize = 10_000;
/// Those of them that are told in one step.
const STEP: usize = 256;
/// Rates that are known to be used up; others go by what holds here alone.
const USED_UP: usize = 100_000;
/// How often those are forgotten that are used up no more.
const FORGET: Duration = Duration::from_secs(1);

/// What is counted with the other replicas, until it drops.
#[derive(Debug)]
pub(super) struct SharedLimits {
    counting: Counting,
    tasks: Vec<AbortHandle>,
}

/// As the fallback doors see it.
#[derive(Debug, Clone)]
struct Counting {
    redis: Redis,
    releases: mpsc::Sender<Key>,
    asked: Arc<Mutex<Asked>>,
}

/// What clients ask for outside of sessions.
#[derive(Debug, Default)]
struct Asked {
    /// What is to be told, by the name of the rate.
    events: HashMap<String, Events>,
    /// Rates that are used up until then.
    until: HashMap<String, Instant>,
    /// When some of those were forgotten last.
    forgot: Option<Instant>,
}

impl SharedLimits {
    /// From now on limits are counted with all that use this Redis.
    fn start(redis: &Redis, parts: &Parts) -> SharedLimits {
        let (releases, released) = mpsc::channel(RELEASES);
        let counting = Counting { redis: redis.clone(), releases, asked: Arc::default() };
        parts.entry.share(Some(Box::new(counting.clone())));
        let (entry, sessions, me) = (parts.entry.clone(), parts.sessions.clone(), redis.me());
        let live = move || -> Vec<_> {
            let own = sessions.all().into_iter().filter(|session| !session.is_guest());
            own.filter_map(|session| session.shared(me, true))
                .map(|it| (it.state.key, places(&entry, &it.state)))
                .collect()
        };
        let tasks = vec![
            tokio::spawn(release(redis.clone(), released)).abort_handle(),
            tokio::spawn(refresh(redis.clone(), live)).abort_handle(),
            tokio::spawn(count(redis.clone(), counting.asked.clone())).abort_handle(),
            tokio::spawn(rounds::go_round(redis.clone(), parts.bandwidth.clone())).abort_handle(),
        ];
        SharedLimits { counting, tasks }
    }
}

impl Drop for SharedLimits {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl fallback::SharedLimits for Counting {
    fn reserve(&self, starting: Starting) -> Pin<Box<dyn Future<Output = Reserved> + Send>> {
        let redis = self.redis.clone();
        Box::pin(async move { redis.reserve(&starting).await })
    }

    fn release(&self, key: Key) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let redis = self.redis.clone();
        Box::pin(async move { redis.release(&[key]).await })
    }

    fn count(&self, rates: Vec<Paced>) -> bool {
        lock(&self.asked).count(rates, Instant::now())
    }
}

impl Asked {
    fn count(&mut self, rates: Vec<Paced>, now: Instant) -> bool {
        if rates.iter().any(|rate| self.until.get(&rate.name).is_some_and(|until| *until > now)) {
            return false;
        }
        for rate in rates {
            if self.events.len() < COUNTED || self.events.contains_key(&rate.name) {
                self.events.entry(rate.name.clone()).or_insert(Events { rate, count: 0 }).count += 1;
            }
        }
        true
    }

    /// What is to be told; who may ask again is forgotten.
    fn take(&mut self, now: Instant) -> Vec<Events> {
        if self.forgot.is_none_or(|last| now.saturating_duration_since(last) >= FORGET) {
            self.forgot = Some(now);
            self.until.retain(|_, until| *until > now);
        }
        std::mem::take(&mut self.events).into_values().collect()
    }

    /// So long is each of these used up.
    fn wait(&mut self, events: &[Events], waits: &[Duration], now: Instant) {
        for (events, wait) in events.iter().zip(waits).filter(|(_, wait)| !wait.is_zero()) {
            if self.until.len() < USED_UP || self.until.contains_key(&events.rate.name) {
                self.until.insert(events.rate.name.clone(), now + *wait);
            }
        }
    }
}

impl Run {
    /// Counts limits with the other replicas from now on, if there are any.
    pub(super) fn share_limits(&self) {
        if let Some(replicas) = self.replicas.get() {
            self.shared_limits.get_or_init(|| SharedLimits::start(&replicas.redis, &self.parts));
        }
    }

    /// A session is over: others may have its places.
    pub(super) fn free_places(&self, key: Key) {
        if let Some(limits) = self.shared_limits.get() {
            let _ = limits.counting.releases.try_send(key);
        }
    }
}

fn lock(asked: &Mutex<Asked>) -> MutexGuard<'_, Asked> {
    asked.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The names of what a session takes a place of.
fn places(entry: &fallback::Entry, state: &SessionState) -> Vec<String> {
    let (listener, user) = (OfListener::new(&state.listener, Maxima::default()), state.user.as_deref().map(Arc::from));
    let shared = entry.sessions().shared(&listener, state.client.into(), user.as_ref());
    shared.into_iter().map(|it| it.scope).collect()
}

async fn release(redis: Redis, mut released: mpsc::Receiver<Key>) {
    let mut some = Vec::new();
    while released.recv_many(&mut some, RELEASES).await > 0 {
        redis.release(&some).await;
        some.clear();
    }
}

/// Holds the places of the sessions whose home is here. After the Redis could not be used it may know none of them.
async fn refresh(redis: Redis, live: impl Fn() -> Vec<(Key, Vec<String>)>) {
    let (mut at, mut known) = (ticks(REFRESH), None);
    loop {
        at.tick().await;
        let failures = redis.failures();
        if redis.is_up() && redis.hold_places(&live(), known != Some(failures)).await {
            known = Some(failures);
        }
    }
}

async fn count(redis: Redis, asked: Arc<Mutex<Asked>>) {
    let mut at = ticks(COUNT);
    loop {
        at.tick().await;
        let all = lock(&asked).take(Instant::now());
        for events in all.chunks(STEP) {
            if let Some(waits) = redis.count(events).await {
                lock(&asked).wait(events, &waits, Instant::now());
            }
        }
    }
}

fn ticks(period: Duration) -> tokio::time::Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(name: &str) -> Paced {
        Paced { name: name.to_owned(), period: Duration::from_secs(1), burst: 1 }
    }

    #[test]
    fn what_is_asked_is_told_later_and_who_asks_too_often_is_refused_from_then_on() {
        let (mut asked, now) = (Asked::default(), Instant::now());
        assert!(asked.count(vec![rate("a"), rate("b")], now) && asked.count(vec![rate("a")], now));
        let mut told = asked.take(now);
        told.sort_by(|a, b| a.rate.name.cmp(&b.rate.name));
        assert_eq!(told, [Events { rate: rate("a"), count: 2 }, Events { rate: rate("b"), count: 1 }]);
        asked.wait(&told, &[Duration::from_secs(3), Duration::ZERO], now);
        assert!(!asked.count(vec![rate("b"), rate("a")], now + Duration::from_secs(2)));
        assert!(asked.events.is_empty(), "a refused one counts nowhere");
        assert!(asked.count(vec![rate("b")], now));
        assert!(asked.count(vec![rate("a")], now + Duration::from_secs(3)));
        asked.take(now + Duration::from_secs(3));
        assert!(asked.until.is_empty());
    }

    #[test]
    fn a_flood_from_very_many_clients_is_told_of_some_only() {
        let (mut asked, now) = (Asked::default(), Instant::now());
        (0..2 * COUNTED).for_each(|n| assert!(asked.count(vec![rate(&n.to_string())], now)));
        assert_eq!(asked.take(now).len(), COUNTED);
        let events: Vec<_> = (0..2 * USED_UP).map(|n| Events { rate: rate(&n.to_string()), count: 1 }).collect();
        asked.wait(&events, &vec![Duration::from_secs(3); events.len()], now);
        assert_eq!(asked.until.len(), USED_UP);
    }
}
