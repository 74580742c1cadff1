//! The gateway's own answers: one place from reason to status, phrase and what the user reads.
//!
//! The client reads no body, so there is none; it needs a phrase and at least one field; and of a
//! refused start it shows the text that belongs to the number in `x-real-mgmt-error`, while a bare
//! 503 would send its user to look at port and firewall (docs/protocol.md, "Answers").

use crate::{
    net::http1::phrase,
    telemetry::{Operation, Reason},
};

/// An answer before it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    /// The status.
    pub status: u16,
    /// The number that makes a start's user read the right text.
    pub management_error: Option<u8>,
}

/// "Insufficient permissions".
const PERMISSIONS: u8 = 5;
/// "Internal error": the gateway's own, nothing that the user can change.
const INTERNAL: u8 = 11;
/// "Authentication failure".
const AUTHENTICATION: u8 = 19;
/// "Cancelled by user".
const CANCELLED: u8 = 28;
/// "Authorization failure".
const AUTHORIZATION: u8 = 37;
/// "Peer aborted session".
const PEER_ABORTED: u8 = 39;
/// "Data transfer stalled, timed out".
const STALLED: u8 = 40;
/// "Session aborted due to validation error(s)": something in the request will not do, a file name
/// most of all.
const VALIDATION: u8 = 58;

/// "File location is outside 'docroot' hierarchy".
const OUTSIDE_DOCROOT: u8 = 41;

/// What a reason is answered with.
pub(super) fn answer(reason: Reason, operation: Operation) -> Answer {
    use Reason::*;
    let (status, number) = match reason {
        BadHead | BadRequest | BadName | BadStart => (400, VALIDATION),
        HeadTooLarge => (431, VALIDATION),
        HeadTimeout => (408, STALLED),
        NotFound => (404, VALIDATION),
        MethodNotAllowed => (405, VALIDATION),
        TokenMissing => (403, AUTHENTICATION),
        TokenShape | TokenKind | TokenExpired | AccessKey => (403, AUTHORIZATION),
        SessionMismatch | SessionLive | UnknownSession | ClientMismatch => (403, PERMISSIONS),
        TooManyConnections | TooManyConnectionsPerClient | Draining | NoNode | StateUnavailable => (503, PEER_ABORTED),
        TooManySessions | TooManySessionsPerClient | TooManySessionsPerUser => (503, PEER_ABORTED),
        WaitTooLong | WaitingRoomFull => (503, PEER_ABORTED),
        StartRate | RequestRate => (429, PEER_ABORTED),
        NodeBadName => (502, OUTSIDE_DOCROOT),
        NodeUnreachable | NodeBadAnswer | NodeLost | NodeBadStart | NodeIgnoredRange => (502, PEER_ABORTED),
        Stalled => (504, STALLED),
        Cancelled => (403, CANCELLED),
        TlsHandshake | TlsTimeout | ProxyProtocol | ClientLost | Internal => (500, INTERNAL),
        // Of control connections, which have no answers.
        NodeSilent | NodeNotSsh => (500, INTERNAL),
        // Of the admin door and of forward proxies, which have their own.
        BadTarget | ClientNotAllowed | AuthRequired | AuthFailed | AuthBusy | PolicyDenied | PrivateAddress
        | DnsFailed | ProxyLoop | ConnectRefused | ConnectTimeout | ConnectFailed | TooManyTunnels | ParentFailed
        | ForeignHost | ForeignOrigin | TooManyStreams => (500, INTERNAL),
    };
    Answer { status, management_error: (operation == Operation::Start).then_some(number) }
}

/// The bytes of an answer to a refusal; `close` says that no further request is read.
pub(super) fn refusal(reason: Reason, operation: Operation, close: bool) -> Vec<u8> {
    let Answer { status, management_error } = answer(reason, operation);
    let mut text = format!("HTTP/1.1 {status} {}\r\nx-fallgate-error: {reason}\r\n", phrase(status));
    if let Some(number) = management_error {
        text.push_str(&format!("x-real-mgmt-error: {number}\r\n"));
    }
    if reason == Reason::MethodNotAllowed {
        text.push_str("Allow: GET, PUT, POST\r\n");
    }
    text.push_str(if close { "Connection: close\r\n" } else { "Connection: keep-alive\r\n" });
    text.push_str("Content-Length: 0\r\n\r\n");
    text.into_bytes()
}

/// The answer where nothing is to be done: to a session_end whose start was refused, for it always comes, and to the question
/// whether a login is wanted.
pub(super) const NOTHING_TO_DO: &[u8] = b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_without_room_is_told_as_one_without_a_node_and_one_too_often_by_429() {
        use Reason::*;
        let full = [TooManySessions, TooManySessionsPerClient, TooManySessionsPerUser, WaitTooLong, WaitingRoomFull];
        for reason in full {
            assert_eq!(answer(reason, Operation::Start), answer(NoNode, Operation::Start));
        }
        for reason in [StartRate, RequestRate] {
            assert_eq!(answer(reason, Operation::Start), Answer { status: 429, management_error: Some(39) });
        }
    }

    #[test]
    fn every_answer_can_be_read_by_the_client() {
        for reason in Reason::ALL {
            for operation in Operation::ALL {
                let text = String::from_utf8(refusal(*reason, *operation, false)).unwrap();
                let (head, body) = text.split_once("\r\n\r\n").unwrap();
                assert!(body.is_empty());
                assert!(head.contains(&format!("\r\nx-fallgate-error: {reason}\r\n")));
                assert!(head.ends_with("Content-Length: 0"));
                let status = head.split(' ').nth(1).unwrap().parse::<u16>().unwrap();
                assert!((400..600).contains(&status));
                assert!(head.lines().next().unwrap().split(' ').nth(2).is_some_and(|w| !w.is_empty()));
                assert_eq!(head.contains("x-real-mgmt-error: "), *operation == Operation::Start);
            }
        }
    }

    /// Of each code there is a section, and in it a row for each word that its user may have read it for.
    #[test]
    fn whoever_reads_of_a_refused_start_finds_the_word_under_its_code() {
        use Reason::*;
        // Whoever is closed without an answer reads that the connection failed.
        let unanswered = [TlsHandshake, TlsTimeout, ProxyProtocol, ClientLost, NodeSilent, NodeNotSsh];
        let page = include_str!("../../docs/troubleshooting.md");
        for reason in Reason::ALL.iter().filter(|reason| !unanswered.contains(reason)) {
            let code = answer(*reason, Operation::Start).management_error.unwrap();
            let is_elsewhere = code == INTERNAL && *reason != Internal;
            let section = page.split("\n## ").find(|section| section.starts_with(&format!("Code {code}: "))).unwrap();
            assert!(
                is_elsewhere || section.contains(&format!("\n| `{reason}` |")),
                "{reason} is not under code {code}"
            );
        }
    }
}
