//! The answer to a request.

use super::super::head::Head;
use super::ClientError;

/// Status and fields of a final answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The words after it, perhaps none.
    pub reason: String,
    /// All fields in order, as raw bytes; trailing blanks of a value are kept.
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
    /// How many 100 and 102 came before.
    pub interim: u32,
}

impl Answer {
    /// The value of a field, whatever its case; of two equal fields the last one counts.
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        let same = |n: &[u8]| n.eq_ignore_ascii_case(name.as_bytes());
        let found = self.fields.iter().rev().find(|(n, _)| same(n));
        found.map(|(_, value)| value.as_slice())
    }

    /// A field as a number, read as C's `atoi` does: words are 0.
    pub fn number(&self, name: &str) -> i64 {
        self.field(name).map_or(0, atoi)
    }

    /// The length of the body that follows.
    pub(super) fn length(&self) -> Option<u64> {
        let text = std::str::from_utf8(self.field("content-length")?).ok()?;
        text.trim().parse().ok()
    }

    pub(super) fn parse(head: &Head, interim: u32) -> Result<Answer, ClientError> {
        let bad = ClientError::BadAnswer;
        let rest = head.line().strip_prefix(b"HTTP/1.").ok_or(bad("not HTTP/1"))?;
        let mut words = rest.splitn(3, |&b| b == b' ');
        words.next();
        let code = std::str::from_utf8(words.next().unwrap_or_default());
        let status = code.ok().and_then(|c| c.parse().ok());
        let reason = words.next().unwrap_or_default();
        let own = |(name, value): (&[u8], &[u8])| (name.to_vec(), value.to_vec());
        Ok(Answer {
            status: status.ok_or(bad("no status code"))?,
            reason: String::from_utf8_lossy(reason).into_owned(),
            fields: head.fields().map(own).collect(),
            interim,
        })
    }
}

fn atoi(text: &[u8]) -> i64 {
    let text = text.trim_ascii_start();
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let mut number = 0_i64;
    for digit in digits.iter().take_while(|b| b.is_ascii_digit()) {
        let digit = i64::from(digit - b'0');
        number = number.saturating_mul(10).saturating_add(digit);
    }
    if negative { -number } else { number }
}
