//! Sessions that several replicas carry: each has all of them in its table, and those of the others are its guests.

use std::{collections::hash_map::Entry, fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use super::{Sessions, is_certain, remember};
use crate::shared::redis::{News, SharedSession};
use crate::{
    fallback::{
        grammar::SessionId,
        session::{InFlight, Session},
    },
    limit::SessionPermit,
    shared::{Key, SessionState},
    telemetry::{ListenerMetrics, Outcome, Reason},
    upstream::{Lease, Upstream},
};

/// The other replicas. Nobody waits for them but who awaits.
pub trait Replicas: fmt::Debug + Send + Sync {
    /// Whether all that they know can be known here, and what holds where it cannot.
    fn reach(&self) -> Reach;

    /// Whether they can be asked at all.
    fn can_be_asked(&self) -> bool;

    /// Tells them.
    fn tell(&self, news: News);

    /// Tells them of a session that begins on its node, and waits until they can know it, or for a while; false where they
    /// cannot.
    fn begin(&self, session: &Arc<Session>, state: SessionState) -> Pin<Box<dyn Future<Output = bool> + Send>>;

    /// Asks for a session that is not known here: then it is here, or nowhere. False where nobody could be asked.
    fn fetch(&self, key: Key) -> Pin<Box<dyn Future<Output = bool> + Send>>;

    /// A session that is not known here has ended here.
    fn ended_unseen(&self, key: Key, outcome: Outcome);

    /// A request of an unknown session goes by the hash of its id.
    fn unverified(&self, listener: &str);

    /// A session is over here: whoever is the first to say so writes the record.
    fn end(&self, session: Arc<Session>, outcome: Outcome, reason: Option<Reason>);
}

/// Whether all that the other replicas know can be known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// It can, or there are none.
    Whole,
    /// It cannot, or not yet again: new sessions, and requests of those that are not known, go by the hash of their id.
    Hash,
    /// It cannot: new sessions, and requests of those that are not known, are refused.
    Refuse,
}

/// What was found of a session.
#[derive(Debug)]
pub(in crate::fallback) enum Found {
    /// It stays here for as long as the guard lives.
    Held(InFlight),
    /// Nobody knows it.
    Unknown,
    /// Those who might could not be asked.
    Unasked,
}

impl Sessions {
    /// From now on sessions are shared with these.
    pub fn share_with(&self, replicas: Box<dyn Replicas>) {
        self.replicas.store(Some(Arc::new(replicas)));
    }

    /// Whether all that other replicas know can be known here.
    pub(in crate::fallback) fn reach(&self) -> Reach {
        self.replicas.load().as_ref().map_or(Reach::Whole, |replicas| replicas.reach())
    }

    /// Whether this id is to be asked for at other replicas.
    pub(super) fn is_asked_of_replicas(&self, id: SessionId) -> bool {
        self.replicas.load().as_ref().is_some_and(|replicas| replicas.can_be_asked()) && !self.has_ended(id)
    }

    /// Asks them; false where they could not be asked, or may not have told everything yet.
    pub(in crate::fallback) async fn fetch_of_replicas(&self, id: SessionId) -> bool {
        let Some(replicas) = self.replicas.load_full() else { return true };
        if self.was_refused(id) || self.has_ended(id) {
            return true;
        }
        replicas.can_be_asked() && replicas.fetch(Key(id.to_bytes())).await && replicas.reach() == Reach::Whole
    }

    /// Has the other replicas know of a session and its node: before that hears of it, and again before its client hears
    /// that it is accepted. False where they cannot.
    pub(in crate::fallback) async fn begin_shared(
        &self,
        session: &Arc<Session>,
        node_keeps: bool,
        client_keeps: bool,
    ) -> bool {
        let Some((replicas, state)) = self.replicas.load_full().zip(session.state()) else { return true };
        replicas.begin(session, SessionState { open: true, node_keeps, client_keeps, ..state }).await
    }

    /// A session of another replica is as it says now: a guest that is on another node goes, and is brought anew.
    pub fn renew(&self, state: &SessionState) {
        let is_other = |s: &Session| {
            let keeps = (s.node_keeps(), s.client_keeps()) != (state.node_keeps, state.client_keeps);
            keeps || s.node().is_none_or(|node| node.name() != state.node)
        };
        let mut table = self.lock();
        let id = SessionId::from_bytes(state.key.0);
        table.ended.retain(|ended| *ended != id);
        if !table.live.get(&id).is_some_and(|s| s.is_guest() && !s.is_busy() && is_other(s)) {
            return;
        }
        let before = table.live.remove(&id);
        drop(table);
        if let Some(session) = before {
            session.unshare();
            session.close();
        }
    }

    pub(super) fn tell_replicas(&self, news: News) {
        if let Some(replicas) = &*self.replicas.load() {
            replicas.tell(news);
        }
    }

    /// A session that others know of has left the table: true when its record is written by whoever is the first.
    pub(super) fn end_shared(&self, session: &Arc<Session>, outcome: Outcome, reason: Option<Reason>) -> bool {
        let Some(replicas) = self.replicas.load_full().filter(|_| session.home().is_some()) else { return false };
        session.unshare();
        replicas.end(session.clone(), outcome, reason);
        true
    }

