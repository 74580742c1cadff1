//! The listening sockets and the connections behind them.
//!
//! A socket belongs to an address, not to a config: a listener whose address stays keeps its socket
//! through every reload and only gets a new door. A listener that goes away refuses new sessions and
//! stays open until its running ones are over, because they come back on new connections.

use std::{collections::HashMap, io, net::SocketAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tokio::{net::TcpListener, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{BuildError, generation::Generation, parts::Parts};
use crate::{fallback::Door, limit::ConnectionLimit, net::tcp, telemetry::Reason};

/// Why the gateway does not run, or does not take a new config.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("listener {listener}: cannot open {address}: {source}")]
    Bind {
        /// The listener.
        listener: String,
        /// Its address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// Something the config names is unusable.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The access log cannot be written.
    #[error("access_log.path: cannot open {path}: {source}")]
    AccessLog {
        /// The file.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// A defect: two metric families share a name.
    #[error("metrics: {0}")]
    Metrics(prometheus::Error),
}

/// All open listeners.
#[derive(Debug, Default)]
pub(super) struct Listeners(HashMap<String, Listener>);

#[derive(Debug)]
struct Listener {
    /// As configured: port 0 stays 0.
    configured: SocketAddr,
    bound: SocketAddr,
    door: Arc<ArcSwap<Door>>,
    drain: CancellationToken,
    /// Cancelled: the socket closes.
    stop: CancellationToken,
    /// Its connections.
    connections: TaskTracker,
}

/// Sockets that a new config needs, bound but not used yet.
pub(super) struct Prepared {
    generation: Arc<Generation>,
    bound: HashMap<String, (TcpListener, SocketAddr)>,
}

impl Listeners {
    /// Binds what is new in `generation`; on failure nothing has changed.
    pub(super) fn prepare(&self, generation: &Arc<Generation>, _: &Parts) -> Result<Prepared, StartError> {
        let mut bound = HashMap::new();
        for listener in &generation.config.listeners {
            if self.0.get(&listener.name).is_some_and(|l| l.configured == listener.address) {
                continue;
            }
            let open = || {
                let socket = tcp::listen(listener.address)?;
                let address = socket.local_addr()?;
                Ok((socket, address))
            };
            let pair = open().map_err(|source| StartError::Bind {
                listener: listener.name.clone(),
                address: listener.address,
                source,
            })?;
            bound.insert(listener.name.clone(), pair);
        }
        Ok(Prepared { generation: generation.clone(), bound })
    }

    /// The bound addresses, by name.
    pub(super) fn addresses(&self) -> Vec<(String, SocketAddr)> {
        let mut all: Vec<_> = self.0.iter().map(|(name, l)| (name.clone(), l.bound)).collect();
        all.sort();
        all
    }

    /// From now on no listener takes a new session.
    pub(super) fn stop_sessions(&mut self) {
        self.0.values().for_each(|l| l.drain.cancel());
    }

    /// Closes the sockets and waits for the connections, until the deadline or `hurry`.
    pub(super) async fn close(self, deadline: Instant, hurry: &CancellationToken) {
        for listener in self.0.values() {
            listener.stop.cancel();
            listener.connections.close();
        }
        for listener in self.0.into_values() {
            tokio::select! {
                () = listener.connections.wait() => {}
                () = tokio::time::sleep_until(deadline) => return,
                () = hurry.cancelled() => return,
            }
        }
    }
}

impl Prepared {
    /// Puts the new doors in place. Cannot fail.
    pub(super) fn commit(mut self, listeners: &mut Listeners, parts: &Arc<Parts>) {
        // A listener that goes may have a successor of its name, whose sessions are all later than this.
        let now = std::time::Instant::now();
        let mut next = HashMap::new();
        for config in &self.generation.config.listeners {
            let Some((door, drain)) = self.generation.doors.get(&config.name).cloned() else {
                continue;
            };
            door.show_certificates(&parts.metrics);
            let listener = match self.bound.remove(&config.name) {
                Some((socket, bound)) => Listener::open(socket, config.address, bound, door, drain, parts),
                None => {
                    let Some(kept) = listeners.0.remove(&config.name) else {
                        continue;
                    };
                    // Connections that are open go on with the door they began with.
                    kept.door.store(door);
                    kept
                }
            };
            next.insert(config.name.clone(), listener);
        }
        let gone = std::mem::replace(&mut listeners.0, next);
        for (name, listener) in gone {
            listener.drain.cancel();
            tokio::spawn(retire(name, listener, now, parts.clone()));
        }
    }
}

impl Listener {
    fn open(
        socket: TcpListener,
        configured: SocketAddr,
        bound: SocketAddr,
        door: Arc<Door>,
        drain: CancellationToken,
        parts: &Parts,
    ) -> Listener {
        let door = Arc::new(ArcSwap::new(door));
        let (stop, connections) = (CancellationToken::new(), TaskTracker::new());
        tokio::spawn(accept(socket, door.clone(), parts.connections.clone(), stop.clone(), connections.clone()));
        Listener { configured, bound, door, drain, stop, connections }
    }
}

/// A listener that the config no longer has: open until its sessions are over.
async fn retire(name: String, listener: Listener, gone: std::time::Instant, parts: Arc<Parts>) {
    while parts.sessions.count_until(&name, gone) > 0 {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    listener.stop.cancel();
    listener.connections.close();
    listener.connections.wait().await;
    tracing::info!(listener = name, "Listener is closed.");
}

async fn accept(
    socket: TcpListener,
    door: Arc<ArcSwap<Door>>,
    limit: ConnectionLimit,
    stop: CancellationToken,
    connections: TaskTracker,
) {
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let door = door.load_full();
                let Some(permit) = limit.try_acquire() else {
                    door.metrics().refusal(Reason::TooManyConnections);
                    continue;
                };
                connections.spawn(async move {
                    door.serve(stream, peer).await;
                    drop(permit);
                });
            }
            Err(error) => {
                // Out of descriptors, most likely: the connection stays in the queue and is tried again.
                tracing::error!(%error, "A connection could not be accepted.");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}
