//! Caps that hold over several replicas: what each tells the others, and the share that it has.
//!
//! A cap on all of a listener or of the gateway is told of in every round. One of a client or a node is told of only where
//! the replicas together may be near it: until then each has all of it. A cap on a session is of each replica alone, for a
//! session has one request with a body at a time.

use std::{fmt, time::Duration};

use super::{Bandwidth, Caps, Key, Whose, share};
use crate::telemetry::{Direction, Scope};

/// Caps of clients and nodes that are told of in one round at most, those nearest to their rate.
const MOST: usize = 512;
/// A cap that was told of is told of in so many more rounds after it has become quiet.
const QUIET_ROUNDS: u8 = 20;

/// Which cap it is, over all replicas.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CapName(Key);

/// What a replica tells the others of a cap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Which.
    pub cap: CapName,
    /// Its rate here, in bytes a second.
    pub rate: u64,
    /// What is needed of it here, in bytes a second.
    pub need: u64,
}

/// What there is to tell in one round.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Round {
    /// The caps that are shared now.
    pub told: Vec<Told>,
    /// Those that were, and are not from now on.
    pub left: Vec<CapName>,
}

/// What this replica has of a cap.
#[derive(Debug, Default)]
pub(super) struct Share {
    /// In bytes a second; none as long as nothing was agreed on.
    bytes: Option<u64>,
    quiet: u8,
}

impl Bandwidth {
    /// What is to be told now of what passed in the time `passed`, in which there were so many replicas; to be asked once
    /// in each round.
    pub fn round(&self, passed: Duration, replicas: u32) -> Round {
        let mut caps = self.lock();
        caps.hold_totals(&self.0);
        let replicas = u64::from(replicas.max(1));
        let mut told = Vec::new();
        for (key, cap) in &caps.live {
            let used = cap.take_used();
            let Some(rate) = caps.settings.rate(key).filter(|_| key.scope != Scope::Session) else { continue };
            let per_second = per_second(used.bytes, passed);
            let share = caps.shares.get(key);
            let has = share.and_then(|share| share.bytes).unwrap_or(rate).min(rate);
            let need = share::need(per_second, has, used.held_up);
            // If none uses half of an even share, or waits, they are far from the cap together.
            let is_near = key.scope == Scope::Total || used.held_up || per_second > rate / replicas / 2;
            if is_near || share.is_some_and(|share| share.quiet > 0) {
                told.push((is_near, per_second * 100 / rate.max(1), Told { cap: CapName(key.clone()), rate, need }));
            }
        }
        // Caps of all come first, as there are few; of the others those that are the most used.
        told.sort_by_key(|(is_near, full, told)| (told.cap.0.scope != Scope::Total, !*is_near, u64::MAX - *full));
        let totals = told.iter().filter(|(_, _, told)| told.cap.0.scope == Scope::Total).count();
        told.truncate(totals + MOST);
        let mut before = std::mem::take(&mut caps.shares);
        for (is_near, _, told) in &told {
            let mut share = before.remove(&told.cap.0).unwrap_or_default();
            share.quiet = if *is_near { QUIET_ROUNDS } else { share.quiet.saturating_sub(1) };
            caps.shares.insert(told.cap.0.clone(), share);
        }
        let left: Vec<_> = before.into_keys().collect();
        left.iter().for_each(|key| caps.follow(key));
        Round {
            told: told.into_iter().map(|(_, _, told)| told).collect(),
            left: left.into_iter().map(CapName).collect(),
        }
    }

    /// From now on so many bytes a second of a cap are for this replica.
    pub fn set_share(&self, cap: &CapName, bytes: u64) {
        let mut caps = self.lock();
        if let Some(share) = caps.shares.get_mut(&cap.0) {
            share.bytes = Some(bytes);
            caps.follow(&cap.0);
        }
    }

    /// The share that this replica has of a cap, as far as any was agreed on.
    pub fn share_of(&self, cap: &CapName) -> Option<u64> {
        self.lock().shares.get(&cap.0)?.bytes
    }

    /// The share of the replica at `mine` in a cap of this `rate`, by what each needs of it.
    pub fn fair_share(rate: u64, needs: &[u64], mine: usize) -> u64 {
        share::share(rate, needs, mine)
    }

    /// What a replica may have of a cap of this `rate` whatever the others have.
    pub fn least_share(rate: u64, replicas: usize) -> u64 {
        share::floor(rate, u64::try_from(replicas).unwrap_or(u64::MAX))
    }

    /// The others cannot be asked, and there were so many of them and of this one: a cap of which no share was agreed on is
    /// divided by that. With 1 all of it is had.
    pub fn divide_by(&self, replicas: u32) {
        let mut caps = self.lock();
        if std::mem::replace(&mut caps.divided, replicas.max(1)) != replicas.max(1) {
            caps.follow_all();
        }
    }
}

impl Caps {
    /// A cap on all is divided before anything has passed.
    fn hold_totals(&mut self, root: &super::Root) {
        let listeners = self.settings.listeners.keys().cloned().map(Some);
        for listener in listeners.chain([None]).collect::<Vec<_>>() {
            for direction in [Direction::Upload, Direction::Download] {
                let (listener, whose) = (listener.clone(), Whose::All);
                let key = Key { scope: Scope::Total, direction, listener, whose };
                if self.settings.rate(&key).is_some() {
                    self.get(key, root);
                }
            }
        }
    }

    /// What a cap lets pass here: its rate, or the share that this replica has of it.
    pub(super) fn rate_here(&self, key: &Key) -> Option<u64> {
        let rate = self.settings.rate(key)?;
        if key.scope == Scope::Session {
            return Some(rate);
        }
        let share = self.shares.get(key).and_then(|share| share.bytes);
        Some(share.unwrap_or(rate / u64::from(self.divided)).min(rate).max(1))
    }

    /// The cap goes by what holds for it now.
    pub(super) fn follow(&self, key: &Key) {
        if let Some(cap) = self.live.get(key) {
            cap.set_rate(self.rate_here(key));
        }
    }

    pub(super) fn follow_all(&self) {
        self.live.keys().for_each(|key| self.follow(key));
    }
}

fn per_second(bytes: u64, passed: Duration) -> u64 {
    let nanos = passed.as_nanos().max(1);
    u64::try_from(u128::from(bytes) * 1_000_000_000 / nanos).unwrap_or(u64::MAX)
}

impl fmt::Display for CapName {
    /// The same for the same cap in every replica.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Key { scope, direction, listener, whose } = &self.0;
        write!(f, "{}:{}:", scope.as_str(), direction.as_str())?;
        match whose {
            Whose::All => {}
            Whose::Client(client) => write!(f, "{client}")?,
            Whose::Session(number) => write!(f, "{number:x}")?,
            Whose::Node(name) => f.write_str(name)?,
        }
        listener.iter().try_for_each(|name| write!(f, "@{name}"))
    }
}

#[cfg(test)]
mod tests;
