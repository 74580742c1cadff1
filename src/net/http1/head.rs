//! The grammar of a request head, on raw bytes. Pure: no socket, no clock.
//!
//! Stricter than RFC 9112 where leniency is what smuggling lives on: one `Host`, at most one
//! `Content-Length` of plain digits, no `Transfer-Encoding`, no folded line, no bare CR or LF, no
//! space in the target. Values are bytes; leading blanks are skipped and trailing blanks kept,
//! because a file name may end in one (docs/protocol.md, "Header fields").

use std::ops::Range;

use bytes::Bytes;

/// The largest head, request line included, in bytes. The longest that a client needs is about
/// 10 KiB (docs/protocol.md, "Requests").
pub const MAX_HEAD: usize = 32 * 1024;

/// The most fields a head may have; the client sends about a dozen.
pub const MAX_FIELDS: usize = 100;

/// What is wrong with a head. After any of these the framing cannot be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadProblem {
    /// Not `METHOD SP TARGET SP HTTP/1.1`.
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
    /// The fallback has no transfer codings in requests.
    #[error("there is a Transfer-Encoding")]
    TransferEncoding,
}

/// One request head.
#[derive(Debug, Clone)]
pub struct Head {
    raw: Bytes,
    method: Range<usize>,
    target: Range<usize>,
    fields: Vec<(Range<usize>, Range<usize>)>,
    content_length: Option<u64>,
    has_control: bool,
}

impl Head {
    /// Parses a head that ends in its empty line.
    pub fn parse(raw: Bytes) -> Result<Head, HeadProblem> {
        if raw.len() > MAX_HEAD {
            return Err(HeadProblem::TooLarge);
        }
        let mut lines = Lines { bytes: &raw, at: 0 };
        let line = lines.next()?.ok_or(HeadProblem::RequestLine)?;
        let (method, target) = request_line(&raw, line)?;
        let mut head = Head {
            raw: raw.clone(),
            method,
            target,
            fields: Vec::with_capacity(16),
            content_length: None,
            has_control: false,
        };
        let mut hosts = 0;
        loop {
            let line = lines.next()?.ok_or(HeadProblem::LineEnd)?;
            if line.is_empty() {
                break;
            }
            if head.fields.len() == MAX_FIELDS {
                return Err(HeadProblem::TooManyFields);
            }
            let (name, value) = field_line(&raw, line)?;
            let bytes = slice(&raw, &value);
            head.has_control |= bytes.iter().any(|b| is_control(*b));
            match slice(&raw, &name) {
                n if n.eq_ignore_ascii_case(b"host") => hosts += 1,
                n if n.eq_ignore_ascii_case(b"transfer-encoding") => {
                    return Err(HeadProblem::TransferEncoding);
                }
                n if n.eq_ignore_ascii_case(b"content-length") => {
                    if head.content_length.is_some() {
                        return Err(HeadProblem::ContentLength);
                    }
                    head.content_length = Some(length(bytes)?);
                }
                _ => {}
            }
            head.fields.push((name, value));
        }
        if lines.at != raw.len() {
            return Err(HeadProblem::LineEnd);
        }
        if hosts != 1 {
            return Err(HeadProblem::Host);
        }
        Ok(head)
    }

    /// The method, in the case it was sent.
    pub fn method(&self) -> &[u8] {
        slice(&self.raw, &self.method)
    }

    /// The request target, byte for byte.
    pub fn target(&self) -> &[u8] {
        slice(&self.raw, &self.target)
    }

    /// The length of the body in bytes; without the field there is none.
    pub fn content_length(&self) -> Option<u64> {
        self.content_length
    }

    /// The last field of this name, as it counts for the client's own matching; trailing blanks kept.
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        self.fields().rev().find(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes())).map(|(_, v)| v)
    }

    /// All fields in order, names in the case they were sent, trailing blanks of values kept.
    pub fn fields(&self) -> impl DoubleEndedIterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|(n, v)| (slice(&self.raw, n), slice(&self.raw, v)))
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

