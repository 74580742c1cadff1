//! What came from another process is put where it belongs here.

use std::sync::Arc;

use crate::{
    gateway::running::Run,
    limit::SessionPermit,
    shared::SessionState,
    upstream::{Lease, Upstream},
};

/// The places that a session takes.
#[derive(Debug)]
pub(in crate::gateway) struct Places {
    upstream: Arc<Upstream>,
    lease: Lease,
    permit: Option<SessionPermit>,
}

impl Places {
    /// What was on them has ended in another process.
    pub(super) fn ended(self, state: &SessionState, well: bool) {
        self.upstream.ended_elsewhere(state, well);
    }

    /// Each by itself.
    pub(in crate::gateway) fn into_parts(self) -> (Arc<Upstream>, Lease, Option<SessionPermit>) {
        (self.upstream, self.lease, self.permit)
    }

    /// Takes them, whatever the limits say; none where the config does not have the node any more.
    pub(in crate::gateway) fn take(run: &Run, state: &SessionState) -> Option<Places> {
        let upstream = run.generation().upstreams.get(&state.upstream)?.clone();
        let lease = upstream.lease_on(&state.node)?;
        let user = state.user.as_deref().map(Arc::from);
        let limit = run.parts.entry.sessions();
        let permit = limit.acquire(&state.listener, state.client.into(), user.as_ref());
        Some(Places { upstream, lease, permit })
    }
}

/// Goes on with a session of another process, in the places that are taken for it already, or in new ones. False where
/// the config does not have its node.
pub(in crate::gateway) fn bring(run: &Run, state: &SessionState, places: Option<Places>) -> bool {
    let Some(Places { upstream, lease, permit }) = places.or_else(|| Places::take(run, state)) else {
        tracing::warn!(
            upstream = state.upstream,
            node = state.node,
            "A session cannot go on: its node is not configured."
        );
        return false;
    };
    let metrics = run.parts.metrics.listener(&state.listener);
    if run.parts.sessions.bring(state, upstream, metrics, lease, permit) {
        run.kept.opened(state);
    }
    true
}
