//! A request or answer head, kept as the bytes that came in.

use super::percent;

/// The bytes of a head, from the first line to the empty one.
#[derive(Debug, Clone, Default)]
pub(super) struct Head {
    raw: Vec<u8>,
}

impl Head {
    /// Takes the bytes of a head, the closing empty line included.
    pub(super) fn new(raw: Vec<u8>) -> Head {
        Head { raw }
    }

    /// The bytes as they were received.
    pub(super) fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// The request line or status line.
    pub(super) fn line(&self) -> &[u8] {
        lines(&self.raw).next().unwrap_or_default()
    }

    /// All fields in order. Leading blanks of a value are dropped; trailing ones belong to it.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        lines(&self.raw).skip(1).filter_map(|line| {
            let colon = line.iter().position(|&b| b == b':')?;
            let (name, value) = (line.get(..colon)?, line.get(colon + 1..)?);
            let blanks = value.iter().take_while(|&&b| b == b' ' || b == b'\t');
            Some((name, value.get(blanks.count()..)?))
        })
    }

    /// The value of a field, whatever its case; of two equal fields the last one counts.
    pub(super) fn field(&self, name: &str) -> Option<&[u8]> {
        self.fields().filter(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes())).map(|(_, v)| v).last()
    }

    /// The value of a field as a number: all digits, blanks at the end allowed.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        let text = self.field(name)?.trim_ascii_end();
        if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
            return None;
        }
        std::str::from_utf8(text).ok()?.parse().ok()
    }
}

fn lines(raw: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = raw;
    std::iter::from_fn(move || {
        let end = find(rest, b"\r\n")?;
        let line = rest.get(..end)?;
        rest = rest.get(end + 2..)?;
        (!line.is_empty()).then_some(line)
    })
}

/// Where `needle` begins in `hay`.
pub(super) fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len()).position(|w| w == needle)
}

/// What a request target says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// The session id in the path.
    pub session: String,
    /// `session_start`, `file`, `create_dir`, `mgmt_msg` or `session_end`.
    pub operation: String,
    /// The file name, decoded.
    pub name: Vec<u8>,
}

impl Target {
    /// Reads an absolute-form or origin-form target; `None` for anything that is not of this protocol.
    pub(super) fn parse(target: &[u8]) -> Option<Target> {
        let path = match find(target, b"://") {
            Some(at) if !target.starts_with(b"/") => {
                let rest = target.get(at + 3..)?;
                rest.get(rest.iter().position(|&b| b == b'/')?..)?
            }
            _ => target,
        };
        let rest = path.strip_prefix(b"/aspera/")?;
        let mut parts = rest.splitn(4, |&b| b == b'/');
        let scheme = parts.next()?;
        if scheme != b"http" && scheme != b"https" {
            return None;
        }
        let session = word(parts.next()?)?;
        let operation = word(parts.next()?)?;
        let tail = parts.next()?;
        let end = tail.iter().rposition(|&b| b == b'/')?;
        tail.get(end..)?.strip_suffix(b".ashttp")?;
        let name = percent::decode(tail.get(..end)?).into_owned();
        Some(Target { session, operation, name })
    }
}

fn word(text: &[u8]) -> Option<String> {
    let plain = !text.is_empty() && text.len() <= 128 && text.iter().all(u8::is_ascii_graphic);
    plain.then(|| String::from_utf8_lossy(text).into_owned())
}

/// The text of the first `<tag>` up to the next `</tag>`. Nothing in these bodies is escaped, so this is a scan, not XML.
pub(super) fn element<'a>(body: &'a [u8], tag: &str) -> Option<&'a [u8]> {
    elements(body, tag).next()
}

/// The texts of all `<tag>` elements in order.
pub(super) fn elements<'a>(body: &'a [u8], tag: &str) -> impl Iterator<Item = &'a [u8]> {
    let open = format!("<{tag}>").into_bytes();
    let close = format!("</{tag}>").into_bytes();
    let mut rest = body;
    std::iter::from_fn(move || {
        let from = find(rest, &open)? + open.len();
        let tail = rest.get(from..)?;
        let end = find(tail, &close)?;
        rest = tail.get(end + close.len()..)?;
        tail.get(..end)
    })
}
