//! A session as another process needs it, and as one hands it over.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, SystemTime},
};

use super::{Opening, Session, Teller, lock};
use crate::{
    fallback::grammar::SessionId,
    shared::{Key, SessionState},
    telemetry::{Direction, ListenerMetrics, Live},
    upstream::Upstream,
};

impl Session {
    /// What another process needs to go on with it; nothing as long as it is on no node.
    pub(in crate::fallback) fn state(&self) -> Option<SessionState> {
        let counts = self.transfer.counts();
        let (files, files_failed) = self.transfer.files();
        let began = self.transfer.started().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Some(SessionState {
            key: Key(self.id().to_bytes()),
            listener: self.listener().to_owned(),
            upstream: self.upstream().name().to_owned(),
            node: self.node()?.name().to_owned(),
            client: self.client(),
            direction: self.direction(),
            user: self.user().map(str::to_owned),
            sources: self.opening.sources,
            began: u64::try_from(began.as_millis()).unwrap_or(u64::MAX),
            open: self.is_open(),
            node_keeps: self.node_keeps(),
            client_keeps: self.client_keeps(),
            bytes_uploaded: counts.upload(),
            bytes_downloaded: counts.download(),
            files,
            files_failed,
            requests: self.requests.load(Relaxed),
            lengths_differ: self.lengths_differ.load(Relaxed),
            announced: *lock(&self.announced),
            turn: self.shares.last_turn(),
            waited: self.waited.load(Relaxed),
        })
    }

    /// A session that ran in another process; it is on no node yet.
    pub(in crate::fallback) fn of_state(
        state: &SessionState,
        upstream: Arc<Upstream>,
        metrics: Arc<ListenerMetrics>,
        label: String,
        live: &Live,
        teller: &Teller,
    ) -> Session {
        let opening = Opening {
            id: SessionId::from_bytes(state.key.0),
            listener: state.listener.clone(),
            metrics,
            upstream,
            client: state.client,
            direction: state.direction,
            user: state.user.clone(),
            sources: state.sources,
        };
        let began = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(state.began));
        let session = Session::begun(opening, label, live, began, teller);
        session.transfer.counts().add(Direction::Upload, state.bytes_uploaded);
        session.transfer.counts().add(Direction::Download, state.bytes_downloaded);
        session.transfer.add_files(state.files, state.files_failed);
        session.requests.store(state.requests, Relaxed);
        session.lengths_differ.store(state.lengths_differ, Relaxed);
        *lock(&session.announced) = state.announced;
        session.shares.turn(state.turn);
        session.waited.store(state.waited, Relaxed);
        session.touch();
        session
    }

    /// A session of another replica, where it is shown; it is on no node yet.
    pub(in crate::fallback) fn guest(
        state: &SessionState,
        upstream: Arc<Upstream>,
        metrics: Arc<ListenerMetrics>,
        label: String,
        live: &Live,
        teller: &Teller,
    ) -> Session {
        let session = Session::of_state(state, upstream, metrics, label, live, teller);
        session.transfer.hide();
        session
    }

    /// It goes on in another process.
    pub(in crate::fallback) fn set_elsewhere(&self, elsewhere: bool) {
        self.elsewhere.store(elsewhere, Relaxed);
    }

    /// Whether it goes on in another process.
    pub(in crate::fallback) fn is_elsewhere(&self) -> bool {
        self.elsewhere.load(Relaxed)
    }
}