    /// Writes the record of a session that has left the table, with what is known of it by now.
    pub fn write_end(&self, session: &Session, outcome: Outcome, reason: Option<Reason>) {
        self.access_log.write(&session.record(outcome, reason));
    }

    /// Goes on with a session of another replica, as a guest on the node of its lease; one that is here already learns what
    /// was done of it there. False where it has ended.
    pub fn bring_guest(
        &self,
        shared: &SharedSession,
        upstream: Arc<Upstream>,
        metrics: Arc<ListenerMetrics>,
        (lease, permit): (Lease, Option<SessionPermit>),
    ) -> bool {
        let id = SessionId::from_bytes(shared.state.key.0);
        let mut table = self.lock();
        if table.ended.contains(&id) {
            return false;
        }
        if let Entry::Vacant(place) = table.live.entry(id) {
            let guest = Session::guest(&shared.state, upstream, metrics, self.label(id), &self.shown, &self.replicas);
            match permit {
                Some(permit) => guest.let_in(permit, lease),
                None => guest.assign(lease),
            }
            guest.share(shared.home);
            guest.open_as_guest(&shared.state);
            place.insert(Arc::new(guest));
        }
        true
    }

    /// The session of this key.
    pub fn of(&self, key: Key) -> Option<Arc<Session>> {
        self.find(SessionId::from_bytes(key.0))
    }

    /// All live sessions.
    pub fn all(&self) -> Vec<Arc<Session>> {
        self.lock().live.values().cloned().collect()
    }

    /// Lets go of guests of which nothing was heard for so long: their home knows nothing of them.
    pub fn forget_guests(&self, silence: Duration) {
        let mut table = self.lock();
        let is_lost = |s: &Session| s.is_guest() && !s.is_cancelled() && s.idle_for() >= silence;
        let lost: Vec<_> = table.live.extract_if(|_, session| is_lost(session)).collect();
        drop(table);
        for (_, session) in lost {
            session.unshare();
            drop(session.take_node_conn());
            session.close();
        }
    }

    /// How a session that others take for live has ended, as is remembered here for a while.
    pub fn how_ended(&self, key: Key) -> Option<Outcome> {
        let id = SessionId::from_bytes(key.0);
        let table = self.lock();
        let was = if table.cancelled.contains(&id) { Outcome::Cancelled } else { Outcome::Done };
        table.ended.contains(&id).then_some(was)
    }

    /// A session has ended at another replica, which writes its record.
    pub fn ended_there(&self, key: Key, outcome: Outcome) {
        let id = SessionId::from_bytes(key.0);
        let mut table = self.lock();
        if is_certain(outcome) {
            remember(&mut table.ended, id);
        }
        if outcome == Outcome::Cancelled {
            remember(&mut table.cancelled, id);
        }
        let session = table.live.remove(&id);
        drop(table);
        if let Some(session) = session {
            session.unshare();
            if outcome == Outcome::Cancelled {
                session.cancel();
            }
            drop(session.take_node_conn());
            session.close();
        }
    }

    /// An operator ends a session at another replica: what is under way here breaks off, and then ends it.
    pub fn cancelled_there(&self, key: Key) {
        self.bring_refused(&[], &[key]);
        if let Some(session) = self.of(key) {
            session.cancel();
        }
    }

    /// Lets go of all sessions that go on at other replicas: those that nothing holds here. Nobody writes their records.
    pub fn leave_to_others(&self) {
        let mut table = self.lock();
        let goes_on = |s: &Session| {
            let is_held = s.is_busy() || s.is_cancelled() || (s.client_keeps() && !s.is_guest());
            s.home().is_some() && !is_held
        };
        let gone: Vec<_> = table.live.values().filter(|session| goes_on(session)).cloned().collect();
        gone.iter().for_each(|session| drop(table.live.remove(&session.id())));
        drop(table);
        for session in gone {
            session.unshare();
            drop(session.take_node_conn());
            session.close();
        }
    }

    /// Live sessions that need this replica: a request of them is under way here, or their client keeps its connection.
    pub fn count_held(&self) -> usize {
        let is_held = |s: &Session| s.home().is_none() || s.is_busy() || (s.client_keeps() && !s.is_guest());
        self.lock().live.values().filter(|session| is_held(session)).count()
    }

    /// A request of an unknown session, which went by the hash of its id, was its end.
    pub(in crate::fallback) fn ended_unseen(&self, id: SessionId, outcome: Outcome) {
        if let Some(replicas) = &*self.replicas.load() {
            replicas.ended_unseen(Key(id.to_bytes()), outcome);
        }
    }

    /// A request of an unknown session goes by the hash of its id.
    pub(in crate::fallback) fn note_unverified(&self, listener: &str) {
        if let Some(replicas) = &*self.replicas.load() {
            replicas.unverified(listener);
        }
    }

    fn has_ended(&self, id: SessionId) -> bool {
        self.lock().ended.contains(&id)
    }
}
