//! The grammar of an answer's head, on raw bytes, and what it says of the body. Pure: no socket, no clock.
//!
//! As strict as that of requests: an origin must not be able to say where its answer ends in a way that the client
//! reads otherwise. Values are bytes; leading blanks are skipped and trailing blanks kept.

use bytes::Bytes;

use super::fields::{self, FieldProblem, Fields, Lines, is_control, slice};

/// The largest head of an answer, status line included, in bytes.
pub const MAX_ANSWER_HEAD: usize = 64 * 1024;

/// The most fields a head of an answer may have.
pub const MAX_ANSWER_FIELDS: usize = 200;

/// What is wrong with the head of an answer. After any of these the framing cannot be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnswerProblem {
    /// Not `HTTP/1.1 SP CODE`, with a phrase or without; 1.0 is taken too.
    #[error("the status line is malformed")]
    StatusLine,
    /// A CR without LF, or the other way round.
    #[error("a line ends in a bare CR or LF")]
    LineEnd,
    /// A line continues the one before it.
    #[error("a field is folded over two lines")]
    Folded,
    /// No colon, or a name that is no token.
    #[error("a field has no proper name")]
    FieldName,
    /// A value holds a control character other than TAB.
    #[error("a field holds a control character")]
    Control,
    /// More than [`MAX_ANSWER_FIELDS`].
    #[error("there are more than {MAX_ANSWER_FIELDS} fields")]
    TooManyFields,
    /// More than [`MAX_ANSWER_HEAD`] bytes.
    #[error("the head is larger than {MAX_ANSWER_HEAD} bytes")]
    TooLarge,
    /// Several lengths, one that is not plain digits below 2^63, or one where there is no body.
    #[error("the Content-Length is unusable")]
    ContentLength,
    /// Not `chunked` alone, or with a length, or in HTTP/1.0, or where there is no body.
    #[error("the Transfer-Encoding is unusable")]
    TransferEncoding,
}

impl From<FieldProblem> for AnswerProblem {
    fn from(problem: FieldProblem) -> AnswerProblem {
        match problem {
            FieldProblem::LineEnd => AnswerProblem::LineEnd,
            FieldProblem::Folded => AnswerProblem::Folded,
            FieldProblem::Name => AnswerProblem::FieldName,
            FieldProblem::TooMany => AnswerProblem::TooManyFields,
        }
    }
}

/// How the body of an answer ends (RFC 9112, 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFraming {
    /// There is none.
    None,
    /// After so many bytes.
    Length(u64),
    /// With its last chunk and trailers.
    Chunked,
    /// When the origin closes; the connection serves no further request.
    UntilClose,
}

/// The head of one answer.
#[derive(Debug, Clone)]
pub struct AnswerHead {
    raw: Bytes,
    minor: u8,
    status: u16,
    fields: Fields,
    content_length: Option<u64>,
    chunked: bool,
}

impl AnswerHead {
    /// Where the head at the beginning of `bytes` ends, its empty line included; `None` when it must be read further.
    /// `seen` is 0 at first and remembers how far was looked. A head that already broke a rule is not waited for.
    pub fn end(bytes: &[u8], seen: &mut usize) -> Result<Option<usize>, AnswerProblem> {
        let known = b"HTTP/1.";
        if !bytes.iter().zip(known).all(|(b, k)| b == k) {
            return Err(AnswerProblem::StatusLine);
        }
        let fresh = bytes.get(seen.saturating_sub(1)..).unwrap_or_default();
        let end = fields::head_end(bytes, seen, MAX_ANSWER_HEAD).map_err(|()| AnswerProblem::TooLarge)?;
        if end.is_none() && fresh.windows(2).any(|w| matches!(w, [a, b] if (*a == b'\r') != (*b == b'\n'))) {
            return Err(AnswerProblem::LineEnd);
        }
        Ok(end)
    }

    /// Parses a head that ends in its empty line.
    pub fn parse(raw: Bytes) -> Result<AnswerHead, AnswerProblem> {
        if raw.len() > MAX_ANSWER_HEAD {
            return Err(AnswerProblem::TooLarge);
        }
        let mut lines = Lines::of(&raw);
        let line = lines.next()?.ok_or(AnswerProblem::StatusLine)?;
        let (minor, status) = status_line(slice(&raw, &line)).ok_or(AnswerProblem::StatusLine)?;
        let fields = Fields::parse(&raw, lines, MAX_ANSWER_FIELDS)?;
        if fields.has_control() {
            return Err(AnswerProblem::Control);
        }
        let chunked = fields.is_chunked().map_err(|()| AnswerProblem::TransferEncoding)?;
        let content_length = fields.content_length().map_err(|()| AnswerProblem::ContentLength)?;
        // A client that does not know this rule would take the next answer for the body.
        let bodiless = matches!(status, 100..200 | 204);
        if chunked && (minor == 0 || content_length.is_some() || bodiless) {
            return Err(AnswerProblem::TransferEncoding);
        }
        if bodiless && content_length.is_some_and(|n| n > 0) {
            return Err(AnswerProblem::ContentLength);
        }
        Ok(AnswerHead { raw, minor, status, fields, content_length, chunked })
    }

    /// The status code: 100 to 999.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The minor version: 1, or 0 for HTTP/1.0.
    pub fn minor(&self) -> u8 {
        self.minor
    }

    /// Whether another answer follows: 1xx. After a 101 it does not, there the protocol changes.
    pub fn is_interim(&self) -> bool {
        matches!(self.status, 100..200)
    }

    /// How the body ends, in answer to a request of this method. A 2xx to CONNECT is not asked.
    pub fn body(&self, request_method: &[u8]) -> BodyFraming {
        match self.content_length {
            _ if request_method == b"HEAD" || matches!(self.status, 100..200 | 204 | 304) => BodyFraming::None,
            _ if self.chunked => BodyFraming::Chunked,
            Some(length) => BodyFraming::Length(length),
            None => BodyFraming::UntilClose,
        }
    }

    /// Whether the origin means to keep the connection after this answer. A body that ends with the connection does not
    /// let it.
    pub fn keeps_alive(&self) -> bool {
        !self.has_token("connection", "close") && (self.minor == 1 || self.has_token("connection", "keep-alive"))
    }

    /// The last field of this name; trailing blanks kept.
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

    /// The head as it came, empty line included.
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }
}

/// Minor version and status code.
fn status_line(line: &[u8]) -> Option<(u8, u16)> {
    let (minor, rest) = match line.split_at_checked(9)? {
        (b"HTTP/1.1 ", rest) => (1, rest),
        (b"HTTP/1.0 ", rest) => (0, rest),
        _ => return None,
    };
    let (code, phrase) = rest.split_at_checked(3)?;
    let sound = matches!(phrase, [] | [b' ', ..]) && !phrase.iter().any(|b| is_control(*b));
    let [b'1'..=b'9', b'0'..=b'9', b'0'..=b'9'] = code else { return None };
    let status = code.iter().fold(0, |n, b| n * 10 + u16::from(b - b'0'));
    sound.then_some((minor, status))
}

#[cfg(test)]
mod tests;
