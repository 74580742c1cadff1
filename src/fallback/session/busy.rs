//! Whether a request of a session is under way, and how long none was.

use std::{
    sync::{
        Arc,
        atomic::Ordering::{Relaxed, SeqCst},
    },
    time::Duration,
};

use tokio::time::timeout;

use super::Session;

impl Session {
    /// Whether a request of it is under way.
    pub fn is_busy(&self) -> bool {
        self.in_flight.load(SeqCst) > 0
    }

    /// It is not idle, and later requests wait their turn, for as long as the guard lives.
    pub(in crate::fallback) fn busy(self: &Arc<Self>) -> InFlight {
        self.request_begins();
        self.touch();
        InFlight(self.clone())
    }

    /// Waits until no request of it is under way, or for `limit`.
    pub async fn quiet(&self, limit: Duration) {
        let quiet = async {
            loop {
                let mut over = std::pin::pin!(self.request_over.notified());
                over.as_mut().enable();
                if self.in_flight.load(SeqCst) == 0 && !self.is_busy_elsewhere() {
                    return;
                }
                over.await;
            }
        };
        let _ = timeout(limit, quiet).await;
    }

    /// How long nothing has moved and no request was under way.
    pub fn idle_for(&self) -> Duration {
        if self.in_flight.load(Relaxed) > 0 || self.is_busy_elsewhere() {
            return Duration::ZERO;
        }
        self.started().elapsed().saturating_sub(Duration::from_millis(self.last.load(Relaxed)))
    }

    pub(super) fn touch(&self) {
        self.last.store(u64::try_from(self.started().elapsed().as_millis()).unwrap_or(u64::MAX), Relaxed);
    }
}

/// A request under way; the session is not idle while it lives.
#[derive(Debug)]
pub(in crate::fallback) struct InFlight(Arc<Session>);

impl InFlight {
    /// The session.
    pub(in crate::fallback) fn session(&self) -> &Arc<Session> {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.touch();
        self.0.request_ends();
        self.0.request_over.notify_waiters();
    }
}
