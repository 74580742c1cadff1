//! The ends of sessions that several replicas carry: one of them writes the record, and all hear of it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use super::{Replicas, lock};
use crate::shared::redis::{Ending, News};
use crate::{
    fallback::Session,
    gateway::running::Run,
    shared::Key,
    telemetry::{Outcome, Reason},
};

/// How long what other replicas have yet to say of a session is waited for once it is over.
const LATE: Duration = Duration::from_millis(300);
/// How long an end is remembered of a session that nobody tells of.
const MISSED: Duration = Duration::from_secs(3600);
/// Ends that are remembered while the others cannot be told.
const UNTOLD: usize = 100_000;

/// Ends that are under way, or that nobody could be told.
#[derive(Debug, Default)]
pub(super) struct Ends {
    /// Their records are about to be written.
    ending: Mutex<HashMap<Key, Arc<Session>>>,
    /// Their records are written.
    untold: Mutex<HashMap<Key, Outcome>>,
    /// They are being told.
    telling: AtomicBool,
    /// Those of sessions that were not known here; another replica has what is to be written.
    unseen: Mutex<HashMap<Key, (Outcome, Instant)>>,
}

impl Ends {
    /// A session is over, and others may still say what they did of it.
    pub(super) fn begin(&self, session: &Arc<Session>) {
        lock(&self.ending).insert(Key(session.id().to_bytes()), session.clone());
    }

    /// The session of this key, if its record is about to be written.
    pub(super) fn of(&self, key: Key) -> Option<Arc<Session>> {
        lock(&self.ending).get(&key).cloned()
    }

    /// A session that was not known here has ended here.
    pub(super) fn unseen(&self, key: Key, outcome: Outcome) {
        remember(&self.unseen, key, (outcome, Instant::now()));
    }

    /// Ends that nobody has missed for long are forgotten.
    pub(super) fn prune(&self) {
        lock(&self.unseen).retain(|_, (_, seen)| seen.elapsed() < MISSED);
    }

    /// How this session has ended here before it was known.
    fn take_unseen(&self, key: Key) -> Option<Outcome> {
        lock(&self.unseen).remove(&key).map(|(outcome, _)| outcome)
    }

    /// Others take a session for live that has ended: they missed it, and are to be told again.
    pub(super) fn was_missed(&self, key: Key, outcome: Outcome) {
        remember(&self.untold, key, outcome);
    }

    /// Whether this session is over, though not all have heard of it.
    pub(super) fn is_over(&self, key: Key) -> bool {
        lock(&self.untold).contains_key(&key) || lock(&self.ending).contains_key(&key)
    }
}

fn remember<T>(among: &Mutex<HashMap<Key, T>>, key: Key, outcome: T) {
    let mut among = lock(among);
    if among.len() < UNTOLD {
        among.insert(key, outcome);
    }
}

impl Run {
    /// A session has left the table: if nobody else has told that it is over, its record is written here.
    pub(super) async fn end_shared(self: Arc<Self>, session: Arc<Session>, outcome: Outcome, reason: Option<Reason>) {
        let Some(replicas) = self.replicas.get() else { return };
        let key = Key(session.id().to_bytes());
        if session.is_carried_elsewhere() && replicas.redis.is_up() {
            session.quiet(LATE).await;
        }
        match replicas.redis.end(key, outcome).await {
            Ending::First(parts) => {
                let me = replicas.redis.me();
                parts.iter().filter(|(from, _)| *from != me).for_each(|(from, part)| session.add_part(*from, part));
                self.parts.sessions.write_end(&session, outcome, reason);
                if !replicas.redis.tell_and_wait(News::Ended(key, outcome)).await {
                    remember(&replicas.ends.untold, key, outcome);
                }
            }
            Ending::Told => replicas.redis.tell(News::Ended(key, outcome)),
            Ending::Unknown => {
                self.parts.sessions.write_end(&session, outcome, reason);
                remember(&replicas.ends.untold, key, outcome);
            }
        }
        lock(&replicas.ends.ending).remove(&key);
    }

    /// The others can be told again: they hear of what has ended meanwhile.
    pub(super) fn tell_ends(self: &Arc<Self>, replicas: &Replicas) {
        let untold: Vec<_> = lock(&replicas.ends.untold).iter().map(|(key, outcome)| (*key, *outcome)).collect();
        if untold.is_empty() || replicas.ends.telling.swap(true, Ordering::AcqRel) {
            return;
        }
        let run = self.clone();
        replicas.ending.spawn(async move {
            let Some(replicas) = run.replicas.get() else { return };
            for (key, outcome) in untold {
                if replicas.redis.end(key, outcome).await == Ending::Unknown {
                    break;
                }
                replicas.redis.tell(News::Ended(key, outcome));
                // Until here it was not to be brought back.
                lock(&replicas.ends.untold).remove(&key);
                run.parts.sessions.ended_there(key, outcome);
            }
            replicas.ends.telling.store(false, Ordering::Release);
        });
    }

    /// A session is known here: if its end was seen when it was not, it is over.
    pub(super) fn end_as_seen(&self, replicas: &Replicas, session: &Arc<Session>) {
        if let Some(outcome) = replicas.ends.take_unseen(Key(session.id().to_bytes())) {
            self.parts.sessions.finish(session, outcome, None);
        }
    }
}
