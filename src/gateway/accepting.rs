//! What takes connections out of a listening socket.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::door::Behind;
use crate::limit::Places;

/// Out of descriptors, most likely: the connection stays in the queue and is tried again after so long.
const AGAIN: Duration = Duration::from_millis(50);

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
    connections: TaskTracker,
}

impl Accepting {
    /// Takes connections from now on.
    pub(super) fn start(socket: TcpListener, behind: Behind, places: Places) -> Accepting {
        let door = Arc::new(ArcSwap::from_pointee(behind));
        let then = Then { door, places, connections: TaskTracker::new() };
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
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                accepted = socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let behind = self.door.load_full();
                    if let Some(guest) = behind.admit(&self.places, peer) {
                        let serving = behind.door.clone().serve(stream, peer, guest, self.door.clone());
                        self.connections.spawn(serving);
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "A connection could not be accepted.");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }
}
