//! A connection on loan to an engine.
//!
//! The engine sees one request and nothing else: the head that it is given, the body to its last
//! byte, then silence until the client closes. Whatever the engine does with its side, dropping it
//! brings the connection home, so that the owner decides whether it lives on.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::oneshot,
    time::{Instant, Sleep},
};

use super::airlock::Airlock;

/// Parts of the idle limit after which movement is looked for: a stall is seen between one limit
/// and five fourths of it, without reading a clock on every chunk.
const TICKS: u32 = 4;
/// The most of a body that is given away at once, in bytes. The engine holds several such pieces on their way;
/// larger ones do not stay in the processor's cache.
const PIECE: usize = 32 * 1024;

/// Watches for a time in which nothing moves.
#[derive(Debug)]
pub(super) struct Idle {
    sleep: Pin<Box<Sleep>>,
    tick: Duration,
    still: u32,
    moved: bool,
}

impl Idle {
    fn new(limit: Duration) -> Idle {
        let tick = limit / TICKS;
        Idle { sleep: Box::pin(tokio::time::sleep(tick)), tick, still: 0, moved: false }
    }

    fn restart(&mut self, limit: Duration) {
        self.tick = limit / TICKS;
        self.still = 0;
        self.moved = false;
        self.sleep.as_mut().reset(Instant::now() + self.tick);
    }

    /// Ready when the limit passed without movement.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.sleep.as_mut().poll(cx));
            self.still = if std::mem::take(&mut self.moved) { 0 } else { self.still + 1 };
            if self.still > TICKS {
                return Poll::Ready(());
            }
            let next = Instant::now() + self.tick;
            self.sleep.as_mut().reset(next);
        }
    }
}

/// The engine's side of a loan.
#[derive(Debug)]
pub struct Lent {
    airlock: Option<Airlock>,
    head: Bytes,
    limit: Duration,
    watching: bool,
    home: Option<oneshot::Sender<Airlock>>,
}

/// The owner's side of a loan.
#[derive(Debug)]
pub struct Returned(pub(super) oneshot::Receiver<Airlock>);

impl Returned {
    /// Waits for the borrower to drop its side; `None` only if the connection was lost with it.
    pub async fn back(self) -> Option<Airlock> {
        self.0.await.ok()
    }
}

impl Lent {
    pub(super) fn new(mut airlock: Airlock, head: Bytes, limit: Duration, home: oneshot::Sender<Airlock>) -> Lent {
        airlock.stalled = false;
        Lent { airlock: Some(airlock), head, limit, watching: false, home: Some(home) }
    }

    /// Called whenever a side would have to wait: an error once nothing moved for the limit.
    fn watch(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let Some(airlock) = self.airlock.as_mut() else {
            return Poll::Pending;
        };
        if !self.watching {
            self.watching = true;
            if let Some(idle) = airlock.idle.as_mut() {
                idle.restart(self.limit);
            }
        }
        let limit = self.limit;
        ready!(airlock.idle.get_or_insert_with(|| Idle::new(limit)).poll(cx));
        airlock.stalled = true;
        Poll::Ready(io::ErrorKind::TimedOut.into())
    }
}

impl Airlock {
    fn moved(&mut self) {
        if let Some(idle) = self.idle.as_mut() {
            idle.moved = true;
        }
    }

    fn poll_body(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let room = usize::try_from(self.body_left).unwrap_or(usize::MAX).min(buf.remaining()).min(PIECE);
        if !self.ahead.is_empty() {
            let n = room.min(self.ahead.len());
            buf.put_slice(&self.ahead.split_to(n));
            self.body_left -= n as u64;
            return Poll::Ready(Ok(()));
        }
        if let Some(error) = self.broken.take() {
            self.ended = true;
            return Poll::Ready(Err(error));
        }
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(room));
        // TLS gives one record at a time; what has come goes on in one piece.
        let mut result = Ok(());
        while part.remaining() > 0 {
            let before = part.filled().len();
            match Pin::new(&mut self.io).poll_read(cx, &mut part) {
                Poll::Ready(Ok(())) if part.filled().len() > before => {}
                Poll::Ready(read) => {
                    result = read;
                    break;
                }
                Poll::Pending if before == 0 => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        let n = part.filled().len();
        buf.advance(n);
        if n > 0
            && let Err(error) = std::mem::replace(&mut result, Ok(()))
        {
            self.broken = Some(error);
        }
        self.ended |= n == 0 || result.is_err();
        self.body_left -= n as u64;
        self.moved();
        Poll::Ready(result)
    }

    /// After the body: only the client's close is of interest. Bytes of a next request wait.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.ahead.is_empty() {
            let mut space = [0; 512];
            let mut probe = ReadBuf::new(&mut space);
            let result = ready!(Pin::new(&mut self.io).poll_read(cx, &mut probe));
            if result.is_err() || probe.filled().is_empty() {
                self.ended = true;
                return Poll::Ready(result);
            }
            self.ahead.extend_from_slice(probe.filled());
        }
        Poll::Pending
    }
}

impl AsyncRead for Lent {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.head.is_empty() {
            let n = this.head.len().min(buf.remaining());
            buf.put_slice(this.head.get(..n).unwrap_or_default());
            this.head.advance(n);
            return Poll::Ready(Ok(()));
        }
        let Some(airlock) = this.airlock.as_mut() else {
            return Poll::Ready(Ok(()));
        };
        let polled = if airlock.body_left > 0 { airlock.poll_body(cx, buf) } else { airlock.poll_close(cx) };
        match polled {
            Poll::Pending => this.watch(cx).map(Err),
            ready => ready,
        }
    }
}

impl AsyncWrite for Lent {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let Some(airlock) = this.airlock.as_mut() else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        match Pin::new(&mut airlock.io).poll_write(cx, buf) {
            Poll::Pending => this.watch(cx).map(Err),
            Poll::Ready(Ok(n)) => {
                airlock.written += n as u64;
                airlock.moved();
                Poll::Ready(Ok(n))
            }
            failed => {
                airlock.ended = true;
                failed
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.airlock.as_mut() {
            Some(airlock) => Pin::new(&mut airlock.io).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    /// The owner closes, not the borrower.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let (Some(airlock), Some(home)) = (self.airlock.take(), self.home.take()) {
            let _ = home.send(airlock);
        }
    }
}
