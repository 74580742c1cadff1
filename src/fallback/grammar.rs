//! The only requests that pass. Pure, on raw bytes (docs/protocol.md, "Requests").
//!
//! What is not of one of these forms never reaches a node, whatever a node would make of it. The
//! target itself is not rewritten: it goes on byte for byte.

use std::net::Ipv6Addr;

use crate::telemetry::{Operation, Reason};

/// A session's id: the UUID in the path. It is the session's credential, so it has no `Display`;
/// what may be shown is [`super::session::Session::label`].
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId(u128);

impl SessionId {
    /// Reads a UUID as the client writes it: lower case, with hyphens.
    pub fn parse(text: &[u8]) -> Option<SessionId> {
        if text.len() != 36 {
            return None;
        }
        let mut value: u128 = 0;
        for (i, byte) in text.iter().enumerate() {
            let digit = match (i, byte) {
                (8 | 13 | 18 | 23, b'-') => continue,
                (8 | 13 | 18 | 23, _) => return None,
                (_, b'0'..=b'9') => byte - b'0',
                (_, b'a'..=b'f') => byte - b'a' + 10,
                _ => return None,
            };
            value = value << 4 | u128::from(digit);
        }
        Some(SessionId(value))
    }

    /// The id of these bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> SessionId {
        SessionId(u128::from_be_bytes(bytes))
    }

    /// The id as bytes, to hash it.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

impl std::fmt::Debug for SessionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionId(..)")
    }
}

/// What one request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The operation in the path.
    pub operation: Operation,
    /// Whether it fetches (GET) rather than sends.
    pub fetches: bool,
    /// The session in the path.
    pub session: SessionId,
    /// The file or directory as it stands in the path, percent-encoded; empty for the others.
    pub name: Vec<u8>,
}

/// Reads method, target and Host; the reason is the word of the refusal.
pub fn parse(method: &[u8], target: &[u8], host: &[u8]) -> Result<Call, Reason> {
    let path = path_of(target, host)?;
    let rest = path.strip_prefix(b"/aspera/").ok_or(Reason::NotFound)?;
    let (scheme, rest) = split(rest)?;
    if !matches!(scheme, b"http" | b"https")
        || target.starts_with(b"http") && !target.starts_with(&[scheme, b"://"].concat())
    {
        return Err(Reason::NotFound);
    }
    let (session, rest) = split(rest)?;
    let session = SessionId::parse(session).ok_or(Reason::NotFound)?;
    let (operation, rest) = split(rest)?;
    let slash = rest.iter().rposition(|b| *b == b'/').ok_or(Reason::NotFound)?;
    let (argument, request) = (rest.get(..slash).unwrap_or_default(), rest.get(slash + 1..).unwrap_or_default());
    request.strip_suffix(b".ashttp").and_then(SessionId::parse).ok_or(Reason::NotFound)?;
    let (operation, methods): (_, &[&[u8]]) = match (operation, argument) {
        (b"session_start", b"OOB") => (Operation::Start, &[b"POST"]),
        (b"session_end", b"OOB") => (Operation::End, &[b"POST"]),
        (b"mgmt_msg", b"") => (Operation::Message, &[b"PUT"]),
        (b"file", _) => (Operation::File, &[b"PUT", b"GET"]),
        (b"create_dir", _) => (Operation::CreateDir, &[b"PUT"]),
        _ => return Err(Reason::NotFound),
    };
    if !methods.contains(&method) {
        return Err(Reason::MethodNotAllowed);
    }
    let name = if matches!(operation, Operation::File | Operation::CreateDir) { argument } else { b"" };
    if matches!(operation, Operation::File | Operation::CreateDir) {
        check_name(name)?;
    }
    Ok(Call { operation, fetches: method == b"GET", session, name: name.to_vec() })
}

