//! One request and its answer, byte for byte: what the target says is read as far as its framing and no further.
//!
//! Both directions run at once, each from one socket to the other through one piece of memory: a client that does not
//! read stops the target, and the other way round. What is over a cap on bandwidth waits, and so does what comes behind
//! it. An answer may come before the request is whole; interim answers pass.

mod answer;
mod kept;

use std::{
    future::poll_fn,
    io,
    ops::Range,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncWrite, ReadBuf},
    select,
    time::{Instant, sleep_until},
};
use tokio_util::{io::poll_read_buf, sync::CancellationToken};

use crate::{
    config::TimeoutsConfig,
    limit::{Bandwidth, Flow, Shaper},
    net::http1::{Airlock, Head},
    telemetry::{Direction, ListenerMetrics, Transfer},
};
use answer::Answer;

pub(super) use answer::{AnswerFault, is_hop_by_hop, put_field};
pub(super) use kept::Kept;

/// What is read at once, in bytes.
const PIECE: usize = 32 * 1024;
/// How often the bytes of a running exchange are counted.
const COUNTED: Duration = Duration::from_secs(1);

/// What broke an exchange.
#[derive(Debug)]
pub(super) enum Fault {
    /// The client left.
    Client,
    /// The target left.
    Target(io::Error),
    /// The target's answer will not do.
    Answer(AnswerFault),
    /// The client's body will not do.
    Body(io::Error),
    /// Nothing moved for too long.
    Stalled,
    /// It is cut: the gateway ends, as far as is known here.
    Cut,
    /// An operator ended it.
    Cancelled,
}

/// How an exchange ended.
#[derive(Debug)]
pub(super) struct End {
    /// 0: there was none.
    pub(super) status: u16,
    /// Something of the final answer may have reached the client.
    pub(super) begun: bool,
    pub(super) fault: Option<Fault>,
    /// The client may send another request.
    pub(super) client_stays: bool,
    /// So may we.
    pub(super) target_stays: bool,
    /// The target said nothing at all.
    silent: bool,
}

impl End {
    /// Whether the target left without a word.
    pub(super) fn is_unheard(&self) -> bool {
        self.silent && matches!(self.fault, Some(Fault::Target(_)))
    }
}

/// A request on its way, and its answer.
pub(super) struct Exchange<'a> {
    client: &'a mut Airlock,
    kept: &'a mut Kept,
    /// What the target has not taken yet of the request's head, and then of its body.
    head_out: BytesMut,
    piece: Vec<u8>,
    piece_out: Range<usize>,
    /// Bytes of the body that the target took.
    uploaded: u64,
    /// The target takes no more of the request.
    deaf: bool,
    answer: Answer<'a>,
    /// What the client has not taken yet of the answer.
    out: BytesMut,
    /// The target has ended.
    ended: bool,
    /// The target has not said a word.
    silent: bool,
    /// The client may wait to be asked for its body.
    awaits_100: bool,
    last: Instant,
    up: Shaper,
    down: Shaper,
}

impl<'a> Exchange<'a> {
    /// `by_parent`: another proxy answers in the target's place.
    pub(super) fn new(
        client: &'a mut Airlock,
        kept: &'a mut Kept,
        (head, is_fallback): (&'a Head, bool),
        request: BytesMut,
        by_parent: bool,
        (caps, flow): (&Bandwidth, Flow),
    ) -> Exchange<'a> {
        Exchange {
            client,
            kept,
            head_out: request,
            piece: Vec::new(),
            piece_out: 0..0,
            uploaded: 0,
            deaf: false,
            answer: Answer::to(head, is_fallback, by_parent),
            out: BytesMut::new(),
            ended: false,
            silent: true,
            awaits_100: head.field("expect").is_some(),
            last: Instant::now(),
            up: caps.stream(flow.clone(), Direction::Upload),
            down: caps.stream(flow, Direction::Download),
        }
    }

    /// Carries it to its end.
    pub(super) async fn run(
        mut self,
        (timeouts, metrics): (&TimeoutsConfig, &ListenerMetrics),
        transfer: &Transfer,
        cut: &CancellationToken,
    ) -> End {
        let idle = timeouts.tunnel_idle;
        let mut told = (0, 0);
        let result = loop {
            let look = (self.last + idle).min(Instant::now() + COUNTED);
            let result = select! {
                biased;
                result = poll_fn(|cx| self.poll(cx)) => Some(result),
                () = cut.cancelled() => Some(Err(Fault::Cut)),
                () = sleep_until(look) => (Instant::now() >= self.last + idle).then_some(Err(Fault::Stalled)),
            };
            let moved =
                [(Direction::Upload, self.uploaded - told.0), (Direction::Download, self.answer.bytes - told.1)];
            for (direction, bytes) in moved {
                metrics.bytes(direction, bytes);
                transfer.counts().add(direction, bytes);
            }
            told = (self.uploaded, self.answer.bytes);
            if let Some(result) = result {
                break result;
            }
        };
        let is_clean = !self.ended && !self.deaf && self.is_sent() && self.kept.ahead.is_empty();
        self.kept.of_session |= self.answer.is_of_session;
        if is_clean {
            // An idle connection needs no room to read into.
            self.kept.ahead = BytesMut::new();
        }
        End {
            status: self.answer.status,
            begun: self.answer.begun,
            fault: result.err(),
            client_stays: self.answer.client_stays && !self.client.has_ended(),
            target_stays: self.answer.target_stays && is_clean,
            silent: self.silent,
        }
    }

