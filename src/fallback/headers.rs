//! How the two heads of an exchange differ from what was received: little, and all of it here.

use http::HeaderValue;
use pingora_core::ErrorType;
use pingora_http::{RequestHeader, ResponseHeader};

use super::{
    exchange::Exchange,
    guard::{self, Length},
    target,
};
use crate::{
    config::{GuardConfig, NodeTarget, Scheme},
    telemetry::{Operation, Reason},
};

/// Names the file after this one.
const NEXT_NAME: &str = "x-next-wire-file";

/// What the heads depend on besides the exchange.
#[derive(Debug, Clone)]
pub(super) struct Headers {
    pub(super) node_target: NodeTarget,
    pub(super) scheme: Scheme,
    pub(super) guard: GuardConfig,
}

/// Why an answer does not go on to the client.
#[derive(Debug)]
pub(super) enum Problem {
    /// The guard refuses it.
    Refused(Reason, &'static str),
    /// A head could not be written.
    Engine(Box<pingora_core::Error>),
}

impl From<Box<pingora_core::Error>> for Problem {
    fn from(error: Box<pingora_core::Error>) -> Problem {
        Problem::Engine(error)
    }
}

impl Headers {
    /// The request as the node gets it: the target in the form that is asked for, whose request it
    /// is, and names with the trailing blanks that the engine's parser takes off.
    pub(super) fn to_node(&self, request: &mut RequestHeader, exchange: &Exchange) -> pingora_core::Result<()> {
        let head = &exchange.head;
        if self.node_target != NodeTarget::Received {
            request.set_raw_path(&target::for_node(head.target(), self.node_target, self.scheme))?;
        }
        let is_cut = |value: &[u8]| matches!(value.last(), Some(b' ' | b'\t'));
        for (name, _) in head.fields().filter(|(_, v)| is_cut(v)) {
            // All fields of the name anew, for inserting one of them drops the others.
            let same = head.fields().filter(|(n, _)| n.eq_ignore_ascii_case(name));
            for (i, (own, value)) in same.enumerate() {
                let whole = HeaderValue::from_bytes(value)
                    .map_err(|_| pingora_core::Error::explain(ErrorType::InvalidHTTPHeader, "a value that is none"))?;
                let own = String::from_utf8_lossy(own).into_owned();
                if i == 0 {
                    request.insert_header(own, whole)?;
                } else {
                    request.append_header(own, whole)?;
                }
            }
        }
        request.remove_header("x-forwarded-for");
        request.remove_header("forwarded");
        request.insert_header("X-Forwarded-For", &exchange.forwarded.x_forwarded_for)?;
        request.insert_header("Forwarded", &exchange.forwarded.forwarded)
    }

    /// The final answer as the client gets it; returns whether its body goes on.
    pub(super) fn to_client(&self, answer: &mut ResponseHeader, exchange: &Exchange) -> Result<bool, Problem> {
        let status = answer.status.as_u16();
        let passes_body = exchange.has_answer_body(status);
        if passes_body {
            one_framing(answer)?;
        }
        self.guard(answer, exchange)?;
        keep_blanks(answer, exchange)?;
        answer.remove_header("keep-alive");
        if exchange.is_start() {
            let node_keeps = number(answer, "x-persistent-connection") != 0;
            let node_refused = number(answer, "x-real-mgmt-error") != 0;
            let client_keeps = exchange.offer_persistence.unwrap_or(node_keeps);
            answer.remove_header("x-persistent-connection");
            if client_keeps {
                answer.insert_header("x-persistent-connection", "1")?;
            }
            exchange.note(|fate| {
                fate.node_keeps = node_keeps;
                fate.client_keeps = client_keeps;
                fate.node_refused = node_refused;
            });
        }
        if exchange.call.operation == Operation::End
            && let Some(session) = &exchange.session
        {
            session.release();
        }
        if !passes_body {
            answer.remove_header("transfer-encoding");
            answer.insert_header("content-length", "0")?;
        }
        exchange.note(|fate| fate.status = status);
        Ok(passes_body)
    }

    /// What an answer that the engine cannot read is called: by the name in it, if that is what is wrong.
    pub(super) fn unreadable(&self, exchange: &Exchange) -> Reason {
        let names_next = matches!(exchange.call.operation, Operation::Start | Operation::File);
        let bad = |name: &Vec<u8>| guard::next_name(name).is_err();
        if self.guard.names && names_next && exchange.answered(NEXT_NAME).last().is_some_and(bad) {
            Reason::NodeBadName
        } else {
            Reason::NodeBadAnswer
        }
    }

