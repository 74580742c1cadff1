//! Pins: which node a key was on, for as long as that may matter. Bounded; the least used go first.

use std::{
    fmt,
    hash::Hasher,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use lru::LruCache;
use siphasher::sip::SipHasher13;

/// What a pin is for. Keys of different kinds never meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PinKind {
    /// Everything of this key goes to one node (`affinity.key`).
    Affinity,
    /// The node has the partial files of the key's last session.
    Resume,
}

/// Hears of a pin that was set to a node, or removed: its hash, and the node.
pub(super) type Hook = Box<dyn Fn(u64, Option<&str>) + Send + Sync>;

/// Keys to node names.
pub(super) struct Pins {
    table: Mutex<LruCache<u64, (String, Instant)>>,
    hook: ArcSwapOption<Hook>,
}

impl fmt::Debug for Pins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pins").field("pins", &self.lock().len()).finish_non_exhaustive()
    }
}

impl Pins {
    pub(super) fn new(max: u32) -> Pins {
        Pins { table: Mutex::new(LruCache::new(size(max))), hook: ArcSwapOption::empty() }
    }

    /// Has somebody hear of what changes from now on, and nobody else.
    pub(super) fn watch(&self, hook: Hook) {
        self.hook.store(Some(Arc::new(hook)));
    }

    fn tell(&self, hash: u64, node: Option<&str>) {
        if let Some(hook) = &*self.hook.load() {
            hook(hash, node);
        }
    }

    pub(super) fn resize(&self, max: u32) {
        self.lock().resize(size(max));
    }

    /// The node of a key whose pin was set less than `idle` before `now`.
    pub(super) fn get(&self, kind: PinKind, key: &[&[u8]], idle: Duration, now: Instant) -> Option<String> {
        let hash = hash(kind, key);
        let mut pins = self.lock();
        let (node, set) = pins.get(&hash)?;
        if now.saturating_duration_since(*set) < idle {
            return Some(node.clone());
        }
        pins.pop(&hash);
        None
    }

    pub(super) fn set(&self, kind: PinKind, key: &[&[u8]], node: &str, now: Instant) {
        let hash = hash(kind, key);
        self.lock().put(hash, (node.to_owned(), now));
        self.tell(hash, Some(node));
    }

    pub(super) fn remove(&self, kind: PinKind, key: &[&[u8]]) {
        let hash = hash(kind, key);
        if self.lock().pop(&hash).is_some() {
            self.tell(hash, None);
        }
    }

    /// All pins by their hashes, the least used first.
    pub(super) fn all(&self) -> Vec<(u64, String, Instant)> {
        self.lock().iter().rev().map(|(hash, (node, set))| (*hash, node.clone(), *set)).collect()
    }

    /// Takes one over that was set elsewhere.
    pub(super) fn bring(&self, hash: u64, node: &str, set: Instant) {
        self.lock().put(hash, (node.to_owned(), set));
    }

    /// Removes one that was removed elsewhere.
    pub(super) fn forget(&self, hash: u64) {
        self.lock().pop(&hash);
    }

    fn lock(&self) -> MutexGuard<'_, LruCache<u64, (String, Instant)>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn size(max: u32) -> NonZeroUsize {
    NonZeroUsize::new(max as usize).unwrap_or(NonZeroUsize::MIN)
}

/// Parts are told apart by their lengths, so that (ab, c) is not (a, bc).
fn hash(kind: PinKind, key: &[&[u8]]) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(0x70_69_6e, kind as u64);
    for part in key {
        hasher.write_usize(part.len());
        hasher.write(part);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(60);

    #[test]
    fn a_pin_is_kept_until_it_is_idle_or_removed() {
        let (pins, now) = (Pins::new(10), Instant::now());
        pins.set(PinKind::Resume, &[b"c", b"u"], "n1", now);
        assert_eq!(pins.get(PinKind::Resume, &[b"c", b"u"], IDLE, now).as_deref(), Some("n1"));
        assert_eq!(pins.get(PinKind::Affinity, &[b"c", b"u"], IDLE, now), None);
        assert_eq!(pins.get(PinKind::Resume, &[b"cu", b""], IDLE, now), None);
        assert_eq!(pins.get(PinKind::Resume, &[b"c", b"u"], IDLE, now + IDLE), None);
        pins.set(PinKind::Resume, &[b"c", b"u"], "n2", now);
        pins.remove(PinKind::Resume, &[b"c", b"u"]);
        assert_eq!(pins.get(PinKind::Resume, &[b"c", b"u"], IDLE, now), None);
    }

    #[test]
    fn the_table_stays_bounded_and_the_least_used_goes() {
        let (pins, now) = (Pins::new(2), Instant::now());
        for key in [b"a", b"b"] {
            pins.set(PinKind::Affinity, &[key], "n", now);
        }
        pins.get(PinKind::Affinity, &[b"a"], IDLE, now);
        pins.set(PinKind::Affinity, &[b"c"], "n", now);
        assert!(pins.get(PinKind::Affinity, &[b"a"], IDLE, now).is_some());
        assert!(pins.get(PinKind::Affinity, &[b"b"], IDLE, now).is_none());
    }
}
