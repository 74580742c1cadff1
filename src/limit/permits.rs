//! Permits: how many there are of each key, taken for several keys at once or not at all, given back when they drop.
//!
//! The maxima are no part of it: who asks says them, so that a reload needs no more than asking differently.

use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Below so many keys no memory is given back.
const KEEP: usize = 1024;

type Hook<K> = Box<dyn Fn(&[K]) + Send + Sync>;

/// Counts what is held of each key. A key of which nothing is held is not kept.
pub struct Permits<K>(Arc<Inner<K>>);

struct Inner<K> {
    held: Mutex<HashMap<K, u32>>,
    freed: Option<Hook<K>>,
}

/// What is asked for: one more of `key`, of which there may be `max`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim<K> {
    /// Of what.
    pub key: K,
    /// How many there may be, this one included; `None` is no maximum, and is counted all the same.
    pub max: Option<u32>,
}

impl<K: Hash + Eq + Clone> Permits<K> {
    /// Nothing is held.
    pub fn new() -> Permits<K> {
        Permits(Arc::new(Inner { held: Mutex::default(), freed: None }))
    }

    /// Nothing is held; `freed` is called, without a lock, with the keys of each permit that is given back.
    pub fn with_hook(freed: impl Fn(&[K]) + Send + Sync + 'static) -> Permits<K> {
        Permits(Arc::new(Inner { held: Mutex::default(), freed: Some(Box::new(freed)) }))
    }

    /// One of every key, or the index of the first claim that is full; then nothing was taken. A key is claimed once.
    pub fn try_acquire(&self, claims: Vec<Claim<K>>) -> Result<Permit<K>, usize> {
        let mut permit = Permit { permits: self.clone(), keys: Vec::new() };
        permit.extend(claims)?;
        Ok(permit)
    }

    /// How many are held of `key`.
    pub fn held(&self, key: &K) -> u32 {
        self.0.lock().get(key).copied().unwrap_or(0)
    }

    /// How many keys something is held of.
    pub fn keys(&self) -> usize {
        self.0.lock().len()
    }
}

impl<K> Inner<K> {
    fn lock(&self) -> MutexGuard<'_, HashMap<K, u32>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Hash + Eq> Inner<K> {
    fn free(&self, keys: &[K]) {
        let mut held = self.lock();
        for key in keys {
            match held.get_mut(key) {
                Some(count) if *count > 1 => *count -= 1,
                _ => {
                    held.remove(key);
                }
            }
        }
        let room = 2 * held.len();
        if held.capacity() > KEEP && held.capacity() / 4 > room {
            held.shrink_to(room);
        }
    }
}

impl<K> Clone for Permits<K> {
    fn clone(&self) -> Self {
        Permits(self.0.clone())
    }
}

impl<K: Hash + Eq + Clone> Default for Permits<K> {
    fn default() -> Self {
        Permits::new()
    }
}

impl<K> fmt::Debug for Permits<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permits").field("keys", &self.0.lock().len()).finish_non_exhaustive()
    }
}

/// One of each of its keys, until it drops.
pub struct Permit<K: Hash + Eq + Clone> {
    permits: Permits<K>,
    keys: Vec<K>,
}

impl<K: Hash + Eq + Clone> Permit<K> {
    /// Takes one of every further key as well, or says which claim is full; then the permit is as it was.
    pub fn extend(&mut self, claims: Vec<Claim<K>>) -> Result<(), usize> {
        let mut held = self.permits.0.lock();
        let count = |key: &K| held.get(key).copied().unwrap_or(0);
        let full = claims.iter().position(|claim| count(&claim.key) >= claim.max.unwrap_or(u32::MAX));
        if let Some(index) = full {
            return Err(index);
        }
        for claim in claims {
            let count = held.entry(claim.key.clone()).or_default();
            *count = count.saturating_add(1);
            self.keys.push(claim.key);
        }
        Ok(())
    }

    /// Gives it back as if it had never been taken: nobody is told. Only for who has the turn in a waiting
    /// room: nobody else who could wait was refused because of it.
    pub fn undo(mut self) {
        let keys = std::mem::take(&mut self.keys);
        self.permits.0.free(&keys);
    }

    /// What it is a permit for.
    pub fn keys(&self) -> &[K] {
        &self.keys
    }
}

impl<K: Hash + Eq + Clone> Drop for Permit<K> {
    fn drop(&mut self) {
        if self.keys.is_empty() {
            return;
        }
        self.permits.0.free(&self.keys);
        if let Some(freed) = &self.permits.0.freed {
            freed(&self.keys);
        }
    }
}

