//! A connection on loan to an engine.
//!
//! The engine sees one request and nothing else: the head that it is given, the body to its last
//! byte, then silence until the client closes. The owner keeps a hand on the connection meanwhile
//! ([`Loan`]): it sees whether anything moves, can tell a waiting client that the gateway is alive,
//! and takes the connection back whenever it likes, whatever the engine does with its side.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::airlock::Airlock;

/// The one interim answer that the client understands as a sign of life; each restarts its 20
/// seconds of patience (docs/protocol.md, "Answers").
pub(super) const NOTICE: &[u8] = b"HTTP/1.1 102 Processing\r\n\r\n";

type Shared = Arc<Mutex<Option<Airlock>>>;

fn lock(shared: &Shared) -> MutexGuard<'_, Option<Airlock>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The engine's side of a loan.
#[derive(Debug)]
pub struct Lent {
    shared: Shared,
    head: Bytes,
}

/// The owner's side of a loan.
#[derive(Debug)]
pub struct Loan(Shared);

/// Both sides of a fresh loan.
pub(super) fn lend(airlock: Airlock, head: Bytes) -> (Lent, Loan) {
    let shared = Arc::new(Mutex::new(Some(airlock)));
    (Lent { shared: shared.clone(), head }, Loan(shared))
}

impl Loan {
    /// Whether a byte of body or answer moved since this was last asked.
    pub fn has_moved(&self) -> bool {
        lock(&self.0).as_mut().is_some_and(|airlock| std::mem::take(&mut airlock.moved))
    }

    /// Tells the client that its request is being worked on. Must not be called once the answer has
    /// begun. Does nothing while the client's socket takes no bytes.
    pub async fn notice(&self) {
        std::future::poll_fn(|cx| {
            if let Some(airlock) = lock(&self.0).as_mut().filter(|a| !a.mid_write) {
                match Pin::new(&mut airlock.io).poll_write(cx, NOTICE) {
                    Poll::Ready(Ok(n)) if n == NOTICE.len() => {
                        let _ = Pin::new(&mut airlock.io).poll_flush(cx);
                    }
                    Poll::Pending => {}
                    // A part of a notice cannot be taken back: the framing is lost.
                    Poll::Ready(_) => airlock.ended = true,
                }
            }
            Poll::Ready(())
        })
        .await;
    }

    /// Ends the loan. The engine's side, if it still exists, is cut off.
    pub fn take_back(self) -> Option<Airlock> {
        lock(&self.0).take()
    }
}

impl Lent {
    /// Whether the last time more of the body was asked for, the client had sent none.
    pub fn is_starved(&self) -> bool {
        lock(&self.shared).as_ref().is_some_and(|airlock| airlock.starved)
    }

    /// Whether what is read next is of the request's body.
    pub fn is_at_body(&self) -> bool {
        self.head.is_empty() && lock(&self.shared).as_ref().is_some_and(|airlock| airlock.body.left() > 0)
    }
}

impl AsyncRead for Lent {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.head.is_empty() {
            let n = self.head.len().min(buf.remaining());
            buf.put_slice(self.head.get(..n).unwrap_or_default());
            self.head.advance(n);
            return Poll::Ready(Ok(()));
        }
        match lock(&self.shared).as_mut() {
            None => Poll::Ready(Ok(())),
            Some(airlock) if airlock.body.left() > 0 => {
                let polled = airlock.poll_body(cx, buf);
                airlock.starved = polled.is_pending();
                polled
            }
            Some(airlock) => airlock.poll_close(cx),
        }
    }
}

impl AsyncWrite for Lent {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut shared = lock(&self.shared);
        let Some(airlock) = shared.as_mut() else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        airlock.poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match lock(&self.shared).as_mut() {
            Some(airlock) => airlock.poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    /// The owner closes, not the borrower.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
