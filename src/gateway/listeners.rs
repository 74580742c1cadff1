//! The listening sockets and what goes on behind them.
//!
//! A socket belongs to an address, not to a config or a name: a listener whose address stays keeps its socket
//! through every reload and only gets a new door. A fallback listener that goes away refuses new sessions and
//! stays open until its running ones are over, because they come back on new connections.

mod handed;

use std::{
    collections::{HashMap, HashSet},
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

pub(super) use handed::Flows;
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    BuildError,
    accepting::Accepting,
    door::{Behind, Door},
    generation::Generation,
    parts::Parts,
    socket::{Offered, Socket},
};
use crate::{
    config::{ListenAddress, ListenerConfig, Protocol},
    relay::{DataListener, Handed},
    telemetry::SpansError,
};

/// Connections that are cut get this long to say so.
const CUT: Duration = Duration::from_secs(1);
/// How often it is looked whether a listener is through.
const LOOK: Duration = Duration::from_millis(200);

/// Why the gateway does not run, or does not take a new config.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("listener {listener}: cannot open {address}: {source}")]
    Bind {
        /// The listener.
        listener: String,
        /// Its address.
        address: ListenAddress,
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
    /// Spans cannot be sent.
    #[error("log.otlp_endpoint: {0}")]
    Spans(#[from] SpansError),
    /// The Redis that replicas share cannot be used.
    #[error("state.redis: {urls}: {source}")]
    Redis {
        /// Where it is.
        urls: String,
        /// Why not.
        source: crate::shared::redis::RedisError,
    },
    /// The file of sessions and pins cannot be used.
    #[error("state.file: cannot open {path}: {source}")]
    State {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The process that was to be taken over from cannot be; it goes on.
    #[error("cannot take over from the process before: {0}")]
    TakeOver(#[source] io::Error),
    /// The gateway ends, and takes no new config.
    #[error("the gateway is draining")]
    Draining,
    /// A defect: two metric families share a name.
    #[error("metrics: {0}")]
    Metrics(prometheus::Error),
}

/// All open listeners.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    /// Those of the running config, by name.
    open: HashMap<String, Listener>,
    /// One task for each that the config no longer has, until what began on it is over.
    gone: TaskTracker,
    /// What such listeners were, each with what says that it is over.
    retiring: Vec<(ListenerConfig, CancellationToken)>,
}

#[derive(Debug)]
struct Listener {
    /// As configured when its socket was opened or a door put in last: port 0 stays 0.
    configured: ListenerConfig,
    bound: SocketAddr,
    drain: CancellationToken,
    open: Open,
}

#[derive(Debug)]
enum Open {
    Stream(Accepting),
    Data(DataListener),
}

/// Sockets that a new config needs, bound but not used yet.
pub(super) struct Prepared {
    generation: Arc<Generation>,
    bound: HashMap<String, Socket>,
}

impl Listeners {
    /// Binds what is new in `generation`, where it is not `offered` open already; on failure nothing has changed.
    pub(super) fn prepare(&self, generation: &Arc<Generation>, offered: &mut Offered) -> Result<Prepared, StartError> {
        let mut bound = HashMap::new();
        for config in &generation.config.listeners {
            if self.open.values().any(|open| config.keeps_socket_of(&open.configured)) {
                continue;
            }
            let opened = match offered.take(config) {
                Some(socket) => socket,
                None if self.is_held(config) => Err(io::ErrorKind::AddrInUse.into()),
                None => Socket::open(config),
            };
            let socket = opened.map_err(|source| StartError::Bind {
                listener: config.name.clone(),
                address: config.address,
                source,
            })?;
            bound.insert(config.name.clone(), socket);
        }
        Ok(Prepared { generation: generation.clone(), bound })
    }

    /// The bound addresses, by name; of a range of ports the first.
    pub(super) fn addresses(&self) -> Vec<(String, SocketAddr)> {
        let mut all: Vec<_> = self.open.iter().map(|(name, l)| (name.clone(), l.bound)).collect();
        all.sort();
        all
    }

    /// The names of listeners that the config no longer has and that are not through yet.
    pub(super) fn retiring(&self) -> HashSet<String> {
        self.still_retiring().map(|config| config.name.clone()).collect()
    }

    fn still_retiring(&self) -> impl Iterator<Item = &ListenerConfig> {
        self.retiring.iter().filter(|(_, over)| !over.is_cancelled()).map(|(config, _)| config)
    }

    /// Whether flows may still run on a port of this listener that is not its own to take over. The system would share
    /// the port, and deal the flows of the one out to the other.
    fn is_held(&self, config: &ListenerConfig) -> bool {
        let all = self.open.values().map(|l| &l.configured).chain(self.still_retiring());
        let mut of_data = all.filter(|held| held.protocol == Protocol::Udp);
        config.protocol == Protocol::Udp && of_data.any(|held| held.address.overlaps(config.address))
    }

    /// The listener whose socket goes on serving at this place.
    fn take(&mut self, config: &ListenerConfig) -> Option<Listener> {
        let is_it = |(_, open): &(&String, &Listener)| config.keeps_socket_of(&open.configured);
        let name = self.open.iter().find(is_it)?.0.clone();
        self.open.remove(&name)
    }

    /// From now on no listener takes a new session, connection or flow.
    pub(super) fn drain(&mut self) {
        self.open.values().for_each(Listener::drain);
    }

    /// Closes the sockets and waits for connections and flows, until the deadline or `hurry`; what is left then is
    /// cut.
    pub(super) async fn close(mut self, deadline: Instant, hurry: &CancellationToken, cut: &CancellationToken) {
        self.open.values_mut().for_each(Listener::stop);
        self.gone.close();
        let all = async {
            for listener in self.open.values() {
                listener.is_over().await;
            }
            self.gone.wait().await;
        };
        tokio::pin!(all);
        tokio::select! {
            () = &mut all => return,
            () = tokio::time::sleep_until(deadline) => {}
            () = hurry.cancelled() => {}
        }
        cut.cancel();
        // Those that heard it write their records; the others are gone with the runtime.
        let _ = tokio::time::timeout(CUT, all).await;
    }
}

impl Prepared {
    /// The addresses of TCP that are listened on, now and once this is committed.
    pub(super) fn own(&self, listeners: &Listeners) -> Vec<SocketAddr> {
        let open = listeners.open.values().filter(|l| l.configured.protocol != Protocol::Udp).map(|l| l.bound);
        let fresh = self.bound.values().filter_map(|socket| match socket {
            Socket::Stream(_, bound) => Some(*bound),
            Socket::Data(_) => None,
        });
        open.chain(fresh).collect()
    }

    /// Gives a listener of data the flows that ran on its sockets until now.
    pub(super) fn bring(&mut self, listener: &str, flows: Vec<Vec<Handed>>) {
        if let Some(Socket::Data(sockets)) = self.bound.get_mut(listener) {
            sockets.bring(flows);
        }
    }

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
                Some(socket) => Listener::open(socket, config, door, drain, parts),
                None => listeners.take(config).map(|kept| kept.with_door(config, door, drain)),
            };
            next.extend(listener.map(|listener| (config.name.clone(), listener)));
        }
        let gone = std::mem::replace(&mut listeners.open, next);
        for (name, listener) in gone {
            listener.drain();
            let over = CancellationToken::new();
            listeners.retiring.retain(|(_, over)| !over.is_cancelled());
            listeners.retiring.push((listener.configured.clone(), over.clone()));
            let (parts, over) = (parts.clone(), over.drop_guard());
            listeners.gone.spawn(async move {
                retire(name, listener, now, parts).await;
                drop(over);
            });
        }
    }
}

