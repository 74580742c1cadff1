//! The nodes that an upstream has, which change under its readers where they are discovered.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use arc_swap::{ArcSwap, Guard};

use super::Node;

/// All nodes of an upstream.
#[derive(Debug)]
pub(super) struct Nodes {
    now: ArcSwap<Vec<Arc<Node>>>,
    change: Arc<Change>,
}

/// Who changes them, and whoever wants them to stay meanwhile.
#[derive(Debug, Default)]
struct Change {
    lock: Mutex<()>,
    count: AtomicU64,
}

/// As long as it lives no node comes or goes.
#[derive(Debug)]
pub struct Still<'a>(#[expect(dead_code, reason = "it is held, and not read")] MutexGuard<'a, ()>);

impl Nodes {
    /// These, and who changed those `before` is kept from changing them as well.
    pub(super) fn new(nodes: Vec<Arc<Node>>, before: Option<&Nodes>) -> Nodes {
        let change = before.map_or_else(Arc::default, |before| before.change.clone());
        Nodes { now: ArcSwap::from_pointee(nodes), change }
    }

    pub(super) fn now(&self) -> Guard<Arc<Vec<Arc<Node>>>> {
        self.now.load()
    }

    /// Once, after another, whatever reload comes between.
    pub(super) fn hold_still(&self) -> Still<'_> {
        Still(self.change.lock.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Who sets them holds them still.
    pub(super) fn set(&self, _still: &Still<'_>, nodes: Vec<Arc<Node>>) {
        self.now.store(Arc::new(nodes));
        self.change.count.fetch_add(1, Ordering::Relaxed);
    }

    /// How often they were set.
    pub(super) fn changes(&self) -> u64 {
        self.change.count.load(Ordering::Relaxed)
    }
}
