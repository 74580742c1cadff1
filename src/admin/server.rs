//! Connections to the admin door: few, short, and none that holds up another.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::AbortHandle,
    time::{Instant, sleep, sleep_until},
};

use super::{Operated, routes::Desk};
use crate::{
    net::{interfaces, tcp},
    telemetry::{Live, Metrics},
};

/// Connections served at once; a scraper that stalls must not use up descriptors.
const MAX_CONNECTIONS: usize = 64;
/// A request's head must be whole, and a connection be used again, within this.
const HEAD: Duration = Duration::from_secs(10);
/// A connection is closed after this, unless it is an event stream whose events are taken.
const WHOLE: Duration = Duration::from_secs(60);
/// An event must be taken within this.
const TAKEN: Duration = Duration::from_secs(30);

/// The running admin door; it closes when this drops.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    tasks: [AbortHandle; 2],
}

impl Running {
    /// The bound address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// Opens the admin door of what is operated.
///
/// # Errors
/// The address cannot be listened on.
pub fn start(
    address: SocketAddr,
    metrics: Arc<Metrics>,
    live: Live,
    operated: Arc<dyn Operated>,
) -> io::Result<Running> {
    let socket = tcp::listen(address)?;
    let address = socket.local_addr()?;
    let desk = Arc::new(Desk::new(metrics, live, operated, interfaces::host_name()));
    let feeding = tokio::spawn({
        let desk = desk.clone();
        async move { desk.feed().await }
    });
    let accepting = tokio::spawn(accept(socket, desk));
    Ok(Running { address, tasks: [accepting.abort_handle(), feeding.abort_handle()] })
}

async fn accept(socket: TcpListener, desk: Arc<Desk>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = places.clone().acquire_owned().await else {
            return;
        };
        match socket.accept().await {
            Ok((stream, peer)) => drop(tokio::spawn(serve(stream, peer, desk.clone(), permit))),
            Err(error) => {
                tracing::error!(%error, "An admin connection could not be accepted.");
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, peer: SocketAddr, desk: Arc<Desk>, permit: OwnedSemaphorePermit) {
    let patience = Patience(Arc::new(Mutex::new(Instant::now() + WHOLE)));
    let until = patience.clone();
    let service = service_fn(move |request| {
        let (desk, patience) = (desk.clone(), patience.clone());
        async move { Ok::<_, Infallible>(desk.answer(request, tcp::canonical(peer).ip(), patience).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // Whoever breaks it off has nobody to tell.
        _ = connection => {}
        () = until.over() => {}
    }
    drop(permit);
}

/// Until when a connection may last.
#[derive(Debug, Clone)]
pub(super) struct Patience(Arc<Mutex<Instant>>);

impl Patience {
    /// Something was taken: it may last until the next must have been.
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
