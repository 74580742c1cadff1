//! The connections that were opened from here, so that one that comes back in is known: a request that meets itself would go
//! round until nothing is left.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::net::TcpStream;

/// The near addresses of connections to targets and parents. Cloning shares them.
#[derive(Debug, Clone, Default)]
pub struct Outgoing(Arc<Mutex<HashSet<SocketAddr>>>);

impl Outgoing {
    /// Remembers a connection as long as the guard lives; it must be done before anything is written to it.
    pub(super) fn begin(&self, stream: &TcpStream) -> Leaving {
        let near = stream.local_addr().ok();
        self.lock().extend(near);
        Leaving { all: self.clone(), near }
    }

    /// Whether a connection that came from there is one of these.
    pub(super) fn holds(&self, peer: SocketAddr) -> bool {
        self.lock().contains(&peer)
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<SocketAddr>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection that was opened from here.
#[derive(Debug)]
pub(super) struct Leaving {
    all: Outgoing,
    near: Option<SocketAddr>,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        if let Some(near) = self.near {
            self.all.lock().remove(&near);
        }
    }
}
