//! The session table: who may go on without a token, and where to.
//!
//! Keyed by the id in the path, shared by all fallback listeners, and kept through reloads. It also
//! remembers for a while which starts were refused, because their session_end always comes.

mod elsewhere;
mod replicas;

use std::{
    collections::{HashMap, VecDeque},
    hash::Hasher,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use arc_swap::{ArcSwap, ArcSwapOption};
use siphasher::sip::SipHasher24;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub(super) use self::replicas::Found;
pub use self::{
    elsewhere::{Elsewhere, Given, News, Watch},
    replicas::{Reach, Replicas},
};

use super::{
    grammar::SessionId,
    session::{Opening, Session, Teller},
};
use crate::shared::{self, Key};
use crate::telemetry::{AccessLog, Live, Outcome, Reason, RequestSpan};

/// Refused starts that are remembered, and as many sessions that operators ended.
const REMEMBERED: usize = 4096;
/// The longest time from one look for idle sessions to the next: a reload's `session_idle` holds at the latest by then.
const LOOK: Duration = Duration::from_secs(5);
/// Memory for the bodies of starts that are read whole, over all sessions, in KiB; as much again for those of held requests.
const BODIES_KIB: u32 = 64 * 1024;

/// All sessions that are live now.
pub struct Sessions {
    table: Mutex<Table>,
    /// Hides ids in logs.
    key: ArcSwap<(u64, u64)>,
    access_log: AccessLog,
    shown: Live,
    bodies: Arc<Semaphore>,
    held_bodies: Arc<Semaphore>,
    elsewhere: ArcSwapOption<Box<dyn Elsewhere>>,
    watch: ArcSwapOption<elsewhere::Watch>,
    replicas: Teller,
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions").field("live", &self.count()).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Table {
    live: HashMap<SessionId, Arc<Session>>,
    refused: VecDeque<SessionId>,
    /// Those that an operator ended; nobody else pushes one out.
    cancelled: VecDeque<SessionId>,
    /// Those that other replicas knew and that are over.
    ended: VecDeque<SessionId>,
}

impl Sessions {
    /// An empty table whose records go to `access_log`; what lives is shown in `shown`. `key` hides the ids, or a new one.
    pub fn new(access_log: AccessLog, shown: Live, key: Option<(u64, u64)>) -> Sessions {
        Sessions {
            table: Mutex::default(),
            key: ArcSwap::from_pointee(key.unwrap_or_else(new_key)),
            access_log,
            shown,
            bodies: Arc::new(Semaphore::new(BODIES_KIB as usize)),
            held_bodies: Arc::new(Semaphore::new(BODIES_KIB as usize)),
            elsewhere: ArcSwapOption::empty(),
            watch: ArcSwapOption::empty(),
            replicas: Teller::default(),
        }
    }

    /// Enters a session whose start is on its way; refused while one of the same id is live.
    pub fn begin(&self, opening: Opening) -> Result<Arc<Session>, Reason> {
        let id = opening.id;
        let label = self.label(id);
        // Asked first: what comes here from there meanwhile is in the table.
        let is_elsewhere = self.is_elsewhere(id);
        let mut table = self.lock();
        if is_elsewhere || table.live.contains_key(&id) {
            return Err(Reason::SessionLive);
        }
        table.cancelled.retain(|cancelled| *cancelled != id);
        table.ended.retain(|ended| *ended != id);
        let session = Arc::new(Session::new(opening, label, &self.shown, &self.replicas));
        table.live.insert(id, session.clone());
        Ok(session)
    }

    /// The live session of this id.
    pub fn find(&self, id: SessionId) -> Option<Arc<Session>> {
        self.lock().live.get(&id).cloned()
    }

    /// Takes a session out and writes its record; only the first call for a session counts.
    pub fn finish(&self, session: &Arc<Session>, outcome: Outcome, reason: Option<Reason>) {
        let mut table = self.lock();
        let is_there = table.live.get(&session.id()).is_some_and(|s| Arc::ptr_eq(s, session));
        if !is_there {
            drop(table);
            if session.is_elsewhere() {
                session.set_elsewhere(false);
                self.tell_end(session, outcome);
            }
            return;
        }
        table.live.remove(&session.id());
        drop(session.take_node_conn());
        // Its end comes even where no node has accepted the start.
        if outcome == Outcome::Cancelled {
            remember(&mut table.cancelled, session.id());
        } else if outcome == Outcome::Refused || !session.is_open() {
            remember(&mut table.refused, session.id());
        }
        if session.home().is_some() && is_certain(outcome) {
            remember(&mut table.ended, session.id());
        }
        drop(table);
        session.remember(outcome == Outcome::Done);
        session.close();
        if !session.is_open() {
            self.tell_replicas(shared::redis::News::Refused(Key(session.id().to_bytes())));
        }
        if self.end_shared(session, outcome, reason) {
            return;
        }
        self.tell_end(session, outcome);
        self.access_log.write(&session.record(outcome, reason));
    }

    /// A start was refused, or broke off, before it became a session: its end will come all the same.
    pub fn refuse(&self, opening: Opening, outcome: Outcome, reason: Reason) {
        let id = opening.id;
        let session = Session::new(opening, self.label(id), &self.shown, &self.replicas);
        remember(&mut self.lock().refused, id);
        self.tell_replicas(shared::redis::News::Refused(Key(id.to_bytes())));
        self.access_log.write(&session.record(outcome, Some(reason)));
    }

    /// A request of a session is over.
    pub(super) fn request_ended(&self, request: &RequestSpan<'_>) {
        self.access_log.spans().request(request);
    }

    /// Whether the start of this id was refused lately, or an operator ended its session.
    pub fn was_refused(&self, id: SessionId) -> bool {
        let table = self.lock();
        table.refused.contains(&id) || table.cancelled.contains(&id)
    }

    /// Whether an operator ended the session of this id lately.
    pub fn was_cancelled(&self, id: SessionId) -> bool {
        self.lock().cancelled.contains(&id)
    }

    /// Ends the session that is shown by this name, for an operator; false when there is none.
    pub fn cancel(&self, label: &str) -> bool {
        let session = self.lock().live.values().find(|session| session.label() == label).cloned();
        let Some(session) = session else { return false };
        session.cancel();
        if session.home().is_some() {
            self.tell_replicas(shared::redis::News::Cancelled(Key(session.id().to_bytes())));
        }
        // What is under way breaks off and ends it, so that the record has all its bytes.
        if !session.is_busy() {
            self.finish(&session, Outcome::Cancelled, Some(Reason::Cancelled));
        }
        true
    }

    /// Ends the sessions that were idle for `limit`.
    pub fn sweep(&self, limit: Duration) {
        let is_idle = |s: &Session| !s.is_guest() && s.idle_for() >= limit;
        let idle: Vec<_> = self.lock().live.values().filter(|s| is_idle(s)).cloned().collect();
        for session in idle {
            self.finish(&session, Outcome::Idle, None);
        }
    }

    /// All live sessions.
    pub fn count(&self) -> usize {
        self.lock().live.len()
    }

    /// Live sessions that a listener of this name took up to `time`.
    pub fn count_until(&self, listener: &str, time: Instant) -> usize {
        self.lock().live.values().filter(|s| s.listener() == listener && s.started() <= time).count()
    }

    /// Ends all sessions that are left when the gateway stops.
    pub fn finish_all(&self) {
        let all: Vec<_> = self.lock().live.values().cloned().collect();
        for session in all {
            self.finish(&session, Outcome::Drained, None);
        }
    }

    /// Room for the body of a start, of `bytes`, that is read whole, out of a budget for all; nothing when it is used up.
    pub fn body(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        room(&self.bodies, bytes)
    }

    /// The same for that of a request which waits for its node, out of a budget of its own: a node that is away leaves
    /// room for starts.
    pub fn held_body(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        room(&self.held_bodies, bytes)
    }

    /// Twelve hex digits that stand for the id in this process.
    fn label(&self, id: SessionId) -> String {
        let key = self.key.load();
        let mut hasher = SipHasher24::new_with_keys(key.0, key.1);
        hasher.write(&id.to_bytes());
        format!("{:012x}", hasher.finish() >> 16)
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn new_key() -> (u64, u64) {
    let mut key = [0; 16];
    if let Err(error) = getrandom::fill(&mut key) {
        tracing::warn!(%error, "No randomness for hiding session ids; they are hidden by a weak key.");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        key = now.as_nanos().to_be_bytes();
    }
    let key = u128::from_be_bytes(key);
    ((key >> 64) as u64, key as u64)
}

fn room(budget: &Arc<Semaphore>, bytes: u64) -> Option<OwnedSemaphorePermit> {
    let kib = u32::try_from(bytes.div_ceil(1024)).ok()?;
    budget.clone().try_acquire_many_owned(kib).ok()
}

/// Whether a session that has ended so is over for all replicas: one that was only silent here may live elsewhere.
fn is_certain(outcome: Outcome) -> bool {
    !matches!(outcome, Outcome::Idle | Outcome::Lost)
}

fn remember(among: &mut VecDeque<SessionId>, id: SessionId) {
    if among.contains(&id) {
        return;
    }
    if among.len() == REMEMBERED {
        among.pop_front();
    }
    among.push_back(id);
}

/// Looks for idle sessions for as long as the table lives; `limit` is asked anew each round, since a
/// reload may change it.
pub async fn sweep_forever(sessions: std::sync::Weak<Sessions>, limit: impl Fn() -> Duration) {
    loop {
        let pause = (limit() / 4).clamp(Duration::from_millis(50), LOOK);
        tokio::time::sleep(pause).await;
        let Some(sessions) = sessions.upgrade() else {
            return;
        };
        sessions.sweep(limit());
    }
}
