//! The lines and fields of a head, on raw bytes: what requests and answers have in common. Pure.

use std::ops::Range;

use bytes::Bytes;

/// What is wrong with a line of fields, or with their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FieldProblem {
    LineEnd,
    Folded,
    Name,
    TooMany,
}

/// The name and the value of a field, as ranges.
type Field = (Range<usize>, Range<usize>);

/// The fields of a head, in order.
#[derive(Debug, Clone)]
pub(super) struct Fields {
    raw: Bytes,
    list: Vec<Field>,
}

impl Fields {
    /// Parses what follows the first line: fields, an empty line and nothing more.
    pub(super) fn parse(raw: &Bytes, mut lines: Lines<'_>, most: usize) -> Result<Fields, FieldProblem> {
        let mut list = Vec::with_capacity(16);
        loop {
            let line = lines.next()?.ok_or(FieldProblem::LineEnd)?;
            if line.is_empty() {
                break;
            }
            if list.len() == most {
                return Err(FieldProblem::TooMany);
            }
            list.push(field_line(raw, line)?);
        }
        if lines.at != raw.len() {
            return Err(FieldProblem::LineEnd);
        }
        Ok(Fields { raw: raw.clone(), list })
    }

    /// Names in the case they were sent, trailing blanks of values kept.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (&[u8], &[u8])> {
        self.list.iter().map(|(n, v)| (slice(&self.raw, n), slice(&self.raw, v)))
    }

    /// The values of all fields of this name.
    pub(super) fn all(&self, name: &str) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name.as_bytes())).map(|(_, v)| v)
    }

    /// The elements of a list that may be spread over several fields; empty ones do not count.
    pub(super) fn tokens(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.all(name).flat_map(|v| v.split(|b| *b == b',')).map(trim_blanks).filter(|t| !t.is_empty())
    }

    /// Whether such a list has this element, in whatever case.
    pub(super) fn has_token(&self, name: &str, token: &str) -> bool {
        self.tokens(name).any(|t| t.eq_ignore_ascii_case(token.as_bytes()))
    }

    /// The one `Content-Length`: plain digits below 2^63. `Err` for any other, and for several.
    pub(super) fn content_length(&self) -> Result<Option<u64>, ()> {
        let mut all = self.all("content-length");
        match (all.next(), all.next()) {
            (None, _) => Ok(None),
            (Some(value), None) => length(value).map(Some).ok_or(()),
            (Some(_), Some(_)) => Err(()),
        }
    }

    /// Whether there is a `Transfer-Encoding`. It must be `chunked` and nothing else, and there must be one only.
    pub(super) fn is_chunked(&self) -> Result<bool, ()> {
        let mut all = self.all("transfer-encoding");
        match (all.next(), all.next()) {
            (None, _) => Ok(false),
            (Some(value), None) if trim_blanks(value).eq_ignore_ascii_case(b"chunked") => Ok(true),
            _ => Err(()),
        }
    }

    /// Whether a value holds a control character other than TAB.
    pub(super) fn has_control(&self) -> bool {
        self.iter().any(|(_, v)| v.iter().any(|b| is_control(*b)))
    }
}

/// Ranges made by the parser always fit; the fallback keeps the type total.
pub(super) fn slice<'a>(raw: &'a [u8], range: &Range<usize>) -> &'a [u8] {
    raw.get(range.clone()).unwrap_or_default()
}

pub(super) fn is_control(b: u8) -> bool {
    (b < 0x20 && b != b'\t') || b == 0x7f
}

pub(super) fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

/// Lines that end in CR LF and hold neither.
pub(super) struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Lines<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Lines<'a> {
        Lines { bytes, at: 0 }
    }

    /// The range of the next line without its CR LF; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Range<usize>>, FieldProblem> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(None);
        }
        let end = rest.iter().position(|b| matches!(b, b'\r' | b'\n')).ok_or(FieldProblem::LineEnd)?;
        if rest.get(end..end + 2) != Some(b"\r\n") {
            return Err(FieldProblem::LineEnd);
        }
        let line = self.at..self.at + end;
        self.at += end + 2;
        Ok(Some(line))
    }
}

/// Takes one line apart: the name is a token, blanks before the value are dropped.
pub(super) fn field_line(raw: &[u8], line: Range<usize>) -> Result<Field, FieldProblem> {
    let bytes = slice(raw, &line);
    if matches!(bytes.first(), Some(b' ' | b'\t')) {
        return Err(FieldProblem::Folded);
    }
    let colon = bytes.iter().position(|b| *b == b':').ok_or(FieldProblem::Name)?;
    let name = line.start..line.start + colon;
    if name.is_empty() || !slice(raw, &name).iter().all(|b| is_token(*b)) {
        return Err(FieldProblem::Name);
    }
    let blanks = bytes.iter().skip(colon + 1).take_while(|b| matches!(b, b' ' | b'\t')).count();
    Ok((name, line.start + colon + 1 + blanks..line.end))
}

/// Where the head at the beginning of `bytes` ends, its empty line included; `seen` remembers how far was looked.
/// `Err` when it is, or will be, longer than `most`.
pub(super) fn head_end(bytes: &[u8], seen: &mut usize, most: usize) -> Result<Option<usize>, ()> {
    let from = seen.saturating_sub(3);
    let found = bytes.get(from..).and_then(|rest| rest.windows(4).position(|w| w == b"\r\n\r\n"));
    match found {
        Some(at) if from + at + 4 <= most => Ok(Some(from + at + 4)),
        None if bytes.len() < most => {
            *seen = bytes.len();
            Ok(None)
        }
        _ => Err(()),
    }
}

fn trim_blanks(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

fn length(value: &[u8]) -> Option<u64> {
    let digits = trim_blanks(value);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: i64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    u64::try_from(number).ok()
}