/// The path of a target in absolute form, as the client sends it, or in origin form, as a proxy in
/// between may leave it. The authority must be what Host says.
fn path_of<'t>(target: &'t [u8], host: &[u8]) -> Result<&'t [u8], Reason> {
    if target.starts_with(b"/") {
        return Ok(target);
    }
    let rest = target.strip_prefix(b"https://").or_else(|| target.strip_prefix(b"http://")).ok_or(Reason::NotFound)?;
    let slash = rest.iter().position(|b| *b == b'/').ok_or(Reason::NotFound)?;
    let (authority, path) = rest.split_at(slash);
    if authority == host && is_authority(authority) { Ok(path) } else { Err(Reason::BadRequest) }
}

/// `name:port`, `a.b.c.d:port` or `[v6]:port`; ASCII only, for names beyond it have no one form.
fn is_authority(bytes: &[u8]) -> bool {
    let colon = bytes.iter().rposition(|b| *b == b':').unwrap_or(bytes.len());
    let (host, port) = (bytes.get(..colon).unwrap_or_default(), bytes.get(colon + 1..).unwrap_or(b"80"));
    let inner = host.strip_prefix(b"[").and_then(|h| h.strip_suffix(b"]"));
    let sound = match inner {
        Some(v6) => std::str::from_utf8(v6).is_ok_and(|v6| v6.parse::<Ipv6Addr>().is_ok()),
        None => host.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_')),
    };
    sound && !host.is_empty() && !port.is_empty() && port.len() <= 5 && port.iter().all(u8::is_ascii_digit)
}

fn split(bytes: &[u8]) -> Result<(&[u8], &[u8]), Reason> {
    let slash = bytes.iter().position(|b| *b == b'/').ok_or(Reason::NotFound)?;
    Ok((bytes.get(..slash).unwrap_or_default(), bytes.get(slash + 1..).unwrap_or_default()))
}

/// A name in the path: unreserved characters, `/` between segments, `%xx` for the rest. No segment
/// is `.` or `..`, in whatever spelling and between backslashes too, no slash is encoded, and of the
/// controls only TAB.
fn check_name(name: &[u8]) -> Result<(), Reason> {
    if name.is_empty() {
        return Err(Reason::NotFound);
    }
    for segment in name.split(|b| *b == b'/') {
        // A `%` always begins an escape, so this is a backslash, which some nodes take for a slash.
        let parts = String::from_utf8_lossy(segment).to_ascii_lowercase();
        if parts.split("%5c").any(|part| matches!(part, "." | "..")) {
            return Err(Reason::BadName);
        }
        let mut bytes = segment.iter();
        while let Some(byte) = bytes.next() {
            if *byte != b'%' {
                if !(byte.is_ascii_alphanumeric() || b"-_.~".contains(byte)) {
                    return Err(Reason::BadRequest);
                }
                continue;
            }
            let (Some(high), Some(low)) = (bytes.next().and_then(hex), bytes.next().and_then(hex)) else {
                return Err(Reason::BadRequest);
            };
            match high << 4 | low {
                b'\t' => {}
                b'/' | b'.' | 0..=0x1f | 0x7f => return Err(Reason::BadName),
                _ => {}
            }
        }
    }
    Ok(())
}

fn hex(byte: &u8) -> Option<u8> {
    char::from(*byte).to_digit(16).and_then(|d| u8::try_from(d).ok())
}

