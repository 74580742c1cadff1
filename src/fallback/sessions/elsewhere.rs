//! Sessions that come from another process or go there: at an upgrade one goes where its next request comes in.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Found, Sessions, remember};
use crate::{
    fallback::{
        grammar::SessionId,
        session::{InFlight, Session},
    },
    limit::SessionPermit,
    shared::{Key, SessionState},
    telemetry::{ListenerMetrics, Outcome},
    upstream::{Lease, Upstream},
};

/// The other processes, where there are any.
pub trait Elsewhere: Send + Sync {
    /// Whether one of them carries this session.
    fn has(&self, key: Key) -> bool;

    /// Asks for a session there: once that is over it is here, or nowhere.
    fn fetch(&self, key: Key) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// Hears what becomes of sessions.
pub type Watch = Box<dyn Fn(News<'_>) + Send + Sync>;

/// What became of a session.
#[derive(Debug, Clone)]
pub enum News<'a> {
    /// A node has accepted its start.
    Opened(&'a SessionState),
    /// It is over, here or where it went from here.
    Ended(Key, Outcome),
}

/// What there is of a session that another process asks for.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Given {
    /// It was here, and goes on there.
    Session(Box<SessionState>),
    /// Its start was refused.
    Refused,
    /// An operator ended it.
    Cancelled,
    /// It is not known.
    Unknown,
}

impl Sessions {
    /// Has sessions that are not known here asked for elsewhere from now on, or no more.
    pub fn ask_elsewhere(&self, elsewhere: Option<Box<dyn Elsewhere>>) {
        self.elsewhere.store(elsewhere.map(Arc::new));
    }

    /// Whether nothing is known of this id, here or of what other processes have, and there is a process to be asked.
    pub(in crate::fallback) fn is_to_be_asked_for(&self, id: SessionId) -> bool {
        let unknown = |elsewhere: &Arc<Box<dyn Elsewhere>>| !elsewhere.has(Key(id.to_bytes()));
        let is_asked_for = self.elsewhere.load().as_ref().is_some_and(unknown) || self.is_asked_of_replicas(id);
        is_asked_for && self.find(id).is_none()
    }

    pub(super) fn is_elsewhere(&self, id: SessionId) -> bool {
        self.elsewhere.load().as_ref().is_some_and(|elsewhere| elsewhere.has(Key(id.to_bytes())))
    }

    /// Has somebody hear from now on what becomes of sessions.
    pub fn watch(&self, watch: Option<Watch>) {
        self.watch.store(watch.map(Arc::new));
    }

    /// Looks for a session, in other processes too. It stays here for as long as the guard lives.
    pub(in crate::fallback) async fn hold_anywhere(&self, id: SessionId) -> Found {
        if let Some(held) = self.hold(id) {
            return Found::Held(held);
        }
        let asked = self.fetch(id).await;
        match self.hold(id) {
            Some(held) => Found::Held(held),
            None if asked => Found::Unknown,
            None => Found::Unasked,
        }
    }

    /// Whether there is such a session, here or in another process.
    pub(in crate::fallback) async fn is_anywhere(&self, id: SessionId) -> bool {
        if self.find(id).is_some() {
            return true;
        }
        self.fetch(id).await;
        self.find(id).is_some()
    }

    /// Has a session brought here from another process. Where there is none any more to ask for it, it may have come by
    /// itself meanwhile.
    ///
    /// False where replicas could not be asked.
    async fn fetch(&self, id: SessionId) -> bool {
        if let Some(elsewhere) = self.elsewhere.load_full().filter(|_| !self.was_refused(id)) {
            elsewhere.fetch(Key(id.to_bytes())).await;
            if self.find(id).is_some() {
                return true;
            }
        }
        self.fetch_of_replicas(id).await
    }

    /// Found and busy in one step: who gives sessions away looks under the same lock.
    fn hold(&self, id: SessionId) -> Option<InFlight> {
        self.lock().live.get(&id).map(Session::busy)
    }

    /// A node has accepted its start.
    pub(in crate::fallback) fn opened(&self, session: &Session) {
        if let Some(watch) = &*self.watch.load()
            && let Some(state) = session.state()
        {
            watch(News::Opened(&state));
        }
    }

    pub(super) fn tell_end(&self, session: &Session, outcome: Outcome) {
        if let Some(watch) = &*self.watch.load() {
            watch(News::Ended(Key(session.id().to_bytes()), outcome));
        }
    }

