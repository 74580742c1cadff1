//! What replicas count together, in plain words.

use std::time::Duration;

use super::Key;

/// A session that is to start, and what it takes of what all replicas share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Starting {
    /// The session.
    pub key: Key,
    /// One more of each of these.
    pub scopes: Vec<Scoped>,
    /// One event of each of these.
    pub rates: Vec<Paced>,
}

/// What there may be so many of at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scoped {
    /// What is counted: the same name for the same in every replica.
    pub name: String,
    /// How many there may be; `None` is no maximum, and is counted all the same.
    pub max: Option<u32>,
}

/// What may happen so often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paced {
    /// What is counted: the same name for the same in every replica.
    pub name: String,
    /// From one event to the next in the long run.
    pub period: Duration,
    /// How often at once after a pause.
    pub burst: u32,
}

/// What became of a start among the replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reserved {
    /// It is counted everywhere.
    Yes,
    /// This rate is used up for so long. The start has counted for those before it.
    TooFast(usize, Duration),
    /// Of this scope there are as many as may be. The start has counted for all its rates.
    Full(usize),
    /// The others cannot be asked: what holds here decides.
    Alone,
}

/// Events that have happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Events {
    /// Of this rate.
    pub rate: Paced,
    /// So many.
    pub count: u64,
}

/// What a replica tells the others of a cap on bandwidth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapTold {
    /// Which cap: the same name for the same in every replica.
    pub name: String,
    /// What is needed of it, in bytes a second.
    pub need: u64,
    /// Its rate here, in bytes a second.
    pub rate: u64,
}

/// What one of them tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CapReport {
    /// Whether it is this one.
    pub is_own: bool,
    /// What it needs, in bytes a second.
    pub need: u64,
    /// The rate of the cap there, in bytes a second.
    pub rate: u64,
}

/// The share of a cap that a replica wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapWanted {
    /// Which cap.
    pub name: String,
    /// The share, in bytes a second.
    pub share: u64,
    /// What all hold together at most.
    pub rate: u64,
    /// What is held whatever others hold.
    pub least: u64,
}
