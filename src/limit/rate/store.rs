//! What is kept of each key: one number, in shards, and never more keys than were asked for.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, Hash, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use governor::{nanos::Nanos, state::StateStore};

/// So many keys can be looked at simultaneously; a power of two.
const SHARDS: usize = 64;

/// When the bucket of each key is whole again, in nanoseconds.
pub(super) struct Store<K> {
    hasher: RandomState,
    shards: Vec<Mutex<HashMap<K, u64>>>,
    /// The bucket of all keys for which there is no room.
    overflow: Mutex<Option<u64>>,
    kept: AtomicUsize,
    max: usize,
}

impl<K: Hash + Eq + Clone> Store<K> {
    pub(super) fn new(max: usize) -> Store<K> {
        Store {
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            overflow: Mutex::default(),
            kept: AtomicUsize::new(0),
            max,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.kept.load(Ordering::Relaxed)
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() >= self.max
    }

    /// Forgets every key whose bucket is whole at `at`, and gives room back that is no longer needed.
    pub(super) fn retain_above(&self, at: u64) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            let before = shard.len();
            shard.retain(|_, whole_at| *whole_at > at);
            self.kept.fetch_sub(before - shard.len(), Ordering::Relaxed);
            if shard.capacity() > 4 * shard.len() {
                shard.shrink_to_fit();
            }
        }
    }

    pub(super) fn for_each(&self, change: impl Fn(&mut u64)) {
        for shard in &self.shards {
            lock(shard).values_mut().for_each(&change);
        }
        lock(&self.overflow).iter_mut().for_each(change);
    }

    pub(super) fn clear(&self) {
        self.retain_above(u64::MAX);
        *lock(&self.overflow) = None;
    }

    /// Bytes that the keys take.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        // A table keeps one byte more for each place, and is at most seven eighths full.
        let room: usize = self.shards.iter().map(|shard| lock(shard).capacity() * 8 / 7).sum();
        room * (size_of::<(K, u64)>() + 1)
    }

    fn shard(&self, key: &K) -> Option<&Mutex<HashMap<K, u64>>> {
        let hash = usize::try_from(self.hasher.hash_one(key) >> 32).unwrap_or_default();
        self.shards.get(hash % SHARDS)
    }

    /// Room for one key more, if there is any.
    fn reserve(&self) -> bool {
        let more = |kept: usize| (kept < self.max).then_some(kept + 1);
        self.kept.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }
}

/// The store as limiters hold it.
pub(super) struct Shared<K>(pub(super) Arc<Store<K>>);

impl<K: Hash + Eq + Clone> StateStore for Shared<K> {
    type Key = K;

    fn measure_and_replace<T, F, E>(&self, key: &K, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let store = &self.0;
        if let Some(mut shard) = store.shard(key).map(lock) {
            if let Some(whole_at) = shard.get_mut(key) {
                let (outcome, next) = decide(Some((*whole_at).into()))?;
                *whole_at = next.into();
                return Ok(outcome);
            }
            if store.reserve() {
                let decided = decide(None);
                match decided {
                    Ok((outcome, next)) => {
                        shard.insert(key.clone(), next.into());
                        return Ok(outcome);
                    }
                    Err(error) => {
                        store.kept.fetch_sub(1, Ordering::Relaxed);
                        return Err(error);
                    }
                }
            }
        }
        let mut overflow = lock(&store.overflow);
        let (outcome, next) = decide(overflow.map(Nanos::from))?;
        *overflow = Some(next.into());
        Ok(outcome)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
