//! The grammar of a request head, on raw bytes. Pure: no socket, no clock.
//!
//! Stricter than RFC 9112 where leniency is what smuggling lives on: one `Host`, at most one
//! `Content-Length` of plain digits, no folded line, no bare CR or LF, no space in the target; a
//! `Transfer-Encoding` where a proxy needs it, and then `chunked` alone. Values are bytes; leading
//! blanks are skipped and trailing blanks kept, because a file name may end in one
//! (docs/protocol.md, "Header fields").

use std::ops::Range;

use bytes::Bytes;

use super::fields::{FieldProblem, Fields, Lines, is_token, slice};

/// The largest head, request line included, in bytes. The longest that a client needs is about
/// 10 KiB (docs/protocol.md, "Requests").
pub const MAX_HEAD: usize = 32 * 1024;

/// The most fields a head may have; the client sends about a dozen.
pub const MAX_FIELDS: usize = 100;

/// What a request head may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grammar {
    /// For a server of the fallback: HTTP/1.1 and no `Transfer-Encoding`.
    Server,
    /// For a proxy of any client: HTTP/1.0 as well, in which `Host` may be missing, and chunked bodies in HTTP/1.1.
    Proxy,
}

/// What is wrong with a head. After any of these the framing cannot be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadProblem {
    /// Not `METHOD SP TARGET SP HTTP/1.1`; a proxy takes HTTP/1.0 too.
    #[error("the request line is malformed")]
    RequestLine,
    /// A CR without LF, or the other way round.
    #[error("a line ends in a bare CR or LF")]
    LineEnd,
    /// A line continues the one before it.
    #[error("a field is folded over two lines")]
    Folded,
    /// No colon, or a name that is no token.
    #[error("a field has no proper name")]
    FieldName,
    /// More than [`MAX_FIELDS`].
    #[error("there are more than {MAX_FIELDS} fields")]
    TooManyFields,
    /// More than [`MAX_HEAD`] bytes.
    #[error("the head is larger than {MAX_HEAD} bytes")]
    TooLarge,
    /// `Host` is missing or there are several.
    #[error("there is not exactly one Host")]
    Host,
    /// Several lengths, or one that is not plain digits below 2^63.
    #[error("the Content-Length is unusable")]
    ContentLength,
    /// The fallback has no transfer codings in requests; a proxy takes `chunked`, alone and without a length.
    #[error("there is a Transfer-Encoding")]
    TransferEncoding,
}

impl From<FieldProblem> for HeadProblem {
    fn from(problem: FieldProblem) -> HeadProblem {
        match problem {
            FieldProblem::LineEnd => HeadProblem::LineEnd,
            FieldProblem::Folded => HeadProblem::Folded,
            FieldProblem::Name => HeadProblem::FieldName,
            FieldProblem::TooMany => HeadProblem::TooManyFields,
        }
    }
}

/// One request head.
#[derive(Debug, Clone)]
pub struct Head {
    raw: Bytes,
    method: Range<usize>,
    target: Range<usize>,
    minor: u8,
    fields: Fields,
    content_length: Option<u64>,
    chunked: bool,
    has_control: bool,
}

impl Head {
    /// Parses a head that ends in its empty line, as a server.
    pub fn parse(raw: Bytes) -> Result<Head, HeadProblem> {
        Head::parse_as(raw, Grammar::Server)
    }

    /// Parses a head that ends in its empty line.
    pub fn parse_as(raw: Bytes, grammar: Grammar) -> Result<Head, HeadProblem> {
        if raw.len() > MAX_HEAD {
            return Err(HeadProblem::TooLarge);
        }
        let mut lines = Lines::of(&raw);
        let line = lines.next()?.ok_or(HeadProblem::RequestLine)?;
        let (method, target, minor) = request_line(&raw, line)?;
        if minor == 0 && grammar == Grammar::Server {
            return Err(HeadProblem::RequestLine);
        }
        let fields = Fields::parse(&raw, lines, MAX_FIELDS)?;
        let chunked = fields.is_chunked().map_err(|()| HeadProblem::TransferEncoding)?;
        let content_length = fields.content_length().map_err(|()| HeadProblem::ContentLength)?;
        if chunked && (grammar == Grammar::Server || minor == 0 || content_length.is_some()) {
            return Err(HeadProblem::TransferEncoding);
        }
        match fields.all("host").count() {
            1 => {}
            0 if minor == 0 => {}
            _ => return Err(HeadProblem::Host),
        }
        let has_control = fields.has_control();
        Ok(Head { raw, method, target, minor, fields, content_length, chunked, has_control })
    }

    /// The method, in the case it was sent.
    pub fn method(&self) -> &[u8] {
        slice(&self.raw, &self.method)
    }

    /// The request target, byte for byte.
    pub fn target(&self) -> &[u8] {
        slice(&self.raw, &self.target)
    }

    /// The minor version: 1, or 0 for HTTP/1.0.
    pub fn minor(&self) -> u8 {
        self.minor
    }

    /// The length of the body in bytes; without the field there is none, unless the body is chunked.
    pub fn content_length(&self) -> Option<u64> {
        self.content_length
    }

    /// Whether the body comes in chunks.
    pub fn is_chunked(&self) -> bool {
        self.chunked
    }

    /// The last field of this name, as it counts for the client's own matching; trailing blanks kept.
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        self.fields.all(name).next_back()
    }

    /// All fields in order, names in the case they were sent, trailing blanks of values kept.
    pub fn fields(&self) -> impl DoubleEndedIterator<Item = (&[u8], &[u8])> {
        self.fields.iter()
    }

    /// The elements of a comma-separated list, from all fields of this name.
    pub fn tokens(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.fields.tokens(name)
    }

    /// Whether a comma-separated list has this element, in whatever case and in whichever field of this name.
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.fields.has_token(name, token)
    }

    /// Whether a value holds a control character other than TAB. The framing is sound all the same.
    pub fn has_control(&self) -> bool {
        self.has_control
    }

    /// The head as it came, empty line included.
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }
}

/// Method, target and minor version.
fn request_line(raw: &[u8], line: Range<usize>) -> Result<(Range<usize>, Range<usize>, u8), HeadProblem> {
    let bytes = slice(raw, &line);
    let first = bytes.iter().position(|b| *b == b' ').ok_or(HeadProblem::RequestLine)?;
    let last = bytes.iter().rposition(|b| *b == b' ').ok_or(HeadProblem::RequestLine)?;
    let (method, target) = (line.start..line.start + first, line.start + first + 1..line.start + last);
    let minor = match bytes.get(last + 1..) {
        Some(b"HTTP/1.1") => 1,
        Some(b"HTTP/1.0") => 0,
        _ => return Err(HeadProblem::RequestLine),
    };
    let sound = first < last
        && first > 0
        && slice(raw, &method).iter().all(|b| is_token(*b))
        && !target.is_empty()
        && slice(raw, &target).iter().all(|b| *b > b' ' && *b != 0x7f);
    if sound { Ok((method, target, minor)) } else { Err(HeadProblem::RequestLine) }
}

#[cfg(test)]
mod tests;
