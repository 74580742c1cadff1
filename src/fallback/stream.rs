//! The loan of a client connection, dressed as the engine wants its streams, and held to the caps on bandwidth.
//!
//! Here, at the client's side of the engine, what may not pass yet is neither read nor written: so the one who sends is
//! held up, and the engine has nothing to keep.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use async_trait::async_trait;
use pingora_core::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest, UniqueID,
    raw_connect::ProxyDigest,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::exchange::Exchange;
use crate::{
    limit::{Bandwidth, Flow, Shaper},
    net::http1::Lent,
    telemetry::{AddedLatency, Direction},
};

/// A loan on which the engine closes nothing.
#[derive(Debug)]
pub(super) struct EngineStream {
    loan: Lent,
    exchange: Arc<Exchange>,
    bandwidth: Bandwidth,
    listener: Arc<str>,
    /// Of the bodies of request and answer, from their first bytes on: by then the node is certain.
    up: Option<Shaper>,
    down: Option<Shaper>,
    /// Where it is counted what the gateway added, until that was done.
    added: Option<AddedLatency>,
}

impl EngineStream {
    /// Lends for one exchange.
    pub(super) fn new(
        loan: Lent,
        exchange: Arc<Exchange>,
        (bandwidth, listener): (Bandwidth, Arc<str>),
        added: AddedLatency,
    ) -> EngineStream {
        EngineStream { loan, exchange, bandwidth, listener, up: None, down: None, added: Some(added) }
    }

    /// The pace of a body.
    fn pace(&mut self, direction: Direction) -> &mut Shaper {
        let EngineStream { exchange, bandwidth, listener, up, down, .. } = self;
        let new = || {
            let flow = Flow {
                listener: listener.clone(),
                client: exchange.forwarded.client.into(),
                session: Some(u128::from_be_bytes(exchange.call.session.to_bytes())),
                node: Some(exchange.node().full_name()),
            };
            bandwidth.stream(flow, direction)
        };
        match direction {
            Direction::Upload => up.get_or_insert_with(new),
            Direction::Download => down.get_or_insert_with(new),
        }
    }

    /// How many of `want` bytes of a body may pass.
    fn poll_pace(&mut self, direction: Direction, want: usize, cx: &mut Context<'_>) -> Poll<usize> {
        let polled = self.pace(direction).poll_take(cx, want as u64);
        // A client that sends nothing is not held up by us.
        if polled.is_pending() && !(direction == Direction::Upload && self.loan.is_starved()) {
            self.exchange.hold_up();
        }
        polled.map(|bytes| bytes as usize)
    }

    /// Takes note that only `passed` of the bytes passed that might have.
    fn settle(&mut self, direction: Direction, may_pass: usize, passed: usize) {
        if passed < may_pass {
            self.pace(direction).give_back((may_pass - passed) as u64);
        }
    }

    /// Writes what a cap on bandwidth lets pass of a body, and all else as it is.
    fn poll_write_in_pace(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if !self.exchange.has_body_begun() || self.pace(Direction::Download).is_unlimited() {
            return Pin::new(&mut self.loan).poll_write(cx, buf);
        }
        let may_pass = ready!(self.poll_pace(Direction::Download, buf.len(), cx));
        let polled = Pin::new(&mut self.loan).poll_write(cx, buf.get(..may_pass).unwrap_or(buf));
        let n = if let Poll::Ready(Ok(n)) = &polled { *n } else { 0 };
        self.settle(Direction::Download, may_pass, n);
        polled
    }
}

impl AsyncRead for EngineStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let is_free = |pace: &mut Option<Shaper>| pace.as_mut().is_some_and(Shaper::is_unlimited);
        if is_free(&mut self.up) || !self.loan.is_at_body() || self.pace(Direction::Upload).is_unlimited() {
            return Pin::new(&mut self.loan).poll_read(cx, buf);
        }
        let may_pass = ready!(self.poll_pace(Direction::Upload, buf.remaining(), cx));
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(may_pass));
        let polled = Pin::new(&mut self.loan).poll_read(cx, &mut part);
        let n = part.filled().len();
        buf.advance(n);
        self.settle(Direction::Upload, may_pass, n);
        polled
    }
}

impl AsyncWrite for EngineStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = self.poll_write_in_pace(cx, buf);
        // What a cap or the client does not take at once is not the gateway's delay.
        if self.added.is_some() && self.exchange.has_answer_begun() {
            self.added.take().iter().for_each(|added| self.exchange.handed(added));
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.loan).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.loan).poll_shutdown(cx)
    }
}

#[async_trait]
impl Shutdown for EngineStream {
    async fn shutdown(&mut self) {}
}

impl UniqueID for EngineStream {
    fn id(&self) -> i32 {
        0
    }
}

impl Ssl for EngineStream {}

impl GetTimingDigest for EngineStream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for EngineStream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for EngineStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}

impl Peek for EngineStream {}
