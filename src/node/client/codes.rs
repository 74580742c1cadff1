//! What a client's user reads for an error code (docs/protocol.md, "Answers").

/// The client's own text; codes without one read "Undefined".
pub fn text_of(code: u32) -> &'static str {
    match code {
        0 => "no error",
        1 => "FASP error",
        4 => "No such file or directory",
        5 => "Insufficient permissions",
        6 => "Target must be a directory",
        10 => "Rate exceeds cap imposed by license",
        11 => "Internal error",
        14 => "Error establishing HTTP session.  Non-aspera HTTP server?",
        16 => "Connection lost",
        19 => "Authentication failure",
        20 => "Nothing to transfer",
        25 => "No space left on disk",
        27 => "One or more files failed",
        28 => "Cancelled by user",
        34 => "Unauthorized",
        35 => "Disk read error",
        36 => "Disk write error",
        37 => "Authorization failure",
        39 => "Peer aborted session",
        40 => "Data transfer stalled, timed out",
        41 => "File location is outside 'docroot' hierarchy",
        42 => "File or directory already exists",
        47 => "Error establishing HTTP connection (check HTTP port and firewall)",
        50 => "Invalid configuration",
        51 => "Remote host is not who we expected",
        58 => "Session aborted due to validation error(s)",
        59 => "Remote storage errored",
        _ => "Undefined",
    }
}
