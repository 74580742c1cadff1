//! The operator's door: `/livez`, `/readyz` and `/metrics` over plain HTTP.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::Semaphore, task::AbortHandle};

use crate::{net::tcp, telemetry::Metrics};

/// Connections served at once; a scraper that stalls must not use up descriptors.
const MAX_CONNECTIONS: usize = 64;
/// A request's head must be whole, and a connection be used again, within this.
const HEAD: Duration = Duration::from_secs(10);
/// A connection is closed after this, whatever it does.
const WHOLE: Duration = Duration::from_secs(60);

/// Whether new sessions are welcome.
pub trait Ready: Send + Sync + 'static {
    /// Why not; nothing when they are.
    fn why_not(&self) -> Option<&'static str>;
}

/// The running admin door; it closes when this drops.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    task: AbortHandle,
}

impl Running {
    /// The bound address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Opens the admin door; fails when the address cannot be listened on.
pub fn start(address: SocketAddr, metrics: Arc<Metrics>, ready: Arc<dyn Ready>) -> io::Result<Running> {
    let socket = tcp::listen(address)?;
    let address = socket.local_addr()?;
    let task = tokio::spawn(accept(socket, metrics, ready)).abort_handle();
    Ok(Running { address, task })
}

async fn accept(socket: TcpListener, metrics: Arc<Metrics>, ready: Arc<dyn Ready>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = places.clone().acquire_owned().await else {
            return;
        };
        let stream = match socket.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::error!(%error, "An admin connection could not be accepted.");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (metrics, ready) = (metrics.clone(), ready.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let answer = answer(&request, &metrics, ready.as_ref());
                async move { Ok::<_, Infallible>(answer) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .serve_connection(TokioIo::new(stream), service);
            let _ = tokio::time::timeout(WHOLE, connection).await;
            drop(permit);
        });
    }
}

fn answer(request: &Request<Incoming>, metrics: &Metrics, ready: &dyn Ready) -> Response<Full<Bytes>> {
    let known = ["/livez", "/readyz", "/metrics"].contains(&request.uri().path());
    if known && !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return answer;
    }
    match request.uri().path() {
        "/livez" => text(StatusCode::OK, "ok\n"),
        "/readyz" => match ready.why_not() {
            None => text(StatusCode::OK, "ok\n"),
            Some(reason) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
        },
        "/metrics" => {
            let mut answer = text(StatusCode::OK, metrics.render());
            answer
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
            answer
        }
        _ => text(StatusCode::NOT_FOUND, "there are /livez, /readyz and /metrics\n"),
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}