/// A name as people read it: decoded, with what is no UTF-8 replaced and controls made visible.
pub fn readable(name: &[u8]) -> String {
    let mut out = Vec::with_capacity(name.len());
    let mut bytes = name.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => match (bytes.next().and_then(hex), bytes.next().and_then(hex)) {
                (Some(high), Some(low)) => out.push(high << 4 | low),
                _ => out.push(b'?'),
            },
            _ => out.push(*byte),
        }
    }
    String::from_utf8_lossy(&out).chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const S: &str = "26dddaf7-5742-448f-951e-8c3882329a83";
    const R: &str = "177c9158-c9d7-4373-836d-9ac9bc2848c9";

    fn call(method: &str, tail: &str) -> Result<Call, Reason> {
        let target = format!("https://h.example:8443/aspera/https/{S}/{tail}/{R}.ashttp");
        parse(method.as_bytes(), target.as_bytes(), b"h.example:8443")
    }

    #[test]
    fn every_form_of_the_client_passes() {
        for (method, tail, operation) in [
            ("POST", "session_start/OOB", Operation::Start),
            ("PUT", "file/d/sp%20ace%c3%a9", Operation::File),
            ("GET", "file/-x~._", Operation::File),
            ("PUT", "file/tab%09", Operation::File),
            ("GET", "file/a%5c..b%5c...", Operation::File),
            ("PUT", "create_dir/a/b", Operation::CreateDir),
            ("PUT", "mgmt_msg/", Operation::Message),
            ("POST", "session_end/OOB", Operation::End),
        ] {
            assert_eq!(call(method, tail).unwrap().operation, operation, "{tail}");
        }
    }

    #[test]
    fn origin_form_passes_and_the_scheme_word_must_be_the_targets() {
        let origin = format!("/aspera/http/{S}/session_end/OOB/{R}.ashttp");
        assert!(parse(b"POST", origin.as_bytes(), b"h").is_ok());
        let mixed = format!("https://h:1/aspera/http/{S}/session_end/OOB/{R}.ashttp");
        assert_eq!(parse(b"POST", mixed.as_bytes(), b"h:1"), Err(Reason::NotFound));
    }

    #[test]
    fn everything_else_is_refused_by_its_reason() {
        use Reason::*;
        for (method, tail, reason) in [
            ("GET", "session_start/OOB", MethodNotAllowed),
            ("DELETE", "file/x", MethodNotAllowed),
            ("put", "file/x", MethodNotAllowed),
            ("PUT", "file/", NotFound),
            ("PUT", "files/x", NotFound),
            ("POST", "session_start/oob", NotFound),
            ("PUT", "mgmt_msg/x", NotFound),
            ("GET", "file/../etc/passwd", BadName),
            ("GET", "file/a/%2e%2e/b", BadName),
            ("GET", "file/a%2fb", BadName),
            ("GET", "file/..%5cetc", BadName),
            ("PUT", "file/a%5C..%5cb", BadName),
            ("GET", "file/a/b%5c.", BadName),
            ("PUT", "file/a%0db", BadName),
            ("PUT", "file/a%7f", BadName),
            ("PUT", "file/a?b", BadRequest),
            ("PUT", "file/a%zz", BadRequest),
            ("PUT", "file/a%2", BadRequest),
        ] {
            assert_eq!(call(method, tail), Err(reason), "{method} {tail}");
        }
        for target in ["/", "*", "http://h:1/", "ftp://h:1/aspera/ftp/x", "h:1", "http://h:1"] {
            assert_eq!(parse(b"GET", target.as_bytes(), b"h:1"), Err(NotFound), "{target}");
        }
        for authority in ["u@h:1", "h:1:2", "h:x", "", ":1", "[zz]:1", "[]:1", "[:::]:1", "[1.2.3.4]:1", "n\u{f6}de:1"]
        {
            let target = format!("http://{authority}/aspera/http/{S}/session_end/OOB/{R}.ashttp");
            assert_eq!(parse(b"POST", target.as_bytes(), authority.as_bytes()), Err(BadRequest), "{authority}");
        }
        let other_host = format!("http://a:1/aspera/http/{S}/session_end/OOB/{R}.ashttp");
        assert_eq!(parse(b"POST", other_host.as_bytes(), b"b:1"), Err(BadRequest));
    }

    #[test]
    fn an_upper_case_uuid_is_not_one_of_the_clients() {
        assert!(SessionId::parse(S.to_uppercase().as_bytes()).is_none());
        assert!(SessionId::parse(S.replace('-', "0").as_bytes()).is_none());
    }

    proptest! {
        #[test]
        fn no_target_makes_the_grammar_panic(method in "[A-Z]{0,8}", target in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(method.as_bytes(), &target, b"h:1");
        }

        #[test]
        fn near_misses_do_not_panic_and_names_come_through(name in "[a-zA-Z0-9~_-]{1,20}(/[a-zA-Z0-9~_-]{1,20}){0,3}") {
            prop_assert_eq!(call("PUT", &format!("file/{name}")).unwrap().name, name.into_bytes());
        }

        #[test]
        fn a_readable_name_holds_no_control(name in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(!readable(&name).chars().any(char::is_control));
        }
    }
}
