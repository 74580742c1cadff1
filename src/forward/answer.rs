//! The door's own answers: one place from reason to status and to what the client's user reads.
//!
//! Each carries the word of the refusal and its kind by RFC 9209 (`Proxy-Status`). None has a body, for the transfer
//! client reads none (docs/protocol.md, "Answers"); of a refused session_start it shows the text that belongs to the
//! number in `x-real-mgmt-error`, where there is one that fits better than that of the status.

use crate::{net::http1::phrase, telemetry::Reason};

/// The answer to a CONNECT. The transfer client takes nothing but 200, without a body (docs/protocol.md, "Forward
/// proxies").
pub(super) const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";

/// "Authentication failure".
const AUTHENTICATION: u8 = 19;
/// "Cancelled by user".
const CANCELLED: u8 = 28;
/// "Authorization failure".
const AUTHORIZATION: u8 = 37;
/// "Peer aborted session".
const PEER_ABORTED: u8 = 39;

/// What a refused request was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// A session_start of the fallback, in the clear.
    Start,
    /// Anything else.
    Other,
}

/// The status, the error type of RFC 9209, and the management error of a start.
fn meaning(reason: Reason) -> (u16, &'static str, Option<u8>) {
    use Reason::*;
    match reason {
        BadTarget | BadHead | BadRequest | BadName => (400, "http_request_error", None),
        HeadTooLarge => (431, "http_request_error", None),
        HeadTimeout => (408, "http_request_error", None),
        ClientNotAllowed | PolicyDenied => (403, "http_request_denied", Some(AUTHORIZATION)),
        PrivateAddress => (403, "destination_ip_prohibited", Some(AUTHORIZATION)),
        AuthRequired | AuthFailed => (407, "http_request_denied", Some(AUTHENTICATION)),
        AuthBusy => (503, "connection_limit_reached", Some(PEER_ABORTED)),
        TooManyTunnels | TooManyConnections => (503, "connection_limit_reached", None),
        Draining => (503, "destination_unavailable", Some(PEER_ABORTED)),
        ProxyLoop => (502, "proxy_loop_detected", Some(PEER_ABORTED)),
        DnsFailed => (502, "dns_error", None),
        ConnectRefused => (502, "connection_refused", None),
        ConnectTimeout => (504, "connection_timeout", None),
        ConnectFailed | ParentFailed => (502, "destination_unavailable", None),
        NodeBadAnswer => (502, "http_protocol_error", Some(PEER_ABORTED)),
        NodeLost => (502, "http_response_incomplete", Some(PEER_ABORTED)),
        Stalled => (504, "http_response_timeout", Some(PEER_ABORTED)),
        Cancelled => (403, "http_request_denied", Some(CANCELLED)),
        _ => (500, "proxy_internal_error", None),
    }
}

/// The status of a refusal.
pub(super) fn status(reason: Reason) -> u16 {
    meaning(reason).0
}

/// The bytes of an answer to a refusal; `close` says that no further request is read.
pub(super) fn refusal(reason: Reason, asked: Asked, close: bool) -> Vec<u8> {
    let (status, error, number) = meaning(reason);
    let mut text = format!(
        "HTTP/1.1 {status} {}\r\nProxy-Status: fallgate; error={error}; details=\"{reason}\"\r\nx-fallgate-error: {reason}\r\n",
        phrase(status)
    );
    if let Some(number) = number.filter(|_| asked == Asked::Start) {
        text.push_str(&format!("x-real-mgmt-error: {number}\r\n"));
    }
    if status == 407 {
        text.push_str("Proxy-Authenticate: Basic realm=\"fallgate\", charset=\"UTF-8\"\r\n");
    }
    if status == 503 {
        text.push_str("Retry-After: 5\r\n");
    }
    text.push_str(if close { "Connection: close\r\n" } else { "Connection: keep-alive\r\n" });
    text.push_str("Content-Length: 0\r\n\r\n");
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_says_its_word_three_times_and_has_no_body() {
        for reason in Reason::ALL {
            let text = String::from_utf8(refusal(*reason, Asked::Other, true)).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(body.is_empty() && head.ends_with("Content-Length: 0"), "{text}");
            assert!(head.contains(&format!("details=\"{reason}\"")) && head.contains(&format!("error: {reason}\r\n")));
            assert!(!head.contains("x-real-mgmt-error"));
            assert_eq!(head.contains("Proxy-Authenticate: Basic "), head.starts_with("HTTP/1.1 407 "));
        }
    }

    #[test]
    fn the_user_of_a_refused_start_reads_what_it_was() {
        for (reason, number) in [(Reason::PolicyDenied, "37"), (Reason::AuthRequired, "19"), (Reason::NodeLost, "39")] {
            let text = String::from_utf8(refusal(reason, Asked::Start, false)).unwrap();
            assert!(text.contains(&format!("\r\nx-real-mgmt-error: {number}\r\n")), "{text}");
        }
    }

    #[test]
    fn whoever_reads_of_a_refused_start_finds_the_word_under_its_code() {
        let page = include_str!("../../docs/troubleshooting.md");
        for reason in Reason::ALL.iter().filter(|reason| status(**reason) != 500) {
            // Without a number the client reads what belongs to the status, and that is 47 for all that have none.
            let code = meaning(*reason).2.unwrap_or(47);
            let section = page.split("\n## ").find(|section| section.starts_with(&format!("Code {code}: "))).unwrap();
            assert!(section.contains(&format!("\n| `{reason}` |")), "{reason} is not under code {code}");
        }
    }
}
