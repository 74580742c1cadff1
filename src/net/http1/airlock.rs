//! The airlock: the one place where bytes of a client become requests.
//!
//! It reads a head whole and strictly, with a deadline, before anything else sees it; it can take in
//! the beginning of a body, drain a body that nobody wants, answer by itself, and lend the connection
//! to an engine for the length of one exchange ([`Lent`](super::Lent)), knowing at every moment how
//! much of the body is still to come. An owner that needs no engine polls it by itself. It does not
//! know what a session is.

use std::{io, time::Duration};

use bytes::{Buf, Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, timeout, timeout_at},
};

use super::{
    body::Body,
    fields::{has_bare_end, head_end},
    head::{Grammar, Head, HeadProblem, MAX_HEAD},
    lent::{self, Lent, Loan},
};
use crate::net::Transport;

/// How much of the body of a refused request is read and thrown away so that its answer is heard, in bytes.
pub const DRAIN_BYTES: u64 = 64 * 1024 * 1024;
/// And for how long.
pub const DRAIN_TIME: Duration = Duration::from_secs(60);

/// How long a client may take, by what it is at.
#[derive(Debug, Clone, Copy)]
pub struct Waits {
    /// Until the first byte of a head.
    pub first_byte: Duration,
    /// From the first byte to the end of the head.
    pub head: Duration,
}

/// Why there is no next head.
#[derive(Debug, thiserror::Error)]
pub enum HeadError {
    /// The client closed between two requests, or was silent for `first_byte`.
    #[error("the client is done")]
    Done,
    /// The head was begun and not ended in time.
    #[error("the head was not whole in time")]
    Timeout,
    /// The head is not acceptable.
    #[error(transparent)]
    Problem(#[from] HeadProblem),
    /// The connection broke inside a head.
    #[error("the connection broke inside a head")]
    Io(#[source] io::Error),
}

/// One client connection, read a request at a time.
#[derive(Debug)]
pub struct Airlock {
    pub(super) io: Transport,
    /// Bytes read and not yet given to anybody.
    pub(super) ahead: BytesMut,
    /// What heads may be.
    grammar: Grammar,
    /// The current request's body, as far as it was not given to anybody yet, `ahead` included.
    pub(super) body: Body,
    /// The client closed its sending side, or the connection broke.
    pub(super) ended: bool,
    /// A byte of body or answer moved since the owner of a loan last looked.
    pub(super) moved: bool,
    /// The borrower asked for more of the body and the client had not sent it.
    pub(super) starved: bool,
    /// The borrower's last write went out in part only.
    pub(super) mid_write: bool,
    /// What broke the connection behind bytes of a body that were given away first.
    pub(super) broken: Option<io::Error>,
    /// The last byte of the current request's head was here.
    head_whole: std::time::Instant,
}

/// What [`Airlock::drain`] came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// The body is read to its end: the connection is sound.
    Whole,
    /// More is coming than was allowed, or it came too slowly: the connection must be closed.
    Given,
}

impl Airlock {
    /// Takes a fresh connection to a server of the fallback.
    pub fn new(io: Transport) -> Airlock {
        Airlock::with_grammar(io, Grammar::Server)
    }

    /// Takes a fresh connection to a proxy.
    pub fn for_proxy(io: Transport) -> Airlock {
        Airlock::with_grammar(io, Grammar::Proxy)
    }

    fn with_grammar(io: Transport, grammar: Grammar) -> Airlock {
        Airlock {
            io,
            ahead: BytesMut::new(),
            grammar,
            body: Body::default(),
            ended: false,
            moved: false,
            starved: false,
            mid_write: false,
            broken: None,
            head_whole: std::time::Instant::now(),
        }
    }

    /// Reads the next head. The body of the request before must have been used up.
    pub async fn next_head(&mut self, waits: Waits) -> Result<Head, HeadError> {
        let mut deadline = Instant::now() + waits.first_byte;
        let mut seen = 0;
        if !self.ahead.is_empty() {
            deadline = Instant::now() + waits.head;
        }
        loop {
            let before = seen;
            if let Some(end) = head_end(&self.ahead, &mut seen, MAX_HEAD).map_err(|()| HeadProblem::TooLarge)? {
                self.head_whole = std::time::Instant::now();
                let head = Head::parse_as(self.ahead.split_to(end).freeze(), self.grammar)?;
                self.body = Body::of(&head);
                return Ok(head);
            }
            // A head that already broke a rule need not be waited for.
            if self.ahead.first().is_some_and(|b| !b.is_ascii_uppercase()) {
                return Err(HeadProblem::RequestLine.into());
            }
            if has_bare_end(&self.ahead, before) {
                return Err(HeadProblem::LineEnd.into());
            }
            let fresh = self.ahead.is_empty();
            match timeout_at(deadline, self.read_more()).await {
                Err(_) if fresh => return Err(HeadError::Done),
                Err(_) => return Err(HeadError::Timeout),
                Ok(Ok(0)) | Ok(Err(_)) if fresh => return Err(HeadError::Done),
                Ok(Ok(0)) => return Err(HeadError::Io(io::ErrorKind::UnexpectedEof.into())),
                Ok(Err(error)) => return Err(HeadError::Io(error)),
                Ok(Ok(_)) if fresh => deadline = Instant::now() + waits.head,
                Ok(Ok(_)) => {}
            }
        }
    }

