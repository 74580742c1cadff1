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
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::airlock::Airlock;

/// The one interim answer that the client understands as a sign of life; each restarts its 20
/// seconds of patience (docs/protocol.md, "Answers").
const NOTICE: &[u8] = b"HTTP/1.1 102 Processing\r\n\r\n";

/// The most of a body that is given away at once, in bytes. The engine holds several such pieces on
/// their way; larger ones do not stay in the processor's cache.
const PIECE: usize = 32 * 1024;

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

impl Airlock {
    fn poll_body(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let room = usize::try_from(self.body_left).unwrap_or(usize::MAX).min(buf.remaining()).min(PIECE);
        if !self.ahead.is_empty() {
            let n = room.min(self.ahead.len());
            buf.put_slice(self.ahead.get(..n).unwrap_or_default());
            self.ahead.advance(n);
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
        self.moved = true;
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
        if !self.head.is_empty() {
            let n = self.head.len().min(buf.remaining());
            buf.put_slice(self.head.get(..n).unwrap_or_default());
            self.head.advance(n);
            return Poll::Ready(Ok(()));
        }
        match lock(&self.shared).as_mut() {
            None => Poll::Ready(Ok(())),
            Some(airlock) if airlock.body_left > 0 => {
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
        let result = ready!(Pin::new(&mut airlock.io).poll_write(cx, buf));
        match &result {
            Ok(n) => {
                airlock.mid_write = *n < buf.len();
                airlock.moved = true;
            }
            Err(_) => airlock.ended = true,
        }
        Poll::Ready(result)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match lock(&self.shared).as_mut() {
            Some(airlock) => Pin::new(&mut airlock.io).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    /// The owner closes, not the borrower.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