    fn guard(&self, answer: &ResponseHeader, exchange: &Exchange) -> Result<(), Problem> {
        let call = &exchange.call;
        let names_next = call.operation == Operation::Start || call.operation == Operation::File;
        if !names_next {
            return Ok(());
        }
        if self.guard.names
            && let Some(name) = last(answer, NEXT_NAME)
        {
            guard::next_name(name)
                .map_err(|r| Problem::Refused(r, "x-next-wire-file leaves the folder or holds controls"))?;
        }
        if self.guard.resume
            && !call.fetches
            && let Some(start) = last(answer, "x-next-file-start")
        {
            let announced = announced_by_client(exchange);
            guard::next_start(start, announced)
                .map_err(|r| Problem::Refused(r, "x-next-file-start is beyond the file"))?;
        }
        let Some(session) = &exchange.session else { return Ok(()) };
        if call.operation == Operation::Start || call.fetches {
            let next = last(answer, NEXT_NAME).map(|_| unsigned(answer, "x-next-wire-file-size").unwrap_or(0));
            let index = exchange.head.field("x-get-file-index").filter(|_| call.fetches);
            let index = index.and_then(|index| std::str::from_utf8(index).ok()?.trim().parse().ok());
            let announced = session.announce(index, next);
            let length = unsigned(answer, "content-length");
            let asked = guard::range_start(exchange.head.field("x-content-range"));
            if let Some(length) = length.filter(|_| call.fetches && exchange.has_answer_body(answer.status.as_u16())) {
                match guard::length(length, announced, asked, unsigned(answer, "x-start-override")) {
                    Length::Fine => {}
                    Length::Differs => session.length_differs(),
                    Length::RangeIgnored if self.guard.resume => {
                        return Err(Problem::Refused(
                            Reason::NodeIgnoredRange,
                            "the whole file came where its rest was asked for",
                        ));
                    }
                    Length::RangeIgnored => session.length_differs(),
                }
            }
        }
        Ok(())
    }
}

/// Gives names the trailing blanks back that the engine's parser takes off.
fn keep_blanks(answer: &mut ResponseHeader, exchange: &Exchange) -> Result<(), Problem> {
    let names = exchange.answered(NEXT_NAME);
    let is_same = |(own, parsed): (&Vec<u8>, &HeaderValue)| own.trim_ascii_end() == parsed.as_bytes();
    let parsed: Vec<_> = answer.headers.get_all(NEXT_NAME).iter().collect();
    let is_cut = names.iter().any(|n| matches!(n.last(), Some(b' ' | b'\t')));
    if !is_cut || parsed.len() != names.len() || !names.iter().zip(parsed).all(is_same) {
        return Ok(());
    }
    for (i, name) in names.iter().enumerate() {
        let Ok(whole) = HeaderValue::from_bytes(name) else { return Ok(()) };
        if i == 0 {
            answer.insert_header(NEXT_NAME, whole)?;
        } else {
            answer.append_header(NEXT_NAME, whole)?;
        }
    }
    Ok(())
}

/// Leaves a body that goes on one length, said once, or the one coding that everybody knows. What the
/// engine reads in one way another reader might read in another.
fn one_framing(answer: &mut ResponseHeader) -> Result<(), Problem> {
    let all = |name: &str| answer.headers.get_all(name).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>();
    match all("transfer-encoding")[..] {
        [] => {
            // The engine has seen that all of them are the same number.
            let lengths = all("content-length");
            let first = lengths.first().and_then(|v| v.split(|b| *b == b',').next()).unwrap_or_default();
            if lengths.len() > 1 || lengths.first().is_some_and(|v| v.len() > first.len()) {
                let first = String::from_utf8_lossy(first.trim_ascii()).into_owned();
                answer.insert_header("Content-Length", first)?;
            }
            Ok(())
        }
        [b"chunked"] => Ok(()),
        [coding] if coding.eq_ignore_ascii_case(b"chunked") => {
            Ok(answer.insert_header("Transfer-Encoding", "chunked")?)
        }
        _ => Err(Problem::Refused(Reason::NodeBadAnswer, "a transfer coding other than chunked")),
    }
}

/// The size that the client announced for its next file. With a time and no size it is empty; with
/// neither it is not known.
fn announced_by_client(exchange: &Exchange) -> Option<u64> {
    let head = &exchange.head;
    let size = head.field("x-next-wire-file-size").and_then(|v| std::str::from_utf8(v).ok()?.trim().parse().ok());
    size.or_else(|| head.field("x-next-wire-file-time").map(|_| 0))
}

/// The last field of a name is the one that the client takes.
fn last<'a>(answer: &'a ResponseHeader, name: &str) -> Option<&'a [u8]> {
    answer.headers.get_all(name).iter().next_back().map(HeaderValue::as_bytes)
}

fn unsigned(answer: &ResponseHeader, name: &str) -> Option<u64> {
    std::str::from_utf8(last(answer, name)?).ok()?.trim().parse().ok()
}

/// A number as the client reads it: digits up to the first other character, a sign before them.
fn number(answer: &ResponseHeader, name: &str) -> i64 {
    let value = last(answer, name).unwrap_or_default();
    let digits = value.strip_prefix(b"-").or_else(|| value.strip_prefix(b"+")).unwrap_or(value);
    digits.iter().take_while(|b| b.is_ascii_digit()).take(9).fold(0, |n, b| n * 10 + i64::from(b - b'0'))
}