    /// Reads ahead until `wanted` bytes of the body are here, or the whole of it if it is shorter.
    /// Fails when the client pauses for `idle` or leaves, and on malformed chunks.
    pub async fn take_in(&mut self, wanted: usize, idle: Duration) -> io::Result<()> {
        // What is read ahead is not given away: a copy looks where it ends.
        let mut body = self.body.clone();
        let mut here = 0;
        loop {
            here += body.pass(self.ahead.get(here..).unwrap_or_default())?;
            if here >= wanted || body.left() == 0 {
                return Ok(());
            }
            self.ahead.reserve(body.room(wanted - here).clamp(2048, 64 * 1024));
            let n = timeout(idle, self.read_more()).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// The beginning of the body as far as it was read ahead, the framing of chunks included. Nothing of malformed
    /// chunks.
    pub fn taken_in(&self) -> &[u8] {
        let body = self.body.clone().pass(&self.ahead).unwrap_or(0);
        self.ahead.get(..body).unwrap_or_default()
    }

    /// Bytes of the current body that were not given to anybody yet; `u64::MAX` as long as only its chunks will tell.
    pub fn body_left(&self) -> u64 {
        self.body.left()
    }

    /// Whether bytes are here that nobody has asked for yet.
    pub fn is_ahead(&self) -> bool {
        !self.ahead.is_empty()
    }

    /// Whether a write went out in part only, so that nothing else can follow it.
    pub fn is_mid_write(&self) -> bool {
        self.mid_write
    }

    /// Breaks the connection off, so that the client cannot take what it has for the whole.
    pub fn abort(self) {
        self.io.abort();
    }

    /// Since when the current request's head is here whole.
    pub fn head_whole(&self) -> std::time::Instant {
        self.head_whole
    }

    /// Whether the client closed its sending side.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether the last loan ended while it waited for the client to send more of the body.
    pub fn was_starved(&self) -> bool {
        self.body.left() > 0 && self.starved
    }

    /// Reads the rest of the body and throws it away, up to `limit` bytes, for at most `total`.
    pub async fn drain(&mut self, limit: u64, idle: Duration, total: Duration) -> Drained {
        if self.body.left() > limit && !self.body.is_chunked() {
            return Drained::Given;
        }
        let deadline = Instant::now() + total;
        let mut allowed = limit;
        loop {
            let Ok(here) = self.body.pass(&self.ahead) else { return Drained::Given };
            self.ahead.advance(here);
            if self.body.left() == 0 {
                return Drained::Whole;
            }
            let Some(rest) = allowed.checked_sub(here as u64) else { return Drained::Given };
            allowed = rest;
            self.ahead.reserve(64 * 1024);
            match timeout_at(deadline, timeout(idle, self.read_more())).await {
                Ok(Ok(Ok(n))) if n > 0 => {}
                _ => return Drained::Given,
            }
        }
    }

    /// Writes an answer whole; fails when the client does not take it within `limit`.
    pub async fn answer(&mut self, bytes: &[u8], limit: Duration) -> io::Result<()> {
        let write = async {
            self.io.write_all(bytes).await?;
            self.io.flush().await
        };
        let done = timeout(limit, write).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        self.ended |= done.is_err();
        done
    }

    /// Tells a client that waits for its answer that there will be one.
    pub async fn notice(&mut self, limit: Duration) -> io::Result<()> {
        self.answer(lent::NOTICE, limit).await
    }

    /// Lends the connection for one exchange: the borrower reads `head` and then the body, and
    /// writes the answer.
    pub fn lend(self, head: Bytes) -> (Lent, Loan) {
        lent::lend(self, head)
    }

    /// The connection and what was read ahead of it, for whoever goes on without HTTP.
    pub fn into_parts(self) -> (Transport, Bytes) {
        (self.io, self.ahead.freeze())
    }

    /// Closes in good order: TLS close_notify and FIN at once, then, when the client may still be
    /// sending, a short wait so that a reset does not overtake the last answer.
    pub async fn close(mut self) {
        const LINGER: Duration = Duration::from_secs(1);
        const LINGER_BYTES: usize = 1024 * 1024;
        let shut = timeout(LINGER, self.io.shutdown()).await;
        if self.ended || !matches!(shut, Ok(Ok(()))) {
            return;
        }
        let linger = async {
            let mut total = 0;
            while total < LINGER_BYTES {
                self.ahead.clear();
                match self.read_more().await {
                    Ok(n) if n > 0 => total += n,
                    _ => break,
                }
            }
        };
        let _ = timeout(LINGER, linger).await;
    }

    async fn read_more(&mut self) -> io::Result<usize> {
        if let Some(error) = self.broken.take() {
            self.ended = true;
            return Err(error);
        }
        self.ahead.reserve(2048);
        let n = self.io.read_buf(&mut self.ahead).await.inspect_err(|_| self.ended = true)?;
        self.ended |= n == 0;
        Ok(n)
    }
}

#[cfg(test)]
mod tests;
