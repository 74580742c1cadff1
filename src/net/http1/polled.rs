//! The polled side of the airlock: for the borrower of a loan, and for an owner that pumps an exchange by itself.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Buf;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::airlock::Airlock;

/// The most of a body that is given away at once, in bytes. The engine holds several such pieces on
/// their way; larger ones do not stay in the processor's cache.
const PIECE: usize = 32 * 1024;

impl Airlock {
    /// Gives the next bytes of the body, the framing of chunks included; `buf` must have room. 0 says that the body is
    /// over. A client that leaves before is an `UnexpectedEof`; malformed chunks are `InvalidData`, of which the source
    /// is a [`ChunkProblem`](super::ChunkProblem), and nothing of the piece in which they were is given.
    pub fn poll_body_into(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        if self.body.left() == 0 || buf.remaining() == 0 {
            return Poll::Ready(Ok(0));
        }
        let before = buf.filled().len();
        let polled = self.poll_body(cx, buf);
        self.starved = polled.is_pending();
        ready!(polled)?;
        match buf.filled().len() - before {
            0 => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            n => Poll::Ready(Ok(n)),
        }
    }

    /// Writes some of an answer.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = ready!(Pin::new(&mut self.io).poll_write(cx, bytes));
        match &result {
            Ok(n) => {
                self.mid_write = *n < bytes.len();
                self.moved = true;
            }
            Err(_) => self.ended = true,
        }
        Poll::Ready(result)
    }

    /// Sends what was written and is still held.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Ready when the client has closed its sending side, or the connection broke, after the body of its request. As
    /// long as a body or bytes of a next request wait to be read it is not looked further, and this wakes nobody.
    pub fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.body.left() {
            _ if self.ended => Poll::Ready(()),
            0 => self.poll_close(cx).map(drop),
            _ => Poll::Pending,
        }
    }

    /// As [`Airlock::poll_left`], for a request whose body was taken in whole and is still to be given on.
    pub fn poll_left_behind_body(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let left = self.body.left();
        if left == 0 || self.ended || self.ahead.len() as u64 != left {
            return self.poll_left(cx);
        }
        let mut space = [0; 512];
        let mut probe = ReadBuf::new(&mut space);
        let result = ready!(Pin::new(&mut self.io).poll_read(cx, &mut probe));
        if result.is_err() || probe.filled().is_empty() {
            self.ended = true;
            return Poll::Ready(());
        }
        // The beginning of a next request: it is not looked further.
        self.ahead.extend_from_slice(probe.filled());
        Poll::Pending
    }

    pub(super) fn poll_body(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let room = self.body.room(buf.remaining()).min(PIECE);
        if !self.ahead.is_empty() {
            let here = self.ahead.get(..room.min(self.ahead.len())).unwrap_or_default();
            let n = self.body.pass(here)?;
            buf.put_slice(here.get(..n).unwrap_or_default());
            self.ahead.advance(n);
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
        if n > 0
            && let Err(error) = std::mem::replace(&mut result, Ok(()))
        {
            self.broken = Some(error);
        }
        self.ended |= n == 0 || result.is_err();
        self.moved = true;
        // Only chunks can end before the room does.
        let of_body = self.body.pass(part.filled())?;
        self.ahead.extend_from_slice(part.filled().get(of_body..).unwrap_or_default());
        buf.advance(of_body);
        Poll::Ready(result)
    }

    /// After the body: only the client's close is of interest. Bytes of a next request wait.
    pub(super) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(error) = self.broken.take() {
            self.ended = true;
            return Poll::Ready(Err(error));
        }
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
