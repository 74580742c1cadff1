//! The error numbers of ascp: what its user reads, where that usually comes from, and what helps. Pure.
//!
//! What is known of them is told in `docs/protocol.md`; of those that come from the nominal path alone, what its users report.

use serde::Serialize;

/// One error number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Code {
    /// The number.
    pub code: u32,
    /// What ascp says, or in brackets what it means where its text is not known.
    pub text: &'static str,
    /// Where it usually comes from.
    pub causes: &'static str,
    /// What helps.
    pub cures: &'static str,
}

const fn code(code: u32, text: &'static str, causes: &'static str, cures: &'static str) -> Code {
    Code { code, text, causes, cures }
}

/// All that are known, by number.
pub const CODES: &[Code] = &[
    code(1, "FASP error", "anything that has no number of its own", "read the client's log (-L DIR, -D)"),
    code(
        4,
        "No such file or directory",
        "a source does not exist, or a broken link is in a directory; in a download also a start answer without x-next-wire-file",
        "check the paths against the token's; if a proxy is on the way, see that it keeps x- fields",
    ),
    code(
        5,
        "Insufficient permissions",
        "403 to the start: the token is missing, ended, or for other paths; or a proxy forbids the target",
        "get a new token; run `doctor` with --proxy to see whose 403 it is",
    ),
    code(
        6,
        "Target must be a directory",
        "several sources and a destination that is a file",
        "end the destination in a directory",
    ),
    code(8, "[an argument that cannot be used]", "a file name with a line feed", "rename the file"),
    code(10, "Rate exceeds cap imposed by license", "-l is above what the licence allows", "lower -l"),
    code(
        11,
        "Internal error",
        "500 to the start; or TLS without -I or without -Y",
        "give both, certificate and key; look at the server's log",
    ),
    code(
        12,
        "[the remote program does not start]",
        "SSH lets the user in, but its shell does not run ascp; ascp does not fall back",
        "set the user's shell to aspshell and see that ascp is installed there; or force the fallback with -y F",
    ),
    code(
        13,
        "[control connection]",
        "the TCP connection of control was not made or broke",
        "run `doctor`; worth another try",
    ),
    code(
        14,
        "Error establishing HTTP session.  Non-aspera HTTP server?",
        "404 to the start: another web server has this port. On the nominal path: data by UDP does not get through",
        "check -t and what passes /aspera/ on; on the nominal path open UDP 33001 both ways",
    ),
    code(
        15,
        "[data connection]",
        "data by UDP does not get through",
        "open UDP 33001 both ways; try a smaller datagram with -Z 1200",
    ),
    code(
        16,
        "Connection lost",
        "20 s without a byte; a proxy that gathers bodies or closes idle connections; a PUT that was refused before its end",
        "have proxies stream and pass 102 on; see that refused uploads are read to their end; worth another try",
    ),
    code(
        19,
        "Authentication failure",
        "SSH refuses user, key or token; or a gateway found no token. ascp does not fall back",
        "check user, key and token",
    ),
    code(20, "Nothing to transfer", "the list of sources is empty, or all were left out", "check sources and filters"),
    code(25, "No space left on disk", "the disk or a quota is full at the receiving side", "make room"),
    code(
        27,
        "One or more files failed",
        "an upload was answered otherwise than 201, or a download otherwise than 200 with a length",
        "see the files that are missing; a proxy may have limited the size (413), cached or chunked the answer",
    ),
    code(28, "Cancelled by user", "somebody, or an operator of a gateway, ended it", "ask who did"),
    code(34, "Unauthorized", "the server does not let this user do this", "check user and token"),
    code(35, "Disk read error", "the sending disk fails", "check the disk and the share"),
    code(36, "Disk write error", "the receiving disk fails", "check the disk, the share and rights"),
    code(
        37,
        "Authorization failure",
        "the token has the wrong form, is for another key, or has ended",
        "get a new token; check that the clocks agree",
    ),
    code(
        39,
        "Peer aborted session",
        "the other side gave up: it drains, is full or lost its storage",
        "try later; look at the server's log, and at a gateway's limits",
    ),
    code(
        40,
        "Data transfer stalled, timed out",
        "control lives and no data comes: UDP is dropped after the start, often by a firewall with a short memory",
        "open UDP both ways for long; lower -l; worth another try",
    ),
    code(
        41,
        "File location is outside 'docroot' hierarchy",
        "the path leads out of what the user may see, or a server named a file with ..",
        "give paths below the user's root",
    ),
    code(
        42,
        "File or directory already exists",
        "the target is there and may not be replaced",
        "use another name, or let it be overwritten",
    ),
    code(
        44,
        "[the transfer was not begun]",
        "no control by SSH and -y 0; or UDP data could not be begun",
        "open the ports, or allow the fallback with -y 1; worth another try",
    ),
    code(
        47,
        "Error establishing HTTP connection (check HTTP port and firewall)",
        "the fallback port refuses or drops, TLS fails (1.3 alone, no common cipher), a proxy wants a password or forbids, or the answer was 429 or 5xx",
        "run `doctor`, with --proxy if there is one; clients do not try this again by themselves",
    ),
    code(50, "Invalid configuration", "the server's or the client's configuration is wrong", "check aspera.conf"),
    code(
        51,
        "Remote host is not who we expected",
        "the host key is another than the one given",
        "check the fingerprint, and who answers",
    ),
    code(
        52,
        "File start validation failed",
        "a validation at the server said no before the file",
        "ask who runs the validation",
    ),
    code(
        53,
        "File stop validation failed",
        "a validation at the server said no after the file",
        "ask who runs the validation",
    ),
    code(
        54,
        "File threshold validation failed",
        "a validation at the server said no within the file",
        "ask who runs the validation",
    ),
    code(
        58,
        "Session aborted due to validation error(s)",
        "a validation, or a gateway that does not let a name or a request pass",
        "look at the server's log for the reason",
    ),
    code(
        59,
        "Remote storage errored",
        "the object storage behind the server fails",
        "check the storage and its credentials",
    ),
];

/// What is known of a number.
pub fn code_of(code: u32) -> Option<&'static Code> {
    CODES.iter().find(|known| known.code == code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::client::text_of;

    #[test]
    fn the_numbers_rise_and_say_what_the_client_says() {
        assert!(CODES.windows(2).all(|pair| pair[0].code < pair[1].code));
        for known in CODES {
            let said = text_of(known.code);
            assert!(said == "Undefined" || said == known.text, "{}: {said}", known.code);
            assert!(!known.causes.is_empty() && !known.cures.is_empty());
        }
    }
}
