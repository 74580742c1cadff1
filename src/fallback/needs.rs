//! What each of those who wait for room lacks, so that only those are called who may have it now.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::limit::{ClientKey, Freed};

/// Who takes turns: a client on a listener.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Waiter {
    pub(super) listener: Arc<str>,
    pub(super) client: ClientKey,
}

/// What the first in a waiter's line lacks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Need {
    /// It tries at this moment: whatever is freed may be it.
    #[default]
    Unknown,
    /// Time, or what everybody lacks.
    Nothing,
    /// A session fewer on its listener.
    Listener,
    /// A session fewer of its client.
    Client,
    /// A session fewer of this user.
    User(Arc<str>),
    /// Room on a node of this upstream.
    Node(Box<str>),
}

/// The needs of all who wait.
#[derive(Debug, Default)]
pub(super) struct Needs(Mutex<HashMap<Waiter, (usize, Need)>>);

/// One more of a waiter's starts, until it drops.
#[derive(Debug)]
pub(super) struct Known {
    needs: Arc<Needs>,
    waiter: Waiter,
}

impl Needs {
    /// A start of the waiter's begins to wait.
    pub(super) fn enter(self: &Arc<Self>, waiter: Waiter) -> Known {
        self.lock().entry(waiter.clone()).or_default().0 += 1;
        Known { needs: self.clone(), waiter }
    }

    /// Whether the end of this session may be what the waiter lacks.
    pub(super) fn met_by_session(&self, waiter: &Waiter, freed: &Freed) -> bool {
        match self.of(waiter) {
            Need::Unknown => true,
            Need::Listener => waiter.listener == freed.listener,
            Need::Client => waiter.client == freed.client,
            Need::User(user) => freed.user.as_ref() == Some(&user),
            Need::Nothing | Need::Node(_) => false,
        }
    }

    /// Whether this may be what the waiter lacks.
    pub(super) fn may_be(&self, waiter: &Waiter, need: &Need) -> bool {
        let of = self.of(waiter);
        of == Need::Unknown || of == *need
    }

    fn of(&self, waiter: &Waiter) -> Need {
        self.lock().get(waiter).map(|(_, need)| need.clone()).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Waiter, (usize, Need)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Notes what the waiter lacks: before a try that is not known, and after it before the turn is given up.
    pub(super) fn set(&self, need: Need) {
        if let Some((_, known)) = self.needs.lock().get_mut(&self.waiter) {
            *known = need;
        }
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        let mut needs = self.needs.lock();
        if let Some((starts, _)) = needs.get_mut(&self.waiter) {
            *starts -= 1;
            if *starts == 0 {
                needs.remove(&self.waiter);
            }
        }
    }
}