/// Ranges made by the parser always fit; the fallback keeps the type total.
fn slice<'a>(raw: &'a [u8], range: &Range<usize>) -> &'a [u8] {
    raw.get(range.clone()).unwrap_or_default()
}

fn is_control(b: u8) -> bool {
    (b < 0x20 && b != b'\t') || b == 0x7f
}

fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Lines<'_> {
    /// The range of the next line without its CR LF; `None` at the end.
    fn next(&mut self) -> Result<Option<Range<usize>>, HeadProblem> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(None);
        }
        let end = rest.iter().position(|b| matches!(b, b'\r' | b'\n')).ok_or(HeadProblem::LineEnd)?;
        if rest.get(end..end + 2) != Some(b"\r\n") {
            return Err(HeadProblem::LineEnd);
        }
        let line = self.at..self.at + end;
        self.at += end + 2;
        Ok(Some(line))
    }
}

fn request_line(raw: &[u8], line: Range<usize>) -> Result<(Range<usize>, Range<usize>), HeadProblem> {
    let bytes = slice(raw, &line);
    let first = bytes.iter().position(|b| *b == b' ').ok_or(HeadProblem::RequestLine)?;
    let last = bytes.iter().rposition(|b| *b == b' ').ok_or(HeadProblem::RequestLine)?;
    let (method, target) = (line.start..line.start + first, line.start + first + 1..line.start + last);
    let sound = first < last
        && first > 0
        && slice(raw, &method).iter().all(|b| is_token(*b))
        && !target.is_empty()
        && slice(raw, &target).iter().all(|b| *b > b' ' && *b != 0x7f)
        && bytes.get(last + 1..) == Some(b"HTTP/1.1");
    if sound { Ok((method, target)) } else { Err(HeadProblem::RequestLine) }
}

fn field_line(raw: &[u8], line: Range<usize>) -> Result<(Range<usize>, Range<usize>), HeadProblem> {
    let bytes = slice(raw, &line);
    if matches!(bytes.first(), Some(b' ' | b'\t')) {
        return Err(HeadProblem::Folded);
    }
    let colon = bytes.iter().position(|b| *b == b':').ok_or(HeadProblem::FieldName)?;
    let name = line.start..line.start + colon;
    if name.is_empty() || !slice(raw, &name).iter().all(|b| is_token(*b)) {
        return Err(HeadProblem::FieldName);
    }
    let blanks = bytes.iter().skip(colon + 1).take_while(|b| matches!(b, b' ' | b'\t')).count();
    Ok((name, line.start + colon + 1 + blanks..line.end))
}

