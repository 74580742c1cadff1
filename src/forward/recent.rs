//! Who was connected to what of late, so that a drain ends no transfer: a fallback session through a proxy is one
//! request, and one tunnel, after the other, and the client never tries again (docs/protocol.md, "Forward proxies").

use std::{
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

/// Pairs of client and target, with those that are connected now. Cloning shares them.
#[derive(Debug, Clone)]
pub struct Recent(Arc<Mutex<Pairs>>);

#[derive(Debug)]
struct Pairs {
    /// How many connections there are, and when the last one ended.
    of: LruCache<Pair, (u32, Instant)>,
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
    /// A client is connected to a target from now on.
    pub(super) fn begin(&self, client: IpAddr, target: &Target, now: Instant) -> Connected {
        let pair = (client, target.clone());
        let mut pairs = self.lock();
        pairs.live += 1;
        pairs.of.get_or_insert_mut(pair.clone(), || (0, now)).0 += 1;
        Connected { recent: self.clone(), pair }
    }

    /// Whether the client is connected to the target, or was just now.
    pub(super) fn knows(&self, client: IpAddr, target: &Target, now: Instant) -> bool {
        let pairs = self.lock();
        let pair = pairs.of.peek(&(client, target.clone()));
        pair.is_some_and(|(live, last)| *live > 0 || now.saturating_duration_since(*last) < PAUSE)
    }

    /// Whether nobody is connected, nor was just now.
    #[must_use]
    pub fn is_quiet(&self, now: Instant) -> bool {
        let pairs = self.lock();
        pairs.live == 0 && pairs.last.is_none_or(|last| now.saturating_duration_since(last) >= PAUSE)
    }

    fn end(&self, pair: &Pair, now: Instant) {
        let mut pairs = self.lock();
        pairs.live = pairs.live.saturating_sub(1);
        pairs.last = Some(now);
        if let Some((live, last)) = pairs.of.get_mut(pair) {
            (*live, *last) = (live.saturating_sub(1), now);
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
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.recent.end(&self.pair, Instant::now());
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
        let held = [recent.begin(client, &one, now), recent.begin(client, &one, now)];
        assert!(recent.knows(client, &one, now + 2 * PAUSE) && !recent.is_quiet(now + 2 * PAUSE));
        assert!(!recent.knows(client, &other, now) && !recent.knows(IpAddr::from([192, 0, 2, 2]), &one, now));
        drop(held);
        let ended = Instant::now();
        assert!(recent.knows(client, &one, ended) && !recent.is_quiet(ended));
        assert!(!recent.knows(client, &one, ended + PAUSE) && recent.is_quiet(ended + PAUSE));
    }

    #[test]
    fn many_strangers_fill_no_memory_and_are_counted_right() {
        let (recent, now) = (Recent::default(), Instant::now());
        let to = target::connect(b"n1.example:443").unwrap();
        let held: Vec<_> =
            (0..2 * PLACES as u32).map(|i| recent.begin(IpAddr::from(i.to_be_bytes()), &to, now)).collect();
        assert_eq!(recent.lock().of.len(), PLACES);
        assert_eq!(recent.lock().live, held.len() as u64);
        drop(held);
        assert_eq!(recent.lock().live, 0);
    }
}
