//! Who was connected to what of late, so that a drain ends no transfer: a fallback session through a proxy is one
//! request, and one tunnel, after the other, and the client never tries again (docs/protocol.md, "Forward proxies").

use std::{
    collections::HashMap,
    net::IpAddr,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use lru::LruCache;

use super::target::Target;

/// How long after one request of a session the next one may come.
const PAUSE: Duration = Duration::from_secs(10);
/// Pairs that are remembered at once; then the longest unused is forgotten.
const PLACES: usize = 16 * 1024;

type Pair = (IpAddr, Target);

/// What each listener knows, by its name. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub struct Recents(Arc<Mutex<HashMap<String, Recent>>>);

impl Recents {
    /// What a listener knows, whichever generation it is of and wherever it listens.
    pub(super) fn of(&self, listener: &str) -> Recent {
        self.lock().entry(listener.to_owned()).or_default().clone()
    }

    /// Whether nobody is connected through any listener, nor was just now.
    #[must_use]
    pub fn are_quiet(&self, now: Instant) -> bool {
        self.lock().values().all(|recent| recent.is_quiet(now))
    }

    /// Whether nobody is connected through this listener, nor was just now.
    #[must_use]
    pub fn is_quiet(&self, listener: &str, now: Instant) -> bool {
        self.lock().get(listener).is_none_or(|recent| recent.is_quiet(now))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Recent>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Pairs of client and target, with those that are connected now. Cloning shares them.
#[derive(Debug, Clone)]
pub(super) struct Recent(Arc<Mutex<Pairs>>);

#[derive(Debug)]
struct Pairs {
    /// How many connections there are or are being made, and when the last one that stood has ended.
    of: LruCache<Pair, (u32, Option<Instant>)>,
    live: u64,
    last: Option<Instant>,
}

impl Default for Recent {
    fn default() -> Recent {
        let of = LruCache::new(NonZeroUsize::new(PLACES).unwrap_or(NonZeroUsize::MIN));
        Recent(Arc::new(Mutex::new(Pairs { of, live: 0, last: None })))
    }
}

impl Recent {
    /// A client is being connected to a target from now on. As long as nobody says that it is, that leaves no trace.
    pub(super) fn begin(&self, client: IpAddr, target: &Target) -> Connected {
        let pair = (client, target.clone());
        let mut pairs = self.lock();
        pairs.live += 1;
        pairs.of.get_or_insert_mut(pair.clone(), || (0, None)).0 += 1;
        Connected { recent: self.clone(), pair, stood: false }
    }

    /// Whether the client is connected to the target, or was just now.
    pub(super) fn knows(&self, client: IpAddr, target: &Target, now: Instant) -> bool {
        let pairs = self.lock();
        let pair = pairs.of.peek(&(client, target.clone()));
        let was = |last: &Option<Instant>| last.is_some_and(|last| now.saturating_duration_since(last) < PAUSE);
        pair.is_some_and(|(live, last)| *live > 0 || was(last))
    }

    /// Whether the client was connected to the target just now, and is not: what comes next may be of the same session.
    pub(super) fn resumes(&self, client: IpAddr, target: &Target, now: Instant) -> bool {
        let pairs = self.lock();
        let pair = pairs.of.peek(&(client, target.clone()));
        let was = |last: Instant| now.saturating_duration_since(last) < PAUSE;
        pair.is_some_and(|(live, last)| *live == 0 && last.is_some_and(was))
    }

    fn is_quiet(&self, now: Instant) -> bool {
        let pairs = self.lock();
        pairs.live == 0 && pairs.last.is_none_or(|last| now.saturating_duration_since(last) >= PAUSE)
    }

    /// `ended` is when a connection that stood has ended.
    fn end(&self, pair: &Pair, ended: Option<Instant>) {
        let mut pairs = self.lock();
        pairs.live = pairs.live.saturating_sub(1);
        pairs.last = ended.or(pairs.last);
        if let Some((live, last)) = pairs.of.get_mut(pair) {
            (*live, *last) = (live.saturating_sub(1), ended.or(*last));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Pairs> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection of a client to a target.
#[derive(Debug)]
pub(super) struct Connected {
    recent: Recent,
    pair: Pair,
    stood: bool,
}

impl Connected {
    /// It is connected now.
    pub(super) fn stands(mut self) -> Connected {
        self.stood = true;
        self
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.recent.end(&self.pair, self.stood.then(Instant::now));
    }
}

#[cfg(test)]
mod tests {
    use super::{super::target, *};

    #[test]
    fn a_pair_is_known_while_it_is_connected_and_for_a_pause_after() {
        let (recent, now) = (Recent::default(), Instant::now());
        let [one, other] = ["n1.example:443", "n1.example:444"].map(|t| target::connect(t.as_bytes()).unwrap());
        let client = IpAddr::from([192, 0, 2, 1]);
        assert!(recent.is_quiet(now) && !recent.knows(client, &one, now));
        let held = [recent.begin(client, &one).stands(), recent.begin(client, &one)];
        assert!(recent.knows(client, &one, now + 2 * PAUSE) && !recent.is_quiet(now + 2 * PAUSE));
        assert!(!recent.knows(client, &other, now) && !recent.knows(IpAddr::from([192, 0, 2, 2]), &one, now));
        drop(held);
        let ended = Instant::now();
        assert!(recent.knows(client, &one, ended) && !recent.is_quiet(ended));
        assert!(recent.resumes(client, &one, ended) && !recent.resumes(client, &one, ended + PAUSE));
        assert!(!recent.knows(client, &one, ended + PAUSE) && recent.is_quiet(ended + PAUSE));
    }

    #[test]
    fn a_connection_that_never_stood_is_forgotten_at_once() {
        let (recent, client) = (Recent::default(), IpAddr::from([192, 0, 2, 1]));
        let to = target::connect(b"n1.example:443").unwrap();
        let held = recent.begin(client, &to);
        assert!(recent.knows(client, &to, Instant::now()) && !recent.is_quiet(Instant::now()));
        drop(held);
        assert!(!recent.knows(client, &to, Instant::now()) && recent.is_quiet(Instant::now()));
    }

    #[test]
    fn many_strangers_fill_no_memory_and_are_counted_right() {
        let recent = Recent::default();
        let to = target::connect(b"n1.example:443").unwrap();
        let held: Vec<_> = (0..2 * PLACES as u32).map(|i| recent.begin(IpAddr::from(i.to_be_bytes()), &to)).collect();
        assert_eq!(recent.lock().of.len(), PLACES);
        assert_eq!(recent.lock().live, held.len() as u64);
        drop(held);
        assert_eq!(recent.lock().live, 0);
    }
}
