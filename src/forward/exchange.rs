//! One request and its answer, byte for byte: what the target says is read as far as its framing and no further.
//!
//! Both directions run at once, each from one socket to the other through one piece of memory: a client that does not
//! read stops the target, and the other way round. An answer may come before the request is whole; interim answers pass.

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    ops::Range,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncWrite, ReadBuf},
    net::TcpStream,
    select,
    time::{Instant, sleep_until},
};
use tokio_util::io::poll_read_buf;

use super::{Door, record::Story, request, target::Target};
use crate::{
    net::http1::{Airlock, AnswerHead, AnswerProblem, BodyFraming, ChunkProblem, Chunked, Head},
    telemetry::Direction,
};

/// What is read at once, in bytes.
const PIECE: usize = 32 * 1024;
/// How often the bytes of a running exchange are counted.
const COUNTED: Duration = Duration::from_secs(5);
/// Interim answers that are kept from the client, before the target counts as one that never ends.
const MOST_HIDDEN: u32 = 1000;
/// Fields that are for the next hop alone (RFC 9110, section 7.6.1). The framing is passed on as it is.
const HOP_BY_HOP: &[&str] = &["connection", "keep-alive", "proxy-connection", "proxy-authenticate", "upgrade"];
/// What no `Connection` field can take out of a message.
const FRAMING: &[&str] = &["host", "content-length", "transfer-encoding"];

/// A connection to a target, kept as long as the client's own.
#[derive(Debug)]
pub(super) struct Kept {
    target: Target,
    stream: TcpStream,
    /// What came behind the last answer; anything makes the connection useless.
    ahead: BytesMut,
    /// Exchanges that are over.
    pub(super) uses: u32,
    /// The node asked the client to keep its connection for a session (docs/protocol.md, "Persistence").
    pub(super) of_session: bool,
}

impl Kept {
    pub(super) fn new(target: Target, stream: TcpStream) -> Kept {
        Kept { target, stream, ahead: BytesMut::new(), uses: 0, of_session: false }
    }

    /// Whether it leads there and nothing has come since the last answer.
    pub(super) fn serves(&self, target: &Target) -> bool {
        self.target == *target
            && self.ahead.is_empty()
            && matches!(self.stream.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.stream.peer_addr().ok()
    }
}

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
    /// The parent wants something else, and says so by this status.
    Parent(u16),
    /// Nothing moved for too long.
    Stalled,
    /// The gateway ends.
    Cut,
}

