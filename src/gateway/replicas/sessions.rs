//! The other replicas as the session table knows them.

use std::{
    pin::Pin,
    sync::{Arc, Weak},
    time::Instant,
};

use super::{TOLD, lock};
use crate::shared::redis::{Lives, News, SharedSession};
use crate::{
    config::OnUnavailable,
    fallback::{self, Reach, Session},
    gateway::running::Run,
    shared::{Key, SessionState},
    telemetry::{Outcome, Reason},
};

/// What is said of sessions goes to the others by this.
#[derive(Debug)]
pub(super) struct OfSessions(pub(super) Weak<Run>);

impl fallback::Replicas for OfSessions {
    fn reach(&self) -> Reach {
        let run = self.0.upgrade();
        let Some(replicas) = run.as_ref().and_then(|run| run.replicas.get()) else { return Reach::Whole };
        match replicas.on_unavailable {
            OnUnavailable::Refuse if !replicas.redis.is_up() => Reach::Refuse,
            OnUnavailable::Local if !replicas.redis.is_up() || replicas.is_settling() => Reach::Hash,
            _ => Reach::Whole,
        }
    }

    fn can_be_asked(&self) -> bool {
        let run = self.0.upgrade();
        run.as_ref().and_then(|run| run.replicas.get()).is_some_and(|replicas| replicas.redis.is_up())
    }

    fn tell(&self, news: News) {
        if let Some(run) = self.0.upgrade()
            && let Some(replicas) = run.replicas.get()
        {
            replicas.redis.tell(news);
        }
    }

    fn begin(&self, session: &Arc<Session>, state: SessionState) -> Pin<Box<dyn Future<Output = bool> + Send>> {
        let (run, session) = (self.0.upgrade(), session.clone());
        Box::pin(async move {
            let Some(replicas) = run.as_ref().and_then(|run| run.replicas.get()) else { return true };
            let me = replicas.redis.me();
            session.share(me);
            let Some(shared) = session.shared(me, false) else { return true };
            let flags = (state.open, state.node_keeps, state.client_keeps);
            let mut state = shared.state;
            (state.open, state.node_keeps, state.client_keeps) = flags;
            let session = Box::new(SharedSession { state, ..shared });
            replicas.redis.tell_and_wait(News::Session { session, busy: true, new: true, lives: Lives::No }).await
        })
    }

    fn fetch(&self, key: Key) -> Pin<Box<dyn Future<Output = bool> + Send>> {
        let run = self.0.upgrade();
        Box::pin(async move {
            let Some(run) = run else { return false };
            let Some(replicas) = run.replicas.get() else { return true };
            let Some(found) = replicas.redis.find(key).await else { return false };
            if found.cancelled {
                run.parts.sessions.bring_refused(&[], &[key]);
            } else if found.refused {
                run.parts.sessions.bring_refused(&[key], &[]);
            } else if let Some(session) = found.session {
                run.bring_guest(replicas, &session);
            }
            true
        })
    }

    fn ended_unseen(&self, key: Key, outcome: Outcome) {
        if let Some(run) = self.0.upgrade()
            && let Some(replicas) = run.replicas.get()
        {
            replicas.ends.unseen(key, outcome);
            // It may have become known meanwhile.
            if let Some(session) = run.parts.sessions.of(key) {
                run.end_as_seen(replicas, &session);
            }
        }
    }

    fn unverified(&self, listener: &str) {
        let run = self.0.upgrade();
        let Some(replicas) = run.as_ref().and_then(|run| run.replicas.get()) else { return };
        let (mut told, now) = (lock(&replicas.told), Instant::now());
        if told.unverified.is_none_or(|last| now.saturating_duration_since(last) >= TOLD) {
            told.unverified = Some(now);
            tracing::warn!(
                listener,
                "Requests of sessions that other replicas may know go by the hash of their id, for these cannot be asked."
            );
        }
    }

    fn end(&self, session: Arc<Session>, outcome: Outcome, reason: Option<Reason>) {
        let Some(run) = self.0.upgrade() else { return };
        let of_task = run.clone();
        if let Some(replicas) = run.replicas.get() {
            replicas.ends.begin(&session);
            run.free_places(Key(session.id().to_bytes()));
            replicas.ending.spawn(async move { of_task.end_shared(session, outcome, reason).await });
        }
    }
}