impl Listener {
    /// Begins to serve; nothing where socket and door are of different kinds, which the config's own shape excludes.
    fn open(
        socket: Socket,
        configured: &ListenerConfig,
        door: Door,
        drain: CancellationToken,
        parts: &Parts,
    ) -> Option<Listener> {
        let (bound, open) = match (socket, door) {
            (Socket::Stream(socket, bound), Door::Stream(door)) => {
                let behind = Behind::new(door, configured);
                (bound, Open::Stream(Accepting::start(socket, behind, parts.places.clone(), parts.shortage.clone())))
            }
            (Socket::Data(sockets), Door::Data(door)) => {
                (sockets.bound(), Open::Data(DataListener::start(sockets, door)))
            }
            _ => return None,
        };
        Some(Listener { configured: configured.clone(), bound, drain, open })
    }

    /// The same listener with a new door, and perhaps a new name. Connections and flows that are open go on with the
    /// door they began with; a forward proxy judges each request by the new one.
    fn with_door(mut self, configured: &ListenerConfig, new: Door, drain: CancellationToken) -> Listener {
        match (&self.open, new) {
            (Open::Stream(accepting), Door::Stream(new)) => accepting.set_door(Behind::new(new, configured)),
            (Open::Data(data), Door::Data(new)) => data.set_door(new),
            _ => {}
        }
        (self.configured, self.drain) = (configured.clone(), drain);
        self
    }

    fn drain(&self) {
        self.drain.cancel();
        if let Open::Data(data) = &self.open {
            data.drain();
        }
    }

    fn stop(&mut self) {
        if let Open::Stream(accepting) = &mut self.open {
            accepting.close();
        }
    }

    /// Waits until nothing is open any more.
    async fn is_over(&self) {
        match &self.open {
            Open::Stream(accepting) => accepting.is_over().await,
            Open::Data(data) => {
                while data.flows() > 0 {
                    tokio::time::sleep(LOOK).await;
                }
            }
        }
    }
}

/// A listener that the config no longer has: open until what began on it is over.
async fn retire(name: String, mut listener: Listener, gone: std::time::Instant, parts: Arc<Parts>) {
    // Through a forward proxy a session is known only by its requests, which follow one another.
    let goes_on = || !parts.forward.recents.is_quiet(&name, std::time::Instant::now());
    while parts.sessions.count_until(&name, gone) > 0 || goes_on() {
        tokio::time::sleep(LOOK).await;
    }
    listener.stop();
    // Its connections hear of the cut themselves; flows end with the listener.
    let cut = match listener.open {
        Open::Stream(_) => CancellationToken::new(),
        Open::Data(_) => parts.cut.clone(),
    };
    cut.run_until_cancelled(listener.is_over()).await;
    tracing::info!(listener = name, "Listener is closed.");
}