impl<K: Hash + Eq + Clone> fmt::Debug for Permit<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("keys", &self.keys.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn claims(of: &[(&'static str, u32)]) -> Vec<Claim<&'static str>> {
        of.iter().map(|(key, max)| Claim { key: *key, max: Some(*max) }).collect()
    }

    #[test]
    fn all_keys_are_taken_or_none_and_the_full_one_is_told() {
        let permits = Permits::new();
        let first = permits.try_acquire(claims(&[("all", 3), ("one", 1)])).unwrap();
        assert_eq!(permits.try_acquire(claims(&[("all", 3), ("one", 1)])).unwrap_err(), 1);
        assert_eq!((permits.held(&"all"), permits.held(&"one")), (1, 1));
        let second = permits.try_acquire(claims(&[("all", 3), ("two", 1)])).unwrap();
        assert_eq!(permits.held(&"all"), 2);
        assert_eq!(permits.try_acquire(claims(&[("all", 2), ("three", 1)])).unwrap_err(), 0);
        drop((first, second));
        assert_eq!(permits.keys(), 0, "a key of which nothing is held is not kept");
    }

    #[test]
    fn a_lower_maximum_takes_nothing_away_and_gives_nothing_more() {
        let permits = Permits::new();
        let mut held: Vec<_> = (0..5).map(|_| permits.try_acquire(claims(&[("all", 5)])).unwrap()).collect();
        assert!(permits.try_acquire(claims(&[("all", 3)])).is_err());
        held.truncate(3);
        assert!(permits.try_acquire(claims(&[("all", 3)])).is_err());
        held.truncate(2);
        assert!(permits.try_acquire(claims(&[("all", 3)])).is_ok());
    }

    #[test]
    fn what_has_no_maximum_is_counted_for_the_time_when_it_has_one() {
        let permits = Permits::new();
        let held: Vec<_> =
            (0..5).map(|_| permits.try_acquire(vec![Claim { key: "all", max: None }]).unwrap()).collect();
        assert!(permits.try_acquire(claims(&[("all", 5)])).is_err());
        drop(held);
        assert!(permits.try_acquire(claims(&[("all", 5)])).is_ok());
    }

    #[test]
    fn a_permit_grows_by_further_keys_or_stays_as_it_was() {
        let permits = Permits::new();
        let mut first = permits.try_acquire(claims(&[("all", 2)])).unwrap();
        first.extend(claims(&[("client", 1)])).unwrap();
        let mut second = permits.try_acquire(claims(&[("all", 2)])).unwrap();
        assert_eq!(second.extend(claims(&[("listener", 9), ("client", 1)])), Err(1));
        assert_eq!((second.keys(), permits.held(&"listener")), (["all"].as_slice(), 0));
        drop(first);
        assert_eq!(second.extend(claims(&[("client", 1)])), Ok(()));
    }

    #[test]
    fn who_waits_is_told_of_each_permit_that_is_given_back_and_may_take_it() {
        let told = Arc::new(AtomicUsize::new(0));
        let permits: Permits<&str> = Permits::with_hook({
            let told = told.clone();
            move |keys| {
                told.fetch_add(keys.len(), Ordering::Relaxed);
            }
        });
        let permit = permits.try_acquire(claims(&[("all", 1), ("one", 1)])).unwrap();
        assert!(permits.try_acquire(claims(&[("all", 1)])).is_err());
        assert_eq!(told.load(Ordering::Relaxed), 0, "a refused claim frees nothing");
        drop(permit);
        assert_eq!(told.load(Ordering::Relaxed), 2);
        permits.try_acquire(claims(&[("all", 1)])).unwrap().undo();
        assert_eq!((told.load(Ordering::Relaxed), permits.keys()), (2, 0), "what is undone is told to nobody");
    }

    #[test]
    fn a_flood_of_keys_leaves_no_memory_behind() {
        let permits = Permits::new();
        let mut held: Vec<_> =
            (0..100_000).map(|key| permits.try_acquire(vec![Claim { key, max: None }]).unwrap()).collect();
        held.truncate(1);
        assert!(permits.0.lock().capacity() <= KEEP);
    }

    #[test]
    fn threads_at_once_never_hold_more_than_there_is() {
        let permits = Permits::new();
        std::thread::scope(|scope| {
            for thread in 0..4u32 {
                let permits = &permits;
                scope.spawn(move || {
                    let mut held = Vec::new();
                    for step in 0..2000 {
                        let claims = [(99, 50), ((thread + step) % 2, 30)];
                        let claims = claims.map(|(key, max)| Claim { key, max: Some(max) });
                        held.extend(permits.try_acquire(claims.to_vec()).ok());
                        assert!(permits.held(&99) <= 50 && permits.held(&0) <= 30 && permits.held(&1) <= 30);
                        if step % 7 == 0 {
                            held.clear();
                        }
                    }
                });
            }
        });
        assert_eq!(permits.keys(), 0);
    }
}