fn length(value: &[u8]) -> Result<u64, HeadProblem> {
    let digits = value.trim_ascii_end();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(HeadProblem::ContentLength);
    }
    std::str::from_utf8(digits)
        .ok()
        .and_then(|d| d.parse::<i64>().ok())
        .and_then(|n| u64::try_from(n).ok())
        .ok_or(HeadProblem::ContentLength)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &[u8]) -> Result<Head, HeadProblem> {
        Head::parse(Bytes::copy_from_slice(text))
    }

    #[test]
    fn a_head_of_the_client_is_kept_byte_for_byte() {
        let head = parse(b"PUT http://h:1/a//b%c3 HTTP/1.1\r\nHost: h:1\r\nx-next-wire-file: a \xff b  \r\nContent-Length: 12\r\n\r\n").unwrap();
        assert_eq!(head.method(), b"PUT");
        assert_eq!(head.target(), b"http://h:1/a//b%c3");
        assert_eq!(head.field("X-Next-Wire-File"), Some(&b"a \xff b  "[..]));
        assert_eq!(head.content_length(), Some(12));
        assert!(!head.has_control());
    }

    #[test]
    fn the_last_of_two_equal_fields_counts() {
        let head = parse(b"GET / HTTP/1.1\r\nHost: h\r\na: 1\r\nA:2\r\n\r\n").unwrap();
        assert_eq!(head.field("a"), Some(&b"2"[..]));
    }

    #[test]
    fn a_control_in_a_value_is_told_but_leaves_the_framing_sound() {
        for value in ["a\x07b", "a\x00b", "a\x7fb"] {
            assert!(
                parse(format!("GET / HTTP/1.1\r\nHost: h\r\nn: {value}\r\n\r\n").as_bytes()).unwrap().has_control()
            );
        }
        assert!(!parse(b"GET / HTTP/1.1\r\nHost: h\r\nn: a\tb\r\n\r\n").unwrap().has_control());
    }

    #[test]
    fn every_smuggling_form_is_refused() {
        use HeadProblem::*;
        let cases: &[(&[u8], HeadProblem)] = &[
            (b"GET / HTTP/1.1\nHost: h\r\n\r\n", LineEnd),
            (b"GET / HTTP/1.1\r\nHost: h\na: b\r\n\r\n", LineEnd),
            (b"GET / HTTP/1.1\r\nHost: h\r\na: b\rc\r\n\r\n", LineEnd),
            (b"GET / HTTP/1.1\r\nHost: h\r\n folded\r\n\r\n", Folded),
            (b"GET / HTTP/1.1\r\nHost: h\r\nno colon\r\n\r\n", FieldName),
            (b"GET / HTTP/1.1\r\nHost : h\r\n\r\n", FieldName),
            (b"GET / HTTP/1.1\r\nHost: h\r\n: x\r\n\r\n", FieldName),
            (b"GET / HTTP/1.1\r\n\r\n", Host),
            (b"GET / HTTP/1.1\r\nHost: h\r\nhost: h\r\n\r\n", Host),
            (b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", ContentLength),
            (b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 1, 1\r\n\r\n", ContentLength),
            (b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: +1\r\n\r\n", ContentLength),
            (b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: \r\n\r\n", ContentLength),
            (b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 18446744073709451616\r\n\r\n", ContentLength),
            (b"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", TransferEncoding),
            (b"GET /a b HTTP/1.1\r\nHost: h\r\n\r\n", RequestLine),
            (b"GET  / HTTP/1.1\r\nHost: h\r\n\r\n", RequestLine),
            (b"GET / HTTP/1.0\r\nHost: h\r\n\r\n", RequestLine),
            (b"GET / HTTP/2\r\nHost: h\r\n\r\n", RequestLine),
            (b"GET /\x07 HTTP/1.1\r\nHost: h\r\n\r\n", RequestLine),
            (b"\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", RequestLine),
        ];
        for (text, problem) in cases {
            assert_eq!(parse(text).unwrap_err(), *problem, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn the_hundred_and_first_field_is_refused() {
        let head = |n: usize| format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "a: b\r\n".repeat(n - 1));
        assert!(parse(head(MAX_FIELDS).as_bytes()).is_ok());
        assert_eq!(parse(head(MAX_FIELDS + 1).as_bytes()).unwrap_err(), HeadProblem::TooManyFields);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn what_is_parsed_comes_out_as_it_went_in(
            names in proptest::collection::vec("[a-zA-Z][a-zA-Z-]{0,12}", 0..8),
            values in proptest::collection::vec(proptest::collection::vec(0x21u8..=0x7e, 0..40), 8),
        ) {
            let mut text = b"GET /x HTTP/1.1\r\nHost: h\r\n".to_vec();
            let named: Vec<_> = names.iter().filter(|n| !["host", "content-length", "transfer-encoding"].contains(&n.to_ascii_lowercase().as_str())).zip(&values).collect();
            for (name, value) in &named {
                text.extend_from_slice(name.as_bytes());
                text.extend_from_slice(b": ");
                text.extend_from_slice(value);
                text.extend_from_slice(b"\r\n");
            }
            text.extend_from_slice(b"\r\n");
            let head = parse(&text).unwrap();
            let got: Vec<_> = head.fields().skip(1).collect();
            prop_assert_eq!(got.len(), named.len());
            for ((name, value), (n, v)) in named.iter().zip(got) {
                prop_assert_eq!(name.as_bytes(), n);
                prop_assert_eq!(value.as_slice(), v);
            }
        }
    }
}
