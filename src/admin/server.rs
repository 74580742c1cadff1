//! Connections to the admin door: few, short, and none that holds up another.

use std::{
    collections::HashMap,
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::AbortHandle,
    time::{Instant, sleep_until, timeout},
};

use super::{Operated, routes::Desk};
use crate::{
    net::{interfaces, shortage::Shortage, tcp},
    telemetry::{Live, Metrics},
};

/// Connections served at once; those who stall must not use up descriptors.
const MAX_CONNECTIONS: usize = 64;
/// Of these from one address, so that nobody holds up all others.
const MAX_PER_PEER: usize = 32;
/// A request's head must be whole, and a connection be used again, within this.
const HEAD: Duration = Duration::from_secs(10);
/// An answer, or the next event, must be taken within this.
const TAKEN: Duration = Duration::from_secs(20);
/// What is kept of an answer that is not taken, here and by the system, in bytes.
const KEPT: usize = 64 * 1024;

/// The running admin door; it closes when this drops.
#[derive(Debug)]
pub struct Running {
    accepting: AbortHandle,
    feeding: AbortHandle,
    /// One for each connection that is open.
    places: Arc<Semaphore>,
}

impl Running {
    /// Takes no connection any more; those that are open get this long to be answered.
    pub async fn close(self, patience: Duration) {
        self.accepting.abort();
        // Whoever only listens would stay for ever.
        let _ = timeout(patience, self.places.acquire_many(MAX_CONNECTIONS as u32)).await;
    }
}

/// Opens the socket of an admin door.
///
/// # Errors
/// The address cannot be listened on.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    tcp::listen_patiently(address, KEPT, TAKEN)
}

impl Drop for Running {
    fn drop(&mut self) {
        self.accepting.abort();
        self.feeding.abort();
    }
}

/// Opens the admin door of what is operated. It is served also where descriptors run out.
pub fn start(
    (socket, shortage): (TcpListener, Arc<Shortage>),
    metrics: Arc<Metrics>,
    live: Live,
    operated: Arc<dyn Operated>,
) -> Running {
    let desk = Arc::new(Desk::new(metrics, live, operated, interfaces::host_name()));
    let feeding = tokio::spawn({
        let desk = desk.clone();
        async move { desk.feed().await }
    });
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let accepting = tokio::spawn(accept(socket, shortage, desk, places.clone()));
    Running { accepting: accepting.abort_handle(), feeding: feeding.abort_handle(), places }
}

async fn accept(socket: TcpListener, shortage: Arc<Shortage>, desk: Arc<Desk>, places: Arc<Semaphore>) {
    let peers = Peers::default();
    loop {
        let Ok(permit) = places.clone().acquire_owned().await else {
            return;
        };
        let (stream, peer) = shortage.accept_first(&socket).await;
        let peer = tcp::canonical(peer).ip();
        let Some(place) = peers.enter(peer) else {
            desk.turn_away(peer);
            continue;
        };
        let (desk, shortage) = (desk.clone(), shortage.clone());
        tokio::spawn(async move {
            serve(stream, peer, desk, (permit, place)).await;
            shortage.look();
        });
    }
}

async fn serve(stream: TcpStream, peer: IpAddr, desk: Arc<Desk>, places: (OwnedSemaphorePermit, Place)) {
    let patience = Patience(Arc::new(Mutex::new(Instant::now() + TAKEN)));
    let until = patience.clone();
    let service = service_fn(move |request| {
        let (desk, patience) = (desk.clone(), patience.clone());
        patience.renew();
        async move { Ok::<_, Infallible>(desk.answer(request, peer, patience).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(KEPT)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // Whoever breaks it off has nobody to tell.
        _ = connection => {}
        () = until.over() => {}
    }
    drop(places);
}

/// How many connections each address has.
#[derive(Debug, Clone, Default)]
struct Peers(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// A connection of an address, until it drops.
#[derive(Debug)]
struct Place(Peers, IpAddr);

impl Peers {
    fn enter(&self, peer: IpAddr) -> Option<Place> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let open = all.entry(peer).or_default();
        (*open < MAX_PER_PEER).then(|| *open += 1)?;
        Some(Place(self.clone(), peer))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = all.get_mut(&self.1) {
            *open -= 1;
            if *open == 0 {
                all.remove(&self.1);
            }
        }
    }
}

/// Until when what was sent must be taken, or the next request be there.
#[derive(Debug, Clone)]
pub(super) struct Patience(Arc<Mutex<Instant>>);

impl Patience {
    /// Something was taken, or asked for: as long again.
    pub(super) fn renew(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now() + TAKEN;
    }

    async fn over(&self) {
        loop {
            let end = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if end <= Instant::now() {
                return;
            }
            sleep_until(end).await;
        }
    }
}
