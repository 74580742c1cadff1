//! What a target says, made ready for the client: as far as its framing goes and no further. Pure: no socket, no clock.

use bytes::BytesMut;

use crate::{
    forward::request,
    net::http1::{AnswerHead, AnswerProblem, BodyFraming, ChunkProblem, Chunked, Head},
};

/// Interim answers that are kept from the client, before the target counts as one that never ends.
const MOST_HIDDEN: u32 = 1000;
/// Fields that are for the next hop alone (RFC 9110, section 7.6.1). The framing is passed on as it is.
const HOP_BY_HOP: &[&str] = &["connection", "keep-alive", "proxy-connection", "proxy-authenticate", "upgrade"];
/// What no `Connection` field can take out of a message.
const FRAMING: &[&str] = &["host", "content-length", "transfer-encoding"];

/// What is wrong with an answer.
#[derive(Debug, thiserror::Error)]
pub(in crate::forward) enum AnswerFault {
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
    /// A parent that answers in the target's place wants something else, and says so by this status.
    #[error("the parent proxy answered {0}")]
    Parent(u16),
}

/// Where it stands.
#[derive(Debug)]
enum Stage {
    /// So much of its head was looked at.
    Head {
        seen: usize,
    },
    Length(u64),
    Chunked(Chunked),
    UntilClose,
    Over,
}

/// The answer to one request.
#[derive(Debug)]
pub(super) struct Answer<'a> {
    head: &'a Head,
    is_fallback: bool,
    /// A parent answers in the target's place.
    by_parent: bool,
    stage: Stage,
    hidden: u32,
    /// Of the final answer; 0 before.
    pub(super) status: u16,
    /// Something of the final answer may have reached the client.
    pub(super) begun: bool,
    /// Bytes of its body.
    pub(super) bytes: u64,
    /// The client may send another request.
    pub(super) client_stays: bool,
    /// The target may be sent another.
    pub(super) target_stays: bool,
    /// The node asks the client to keep its connection for a session.
    pub(super) is_of_session: bool,
}

