//! One direction of a tunnel: small pieces are copied, what comes in bulk goes through a pipe.

use std::{
    future::{pending, poll_fn},
    io,
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncWriteExt, Interest},
    net::TcpStream,
    select,
    task::{consume_budget, yield_now},
};
use tokio_util::io::poll_read_buf;

use super::{
    PipePool,
    clock::Clock,
    half::{Sink, Source},
};
use crate::{limit::Shaper, net::splice::Pipe};

/// What is read at once while little comes, in bytes. A direction that brings as much at once is in bulk.
const SMALL: usize = 16 * 1024;
/// What is read at once in bulk when there is no pipe, in bytes.
const BULK: usize = 256 * 1024;
/// What is read at once in bulk under a cap, in bytes.
const PACED: usize = 64 * 1024;
/// Others have their turn after this many bytes.
const TURN: usize = 1024 * 1024;

/// After a break, how long the other side may take nothing of what came before.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(3);

/// The side that broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lost {
    Source,
    Sink,
}

/// How a burst of spliced bytes ended.
enum Burst {
    /// This many bytes went through, and no more have come.
    Dry(usize),
    /// The source has ended.
    End,
    /// Such a stream cannot be spliced.
    Refused,
}

/// What a direction needs beside its two ends.
pub(super) struct Direction<'a> {
    pub(super) clock: &'a Clock,
    /// Bytes that the sink took.
    pub(super) moved: &'a AtomicU64,
    /// None: every byte is copied.
    pub(super) pipes: Option<&'a PipePool>,
    /// None: as fast as it can.
    pub(super) pace: Option<Box<Shaper>>,
    /// Bytes moved in this turn.
    pub(super) turn: usize,
}

