//! A transfer node for demonstrations and tests, and a client that speaks to it as the real one does.
//!
//! The node answers the HTTP fallback described in `docs/protocol.md`: uploads, downloads, directories, messages, resume
//! and skip, persistent connections, and faults on request. It keeps its files below one directory.

mod date;
mod download;
mod fault;
mod head;
mod listing;
mod percent;
mod record;
mod serve;
mod sessions;
mod start;
mod store;
mod upload;
mod wire;

pub mod client;

#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

pub use fault::{Action, Fault, FaultError, Verb};
pub use record::Seen;

use fault::Plan;
use record::Recorder;
use sessions::Sessions;
use store::Store;
use wire::Pool;

const BACKLOG: u32 = 1024;

/// How a node behaves.
#[derive(Clone)]
pub struct NodeOptions {
    /// The directory for all files; uploads land in `up` below it.
    pub root: PathBuf,
    /// Value of `x-persistent-connection` in the answer to `session_start`; not sent when `None`.
    pub persistent: Option<String>,
    /// The token a session must show; any will do when `None`.
    pub token: Option<String>,
    /// Throw uploads away, and answer the GET of a name that ends in `.123b` with 123 zero bytes.
    pub sink: bool,
    /// Faults to commit.
    pub faults: Vec<Fault>,
    /// Speak TLS.
    pub tls: Option<TlsAcceptor>,
    /// Goes into the `Server` field of each answer.
    pub name: String,
    /// Keep what was received for [`Node::log`]; turn it off where speed or memory matters.
    pub record: bool,
}

impl Default for NodeOptions {
    fn default() -> NodeOptions {
        NodeOptions {
            root: PathBuf::from("."),
            persistent: None,
            token: None,
            sink: false,
            faults: Vec::new(),
            tls: None,
            name: "fallgate-demo-node".to_owned(),
            record: true,
        }
    }
}

/// What all connections of a node share.
struct Shared {
    persistent: Option<String>,
    token: Option<String>,
    sink: bool,
    tls: Option<TlsAcceptor>,
    name: String,
    plan: ArcSwap<Plan>,
    store: Store,
    sessions: Sessions,
    recorder: Recorder,
    pool: Arc<Pool>,
    connections: AtomicU64,
    quit: Notify,
}

/// A running node. It stops when it is dropped.
pub struct Node {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Has the connections end with the request in hand.
    leave: CancellationToken,
    task: Option<JoinHandle<()>>,
    /// Keeps the port while nobody listens on it.
    away: Option<TcpSocket>,
}

impl Node {
    /// Opens the listening socket (port 0 takes a free one) and begins to serve.
    pub async fn start(address: SocketAddr, options: NodeOptions) -> io::Result<Node> {
        let listener = bound(address)?.listen(BACKLOG)?;
        let address = listener.local_addr()?;
        let graphic = |c: &char| !c.is_control();
        let shared = Arc::new(Shared {
            persistent: options.persistent,
            token: options.token,
            sink: options.sink,
            tls: options.tls,
            name: options.name.chars().filter(graphic).collect(),
            plan: ArcSwap::from_pointee(Plan::new(options.faults)),
            store: Store::new(options.root),
            sessions: Sessions::default(),
            recorder: Recorder::new(options.record),
            pool: Arc::default(),
            connections: AtomicU64::new(0),
            quit: Notify::new(),
        });
        let leave = CancellationToken::new();
        let task = tokio::spawn(accept(listener, Arc::clone(&shared), leave.clone()));
        Ok(Node { address, shared, leave, task: Some(task), away: None })
    }

    /// Closes the listening socket at once and each connection behind the answer to its request, and returns when that is
    /// done. Sessions, files and what was received are kept, and so is the port, which refuses until
    /// [`Node::come_back`]. Fails when another process still has the listening socket; then it can be called again.
    pub async fn go_away(&mut self) -> io::Result<()> {
        self.leave.cancel();
        self.ended().await;
        self.away = Some(bound(self.address)?);
        Ok(())
    }

    /// As [`Node::go_away`], but breaks every connection off, as a process that is killed and still knows its sessions.
    pub async fn fall(&mut self) -> io::Result<()> {
        self.cut().await;
        self.away = Some(bound(self.address)?);
        Ok(())
    }

    /// Listens again after [`Node::go_away`] or [`Node::fall`].
    pub fn come_back(&mut self) -> io::Result<()> {
        let socket = self.away.take().ok_or(io::ErrorKind::NotConnected)?;
        self.leave = CancellationToken::new();
        self.task = Some(tokio::spawn(accept(socket.listen(BACKLOG)?, Arc::clone(&self.shared), self.leave.clone())));
        Ok(())
    }

    /// Where the node listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Replaces the faults; their counts begin anew.
    pub fn set_faults(&self, faults: Vec<Fault>) {
        self.shared.plan.store(Arc::new(Plan::new(faults)));
    }

    /// What was received, in the order in which it came.
    pub fn log(&self) -> Vec<Seen> {
        self.shared.recorder.all()
    }

    /// How many connections were accepted so far.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Closes the listening socket and all connections, soon after the call.
    pub fn stop(self) {
        drop(self);
    }

    /// As [`Node::stop`], and returns when it is done.
    pub async fn close(mut self) {
        self.cut().await;
    }

    async fn cut(&mut self) {
        if self.task.is_some() {
            self.shared.quit.notify_one();
        }
        self.ended().await;
    }

    async fn ended(&mut self) {
        if let Some(task) = self.task.take() {
            // A task that failed has closed its sockets as well.
            let _ = task.await;
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

fn bound(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Accepts connections; when this ends or is aborted, all of them end with it. Told to leave it waits for the requests in
/// hand.
async fn accept(listener: TcpListener, shared: Arc<Shared>, leave: CancellationToken) {
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            () = shared.quit.notified() => break,
            () = leave.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((tcp, _)) => {
                    let id = shared.connections.fetch_add(1, Ordering::Relaxed) + 1;
                    tasks.spawn(serve::connection(Arc::clone(&shared), tcp, id, leave.clone()));
                }
                // Out of descriptors, most likely: let some connections end first.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            },
        }
        while tasks.try_join_next().is_some() {}
    }
    drop(listener);
    if leave.is_cancelled() {
        while tasks.join_next().await.is_some() {}
    }
    tasks.shutdown().await;
}
