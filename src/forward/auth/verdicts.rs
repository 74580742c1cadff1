//! Remembered verdicts on logins: a client logs in on every connection, and one check takes long.
//!
//! What is kept is a keyed hash of user and password, under a key that no one else knows and that ends with the process;
//! neither can be had back from it. Good and bad verdicts have places of their own, so that who guesses pushes out nobody.

use std::{
    fmt,
    num::NonZeroUsize,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use aws_lc_rs::hmac;
use lru::LruCache;

/// How long a verdict is remembered.
pub const LIFE: Duration = Duration::from_secs(60);
/// How many good verdicts are remembered at once, and how many bad ones; then the longest unused is forgotten.
pub const PLACES: usize = 1024;

/// Stands for one user with one password.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Tag([u8; 32]);

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tag(..)")
    }
}

/// The verdicts of the last minute on the users of one file; another file, or the same read again, needs its own.
pub struct Verdicts {
    key: hmac::Key,
    /// When each was given.
    good: Mutex<LruCache<Tag, Instant>>,
    bad: Mutex<LruCache<Tag, Instant>>,
}

impl fmt::Debug for Verdicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verdicts(..)")
    }
}

impl Verdicts {
    /// None yet.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn new() -> Result<Verdicts, getrandom::Error> {
        let mut key = [0; 32];
        getrandom::fill(&mut key)?;
        let places = || Mutex::new(LruCache::new(NonZeroUsize::new(PLACES).unwrap_or(NonZeroUsize::MIN)));
        Ok(Verdicts { key: hmac::Key::new(hmac::HMAC_SHA256, &key), good: places(), bad: places() })
    }

    /// What a user with a password is remembered under.
    #[must_use]
    pub fn tag(&self, user: &str, password: &str) -> Tag {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&(user.len() as u64).to_be_bytes());
        context.update(user.as_bytes());
        context.update(password.as_bytes());
        let mut tag = [0; 32];
        tag.iter_mut().zip(context.sign().as_ref()).for_each(|(to, from)| *to = *from);
        Tag(tag)
    }

    /// The verdict that was given within [`LIFE`] before `now`, if one was and is remembered.
    #[must_use]
    pub fn get(&self, tag: &Tag, now: Instant) -> Option<bool> {
        let given = |places: &Mutex<LruCache<Tag, Instant>>| {
            let mut places = places.lock().unwrap_or_else(PoisonError::into_inner);
            let age = now.saturating_duration_since(*places.get(tag)?);
            if age >= LIFE {
                places.pop(tag);
            }
            (age < LIFE).then_some(())
        };
        given(&self.good).map(|()| true).or_else(|| given(&self.bad).map(|()| false))
    }

    /// Remembers the verdict that was given at `now`.
    pub fn put(&self, tag: Tag, good: bool, now: Instant) {
        let places = if good { &self.good } else { &self.bad };
        places.lock().unwrap_or_else(PoisonError::into_inner).put(tag, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_holds_for_a_minute_and_for_its_password_alone() {
        let (verdicts, now) = (Verdicts::new().unwrap(), Instant::now());
        let tag = verdicts.tag("anna", "one");
        assert_eq!(verdicts.get(&tag, now), None);
        verdicts.put(tag, true, now);
        verdicts.put(verdicts.tag("anna", "two"), false, now);
        let ask =
            |user, password, seconds| verdicts.get(&verdicts.tag(user, password), now + Duration::from_secs(seconds));
        assert_eq!((ask("anna", "one", 59), ask("anna", "two", 59)), (Some(true), Some(false)));
        assert_eq!((ask("ann", "aone", 0), ask("annaone", "", 0), ask("anna", "", 0)), (None, None, None));
        assert_eq!((ask("anna", "one", 60), ask("anna", "one", 0)), (None, None));
    }

    #[test]
    fn another_process_would_remember_under_other_tags() {
        let (one, other) = (Verdicts::new().unwrap(), Verdicts::new().unwrap());
        assert_ne!(one.tag("anna", "one"), other.tag("anna", "one"));
        assert!(!format!("{:?} {one:?}", one.tag("anna", "one")).contains("anna"));
    }

    #[test]
    fn who_guesses_pushes_out_nobody_and_fills_no_memory() {
        let (verdicts, now) = (Verdicts::new().unwrap(), Instant::now());
        let good = verdicts.tag("anna", "one");
        verdicts.put(good.clone(), true, now);
        for guess in 0..3 * PLACES {
            verdicts.put(verdicts.tag("anna", &guess.to_string()), false, now);
        }
        assert_eq!(verdicts.get(&good, now), Some(true));
        assert_eq!(verdicts.bad.lock().unwrap().len(), PLACES);
    }
}