    /// The whole request has gone out.
    fn is_sent(&self) -> bool {
        self.head_out.is_empty() && self.piece_out.is_empty() && self.client.body_left() == 0
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        loop {
            let up = self.poll_up(cx);
            let down = self.poll_down(cx)?;
            if self.answer.is_over() && self.out.is_empty() {
                ready!(self.client.poll_flush(cx)).map_err(|_| Fault::Client)?;
                // Who has the whole answer owes nothing more, and may leave in the middle of the request, or never begin it.
                let never_begun = self.awaits_100 && self.uploaded == 0 && self.piece_out.is_empty();
                if self.is_sent() || self.deaf || self.ended || never_begun || matches!(up, Err(Fault::Client)) {
                    return Poll::Ready(Ok(()));
                }
            }
            let up = up?;
            if !up && !down {
                return if self.client.poll_left(cx).is_ready() {
                    Poll::Ready(Err(Fault::Client))
                } else {
                    Poll::Pending
                };
            }
            self.last = Instant::now();
        }
    }

    /// Moves what can be moved towards the target; whether anything was.
    fn poll_up(&mut self, cx: &mut Context<'_>) -> Result<bool, Fault> {
        let mut moved = false;
        while !self.deaf {
            let piece = match self.head_out.is_empty() {
                true => self.piece.get(self.piece_out.clone()).unwrap_or_default(),
                false => &self.head_out[..],
            };
            if piece.is_empty() {
                if !self.poll_body(cx)? {
                    break;
                }
                moved = true;
                continue;
            }
            // The head is no part of what is capped.
            let is_body = self.head_out.is_empty();
            let may_pass = match is_body {
                true => granted(&mut self.up, cx, piece.len(), &mut self.last),
                false => Some(piece.len()),
            };
            let Some(may_pass) = may_pass else { break };
            let written = Pin::new(&mut self.kept.stream).poll_write(cx, piece.get(..may_pass).unwrap_or(piece));
            if is_body {
                give_back(&mut self.up, may_pass, &written);
            }
            match written {
                Poll::Pending => break,
                Poll::Ready(Ok(n)) if n > 0 => {
                    moved = true;
                    if self.head_out.is_empty() {
                        self.piece_out.start += n;
                        self.uploaded += n as u64;
                    } else {
                        self.head_out.advance(n);
                    }
                }
                // It may have answered before.
                Poll::Ready(_) => {
                    (moved, self.deaf) = (true, true);
                    self.up.cancel();
                }
            }
        }
        Ok(moved)
    }

    /// Takes in the next piece of the client's body; whether there was any.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Result<bool, Fault> {
        if self.client.body_left() == 0 {
            return Ok(false);
        }
        if self.piece.is_empty() {
            self.piece = vec![0; PIECE];
        }
        let mut space = ReadBuf::new(&mut self.piece);
        match self.client.poll_body_into(cx, &mut space) {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(n)) => {
                self.piece_out = 0..n;
                Ok(n > 0)
            }
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::InvalidData => Err(Fault::Body(error)),
            Poll::Ready(Err(_)) => Err(Fault::Client),
        }
    }

    /// Moves what can be moved towards the client; whether anything was.
    fn poll_down(&mut self, cx: &mut Context<'_>) -> Result<bool, Fault> {
        let mut moved = false;
        loop {
            if !self.out.is_empty() {
                let Some(may_pass) = granted(&mut self.down, cx, self.out.len(), &mut self.last) else {
                    return Ok(moved);
                };
                let written = self.client.poll_write(cx, self.out.get(..may_pass).unwrap_or(&self.out));
                give_back(&mut self.down, may_pass, &written);
                match written {
                    Poll::Pending => return Ok(moved),
                    Poll::Ready(Ok(n)) if n > 0 => self.out.advance(n),
                    Poll::Ready(_) => return Err(Fault::Client),
                }
                moved = true;
                continue;
            }
            if self.answer.pass(&mut self.kept.ahead, &mut self.out).map_err(Fault::Answer)? {
                moved = true;
                continue;
            }
            if self.answer.is_over() || self.ended {
                return Ok(moved);
            }
            if self.kept.ahead.is_empty() {
                self.kept.ahead.reserve(PIECE);
            }
            match poll_read_buf(Pin::new(&mut self.kept.stream), cx, &mut self.kept.ahead) {
                Poll::Pending => {
                    // The client is to see at once what there is of the answer.
                    return match self.client.poll_flush(cx) {
                        Poll::Ready(Err(_)) => Err(Fault::Client),
                        _ => Ok(moved),
                    };
                }
                Poll::Ready(read) => self.took(read)?,
            }
            moved = true;
        }
    }

    /// The target said something, or has ended.
    fn took(&mut self, read: io::Result<usize>) -> Result<(), Fault> {
        match read {
            Ok(n) if n > 0 => {
                self.silent = false;
                Ok(())
            }
            Ok(_) if self.answer.close() => {
                self.ended = true;
                Ok(())
            }
            Ok(_) => Err(Fault::Target(io::ErrorKind::UnexpectedEof.into())),
            Err(error) => Err(Fault::Target(error)),
        }
    }
}

/// How many of `want` bytes may pass now, if any; who waits for that is not idle.
fn granted(pace: &mut Shaper, cx: &mut Context<'_>, want: usize, last: &mut Instant) -> Option<usize> {
    if pace.is_unlimited() {
        return Some(want);
    }
    match pace.poll_take(cx, want as u64) {
        Poll::Ready(bytes) => Some(bytes as usize),
        Poll::Pending => {
            *last = Instant::now();
            None
        }
    }
}

/// What might have passed and was not written may pass later.
fn give_back(pace: &mut Shaper, may_pass: usize, written: &Poll<io::Result<usize>>) {
    let n = if let Poll::Ready(Ok(n)) = written { *n } else { 0 };
    if n < may_pass && !pace.is_unlimited() {
        pace.give_back((may_pass - n) as u64);
    }
}
