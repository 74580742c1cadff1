//! What the bodies of session_start and session_end say. Pure scans: nothing in these bodies is
//! XML-escaped, so a parser would fail on sound ones (docs/protocol.md, "Session bodies").

use crate::telemetry::Direction;

/// Enough of a start body to hold id, operation and the longest token that the client sends
/// (about 32 KiB), in bytes.
pub const START_PREFIX: usize = 40 * 1024;

/// The decisive beginning of a start body.
#[derive(Debug, PartialEq, Eq)]
pub struct Start<'b> {
    /// The session id as the body has it.
    pub id: &'b [u8],
    /// Put or get.
    pub direction: Direction,
    /// The token; empty when there is none.
    pub token: &'b [u8],
}

/// Reads id, operation and token, which stand first and in this order. A value may hold anything,
/// so the first `<token>` up to the next `</token>` is the token.
pub fn start(body: &[u8]) -> Option<Start<'_>> {
    let rest = body.trim_ascii_start().strip_prefix(b"<session>")?;
    let (id, rest) = leading(rest, b"<id>", b"</id>")?;
    let (operation, rest) = leading(rest, b"<operation>", b"</operation>")?;
    let (token, _) = leading(rest, b"<token>", b"</token>")?;
    let direction = match operation {
        b"put" => Direction::Upload,
        b"get" => Direction::Download,
        _ => return None,
    };
    Some(Start { id, direction, token })
}

/// The transfer user of a whole start body. It stands after everything that a user can name freely,
/// so the last one counts.
pub fn user(body: &[u8]) -> Option<String> {
    let at = rfind(body, b"<user>")?;
    let rest = body.get(at + 6..)?;
    let end = find(rest, b"</user>")?;
    let user = rest.get(..end.min(256))?;
    (!user.is_empty()).then(|| String::from_utf8_lossy(user).into_owned())
}

/// How many sources a whole start body names.
pub fn sources(body: &[u8]) -> u64 {
    body.windows(8).filter(|w| *w == b"<source>").count() as u64
}

/// How the client saw its session end.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct End {
    /// Whether the client says DONE.
    pub done: bool,
    /// The client's error code; 0 is good.
    pub code: u32,
    /// Files moved.
    pub files: u64,
    /// Files that failed.
    pub files_failed: u64,
    /// Bytes moved.
    pub bytes: u64,
}

/// Reads the body of a session_end; what is missing counts as nothing, and no reason as an error.
pub fn end(body: &[u8]) -> End {
    let text = |tag: &str| {
        let open = format!("<{tag}>");
        let at = find(body, open.as_bytes())? + open.len();
        let rest = body.get(at..)?;
        let value = rest.get(..rest.iter().position(|b| *b == b'<')?)?;
        std::str::from_utf8(value).ok().map(str::trim)
    };
    let number = |tag: &str| text(tag).and_then(|t| t.parse().ok()).unwrap_or(0);
    End {
        done: text("reason") == Some("DONE"),
        code: u32::try_from(number("code")).unwrap_or(u32::MAX),
        files: number("files"),
        files_failed: number("files_failed"),
        bytes: number("bytes"),
    }
}

/// The value of an element that must come next, white space apart, and what follows it.
fn leading<'b>(body: &'b [u8], open: &[u8], close: &[u8]) -> Option<(&'b [u8], &'b [u8])> {
    let rest = body.trim_ascii_start().strip_prefix(open)?;
    let at = find(rest, close)?;
    Some((rest.get(..at)?, rest.get(at + close.len()..)?))
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}

fn rfind(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).rposition(|w| w == needle)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BODY: &[u8] = b"<session>\n\n  <id>26dd</id>\n  <operation>put</operation>\n\n  <token>ATM3_x</token>\n\n  <source>a<user>evil</user></source>\n  <user>xfer</user>\n</session>\n";

    #[test]
    fn the_clients_start_is_read() {
        assert_eq!(start(BODY), Some(Start { id: b"26dd", direction: Direction::Upload, token: b"ATM3_x" }));
        assert_eq!(user(BODY).as_deref(), Some("xfer"));
    }

    #[test]
    fn a_token_that_holds_markup_ends_at_the_next_end_tag() {
        let body = b"<session><id>1</id><operation>get</operation><token>a<token>&\"b</token></token>";
        assert_eq!(start(body).unwrap().token, b"a<token>&\"b");
    }

    #[test]
    fn a_source_named_like_a_token_does_not_count() {
        assert_eq!(start(b"<session><id>1</id><operation>put</operation><source><token>x</token></source>"), None);
        assert_eq!(start(b"<session><token>x</token><id>1</id><operation>put</operation>"), None);
        assert_eq!(start(b"<session><id>1</id><operation>move</operation><token></token>"), None);
    }

    #[test]
    fn an_end_is_read_and_nonsense_counts_as_an_error() {
        let body = b"<session>\n <reason>DONE</reason>\n <code>0</code>\n <files_attempted>3</files_attempted><files>2</files><files_failed>1</files_failed><bytes>250000</bytes>";
        assert_eq!(end(body), End { done: true, code: 0, files: 2, files_failed: 1, bytes: 250_000 });
        assert_eq!(end(b"\x00<reason>"), End::default());
    }

    proptest! {
        #[test]
        fn no_body_makes_a_scan_panic(body in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = (start(&body).is_some(), user(&body), end(&body));
        }

        #[test]
        fn any_token_without_its_end_tag_comes_out_whole(token in "[^<]{0,200}") {
            let body = format!("<session>\n\n  <id>i</id>\n  <operation>put</operation>\n\n  <token>{token}</token>\n");
            prop_assert_eq!(start(body.as_bytes()).unwrap().token, token.as_bytes());
        }
    }
}