/// What is wrong with an answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum AnswerFault {
    #[error(transparent)]
    Head(#[from] AnswerProblem),
    #[error(transparent)]
    Chunks(#[from] ChunkProblem),
    #[error("it changes the protocol, which nobody asked for")]
    Upgrade,
    #[error("it never ends to begin")]
    Endless,
    #[error("it is in chunks, which a client of HTTP/1.0 does not know")]
    TooNew,
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

/// Where the answer stands.
enum Answer {
    /// So much of its head was looked at.
    Head {
        seen: usize,
    },
    Length(u64),
    Chunked(Chunked),
    UntilClose,
    Over,
}

/// A request on its way, and its answer.
pub(super) struct Exchange<'a> {
    client: &'a mut Airlock,
    kept: &'a mut Kept,
    head: &'a Head,
    is_fallback: bool,
    /// A parent answers in the target's place.
    by_parent: bool,
    /// What the target has not taken yet of the request's head, and then of its body.
    head_out: BytesMut,
    piece: Vec<u8>,
    piece_out: Range<usize>,
    /// Bytes of the body that were given to the target, and of the answer's that were given to the client.
    moved: (u64, u64),
    /// The target takes no more of the request.
    deaf: bool,
    answer: Answer,
    /// What the client has not taken yet of the answer.
    out: BytesMut,
    /// The target has ended.
    ended: bool,
    hidden: u32,
    last: Instant,
    end: End,
}

impl<'a> Exchange<'a> {
    pub(super) fn new(
        client: &'a mut Airlock,
        kept: &'a mut Kept,
        head: &'a Head,
        is_fallback: bool,
        request: BytesMut,
    ) -> Exchange<'a> {
        Exchange {
            client,
            kept,
            head,
            is_fallback,
            by_parent: false,
            head_out: request,
            piece: Vec::new(),
            piece_out: 0..0,
            moved: (0, 0),
            deaf: false,
            answer: Answer::Head { seen: 0 },
            out: BytesMut::new(),
            ended: false,
            hidden: 0,
            last: Instant::now(),
            end: End { status: 0, begun: false, fault: None, client_stays: false, target_stays: false, silent: true },
        }
    }

    /// Carries it to its end.
    pub(super) async fn run(&mut self, door: &Door, story: &mut Story) -> End {
        let idle = door.timeouts.tunnel_idle;
        self.by_parent = story.parent;
        let mut told = (0, 0);
        let result = loop {
            let due = self.last + idle;
            let look = due.min(Instant::now() + COUNTED);
            let result = select! {
                biased;
                result = poll_fn(|cx| self.poll(cx)) => Some(result),
                () = door.shared.cut.cancelled() => Some(Err(Fault::Cut)),
                () = sleep_until(look) => (Instant::now() >= self.last + idle).then_some(Err(Fault::Stalled)),
            };
            door.metrics.bytes(Direction::Upload, self.moved.0 - told.0);
            door.metrics.bytes(Direction::Download, self.moved.1 - told.1);
            told = self.moved;
            if let Some(result) = result {
                break result;
            }
        };
        (story.uploaded, story.downloaded) = self.moved;
        let mut end = std::mem::replace(
            &mut self.end,
            End { status: 0, begun: false, fault: None, client_stays: false, target_stays: false, silent: true },
        );
        end.fault = result.err().or(end.fault);
        end.target_stays &= !self.ended && !self.deaf && self.is_sent() && self.kept.ahead.is_empty() && !story.parent;
        end
    }

    /// The whole request has gone out.
    fn is_sent(&self) -> bool {
        self.head_out.is_empty() && self.piece_out.is_empty() && self.client.body_left() == 0
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        loop {
            let up = self.poll_up(cx)?;
            let down = self.poll_down(cx)?;
            if matches!(self.answer, Answer::Over) && self.out.is_empty() {
                ready!(self.client.poll_flush(cx)).map_err(|_| Fault::Client)?;
                if self.is_sent() || self.deaf || self.ended {
                    return Poll::Ready(Ok(()));
                }
            }
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
            match Pin::new(&mut self.kept.stream).poll_write(cx, piece) {
                Poll::Pending => break,
                Poll::Ready(Ok(n)) if n > 0 => {
                    moved = true;
                    if self.head_out.is_empty() {
                        self.piece_out.start += n;
                        self.moved.0 += n as u64;
                    } else {
                        self.head_out.advance(n);
                    }
                }
                // It may have answered before.
                Poll::Ready(_) => {
                    (moved, self.deaf) = (true, true);
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
                match self.client.poll_write(cx, &self.out) {
                    Poll::Pending => return Ok(moved),
                    Poll::Ready(Ok(n)) if n > 0 => self.out.advance(n),
                    Poll::Ready(_) => return Err(Fault::Client),
                }
                moved = true;
                continue;
            }
            if self.pass()? {
                moved = true;
                continue;
            }
            if matches!(self.answer, Answer::Over) || self.ended {
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
                self.end.silent = false;
                Ok(())
            }
            Ok(_) if matches!(self.answer, Answer::UntilClose) => {
                (self.answer, self.ended) = (Answer::Over, true);
                Ok(())
            }
            Ok(_) => Err(Fault::Target(io::ErrorKind::UnexpectedEof.into())),
            Err(error) => Err(Fault::Target(error)),
        }
    }

    /// Makes what the target said ready for the client; whether there was any.
    fn pass(&mut self) -> Result<bool, Fault> {
        let ahead = &mut self.kept.ahead;
        let n = match &mut self.answer {
            Answer::Head { seen } => {
                let Some(end) = AnswerHead::end(ahead, seen).map_err(AnswerFault::from).map_err(Fault::Answer)? else {
                    return Ok(false);
                };
                let head = AnswerHead::parse(ahead.split_to(end).freeze())
                    .map_err(AnswerFault::from)
                    .map_err(Fault::Answer)?;
                self.begin(&head)?;
                return Ok(true);
            }
            Answer::Over => return Ok(false),
            Answer::UntilClose => ahead.len(),
            Answer::Length(left) => {
                let n = ahead.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= n as u64;
                if *left == 0 {
                    self.answer = Answer::Over;
                }
                n
            }
            Answer::Chunked(chunks) => {
                let n = chunks.scan(ahead).map_err(|problem| Fault::Answer(problem.into()))?;
                if chunks.is_done() {
                    self.answer = Answer::Over;
                }
                n
            }
        };
        let piece = self.kept.ahead.split_to(n);
        self.moved.1 += n as u64;
        // Behind a head that waits, so that both go out at once.
        if self.out.is_empty() {
            self.out = piece
        } else {
            self.out.extend_from_slice(&piece)
        }
        Ok(n > 0)
    }

    /// A head has come.
    fn begin(&mut self, head: &AnswerHead) -> Result<(), Fault> {
        self.answer = Answer::Head { seen: 0 };
        if head.is_interim() {
            if head.status() == 101 {
                return Err(Fault::Answer(AnswerFault::Upgrade));
            }
            // The transfer client takes any but these two for the final answer (docs/protocol.md, "Answers").
            let passes = self.head.minor() > 0 && (!self.is_fallback || matches!(head.status(), 100 | 102));
            if passes {
                self.out.extend_from_slice(head.raw());
            } else {
                self.hidden += 1;
                if self.hidden > MOST_HIDDEN {
                    return Err(Fault::Answer(AnswerFault::Endless));
                }
            }
            return Ok(());
        }
        // It is meant for this gateway; the client has no such words.
        if self.by_parent && head.status() == 407 {
            return Err(Fault::Parent(407));
        }
        let framing = head.body(self.head.method());
        if framing == BodyFraming::Chunked && self.head.minor() == 0 {
            return Err(Fault::Answer(AnswerFault::TooNew));
        }
        self.end.status = head.status();
        self.end.client_stays = request::stays(self.head) && framing != BodyFraming::UntilClose;
        self.end.target_stays = head.keeps_alive() && framing != BodyFraming::UntilClose;
        self.kept.of_session |= is_persistent(head);
        self.answer = match framing {
            BodyFraming::None | BodyFraming::Length(0) => Answer::Over,
            BodyFraming::Length(n) => Answer::Length(n),
            BodyFraming::Chunked => Answer::Chunked(Chunked::default()),
            BodyFraming::UntilClose => Answer::UntilClose,
        };
        compose(head, self.end.client_stays, &mut self.out);
        // What has come of the body goes out with the head; of an answer that is bad already, nothing does.
        let passed = self.pass();
        self.end.begun = passed.is_ok();
        passed.map(drop)
    }
}

/// Whether a node asks the client to keep its connection for a whole session: a number, and not 0.
fn is_persistent(head: &AnswerHead) -> bool {
    let digits =
        |value: &[u8]| value.iter().copied().skip_while(|b| *b == b'-').take_while(u8::is_ascii_digit).collect();
    head.field("x-persistent-connection").map(digits).is_some_and(|d: Vec<u8>| d.iter().any(|digit| *digit != b'0'))
}

/// The head as the client gets it.
fn compose(head: &AnswerHead, stays: bool, to: &mut BytesMut) {
    to.extend_from_slice(b"HTTP/1.1");
    let line = head.raw().split(|b| *b == b'\r').next().unwrap_or_default();
    to.extend_from_slice(line.get(8..).unwrap_or_default());
    to.extend_from_slice(b"\r\n");
    for (name, value) in head.fields() {
        if !is_hop_by_hop(name, HOP_BY_HOP, head.tokens("connection")) {
            put_field(to, name, value);
        }
    }
    put_field(to, b"Connection", if stays { b"keep-alive" } else { b"close" });
    to.extend_from_slice(b"\r\n");
}

/// Whether a field is for the next hop alone: by its name, or because the message's `Connection` says so.
pub(super) fn is_hop_by_hop<'t>(name: &[u8], always: &[&str], mut named: impl Iterator<Item = &'t [u8]>) -> bool {
    let is = |other: &&str| name.eq_ignore_ascii_case(other.as_bytes());
    always.iter().any(is) || named.any(|token| name.eq_ignore_ascii_case(token)) && !FRAMING.iter().any(is)
}

pub(super) fn put_field(to: &mut BytesMut, name: &[u8], value: &[u8]) {
    for part in [name, b": ", value, b"\r\n"] {
        to.extend_from_slice(part);
    }
}
