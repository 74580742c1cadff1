//! What takes connections out of a listening socket.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::door::Behind;
use crate::{limit::Places, net::shortage::Shortage};

/// A listening socket, what stands behind it, and its connections.
#[derive(Debug)]
pub(super) struct Accepting {
    /// None once it is closed.
    socket: Option<Arc<TcpListener>>,
    /// Cancelled: nothing is accepted any more.
    stop: CancellationToken,
    then: Then,
}

/// What becomes of a connection.
#[derive(Debug, Clone)]
struct Then {
    door: Arc<ArcSwap<Behind>>,
    places: Places,
    shortage: Arc<Shortage>,
    connections: TaskTracker,
}

impl Accepting {
    /// Takes connections from now on.
    pub(super) fn start(socket: TcpListener, behind: Behind, places: Places, shortage: Arc<Shortage>) -> Accepting {
        let door = Arc::new(ArcSwap::from_pointee(behind));
        let then = Then { door, places, shortage, connections: TaskTracker::new() };
        let mut accepting = Accepting { socket: Some(Arc::new(socket)), stop: CancellationToken::new(), then };
        accepting.go_on();
        accepting
    }

    /// What stands behind it from now on.
    pub(super) fn set_door(&self, behind: Behind) {
        self.then.door.store(Arc::new(behind));
    }

    /// The socket, as long as it is open.
    pub(super) fn socket(&self) -> Option<&TcpListener> {
        self.socket.as_deref()
    }

    /// Takes no connection any more; those that come stay in the system's queue.
    pub(super) fn halt(&self) {
        self.stop.cancel();
    }

    /// Takes connections again.
    pub(super) fn go_on(&mut self) {
        if let Some(socket) = &self.socket {
            self.stop = CancellationToken::new();
            tokio::spawn(self.then.clone().run(socket.clone(), self.stop.clone()));
        }
    }

    /// Closes the socket. Its connections go on.
    pub(super) fn close(&mut self) {
        self.halt();
        self.socket = None;
        self.then.connections.close();
    }

    /// Waits until its connections are over, once it is closed.
    pub(super) async fn is_over(&self) {
        self.then.connections.wait().await;
    }
}

impl Then {
    async fn run(self, socket: Arc<TcpListener>, stop: CancellationToken) {
        loop {
            let (stream, peer) = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                taken = self.shortage.accept(&socket) => taken,
            };
            let behind = self.door.load_full();
            if let Some(guest) = behind.admit(&self.places, peer) {
                let serving = behind.door.clone().serve(stream, peer, guest, self.door.clone());
                self.connections.spawn(serving);
            }
        }
    }
}