impl<'a> Answer<'a> {
    /// To this request.
    pub(super) fn to(head: &'a Head, is_fallback: bool, by_parent: bool) -> Answer<'a> {
        Answer {
            head,
            is_fallback,
            by_parent,
            stage: Stage::Head { seen: 0 },
            hidden: 0,
            status: 0,
            begun: false,
            bytes: 0,
            client_stays: false,
            target_stays: false,
            is_of_session: false,
        }
    }

    /// Whether all of it has come.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }

    /// The target has closed; whether that is an end.
    pub(super) fn close(&mut self) -> bool {
        let is_end = matches!(self.stage, Stage::UntilClose | Stage::Over);
        if is_end {
            self.stage = Stage::Over;
        }
        is_end
    }

    /// Moves what the target `said` behind what is ready for the client; whether there was any.
    pub(super) fn pass(&mut self, said: &mut BytesMut, ready: &mut BytesMut) -> Result<bool, AnswerFault> {
        let n = match &mut self.stage {
            Stage::Head { seen } => {
                let Some(end) = AnswerHead::end(said, seen)? else { return Ok(false) };
                let head = AnswerHead::parse(said.split_to(end).freeze())?;
                self.stage = Stage::Head { seen: 0 };
                if head.is_interim() {
                    self.interim(&head, ready)?;
                } else {
                    self.begin(&head, ready)?;
                    // What has come of the body goes out with the head; of an answer that is bad already, nothing does.
                    self.pass(said, ready)?;
                    self.begun = true;
                }
                return Ok(true);
            }
            Stage::Over => return Ok(false),
            Stage::UntilClose => said.len(),
            Stage::Length(left) => {
                let n = said.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= n as u64;
                if *left == 0 {
                    self.stage = Stage::Over;
                }
                n
            }
            Stage::Chunked(chunks) => {
                let n = chunks.scan(said)?;
                if chunks.is_done() {
                    self.stage = Stage::Over;
                }
                n
            }
        };
        let piece = said.split_to(n);
        self.bytes += n as u64;
        if ready.is_empty() {
            *ready = piece;
        } else {
            ready.extend_from_slice(&piece);
        }
        Ok(n > 0)
    }

    fn interim(&mut self, head: &AnswerHead, ready: &mut BytesMut) -> Result<(), AnswerFault> {
        if head.status() == 101 {
            return Err(AnswerFault::Upgrade);
        }
        // The transfer client takes any but these two for the final answer (docs/protocol.md, "Answers").
        if self.head.minor() > 0 && (!self.is_fallback || matches!(head.status(), 100 | 102)) {
            ready.extend_from_slice(head.raw());
            return Ok(());
        }
        self.hidden += 1;
        if self.hidden > MOST_HIDDEN { Err(AnswerFault::Endless) } else { Ok(()) }
    }

    fn begin(&mut self, head: &AnswerHead, ready: &mut BytesMut) -> Result<(), AnswerFault> {
        // It is meant for this gateway; the client has no such words.
        if self.by_parent && head.status() == 407 {
            return Err(AnswerFault::Parent(407));
        }
        let framing = head.body(self.head.method());
        if framing == BodyFraming::Chunked && self.head.minor() == 0 {
            return Err(AnswerFault::TooNew);
        }
        self.status = head.status();
        self.client_stays = request::stays(self.head) && framing != BodyFraming::UntilClose;
        self.target_stays = head.keeps_alive() && framing != BodyFraming::UntilClose && !self.by_parent;
        self.is_of_session = is_persistent(head);
        self.stage = match framing {
            BodyFraming::None | BodyFraming::Length(0) => Stage::Over,
            BodyFraming::Length(n) => Stage::Length(n),
            BodyFraming::Chunked => Stage::Chunked(Chunked::default()),
            BodyFraming::UntilClose => Stage::UntilClose,
        };
        compose(head, self.client_stays, ready);
        Ok(())
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
pub(in crate::forward) fn is_hop_by_hop<'t>(
    name: &[u8],
    always: &[&str],
    mut named: impl Iterator<Item = &'t [u8]>,
) -> bool {
    let is = |other: &&str| name.eq_ignore_ascii_case(other.as_bytes());
    always.iter().any(is) || named.any(|token| name.eq_ignore_ascii_case(token)) && !FRAMING.iter().any(is)
}

pub(in crate::forward) fn put_field(to: &mut BytesMut, name: &[u8], value: &[u8]) {
    for part in [name, b": ", value, b"\r\n"] {
        to.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::net::http1::Grammar;

    fn head(text: &str) -> Head {
        Head::parse_as(text.to_owned().into(), Grammar::Proxy).unwrap()
    }

    /// What the client gets of an answer that comes in such pieces, and whether it is over.
    fn passed(head: &Head, is_fallback: bool, pieces: &[&[u8]]) -> Result<(Vec<u8>, bool), String> {
        let mut answer = Answer::to(head, is_fallback, false);
        let (mut said, mut ready, mut got) = (BytesMut::new(), BytesMut::new(), Vec::new());
        for piece in pieces {
            said.extend_from_slice(piece);
            while answer.pass(&mut said, &mut ready).map_err(|fault| fault.to_string())? {
                got.extend_from_slice(&ready.split());
            }
        }
        Ok((got, answer.is_over()))
    }

    const GET: &str = "GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n";

    #[test]
    fn interim_answers_pass_as_far_as_the_client_knows_them() {
        let said =
            b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 204 No\r\nA: b\r\n\r\n";
        let last = "HTTP/1.1 204 No\r\nA: b\r\nConnection: keep-alive\r\n\r\n";
        let shown = |head: &Head, is_fallback| {
            let (got, over) = passed(head, is_fallback, &[said]).unwrap();
            assert!(over);
            String::from_utf8(got).unwrap()
        };
        assert_eq!(shown(&head(GET), false), String::from_utf8_lossy(&said[..56]).into_owned() + "\r\n" + last);
        assert_eq!(shown(&head(GET), true), format!("HTTP/1.1 102 Processing\r\n\r\n{last}"));
        assert_eq!(
            shown(&head("GET http://a/ HTTP/1.0\r\n\r\n"), false),
            "HTTP/1.1 204 No\r\nA: b\r\nConnection: close\r\n\r\n"
        );
    }

    proptest! {
        #[test]
        fn in_whatever_pieces_an_answer_comes_the_client_gets_the_same(
            body in proptest::collection::vec(any::<u8>(), 0..200), cuts in proptest::collection::vec(1..60usize, 0..20),
            chunked in any::<bool>(), more in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            let mut said = b"HTTP/1.1 200 OK\r\nX-a: b \r\n".to_vec();
            let framed = if chunked {
                let mut framed = format!("{:x}\r\n", body.len()).into_bytes();
                framed.extend_from_slice(&body);
                if body.is_empty() { b"0\r\n\r\n".to_vec() } else { framed.extend_from_slice(b"\r\n0\r\n\r\n"); framed }
            } else {
                body.clone()
            };
            let field = if chunked { "Transfer-Encoding: chunked".to_owned() } else { format!("Content-Length: {}", body.len()) };
            said.extend_from_slice(format!("{field}\r\n\r\n").as_bytes());
            said.extend_from_slice(&framed);
            said.extend_from_slice(&more);
            let mut pieces = Vec::new();
            let mut rest = said.as_slice();
            for cut in cuts {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece);
                rest = after;
            }
            pieces.push(rest);
            let (got, over) = passed(&head(GET), false, &pieces).unwrap();
            let mut wanted = format!("HTTP/1.1 200 OK\r\nX-a: b \r\n{field}\r\nConnection: keep-alive\r\n\r\n").into_bytes();
            wanted.extend_from_slice(&framed);
            prop_assert!(over);
            prop_assert_eq!(got, wanted);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = passed(&head(GET), false, &[&bytes]);
            let _ = passed(&head(GET), true, &[b"HTTP/1.1 200 OK\r\n", &bytes]);
        }
    }
}
