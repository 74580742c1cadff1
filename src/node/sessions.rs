//! The sessions a node knows, by the id in the request path.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use super::listing::Entry;
use super::wire::locked;

const MAX_SESSIONS: usize = 100_000;

/// What a `session_start` settled.
#[derive(Debug, Default)]
pub(crate) struct SessionState {
    /// Whether the client asked for resume.
    pub(crate) resume: bool,
    /// The files of a download.
    pub(crate) files: Vec<Entry>,
}

#[derive(Debug, Default)]
struct Table {
    by_id: HashMap<String, Arc<SessionState>>,
    order: VecDeque<String>,
}

/// All sessions that have begun and not ended; the oldest give way when there are too many.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<Table>);

impl Sessions {
    pub(crate) fn insert(&self, id: &str, state: SessionState) -> Arc<SessionState> {
        let state = Arc::new(state);
        let mut table = locked(&self.0);
        while table.order.len() >= MAX_SESSIONS {
            let Some(oldest) = table.order.pop_front() else {
                break;
            };
            table.by_id.remove(&oldest);
        }
        if table.by_id.insert(id.to_owned(), Arc::clone(&state)).is_none() {
            table.order.push_back(id.to_owned());
        }
        state
    }

    pub(crate) fn get(&self, id: &str) -> Option<Arc<SessionState>> {
        locked(&self.0).by_id.get(id).cloned()
    }

    pub(crate) fn remove(&self, id: &str) {
        let mut table = locked(&self.0);
        if table.by_id.remove(id).is_some() {
            let at = table.order.iter().position(|x| x == id);
            at.and_then(|at| table.order.remove(at));
        }
    }
}