impl Direction<'_> {
    /// Writes `first`, then all that `from` brings until it ends, and ends `to`. Gives `from` back.
    ///
    /// While nothing comes it holds neither buffer nor pipe.
    pub(super) async fn carry<R: Source, W: Sink>(mut self, mut from: R, mut to: W, first: Bytes) -> Result<R, Lost> {
        self.put(&from, &mut to, &first).await?;
        drop(first);
        let mut buffer = Vec::new();
        let mut bulk = false;
        loop {
            if bulk && let (Some(pipes), Some(source), Some(sink)) = (self.pipes, from.tcp(), to.tcp()) {
                poll_fn(|cx| poll_come(&from, &mut buffer, cx)).await;
                let most = if self.is_paced() { Some(self.may_pass_in_bulk().await) } else { None };
                if let Some(mut lent) = pipes.take() {
                    buffer = Vec::new();
                    let burst = self.splice(source, sink, &mut lent.pipe, most).await?;
                    lent.give_back();
                    match burst {
                        Burst::Dry(n) => bulk = n >= SMALL,
                        Burst::Refused => self.pipes = None,
                        Burst::End => break,
                    }
                    continue;
                }
                self.give_back(most.unwrap_or(0));
            }
            let room = match bulk {
                true if self.is_paced() => PACED,
                true => BULK,
                false => SMALL,
            };
            let n = read(&mut from, &mut buffer, room).await?;
            if n == 0 {
                break;
            }
            self.put(&from, &mut to, &buffer).await?;
            buffer.clear();
            bulk = n >= SMALL;
            self.breathe(n).await;
        }
        drop(buffer);
        to.shutdown().await.map_err(|_| Lost::Sink)?;
        Ok(from)
    }

    /// Splices until nothing more has come; under a cap once, the bytes that it has let pass. The pipe is empty before and
    /// after, save when a side was lost.
    async fn splice(
        &mut self,
        from: &TcpStream,
        to: &TcpStream,
        pipe: &mut Pipe,
        most: Option<usize>,
    ) -> Result<Burst, Lost> {
        let mut moved = 0;
        loop {
            let filled = pipe.fill(from, most.unwrap_or(usize::MAX));
            self.give_back(most.map_or(0, |most| most.saturating_sub(*filled.as_ref().unwrap_or(&0))));
            let n = match filled {
                Ok(0) => return Ok(Burst::End),
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(Burst::Dry(moved)),
                Err(e) if e.kind() == io::ErrorKind::InvalidInput => return Ok(Burst::Refused),
                Err(_) => return Err(Lost::Source),
            };
            while pipe.held() > 0 {
                match pipe.drain(to) {
                    Ok(n) => self.count(n),
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => select! {
                        biased;
                        ready = poll_fn(|cx| to.poll_write_ready(cx)) => ready.map_err(|_| Lost::Sink)?,
                        () = self.forsaken(Some(from)) => return Err(Lost::Source),
                    },
                    Err(_) => return Err(Lost::Sink),
                }
            }
            moved += n;
            self.breathe(n).await;
            if most.is_some() || self.is_paced() {
                return Ok(Burst::Dry(moved));
            }
        }
    }

    async fn put<R: Source, W: Sink>(&mut self, from: &R, to: &mut W, mut piece: &[u8]) -> Result<(), Lost> {
        let mut may_pass = 0;
        while !piece.is_empty() {
            if may_pass == 0 {
                may_pass = self.may_pass(piece.len()).await;
            }
            let next = piece.get(..may_pass).unwrap_or(piece);
            let written = select! {
                biased;
                written = to.write(next) => written,
                () = self.forsaken(from.tcp()) => return Err(Lost::Source),
            };
            match written {
                Ok(n) if n > 0 => {
                    self.count(n);
                    may_pass = may_pass.saturating_sub(n);
                    piece = piece.get(n..).unwrap_or_default();
                }
                _ => return Err(Lost::Sink),
            }
        }
        to.flush().await.map_err(|_| Lost::Sink)
    }

    /// Comes back when the source broke and the sink would not take what came before.
    async fn forsaken(&self, from: Option<&TcpStream>) {
        broken(from).await;
        // Boxed because it is rare, and would be room in every tunnel.
        Box::pin(self.clock.quiet(LAST_WORDS, None)).await;
    }

    /// Whether there is a cap now.
    fn is_paced(&mut self) -> bool {
        self.pace.as_mut().is_some_and(|pace| !pace.is_unlimited())
    }

    /// Waits until some of `want` bytes may pass, and says how many.
    async fn may_pass(&mut self, want: usize) -> usize {
        let clock = self.clock;
        if !self.is_paced() {
            return want;
        }
        match &mut self.pace {
            // Boxed because most tunnels have no cap, and it would be room in each of them.
            Some(pace) => Box::pin(pace.take_and(want as u64, || clock.touch())).await as usize,
            None => want,
        }
    }

    /// As much as may pass at once, for a pipe: a full piece is a sign that there may be more.
    async fn may_pass_in_bulk(&mut self) -> usize {
        let first = self.may_pass(PACED).await;
        match &mut self.pace {
            Some(pace) if first == PACED => first + pace.take_at_once((TURN - PACED) as u64) as usize,
            _ => first,
        }
    }

    /// So many bytes might have passed and did not.
    fn give_back(&mut self, n: usize) {
        if let Some(pace) = self.pace.as_mut().filter(|_| n > 0) {
            pace.give_back(n as u64);
        }
    }

    fn count(&self, n: usize) {
        self.moved.fetch_add(n as u64, Ordering::Relaxed);
        self.clock.touch();
    }

    /// Lets others run now and then, though this direction never has to wait.
    async fn breathe(&mut self, n: usize) {
        self.turn += n;
        if self.turn >= TURN {
            self.turn = 0;
            yield_now().await;
        } else {
            consume_budget().await;
        }
    }
}

/// Waits until something has come; the buffer is let go meanwhile. A stream that is not TCP may be ready at once.
fn poll_come<R: Source>(from: &R, buffer: &mut Vec<u8>, cx: &mut Context<'_>) -> Poll<()> {
    match from.tcp().map(|tcp| tcp.poll_read_ready(cx)) {
        Some(Poll::Pending) => {
            *buffer = Vec::new();
            Poll::Pending
        }
        _ => Poll::Ready(()),
    }
}

/// Reads what has come into an empty buffer, `room` bytes or more at once; none at the end.
async fn read<R: Source>(from: &mut R, buffer: &mut Vec<u8>, room: usize) -> Result<usize, Lost> {
    let n = poll_fn(|cx| {
        ready!(poll_come(from, buffer, cx));
        if buffer.capacity() < room {
            *buffer = Vec::with_capacity(room);
        }
        let read = poll_read_buf(Pin::new(&mut *from), cx, buffer);
        if read.is_pending() {
            *buffer = Vec::new();
        }
        read
    });
    let n = n.await.map_err(|_| Lost::Source)?;
    if (1..SMALL).contains(&n)
        && let Some(tcp) = from.tcp()
    {
        // A peer with Nagle's algorithm on holds its next small piece back until this one is acknowledged.
        let _ = tcp.set_quickack(true);
    }
    Ok(n)
}

/// Comes back when a stream breaks, though nobody reads or writes it. One that is not TCP does not tell.
pub(super) async fn broken(stream: Option<&TcpStream>) {
    match stream {
        Some(tcp) => {
            let _ = tcp.ready(Interest::ERROR).await;
        }
        None => pending().await,
    }
}