    /// Gives a session to another process, once no request of it is under way, or `patience` is over. `give` says whether
    /// somebody takes it; until it returns nobody looks for it here.
    pub async fn give(&self, key: Key, patience: Duration, give: impl Fn(&SessionState) -> bool) -> Given {
        let (id, begin) = (SessionId::from_bytes(key.0), Instant::now());
        let mut table = loop {
            if let Some(session) = self.find(id) {
                session.quiet(patience.saturating_sub(begin.elapsed())).await;
            }
            let table = self.lock();
            if begin.elapsed() >= patience || !table.live.get(&id).is_some_and(|session| session.is_busy()) {
                break table;
            }
        };
        let state = table.live.get(&id).filter(|session| !session.is_cancelled()).and_then(|session| session.state());
        let Some(state) = state else {
            return match () {
                () if table.cancelled.contains(&id) => Given::Cancelled,
                () if table.refused.contains(&id) => Given::Refused,
                () => Given::Unknown,
            };
        };
        if !give(&state) {
            return Given::Unknown;
        }
        let session = table.live.remove(&id);
        drop(table);
        session.into_iter().for_each(|session| leave_here(&session));
        Given::Session(Box::new(state))
    }

    /// Gives all sessions away that are between two requests, and whose client does not keep a connection for them, of
    /// the listeners that `goes` holds for. `give` says whether somebody takes them; until it returns nobody looks for
    /// them here.
    pub fn give_idle(&self, goes: impl Fn(&str) -> bool, give: impl FnOnce(Vec<SessionState>) -> bool) {
        let mut table = self.lock();
        let free = |s: &Session| s.is_open() && !s.client_keeps() && !s.is_busy() && !s.is_cancelled();
        let free: Vec<_> = table.live.values().filter(|s| goes(s.listener()) && free(s)).cloned().collect();
        let states: Vec<_> = free.iter().filter_map(|session| session.state()).collect();
        if states.is_empty() || !give(states) {
            return;
        }
        free.iter().for_each(|session| drop(table.live.remove(&session.id())));
        drop(table);
        free.iter().for_each(|session| leave_here(session));
    }

    /// All sessions that are on a node.
    pub fn states(&self) -> Vec<SessionState> {
        self.lock().live.values().filter_map(|session| session.state()).collect()
    }

    /// Goes on with a session that ran elsewhere, on the node of its lease. False when it is here already.
    pub fn bring(
        &self,
        state: &SessionState,
        upstream: Arc<Upstream>,
        metrics: Arc<ListenerMetrics>,
        lease: Lease,
        permit: Option<SessionPermit>,
    ) -> bool {
        let id = SessionId::from_bytes(state.key.0);
        let mut table = self.lock();
        if table.live.contains_key(&id) {
            return false;
        }
        let session = Session::of_state(state, upstream, metrics, self.label(id), &self.shown, &self.replicas);
        match permit {
            Some(permit) => session.let_in(permit, lease),
            None => session.assign(lease),
        }
        if state.open {
            session.open(state.node_keeps, state.client_keeps);
        }
        table.live.insert(id, Arc::new(session));
        true
    }

    /// A session that went from here, or is here of there, is over. False when it is not here.
    pub fn ended_elsewhere(&self, key: Key, outcome: Outcome) -> bool {
        let session = self.find(SessionId::from_bytes(key.0));
        session.as_ref().into_iter().for_each(|session| self.finish(session, outcome, None));
        session.is_some()
    }

    /// The starts that were refused lately, and the sessions that operators ended.
    pub fn refused(&self) -> (Vec<Key>, Vec<Key>) {
        let table = self.lock();
        let keys = |ids: &std::collections::VecDeque<SessionId>| ids.iter().map(|id| Key(id.to_bytes())).collect();
        (keys(&table.refused), keys(&table.cancelled))
    }

    /// Remembers what another process refused, and what operators ended there.
    pub fn bring_refused(&self, refused: &[Key], cancelled: &[Key]) {
        let mut table = self.lock();
        refused.iter().for_each(|key| remember(&mut table.refused, SessionId::from_bytes(key.0)));
        cancelled.iter().for_each(|key| remember(&mut table.cancelled, SessionId::from_bytes(key.0)));
    }

    /// What hides ids in what is shown, so that a session is called the same by the next process.
    pub fn label_key(&self) -> (u64, u64) {
        **self.key.load()
    }

    /// From now on new sessions are called by this key, as all replicas call them.
    pub fn set_label_key(&self, key: (u64, u64)) {
        self.key.store(Arc::new(key));
    }
}

/// It goes on elsewhere: what it has here is given back, and nobody writes its record.
fn leave_here(session: &Session) {
    session.set_elsewhere(true);
    drop(session.take_node_conn());
    session.close();
}
